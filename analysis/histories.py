"""Every judged run's evaluations as arrays, and statistics of all their rows at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import UNUSED
from analysis.estimators import Floats, Ints
from analysis.frames import StudyFrames
from analysis.wording import mapping
from study.outcomes import RADIUS_RULE, Criteria
from trainers.measurement import MEASUREMENTS

Flags = npt.NDArray[np.bool_]

NON_FINITE = 1e300
"""SQL stores turn infinity into 1.797e308, so from here on a number is not one."""

EXACT_LIMIT = 33
"""Up to this many untied values the p-value of Kendall's tau is exact."""

PAIRS_AT_ONCE = 250_000
"""Pairs of evaluations looked at together: few enough for the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Runs of one schedule and one reference: arrays [runs, evaluations], NaN where nothing was measured.

    ``rows`` [runs]: their places in ``runs``; ``step`` [evaluations]; ``death`` [runs]: the evaluation at which a
    number ceased to be finite, beyond the last where none did. ``u``, ``quality`` and ``knn_coverage`` are rescaled as
    outcomes are judged, ``blowup`` is the distance over that of the farthest real point, ``moved`` in units of d_ref.
    """

    rows: Ints
    step: Floats
    death: Ints
    u: Floats
    coverage: Floats
    quality: Floats
    knn_coverage: Floats
    blowup: Floats
    moved: Floats
    high_dimensional: bool

    def first(self, evaluations: int) -> Histories:
        """The same runs up to so many evaluations, evaluation 0 included."""
        return replace(self, **{name: getattr(self, name)[..., :evaluations] for name in _SERIES})

    def windows(self, criteria: Criteria) -> tuple[int, int]:
        """Evaluations in the judged window and in the late part, as outcomes are judged."""
        after_zero = len(self.step) - 1
        window = max(criteria.window_min_evaluations, math.ceil(criteria.window_fraction * after_zero))
        late = max(window, math.ceil(criteria.late_fraction * after_zero))
        return min(window, len(self.step)), min(late, len(self.step))


_SERIES = ("step", "u", "coverage", "quality", "knn_coverage", "blowup", "moved")


def histories(frames: StudyFrames) -> list[Histories]:
    """The judged runs of a study, gathered by target, number of evaluations and horizon; none without curves.

    Runs that a rule without criteria judges are left out: none of these numbers has to do with their outcome.
    """
    entries: Any = frames.plan.get("configurations") or ()
    if frames.criteria is None or not len(frames.curves) or not entries:
        return []
    run, evaluation, table = _judged_rows(frames)
    columns = _columns(table, run, evaluation, (len(frames.runs), int(evaluation.max(initial=0)) + 1))
    planned = {str(entry["configuration_key"]): entry for entry in entries}
    groups: dict[tuple[str, int, object], list[int]] = {}
    keys = frames.runs["configuration_key"].astype(str).to_numpy()
    for row in np.unique(run):
        entry = planned[keys[row]]
        kind = str(entry["target_id"]), int(entry["budget"]["evaluations"]), entry.get("horizon")
        groups.setdefault(kind, []).append(int(row))
    targets = mapping(frames.reference.get("targets"))
    return [
        _rescaled(columns, np.array(rows), mapping(targets.get(target)), evaluations + 1)
        for (target, evaluations, _), rows in groups.items()
        if mapping(targets.get(target)).get("rule") != RADIUS_RULE
    ]


def _judged_rows(frames: StudyFrames) -> tuple[Ints, Ints, pd.DataFrame]:
    """Place in ``runs``, evaluation, and the rest of every row of a run that has an outcome of its own."""
    code, names = pd.factorize(frames.curves["configuration_key"])
    replicate = frames.curves["replicate"].to_numpy(dtype=np.int64)
    place = np.full((len(names), int(replicate.max()) + 1), -1, dtype=np.int64)
    number = {str(name): i for i, name in enumerate(names)}
    judged = ~frames.runs["outcome"].isin(list(UNUSED))
    for row, (key, own, used) in enumerate(
        zip(frames.runs["configuration_key"].astype(str), frames.runs["replicate"], judged, strict=True)
    ):
        if used and key in number and 0 <= int(own) < place.shape[1]:
            place[number[key], int(own)] = row
    row_of = place[code, replicate]
    kept = row_of >= 0
    evaluation = frames.curves["evaluation"].to_numpy(dtype=np.int64)
    return row_of[kept], evaluation[kept], frames.curves[kept] if not kept.all() else frames.curves


def _columns(table: pd.DataFrame, run: Ints, evaluation: Ints, shape: tuple[int, int]) -> dict[str, Floats]:
    """Each needed column as an array [runs, evaluations]; ``dead`` is 1 where a number was not finite."""
    dead = ~table["finite"].to_numpy(dtype=bool)
    for name in MEASUREMENTS:
        if name in table:
            dead |= np.abs(table[name].to_numpy(dtype=np.float64)) >= NON_FINITE
    needed = ("distance", "mode_coverage", "high_quality_fraction", "knn_coverage", "displacement", "generator_step")
    values = {name: table[name].to_numpy(dtype=np.float64) for name in needed if name in table}
    found = {}
    for name in needed:
        found[name] = np.full(shape, np.nan)
        if name in values:
            found[name][run, evaluation] = values[name]
    found["dead"] = np.zeros(shape)
    found["dead"][run, evaluation] = dead
    return found


def _rescaled(columns: Mapping[str, Floats], rows: Ints, reference: Mapping[str, Any], evaluations: int) -> Histories:
    def own(name: str) -> Floats:
        held = columns[name][rows] if len(rows) < len(columns[name]) else columns[name]
        short = evaluations - held.shape[1]
        return np.pad(held, ((0, 0), (0, short)), constant_values=np.nan) if short > 0 else held[:, :evaluations]

    def number(name: str) -> float:
        value = reference.get(name)
        return float(value) if isinstance(value, int | float) else math.nan

    real, ref = number("d_real"), number("d_ref")
    dead, distance = own("dead") > 0, own("distance")
    return Histories(
        rows=rows,
        step=np.fmax.reduce(own("generator_step"), axis=0),
        death=np.where(dead.any(axis=1), dead.argmax(axis=1), evaluations),
        u=(distance - real) / (ref - real),
        coverage=own("mode_coverage"),
        quality=own("high_quality_fraction") / number("quality_ceiling"),
        knn_coverage=own("knn_coverage") / number("knn_coverage_ceiling"),
        blowup=distance / number("d_far"),
        moved=own("displacement") / ref,
        high_dimensional=number("dimensions") > 2,
    )


# --- what the rows look like -------------------------------------------------------------------------


def good(h: Histories, criteria: Criteria) -> Flags:
    """Evaluations where distance, coverage and quality are all good, [runs, evaluations]; the absent is not asked."""
    c = criteria
    return np.asarray(
        (h.u <= c.u_converged) & ~(h.coverage < c.coverage_converged) & ~(h.quality < c.quality_converged)
    )


def good_windows(h: Histories, criteria: Criteria, flags: Flags) -> Flags:
    """Whether the judged window, begun at each evaluation, would pass as converged, [runs, starts]."""
    window, _ = h.windows(criteria)
    total = np.cumsum(np.pad(flags, ((0, 0), (1, 0))), axis=1)
    enough = np.asarray((total[:, window:] - total[:, :-window]) / window >= criteria.good_fraction)
    if h.high_dimensional:
        held = np.lib.stride_tricks.sliding_window_view(h.knn_coverage, window, axis=1)
        enough = enough & (row_mean(held) >= criteria.knn_coverage_converged)
    return enough


def row_mean(values: Floats) -> Floats:
    """Mean over the last axis of what was measured, NaN where nothing was."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))


def row_median(values: Floats) -> Floats:
    """Median of each row's measured values [runs], NaN where nothing was."""
    ordered = np.sort(values, axis=1)  # NaN sorts last
    count = (~np.isnan(values)).sum(axis=1)
    places = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=1)
    places = np.minimum(places, values.shape[1] - 1)
    return np.asarray(np.take_along_axis(ordered, places, axis=1).mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class Trends:
    """Per row of u: ``rest`` [runs, evaluations] after the Theil-Sen line is taken off; the line's ``slope`` per
    span and its ``intercept``; Kendall's ``tau`` sign and two-sided ``p``; each [runs]."""

    rest: Floats
    slope: Floats
    intercept: Floats
    tau: Floats
    p: Floats


def trends(step: Floats, u: Floats) -> Trends:
    """Theil-Sen line (Sen 1968) and Kendall's tau-b (Kendall 1970) of every row of ``u`` [runs, evaluations].

    Time runs from 0 to 1 over the given evaluations. A row with NaN has NaN throughout.
    """
    time = (step - step[0]) / max(1.0, float(step[-1] - step[0])) if len(step) else step
    parts = [_pairwise(time, rows) for rows in _chunks(u)]
    slope, score, tied = (np.concatenate([part[i] for part in parts]) for i in range(3))
    rest = u - slope[:, None] * time
    intercept = np.median(rest, axis=1)
    return Trends(rest=rest, slope=slope, intercept=intercept, tau=np.sign(score), p=_kendall_p(u, score, tied))


def _chunks(u: Floats) -> Iterator[Floats]:
    """The rows in parts whose pairs fit in memory; one empty part where there are none."""
    pairs = max(1, u.shape[1] * (u.shape[1] - 1) // 2)
    size = max(1, PAIRS_AT_ONCE // pairs)
    for start in range(0, max(1, len(u)), size):
        yield u[start : start + size]


def _pairwise(time: Floats, u: Floats) -> tuple[Floats, Floats, Floats]:
    """Median slope, Kendall's score and number of tied pairs of every row."""
    first, second = np.triu_indices(len(time), k=1)
    if not len(first):
        return np.zeros(len(u)), np.zeros(len(u)), np.zeros(len(u))
    apart = u[:, second] - u[:, first]
    score, tied = np.sign(apart).sum(axis=1), (apart == 0).sum(axis=1).astype(np.float64)
    return np.median(apart / (time[second] - time[first]), axis=1), score, tied


def _kendall_p(u: Floats, score: Floats, tied: Floats) -> Floats:
    """Two-sided p of tau: exact without ties up to EXACT_LIMIT values, else normal; 1 where all values are equal."""
    n = u.shape[1]
    pairs = n * (n - 1) // 2
    if pairs == 0:
        return np.ones(len(u))
    found = np.full(len(u), np.nan)
    plain = (tied == 0) & ~np.isnan(score)
    sizes = np.abs(score[plain]).astype(np.int64)
    if n <= EXACT_LIMIT:
        found[plain] = _exact_p(n)[sizes]
    else:
        found[plain] = _normal_p(n, 0, sizes)
    for row in np.flatnonzero((tied > 0) & ~np.isnan(score)):
        t = np.unique(u[row], return_counts=True)[1]
        ties = int((t * (t - 1) * (2 * t + 5)).sum())
        found[row] = 1.0 if tied[row] == pairs else _normal_p(n, ties, np.abs(score[row : row + 1]))[0]
    return found


def _normal_p(n: int, ties: int, sizes: npt.NDArray[Any]) -> Floats:
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    distinct, place = np.unique(sizes, return_inverse=True)
    return np.array([math.erfc(float(size) / math.sqrt(2 * variance)) for size in distinct])[place]


@functools.cache
def _exact_p(n: int) -> Floats:
    """Two-sided P(|score| >= s) over all orders of n distinct values, for s = 0 .. n (n - 1) / 2."""
    counts = np.ones(1, dtype=object)
    for size in range(2, n + 1):
        counts = np.convolve(counts, np.ones(size, dtype=object))  # orders with 0, 1, 2, ... inversions
    pairs, total = n * (n - 1) // 2, math.factorial(n)
    below = np.cumsum(counts)
    return np.array([min(1.0, 2.0 * int(below[(pairs - s) // 2]) / total) for s in range(pairs + 1)])
