"""Which games the compiled kernels play as a whole: a minibatch in, a player's gradient, loss and norm out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from trainers import native
from trainers.draws import Noise
from trainers.losses import LOSSES, AdversarialLoss
from trainers.penalties import PENALTIES, Penalty
from trainers.player import Player
from trainers.stacked import StackedMLP

_LOSSES = (
    "minimax",
    "non_saturating",
    "wasserstein",
    "least_squares",
    "hinge",
    "f_gan_kl",
    "f_gan_pearson",
    "relativistic",
    "relativistic_average",
)
LOSS_NUMBERS = {name: number for number, name in enumerate(_LOSSES)}
"""The losses of ``native_losses.h``, in its order: those that compare real and fake logits last."""

_PENALTIES = ("none", "r1", "r2", "r1_r2", "gradient_penalty", "dragan")
PENALTY_NUMBERS = {name: number for number, name in enumerate(_PENALTIES)} | {"weight_clipping": 0, "instance_noise": 0}
"""The penalties of ``native_losses.h``, in its order; clipping and noise add nothing to L_D."""


def compiled_game(
    loss: AdversarialLoss, penalty: Penalty, generator: Player, discriminator: Player
) -> native.Game | None:
    """The game as the kernels take it; None where they know one of its parts not.

    They know plain networks, bounded or not, and the registered losses and penalties above.
    """
    known = LOSSES.get(loss.name) is loss and PENALTIES.get(penalty.name) is penalty
    if not known or loss.name not in LOSS_NUMBERS or penalty.name not in PENALTY_NUMBERS:
        return None
    players = [_network(player) for player in (generator, discriminator)]
    if players[0] is None or players[1] is None or players[1].bounded:
        return None
    return native.Game(LOSS_NUMBERS[loss.name], PENALTY_NUMBERS[penalty.name], players[0], players[1])


def _network(player: Player) -> native.Network | None:
    network = player.network
    if not isinstance(network, StackedMLP) or not network.plain:
        return None
    return native.Network(network.sizes, network.negative_slope, player.flat, network.bounded)


def given(
    penalty: Penalty, numbers: Mapping[str, Tensor], *, latents: Tensor, real: Tensor | None, noise: Noise
) -> native.Given | None:
    """What a gradient is taken on, as the kernels read it; None where a minibatch lies in pieces, or noise is missing.

    ``numbers`` are the members' own by name, [R, 1]; without ``real``, the gradient does not look at real samples.
    """
    noises = (None if real is None else noise.real, noise.fake) if penalty.noises_inputs else (None, None)
    missing = penalty.noises_inputs and (noise.fake is None or (real is not None and noise.real is None))
    chance = noise.epsilon if penalty.needs_epsilon else noise.penalty if penalty.needs_noise else None
    minibatches = [one for one in (latents, real, chance, *noises) if one is not None]
    if missing or native.serving(*minibatches) is None or not all(one[0].is_contiguous() for one in minibatches):
        return None
    return native.Given(
        latents=latents,
        real=real,
        weight=numbers.get("penalty_weight"),
        chance=chance,
        noise_std=numbers.get("noise_std"),
        real_noise=noises[0],
        fake_noise=noises[1],
    )
