"""What a shorter budget would have shown: every run judged again on the first part of its history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import share
from analysis.compare import arms
from analysis.estimators import weighted_share
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
    """Outcome and kind of every run [runs], as ``study.outcomes.judge_under`` gives them one by one."""
    labels = np.full(len(h.rows), "failed/", dtype="<U24")
    died = h.death < len(h.step)
    whole = ~died & ~np.isnan(h.u).any(axis=1)
    labels[whole] = _labels(_some(h, whole), criteria)
    labels[died] = "diverged/nonfinite"
    parts = np.char.partition(labels, "/")
    return parts[:, 0], parts[:, 2]


def _some(h: Histories, kept: Flags) -> Histories:
    names = ("rows", "death", "u", "coverage", "quality", "knn_coverage", "blowup", "moved")
    return replace(h, **{name: getattr(h, name)[kept] for name in names})


def _labels(h: Histories, c: Criteria) -> Names:
    """The rules in their order, for complete runs; outcome and kind are divided by a slash."""
    window, late = h.windows(c)
    w, flags = slice(-window, None), good(h, c)
    passed, crossings = good_windows(h, c, flags), _crossings(h, c, flags, late)
    settled = (crossings <= c.max_crossings) | flags[:, -late:].all(axis=1)
    collapsed = (h.coverage[:, w] <= c.coverage_collapsed).mean(axis=1) >= c.collapsed_fraction
    improving, shaking = _moving(h, c, late)
    never_near = h.u.min(axis=1, initial=math.inf) >= c.dead_u
    still = np.fmax.reduce(h.moved, axis=1, initial=-math.inf) < DEAD_DISPLACEMENT
    still &= ~np.isnan(h.moved).all(axis=1)
    dead = never_near & (still | ((row_median(h.quality[:, w]) < DEAD_QUALITY) & ~collapsed & ~improving))
    before = passed[:, :-1].any(axis=1)
    rules = {
        "diverged/blowup": row_median(h.blowup[:, w]) > c.blowup,
        "converged/": passed[:, -1] & settled,
        "plateau/dead": dead,
        "under_trained/": never_near & improving,
        "collapsed/late": collapsed & before,
        "collapsed/": collapsed,
        "oscillating/": (crossings > c.max_crossings) | shaking,
        "under_trained": improving,
        "plateau/partial_collapse": row_median(h.coverage[:, w]) < c.coverage_converged,
    }
    return np.char.strip(np.select(list(rules.values()), list(rules), default="plateau/quality"))


def _moving(h: Histories, c: Criteria, late: int) -> tuple[Flags, Flags]:
    """Whether a run still improves over the late part, and whether it swings by more than it improves, [runs]."""
    found = trends(h.step[-late:], h.u[:, -late:])
    low, high = np.quantile(found.rest, [0.1, 0.9], axis=1)
    rising = found.intercept > 0
    gain = np.divide(-found.slope, found.intercept, out=np.zeros(len(h.rows)), where=rising)
    improving = (np.where(found.tau < 0, found.p, 1.0) < c.trend_p) & (gain >= c.trend_gain)
    swing = high - low
    return improving, (swing >= c.amplitude) & ~(improving & (-found.slope > swing))


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
