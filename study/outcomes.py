"""How a replicate ended: one outcome per series of measurements, from named criteria (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.criteria import WINDOW_KEYS, Criteria
from study.evidence import (
    Evidence,
    Flags,
    Floats,
    Reference,
    Series,
    complete_rows,
    first_non_finite,
    gather,
    mean,
)
from study.outcomes_dirac import MEANINGS as RADIUS_MEANINGS
from study.outcomes_dirac import RULE as RADIUS_RULE
from study.outcomes_dirac import THRESHOLDS as RADIUS_THRESHOLDS
from study.outcomes_dirac import judge_radius

__all__ = [
    "OUTCOMES",
    "RADIUS_MEANINGS",
    "RADIUS_RULE",
    "RADIUS_THRESHOLDS",
    "WINDOW_KEYS",
    "Criteria",
    "Outcome",
    "Series",
    "good_lately",
    "judge",
]

OUTCOMES: tuple[str, ...] = (
    "converged",
    "under_trained",
    "plateau",
    "oscillating",
    "collapsed",
    "diverged",
    "censored",
    "failed",
)
"""Every outcome, in the order of the report."""

DEAD_DISPLACEMENT = 0.1
"""A generator that moved less than this share of d_ref since step 0 never learned ..."""

DEAD_QUALITY = 0.2
"""... nor did one that neither improves nor collapsed, with less than this share of real data's quality."""

MARGIN_LIMIT = 1.0
_COARSE = np.geomspace(0.01, MARGIN_LIMIT, 24)
_FINE_STEPS = 16


@dataclass(frozen=True)
class Outcome:
    """How a replicate ended.

    ``kind``: nonfinite or blowup (diverged), dead, partial_collapse or quality (plateau; rest where parameters are
    judged), late (collapsed after having converged), else empty. ``t_event``: generator step of the death, of the
    onset of blow-up or collapse, or of the first sustained convergence. ``margin``: smallest relative change of any
    one threshold that changes the outcome, at most 1; None where no threshold was used.
    """

    outcome: str
    kind: str
    t_event: int | None
    margin: float | None


def judge(series: Series, criteria: Criteria, reference: Reference) -> Outcome:
    """Label one series; the first rule that matches wins.

    ``reference``: the target's d_real, d_ref, d_far, dimensions, and the ceilings of what was measured; or the rule
    that takes the place of the criteria (``study.outcomes_dirac``).
    ValueError names what the reference lacks.
    """
    death = first_non_finite(series)
    if death is not None:
        return Outcome("diverged", "nonfinite", death, None)
    if series.censored:
        return Outcome("censored", "", None, None)
    rows = complete_rows(series)
    if len(rows) < series.planned_evaluations + 1:
        return Outcome("failed", "", None, None)
    if reference.get("rule") == RADIUS_RULE:
        return Outcome(*judge_radius(series, rows))
    evidence, thresholds = gather(series, rows, criteria, reference), _batch(criteria.thresholds)
    facts = _facts(evidence, thresholds)
    label = _LABELS[_decided(evidence, thresholds, facts)[0]]
    outcome = label.partition("/")[0]
    return Outcome(outcome, _kind(label, evidence), _event(label, evidence), _margin(outcome, evidence, facts))


def good_lately(series: Series, criteria: Criteria, reference: Reference) -> bool:
    """Whether the last window of a history, which may end before its horizon, would pass as converged.

    Never where a replicate died or nothing was measured. ValueError names what the reference lacks.
    """
    rows = complete_rows(series)
    if len(rows) < 2 or first_non_finite(series) is not None:
        return False
    if reference.get("rule") == RADIUS_RULE:
        return judge_radius(series, rows)[0] == "converged"
    evidence, thresholds = gather(series, rows, criteria, reference), _batch(criteria.thresholds)
    return bool(_window_good(evidence, thresholds, _good(evidence, thresholds), len(rows))[0])


# --- the rules, for a batch of thresholds at once --------------------------------------------------
# One criterion enters as an array [B, 1] against series [E], so that the margin can ask hundreds of
# altered criteria in the time of a few.

_Batch = Mapping[str, Floats]
_Move = tuple[str, float]
"""A threshold, and the sign of its change."""


def _batch(thresholds: Mapping[str, float]) -> _Batch:
    return {name: np.array([[value]]) for name, value in thresholds.items()}


def _good(e: Evidence, t: _Batch) -> Flags:
    """Evaluations [B, E] where distance, coverage and quality are all good; what is absent is not asked."""
    good: Flags = (
        (e.u <= t["u_converged"]) & ~(e.coverage < t["coverage_converged"]) & ~(e.quality < t["quality_converged"])
    )
    return good


def _crossings(e: Evidence, t: _Batch, good: Flags) -> NDArray[np.int64]:
    """How often goodness was entered or left within H, [B]: entered at the thresholds, left ``hysteresis`` beyond."""
    slack = t["hysteresis"]
    left = (
        (e.u > t["u_converged"] + slack)
        | (e.coverage < t["coverage_converged"] - slack)
        | (e.quality < t["quality_converged"] - slack)
    )
    # Where neither happens the state is that of the last evaluation where one did; being outside is the beginning.
    told = np.maximum.accumulate(np.where(good | left, np.arange(good.shape[1]), 0), axis=1)
    late = np.take_along_axis(good & ~left, told[:, -e.late :], axis=1)
    return np.asarray((late[:, 1:] != late[:, :-1]).sum(axis=1))


def _window_good(e: Evidence, t: _Batch, good: Flags, end: int) -> Flags:
    """Whether the window of length |W| that stops before index ``end`` is good enough to call converged, [B]."""
    window = slice(end - e.window, end)
    return _enough(e, t, good[:, window].mean(axis=1), mean(e.knn_coverage[window]))


def _enough(e: Evidence, t: _Batch, good_share: Floats, knn_coverage: float) -> Flags:
    """Whether a window with this share of good evaluations may be called converged, [B]."""
    enough: Flags = good_share >= t["good_fraction"][:, 0]
    if e.high_dimensional:  # there distance, coverage and quality are fooled together; never measured is not passed
        enough = enough & (knn_coverage >= t["knn_coverage_converged"][:, 0])
    return enough


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What a pass over the series finds under B sets of thresholds: arrays [B]."""

    passed: Floats
    """Share of the judged window's evaluations that are good."""
    always: Flags
    crossings: NDArray[np.int64]
    few: Floats
    """Share of the judged window's evaluations with few modes."""


_OF_THE_SERIES = ("u_converged", "coverage_converged", "quality_converged", "hysteresis", "coverage_collapsed")
"""The thresholds that ``_facts`` asks; all others are held against statistics that none of them enters."""


def _facts(e: Evidence, t: _Batch) -> _Facts:
    w, good = slice(-e.window, None), _good(e, t)
    return _Facts(
        passed=good[:, w].mean(axis=1),
        always=np.asarray(good[:, -e.late :].all(axis=1)),
        crossings=_crossings(e, t, good),
        few=(e.coverage[w] <= t["coverage_collapsed"]).mean(axis=1),
    )


_LABELS = (
    "diverged/blowup",
    "converged",
    "plateau/dead",
    "under_trained/",
    "collapsed",
    "oscillating",
    "under_trained",
    "plateau/partial_collapse",
    "plateau/quality",
)
"""Outcome (with the kind of plateau or divergence after a slash), in the order of the rules."""

_OUTCOME_OF = np.array([OUTCOMES.index(label.partition("/")[0]) for label in _LABELS])


def _decided(e: Evidence, t: _Batch, f: _Facts) -> NDArray[np.intp]:
    """Place in _LABELS under each of B sets of thresholds, [B]."""
    column = {name: values[:, 0] for name, values in t.items()}
    settled = (f.crossings <= column["max_crossings"]) | f.always
    passed = _enough(e, t, f.passed, e.knn_coverage_mean)
    collapsed = f.few >= column["collapsed_fraction"]
    improving = (e.trend_p < column["trend_p"]) & (e.trend_gain >= column["trend_gain"])
    # A fall that outweighs its own shaking is progress: training curves are steeper at first than any line.
    shaking = (e.amplitude >= column["amplitude"]) & ~(improving & (e.trend_drop > e.amplitude))
    never_near = e.u.min() >= column["dead_u"]
    still, poor = e.moved < DEAD_DISPLACEMENT, e.quality_median < DEAD_QUALITY
    rules = (
        e.blowup_median > column["blowup"],
        passed & settled,
        # An untrained generator sits on few modes too: what never came near the data is dead only if it stands
        # still, under-trained while it improves, and collapsed if it moved to few modes and stays there.
        never_near & (still | (poor & ~collapsed & ~improving)),
        never_near & improving,
        collapsed,
        (f.crossings > column["max_crossings"]) | shaking,
        improving,
        e.coverage_median < column["coverage_converged"],
        np.ones(len(passed), dtype=bool),
    )
    return np.asarray(np.argmax(np.stack(np.broadcast_arrays(*rules)), axis=0))


# --- kind, event, margin ---------------------------------------------------------------------------


def _kind(label: str, e: Evidence) -> str:
    if label != "collapsed":
        return label.partition("/")[2]
    if len(e.u) <= e.window:
        return ""
    thresholds = _batch(e.criteria.thresholds)
    good = _good(e, thresholds)
    # most collapses were never near: the windows that cannot count are passed over all at once
    enough = np.lib.stride_tricks.sliding_window_view(good[0], e.window)[:-1].mean(axis=1) >= e.criteria.good_fraction
    earlier = (_window_good(e, thresholds, good, int(start) + e.window)[0] for start in np.flatnonzero(enough))
    return "late" if any(earlier) else ""


def _event(label: str, e: Evidence) -> int | None:
    c = e.criteria
    if label == "diverged/blowup":
        return int(e.step[np.argmax(e.blowup_ratio > c.blowup)])
    if label == "converged":
        return _sustained(e, _good(e, _batch(c.thresholds))[0], c.good_fraction)
    if label == "collapsed":
        return _sustained(e, e.coverage <= c.coverage_collapsed, c.collapsed_fraction)
    return None


def _sustained(e: Evidence, flags: Flags, fraction: float) -> int:
    """Step of the first flagged evaluation from which on every window of length |W| holds enough flags."""
    windows = np.lib.stride_tricks.sliding_window_view(flags, e.window)
    failing = np.flatnonzero(windows.mean(axis=1) < fraction)
    start = failing[-1] + 1 if len(failing) else 0
    return int(e.step[start + np.argmax(flags[start:])])


def _margin(outcome: str, e: Evidence, facts: _Facts) -> float:
    """Smallest relative change of one threshold that changes the outcome, at most MARGIN_LIMIT.

    Every threshold is moved alone, up and down, by 24 geometric steps from 1 to 100 %; the first step that changes
    anything is then divided in 16 (so the answer is right to about 1.4 % of itself, or .001).
    ``facts`` are those of the thresholds as they are. Most thresholds leave them alone, and tell at once how far
    it is worth to move the few that do not.
    """
    place, base = OUTCOMES.index(outcome), e.criteria.thresholds
    moves = [(name, sign) for name in base for sign in (-1.0, 1.0)]
    plain = _flips(place, e, [move for move in moves if move[0] not in _OF_THE_SERIES], _COARSE, facts)
    reach = _COARSE[: _first(plain, len(_COARSE) - 1) + 1]
    series = _flips(place, e, [move for move in moves if move[0] in _OF_THE_SERIES], reach, None)
    flipped = {move: flips[: len(reach)] for move, flips in (plain | series).items()}
    first = _first(flipped, -1)
    if first < 0:
        return MARGIN_LIMIT
    suspects = [move for move in moves if flipped[move][first]]
    fine = np.linspace(_COARSE[first - 1] if first else 0.0, _COARSE[first], _FINE_STEPS + 1)[1:]
    moved = {name for name, _ in suspects}
    known = facts if moved.isdisjoint(_OF_THE_SERIES) else None
    return float(fine[_first(_flips(place, e, suspects, fine, known), 0)])


def _first(flipped: Mapping[_Move, Flags], otherwise: int) -> int:
    """Place of the first change under which any move flips the outcome."""
    anything = np.any(list(flipped.values()), axis=0)
    return int(np.argmax(anything)) if anything.any() else otherwise


def _flips(place: int, e: Evidence, moves: list[_Move], changes: Floats, facts: _Facts | None) -> dict[_Move, Flags]:
    """Whether each move by each relative change gives another outcome than the one at ``place``, [changes].

    ``facts``: what the series hold, where no move alters that.
    """
    batch = _moved(e.criteria.thresholds, moves, changes)
    places = _OUTCOME_OF[_decided(e, batch, facts or _facts(e, batch))]
    return dict(zip(moves, (places != place).reshape(len(moves), len(changes)), strict=True))


def _moved(base: Mapping[str, float], moves: list[_Move], changes: Floats) -> _Batch:
    """The thresholds after each move by each change, one set a row: move by move, change by change.

    A threshold that nothing moves stays a single number.
    """
    names = {name for name, _ in moves}
    shape = (len(moves), len(changes))
    batch = {name: np.full(shape if name in names else (1, 1), value) for name, value in base.items()}
    for row, (name, sign) in enumerate(moves):
        batch[name][row] *= 1.0 + sign * changes
    return {name: values.reshape(-1, 1) for name, values in batch.items()}
