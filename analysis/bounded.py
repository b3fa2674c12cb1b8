"""For means of values between 0 and 1: an interval that never shrinks to nothing, Wilson's at an effective n."""

from __future__ import annotations

import numpy as np

from analysis.estimators import Estimate, Floats, wilson


def shrunken_variance(values: Floats) -> float:
    """Variance of ``values`` [n] in [0, 1] after adding half an observation at 0 and half at 1.

    For values of 0 and 1 it is p~(1-p~) with p~ = (s+.5)/(n+1), as in ``effective_runs``; it stays positive where
    all values agree, which says little when they are few.
    """
    n = len(values)
    mean = (float(np.sum(values)) + 0.5) / (n + 1)
    square = (float(np.sum(values**2)) + 0.5) / (n + 1)
    return square - mean**2


def score_interval(value: float, variance: float, *, floor: float, alpha: float = 0.05) -> Estimate:
    """Wilson's interval of a mean in [0, 1] at n = max(floor, value (1 - value) / variance).

    ``variance`` is that of the estimate; a mean of values in [0, 1] varies at most as a share of the same size does,
    so ``floor`` is the number of independent values. Design-effect approach: Korn & Graubard 1998.
    """
    n_eff = max(floor, value * (1 - value) / variance) if variance > 0 else floor
    low, high = wilson(value, n_eff, alpha=alpha)
    return Estimate(value=value, low=low, high=high, n_eff=n_eff)
