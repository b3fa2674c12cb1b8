"""What an outcome is judged on: one replicate's series, and the statistics that no threshold enters (numpy only)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study import trends
from study.criteria import Criteria

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Reference = Mapping[str, float | int | str]

NON_FINITE = 1e300
"""SQL stores turn infinity into 1.797e308, so from here on a number is not one."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One replicate's evaluations, evaluation 0 included: arrays of length E, in any order.

    ``values``: measurement -> [E], NaN where it was not measured; ``finite`` [E] is false from the death on;
    ``planned_evaluations`` follow evaluation 0; ``censored``: the scheduler stopped it before its horizon.
    """

    generator_step: NDArray[np.int64]
    finite: Flags
    values: Mapping[str, Floats]
    planned_evaluations: int
    censored: bool = False

    def __post_init__(self) -> None:
        lengths = {"finite": len(self.finite), **{name: len(value) for name, value in self.values.items()}}
        for name, length in lengths.items():
            if length != len(self.generator_step):
                raise ValueError(f"{name} must have {len(self.generator_step)} evaluations, got {length}.")


def first_non_finite(series: Series) -> int | None:
    """Generator step of the first row that died or holds an infinite number; an absent measurement is neither."""
    dead = ~np.asarray(series.finite, dtype=bool)
    for value in series.values.values():
        dead = dead | (np.abs(np.asarray(value, dtype=np.float64)) >= NON_FINITE)
    return int(np.min(np.asarray(series.generator_step)[dead])) if dead.any() else None


def complete_rows(series: Series) -> NDArray[np.intp]:
    """Rows in order of time, each step once, without those that lack a distance: they are not complete."""
    distance = np.asarray(series.values.get("distance", np.full(len(series.generator_step), np.nan)))
    measured = np.flatnonzero(~np.isnan(distance))
    _, first = np.unique(np.asarray(series.generator_step)[measured], return_index=True)
    return measured[first]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Rescaled series [E] and the statistics that no threshold enters; NaN = absent.

    The last four are over the judged window.
    """

    criteria: Criteria
    step: NDArray[np.int64]
    u: Floats
    coverage: Floats
    quality: Floats
    knn_coverage: Floats
    high_dimensional: bool
    window: int
    late: int
    blowup_ratio: Floats
    moved: float
    amplitude: float
    trend_p: float
    trend_gain: float
    trend_drop: float
    blowup_median: float
    quality_median: float
    coverage_median: float
    knn_coverage_mean: float


def gather(series: Series, rows: NDArray[np.intp], criteria: Criteria, reference: Reference) -> Evidence:
    """Rescale the series at ``rows`` (from ``complete_rows``) and compute what the rules look at.

    ValueError names what ``reference`` lacks.
    """

    def measured(name: str) -> Floats:
        values = series.values.get(name)
        return np.full(len(rows), np.nan) if values is None else np.asarray(values, dtype=np.float64)[rows]

    step, distance = np.asarray(series.generator_step, dtype=np.int64)[rows], measured("distance")
    d_real, d_ref = _number(reference, "d_real"), _number(reference, "d_ref")
    if not d_ref > d_real:
        raise ValueError(f"reference: d_ref must be > d_real ({d_real:g}), got {d_ref:g}.")
    u = (distance - d_real) / (d_ref - d_real)
    after_zero = len(rows) - 1
    window = max(criteria.window_min_evaluations, math.ceil(criteria.window_fraction * after_zero))
    late = max(window, math.ceil(criteria.late_fraction * after_zero))
    amplitude, trend_p, trend_gain, trend_drop = _trend(step[-late:], u[-late:])
    coverage = measured("mode_coverage")
    quality = _over_ceiling(measured("high_quality_fraction"), reference, "quality_ceiling")
    knn_coverage = _over_ceiling(measured("knn_coverage"), reference, "knn_coverage_ceiling")
    blowup_ratio = distance / _number(reference, "d_far")
    return Evidence(
        criteria=criteria,
        step=step,
        u=u,
        coverage=coverage,
        quality=quality,
        knn_coverage=knn_coverage,
        high_dimensional=_number(reference, "dimensions") > 2,
        window=min(window, len(rows)),
        late=min(late, len(rows)),
        blowup_ratio=blowup_ratio,
        moved=_largest(measured("displacement")) / d_ref,
        amplitude=amplitude,
        trend_p=trend_p,
        trend_gain=trend_gain,
        trend_drop=trend_drop,
        blowup_median=median(blowup_ratio[-window:]),
        quality_median=median(quality[-window:]),
        coverage_median=median(coverage[-window:]),
        knn_coverage_mean=mean(knn_coverage[-window:]),
    )


def _number(reference: Reference, key: str) -> float:
    value = reference.get(key)
    if isinstance(value, str) or value is None or not math.isfinite(value):
        raise ValueError(f"reference: {key} must be a finite number, got {value!r}.")
    return float(value)


def _over_ceiling(values: Floats, reference: Reference, ceiling: str) -> Floats:
    """Values as a share of what real data score; the ceiling is only needed where something was measured."""
    return values if np.isnan(values).all() else values / _number(reference, ceiling)


def _trend(step: NDArray[np.int64], u: Floats) -> tuple[float, float, float, float]:
    """P90 - P10 of detrended u; p of a fall (1 where it rises); Theil-Sen improvement over its start, and in u."""
    time = (step - step[0]) / max(1, step[-1] - step[0])
    slope, intercept = trends.theil_sen(time, u)
    low, high = np.quantile(u - slope * time, [0.1, 0.9])
    tau, p = trends.kendall(u)
    gain = -slope / intercept if intercept > 0 else 0.0
    return float(high - low), p if tau < 0 else 1.0, gain, -slope


def median(values: Floats) -> float:
    """Median of the values that were measured; NaN where none was."""
    present = values[~np.isnan(values)]
    return trends.median(present) if len(present) else math.nan


def mean(values: Floats) -> float:
    """Mean of the values that were measured; NaN where none was."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else math.nan


def _largest(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(present.max()) if len(present) else math.nan
