"""Eigenvalues of the game's Jacobian where training stands: does the point attract, do the players circle?"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from trainers.draws import Noise, Stream, generator
from trainers.game import StackedGame
from trainers.networks import build_networks
from trainers.optimizers import OPTIMIZERS
from trainers.player import Player
from trainers.targets import build_target

PARAMETER_LIMIT = 1000
"""Of both players together: the Jacobian has its square, and its eigenvalues cost its cube (a second or two)."""

BATCH = 512
"""Samples the expectations are taken over, the same for every member."""

MEMBERS_AT_ONCE = 8


def parameter_count(*, networks: Mapping[str, object], target: Mapping[str, object]) -> int:
    """Parameters of both players together, without the padding of their rows."""
    built = build_networks(networks, build_target(target))
    shapes = chain(built.generator.layout.shapes, built.discriminator.layout.shapes)
    return sum(math.prod(shape) for shape in shapes)


def jacobian_eigenvalues(game: StackedGame) -> dict[str, Tensor]:
    """Largest real part and largest imaginary part of the Jacobian's eigenvalues, each [R] float64.

    A largest real part below 0: gradient flow returns to the point; above 0: it leaves. Small discrete steps turn by
    the step times the imaginary part, and a pair with no real part spirals out (Mescheder et al. 2018,
    arXiv:1801.04406, section 2). Symmetries of the networks (ReLU layers may be rescaled against each other) give
    eigenvalues 0. NaN for a member whose Jacobian is not finite.
    """
    found = [_extremes(matrix) for matrix in game_jacobian(game).cpu()]
    real, imaginary = (torch.tensor(values, dtype=torch.float64) for values in zip(*found, strict=True))
    return {"jacobian_real": real, "jacobian_imaginary": imaginary}


def game_jacobian(game: StackedGame) -> Tensor:
    """Derivative of v = (-grad_G L_G, -grad_D L_D) in all parameters, G's first: [R, P, P] float64.

    L_D with its penalty, as it is trained; the clipping of weights is no part of the field. Expectations over BATCH
    training samples and latents that are the same in every study of the target. Exact, by double backward passes.
    Source: Mescheder et al. 2017, arXiv:1705.10461, section 3.
    """
    members = len(game.seeds)
    starts = range(0, members, MEMBERS_AT_ONCE)
    chunks = [_in_double(game, slice(start, start + MEMBERS_AT_ONCE)) for start in starts]
    return torch.cat([_derivative(_field(chunk), _leaves(chunk)) for chunk in chunks])


def _in_double(game: StackedGame, rows: slice) -> StackedGame:
    """Some of the members, in double precision."""
    chunk = copy.copy(game)
    chunk.dtype, chunk.seeds = torch.float64, game.seeds[rows]
    chunk.numbers = {name: values[rows].double() for name, values in game.numbers.items()}
    for name in ("generator", "discriminator"):
        player: Player = getattr(game, name)
        flat = player.flat[rows].double()
        rate = torch.zeros_like(flat[:, :1])
        still = Player(player.network, flat, optimizer=OPTIMIZERS["sgd"], rate=rate, numbers={})
        setattr(chunk, name, still)
    return chunk


def _leaves(game: StackedGame) -> list[Tensor]:
    return [*game.generator.leaves, *game.discriminator.leaves]


def _field(game: StackedGame) -> Tensor:
    """v [R, P], with a graph to both players' parameters."""
    rng = generator(0, Stream.GAME_JACOBIAN)
    members, dimensions = len(game.seeds), game.target.dimensions

    def shared(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(game.device, game.dtype).expand(members, *[-1] * values.ndim)

    latents = shared(rng.standard_normal((BATCH, game.networks.latent_dim)))
    real = shared(game.target.sample(rng, BATCH))
    epsilon = shared(rng.random(BATCH))
    penalty, for_real, for_fake = (shared(rng.standard_normal((BATCH, dimensions))) for _ in range(3))
    noise = Noise(epsilon=epsilon, penalty=penalty, real=for_real, fake=for_fake)
    fake = game.generator.network(game.generator.leaves, latents)
    losses = (
        game.generator_objective(latents=latents, real=real, noise=noise, learn=True),
        game.discriminator_objective(fake=fake, real=real, noise=noise),
    )
    players = (game.generator, game.discriminator)
    gradients = [
        torch.autograd.grad(loss.sum(), player.leaves, create_graph=True, materialize_grads=True)
        for loss, player in zip(losses, players, strict=True)
    ]
    return -torch.cat([part.flatten(1) for part in chain(*gradients)], dim=1)


def _derivative(field: Tensor, leaves: list[Tensor]) -> Tensor:
    """d field [R, P] / d leaves: [R, P, P], one backward pass per component; members do not mix."""
    rows = []
    for component in field.unbind(dim=1):
        parts = torch.autograd.grad(component.sum(), leaves, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    return torch.stack(rows, dim=1)


def _extremes(matrix: Tensor) -> tuple[float, float]:
    """Largest real and largest imaginary part of one matrix's eigenvalues; NaN where there are none to be had."""
    if not bool(matrix.isfinite().all()):
        return math.nan, math.nan
    try:
        values = torch.linalg.eigvals(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # LAPACK gave up: a diagnosis ends no cohort
        return math.nan, math.nan
    return float(values.real.max()), float(values.imag.max())
