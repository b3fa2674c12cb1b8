"""Trend statistics that do not mind outliers: Theil-Sen line and Kendall's tau (numpy only)."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT_LIMIT = 33
"""Up to this many untied values the p-value of tau is exact; beyond it is the normal approximation."""


def theil_sen(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and intercept of the Theil-Sen line: the median of all pairwise slopes, the median residual.

    x must be strictly increasing. Fewer than two points have slope 0. Source: Sen 1968.
    """
    first, second = _pairs(len(x))
    if len(first) == 0:
        return 0.0, median(y)
    slope = median((y[second] - y[first]) / (x[second] - x[first]))
    return slope, median(y - slope * x)


def median(values: Floats) -> float:
    """``numpy.median`` of numbers none of which is NaN, to the bit, without its 20 us of looking for axes."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    below, above = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return float((below + above) / 2)


@functools.lru_cache(maxsize=8)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of all pairs of n values, the earlier one first; the same for every replicate of a study."""
    return np.triu_indices(n, k=1)


def kendall(y: Floats) -> tuple[float, float]:
    """Kendall's tau-b of y against its order, and its two-sided p-value (tau 0 and p 1 where y is constant).

    Exact without ties up to 33 values, otherwise normal with tie correction. Source: Kendall 1970.
    """
    n = len(y)
    first, second = _pairs(n)
    score = int(np.sign(y[second] - y[first]).sum())
    pairs = n * (n - 1) // 2
    ties = np.unique(y, return_counts=True)[1]
    untied = pairs - int((ties * (ties - 1) // 2).sum())
    if untied == 0:
        return 0.0, 1.0
    tau = score / math.sqrt(pairs * untied)
    if untied == pairs and n <= EXACT_LIMIT:
        return tau, _exact_p(n, score)
    variance = (n * (n - 1) * (2 * n + 5) - int((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return tau, math.erfc(abs(score) / math.sqrt(2 * variance))


def _exact_p(n: int, score: int) -> float:
    """Two-sided P(|score| at least as large) over all orders of n distinct values."""
    counts = _inversion_counts(n)
    pairs = n * (n - 1) // 2
    inversions = (pairs - abs(score)) // 2
    return min(1.0, 2.0 * sum(counts[: inversions + 1]) / math.factorial(n))


@functools.cache
def _inversion_counts(n: int) -> tuple[int, ...]:
    """How many orders of n values have 0, 1, 2, ... inversions (Mahonian numbers)."""
    counts = [1]
    for size in range(2, n + 1):
        longer = [0] * (len(counts) + size - 1)
        for inversions, count in enumerate(counts):
            for added in range(size):
                longer[inversions + added] += count
        counts = longer
    return tuple(counts)
