"""Which games the compiled kernels play as a whole: a minibatch in, a player's gradient, loss and norm out."""

from __future__ import annotations

from torch import Tensor

from trainers import native
from trainers.draws import Noise
from trainers.losses import LOSSES, AdversarialLoss
from trainers.penalties import PENALTIES, Penalty
from trainers.player import Player
from trainers.stacked import StackedMLP

_LOSSES = ("minimax", "non_saturating", "wasserstein", "least_squares", "hinge", "f_gan_kl", "f_gan_pearson")
LOSS_NUMBERS = {name: number for number, name in enumerate(_LOSSES)}
"""The losses of ``native.c``, in its order: those whose generator reads the fake logits alone."""

_PENALTIES = ("none", "r1", "r2", "r1_r2", "gradient_penalty", "dragan")
PENALTY_NUMBERS = {name: number for number, name in enumerate(_PENALTIES)} | {"weight_clipping": 0}
"""The penalties of ``native.c``, in its order; clipping adds nothing to L_D."""


def compiled_game(
    loss: AdversarialLoss, penalty: Penalty, generator: Player, discriminator: Player
) -> native.Game | None:
    """The game as the kernels take it; None where they know one of its parts not.

    They know plain networks with linear outputs, and the registered losses and penalties above.
    """
    known = LOSSES.get(loss.name) is loss and PENALTIES.get(penalty.name) is penalty
    if not known or loss.name not in LOSS_NUMBERS or penalty.name not in PENALTY_NUMBERS:
        return None
    players = [_network(player) for player in (generator, discriminator)]
    if players[0] is None or players[1] is None:
        return None
    return native.Game(LOSS_NUMBERS[loss.name], PENALTY_NUMBERS[penalty.name], players[0], players[1])


def _network(player: Player) -> native.Network | None:
    network = player.network
    if not isinstance(network, StackedMLP) or not network.plain or network.bounded:
        return None
    return native.Network(network.sizes, network.negative_slope, player.flat)


def chance_of(penalty: Penalty, noise: Noise) -> Tensor | None:
    """What the points of ``penalty`` take from chance, where they take anything."""
    if penalty.needs_epsilon:
        return noise.epsilon
    return noise.penalty if penalty.needs_noise else None
