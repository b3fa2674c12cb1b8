"""The averaged generator: an exponential moving average of a generator's parameters, measured beside the raw one."""

from __future__ import annotations

from torch import Tensor

from trainers.measurement import AVERAGED


def average(averaged: Tensor, parameters: Tensor, *, decay: Tensor, may_move: Tensor) -> None:
    """a_t = decay a_t-1 + (1 - decay) w_t in place, for the members in ``may_move`` [R]; the others keep theirs.

    ``averaged`` and ``parameters`` are [R, P], ``decay`` [R, 1]. a_0 = w_0, the initial parameters, so that there is
    no bias from zero to correct: a_t is always a weighted mean of parameters the generator has had.
    Yazici et al. 2019, arXiv:1806.04498, section 3.
    """
    moved = averaged.lerp(parameters, 1 - decay)
    averaged.copy_(moved.where(may_move.unsqueeze(1), averaged))


def of_average(measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """Measurements [R] of an averaged generator's samples, under the names of the group ``average``."""
    return {f"average_{name}": measured[name] for name in AVERAGED if name in measured}
