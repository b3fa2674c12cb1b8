"""What tuning buys: success at the selected setting, scored on replicates that did not select it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import arms, cells_table
from analysis.estimators import Floats
from analysis.frames import StudyFrames
from analysis.weights import weights

REPORTED_BUDGETS: tuple[int, ...] = (1, 4, 16, 64)
"""Settings tried, after Sivaprasad et al. 2020, arXiv:1910.11758."""

LOTTERY_RUNS = 5

TUNED_COLUMNS: tuple[str, ...] = (
    "loss",
    "tuned",
    "tuned_failure",
    "failure_in_five",
    "tuned_naive",
    "tuned_key",
    "tuned_k",
    "tuned_learning_rate",
    "tuned_ties",
    "settings",
)

BUDGET_COLUMNS: tuple[str, ...] = ("loss", "settings", "tuned", "tuned_by_weight", "naive", "naive_with_replacement")


def expected_best(values: Floats, budget: int) -> float:
    """Expected largest of ``budget`` values drawn without replacement: sum_i v_(i) C(i-1, B-1) / C(n, B).

    The U-statistic, unbiased for the expected best of B fresh draws; Tang et al. 2020, ACL, p. 5682.
    ValueError: ``budget`` is below 1 or above the number of values.
    """
    ascending = np.sort(values)
    return float(ascending @ without_replacement(len(values), budget))


def expected_best_with_replacement(values: Floats, budget: int) -> float:
    """Expected largest of ``budget`` values drawn with replacement: sum_i v_(i) [(i/n)^B - ((i-1)/n)^B].

    The V-statistic: biased low, lower mean squared error; Dodge et al. 2019, arXiv:1909.03004, eq. 7, and 2021.
    """
    n = len(values)
    return float(np.sort(values) @ with_replacement(np.full(n, 1 / n), budget))


def without_replacement(count: int, budget: int) -> Floats:
    """Chance that the i-th smallest of ``count`` values is the largest of ``budget`` drawn without replacement."""
    if not 1 <= budget <= count:
        raise ValueError(f"budget must be between 1 and the {count} values, got {budget}")
    total = math.comb(count, budget)
    return np.array([math.comb(i, budget - 1) / total for i in range(count)])


def with_replacement(chances: Floats, budget: int) -> Floats:
    """Chance that each value, in ascending order, is the largest of ``budget`` drawn with these ``chances``."""
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}")
    reached = np.append(0.0, np.cumsum(chances / chances.sum()))
    return np.asarray(np.diff(reached**budget))


def tuned_success(values: Floats, *, budget: int | None = None, weights: Floats | None = None) -> float:
    """Cross-fitted success of the best of ``budget`` settings (None: of all): selected without the scoring replicate.

    ``values`` [settings, replicates]: 1, 0 or NaN. For each replicate r the settings are ranked by their share of
    success on the other replicates; the winner is scored on r; the scores are averaged. Tied settings share the
    score (the expectation of a random pick); a replicate in which no winner is known is left out. Without
    ``weights`` the settings tried are a random subset; with them, independent draws with those chances, so that one
    draw gives the weighted share. NaN without a setting of two known replicates. Leave-one-out: Stone 1974.
    """
    known = ~np.isnan(values)
    usable = known.sum(axis=1) >= 2
    values, known = values[usable], known[usable]
    if not len(values):
        return math.nan
    chances = None if weights is None else weights[usable]
    size = len(values) if budget is None else budget
    scores = [_score(values, known, replicate, size, chances) for replicate in range(values.shape[1])]
    scored = [score for score in scores if not math.isnan(score)]
    return float(np.mean(scored)) if scored else math.nan


def _score(
    values: Floats, known: np.ndarray[Any, np.dtype[np.bool_]], replicate: int, budget: int, chances: Floats | None
) -> float:
    """Expected result on one replicate of the setting that the other replicates select."""
    others = np.delete(np.where(known, values, 0.0), replicate, axis=1).sum(axis=1)
    counts = np.delete(known, replicate, axis=1).sum(axis=1)
    standing = np.round(others / counts, 12)  # equal shares of different counts are ties, whatever the rounding
    levels, group = np.unique(standing, return_inverse=True)
    order = np.argsort(standing, kind="stable")
    spread = without_replacement(len(values), budget) if chances is None else with_replacement(chances[order], budget)
    picked = np.bincount(group[order], weights=spread, minlength=len(levels))
    result, share = values[:, replicate], np.ones(len(values)) if chances is None else chances
    seen = known[:, replicate]
    mass = np.bincount(group[seen], weights=share[seen], minlength=len(levels))
    total = np.bincount(group[seen], weights=(share * np.where(seen, result, 0.0))[seen], minlength=len(levels))
    told = mass > 0
    chance = float(picked[told].sum())
    return float(picked[told] @ (total[told] / mass[told])) / chance if chance > 0 else math.nan


def failure_in(runs: int, success: float) -> float:
    """Chance of at least one failure in ``runs`` runs of one setting: 1 - S^n.

    With S the expected success of the selected setting it is an upper bound (Jensen: E[p^n] >= E[p]^n).
    """
    return 1 - success**runs


def tuned_success_of(frames: StudyFrames, label: str) -> float:
    """``tuned_success`` of all the settings of one label: what the search alone can promise."""
    return tuned_success(arms(frames)[label].values)


def tuned_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label: S* (``tuned``), F* = 1 - S*, chance of a failure in five runs, and the setting selected.

    ``tuned_naive`` is the largest share seen, which selection inflates; ``tuned_key`` the setting with it (the
    largest weight first among ``tuned_ties``). No interval: resampling settings is invalid for a maximum, only fresh
    replicates of the selected setting give one (``wilson``).
    """
    cells, built = cells_table(frames), arms(frames)
    rows = []
    for label in frames.labels():
        arm = built[label]
        star = tuned_success(arm.values)
        row = {"loss": label, "tuned": star, "tuned_failure": 1 - star, "settings": len(arm.weights)}
        row |= {"failure_in_five": failure_in(LOTTERY_RUNS, star)}
        rows.append(row | _selected(cells[cells["loss"] == label]))
    return pd.DataFrame(rows, columns=list(TUNED_COLUMNS))


def _selected(cells: pd.DataFrame) -> dict[str, object]:
    """The setting with the largest share of success; among equals the one of largest weight, then the first."""
    best = float(cells["success"].max()) if cells["success"].notna().any() else math.nan
    tied = cells[cells["success"] == best].sort_values("weight", ascending=False, kind="stable")
    if not best > 0:  # nothing succeeded: no setting is selected
        return {"tuned_naive": best, "tuned_key": "", "tuned_ties": len(tied)}
    first = tied.iloc[0]
    names = {f"tuned_{name}": first[name] for name in ("k", "learning_rate")}
    return {"tuned_naive": best, "tuned_key": first["configuration_key"], "tuned_ties": len(tied), **names}


def budget_table(frames: StudyFrames, budgets: Sequence[int] | None = None) -> pd.DataFrame:
    """S*(B), the expected success of the best of B settings: one row per label and B, up to half of the settings.

    ``tuned`` tries B different settings, ``tuned_by_weight`` draws B from the declared space (B = 1: the weighted
    share S); both are cross-fitted. ``naive`` and ``naive_with_replacement`` (U- and V-statistic) select and score on
    the same replicates and so promise too much. Where an adaptive sampler chose the settings they are no draws from
    the space: see ``searched_table``.
    """
    if frames.adaptive:
        return searched_table(frames)
    rows = []
    for label, arm in arms(frames).items():
        cells = arm.cells
        shares = cells.successes[cells.runs > 0] / cells.runs[cells.runs > 0]
        most = int(((~np.isnan(arm.values)).sum(axis=1) >= 2).sum()) if arm.values.size else 0
        for budget in budgets or curve_budgets(len(shares)):
            if not 1 <= budget <= most:
                continue
            rows.append(
                {
                    "loss": label,
                    "settings": budget,
                    "tuned": tuned_success(arm.values, budget=budget),
                    "tuned_by_weight": tuned_success(arm.values, budget=budget, weights=arm.weights),
                    "naive": expected_best(shares, budget),
                    "naive_with_replacement": expected_best_with_replacement(shares, budget),
                }
            )
    return pd.DataFrame(rows, columns=list(BUDGET_COLUMNS))


def curve_budgets(settings: int) -> list[int]:
    """1, 2, 4, ... and the reported budgets, up to half of the settings: beyond, few settings decide everything."""
    half = max(1, settings // 2)
    doubling = {2**i for i in range(settings.bit_length())} | set(REPORTED_BUDGETS) | {half}
    return sorted(budget for budget in doubling if budget <= half)


def searched_table(frames: StudyFrames) -> pd.DataFrame:
    """The budget curve of a sequential search, columns BUDGET_COLUMNS: the best of its first B settings.

    A later suggestion depends on earlier results, so that no average over other orders is possible: ``settings`` is
    how many had been tried, ``tuned`` the cross-fitted success of the best of them (NaN with one replicate each) and
    ``naive`` the share seen there.
    """
    explored = frames.explored
    rows = []
    for label, arm in arms(explored).items():
        own = explored.runs[explored.runs["loss"] == label]
        design = weights(explored)
        cells = list(design.loc[design["loss"] == label, "configuration_key"])
        order = [cells.index(key) for key in dict.fromkeys(own["configuration_key"])]
        values = arm.values[order]
        for budget in doubling_budgets(len(values)):
            first = values[:budget]
            known = (~np.isnan(first)).sum(axis=1)
            shares = np.nansum(first, axis=1)[known > 0] / known[known > 0]
            if len(shares):
                found = {"tuned": tuned_success(first), "naive": float(shares.max())}
                rows.append({"loss": label, "settings": budget, **found})
    return pd.DataFrame(rows, columns=list(BUDGET_COLUMNS))


def doubling_budgets(settings: int) -> list[int]:
    """1, 2, 4, ... and all of them."""
    return sorted({2**i for i in range(settings.bit_length())} | {settings}) if settings else []
