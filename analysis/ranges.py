"""Where a loss provably works: learning rates whose success is certified, ruled out, or still undecided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare import cells_table
from analysis.estimators import Floats, wilson
from analysis.frames import StudyFrames
from analysis.ranks import MEAN_ONLY, quality_arms
from analysis.weights import is_drawn, weights

RELIABLE = 0.9
"""Success that a certified setting is shown to have at least."""

Method = Literal["wilson", "exact"]
"""One-sided limits: Clopper and Pearson's, wrong at most alpha of the time, or Wilson's, a little more often."""

Zone = Literal["certified", "ruled_out", "undecided"]

ZONE_COLUMNS: tuple[str, ...] = ("loss", "k", "learning_rate", "zone", "success", "lower", "upper", "runs")
CERTIFIED_COLUMNS: tuple[str, ...] = (
    "loss",
    "certified_decades",
    "certified_k",
    "certified_from",
    "certified_to",
    "certified",
    "ruled_out",
    "undecided",
    "seeds_to_certify",
)


def one_sided_limits(
    share: float, runs: float, *, alpha: float = 0.05, method: Method = "exact"
) -> tuple[float, float]:
    """Lower and upper limit of a share, each for its own one-sided error ``alpha``; no runs give (0, 1).

    Wilson's two-sided interval at 2 alpha, or Clopper & Pearson's 1934 beta quantiles.
    """
    if method == "wilson" or runs <= 0 or math.isnan(share):
        return wilson(share, runs, alpha=2 * alpha)
    successes = round(share * runs)
    failures = runs - successes
    lower = float(stats.beta.ppf(alpha, successes, failures + 1)) if successes else 0.0
    return lower, float(stats.beta.isf(alpha, successes + 1, failures)) if failures else 1.0


def zone(
    share: float, runs: float, *, reliable: float = RELIABLE, alpha: float = 0.05, method: Method = "exact"
) -> Zone:
    """``certified`` where the lower limit reaches ``reliable``, ``ruled_out`` where the upper does not, else neither.

    One setting at a time: of many settings exactly at ``reliable``, about ``alpha`` are certified by chance.
    """
    lower, upper = one_sided_limits(share, runs, alpha=alpha, method=method)
    if lower >= reliable:
        return "certified"
    return "ruled_out" if upper < reliable else "undecided"


def seeds_to_certify(
    reliable: float = RELIABLE, *, alpha: float = 0.05, two_sided: bool = False, method: Method = "exact"
) -> int:
    """Fewest replicates that certify a setting when all of them succeed: z^2 p / (1 - p), exact: log a / log p."""
    error = alpha / 2 if two_sided else alpha
    if method == "exact":
        return math.ceil(math.log(error) / math.log(reliable) - 1e-9)
    z = float(stats.norm.isf(error))
    return math.ceil(z * z * reliable / (1 - reliable) - 1e-9)


def longest_run(rates: Sequence[float], certified: Sequence[bool]) -> tuple[float, float, float]:
    """(decades, lowest rate, highest rate) of the longest unbroken run of certified rates; (0, NaN, NaN) without one.

    ``rates`` ascend. A single certified rate spans 0 decades; of two equally long runs the lower one is named.
    """
    best, start = (-1.0, math.nan, math.nan), None
    for rate, good in zip(rates, certified, strict=True):
        start = (rate if start is None else start) if good else None
        if start is not None and (length := math.log10(rate / start)) > best[0] + 1e-12:
            best = length, start, rate
    return best if best[0] >= 0 else (0.0, math.nan, math.nan)


def zones_table(
    frames: StudyFrames, *, reliable: float = RELIABLE, alpha: float = 0.05, method: Method = "exact"
) -> pd.DataFrame:
    """One row per label, k and learning rate: its zone, and the one-sided limits of its worst cell.

    Where several cells share a k and rate (penalty weights), the zone is certified only if all are, ruled out only if
    all are; the limits and the share are those of the cell with the lowest share. Empty without learning rates.
    """
    cells = cells_table(frames)
    rows = []
    rated = cells[cells["learning_rate"].notna()]
    for (label, k, rate), group in rated.groupby(["loss", "k", "learning_rate"], sort=True, dropna=False):
        shares, counts = group["success"].to_numpy(dtype=float), group["used"].to_numpy(dtype=float)
        found = [zone(s, n, reliable=reliable, alpha=alpha, method=method) for s, n in zip(shares, counts, strict=True)]
        worst = int(np.argmin(np.nan_to_num(shares, nan=-1.0)))
        lower, upper = one_sided_limits(shares[worst], counts[worst], alpha=alpha, method=method)
        together: Zone = found[0] if len(set(found)) == 1 else "undecided"
        rows.append((label, k, rate, together, shares[worst], lower, upper, int(counts[worst])))
    table = pd.DataFrame(rows, columns=list(ZONE_COLUMNS))
    order = {label: i for i, label in enumerate(frames.labels())}
    return table.sort_values("loss", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def certified_table(
    frames: StudyFrames, *, reliable: float = RELIABLE, alpha: float = 0.05, method: Method = "exact"
) -> pd.DataFrame:
    """One row per label: its longest certified run of learning rates (at the best k), and how many are in each zone.

    ``seeds_to_certify`` is what a flawless setting needs; with fewer replicates nothing can be certified, and the
    words are "undecided", not "unreliable". ``certified_decades`` is NaN where settings were drawn: no neighbours.
    """
    zones, drawn = zones_table(frames, reliable=reliable, alpha=alpha, method=method), is_drawn(frames)
    nothing = ((math.nan, math.nan, math.nan), math.nan)
    rows = []
    for label in frames.labels():
        own = zones[zones["loss"] == label]
        runs = [
            (longest_run(list(group["learning_rate"]), list(group["zone"] == "certified")), float(str(k)))
            for k, group in own.groupby("k", sort=True, dropna=False)
            if not drawn
        ]
        (decades, low, high), k = max(runs, key=lambda run: (not math.isnan(run[0][1]), run[0][0]), default=nothing)
        best = (decades, k if not math.isnan(low) else math.nan, low, high)
        counts = [int((own["zone"] == name).sum()) for name in ("certified", "ruled_out", "undecided")]
        rows.append((label, *best, *counts, seeds_to_certify(reliable, alpha=alpha, method=method)))
    return pd.DataFrame(rows, columns=list(CERTIFIED_COLUMNS))


def rate_sensitivity(levels: Floats, shares: Floats, *, cap: float = MEAN_ONLY) -> float:
    """How much a wrong learning rate costs: the weighted mean of min(level, cap) less the lowest level, in u.

    ``levels`` [rates] are mean final u (lower is better), ``shares`` their weights; a failure costs ``cap``, what an
    untrained generator scores. 0: every rate does as well. Wortsman et al. 2023, arXiv:2309.14322, section 2.2.
    """
    capped = np.minimum(levels, cap)
    return float(capped @ shares / shares.sum() - capped.min()) if len(levels) else math.nan


def sensitivity_table(frames: StudyFrames) -> pd.DataFrame:
    """``rate_sensitivity`` of every label, at the k where it is smallest; the lowest level comes from the same runs.

    Each run counts min(u, 1), a failure 1; cells without runs are left out. NaN with fewer than two learning rates.
    """
    design, rows = weights(frames), []
    for label, arm in quality_arms(frames).items():
        cells = design[design["loss"] == label]
        known = ~np.isnan(arm.values)
        totals = np.where(known, np.minimum(arm.values, MEAN_ONLY), 0.0).sum(axis=1)
        seen = cells.assign(level=totals / np.maximum(known.sum(axis=1), 1))[known.any(axis=1)]
        found = []
        for k, group in seen.groupby("k", dropna=False, sort=True):
            curve = group.groupby("learning_rate").agg(level=("level", "mean"), weight=("weight", "sum"))
            if len(curve) > 1:
                found.append((rate_sensitivity(curve["level"].to_numpy(), curve["weight"].to_numpy()), float(str(k))))
        rows.append((label, *min(found, default=(math.nan, math.nan))))
    return pd.DataFrame(rows, columns=["loss", "lr_sensitivity", "lr_sensitivity_k"])
