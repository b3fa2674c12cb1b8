"""Losses against each other: cells, shares with intervals, and a verdict for every pair.

Every number is a pure function of ``runs`` and the declared design; the order of the rows never matters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import UNSTABLE, UNUSED, Arm, build_arm, event, p_value, share
from analysis.cautions import warnings_list
from analysis.estimators import holm, trapezoid, wilson
from analysis.frames import StudyFrames
from analysis.headline import headline
from analysis.refusals import ADAPTIVE, REASONS
from analysis.verdicts import UNDETERMINED, Rule, decide
from analysis.weights import inference_target, weights
from study.outcomes import OUTCOMES

__all__ = [
    "by_success",
    "cells_table",
    "compare",
    "contrasts_table",
    "headline",
    "losses_table",
    "rank_intervals",
    "warnings_list",
    "weights",
]

ENDINGS: tuple[str, ...] = tuple(name for name in OUTCOMES if name not in UNUSED)
"""The outcomes that count in the denominator."""

DELTA = 0.10  # smallest difference in success that matters
ALPHA = 0.05

LOSS_COLUMNS: tuple[str, ...] = (
    "loss",
    "success",
    "success_low",
    "success_high",
    "unstable",
    "converged",
    "collapsed",
    "oscillating",
    "diverged",
    "under_trained",
    "plateau",
    "lr_decades",
    "runs_planned",
    "runs_used",
    "runs_failed",
    "censored",
    "unstable_low",
    "unstable_high",
    "partial_collapse",
    "lr_decades_k",
    "lr_decades_lower_bound",
    "span",
    "cells",
    "cells_empty",
    "success_worst",
    "success_best",
    "n_eff",
    "target",
)

COUNTED: frozenset[str] = frozenset(
    {"loss", "runs_planned", "runs_used", "runs_failed", "censored", "cells", "cells_empty", "target"}
)
"""What losses.csv says of a study whose settings an adaptive sampler chose."""

CONTRAST_COLUMNS: tuple[str, ...] = (
    "loss_a",
    "loss_b",
    "difference",
    "low",
    "high",
    "low_95",
    "high_95",
    "p_exact",
    "p_holm",
    "verdict",
    "seeds_needed",
    "seeds_note",
    "verdict_kind",
    "winner",
    "low_90",
    "high_90",
    "low_worst",
    "high_best",
    "unstable_difference",
    "unstable_low",
    "unstable_high",
    "unstable_verdict",
    "crossing",
    "target",
)


def compare(frames: StudyFrames, *, delta: float = DELTA, alpha: float = ALPHA) -> dict[str, pd.DataFrame]:
    """All tables of the comparison: ``cells``, ``losses`` and ``contrasts``."""
    return {
        "cells": cells_table(frames),
        "losses": losses_table(frames),
        "contrasts": contrasts_table(frames, delta=delta, alpha=alpha),
    }


def cells_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per declared cell: its weight, runs planned / used / failed, a count per outcome, Wilson's interval.

    ``success`` and ``unstable`` are shares of the runs used (NaN where none was); ``modal_failure`` is the most
    frequent ending that is not converged, in case of a tie the one named first in the report's order.
    """
    frames = frames.explored
    design = weights(frames)
    counts = _counts(frames.runs)
    table = design.merge(counts, on=["loss", "configuration_key"], how="left")
    numbers = [c for c in counts.columns if c not in ("loss", "configuration_key", "adversarial_loss", "penalty")]
    table[numbers] = table[numbers].fillna(0).astype(np.int64)
    used = table["used"].where(table["used"] > 0).astype(float)
    table["success"] = table["converged"] / used
    limits = [wilson(s, n) for s, n in zip(table["success"], table["used"], strict=True)]
    table["success_low"] = [low for low, _ in limits]
    table["success_high"] = [high for _, high in limits]
    table["unstable"] = table[[*sorted(UNSTABLE), "partial_collapse"]].sum(axis=1) / used
    table["modal_failure"] = [_modal_failure(row) for row in table[list(ENDINGS)].to_dict("records")]
    names = ["configuration_key", "loss", "adversarial_loss", "penalty"]
    return table[[*names, *(c for c in table.columns if c not in names)]]


def _counts(runs: pd.DataFrame) -> pd.DataFrame:
    groups = ["loss", "configuration_key"]
    flags = {name: (runs["outcome"] == name) for name in OUTCOMES}
    flags["partial_collapse"] = (runs["outcome"] == "plateau") & (runs["kind"] == "partial_collapse")
    used = ~runs["outcome"].isin(list(UNUSED))
    table = pd.DataFrame({"planned": 1, "used": used, **flags}).astype(np.int64)
    table = pd.concat([runs[groups], table], axis=1).groupby(groups, as_index=False).sum()
    names = runs[[*groups, "adversarial_loss", "penalty"]].drop_duplicates(groups)
    return names.merge(table, on=groups)


def _modal_failure(counts: Mapping[Any, Any]) -> str:
    failures = {name: int(counts[name]) for name in ENDINGS if name != "converged"}
    worst = max(failures, key=lambda name: failures[name])
    return worst if failures[worst] > 0 else ""


def arms(
    frames: StudyFrames,
    outcomes: tuple[str, ...] = ("converged",),
    *,
    kinds: tuple[str, ...] = (),
    design: pd.DataFrame | None = None,
) -> dict[str, Arm]:
    """The arm of every label for one event: the runs that ended in ``outcomes`` (or as a plateau of ``kinds``).

    ``design``: the study's ``weights`` where they are known already; they do not depend on how runs ended.
    """
    frames = frames.explored
    design = weights(frames) if design is None else design
    values = event(frames.runs, outcomes, kinds=kinds)
    built = {}
    for label in frames.labels():
        own = (frames.runs["loss"] == label).to_numpy()
        built[label] = build_arm(design[design["loss"] == label], frames.runs[own], values[own])
    return built


def unstable_arms(frames: StudyFrames, *, design: pd.DataFrame | None = None) -> dict[str, Arm]:
    """The arms for the unstable share: diverged, collapsed, oscillating, or partly collapsed."""
    return arms(frames, tuple(sorted(UNSTABLE)), kinds=("partial_collapse",), design=design)


def losses_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label, in the study's order: weighted shares of every ending, with intervals for success.

    ``success_worst`` and ``success_best`` count every planned but unused run as a failure and as a success.
    ``lr_decades`` integrates success over log10 learning rate for each k and takes the largest (NaN with one
    learning rate); with ``lr_decades_lower_bound`` it may go on outside the range ``span`` (decades).
    Where an adaptive sampler chose the settings only counts are given: every share is NaN.
    """
    frames = frames.explored
    target = inference_target(frames)
    cells = cells_table(frames)
    success, unstable = arms(frames), unstable_arms(frames)
    rows: list[dict[str, object]] = []
    for label in frames.labels():
        own = cells[cells["loss"] == label]
        found, shaky = share(success[label], target), share(unstable[label], target)
        rows.append(
            {"loss": label, "success": found.value, "success_low": found.low, "success_high": found.high}
            | {"unstable": shaky.value, "unstable_low": shaky.low, "unstable_high": shaky.high}
            | {name: _weighted(own, name) for name in (*ENDINGS, "partial_collapse")}
            | _rate_robustness(own)
            | _flow(own)
            | {"success_worst": _bound(success[label], 0.0), "success_best": _bound(success[label], 1.0)}
            | {"n_eff": found.n_eff, "target": target}
        )
    table = pd.DataFrame(rows, columns=list(LOSS_COLUMNS))
    return _refused(table) if frames.adaptive else table


def _refused(losses: pd.DataFrame) -> pd.DataFrame:
    """Counts without shares: good settings are over-represented, differently for each loss."""
    shares = [name for name in LOSS_COLUMNS if name not in COUNTED]
    return losses.assign(**{**dict.fromkeys(shares, math.nan), "lr_decades_lower_bound": False})


def _weighted(cells: pd.DataFrame, ending: str) -> float:
    """Weighted share of one ending over the cells that have runs; NaN where none has."""
    seen = cells[cells["used"] > 0]
    mass = float(seen["weight"].sum())
    return float((seen["weight"] * seen[ending] / seen["used"]).sum()) / mass if mass > 0 else math.nan


def _flow(cells: pd.DataFrame) -> dict[str, int]:
    return {
        "runs_planned": int(cells["planned"].sum()),
        "runs_used": int(cells["used"].sum()),
        "runs_failed": int(cells["failed"].sum()),
        "censored": int(cells["censored"].sum()),
        "cells": len(cells),
        "cells_empty": int((cells["used"] == 0).sum()),
    }


def _bound(arm: Arm, value: float) -> float:
    """Manski's bound: unused runs end as ``value``, and so does the weight of a cell that nobody planned."""
    cells = arm.filled(value).cells
    seen = cells.runs > 0
    observed = float(np.sum(cells.weights[seen] * cells.successes[seen] / cells.runs[seen]))
    return min(1.0, observed + value * float(cells.weights[~seen].sum()))


def _rate_robustness(cells: pd.DataFrame) -> dict[str, object]:
    """Decades of learning rate that work: the integral of p over log10 learning rate, at the k where it is largest.

    A cell without runs counts as 0 and makes the number a lower bound.
    """
    rated = cells[cells["learning_rate"].notna()]
    rates = rated["learning_rate"].astype(float)
    best: tuple[float, float, bool] = (math.nan, math.nan, False)
    if rates.nunique() < 2 or not (rated["used"] > 0).any():
        return _decades(best, 0.0)
    for k, group in rated.assign(rate=rates).groupby("k", sort=True, dropna=False):
        curve = group["success"].fillna(0.0).groupby(group["rate"], sort=True).mean()
        decades = float(np.sum(trapezoid(np.log10(curve.index.to_numpy(dtype=float))) * curve.to_numpy()))
        edge = float(max(curve.iloc[0], curve.iloc[-1]))
        open_ended = (edge > 0 and edge >= float(curve.max()) / 2) or bool(group["success"].isna().any())
        if math.isnan(best[0]) or decades > best[0]:
            best = (decades, float(str(k)), open_ended)
    return _decades(best, math.log10(rates.max() / rates.min()))


def _decades(best: tuple[float, float, bool], span: float) -> dict[str, object]:
    return {"lr_decades": best[0], "lr_decades_k": best[1], "lr_decades_lower_bound": best[2], "span": span}


def contrasts_table(frames: StudyFrames, *, delta: float = DELTA, alpha: float = ALPHA) -> pd.DataFrame:
    """Every pair of labels once, in the study's order: difference in success, intervals, tests and the verdict.

    ``low`` and ``high`` are simultaneous (level alpha over the pairs), ``low_95`` and ``high_95`` are not;
    the verdict is read from ``low_worst`` and ``high_best``, which also allow for runs that are missing. Where an
    adaptive sampler chose the settings nothing is compared.
    """
    frames = frames.explored
    target = inference_target(frames)
    success, unstable = arms(frames), unstable_arms(frames)
    pairs = list(itertools.combinations(frames.labels(), 2))
    if frames.adaptive:
        open_ = {"verdict": UNDETERMINED, "verdict_kind": UNDETERMINED, "winner": "", "seeds_note": REASONS[ADAPTIVE]}
        rest = {"crossing": False, "unstable_verdict": "", "target": target}
        rows = [{"loss_a": a, "loss_b": b, **open_, **rest} for a, b in pairs]
        return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS)).astype({"seeds_needed": "Int64"})
    p_values = [p_value(success[a], success[b], target) for a, b in pairs]
    pruned = set(frames.runs.loc[frames.runs["outcome"] == "censored", "loss"])
    rows = []
    for (a, b), p, p_holm in zip(pairs, p_values, holm(p_values), strict=True):
        rule = Rule(delta=delta, alpha=alpha, pairs=len(pairs), target=target, pruned=bool({a, b} & pruned))
        decided = decide((a, b), (success[a], success[b]), (unstable[a], unstable[b]), rule)
        rows.append({"loss_a": a, "loss_b": b, **decided, "p_exact": p, "p_holm": p_holm, "target": target})
    return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS)).astype({"seeds_needed": "Int64"})


def by_success(losses: pd.DataFrame) -> list[str]:
    """Labels in the order of every table and figure of the page: highest success first, unknown shares last.

    Where no share over the space is known, tuned success decides.
    """
    by = "tuned" if "tuned" in losses and losses["success"].isna().all() else "success"
    ranked = losses.sort_values(by, ascending=False, kind="stable", na_position="last")
    return [str(label) for label in ranked["loss"]]


def rank_intervals(losses: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """Simultaneous rank interval of each label: 1 + those clearly better to J minus those clearly worse.

    "Clearly" is read from the simultaneous interval with missing runs at their worst (``low_worst``, ``high_best``).
    """
    labels = [str(label) for label in losses["loss"]]
    better = dict.fromkeys(labels, 0)
    worse = dict.fromkeys(labels, 0)
    for row in contrasts.to_dict("records"):
        ahead, behind = row["loss_a"], row["loss_b"]
        if row["high_best"] < 0:
            ahead, behind = behind, ahead
        elif not row["low_worst"] > 0:
            continue
        better[behind] += 1
        worse[ahead] += 1
    best = [1 + better[label] for label in labels]
    return pd.DataFrame({"loss": labels, "rank_best": best, "rank_worst": [len(labels) - worse[x] for x in labels]})
