"""How a replicate of the Dirac-GAN ended: judged by the parameters' distance to the equilibrium (numpy only).

The ordinary rules fail there: an orbit has a constant distance, and a slow decay looks converged at any tolerance. So
the radius is held against its own past. With A and B the largest radius over the third and the last quarter of the
run, the first that matches wins:

converged    B at most 1e-9 of the start: arrived, whatever rounding does there (at 1e-44 it also grows by half)
diverged     B > 1.5 A
converged    B < .5 A, and B not beyond the start
oscillating  P90 - P10 of theta over the last quarter >= .1 B
plateau      everything else

The four numbers are constants and no criteria: the rule is free of scale, so there is nothing to calibrate, and it
tests a theorem, which a threshold must not be moved to fit. The reference names the rule; other numbers would be a rule
of another name.

"Not beyond the start" is for games that the linear theory calls unstable and whose nonlinear part holds them: they
wander for ever at some distance, and now and then one quarter's largest radius is twice the next one's by chance.

Near the boundary of stability a true contraction is slow. One with spectral radius rho shrinks e-fold a quarter once
the run has 4 / -ln rho steps, so B = .37 A is called converged with room for the wobble of an ellipse; cells that need
more steps than they had cannot show it, and a comparison with the theory leaves them out and counts them
(``trainers.dirac.steps_needed``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from study.evidence import Flags, Floats, Series

RULE = "radius"
"""The name under which a reference asks for this rule."""

THRESHOLDS: Mapping[str, float] = MappingProxyType({"growth": 1.5, "shrinkage": 0.5, "arrived": 1e-9, "swing": 0.1})
"""diverged beyond ``growth`` A; converged below ``shrinkage`` A or ``arrived`` of the start; ``swing`` of theta."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "growth": "largest radius of the last quarter over that of the third, beyond which a run diverged",
        "shrinkage": "the same ratio, below which it converged",
        "arrived": "largest radius of the last quarter over the start, up to which it converged in any case",
        "swing": "P90 - P10 of theta over the last quarter, in its largest radius, from which a run oscillates",
    }
)

_BESIDE = 1e-9
"""How far past a threshold the margin looks, relative to it."""


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """What the rule looks at: ``before`` is A, ``last`` is B."""

    start: float
    before: float
    last: float
    swing: float


def judge_radius(series: Series, rows: NDArray[np.intp]) -> tuple[str, str, int | None, float]:
    """Outcome, kind (blowup for diverged, rest for plateau), t_event and margin of a complete series.

    ``rows`` are its evaluations in order of time. t_event: for converged and diverged the first evaluation from which
    on the radius stays below, above the threshold's share of the start; None where it does not. The margin is the
    smallest relative change of any one threshold that changes the outcome, at most 1.
    """
    step = np.asarray(series.generator_step, dtype=np.int64)[rows]
    radius, theta = (np.asarray(series.values[name])[rows] for name in ("distance", "generator_parameter"))
    ending = _ending(step, radius, theta)
    outcome = _label(ending, THRESHOLDS)
    kind = {"diverged": "blowup", "plateau": "rest"}.get(outcome, "")
    return outcome, kind, _event(outcome, step, radius), _margin(outcome, ending)


def _ending(step: NDArray[np.int64], radius: Floats, theta: Floats) -> _Ending:
    """The statistics of one run; quarters are counted in steps, each without its beginning."""
    share = (step - step[0]) / max(1, step[-1] - step[0])
    third, last = (share > 0.5) & (share <= 0.75), share > 0.75
    third = third if third.any() else ~last  # fewer than four evaluations
    low, high = np.quantile(theta[last], [0.1, 0.9])
    return _Ending(
        start=float(radius[0]),
        before=float(radius[third].max()),
        last=float(radius[last].max()),
        swing=float(high - low),
    )


def _label(e: _Ending, t: Mapping[str, float]) -> str:
    if e.last <= t["arrived"] * e.start:
        return "converged"
    if e.last > t["growth"] * e.before:
        return "diverged"
    if e.last < t["shrinkage"] * e.before and e.last <= e.start:
        return "converged"
    return "oscillating" if e.swing >= t["swing"] * e.last else "plateau"


def _event(outcome: str, step: NDArray[np.int64], radius: Floats) -> int | None:
    if outcome == "converged":
        return _first_of_the_rest(step, radius <= THRESHOLDS["shrinkage"] * radius[0])
    if outcome == "diverged":
        return _first_of_the_rest(step, radius > THRESHOLDS["growth"] * radius[0])
    return None


def _first_of_the_rest(step: NDArray[np.int64], flags: Flags) -> int | None:
    """The step from which on every flag is set; None where the last one is not."""
    failing = np.flatnonzero(~flags)
    first = int(failing[-1]) + 1 if len(failing) else 0
    return int(step[first]) if first < len(step) else None


def _margin(outcome: str, e: _Ending) -> float:
    """A threshold changes the outcome where it passes its own statistic, if it does at all."""
    met = {
        "growth": _ratio(e.last, e.before),
        "shrinkage": _ratio(e.last, e.before),
        "arrived": _ratio(e.last, e.start),
        "swing": _ratio(e.swing, e.last),
    }
    changes = [1.0]
    for name, value in met.items():
        for moved in (value * (1 - _BESIDE), value * (1 + _BESIDE)):
            if _label(e, {**THRESHOLDS, name: moved}) != outcome:
                changes.append(abs(moved / THRESHOLDS[name] - 1))
    return min(changes)


def _ratio(value: float, over: float) -> float:
    return value / over if over > 0 else 0.0
