"""What a search climbs and a rung compares: one finite number for all replicates of a configuration (numpy only).

Higher is better, and a replicate that died never makes it better. Dead are those that diverged, collapsed or never
learned: they rank last, whatever number they ended at, because a collapsed generator may lie close to the data.
Replicates lost to the machine are no evidence and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.evidence import Reference, Series, complete_rows, first_non_finite
from study.outcomes import Criteria, Outcome, good_lately
from trainers.measurement import EVERY_MEASUREMENT

SUCCESS = "success"
AGGREGATES = ("median", "mean", "worst", "cvar25")
QUALITY = "distance"
"""What breaks ties: of all measurements the one that every target has."""

_TAIL = 0.25
_DECADES = 400.0
"""No double lies farther from 1 than this."""

Finals = Mapping[str, float]
"""Measurement -> its last value; absent where it was never measured."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``search.objective`` of a study file; no measurement: success."""

    measurement: str | None = None
    aggregate: str = "median"

    @classmethod
    def from_plain(cls, plain: str | Mapping[str, str] | None) -> Objective:
        """The objective as a valid study file holds it; None: the default."""
        return cls(**plain) if isinstance(plain, Mapping) else cls()


def configuration_value(objective: Objective, outcomes: Sequence[Outcome], finals: Sequence[Finals]) -> float:
    """How good one configuration is: finite, higher is better; ``finals`` goes with ``outcomes``.

    success: the share of replicates that converged; ties by the median of their distances, which weighs less than one
    replicate. A measurement: its aggregate in (0, 1), and below 0 the share of the dead where they decide the
    aggregate. A censored replicate has not converged and counts with the last number it had.
    ValueError: no replicate was judged.
    """
    judged = [(outcome, final) for outcome, final in zip(outcomes, finals, strict=True) if outcome.outcome != "failed"]
    if not judged:
        raise ValueError("outcomes must hold a replicate that did not fail")
    dead = np.array([_is_dead(outcome) for outcome, _ in judged])
    if objective.measurement is None:
        converged = sum(outcome.outcome == "converged" for outcome, _ in judged)
        return _share(converged, _badness([final for _, final in judged], QUALITY, dead))
    return _aggregate(_badness([final for _, final in judged], objective.measurement, dead), objective.aggregate)


def rung_value(series: Sequence[Series], criteria: Criteria, reference: Reference) -> float:
    """How good one configuration is at a rung, from the histories of its replicates up to there: finite, in [0, 2).

    The share of replicates that are good over the last window; ties by the median of their distances, dead ones last.
    """
    good = sum(good_lately(one, criteria, reference) for one in series)
    dead = np.array([first_non_finite(one) is not None for one in series])
    return _share(good, _badness([{QUALITY: _last_distance(one)} for one in series], QUALITY, dead))


def _is_dead(outcome: Outcome) -> bool:
    return outcome.outcome in ("diverged", "collapsed") or (outcome.outcome, outcome.kind) == ("plateau", "dead")


def _last_distance(series: Series) -> float:
    rows = complete_rows(series)
    return float(np.asarray(series.values[QUALITY])[rows[-1]]) if len(rows) else math.nan


def _badness(finals: Sequence[Finals], measurement: str, dead: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values, turned so that lower is better; infinite where the replicate is dead or the value no number."""
    sign = -1.0 if EVERY_MEASUREMENT[measurement].direction == "higher" else 1.0
    values = sign * np.array([final.get(measurement, math.nan) for final in finals], dtype=np.float64)
    return np.where(dead | ~np.isfinite(values), np.inf, values)


def _share(good: int, badness: NDArray[np.float64]) -> float:
    """The share of good replicates, and less than one replicate more for the median."""
    return (good + _squeezed(float(np.median(badness)))) / len(badness)


def _aggregate(badness: NDArray[np.float64], aggregate: str) -> float:
    """In (0, 1) where the aggregate is a number, else minus the share of the dead: the fewer, the better."""
    worst_first = np.sort(badness)[::-1]
    tail = worst_first[: max(1, math.ceil(_TAIL * len(badness)))]
    values = {
        "median": np.median(badness),
        "mean": badness.mean(),
        "worst": worst_first[0],
        "cvar25": tail.mean(),
    }
    value = float(values[aggregate])
    return _squeezed(value) if math.isfinite(value) else -float(np.isinf(badness).mean())


def _squeezed(badness: float) -> float:
    """A number in (0, 1) that falls with ``badness``, 0 where that is infinite."""
    if math.isinf(badness):
        return 0.0
    return 0.5 - 0.5 * math.copysign(_magnitude(abs(badness)), badness)


def _magnitude(size: float) -> float:
    """Grows with ``size`` from 0 to 1 by orders of magnitude: 1e-30 must stay apart from 1e-20."""
    if size == 0:
        return 0.0
    decades = min(max(math.log10(size), -_DECADES), _DECADES)
    return 0.5 + 0.5 * decades / (1.0 + abs(decades))
