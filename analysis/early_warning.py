"""What a run's measurements at a fifth of the budget tell about its ending, among runs of the same setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from analysis.arms import UNSTABLE, UNUSED
from analysis.bounded import score_interval
from analysis.estimators import Floats, Ints, holm
from analysis.figures_style import PARTIAL
from analysis.frames import StudyFrames
from analysis.times import run_times
from analysis.weights import inference_target
from trainers.measurement import EVERY_MEASUREMENT

LANDMARK = 0.2
"""Share of the budget at which a run is looked at; van Houwelingen 2007, Scand J Stat 34:70 (landmark analysis)."""

EARLY_COLUMNS: tuple[str, ...] = (
    "event",
    "measurement",
    "auc",
    "low",
    "high",
    "p",
    "p_holm",
    "p_least",
    "pooled_auc",
    "predicts",
    "measured_at",
    "cells",
    "pairs",
    "runs_event",
    "runs_other",
    "at_risk",
    "at_risk_event",
    "begun",
    "dead",
    "unused",
)

TIE = 1e-9
"""Nearer to one half than this is neither direction."""

EVENTS: tuple[str, ...] = ("unstable", "unconverged")
"""What a run may meet: to diverge, collapse, oscillate or lose modes; or any end but convergence."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Discrimination:
    """How well one number tells two endings apart within cells; ``event`` and ``other`` count the runs compared.

    ``auc``: chance that of two runs of one cell the one with the event has the larger number, ties half, with its
    95 % interval. ``p_least``: the smallest p that so many runs could give.
    """

    auc: float = math.nan
    low: float = 0.0
    high: float = 1.0
    p: float = math.nan
    p_least: float = 1.0
    cells: int = 0
    pairs: int = 0
    event: int = 0
    other: int = 0


def midranks(values: Floats, groups: Ints) -> Floats:
    """Rank of each value within its group, 1 for the smallest, ties at their mean rank, [n]; no NaN."""
    if not len(values):
        return np.zeros(0)
    order = np.lexsort((values, groups))
    value, group = values[order], groups[order]
    new_group = np.append(True, group[1:] != group[:-1])
    new_tie = new_group | np.append(True, value[1:] != value[:-1])
    first = np.flatnonzero(new_tie)
    last = np.append(first[1:], len(value)) - 1
    tie, start = np.cumsum(new_tie) - 1, np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    ranks = np.empty(len(values))
    ranks[order] = (first[tie] + last[tie]) / 2 - start + 1
    return ranks


def pooled_auc(values: Floats, event: Flags) -> float:
    """Chance that a run with the event has the larger number than one without, ties half; NaN without one of each."""
    ones, zeros = int(event.sum()), int((~event).sum())
    if not ones or not zeros:
        return math.nan
    ranks = midranks(values, np.zeros(len(values), dtype=np.int64))
    return float((ranks[event].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def discrimination(values: Floats, cells: Ints, event: Flags, *, alpha: float = 0.05) -> Discrimination:
    """``pooled_auc`` of each cell that holds both endings, averaged with weights n_1 n_0 / (n_1 + n_0 + 1).

    van Elteren 1960: what each cell can tell; with equal replicates nearly the number of pairs, and the same statistic
    serves the test. Interval: Wilson's at the effective n of DeLong's variance (1988, Biometrics 44:837), each
    cell's placements shrunken, as in ``ranks.mean_superiority``. p: two-sided normal with the permutation variance
    (ties included), but no smaller than 2 over the number of ways the endings could fall on the runs.
    ``values`` [n] may be infinite, not NaN.
    """
    mixed = _mixed(cells, event)
    if not mixed.any():
        return Discrimination()
    _, cell = np.unique(cells[mixed], return_inverse=True)
    cell, value, ended = cell.astype(np.int64), values[mixed], event[mixed]
    ones, runs = np.bincount(cell, ended).astype(float), np.bincount(cell).astype(float)
    zeros = runs - ones
    ranks = midranks(value, cell)
    beaten = ranks - midranks(value, 2 * cell + ended)  # runs of the other ending below, ties half
    placement = np.where(ended, beaten / zeros[cell], 1 - beaten / ones[cell])
    auc = np.bincount(cell, placement * ended) / ones
    weight = ones * zeros / (runs + 1)
    weight /= weight.sum()
    variance = _spread(placement * ended, cell, ones) + _spread(placement * ~ended, cell, zeros)
    squares = np.bincount(cell, (ranks - (runs[cell] + 1) / 2) ** 2)
    mean, floor = min(1.0, float(weight @ auc)), 1 / float(weight**2 @ (1 / np.minimum(ones, zeros)))
    found = score_interval(mean, float(weight**2 @ variance), floor=floor, alpha=alpha)
    by_chance = float(weight**2 @ (squares / (runs * (runs - 1) * ones * zeros)))
    least = float(min(1.0, 2 * np.exp(-np.sum(_log_choose(runs, ones)))))
    return Discrimination(
        auc=mean,
        low=found.low,
        high=found.high,
        p=max(least, float(2 * stats.norm.sf(abs(mean - 0.5) / math.sqrt(by_chance)))) if by_chance > 0 else 1.0,
        p_least=least,
        cells=len(runs),
        pairs=int(ones @ zeros),
        event=int(ones.sum()),
        other=int(zeros.sum()),
    )


def _mixed(cells: Ints, event: Flags) -> Flags:
    """Runs of the cells in which the event came to some runs and not to others."""
    both = np.intersect1d(cells[event], cells[~event])
    return np.asarray(np.isin(cells, both))


def _spread(placement: Floats, cell: Ints, count: Floats) -> Floats:
    """``bounded.shrunken_variance`` of each cell's placements (0 for runs of the other ending) over their count."""
    mean = (np.bincount(cell, placement) + 0.5) / (count + 1)
    square = (np.bincount(cell, placement**2) + 0.5) / (count + 1)
    return np.asarray((square - mean**2) / count)


def _log_choose(n: Floats, k: Floats) -> Floats:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


# --- studies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RiskSet:
    """Runs that live at the landmark and were judged at the end.

    ``values`` [runs, names]: what they measure then, NaN where their cell does not measure it; ``cells`` [runs]:
    number of the setting; ``ended``: event -> [runs]; ``begun`` [runs]: the recorded event came by the landmark;
    ``measured_at`` [names]: share of the budget at which it was last recorded. ``dead`` and ``unused`` runs are out.
    """

    names: tuple[str, ...]
    values: Floats
    cells: Ints
    ended: Mapping[str, Flags]
    begun: Flags
    measured_at: Floats
    dead: int
    unused: int


def risk_set(frames: StudyFrames, *, landmark: float = LANDMARK) -> RiskSet:
    """Every used run that has not died by ``landmark`` (share of its budget), with its measurements then.

    Only death is final and known at the landmark. A run on few modes then may still end well, so it stays: to leave
    out those that turn out to stay there would condition on the future.
    """
    runs, times = frames.runs, run_times(frames)
    horizon = times["horizon"].to_numpy(dtype=np.float64)
    rows = _until(frames, dict(zip(runs["configuration_key"], horizon, strict=True)), landmark)
    finite = rows["finite"].to_numpy(dtype=bool)
    table, measured_at = _last_recorded(rows[finite])
    own, died = (pd.MultiIndex.from_frame(part[["configuration_key", "replicate"]]) for part in (runs, rows[~finite]))
    used = ~runs["outcome"].isin(list(UNUSED)).to_numpy() & (own.isin(table.index) | own.isin(died))
    alive = used & ~own.isin(died)
    cells = np.asarray(runs.groupby(["loss", "configuration_key"], sort=False).ngroup(), dtype=np.int64)[alive]
    return RiskSet(
        names=tuple(str(name) for name in table),
        values=_worst_where_missing(table.reindex(own[alive]), cells),
        cells=cells,
        ended={name: flags[alive] for name, flags in _endings(runs).items()},
        begun=(times["time"].to_numpy(dtype=np.float64) <= horizon * landmark)[alive],
        measured_at=measured_at,
        dead=int((used & ~alive).sum()),
        unused=int((~used).sum()),
    )


def _endings(runs: pd.DataFrame) -> dict[str, Flags]:
    """``unstable`` (diverged, collapsed, oscillating or partly collapsed) and ``unconverged``, one flag a run."""
    outcome, kind = runs["outcome"], runs.get("kind", pd.Series("", runs.index))
    return {
        "unstable": (outcome.isin(list(UNSTABLE)) | (kind == PARTIAL)).to_numpy(dtype=bool),
        "unconverged": (outcome != "converged").to_numpy(dtype=bool),
    }


def _until(frames: StudyFrames, horizons: Mapping[str, float], landmark: float) -> pd.DataFrame:
    """The curves' rows up to the landmark of their configuration, with the ``share`` of the budget at each."""
    code, keys = pd.factorize(frames.curves["configuration_key"])
    horizon = np.array([horizons.get(str(key), math.nan) for key in keys], dtype=np.float64)
    share = frames.curves["generator_step"].to_numpy(dtype=np.float64) / np.append(horizon, math.nan)[code]
    rows = frames.curves.assign(share=share)
    kept: pd.DataFrame = rows[share <= landmark * (1 + 1e-9)]
    return kept


def _last_recorded(rows: pd.DataFrame) -> tuple[pd.DataFrame, Floats]:
    """One row of measurements a run, and their share of the budget: the last evaluation that recorded it in its cell.

    What was last recorded before training began is left out: it is no state of the run.
    """
    names = [name for name in EVERY_MEASUREMENT if name in rows]
    values = rows[names].to_numpy(dtype=np.float64)
    cell, evaluation = rows["configuration_key"].to_numpy(), rows["evaluation"].to_numpy(dtype=np.int64)
    seen = pd.DataFrame(~np.isnan(values)).groupby([cell, evaluation]).transform("any").to_numpy(dtype=bool)
    last = pd.DataFrame(np.where(seen, evaluation[:, None], -1)).groupby(cell).transform("max").to_numpy()
    chosen = seen & (evaluation[:, None] == last) & (rows["share"].to_numpy()[:, None] > 0)
    at = pd.DataFrame(np.where(chosen, values, math.nan), columns=names, index=rows.index)
    kept = [name for name, some in zip(names, chosen.any(axis=0), strict=True) if some]
    shares = [float(np.median(rows["share"].to_numpy()[own])) for own in chosen.T if own.any()]
    return at.groupby([rows["configuration_key"], rows["replicate"]])[kept].max(), np.array(shares)


def _worst_where_missing(table: pd.DataFrame, cells: Ints) -> Floats:
    """A number that a run lacks and others of its cell have is an event: it ranks worst (no direction: largest)."""
    values = table.to_numpy(dtype=np.float64)
    known = pd.DataFrame(~np.isnan(values)).groupby(cells).transform("any").to_numpy(dtype=bool)
    worst = [-math.inf if EVERY_MEASUREMENT[str(name)].direction == "higher" else math.inf for name in table]
    return np.where(np.isnan(values) & known, np.array(worst), values)


def early_warning_table(frames: StudyFrames, *, landmark: float = LANDMARK, alpha: float = 0.05) -> pd.DataFrame:
    """One row per event and measurement: ``discrimination`` within settings, and ``pooled_auc`` over all of them.

    ``p_holm`` is over the measurements of an event; ``predicts``: whether higher or lower numbers come before it.
    Losses share no scale on some measurements: those have no pooled value. Under seeds that settings share, runs of
    different settings are not independent: no interval, no p. Target: these settings, uncertainty over seeds.
    """
    risk = risk_set(frames, landmark=landmark)
    known = inference_target(frames) != "sweeps"
    rows: list[dict[str, object]] = []
    for event in EVENTS:
        own = [_row(risk, event, place, known=known, alpha=alpha) for place in range(len(risk.names))]
        adjusted = holm([float(str(row["p"])) for row in own])
        rows += [row | {"p_holm": p} for row, p in zip(own, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(EARLY_COLUMNS))


def _row(risk: RiskSet, event: str, place: int, *, known: bool, alpha: float) -> dict[str, object]:
    info, values, ended = EVERY_MEASUREMENT[risk.names[place]], risk.values[:, place], risk.ended[event]
    has = ~np.isnan(values)
    found = discrimination(values[has], risk.cells[has], ended[has], alpha=alpha)
    return {
        "event": event,
        "measurement": info.name,
        "auc": found.auc,
        "low": found.low if known else math.nan,
        "high": found.high if known else math.nan,
        "p": found.p if known else math.nan,
        "p_least": found.p_least,
        "pooled_auc": pooled_auc(values[has], ended[has]) if info.comparable_across_losses else math.nan,
        "predicts": "higher" if found.auc > 0.5 + TIE else "lower" if found.auc < 0.5 - TIE else "",
        "measured_at": risk.measured_at[place],
        "cells": found.cells,
        "pairs": found.pairs,
        "runs_event": found.event,
        "runs_other": found.other,
        "at_risk": len(ended),
        "at_risk_event": int(ended.sum()),
        "begun": int((risk.begun & ended).sum()),
        "dead": risk.dead,
        "unused": risk.unused,
    }
