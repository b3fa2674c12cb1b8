"""How long until a run converges for good, with failures as never; how converging competes with failing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.bounded import score_interval
from analysis.estimators import Cells, Estimate, Floats, weighted_share
from analysis.frames import StudyFrames
from analysis.weights import weights
from trainers.catalogue import PENALTIES, UPDATES, gradient_evaluations_per_step

Axis = Literal["generator_steps", "gradient_evaluations"]
"""Unit of time: generator updates, or their price 1 + k (1 + penalised) in gradient evaluations."""

CAUSES: tuple[str, ...] = ("converged", "collapsed", "diverged")
"""Endings that compete: a run that diverged never converges, it is not lost to follow-up."""

TIME_COLUMNS: tuple[str, ...] = ("loss", "axis", "horizon", "mean_time", "mean_time_low", "mean_time_high", "runs_lost")
INCIDENCE_COLUMNS: tuple[str, ...] = ("loss", "axis", "time", "event", "share", "low", "high", "at_risk")


@dataclass(frozen=True, kw_only=True)
class Lives:
    """Runs of one cell: ``times`` [n] of the event, +inf where it never comes; ``observed`` [n] is false for a run
    that was lost at ``times`` for reasons outside training (the only genuine censoring)."""

    times: Floats
    observed: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.observed) or np.isnan(self.times).any() or (self.times < 0).any():
            raise ValueError("times must be >= 0 (inf: never), not NaN, and as many as observed")


def _at_risk(lives: Lives, horizon: float, extra: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct event times up to the horizon, events at each and runs at risk; ``extra``: half-runs at these times."""
    times = np.append(lives.times, extra)
    mass = np.append(np.ones(len(lives.times)), np.full(len(extra), 0.5))
    event = np.append(lives.observed, np.ones(len(extra), dtype=bool)) & (times <= horizon)
    at = np.unique(times[event])
    events = np.array([mass[event & (times == t)].sum() for t in at])
    risk = np.array([mass[times >= t].sum() for t in at])
    return at, events, risk


def restricted_mean(lives: Lives, horizon: float) -> tuple[float, float]:
    """E[min(T, horizon)] and the variance of its estimate: the area under Kaplan & Meier's curve.

    Var = sum_i A_i^2 d_i / (n_i (n_i - d_i)) with A_i the area from t_i to the horizon; no run lost: the plain mean
    of min(T, horizon) and its (maximum-likelihood) variance over n. Klein & Moeschberger 2003, eq. 4.5.1-2.
    ValueError: there are no runs, or the horizon is not a positive number.
    """
    if not len(lives.times) or not 0 < horizon < math.inf:
        raise ValueError(f"a restricted mean needs runs and a positive horizon, got {len(lives.times)} and {horizon}")
    return _area(*_at_risk(lives, horizon, np.zeros(0)), horizon)


def _area(at: Floats, events: Floats, risk: Floats, horizon: float) -> tuple[float, float]:
    survival = np.append(1.0, np.cumprod(1 - events / risk))
    widths = np.diff(np.concatenate([[0.0], at, [horizon]]))
    pieces = survival * widths
    left = pieces.sum() - np.cumsum(pieces[:-1])
    alive = risk > events  # the last run's event leaves no area behind it
    variance = np.sum(left[alive] ** 2 * events[alive] / (risk[alive] * (risk[alive] - events[alive])))
    return float(pieces.sum()), float(variance)


def mean_time(cells: Sequence[Lives], cell_weights: Floats, horizon: float, *, alpha: float = 0.05) -> Estimate:
    """Weighted restricted mean over cells with Wilson's interval on min(T, horizon) / horizon (target: this grid).

    Each cell's variance counts half a run that converges at once and half a run that never does, so that cells in
    which nothing or everything converged do not pass for certain. Cells without runs keep their weight: anything
    from 0 to the horizon. The weights sum to 1.
    """
    seen = np.array([len(lives.times) > 0 for lives in cells], dtype=bool)
    mass = float(cell_weights[seen].sum())
    if not seen.any() or mass <= 0:
        return Estimate(value=math.nan, low=0.0, high=horizon, n_eff=0.0)
    shares = cell_weights[seen] / mass
    found = [lives for lives in cells if len(lives.times)]
    value = float(shares @ np.array([restricted_mean(lives, horizon)[0] for lives in found])) / horizon
    variance = float(shares**2 @ np.array([_shrunken(lives, horizon) for lives in found])) / horizon**2
    whole = np.array([max(1.0, float((lives.observed | (lives.times > horizon)).sum())) for lives in found])
    scaled = score_interval(min(1.0, value), variance, floor=1 / float(np.sum(shares**2 / whole)), alpha=alpha)
    low, high = scaled.low * mass, scaled.high * mass + (1 - mass)
    return Estimate(value=scaled.value * horizon, low=low * horizon, high=high * horizon, n_eff=scaled.n_eff)


def _shrunken(lives: Lives, horizon: float) -> float:
    """Variance of the restricted mean after adding half a run at time 0 and half a run that never converges."""
    count = len(lives.times)
    _, variance = _area(*_at_risk(lives, horizon, np.array([0.0, math.inf])), horizon)
    return variance * (count + 1) / count


def cumulative_incidence(
    times: Floats, causes: npt.NDArray[np.str_], at: Floats, *, run_weights: Floats | None = None
) -> dict[str, Floats]:
    """Share of the runs that ended by each cause at or before the times ``at``, cause -> [len(at)].

    ``causes`` holds a name of CAUSES, "lost" for a run lost outside training at its time, or "" for one that met
    none of them. Aalen & Johansen 1978: sum over t_i <= t of S(t_i-) d_i / n_i; nothing lost: plain ECDFs.
    Coding failures as "lost" instead would answer what happened if failing were abolished.
    """
    mass = np.ones(len(times)) if run_weights is None else run_weights
    ended = np.isin(causes, CAUSES)
    distinct = np.unique(times[ended])
    survival, steps = 1.0, {cause: np.zeros(len(distinct)) for cause in CAUSES}
    for i, t in enumerate(distinct):
        risk, now = float(mass[times >= t].sum()), ended & (times == t)
        for cause in CAUSES:
            steps[cause][i] = survival * float(mass[now & (causes == cause)].sum()) / risk
        survival *= 1 - float(mass[now].sum()) / risk
    reached = np.searchsorted(distinct, at, side="right")
    return {cause: np.append(0.0, np.cumsum(steps[cause]))[reached] for cause in CAUSES}


# --- studies ---------------------------------------------------------------------------------------


def run_times(frames: StudyFrames, axis: Axis = "generator_steps") -> pd.DataFrame:
    """Every run's ``time`` and ``cause`` (of CAUSES, "lost" or ""), its cell, and the cell's ``horizon``, on one axis.

    Converged runs count from their first sustained convergence; a run that fell back later has collapsed. A run lost
    outside training is followed to its last evaluation. NaN where the time is not recorded or has no price.
    """
    runs = frames.runs
    price = _prices(runs, axis)
    event = pd.to_numeric(runs.get("t_event", pd.Series(math.nan, runs.index)), errors="coerce").to_numpy(float)
    outcome = runs["outcome"].to_numpy(dtype=str)
    time = np.where(np.isin(outcome, CAUSES), event, math.inf)
    lost = outcome == "failed"
    time[lost] = _last_steps(frames)[lost]
    cause = np.where(np.isin(outcome, CAUSES), outcome, np.where(lost, "lost", ""))
    table = runs[["loss", "configuration_key", "replicate", "outcome"]].reset_index(drop=True)
    return table.assign(time=time * price, cause=cause, horizon=_horizons(frames) * price)


def _prices(runs: pd.DataFrame, axis: Axis) -> Floats:
    """What one generator step of each run costs on the axis; NaN where that is not known."""
    if axis == "generator_steps":
        return np.ones(len(runs))
    absent = pd.Series(None, index=runs.index, dtype=object)
    told = zip(*(runs.get(name, absent) for name in ("k", "penalty", "updates")), strict=True)
    return np.array([_price(k, str(penalty), updates) for k, penalty, updates in told], dtype=float)


def _price(k: Any, penalty: str, updates: Any) -> float:
    order = "alternating" if pd.isna(updates) else str(updates)
    if pd.isna(k) or order not in UPDATES or not (penalty in PENALTIES or ":" in penalty):
        return math.nan
    return float(gradient_evaluations_per_step(k=int(k), penalty=penalty, updates=order))


def _last_steps(frames: StudyFrames) -> Floats:
    """Last evaluated generator step of every run, 0 where none is recorded."""
    names = ["configuration_key", "replicate"]
    if not len(frames.curves):
        return np.zeros(len(frames.runs))
    last = frames.curves.groupby(names, as_index=False)["generator_step"].max()
    return np.asarray(frames.runs[names].merge(last, on=names, how="left")["generator_step"].fillna(0), dtype=float)


def _horizons(frames: StudyFrames) -> Floats:
    """Planned generator steps of every run, else the last step of the whole study, else NaN."""
    entries: Any = frames.plan.get("configurations") or ()
    planned = {str(e["configuration_key"]): float(e["horizon"]) for e in entries if "horizon" in e}
    last = float(frames.curves["generator_step"].max()) if len(frames.curves) else math.nan
    return np.array([planned.get(str(key), last) for key in frames.runs["configuration_key"]], dtype=float)


def times_table(frames: StudyFrames, axis: Axis = "generator_steps", *, alpha: float = 0.05) -> pd.DataFrame:
    """One row per label: E[min(T, horizon)] over the weighted cells, T = inf for every run that did not converge.

    The horizon is the shortest of the study on this axis. NaN where a label has pruned runs, or times are unknown.
    """
    design, runs = weights(frames), run_times(frames, axis)
    horizon = float(runs["horizon"].min()) if len(runs) else math.nan
    rows = []
    for label in frames.labels():
        own = runs[runs["loss"] == label]
        found = Estimate(value=math.nan, low=0.0, high=horizon)
        if horizon > 0 and not own["time"].isna().any() and not (own["outcome"] == "censored").any():
            cells = design[design["loss"] == label]
            lives = [_lives(own[own["configuration_key"] == key]) for key in cells["configuration_key"]]
            found = mean_time(lives, cells["weight"].to_numpy(dtype=float), horizon, alpha=alpha)
        row = {"loss": label, "axis": axis, "horizon": horizon, "runs_lost": int((own["cause"] == "lost").sum())}
        rows.append(row | {"mean_time": found.value, "mean_time_low": found.low, "mean_time_high": found.high})
    return pd.DataFrame(rows, columns=list(TIME_COLUMNS))


def _lives(runs: pd.DataFrame) -> Lives:
    """Time to sustained convergence: any other ending is never; a run lost before its first step tells nothing."""
    told = runs[(runs["cause"] != "lost") | (runs["time"] > 0)]
    lost, converged = (told["cause"] == name for name in ("lost", "converged"))
    times = np.where(lost | converged, told["time"], math.inf).astype(np.float64)
    return Lives(times=times, observed=~lost.to_numpy(dtype=bool))


def incidence_table(frames: StudyFrames, axis: Axis = "generator_steps", *, points: int = 41) -> pd.DataFrame:
    """Weighted share of runs that have converged, collapsed or diverged by each of ``points`` times, per label.

    Limits are pointwise 95 % intervals of weighted shares over the runs that were not lost; ``at_risk`` counts runs
    that have met none of the three. Empty for labels with pruned runs, unknown times, or nothing followed.
    """
    design, runs = weights(frames), run_times(frames, axis)
    horizon = float(runs["horizon"].min()) if len(runs) else math.nan
    tables = []
    for label in frames.labels():
        own = runs[runs["loss"] == label]
        if not horizon > 0 or own["time"].isna().any() or (own["outcome"] == "censored").any():
            continue
        own = own[(own["cause"] != "lost") | (own["time"] > 0)]
        if not len(own):
            continue
        tables.append(_incidence(own, design[design["loss"] == label], np.linspace(0, horizon, points)))
        tables[-1].insert(0, "loss", label)
        tables[-1].insert(1, "axis", axis)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(INCIDENCE_COLUMNS))


def _incidence(runs: pd.DataFrame, cells: pd.DataFrame, at: Floats) -> pd.DataFrame:
    """The table of one label, whose ``runs`` belong to its ``cells``."""
    times, causes = runs["time"].to_numpy(dtype=np.float64), runs["cause"].to_numpy(dtype=str)
    position = {key: i for i, key in enumerate(cells["configuration_key"])}
    cell = runs["configuration_key"].map(position).to_numpy().astype(np.int64)
    weight = cells["weight"].to_numpy(dtype=np.float64)
    run_weights = weight[cell] / np.bincount(cell, minlength=len(cells))[cell]
    shares = cumulative_incidence(times, causes, at, run_weights=run_weights)
    used = np.bincount(cell[causes != "lost"], minlength=len(cells)).astype(np.float64)
    rows = []
    for (i, t), cause in itertools.product(enumerate(at), CAUSES):
        met = np.bincount(cell[(causes == cause) & (times <= t)], minlength=len(cells)).astype(np.float64)
        found, share = weighted_share(Cells(weights=weight, successes=met, runs=used)), float(shares[cause][i])
        limits = {"low": min(found.low, share), "high": max(found.high, share), "at_risk": int((times > t).sum())}
        rows.append({"time": t, "event": cause, "share": share} | limits)
    return pd.DataFrame(rows)
