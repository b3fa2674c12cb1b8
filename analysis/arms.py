"""One loss as an arm of the comparison: its runs cell by cell, its shares, and its difference from another arm."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.estimators import (
    Cells,
    Estimate,
    Floats,
    Strata,
    difference,
    mean_of_units,
    permutation_p,
    sign_flip_p,
    weighted_share,
    wilson,
)
from analysis.weights import Target

UNUSED: frozenset[str] = frozenset({"failed", "censored"})
"""Outcomes that say nothing about the loss: left out of n, and bounded instead."""

UNSTABLE: frozenset[str] = frozenset({"diverged", "collapsed", "oscillating"})
"""Outcomes that count as unstable; so does a plateau of kind partial_collapse."""

MIN_DRAWN_CELLS = 8  # fewer drawn settings cannot speak for the space


@dataclass(frozen=True, kw_only=True)
class Arm:
    """``values`` [cells, runs]: 1 where the event happened, 0 where not, NaN where unknown; ``planned`` masks runs."""

    weights: Floats
    strata: tuple[str, ...]
    values: Floats
    planned: npt.NDArray[np.bool_]

    @property
    def cells(self) -> Cells:
        """Counts over the runs that were used."""
        known = ~np.isnan(self.values)
        runs = known.sum(axis=1).astype(np.float64)
        return Cells(weights=self.weights, successes=np.nansum(self.values, axis=1), runs=runs)

    @property
    def complete(self) -> bool:
        """Whether every declared cell was planned and every planned run was used."""
        return bool(self.planned.any(axis=1).all()) and not bool(np.isnan(self.values[self.planned]).any())

    def filled(self, value: float) -> Arm:
        """The same arm with every planned but unused run counted as ``value`` (Manski's bounds)."""
        return replace(self, values=np.where(self.planned & np.isnan(self.values), value, self.values))


def event(runs: pd.DataFrame, outcomes: Collection[str], *, kinds: Collection[str] = ()) -> Floats:
    """1 where a run has one of ``outcomes``, or is a plateau of one of ``kinds``; NaN where it was not used."""
    happened = runs["outcome"].isin(list(outcomes))
    if kinds:
        happened |= (runs["outcome"] == "plateau") & runs["kind"].isin(list(kinds))
    return np.where(runs["outcome"].isin(list(UNUSED)), np.nan, happened.astype(np.float64))


def build_arm(cells: pd.DataFrame, runs: pd.DataFrame, values: Floats) -> Arm:
    """The arm of one label: ``cells`` are its rows of the weights table, ``values`` belong to ``runs`` row by row."""
    position = {key: i for i, key in enumerate(cells["configuration_key"]) if key}
    table = pd.DataFrame({"cell": runs["configuration_key"].map(position).to_numpy(), "value": values})
    table = table.assign(replicate=runs["replicate"].to_numpy()).sort_values(["cell", "replicate"], kind="stable")
    column = table.groupby("cell").cumcount().to_numpy()
    width = int(column.max()) + 1 if len(column) else 0
    matrix = np.full((len(cells), width), np.nan)
    planned = np.zeros((len(cells), width), dtype=bool)
    rows = table["cell"].to_numpy().astype(np.int64)
    matrix[rows, column] = table["value"].to_numpy()
    planned[rows, column] = True
    strata = tuple(str(s) for s in cells["stratum"])
    return Arm(weights=cells["weight"].to_numpy(dtype=np.float64), strata=strata, values=matrix, planned=planned)


def share(arm: Arm, target: Target, *, alpha: float = 0.05) -> Estimate:
    """Weighted share of the event with the interval that the design earns (statistics: grid, space or sweeps).

    ``grid``: Wilson at the effective n. ``space``: t over the drawn cells' shares, refused below 8 cells.
    ``sweeps``: t over the replicate-wise weighted shares, the only valid interval when cells share seeds.
    """
    if target == "grid":
        return weighted_share(arm.cells, alpha=alpha)
    value = weighted_share(arm.cells).value
    units = _units(arm, target)
    if math.isnan(value) or len(units) < (MIN_DRAWN_CELLS if target == "space" else 2):
        return Estimate(value=value, low=0.0, high=1.0, n_eff=float(len(units)))
    found = mean_of_units(units, alpha=alpha)
    low, high = max(0.0, found.low), min(1.0, found.high)
    if np.ptp(units) == 0:  # equal units have no spread to learn from, yet are not certain
        low, high = wilson(value, len(units), alpha=alpha)
    return Estimate(value=value, low=min(low, value), high=max(high, value), n_eff=float(len(units)))


def _units(arm: Arm, target: Target) -> Floats:
    """Independent units of the design: one share per cell, or one weighted share per replicate sweep."""
    if target == "space":
        cells = arm.cells
        seen = cells.runs > 0
        return cells.successes[seen] / cells.runs[seen]
    whole = ~np.isnan(arm.values).any(axis=0) if len(arm.values) else np.zeros(0, dtype=bool)
    return np.asarray(arm.weights @ arm.values[:, whole])


def gap(a: Arm, b: Arm, target: Target, *, alpha: float = 0.05) -> Estimate:
    """Share of A minus share of B with its interval: MOVER, or paired t where the units are paired."""
    apart = difference(share(a, target, alpha=alpha), share(b, target, alpha=alpha))
    paired = paired_units(a, b, target)
    if paired is None or math.isnan(apart.value) or len(paired) < 2 or np.ptp(paired) == 0:
        return apart
    if target == "space" and len(paired) < MIN_DRAWN_CELLS:
        return apart
    found = mean_of_units(paired, alpha=alpha)
    shift = apart.value - found.value  # sweeps with gaps: centre on the share that the tables print
    return Estimate(value=apart.value, low=max(-1.0, found.low + shift), high=min(1.0, found.high + shift))


def paired_units(a: Arm, b: Arm, target: Target) -> Floats | None:
    """Differences of paired units (the same drawn settings, or the same seeds), None where nothing is paired."""
    if target == "grid":
        return None
    if target == "space":
        same = a.strata == b.strata and len(set(a.strata)) == len(a.strata)
        whole = same and bool((a.cells.runs > 0).all() and (b.cells.runs > 0).all())
        return _units(a, target) - _units(b, target) if whole else None
    width = min(a.values.shape[1], b.values.shape[1])
    differences = a.weights @ a.values[:, :width] - b.weights @ b.values[:, :width]
    return np.asarray(differences[~np.isnan(differences)])


def p_value(a: Arm, b: Arm, target: Target) -> float:
    """Two-sided p: stratified permutation of the weighted share (grid), else sign flips or permuted cell shares."""
    if target == "grid":
        return permutation_p(matched(a, b))
    paired = paired_units(a, b, target)
    if paired is not None:
        return sign_flip_p(paired)
    shares = _units(a, target), _units(b, target)
    if min(map(len, shares)) < 2:
        return math.nan
    rng = np.random.default_rng(0)
    found = stats.permutation_test(shares, lambda x, y: np.mean(x) - np.mean(y), n_resamples=9999, rng=rng)
    return float(found.pvalue)


def matched(a: Arm, b: Arm) -> Strata:
    """The two arms on their common strata; cells of one stratum (other penalty weights) are pooled."""
    pooled_a, pooled_b = _pooled(a), _pooled(b)
    names = [name for name in pooled_a if name in pooled_b]
    rows_a = np.array([pooled_a[name] for name in names]).reshape(-1, 3)
    rows_b = np.array([pooled_b[name] for name in names]).reshape(-1, 3)
    return Strata(
        weights=rows_a[:, 0],
        successes_a=rows_a[:, 1].astype(np.int64),
        runs_a=rows_a[:, 2].astype(np.int64),
        successes_b=rows_b[:, 1].astype(np.int64),
        runs_b=rows_b[:, 2].astype(np.int64),
    )


def _pooled(arm: Arm) -> dict[str, Floats]:
    """Stratum -> (weight, successes, runs), in the order of the cells."""
    pooled: dict[str, Floats] = {}
    cells = arm.cells
    for name, *numbers in zip(arm.strata, cells.weights, cells.successes, cells.runs, strict=True):
        pooled[name] = pooled.get(name, np.zeros(3)) + np.array(numbers)
    return pooled
