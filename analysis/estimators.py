"""Intervals and tests for shares of replicates; n always counts replicates, never steps, evaluations or samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MONTE_CARLO_DRAWS = 99_999
LATTICE_LIMIT = 20_000  # longest exact distribution that is convolved directly


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share or a difference of shares with its interval; ``n_eff`` is the number of independent runs it is worth."""

    value: float
    low: float
    high: float
    n_eff: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Successes out of runs in each cell, and the cell's weight (weights sum to 1 over the declared cells)."""

    weights: Floats
    successes: Floats
    runs: Floats

    def __post_init__(self) -> None:
        shapes = {self.weights.shape, self.successes.shape, self.runs.shape}
        if len(shapes) != 1:
            raise ValueError(f"weights, successes and runs must have one entry per cell, got shapes {sorted(shapes)}")


def wilson(share: float, runs: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval of a proportion; ``runs`` may be fractional (an effective n), 0 runs give (0, 1).

    Limits: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n). Wilson 1927, JASA 22:209.
    """
    if runs <= 0 or math.isnan(share):
        return 0.0, 1.0
    z = float(stats.norm.isf(alpha / 2))
    centre = share + z * z / (2 * runs)
    half = z * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))
    scale = 1 + z * z / runs
    low = 0.0 if share <= 0 else max(0.0, (centre - half) / scale)  # exact at the ends, whatever the rounding
    high = 1.0 if share >= 1 else min(1.0, (centre + half) / scale)
    return low, high


def effective_runs(cells: Cells) -> float:
    """Effective n of the weighted share: max(1 / sum(w^2/R), e(1-e)/V), V = sum w^2 p~(1-p~)/R, p~ = (s+.5)/(R+1).

    The shrunken p~ keeps V positive on cells of 0 or R successes. Design-effect approach: Korn & Graubard 1998.
    Expects every cell to hold at least one run.
    """
    w, s, n = cells.weights, cells.successes, cells.runs
    share = float(np.sum(w * s / n))
    shrunken = (s + 0.5) / (n + 1)
    variance = float(np.sum(w**2 * shrunken * (1 - shrunken) / n))
    floor = 1 / float(np.sum(w**2 / n))
    return max(floor, share * (1 - share) / variance)


def weighted_share(cells: Cells, *, alpha: float = 0.05) -> Estimate:
    """Weighted mean of the cells' success shares with Wilson's interval at the effective n (target: this grid).

    Cells without runs are never re-spanned: the value is the mean over the observed cells, and the interval lets
    the unobserved weight be anything between 0 and 1. No observed cell gives NaN in (0, 1).
    """
    seen = cells.runs > 0
    mass = float(cells.weights[seen].sum())
    if not seen.any() or mass <= 0:
        return Estimate(value=math.nan, low=0.0, high=1.0, n_eff=0.0)
    observed = Cells(weights=cells.weights[seen] / mass, successes=cells.successes[seen], runs=cells.runs[seen])
    share = min(1.0, float(np.sum(observed.weights * observed.successes / observed.runs)))
    n_eff = effective_runs(observed)
    low, high = wilson(share, n_eff, alpha=alpha)
    if seen.all():
        return Estimate(value=share, low=low, high=high, n_eff=n_eff)
    return Estimate(value=share, low=low * mass, high=high * mass + (1 - mass), n_eff=n_eff)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """A minus B from two intervals of the same level: MOVER, Newcombe's hybrid score method.

    D - sqrt((eA-lA)^2 + (uB-eB)^2), D + sqrt((uA-eA)^2 + (eB-lB)^2). Newcombe 1998, Stat Med 17:873, method 10.
    """
    if math.isnan(a.value) or math.isnan(b.value):
        return Estimate(value=math.nan, low=-1.0, high=1.0)
    d = a.value - b.value
    low = d - math.hypot(a.value - a.low, b.high - b.value)
    high = d + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value=d, low=max(-1.0, low), high=min(1.0, high))


def mean_of_units(values: Floats, *, alpha: float = 0.05) -> Estimate:
    """Student's t interval for the mean of independent units (cells of a random design, or sweeps of shared seeds)."""
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Estimate(value=mean, low=-math.inf, high=math.inf, n_eff=float(n))
    half = float(stats.t.isf(alpha / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(value=mean, low=mean - half, high=mean + half, n_eff=float(n))


@dataclass(frozen=True, kw_only=True)
class Strata:
    """Two arms in matched cells: successes and runs of A and of B, and the cell's weight."""

    weights: Floats
    successes_a: Ints
    runs_a: Ints
    successes_b: Ints
    runs_b: Ints

    def both_seen(self) -> Strata:
        """Keep only the strata in which both arms have runs."""
        keep = (self.runs_a > 0) & (self.runs_b > 0) & (self.weights > 0)
        return Strata(
            weights=self.weights[keep],
            successes_a=self.successes_a[keep],
            runs_a=self.runs_a[keep],
            successes_b=self.successes_b[keep],
            runs_b=self.runs_b[keep],
        )


def permutation_p(strata: Strata, *, draws: int = MONTE_CARLO_DRAWS, seed: int = 0) -> float:
    """Two-sided p of the stratified permutation test of sum w (y_A/R_A - y_B/R_B), given each cell's margins.

    Given the margins the difference is linear in y_A with coefficient w (1/R_A + 1/R_B), and y_A is
    hypergeometric. On a regular grid the coefficients are integers up to a factor: the exact law is a convolution.
    Otherwise Monte Carlo with its own generator, p = (1 + hits) / (1 + draws). "At least as extreme" is at least
    as far from the null mean. NaN where no stratum holds both arms. Fisher 1935; Phipson & Smyth 2010.
    """
    seen = strata.both_seen()
    if len(seen.weights) == 0:
        return math.nan
    coefficients = seen.weights * (1 / seen.runs_a + 1 / seen.runs_b)
    totals = seen.successes_a + seen.successes_b
    steps = integer_multiples(coefficients)
    if steps is not None and int(np.sum(steps * np.minimum(totals, seen.runs_a))) <= LATTICE_LIMIT:
        return _exact_p(seen, steps, totals)
    return _monte_carlo_p(seen, coefficients, totals, draws=draws, rng=np.random.default_rng(seed))


def integer_multiples(values: Floats, *, largest: int = 400, tolerance: float = 1e-9) -> Ints | None:
    """Smallest integers proportional to ``values`` (all positive), or None where there are none up to ``largest``."""
    ratios = [Fraction(float(v / values.min())).limit_denominator(largest) for v in values]
    scale = math.lcm(*(r.denominator for r in ratios))
    if scale > largest:
        return None
    integers = np.array([int(r * scale) for r in ratios], dtype=np.int64)
    exact = np.allclose(integers / integers.min(), values / values.min(), rtol=tolerance, atol=0)
    return integers if exact and int(integers.max()) <= largest else None


def _exact_p(strata: Strata, steps: Ints, totals: Ints) -> float:
    law = np.ones(1)
    offset, mean = 0, 0.0
    for step, total, n_a, n_b in zip(steps, totals, strata.runs_a, strata.runs_b, strict=True):
        low, high = max(0, total - n_b), min(total, n_a)
        stretched = np.zeros((high - low) * step + 1)
        stretched[::step] = stats.hypergeom.pmf(np.arange(low, high + 1), n_a + n_b, total, n_a)
        law = np.convolve(law, stretched)
        offset += int(low * step)
        mean += float(step * total * n_a / (n_a + n_b))
    distance = np.abs(np.arange(len(law)) + offset - mean)
    observed = abs(float(np.sum(steps * strata.successes_a)) - mean)
    return min(1.0, float(law[distance >= observed - 1e-9 * max(1.0, observed)].sum()))


def _monte_carlo_p(
    strata: Strata, coefficients: Floats, totals: Ints, *, draws: int, rng: np.random.Generator
) -> float:
    runs = strata.runs_a + strata.runs_b
    mean = totals * strata.runs_a / runs
    drawn = rng.hypergeometric(totals, runs - totals, strata.runs_a, size=(draws, len(totals)))
    distance = np.abs((drawn - mean) @ coefficients)
    observed = abs(float((strata.successes_a - mean) @ coefficients))
    hits = int(np.sum(distance >= observed - 1e-12))
    return (1 + hits) / (1 + draws)


def sign_flip_p(differences: Floats, *, draws: int = MONTE_CARLO_DRAWS, seed: int = 0) -> float:
    """Two-sided sign-flip p for paired differences of independent units: exact up to 14 units, else Monte Carlo."""
    n = len(differences)
    if n == 0:
        return math.nan
    if n <= 14:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))
    signs = np.random.default_rng(seed).choice(np.array([-1, 1]), size=(draws, n))
    hits = int(np.sum(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))
    return (1 + hits) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values in the given order; NaN stays NaN and counts in no family. Holm 1979."""
    adjusted = [math.nan] * len(p_values)
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    running = 0.0
    for rank, (p, i) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[i] = running
    return adjusted


def seeds_for_power(a: Cells, b: Cells, *, delta: float, pairs: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Replicates per cell with which a difference ``delta`` is found with probability ``power``.

    R = (z_{1-alpha/2/pairs} + z_power)^2 (sum w_A^2 v~_A + sum w_B^2 v~_B) / delta^2, v~ = p~(1-p~),
    p~ = (s+.5)/(R+1): the two-sample normal formula with the grid's variance.
    """
    z = float(stats.norm.isf(alpha / 2 / pairs) + stats.norm.ppf(power))
    variance = 0.0
    for cells in (a, b):
        shrunken = (cells.successes + 0.5) / (cells.runs + 1)
        variance += float(np.sum(cells.weights**2 * shrunken * (1 - shrunken)))
    return z * z * variance / delta**2


def trapezoid(positions: Floats) -> Floats:
    """Trapezoid-rule weights of ascending distinct ``positions`` (units kept: they sum to the span); one gives 0."""
    if len(positions) < 2:
        return np.zeros(len(positions))
    gaps = np.diff(positions)
    return np.asarray((np.append(0.0, gaps) + np.append(gaps, 0.0)) / 2)
