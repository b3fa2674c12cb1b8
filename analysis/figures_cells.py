"""Counts per (loss, k, learning rate): the table behind the phase diagrams and the learning-rate response."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import UNUSED
from analysis.estimators import wilson
from analysis.figures_style import OUTCOMES

MOST_COLUMNS = 14
"""More distinct learning rates than this (a random search) are gathered into equal steps of their logarithm."""
PHASE_COLUMNS = (
    "loss",
    "k",
    "learning_rate",
    "settings",
    "planned",
    "judged",
    "converged",
    "share",
    "low",
    "high",
    "undecided",
    "modal_failure",
    "modal_kind",
    "outcomes",
)


def rate_factor(runs: pd.DataFrame) -> str | None:
    """The column on the learning-rate axis: the common rate, or the generator's; None where neither is given."""
    for name in ("learning_rate", "generator_learning_rate"):
        if name in runs and pd.to_numeric(runs[name], errors="coerce").notna().any():
            return name
    return None


def cell_of(runs: pd.DataFrame) -> pd.DataFrame:
    """For every run, in its order, the cell of the map it belongs to: loss, k, learning_rate; key, outcome, kind."""
    factor = rate_factor(runs)
    return pd.DataFrame(
        {
            "loss": runs["loss"].astype(str),
            "k": runs.get("k", math.nan),
            "learning_rate": _binned(runs[factor]) if factor else math.nan,
            "key": runs["configuration_key"],
            "outcome": runs["outcome"].astype(str),
            "kind": runs["kind"].fillna("").astype(str) if "kind" in runs else "",
        }
    )


def phase_table(runs: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Counts per (loss, k, learning rate), columns PHASE_COLUMNS; settings that differ in other factors are pooled.

    ``share`` = converged / judged with its 95 % Wilson interval; ``undecided`` = that interval holds one half.
    """
    cells = cell_of(runs)
    rank = {label: i for i, label in enumerate(order)}
    groups = cells.groupby(["loss", "k", "learning_rate"], dropna=False, sort=True)
    rows = [_phase_row(name, cell) for name, cell in groups]
    table = pd.DataFrame(rows, columns=list(PHASE_COLUMNS))
    position = table["loss"].map(rank).fillna(len(rank)) if len(table) else table["loss"]
    return (
        table.assign(_position=position)
        .sort_values(["_position", "loss", "k", "learning_rate"], kind="stable")
        .drop(columns="_position")
        .reset_index(drop=True)
    )


def _binned(rates: pd.Series) -> pd.Series:
    """Learning rates, gathered into MOST_COLUMNS // 2 equal logarithmic bins (their centres) where there are many."""
    values = pd.to_numeric(rates, errors="coerce")
    positive = values[values > 0]
    if values.nunique() <= MOST_COLUMNS or len(positive) < len(values):
        return values
    edges = np.linspace(math.log10(positive.min()), math.log10(positive.max()), MOST_COLUMNS // 2 + 1)
    place_of = np.clip(np.searchsorted(edges, np.log10(values), side="right") - 1, 0, len(edges) - 2)
    centres = 10 ** ((edges[:-1] + edges[1:]) / 2)
    return pd.Series([float(f"{centres[i]:.3g}") for i in place_of], index=rates.index)


def _phase_row(name: Any, cell: pd.DataFrame) -> tuple[object, ...]:
    loss, k, rate = name
    judged = cell[~cell["outcome"].isin(list(UNUSED))]
    converged = int((judged["outcome"] == "converged").sum())
    failure, kind = modal_failure(judged)
    counts = cell["outcome"].value_counts()
    listed = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts)
    share = converged / len(judged) if len(judged) else math.nan
    low, high = wilson(share, len(judged))
    undecided = low <= 0.5 <= high
    key_count = int(cell["key"].nunique())
    return (
        loss,
        k,
        rate,
        key_count,
        len(cell),
        len(judged),
        converged,
        share,
        low,
        high,
        undecided,
        failure,
        kind,
        listed,
    )


def modal_failure(judged: pd.DataFrame) -> tuple[str, str]:
    """The commonest ending other than converged, with its commonest kind; the earlier in report order wins a tie."""
    bad = judged[judged["outcome"] != "converged"]
    if bad.empty:
        return "", ""
    counts = bad["outcome"].value_counts()
    failure = max((name for name in OUTCOMES if name in counts), key=lambda name: counts[name])
    kinds = bad.loc[bad["outcome"] == failure, "kind"].value_counts()
    return failure, str(max(sorted(kinds.index), key=lambda kind: kinds[kind]))
