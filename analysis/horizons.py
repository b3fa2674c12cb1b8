"""What a shorter budget would have shown: every run judged again on the first part of its history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import share
from analysis.compare import arms
from analysis.estimators import Floats, weighted_share
from analysis.frames import StudyFrames
from analysis.histories import Flags, Histories, good, good_windows, histories, row_median, trends
from analysis.weights import inference_target, weights
from study.outcomes import DEAD_DISPLACEMENT, DEAD_QUALITY, Criteria

FRACTIONS = (0.5, 0.75, 1.0)
HORIZON_COLUMNS: tuple[str, ...] = ("loss", "fraction", "success", "low", "high", "under_trained", "runs")

Names = npt.NDArray[np.str_]


def horizons_table(
    frames: StudyFrames, found: Sequence[Histories] | None = None, fractions: Sequence[float] = FRACTIONS
) -> pd.DataFrame:
    """One row per label and share of the budget: success with its 95 % interval, share under-trained.

    A run counts as its history up to there is judged, by the same criteria; at 1 it is the losses table. Runs that
    were lost or stopped stay out at every share. ``found``: from ``histories``. Empty where no curves were recorded.
    """
    found = histories(frames) if found is None else found
    if not found:
        return pd.DataFrame(columns=list(HORIZON_COLUMNS))
    design, target = weights(frames), inference_target(frames)
    rows: dict[str, list[tuple[object, ...]]] = {label: [] for label in frames.labels()}
    for fraction in fractions:
        then = shortened(frames, fraction, found)
        success, slow = arms(then, design=design), arms(then, ("under_trained",), design=design)
        for label, own in rows.items():
            e, runs = share(success[label], target), int(success[label].cells.runs.sum())
            own.append((label, fraction, e.value, e.low, e.high, weighted_share(slow[label].cells).value, runs))
    return pd.DataFrame([row for own in rows.values() for row in own], columns=list(HORIZON_COLUMNS))


def shortened(frames: StudyFrames, fraction: float, found: Sequence[Histories]) -> StudyFrames:
    """The study as it would stand had every run ended after ``fraction`` of its evaluations (rounded down)."""
    criteria = frames.criteria
    if fraction >= 1 or criteria is None:
        return frames
    outcome, kind = frames.runs["outcome"].to_numpy(dtype=object), frames.runs["kind"].to_numpy(dtype=object)
    for h in found:
        ended, why = judged(h.first(math.floor(fraction * (len(h.step) - 1) + 1e-9) + 1), criteria)
        outcome[h.rows], kind[h.rows] = ended, why
    return replace(frames, runs=frames.runs.assign(outcome=outcome, kind=kind))


def judged(h: Histories, criteria: Criteria) -> tuple[Names, Names]:
    """Outcome and kind of every run [runs], as ``study.outcomes.judge`` gives them one by one."""
    return judged_under(h, [criteria])[0]


def judged_under(h: Histories, variants: Sequence[Criteria]) -> list[tuple[Names, Names]]:
    """``judged`` under each of several criteria that agree in their windows: the trends are found once."""
    died = h.death < len(h.step)
    whole = ~died & ~np.isnan(h.u).any(axis=1)
    kept = _some(h, whole)
    statistics = _statistics(kept, kept.windows(variants[0]))
    found = []
    for criteria in variants:
        labels = np.full(len(h.rows), "failed/", dtype="<U24")
        labels[whole] = _LABELS[_places(kept, criteria, statistics)]
        labels[died] = "diverged/nonfinite"
        parts = np.char.partition(labels, "/")
        found.append((parts[:, 0], parts[:, 2]))
    return found


def _some(h: Histories, kept: Flags) -> Histories:
    names = ("rows", "death", "u", "coverage", "quality", "knn_coverage", "blowup", "moved")
    return replace(h, **{name: getattr(h, name)[kept] for name in names})


_LABELS = np.array(
    [
        "diverged/blowup",
        "converged/",
        "plateau/dead",
        "under_trained/",
        "collapsed/late",
        "collapsed/",
        "oscillating/",
        "under_trained/",
        "plateau/partial_collapse",
        "plateau/quality",
    ]
)
"""Outcome and kind, divided by a slash, in the order of the rules."""


def _places(h: Histories, c: Criteria, m: _Statistics) -> npt.NDArray[np.intp]:
    """The rules in their order, for complete runs: the place of the first that matches, in _LABELS."""
    window, late = h.windows(c)
    w, flags = slice(-window, None), good(h, c)
    passed, crossings = good_windows(h, c, flags), _crossings(h, c, flags, late)
    settled = (crossings <= c.max_crossings) | flags[:, -late:].all(axis=1)
    collapsed = (h.coverage[:, w] <= c.coverage_collapsed).mean(axis=1) >= c.collapsed_fraction
    improving = (m.p_of_a_fall < c.trend_p) & (m.gain >= c.trend_gain)
    shaking = (m.swing >= c.amplitude) & ~(improving & (m.drop > m.swing))
    never_near = h.u.min(axis=1, initial=math.inf) >= c.dead_u
    dead = never_near & (m.still | ((m.quality < DEAD_QUALITY) & ~collapsed & ~improving))
    rules = (
        m.blowup > c.blowup,
        passed[:, -1] & settled,
        dead,
        never_near & improving,
        collapsed & passed[:, :-1].any(axis=1),
        collapsed,
        (crossings > c.max_crossings) | shaking,
        improving,
        m.coverage < c.coverage_converged,
        np.ones(len(h.rows), dtype=bool),
    )
    return np.asarray(np.argmax(np.stack(rules), axis=0))


@dataclass(frozen=True, kw_only=True)
class _Statistics:
    """What no threshold enters, each [runs]: over the late part ``swing`` (P90 - P10 of detrended u), ``drop`` and
    ``gain`` of the Theil-Sen line, Kendall's p (1 where u rises); medians over the judged window; never moved."""

    swing: Floats
    drop: Floats
    gain: Floats
    p_of_a_fall: Floats
    blowup: Floats
    quality: Floats
    coverage: Floats
    still: Flags


def _statistics(h: Histories, windows: tuple[int, int]) -> _Statistics:
    window, late = windows
    found = trends(h.step[-late:], h.u[:, -late:])
    low, high = np.quantile(found.rest, [0.1, 0.9], axis=1)
    gain = np.divide(-found.slope, found.intercept, out=np.zeros(len(h.rows)), where=found.intercept > 0)
    furthest = np.fmax.reduce(h.moved, axis=1, initial=-math.inf)
    w = slice(-window, None)
    return _Statistics(
        swing=high - low,
        drop=-found.slope,
        gain=gain,
        p_of_a_fall=np.where(found.tau < 0, found.p, 1.0),
        blowup=row_median(h.blowup[:, w]),
        quality=row_median(h.quality[:, w]),
        coverage=row_median(h.coverage[:, w]),
        still=(furthest < DEAD_DISPLACEMENT) & ~np.isnan(h.moved).all(axis=1),
    )


def _crossings(h: Histories, c: Criteria, flags: Flags, late: int) -> npt.NDArray[np.int64]:
    """How often goodness was entered or left in the late part [runs], left only ``hysteresis`` beyond a threshold."""
    slack = c.hysteresis
    left = (
        (h.u > c.u_converged + slack)
        | (h.coverage < c.coverage_converged - slack)
        | (h.quality < c.quality_converged - slack)
    )
    state = np.empty_like(flags)
    inside = np.zeros(len(flags), dtype=bool)
    for i in range(flags.shape[1]):
        inside = (inside | flags[:, i]) & ~left[:, i]
        state[:, i] = inside
    ending = state[:, -late:]
    return np.asarray((ending[:, 1:] != ending[:, :-1]).sum(axis=1))
