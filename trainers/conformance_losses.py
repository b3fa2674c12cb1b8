"""The rules of an adversarial loss; each yields a sentence about what is broken, and nothing when it is kept."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainers.losses import LOSSES, AdversarialLoss, LossFunction

PLAYERS = ("discriminator", "generator")

EXTREMES = (-80.0, -30.0, 30.0, 80.0)
"""Logits of a confident discriminator; at 80 the largest term in use, exp(80), still fits into single precision."""

ALIVE = 1e-3
"""A pull at least this strong counts as alive; every registered loss has 1/batch or more where it must."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def spread(
    *shape: int, low: float = -2.0, high: float = 2.0, phase: float = 0.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Numbers of ``shape`` spread evenly over (low, high) in no order, no two alike: a test without a die."""
    place = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return (low + (high - low) * torch.remainder(phase + _GOLDEN * place, 1.0)).to(dtype).reshape(shape)


def keywords(function: object, expected: tuple[str, ...], *, positional: int = 0) -> Iterator[str]:
    """After ``positional`` arguments exactly the ``expected`` ones (``**_`` may stand for some), by keyword only."""
    parameters = list(inspect.signature(function).parameters.values())[positional:]  # type: ignore[arg-type]
    named = {p.name: p.kind for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    missing = set(expected) - set(named) if len(named) == len(parameters) else set()
    if missing or set(named) - set(expected):
        yield f"it takes ({', '.join(named)}), not ({', '.join(expected)})"
    elif any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in named.values()):
        yield f"({', '.join(named)}) must be keyword-only (`*` before them): positions get swapped"


def _value(loss: AdversarialLoss, player: str, real: Tensor, fake: Tensor) -> Tensor:
    function: LossFunction = getattr(loss, player)
    return function(real_logits=real, fake_logits=fake)


def _pull(loss: AdversarialLoss, player: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the summed loss with respect to real and fake logits."""
    real, fake = real.detach().clone().requires_grad_(), fake.detach().clone().requires_grad_()
    value = _value(loss, player, real, fake)
    gradients = torch.autograd.grad(value.sum(), [real, fake], allow_unused=True, materialize_grads=True)
    return gradients[0], gradients[1]


def _for_each_player(
    rule: Callable[[AdversarialLoss, str], Iterator[str]],
) -> Callable[[AdversarialLoss], Iterator[str]]:
    def both(loss: AdversarialLoss) -> Iterator[str]:
        for player in PLAYERS:
            for sentence in rule(loss, player):
                yield f"{player}: {sentence}"

    both.__doc__ = rule.__doc__
    return both


@_for_each_player
def _signature(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """Logits are given by name."""
    yield from keywords(getattr(loss, player), ("real_logits", "fake_logits"))


@_for_each_player
def _shape(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """Logits [..., batch] give one loss per member, [...], in the same precision, and are left as they were."""
    for dtype in (torch.float32, torch.float64):
        real, fake = spread(2, 3, 5, dtype=dtype), spread(2, 3, 5, phase=0.3, dtype=dtype)
        before = real.clone(), fake.clone()
        value = _value(loss, player, real, fake)
        if not isinstance(value, Tensor) or value.shape != (2, 3):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            yield f"logits [2, 3, 5] must give a loss [2, 3], one for each member, got {got}"
            return
        if value.dtype != dtype:
            yield f"logits of {dtype} must give a loss of {dtype}, got {value.dtype}"
        if not (torch.equal(real, before[0]) and torch.equal(fake, before[1])):
            yield "it changes the logits it is given"


@_for_each_player
def _mean(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """A batch repeated twice has the same loss."""
    real, fake = spread(7), spread(7, phase=0.3)
    once = _value(loss, player, real, fake).item()
    twice = _value(loss, player, real.repeat(2), fake.repeat(2)).item()
    if not math.isclose(once, twice, rel_tol=1e-9, abs_tol=1e-12):
        yield (
            f"the same batch twice changes the loss from {once:.4g} to {twice:.4g}: take the mean over the batch, "
            "never the sum, or the batch size becomes a hidden learning rate"
        )


@_for_each_player
def _order(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """Pairs of real and fake in another order have the same loss."""
    real, fake = spread(7), spread(7, phase=0.3)
    forward, backward = _value(loss, player, real, fake).item(), _value(loss, player, real.flip(0), fake.flip(0)).item()
    if not math.isclose(forward, backward, rel_tol=1e-9, abs_tol=1e-12):
        yield f"the same batch in another order changes the loss from {forward:.6g} to {backward:.6g}"


@_for_each_player
def _members(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """Each member's loss and gradient are those it has alone."""
    real, fake = spread(3, 5), spread(3, 5, phase=0.3)
    together, pulls = _value(loss, player, real, fake), _pull(loss, player, real, fake)
    for member in range(3):
        alone = _value(loss, player, real[member], fake[member])
        pulls_alone = _pull(loss, player, real[member], fake[member])
        same = torch.isclose(together[member], alone, rtol=1e-9) and all(
            torch.allclose(pull[member], pull_alone, rtol=1e-9)
            for pull, pull_alone in zip(pulls, pulls_alone, strict=True)
        )
        if not same:
            yield "a member's loss depends on the other members: reduce the last axis only"
            return


def _adversarial(loss: AdversarialLoss) -> Iterator[str]:
    """High logit = real, and the players pull fake logits in (0, 1) in opposite directions."""
    real, fake = spread(4, 5, low=0.02, high=0.98), spread(4, 5, low=0.02, high=0.98, phase=0.3)
    d_real, d_fake = _pull(loss, "discriminator", real, fake)
    _, g_fake = _pull(loss, "generator", real, fake)
    if not (d_real < 0).all():
        yield "discriminator: it must raise real logits (a gradient < 0 on those in (0, 1)): a high logit means real"
    if not (d_fake > 0).all():
        yield "discriminator: it must lower fake logits (a gradient > 0 on those in (0, 1)): a high logit means real"
    if not (g_fake < 0).all():
        yield "generator: it must raise fake logits (a gradient < 0 on those in (0, 1)): a high logit means real"
    if ((d_fake * g_fake) > 0).any():
        yield "both players pull fake logits in (0, 1) the same way, so there is no adversarial game"


@_for_each_player
def _finite(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """Values and gradients are finite at logits of +-30 and +-80 in single precision."""
    grid = torch.tensor(EXTREMES)
    real, fake = (axis.reshape(-1, 1).float() for axis in torch.meshgrid(grid, grid, indexing="ij"))
    value, pulls = _value(loss, player, real, fake), _pull(loss, player, real, fake)
    fine = torch.isfinite(value) & torch.isfinite(pulls[0]).all(-1) & torch.isfinite(pulls[1]).all(-1)
    if not fine.all():
        worst = int((~fine).nonzero()[0])
        yield (
            f"its value or gradient is not finite at a real logit of {real[worst].item():g} and a fake one of "
            f"{fake[worst].item():g}: use softplus and logsigmoid, not log(sigmoid) or exp"
        )


def _alive(loss: AdversarialLoss) -> Iterator[str]:
    """The discriminator is pulled back from a confident error, the generator's pull survives on one side at least."""
    calm = spread(5, low=0.02, high=0.98)
    low, high = torch.full_like(calm, -80.0), torch.full_like(calm, 80.0)
    why = "an epsilon inside a logarithm, or a squashed logit?"
    for kind, pull in (
        ("real logit of -80", _pull(loss, "discriminator", low, calm)[0]),
        ("fake logit of 80", _pull(loss, "discriminator", calm, high)[1]),
    ):
        if pull.abs().max() < ALIVE:
            yield f"discriminator: at a {kind}, its worst error, its gradient is only {pull.abs().max():.1e}: {why}"
    pulls = [_pull(loss, "generator", calm, fake)[1].abs().max().item() for fake in (low, high)]
    if max(pulls) < ALIVE:
        yield f"generator: its gradient is dead at fake logits of -80 ({pulls[0]:.1e}) and 80 ({pulls[1]:.1e}): {why}"


@_for_each_player
def _gradient(loss: AdversarialLoss, player: str) -> Iterator[str]:
    """The gradient is that of the value, by central differences."""
    at, h = {"real": spread(4), "fake": spread(4, phase=0.3)}, 1e-6
    pulls = dict(zip(at, _pull(loss, player, **at), strict=True))
    if player == "generator" and not loss.pairs_real_and_fake:
        del pulls["real"]  # a stand-in, which it must not read: another rule
    for side, pull in pulls.items():
        for i, step in enumerate(h * torch.eye(4, dtype=torch.float64)):
            up, down = (_value(loss, player, **{**at, side: at[side] + shift}).item() for shift in (step, -step))
            slope = (up - down) / (2 * h)
            if abs(slope - pull[i].item()) > 1e-6 * (1 + abs(slope)):
                yield f"its gradient for a {side} logit is {pull[i]:.6g}, but its value's slope {slope:.6g}: detached?"
                return


def _pairs(loss: AdversarialLoss) -> Iterator[str]:
    """``pairs_real_and_fake`` says whether the generator reads real logits."""
    real, fake = spread(5), spread(5, phase=0.3)
    values = [_value(loss, "generator", real + shift, fake).item() for shift in (0.0, 0.5)]
    reads = values[0] != values[1]
    if reads and not loss.pairs_real_and_fake:
        yield "generator: it reads real logits, so declare pairs_real_and_fake=True, or it is given a stand-in"
    if loss.pairs_real_and_fake and not reads:
        yield "generator: it never reads real logits, so pairs_real_and_fake=True only costs real samples"


def prints(loss: AdversarialLoss) -> Tensor:
    """What tells losses apart: both players' gradients on some logits (a constant added to a loss changes nothing)."""
    real, fake = spread(64, low=-4, high=4), spread(64, low=-4, high=4, phase=0.3)
    return torch.cat([*_pull(loss, "discriminator", real, fake), _pull(loss, "generator", real, fake)[1]])


def _distinct(loss: AdversarialLoss) -> Iterator[str]:
    """No registered loss has the same pair of gradients under another name."""
    mine = prints(loss)
    for name, other in LOSSES.items():
        if name != loss.name and torch.allclose(mine, prints(other), rtol=0, atol=1e-6):
            yield f"it is {name!r} under another name: both players have the same gradients"


FORM = (_signature, _shape)
"""Rules each of which must hold before the next can be asked, and both of them before RULES."""

RULES = (_mean, _order, _members, _adversarial, _finite, _alive, _gradient, _pairs, _distinct)
