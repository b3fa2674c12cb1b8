"""Final quality with failures at the worst rank: who is better run for run, quantiles, and the tail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import MIN_DRAWN_CELLS, Arm, build_arm
from analysis.bounded import score_interval, shrunken_variance
from analysis.estimators import Estimate, Floats, mean_of_units
from analysis.frames import StudyFrames
from analysis.weights import Target, inference_target, weights
from analysis.wording import mapping

WORST_RANK: frozenset[str] = frozenset({"diverged", "collapsed"})
"""Endings whose final distance is no quality: a diverged run has none, a collapsed one may have a low one."""

MEANINGFUL = 0.75
"""From here on a probability of being better is worth having; Bouthillier et al. 2021, arXiv:2103.03098."""

TAIL = 0.25
MEAN_ONLY = 1.0
"""u of a generator that knows the data's mean only: what a failure counts in the capped tail."""

QUALITY_COLUMNS: tuple[str, ...] = ("loss", "u_50", "u_75", "u_90", "u_tail", "u_tail_capped", "worst_rank", "runs")
SUPERIORITY_COLUMNS: tuple[str, ...] = (
    "loss_a",
    "loss_b",
    "better",
    "better_low",
    "better_high",
    "cliffs_delta",
    "cliffs_delta_low",
    "cliffs_delta_high",
    "reading",
    "cells",
    "target",
)


def superiority(a: Floats, b: Floats) -> float:
    """P(A < B) + P(A = B) / 2 for one run of each: ``a`` and ``b`` hold lower-is-better numbers, +inf for failures.

    Mann & Whitney's U over the number of pairs; Cliff's delta is 2 P - 1 (Cliff 1993, Psychol Bull 114:494).
    ValueError: an array is empty or holds NaN.
    """
    if not len(a) or not len(b) or np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("superiority needs at least one run on each side and no NaN: code a failure as +inf")
    return float(placements(a, b).mean())


def placements(own: Floats, other: Floats) -> Floats:
    """For each run of ``own`` the share of ``other`` that it beats (is below), ties half, [len(own)]."""
    ascending = np.sort(other)
    above = len(other) - np.searchsorted(ascending, own, side="right")
    tied = len(other) - np.searchsorted(ascending, own, side="left") - above
    return np.asarray((above + tied / 2) / len(other))


def placement_variance(a: Floats, b: Floats) -> float:
    """Variance of ``superiority``: that of A's placements over n_A plus that of B's over n_B, both shrunken.

    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837, with ``shrunken_variance`` for small samples.
    """
    return shrunken_variance(placements(a, b)) / len(a) + shrunken_variance(placements(b, a)) / len(b)


Matched = Sequence[tuple[float, Floats, Floats]]
"""(weight, runs of A, runs of B) for every cell that both arms have."""


def mean_superiority(matched: Matched, *, alpha: float = 0.05) -> Estimate:
    """``superiority`` averaged over matched cells (weights are rescaled to 1), for independent seeds on this grid.

    Wilson's interval at the effective n, which is at least that of min(n_A, n_B) independent comparisons a cell
    (Birnbaum & Klose 1957: Var <= P (1 - P) / min(n_A, n_B)). No matched cell: NaN in (0, 1).
    """
    total = sum(weight for weight, _, _ in matched)
    if total <= 0:
        return Estimate(value=math.nan, low=0.0, high=1.0, n_eff=0.0)
    value = variance = floor = 0.0
    for weight, a, b in matched:
        value += weight / total * superiority(a, b)
        variance += (weight / total) ** 2 * placement_variance(a, b)
        floor += (weight / total) ** 2 / min(len(a), len(b))
    return score_interval(min(1.0, value), variance, floor=1 / floor, alpha=alpha)


def matched_cells(a: Arm, b: Arm) -> Matched:
    """The runs of two arms in their common strata; cells of one stratum (other penalty weights) are pooled."""
    first, second = _by_stratum(a), _by_stratum(b)
    return [(first[name][0], first[name][1], second[name][1]) for name in first if name in second]


def _by_stratum(arm: Arm) -> dict[str, tuple[float, Floats]]:
    """Stratum -> (weight, known runs), without strata that have none."""
    found: dict[str, tuple[float, Floats]] = {}
    for name, weight, row in zip(arm.strata, arm.weights, arm.values, strict=True):
        held, runs = found.get(name, (0.0, np.zeros(0)))
        found[name] = held + float(weight), np.append(runs, row[~np.isnan(row)])
    return {name: (weight, runs) for name, (weight, runs) in found.items() if len(runs) and weight > 0}


def superiority_of(a: Arm, b: Arm, target: Target, *, alpha: float = 0.05) -> Estimate:
    """``mean_superiority`` with the interval that the design earns, as ``share`` does for shares of success.

    ``space``: t over the drawn settings that both arms have, refused below 8. ``sweeps``: t over the pseudo-values of
    a jackknife that leaves out one sweep of shared seeds at a time.
    """
    matched = matched_cells(a, b)
    found = mean_superiority(matched, alpha=alpha)
    if target == "grid" or math.isnan(found.value):
        return found
    units = np.array([superiority(x, y) for _, x, y in matched]) if target == "space" else _pseudo_values(a, b)
    if len(units) < (MIN_DRAWN_CELLS if target == "space" else 2):
        return Estimate(value=found.value, low=0.0, high=1.0, n_eff=float(len(units)))
    if np.ptp(units) == 0:  # equal units have no spread to learn from, yet are not certain
        return score_interval(found.value, 0.0, floor=len(units), alpha=alpha)
    spread = mean_of_units(units, alpha=alpha)
    low, high = spread.low - spread.value, spread.high - spread.value
    return Estimate(
        value=found.value,
        low=max(0.0, found.value + low),
        high=min(1.0, found.value + high),
        n_eff=float(len(units)),
    )


def _pseudo_values(a: Arm, b: Arm) -> Floats:
    """R P - (R - 1) P without sweep r, for every sweep r."""
    width = min(a.values.shape[1], b.values.shape[1])
    whole = _mean_of(a, b, [])
    left_out = np.array([_mean_of(a, b, [r]) for r in range(width)])
    return np.asarray(width * whole - (width - 1) * left_out[~np.isnan(left_out)])


def _mean_of(a: Arm, b: Arm, without: list[int]) -> float:
    def trimmed(arm: Arm) -> Arm:
        values, planned = np.delete(arm.values, without, axis=1), np.delete(arm.planned, without, axis=1)
        return Arm(weights=arm.weights, strata=arm.strata, values=values, planned=planned)

    matched = matched_cells(trimmed(a), trimmed(b))
    total = sum(weight for weight, _, _ in matched)
    return sum(weight * superiority(x, y) for weight, x, y in matched) / total if total > 0 else math.nan


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Smallest value v with P(X <= v) >= ``share``, for runs with ``weights`` (+inf sorts last); NaN without runs."""
    if not len(values):
        return math.nan
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, share - 1e-12)])


def tail_mean(values: Floats, weights: Floats, *, share: float = TAIL, cap: float = math.inf) -> float:
    """Mean of the worst ``share`` of the runs (CVaR): (1/a) integral of the quantile function over (1 - a, 1).

    A run on the border counts with the part of its weight that is inside; any failure there makes it infinite
    unless ``cap`` says what a failure counts. Rockafellar & Uryasev 2000; Chan et al. 2020, arXiv:1912.05663.
    """
    if not len(values):
        return math.nan
    worst = np.argsort(-values, kind="stable")
    reached = np.minimum(np.cumsum(weights[worst]) / weights.sum(), share)
    parts = np.diff(np.append(0.0, reached))
    inside = parts > 1e-12
    return float(parts[inside] @ np.minimum(values[worst][inside], cap)) / float(parts[inside].sum())


def final_u(frames: StudyFrames) -> Floats:
    """Every run's final u, +inf where it ended in WORST_RANK, NaN where it was not used or has no distance.

    u = (distance - d_real) / (d_ref - d_real), by the reference of the run's own target.
    """
    scales = _scales(frames)
    outcome, keys = frames.runs["outcome"], frames.runs["configuration_key"].astype(str)
    real = np.array([scales.get(key, (math.nan, math.nan))[0] for key in keys])
    span = np.array([scales.get(key, (math.nan, math.nan))[1] for key in keys])
    distance = pd.to_numeric(frames.runs.get("final_distance", pd.Series(math.nan, frames.runs.index)), errors="coerce")
    u = (distance.to_numpy(dtype=np.float64) - real) / span
    u = np.where(outcome.isin(list(WORST_RANK)), np.inf, u)
    return np.asarray(np.where(outcome.isin(["failed", "censored"]), np.nan, u))


def _scales(frames: StudyFrames) -> dict[str, tuple[float, float]]:
    """configuration_key -> (d_real, d_ref - d_real) of its target, where the reference tells both."""
    targets = mapping(frames.reference.get("targets"))
    found: dict[str, tuple[float, float]] = {}
    entries: Any = frames.plan.get("configurations") or ()
    for entry in entries:
        reference = mapping(targets.get(str(entry.get("target_id"))))
        real, ref = reference.get("d_real"), reference.get("d_ref")
        if isinstance(real, int | float) and isinstance(ref, int | float) and ref > real:
            found[str(entry["configuration_key"])] = float(real), float(ref) - float(real)
    return found


def quality_arms(frames: StudyFrames) -> dict[str, Arm]:
    """The arm of every label with final u in place of an event."""
    design, values = weights(frames), final_u(frames)
    own = {label: (frames.runs["loss"] == label).to_numpy() for label in frames.labels()}
    return {
        label: build_arm(design[design["loss"] == label], frames.runs[rows], values[rows])
        for label, rows in own.items()
    }


def quality_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label: weighted quantiles of final u and the mean of its worst quarter, failures at +inf.

    ``u_tail_capped`` counts nothing worse than a generator that knows the mean only; ``worst_rank`` is the weighted
    share of runs at +inf.
    """
    rows = [{"loss": label, **_quality(arm)} for label, arm in quality_arms(frames).items()]
    return pd.DataFrame(rows, columns=list(QUALITY_COLUMNS))


def _quality(arm: Arm) -> dict[str, float]:
    known = ~np.isnan(arm.values)
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    values, mass = arm.values[known], np.broadcast_to(arm.weights[:, None] / counts, arm.values.shape)[known]
    quantiles = {f"u_{q}": weighted_quantile(values, mass, q / 100) for q in (50, 75, 90)}
    worst = float(mass[np.isinf(values)].sum() / mass.sum()) if len(values) else math.nan
    tails = {"u_tail": tail_mean(values, mass), "u_tail_capped": tail_mean(values, mass, cap=MEAN_ONLY)}
    return {**quantiles, **tails, "worst_rank": worst, "runs": len(values)}


def superiority_table(frames: StudyFrames, *, alpha: float = 0.05) -> pd.DataFrame:
    """Every pair of labels once: how often a run of A ends better than a run of B in the same cell (exploratory)."""
    target, built = inference_target(frames), quality_arms(frames)
    rows: list[Mapping[str, object]] = []
    for a, b in itertools.combinations(frames.labels(), 2):
        found = superiority_of(built[a], built[b], target, alpha=alpha)
        rows.append(
            {"loss_a": a, "loss_b": b, "better": found.value, "better_low": found.low, "better_high": found.high}
            | {"cliffs_delta": 2 * found.value - 1, "reading": reading(found)}
            | {"cliffs_delta_low": 2 * found.low - 1, "cliffs_delta_high": 2 * found.high - 1}
            | {"cells": len(matched_cells(built[a], built[b])), "target": target}
        )
    return pd.DataFrame(rows, columns=list(SUPERIORITY_COLUMNS))


def reading(found: Estimate) -> str:
    """Three zones of Bouthillier et al. 2021: not shown; shown but small; shown and possibly meaningful."""
    low, high = (found.low, found.high) if found.value >= 0.5 else (1 - found.high, 1 - found.low)
    if math.isnan(found.value) or low <= 0.5:
        return "not shown"
    return "shown, may be meaningful" if high > MEANINGFUL else "shown, small"
