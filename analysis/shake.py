"""How much one run shakes: the spread of its late evaluations, and how far it falls back once it was good."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.estimators import Floats
from analysis.figures_cells import cell_of
from analysis.frames import StudyFrames
from analysis.histories import Histories, good, good_windows, histories, trends
from analysis.ranks import WORST_RANK, weighted_quantile
from analysis.weights import weights
from study.outcomes import Criteria

MEASURES = ("shake", "drawdown")
QUARTILES = (25, 50, 75)

SHAKE_COLUMNS: tuple[str, ...] = (
    "loss",
    "k",
    "learning_rate",
    "runs",
    *(f"{name}_{part}" for name in MEASURES for part in (*QUARTILES, "infinite")),
)
RUN_COLUMNS: tuple[str, ...] = ("loss", "k", "learning_rate", "configuration_key", "replicate", "outcome", *MEASURES)


def late_spread(h: Histories, criteria: Criteria) -> Floats:
    """Interquartile range of u over the late part after its Theil-Sen line is taken off, [runs], in units of u.

    Dispersion within a run of Chan et al. 2020, arXiv:1912.05663 (rl-reliability-metrics), which takes differences to
    remove the trend; a robust line keeps slow swings. NaN where an evaluation is missing.
    """
    _, late = h.windows(criteria)
    whole = ~np.isnan(h.u[:, -late:]).any(axis=1)
    found = np.full(len(h.rows), math.nan)
    low, high = np.quantile(trends(h.step[-late:], h.u[whole, -late:]).rest, [0.25, 0.75], axis=1)
    found[whole] = high - low
    return found


def largest_rise(h: Histories, criteria: Criteria) -> Floats:
    """Largest rise of u above its best so far, from the end of the first good window on, [runs]; +inf without one.

    A good window is one that would pass as converged at the end of the run. Maximum drawdown as the long-term risk
    of Chan et al. 2020, with u in place of a return: lower is better.
    """
    window, _ = h.windows(criteria)
    passed = good_windows(h, criteria, good(h, criteria))
    ends = np.where(passed.any(axis=1), passed.argmax(axis=1) + window - 1, len(h.step))
    above = h.u - np.fmin.accumulate(h.u, axis=1)
    after = np.arange(len(h.step)) >= ends[:, None]
    rise = np.where(after, above, -math.inf).max(axis=1, initial=-math.inf)
    return np.where(np.isneginf(rise), math.inf, rise)


def run_shake(frames: StudyFrames, found: Sequence[Histories] | None = None) -> pd.DataFrame:
    """Every run, in the order of ``runs``: its cell of the map, and both measures; columns RUN_COLUMNS.

    A run that diverged, collapsed or never learned has no shake worth the name: it ranks last (+inf), as in final
    quality. NaN for a run that was lost or stopped. ``found``: from ``histories``.
    """
    runs, criteria = frames.runs, frames.criteria
    found = histories(frames) if found is None else found
    values = {name: np.full(len(runs), math.nan) for name in MEASURES}
    for h in found:
        if criteria is not None:
            values["shake"][h.rows] = late_spread(h, criteria)
            values["drawdown"][h.rows] = largest_rise(h, criteria)
    worst = (runs["outcome"].isin(list(WORST_RANK)) | (runs["kind"] == "dead")).to_numpy()
    told = np.concatenate([h.rows for h in found]) if found else np.zeros(0, dtype=np.int64)
    ranked = np.isin(np.arange(len(runs)), told) & worst
    table = cell_of(runs)[["loss", "k", "learning_rate"]].reset_index(drop=True)
    names = ["configuration_key", "replicate", "outcome"]
    table = table.assign(**{name: runs[name].to_numpy() for name in names})
    return table.assign(**{name: np.where(ranked, math.inf, values[name]) for name in MEASURES})


def in_study_order(runs: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """The rows of ``run_shake`` by label, cell, configuration and replicate, whatever the order of the runs."""
    place = {label: i for i, label in enumerate(labels)}
    names = ["k", "learning_rate", "configuration_key", "replicate"]
    table = runs.assign(_place=runs["loss"].map(place)).sort_values(["_place", *names], kind="stable")
    return table[list(RUN_COLUMNS)].reset_index(drop=True)


def shake_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per (loss, k, learning rate): runs, quartiles of both measures, and how many runs are at +inf.

    ``runs``: from ``run_shake``. A quartile is the smallest value that enough of the runs do not exceed, so it is
    infinite where failures reach it. Losses come in the order of their first run.
    """
    known = runs[runs["shake"].notna()]
    order = {label: i for i, label in enumerate(dict.fromkeys(known["loss"]))}
    rows = [
        (*name, len(cell), *_summary(cell["shake"]), *_summary(cell["drawdown"]))
        for name, cell in known.groupby(["loss", "k", "learning_rate"], dropna=False, sort=True)
    ]
    table = pd.DataFrame(rows, columns=list(SHAKE_COLUMNS))
    return table.sort_values("loss", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def _summary(values: pd.Series) -> tuple[float, ...]:
    numbers = np.sort(values.to_numpy(dtype=np.float64))
    quartiles = (weighted_quantile(numbers, np.ones(len(numbers)), q / 100) for q in QUARTILES)
    return (*quartiles, int(np.isinf(numbers).sum()))


def shake_medians(frames: StudyFrames, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per label: ``shake_median`` and ``drawdown_median`` over its runs with the declared weights."""
    design = weights(frames)
    place = {(row.loss, row.configuration_key): row.weight for row in design.itertuples()}
    keys = list(zip(frames.runs["loss"].astype(str), frames.runs["configuration_key"], strict=True))
    known = runs["shake"].notna().to_numpy()
    counts = pd.Series(keys)[known].value_counts()
    rows = []
    for label in frames.labels():
        own = np.flatnonzero(known & (frames.runs["loss"] == label).to_numpy())
        mass = np.array([place.get(keys[i], 0.0) / counts[keys[i]] for i in own])
        medians = [weighted_quantile(runs[name].to_numpy(dtype=np.float64)[own], mass, 0.5) for name in MEASURES]
        rows.append((label, *medians))
    return pd.DataFrame(rows, columns=["loss", *(f"{name}_median" for name in MEASURES)])
