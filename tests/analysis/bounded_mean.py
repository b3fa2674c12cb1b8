"""The oracle of means of values between 0 and 1: the weighted share of ``analysis.estimators``, for any such values."""

from __future__ import annotations

import math

import numpy as np

from analysis.bounded import score_interval, shrunken_variance
from analysis.estimators import Estimate, Floats


def bounded_mean(weights: Floats, values: Floats, *, alpha: float = 0.05) -> Estimate:
    """Weighted mean over cells of values [cells, runs] in [0, 1] (NaN: unknown); ``weighted_share`` for 0 and 1.

    A cell without known values keeps its weight: the interval lets it be anything between 0 and 1.
    """
    known = [row[~np.isnan(row)] for row in values]
    seen = np.array([len(row) > 0 for row in known], dtype=bool)
    mass = float(weights[seen].sum())
    if not seen.any() or mass <= 0:
        return Estimate(value=math.nan, low=0.0, high=1.0, n_eff=0.0)
    shares = weights[seen] / mass
    cells = [row for row in known if len(row)]
    counts = np.array([len(row) for row in cells], dtype=np.float64)
    value = min(1.0, float(shares @ np.array([row.mean() for row in cells])))
    variance = float(np.sum(shares**2 * np.array([shrunken_variance(row) for row in cells]) / counts))
    found = score_interval(value, variance, floor=1 / float(np.sum(shares**2 / counts)), alpha=alpha)
    if seen.all():
        return found
    return Estimate(value=value, low=found.low * mass, high=found.high * mass + (1 - mass), n_eff=found.n_eff)
