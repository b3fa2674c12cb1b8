"""A player of the game: its network, the members' parameters, and one gradient step on them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.networks import StackedNetwork
from trainers.optimizers import Optimizer

Gradients = Sequence[Tensor | None]


class Player:
    """Generator or discriminator of every member: flat parameters [R, P] and optimizer state of the same shape.

    ``rate`` is the learning rate [R, 1]; ``numbers`` are the optimizer's other numbers [R, 1].
    """

    def __init__(
        self,
        network: StackedNetwork,
        flat: Tensor,
        *,
        optimizer: Optimizer,
        rate: Tensor,
        numbers: Mapping[str, Tensor],
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.network, self.flat, self._optimizer = network, flat, optimizer
        self._rate, self._numbers = rate, numbers
        self.state = dict(state) if state is not None else optimizer.new_state(flat)
        self.gradient = torch.zeros_like(flat)
        self.gradient_views = network.layout.views(self.gradient)
        self.frozen = network.layout.views(flat)
        # Leaves share the flat storage, so an update in place is seen by the next forward pass.
        self.leaves = [view.detach().requires_grad_() for view in self.frozen]

    def differentiate(self, loss: Tensor) -> Tensor:
        """Fill the gradient of ``loss`` [R] and return its norm [R]; members do not mix, so the sum separates them."""
        return self.take(torch.autograd.grad(loss.sum(), self.leaves, allow_unused=True))

    @torch.no_grad()
    def take(self, gradients: Gradients, *, plus: Gradients = (), weight: Tensor | None = None) -> Tensor:
        """Fill the gradient from one tensor per leaf (None: zero) and return its norm [R].

        ``weight`` [R, 1] times ``plus``, one tensor per leaf too, is added.
        """
        _copy(gradients, self.gradient_views)
        if weight is not None:
            added = torch.zeros_like(self.gradient)
            _copy(plus, self.network.layout.views(added))
            self.gradient.addcmul_(added, weight)
        norm: Tensor = torch.linalg.vector_norm(self.gradient, dim=1)
        return norm

    def step(self, may_move: Tensor, *, count: int | Tensor) -> None:
        """Update the members in ``may_move`` [R]; ``count`` numbers this player's updates from 1."""
        rate = self._rate
        if may_move.is_cuda or not bool(may_move.all()):
            self.gradient.masked_fill_(~may_move.unsqueeze(1), 0.0)
            rate = rate * may_move.unsqueeze(1)
        self._optimizer.update(self.flat, self.gradient, self.state, rate=rate, numbers=self._numbers, step=count)

    def clip(self, limit: Tensor, may_move: Tensor) -> None:
        """Clamp the weights to [-limit, limit], limit [R, 1]; members that ended keep theirs."""
        clipped = torch.clamp(self.flat, -limit, limit)
        self.flat.copy_(torch.where(may_move.unsqueeze(1), clipped, self.flat))


def _copy(gradients: Gradients, views: Sequence[Tensor]) -> None:
    """Into our own layout: a double backward yields strided gradients, which elementwise kernels round differently."""
    for view, gradient in zip(views, gradients, strict=True):
        view.zero_() if gradient is None else view.copy_(gradient)


def differentiate_consensus(losses: Sequence[Tensor], players: Sequence[Player], *, weight: Tensor) -> list[Tensor]:
    """Fill every player's gradient with its own of v + weight grad 1/2 |v|^2 and return the norms [R].

    v gathers each player's gradient of its own loss [R]; ``weight`` is [R, 1]. Each loss must depend on all the
    players through their leaves. Mescheder et al. 2017, arXiv:1705.10461, Algorithm 2.
    """
    own = [
        torch.autograd.grad(loss.sum(), player.leaves, create_graph=True, allow_unused=True)
        for loss, player in zip(losses, players, strict=True)
    ]
    v = [part for gradients in own for part in gradients if part is not None and part.requires_grad]
    leaves = [leaf for player in players for leaf in player.leaves]
    # grad 1/2 |v|^2 = J^T v: no norm is formed, so that no member's sum is rounded by its place in memory
    seek = iter(torch.autograd.grad(v, leaves, [part.detach() for part in v], allow_unused=True))
    norms = []
    for player, gradients in zip(players, own, strict=True):
        norms.append(player.take(gradients, plus=list(itertools.islice(seek, len(player.leaves))), weight=weight))
    return norms


def initial_rows(network: StackedNetwork, seeds: Sequence[int], player: int) -> Tensor:
    """Initial parameters [R, P] on the CPU, each row from its member's own generator."""
    return torch.from_numpy(np.stack([network.initial(seed, player) for seed in seeds]))
