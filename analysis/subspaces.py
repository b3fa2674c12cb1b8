"""Does the ranking depend on the declared space? Success in parts of it, and in windows around each loss's optimum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import gap, share
from analysis.bounded import score_interval
from analysis.compare import arms, cells_table
from analysis.estimators import Estimate, Floats, difference, wilson
from analysis.frames import StudyFrames
from analysis.weights import inference_target, is_drawn, weights

WHOLE = "the declared space"
WINDOW_DECADES = 2.0
DRAWN_CUT = 0.25
"""Part of the log range that counts as its edge where settings were drawn."""

SPACE_COLUMNS: tuple[str, ...] = ("space", "loss", "success", "low", "high", "leader", "flips", "flips_shown")
SPACE_PAIR_COLUMNS: tuple[str, ...] = ("space", "loss_a", "loss_b", "difference", "low", "high", "flips", "flips_shown")
EDGE_COLUMNS: tuple[str, ...] = ("loss", "k", "edge", "learning_rate", "success", "largest", "open")


def subspaces(frames: StudyFrames) -> dict[str, StudyFrames]:
    """Parts of the declared space by name: without its lowest rate, without its highest, and each k alone.

    Drawn settings lose a quarter of the log range instead of one rate. A part that is empty, or the whole, is left out.
    """
    runs = frames.runs
    parts: dict[str, pd.Series] = {}
    rates = np.sort(runs["learning_rate"].dropna().unique().astype(float)) if "learning_rate" in runs else np.zeros(0)
    if len(rates) > 1:
        low, high = _inner(rates, drawn=is_drawn(frames))
        parts["without the lowest learning rates"] = runs["learning_rate"].astype(float) >= low
        parts["without the highest learning rates"] = runs["learning_rate"].astype(float) <= high
    ks = sorted(runs["k"].dropna().unique()) if "k" in runs else []
    parts |= {f"k = {int(k)}": runs["k"] == k for k in ks if len(ks) > 1}
    return {
        name: replace(frames, runs=runs[kept].reset_index(drop=True))
        for name, kept in parts.items()
        if kept.any() and not kept.all()
    }


def _inner(rates: Floats, *, drawn: bool) -> tuple[float, float]:
    """Lowest and highest rate that stay when the edge goes."""
    if not drawn:
        return float(rates[1]), float(rates[-2])
    low, high = math.log10(rates[0]), math.log10(rates[-1])
    return 10 ** (low + DRAWN_CUT * (high - low)), 10 ** (high - DRAWN_CUT * (high - low))


# --- a window of common width around each loss's own optimum ------------------------------------------


def window_weights(positions: Floats, centre: float, width: float) -> Floats:
    """Weights of ascending ``positions`` for the mean, over a window, of the line through the values there; sum 1.

    The window of ``width`` around ``centre`` is shifted, not cut, where it would leave the range; where it is wider
    than the range it is the range, and the weights are the trapezoid's. One position weighs 1.
    """
    if len(positions) == 1:
        return np.ones(1)
    low = min(max(centre - width / 2, positions[0]), max(positions[-1] - width, positions[0]))
    high = min(low + width, positions[-1])
    found = np.zeros(len(positions))
    for i, (left, right) in enumerate(itertools.pairwise(positions)):
        a, b = max(low, left), min(high, right)
        if b > a:
            towards_right = ((a + b) / 2 - left) / (right - left) * (b - a)
            found[i] += (b - a) - towards_right
            found[i + 1] += towards_right
    return np.asarray(found / found.sum())


def window_success(
    values: Floats, positions: Floats, cell_weights: Floats, *, width: float = WINDOW_DECADES, alpha: float = 0.05
) -> Estimate:
    """Cross-fitted success in a window of ``width`` around the best learning rate.

    ``values`` [cells, replicates] (1, 0, NaN), ``positions`` [cells] the cells' log10 learning rates, ``cell_weights``
    the declared weights, which split a rate's weight over its cells. For each replicate r the window is centred on
    the rate with the highest share on the other replicates (the mean of tied rates) and scored on r. The interval is
    Wilson's at the smaller of two effective n: of the weights, and of a jackknife that leaves out one replicate of
    every cell (Efron & Stein 1981), which knows that the window moves and that seeds may be shared.
    """
    seen = (~np.isnan(values)).any(axis=1)
    values, positions, cell_weights = values[seen], positions[seen], cell_weights[seen]
    scores, used = _scores(values, positions, cell_weights, width)
    if not len(scores):
        return Estimate(value=math.nan, low=0.0, high=1.0, n_eff=0.0)
    value, runs = min(1.0, float(scores.mean())), values.shape[1]
    left_out = [_scores(np.delete(values, r, axis=1), positions, cell_weights, width)[0] for r in range(runs)]
    means = np.array([one.mean() for one in left_out if len(one)])
    spread = (runs - 1) * float(means.var()) if len(means) > 1 else 0.0
    n_eff = min(_independent(value, values, used), value * (1 - value) / spread if spread > 0 else math.inf)
    low, high = wilson(value, max(1.0, n_eff), alpha=alpha)
    return Estimate(value=value, low=low, high=high, n_eff=n_eff)


def _scores(values: Floats, positions: Floats, cell_weights: Floats, width: float) -> tuple[Floats, Floats]:
    """Score of every replicate in the window that the others choose, and the weights it was scored with [., cells]."""
    grid, column = np.unique(positions, return_inverse=True)
    within = cell_weights / np.bincount(column, weights=cell_weights)[column] if len(grid) else cell_weights
    scores, used = [], []
    of_centre: dict[float, Floats] = {}
    for r, centre in enumerate(_optima(values, grid, column, within).tolist() if len(grid) else ()):
        if math.isnan(centre):
            continue
        if centre not in of_centre:
            of_centre[centre] = window_weights(grid, centre, width)[column] * within
        parts, known = of_centre[centre], ~np.isnan(values[:, r])
        if parts[known].sum() > 0:
            scores.append(float(parts[known] @ values[known, r] / parts[known].sum()))
            used.append(parts)
    return np.array(scores), np.array(used)


def _independent(value: float, values: Floats, used: Floats) -> float:
    """Effective n of scores with the weights ``used``: each rests on its own window, so their squares are averaged."""
    squares = (used**2).mean(axis=0)
    counts = (~np.isnan(values)).sum(axis=1).astype(np.float64)
    shrunken = (np.nansum(values, axis=1) + 0.5) / (counts + 1)
    variance = float(np.sum(squares * shrunken * (1 - shrunken) / counts))
    return score_interval(value, variance, floor=1 / float(np.sum(squares / counts))).n_eff


def _optima(values: Floats, grid: Floats, column: Any, within: Floats) -> Floats:
    """For each replicate, the log10 rate of highest success on all the others [replicates]: the mean of tied ones,
    NaN where no rate has a known run."""
    known, happened = ~np.isnan(values), np.nan_to_num(values)
    counts = known.sum(axis=1, keepdims=True) - known
    totals = happened.sum(axis=1, keepdims=True) - happened
    shares = np.divide(totals, counts, out=np.zeros(values.shape), where=counts > 0)
    of_rate = (column == np.arange(len(grid))[:, None]) * within  # [rates, cells]
    mass = of_rate @ (counts > 0)
    height = np.divide(of_rate @ shares, mass, out=np.full(mass.shape, -1.0), where=mass > 0)
    best = (height >= height.max(axis=0) - 1e-12) & (mass > 0)
    tied = best.sum(axis=0)
    return np.asarray(np.divide(grid @ best, tied, out=np.full(len(tied), np.nan), where=tied > 0))


def windows(frames: StudyFrames, *, width: float = WINDOW_DECADES) -> dict[str, Estimate]:
    """``window_success`` of every label; empty where settings were drawn, or no window is narrower than the range."""
    design = weights(frames)
    rates = design["learning_rate"].astype(float)
    if is_drawn(frames) or rates.isna().any() or not len(rates):
        return {}
    if math.log10(rates.max() / rates.min()) <= width + 1e-9:
        return {}
    found = {}
    for label, arm in arms(frames).items():
        positions = np.array([round(math.log10(rate), 9) for rate in rates[design["loss"] == label]])
        found[label] = window_success(arm.values, positions, arm.weights, width=width)
    return found


# --- tables ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Space:
    """One part of the space: every label's success there, and the difference of every pair of labels."""

    name: str
    shares: Mapping[str, Estimate]
    gaps: Mapping[tuple[str, str], Estimate]


def spaces(frames: StudyFrames) -> list[Space]:
    """The declared space first, then its parts, then the windows, with the 95 % intervals that the design earns."""
    found = [_space(WHOLE, frames), *(_space(name, part) for name, part in subspaces(frames).items())]
    around = windows(frames)
    if around:
        gaps = {(a, b): difference(around[a], around[b]) for a, b in itertools.combinations(around, 2)}
        name = f"{WINDOW_DECADES:g} decades around each loss's optimum"
        found.append(Space(name=name, shares=around, gaps=gaps))
    return found


def _space(name: str, frames: StudyFrames) -> Space:
    built, target = arms(frames), inference_target(frames)
    shares = {label: share(arm, target) for label, arm in built.items()}
    gaps = {(a, b): gap(built[a], built[b], target) for a, b in itertools.combinations(built, 2)}
    return Space(name=name, shares=shares, gaps=gaps)


def subspace_pairs(frames: StudyFrames, found: Sequence[Space] | None = None) -> pd.DataFrame:
    """Every pair in the declared space and in every part of it (``found``: from ``spaces``), with 95 % intervals.

    ``flips``: the order is the other way round than in the declared space; ``flips_shown``: and the interval excludes
    0. Shares that agree to rounding have no order.
    """
    found = spaces(frames) if found is None else found
    rows = [
        (one.name, a, b, e.value, e.low, e.high, *_flip(e, found[0].gaps[a, b]))
        for one in found
        for (a, b), e in one.gaps.items()
    ]
    return pd.DataFrame(rows, columns=list(SPACE_PAIR_COLUMNS))


def _flip(part: Estimate, whole: Estimate) -> tuple[bool, bool]:
    turned = part.value * whole.value < 0 and min(abs(part.value), abs(whole.value)) > 1e-9
    return turned, turned and (part.low > 0 or part.high < 0)


def subspaces_table(frames: StudyFrames, found: Sequence[Space] | None = None) -> pd.DataFrame:
    """One row per part of the space and label: success, its 95 % interval, whether the label leads there.

    ``found``: the parts, from ``spaces``, where they are known. ``flips``: some pair with this label is ordered
    otherwise than in the declared space.
    """
    found = spaces(frames) if found is None else found
    rows = []
    for one in found:
        best = max((e.value for e in one.shares.values() if not math.isnan(e.value)), default=math.nan)
        turned = {pair: _flip(e, found[0].gaps[pair]) for pair, e in one.gaps.items()}
        for label, e in one.shares.items():
            own = [flip for pair, flip in turned.items() if label in pair]
            leads = e.value >= best - 1e-12
            rows.append(
                (one.name, label, e.value, e.low, e.high, leads, any(f for f, _ in own), any(f for _, f in own))
            )
    return pd.DataFrame(rows, columns=list(SPACE_COLUMNS))


def edges_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label, k and end of the learning rates: whether success there is at least half of its largest.

    ``open``: the working range may go on outside, so decades of learning rate are a lower bound ("at least").
    """
    cells = cells_table(frames)
    rated = cells[cells["learning_rate"].notna() & cells["success"].notna()]
    rows = []
    for label in frames.labels():
        for k, group in rated[rated["loss"] == label].groupby("k", sort=True, dropna=False):
            curve = group.groupby(group["learning_rate"].astype(float), sort=True)["success"].mean()
            largest = float(curve.max())
            for edge, place in (("low", 0), ("high", -1)):
                reached = float(curve.iloc[place])
                is_open = len(curve) > 1 and reached > 0 and reached >= largest / 2
                rows.append((label, k, edge, float(curve.index[place]), reached, largest, is_open))
    return pd.DataFrame(rows, columns=list(EDGE_COLUMNS))
