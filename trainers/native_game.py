"""Which games the compiled kernels play as a whole: a minibatch in, a player's gradient, loss and norm out."""

from __future__ import annotations

from torch import Tensor

from trainers import native
from trainers.losses import LOSSES, AdversarialLoss
from trainers.penalties import Penalty
from trainers.stacked import StackedMLP, StackedNetwork

NUMBERS = {
    name: number
    for number, name in enumerate(
        ("minimax", "non_saturating", "wasserstein", "least_squares", "hinge", "f_gan_kl", "f_gan_pearson")
    )
}
"""The losses of ``native.c``, in its order: those whose generator reads the fake logits alone."""


def number_of(
    loss: AdversarialLoss, penalty: Penalty, generator: StackedNetwork, discriminator: StackedNetwork
) -> int | None:
    """The loss's number where the whole gradient is compiled: plain networks, nothing added to L_D or D's inputs."""
    if penalty.term is not None or penalty.noises_inputs or LOSSES.get(loss.name) is not loss:
        return None
    if not all(isinstance(one, StackedMLP) and one.plain and not one.bounded for one in (generator, discriminator)):
        return None
    return NUMBERS.get(loss.name)


def network_of(network: StackedNetwork, parameters: Tensor) -> native.Network:
    """A plain network as the kernels take it."""
    assert isinstance(network, StackedMLP)
    return native.Network(network.sizes, network.negative_slope, parameters)
