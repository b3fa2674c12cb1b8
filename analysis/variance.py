"""Where the differences between runs come from: the setting or the seed; which factor of the setting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from analysis.arms import event
from analysis.compare import arms
from analysis.estimators import Floats
from analysis.frames import PENALTY_PARAMETERS, StudyFrames

SEED_NOISE = "seed"

VARIANCE_COLUMNS: tuple[str, ...] = ("term", "df", "sum_of_squares", "share", "omega_squared")


def intraclass_correlation(values: Floats) -> float:
    """Share of the variance of single runs that lies between settings, from ``values`` [settings, runs] (NaN: unknown).

    ICC(1) = (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 = (N - sum n_i^2 / N) / (C - 1). 1: the setting decides, 0: the
    seed does (below 0: settings differ less than chance would make them). NaN where all runs agree, or there are
    fewer than two settings or no repeated one. Fisher 1925; Donner 1986, Int Stat Rev 54:67 for unequal n.
    """
    known = [row[~np.isnan(row)] for row in values]
    groups = [row for row in known if len(row)]
    total = sum(len(row) for row in groups)
    if len(groups) < 2 or total <= len(groups):
        return math.nan
    grand = float(np.concatenate(groups).mean())
    between = sum(len(row) * (float(row.mean()) - grand) ** 2 for row in groups) / (len(groups) - 1)
    within = sum(float(((row - row.mean()) ** 2).sum()) for row in groups) / (total - len(groups))
    repeats = (total - sum(len(row) ** 2 for row in groups) / total) / (len(groups) - 1)
    scale = between + (repeats - 1) * within
    return float((between - within) / scale) if scale > 0 else math.nan


def balanced_anova(values: Floats, names: tuple[str, ...]) -> pd.DataFrame:
    """Sums of squares of every factor and interaction of a balanced grid, and of the seeds, columns VARIANCE_COLUMNS.

    ``values`` [levels of names[0], levels of names[1], ..., runs]. The effect of a set of factors is the alternating
    sum of its marginal means, so the terms are orthogonal and add up. ``omega_squared`` = (SS - df MSW) / (SST + MSW)
    takes away what seed noise alone would give (Hays 1963); NaN with one run a cell. Factors of one level have no
    term. ValueError: a name is missing or a value unknown.
    """
    if values.ndim != len(names) + 1 or np.isnan(values).any():
        raise ValueError(f"values must be a full grid over {', '.join(names)} and runs, got shape {values.shape}")
    runs, axes = values.shape[-1], range(len(names))
    cell_means = values.mean(axis=-1)
    within = float(((values - cell_means[..., None]) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    spare = cell_means.size * (runs - 1)
    noise = within / spare if spare else math.nan
    rows: list[tuple[str, int, float, float, float]] = []
    for size in range(1, len(names) + 1):
        for term in itertools.combinations(axes, size):
            df = math.prod(values.shape[i] - 1 for i in term)
            if df:
                squares = runs * float((_effect(cell_means, term) ** 2).sum())
                rows.append((" x ".join(names[i] for i in term), df, squares, *_shares(squares, df, total, noise)))
    rows.append((SEED_NOISE, spare, within, within / total if total > 0 else math.nan, math.nan))
    return pd.DataFrame(rows, columns=list(VARIANCE_COLUMNS))


def _effect(means: Floats, term: tuple[int, ...]) -> Floats:
    """Effect of the factors in ``term`` at every cell: inclusion and exclusion over their marginal means."""
    effect = np.zeros_like(means)
    for size in range(len(term) + 1):
        for kept in itertools.combinations(term, size):
            others = tuple(i for i in range(means.ndim) if i not in kept)
            effect = effect + (-1) ** (len(term) - size) * means.mean(axis=others, keepdims=True)
    return effect


def _shares(squares: float, df: int, total: float, noise: float) -> tuple[float, float]:
    if not total > 0:
        return math.nan, math.nan
    return squares / total, (squares - df * noise) / (total + noise)


def icc_table(frames: StudyFrames) -> pd.DataFrame:
    """``icc`` of success for every label: how much of its runs' variance the setting explains."""
    rows = [{"loss": label, "icc": intraclass_correlation(arm.values)} for label, arm in arms(frames).items()]
    return pd.DataFrame(rows, columns=["loss", "icc"])


def variance_table(frames: StudyFrames) -> pd.DataFrame:
    """ANOVA of success over loss, learning rate, k and every other varied factor; levels count equally.

    Empty where the runs used are no balanced grid (a run is missing, a factor belongs to one label only, settings
    were drawn): then the terms are not orthogonal and no split is exact.
    """
    empty = pd.DataFrame(columns=list(VARIANCE_COLUMNS))
    factors = frames.varying_factors()
    runs = frames.runs.assign(happened=event(frames.runs, ["converged"]))
    names = ["loss", *factors]
    if not len(runs) or PENALTY_PARAMETERS & set(factors) or runs["happened"].isna().any():
        return empty
    levels = [list(dict.fromkeys(runs[name])) for name in names]
    counts = runs.groupby(names, dropna=False).size()
    if len(counts) != math.prod(map(len, levels)) or counts.nunique() != 1 or runs[names].isna().any(axis=None):
        return empty
    ordered = runs.sort_values([*names, "replicate"], kind="stable")["happened"].to_numpy(dtype=np.float64)
    return balanced_anova(ordered.reshape([*map(len, levels), int(counts.iloc[0])]), tuple(names))
