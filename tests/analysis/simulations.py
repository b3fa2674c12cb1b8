"""The promises of the statistics, measured on simulated studies with fixed seeds: coverage, size, power, bias.

Every function of SCENARIOS returns what it measured, with the range it must lie in; ``test_simulations`` holds them
to it and ``benchmarks/simulation_table.py`` prints them. A row that begins with "wrong:" is a negative control: a
method that must fail, which shows that the simulation can tell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.arms import Arm, gap, p_value, share
from analysis.estimators import (
    Cells,
    Estimate,
    Strata,
    difference,
    holm,
    mean_of_units,
    permutation_p,
    seeds_for_power,
    sign_flip_p,
    trapezoid,
    weighted_share,
    wilson,
)
from analysis.ranges import zone
from analysis.ranks import mean_superiority, superiority
from analysis.subspaces import window_success
from analysis.times import Lives, cumulative_incidence, mean_time
from analysis.tuned import expected_best, tuned_success
from analysis.variance import intraclass_correlation


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured promise; it is kept where ``low`` <= ``measured`` <= ``high``."""

    scenario: str
    quantity: str
    nominal: str
    measured: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def kept(self) -> bool:
        return self.low <= self.measured <= self.high


Scenario = Callable[[], list[Row]]


def grid_weights(cells: int) -> np.ndarray:
    weights = trapezoid(np.arange(cells, dtype=float))
    return weights / weights.sum() if cells > 1 else np.ones(1)


def patterns(cells: int) -> dict[str, np.ndarray]:
    """Six shapes of success over a grid."""
    t = np.linspace(0, 1, cells)
    return {
        "all .8": np.full(cells, 0.8),
        "all .97": np.full(cells, 0.97),
        "ramp .05 to .95": 0.05 + 0.9 * t,
        "half .9, half .1": np.where(t < 0.5, 0.9, 0.1),
        "hump": 0.95 * np.sin(np.pi * (0.05 + 0.9 * t)),
        "cliff .99 to .01": np.where(t < 0.7, 0.99, 0.01),
    }


SHAPES = [(6, 5), (6, 20), (12, 10), (30, 5), (30, 20)]
SHARP = {
    "6 cells: .9 .9 .9 0 0 0": ([0.9] * 3 + [0.0] * 3, 10),
    "12 cells: half .9, half 0": ([0.9] * 6 + [0.0] * 6, 10),
    "8 cells: 1 1 1 1 .7 0 0 0": ([1, 1, 1, 1, 0.7, 0, 0, 0], 5),
    "8 cells: one .9, rest 1": ([0.9] + [1.0] * 7, 5),
}


def shares(weights: np.ndarray, counts: np.ndarray, runs: int) -> list[tuple[float, float]]:
    """95 % limits of every simulated study [studies, cells]."""
    full = np.full(counts.shape[1], float(runs))
    found = [weighted_share(Cells(weights=weights, successes=row.astype(float), runs=full)) for row in counts]
    return [(e.low, e.high) for e in found]


def covered(limits: Iterable[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high in limits]))


def coverage_of_shares() -> list[Row]:
    rng, found = np.random.default_rng(101), []
    for cells, runs in SHAPES:
        weights = grid_weights(cells)
        for p in patterns(cells).values():
            limits = shares(weights, rng.binomial(runs, p, (2000, cells)), runs)
            found.append(covered(limits, float(weights @ p)))
    sharp = []
    for p, runs in SHARP.values():
        weights = grid_weights(len(p))
        limits = shares(weights, rng.binomial(runs, p, (2000, len(p))), runs)
        sharp.append(covered(limits, float(weights @ p)))
    name = "share of success, 6 patterns x 5 grids (6 to 30 cells, 5 to 20 seeds)"
    return [
        Row(scenario=name, quantity="coverage, worst", nominal=".95", measured=min(found), low=0.925),
        Row(
            scenario=name, quantity="coverage, mean", nominal=".95", measured=float(np.mean(found)), low=0.94, high=0.99
        ),
        Row(
            scenario="share of success, 4 sharp grids",
            quantity="coverage, worst",
            nominal=".95",
            measured=min(sharp),
            low=0.91,
        ),
    ]


def coverage_of_one_cell() -> list[Row]:
    """Exact, by summing over the binomial law at 400 probabilities; 10 seeds."""
    runs, k = 10, np.arange(11)
    grid = np.linspace(0.005, 0.995, 400)
    law = stats.binom.pmf(k, runs, grid[:, None])
    limits = np.array([wilson(s / runs, runs) for s in k])
    percentile = np.array(
        [stats.binom.ppf([0.025, 0.975], runs, s / runs) / runs if 0 < s < runs else [s / runs] * 2 for s in k]
    )

    def mean_coverage(both: np.ndarray) -> float:
        inside = (both[:, 0] <= grid[:, None]) & (grid[:, None] <= both[:, 1])
        return float((law * inside).sum(axis=1).mean())

    return [
        Row(
            scenario="one cell of 10 seeds, Wilson (exact)",
            quantity="coverage, mean over p",
            nominal=".95",
            measured=mean_coverage(limits),
            low=0.94,
            high=0.97,
        ),
        Row(
            scenario="wrong: percentile bootstrap of one cell (exact)",
            quantity="coverage, mean over p",
            nominal=".95",
            measured=mean_coverage(percentile),
            high=0.85,
        ),
    ]


def difference_of_shares() -> list[Row]:
    rng, coverage, size = np.random.default_rng(102), [], []
    for cells, runs in SHAPES:
        weights, shapes = grid_weights(cells), list(patterns(cells).values())
        for p_a, p_b, null in [
            (shapes[0], shapes[2], False),
            (shapes[4], shapes[3], False),
            *((p, p, True) for p in shapes[:4:2]),
        ]:
            both = [rng.binomial(runs, p, (1000, cells)) for p in (p_a, p_b)]
            full = np.full(cells, float(runs))
            limits = []
            for row_a, row_b in zip(*both, strict=True):
                a, b = (
                    weighted_share(Cells(weights=weights, successes=row.astype(float), runs=full))
                    for row in (row_a, row_b)
                )
                found = difference(a, b)
                limits.append((found.low, found.high))
            inside = covered(limits, float(weights @ (p_a - p_b)))
            coverage.append(inside)
            if null:
                size.append(1 - inside)
    name = "difference of two losses, 20 designs"
    return [
        Row(scenario=name, quantity="coverage, worst", nominal=".95", measured=min(coverage), low=0.925),
        Row(scenario=name, quantity="false differences, worst", nominal=".05", measured=max(size), high=0.075),
    ]


def strata(weights: np.ndarray, a: np.ndarray, b: np.ndarray, runs: int) -> Strata:
    full = np.full(len(weights), runs, dtype=np.int64)
    return Strata(weights=weights, successes_a=a, runs_a=full, successes_b=b, runs_b=full)


def exact_test() -> list[Row]:
    rng, studies, runs = np.random.default_rng(103), 800, 8
    weights, p = grid_weights(5), np.array([0.95, 0.8, 0.5, 0.2, 0.05])
    a, b = rng.binomial(runs, p, (2, studies, 5))
    strong = np.mean([permutation_p(strata(weights, x, y, runs)) <= 0.05 for x, y in zip(a, b, strict=True)])
    crossing = np.array([1, 0.5, 1]), np.array([0.5, 1, 0.5])
    a, b = (rng.binomial(20, q, (studies, 3)) for q in crossing)
    weak = np.mean([permutation_p(strata(grid_weights(3), x, y, 20)) <= 0.05 for x, y in zip(a, b, strict=True)])
    even = np.full(3, 1 / 3)
    wrong = np.mean([permutation_p(strata(even, x, y, 20)) <= 0.05 for x, y in zip(a, b, strict=True)])
    allowance = 3 * math.sqrt(0.05 * 0.95 / studies)
    return [
        Row(
            scenario="exact test, equal losses",
            quantity="rejections at .05",
            nominal="<= .05",
            measured=float(strong),
            high=0.05 + allowance,
        ),
        Row(
            scenario="exact test, losses that cross with equal weighted shares",
            quantity="rejections at .05",
            nominal="<= .05",
            measured=float(weak),
            high=0.05,
        ),
        Row(
            scenario="wrong: the unweighted test there",
            quantity="rejections at .05",
            nominal="<= .05",
            measured=float(wrong),
            low=0.30,
        ),
    ]


def family_of_pairs() -> list[Row]:
    rng, studies, runs = np.random.default_rng(104), 500, 8
    weights, p = grid_weights(4), np.array([0.9, 0.7, 0.4, 0.1])
    holms = plain = 0
    for _ in range(studies):
        drawn = rng.binomial(runs, p, (4, 4))
        found = [
            permutation_p(strata(weights, drawn[i], drawn[j], runs)) for i, j in itertools.combinations(range(4), 2)
        ]
        holms += min(holm(found)) <= 0.05
        plain += min(found) <= 0.05
    allowance = 3 * math.sqrt(0.05 * 0.95 / studies)
    return [
        Row(
            scenario="four equal losses, six pairs, Holm",
            quantity="any false difference",
            nominal="<= .05",
            measured=holms / studies,
            high=0.05 + allowance,
        ),
        Row(
            scenario="wrong: the same without Holm",
            quantity="any false difference",
            nominal="<= .05",
            measured=plain / studies,
            low=0.08,
        ),
    ]


def drawn_settings() -> list[Row]:
    """Twelve drawn settings, four seeds each; each loss has its own chance of success at each, from one law."""
    rng, studies, cells, runs = np.random.default_rng(105), 800, 12, 4
    hits = {"t": 0, "flip": 0, "grid": 0}
    even = np.full(cells, 1 / cells)
    for _ in range(studies):
        a, b = rng.binomial(runs, rng.beta(0.5, 0.5, (2, cells)))
        units = (a - b) / runs
        found = mean_of_units(units)
        hits["t"] += not found.low <= 0 <= found.high
        hits["flip"] += sign_flip_p(units) <= 0.05
        hits["grid"] += permutation_p(strata(even, a, b, runs)) <= 0.05
    name = "a new setting of the space, 12 settings x 4 seeds, equal losses"
    limit = 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    return [
        Row(
            scenario=name,
            quantity="rejections, t over settings",
            nominal=".05",
            measured=hits["t"] / studies,
            high=limit,
        ),
        Row(
            scenario=name, quantity="rejections, sign flips", nominal=".05", measured=hits["flip"] / studies, high=limit
        ),
        Row(
            scenario="wrong: the grid's test on drawn settings",
            quantity="rejections at .05",
            nominal=".05",
            measured=hits["grid"] / studies,
            low=0.10,
        ),
    ]


def power() -> list[Row]:
    """Replicates from the planning formula; how often is the planned difference then found?"""
    rng, cells, delta, studies = np.random.default_rng(106), 6, 0.15, 1500
    weights = grid_weights(cells)
    p_a = np.array([0.2, 0.6, 0.8, 0.8, 0.5, 0.3])
    p_b = p_a - delta
    exact = [Cells(weights=weights, successes=p * 1e9, runs=np.full(cells, 1e9)) for p in (p_a, p_b)]
    runs = math.ceil(seeds_for_power(*exact, delta=delta, pairs=1))
    found = 0
    for a, b in zip(rng.binomial(runs, p_a, (studies, cells)), rng.binomial(runs, p_b, (studies, cells)), strict=True):
        full = np.full(cells, float(runs))
        both = (weighted_share(Cells(weights=weights, successes=x.astype(float), runs=full)) for x in (a, b))
        found += difference(*both).low > 0
    return [
        Row(
            scenario=f"planned seeds ({runs} a cell) for a difference of {delta:g}",
            quantity="power",
            nominal=".80",
            measured=found / studies,
            low=0.75,
            high=0.87,
        )
    ]


def arm(values: np.ndarray) -> Arm:
    cells = len(values)
    names = tuple(f"c{i}" for i in range(cells))
    return Arm(weights=grid_weights(cells), strata=names, values=values, planned=np.ones(values.shape, dtype=bool))


def shared_seeds() -> list[Row]:
    """Replicate r has one seed in every cell, so its runs succeed and fail together."""
    rng, studies, cells, runs = np.random.default_rng(107), 1000, 12, 15
    p = np.linspace(0.3, 0.8, cells)
    truth = float(grid_weights(cells) @ p)
    right, wrong = [], []
    for _ in range(studies):
        luck = math.sqrt(0.7) * rng.normal(size=runs) + math.sqrt(0.3) * rng.normal(size=(cells, runs))
        one = arm((luck < stats.norm.ppf(p)[:, None]).astype(float))
        for target, kept in (("sweeps", right), ("grid", wrong)):
            found = share(one, target)  # type: ignore[arg-type]
            kept.append((found.low, found.high))
    return [
        Row(
            scenario="shared seeds, t over sweeps",
            quantity="coverage",
            nominal=".95",
            measured=covered(right, truth),
            low=0.93,
        ),
        Row(
            scenario="wrong: the grid's interval under shared seeds",
            quantity="coverage",
            nominal=".95",
            measured=covered(wrong, truth),
            high=0.85,
        ),
    ]


def tuned() -> list[Row]:
    """Thirty settings that are all alike: tuning buys nothing, and honest numbers say so."""
    rng, studies = np.random.default_rng(108), 1200
    values = rng.binomial(1, 0.8, (studies, 30, 10)).astype(float)
    star = float(np.mean([tuned_success(v) for v in values])) - 0.8
    eight = float(np.mean([tuned_success(v, budget=8) for v in values[:600]])) - 0.8
    naive = float(values.mean(axis=2).max(axis=1).mean()) - 0.8
    curve = float(np.mean([expected_best(v.mean(axis=1), 8) for v in values])) - 0.8
    name = "tuned success, 30 equal settings (p = .8) x 10 seeds"
    return [
        Row(scenario=name, quantity="bias", nominal="0", measured=star, low=-0.012, high=0.012),
        Row(scenario=name, quantity="bias, best of 8", nominal="0", measured=eight, low=-0.012, high=0.012),
        Row(scenario="wrong: the largest share seen", quantity="bias", nominal="0", measured=naive, low=0.15),
        Row(
            scenario="wrong: expected best of 8, selected and scored on the same seeds",
            quantity="bias",
            nominal="0",
            measured=curve,
            low=0.08,
        ),
    ]


def confirmed_settings() -> list[Row]:
    """The best of sixty settings by ten seeds each, then thirty fresh seeds of it: what covers its own success."""
    rng, studies, seeds, fresh = np.random.default_rng(121), 4000, 10, 30
    p = rng.beta(12, 8, (studies, 60))
    seen = rng.binomial(seeds, p)
    ties = seen + rng.random(seen.shape)  # equal settings are chosen by chance
    truth = p[np.arange(studies), ties.argmax(axis=1)]
    confirmed = rng.binomial(fresh, truth)
    name = "selected setting (best of 60 by 10 seeds), 30 fresh seeds"
    other = rng.binomial(fresh, truth)
    false = np.mean([_apart(a, b, fresh) for a, b in zip(confirmed, other, strict=True)])
    wrong = "wrong: the interval of the seeds that selected it"
    shares_seen = seen.max(axis=1) / seeds
    covering = covered_each([wilson(c / fresh, fresh) for c in confirmed], truth)
    selecting = covered_each([wilson(share, seeds) for share in shares_seen], truth)
    return [
        Row(scenario=name, quantity="coverage (Wilson)", nominal=".95", measured=covering, low=0.93, high=0.98),
        Row(scenario=f"{name}, equal losses", quantity="false differences", nominal=".05", measured=false, high=0.07),
        Row(scenario=wrong, quantity="coverage", nominal=".95", measured=selecting, high=0.85),
        Row(
            scenario="wrong: the share that selected it",
            quantity="bias",
            nominal="0",
            measured=float((shares_seen - truth).mean()),
            low=0.05,
        ),
    ]


def covered_each(limits: Iterable[tuple[float, float]], truths: np.ndarray) -> float:
    return float(np.mean([low <= truth <= high for (low, high), truth in zip(limits, truths, strict=True)]))


def _apart(a: int, b: int, runs: int) -> bool:
    """Whether Newcombe's interval of the difference excludes 0."""
    sides = [Estimate(value=s / runs, low=wilson(s / runs, runs)[0], high=wilson(s / runs, runs)[1]) for s in (a, b)]
    found = difference(*sides)
    return found.low > 0 or found.high < 0


def decades() -> list[Row]:
    """Area under the response curve against its width at p >= .9, 9 rates over 4 decades, 10 seeds."""
    rng, runs = np.random.default_rng(109), 10
    positions = np.linspace(-5, -1, 9)
    p = np.array([0, 0.2, 0.85, 0.95, 0.97, 0.95, 0.8, 0.1, 0])
    seen = rng.binomial(runs, p, (4000, 9)) / runs
    area = seen @ trapezoid(positions)
    width = (seen >= 0.9).sum(axis=1)
    return [
        Row(
            scenario="decades of learning rate (area)",
            quantity="bias, decades",
            nominal="0",
            measured=float(area.mean() - trapezoid(positions) @ p),
            low=-0.01,
            high=0.01,
        ),
        Row(
            scenario="wrong: number of rates with a share >= .9",
            quantity="exactly right",
            nominal="1",
            measured=float((width == (p >= 0.9).sum()).mean()),
            high=0.75,
        ),
    ]


def times() -> list[Row]:
    """Converging at rate 3.27 and diverging at rate 1.63 compete over one horizon; then a grid with failures."""
    rng, n = np.random.default_rng(110), 200_000
    converge, diverge = 3.27, 1.63
    first, cause = rng.exponential(1 / (converge + diverge), n), rng.random(n) < converge / (converge + diverge)
    causes = np.where(first > 1, "", np.where(cause, "converged", "diverged"))
    truth = converge / (converge + diverge) * (1 - math.exp(-(converge + diverge)))
    few, at = slice(0, 4000), np.array([1.0])
    found = cumulative_incidence(first[few], causes[few], at)["converged"][0]
    censoring = np.where(causes == "diverged", "lost", causes)[few]
    wrong = cumulative_incidence(first[few], censoring, at)["converged"][0]
    lost_at = rng.uniform(0, 3, 4000)
    lost = np.where(lost_at < first[few], "lost", causes[few])
    some = cumulative_incidence(np.minimum(first[few], lost_at), lost, at)["converged"][0]
    allowance = 2 * math.sqrt(truth * (1 - truth) / 4000)
    name = f"converged by the horizon, divergence competing (truth {truth:.3f})"
    return [
        Row(
            scenario=name,
            quantity="share",
            nominal=f"{truth:.3f}",
            measured=float(found),
            low=truth - allowance,
            high=truth + allowance,
        ),
        Row(
            scenario=f"{name}, a third of the runs lost",
            quantity="share",
            nominal=f"{truth:.3f}",
            measured=float(some),
            low=truth - 2 * allowance,
            high=truth + 2 * allowance,
        ),
        Row(
            scenario="wrong: divergence as censoring",
            quantity="share",
            nominal=f"{truth:.3f}",
            measured=float(wrong),
            low=0.92,
        ),
        *_time_intervals(rng),
    ]


def _time_intervals(rng: np.random.Generator) -> list[Row]:
    coverage = []
    for cells, runs in [(6, 5), (12, 10), (30, 5)]:
        weights, fail, scale = grid_weights(cells), np.linspace(0, 0.95, cells), np.linspace(20, 120, cells)
        truth = float(weights @ (fail * 100 + (1 - fail) * scale * (1 - np.exp(-100 / scale))))
        drawn = np.where(
            rng.random((500, cells, runs)) < fail[:, None],
            math.inf,
            rng.exponential(scale[:, None], (500, cells, runs)),
        )
        seen = np.ones(runs, dtype=bool)
        limits = []
        for study in drawn:
            found = mean_time([Lives(times=row, observed=seen) for row in study], weights, 100.0)
            limits.append((found.low, found.high))
        coverage.append(covered(limits, truth))
    return [
        Row(
            scenario="mean time to convergence, 3 grids with failures",
            quantity="coverage, worst",
            nominal=".95",
            measured=min(coverage),
            low=0.925,
        )
    ]


def run_for_run() -> list[Row]:
    """Final quality of two losses with failures at +inf, averaged over cells."""
    rng, studies, coverage, size = np.random.default_rng(111), 600, [], []
    for cells, runs, shift, fail_a, fail_b in [
        (1, 10, 0.0, 0.0, 0.0),
        (1, 10, 0.8, 0.0, 0.0),
        (6, 5, 0.0, 0.3, 0.3),
        (6, 10, 0.5, 0.1, 0.4),
        (15, 5, 1.0, 0.2, 0.2),
        (15, 5, 0.0, 0.9, 0.9),
    ]:
        weights = grid_weights(cells)
        both_end = (1 - fail_a) * (1 - fail_b)
        truth = both_end * stats.norm.cdf(shift / math.sqrt(2)) + (1 - fail_a) * fail_b + fail_a * fail_b / 2
        a = np.where(rng.random((studies, cells, runs)) < fail_a, math.inf, rng.normal(0, 1, (studies, cells, runs)))
        b = np.where(
            rng.random((studies, cells, runs)) < fail_b, math.inf, rng.normal(shift, 1, (studies, cells, runs))
        )
        found = [mean_superiority(list(zip(weights, x, y, strict=True))) for x, y in zip(a, b, strict=True)]
        inside = covered([(e.low, e.high) for e in found], float(truth))
        coverage.append(inside)
        if math.isclose(truth, 0.5):
            size.append(1 - inside)
    name = "P(a run of A ends better), 6 designs with up to 90 % failures"
    return [
        Row(scenario=name, quantity="coverage, worst", nominal=".95", measured=min(coverage), low=0.92),
        Row(scenario=name, quantity="false differences, worst", nominal=".05", measured=max(size), high=0.08),
        *_survivors(rng),
    ]


def _survivors(rng: np.random.Generator) -> list[Row]:
    """B fails four times in ten and is a little better where it does not."""
    a = rng.normal(0.10, 0.02, (500, 20))
    quality = rng.normal(0.08, 0.02, (500, 20))
    failed = rng.random((500, 20)) < 0.4
    b = np.where(failed, math.inf, quality)
    ranked = np.mean([superiority(x, y) for x, y in zip(a, b, strict=True)])
    survivors = np.mean([x.mean() > y[~f].mean() for x, y, f in zip(a, quality, failed, strict=True)])
    truth = 0.4 + 0.6 * stats.norm.cdf(-0.02 / (0.02 * math.sqrt(2)))
    return [
        Row(
            scenario="B is better where it does not fail (40 %)",
            quantity="P(A ends better)",
            nominal=f"{truth:.3f}",
            measured=float(ranked),
            low=truth - 0.01,
            high=truth + 0.01,
        ),
        Row(
            scenario="wrong: mean of the survivors",
            quantity="prefers B",
            nominal="0",
            measured=float(survivors),
            low=0.9,
        ),
    ]


def equivalence() -> list[Row]:
    """Losses that differ by exactly the margin must not be called equivalent; equal ones should be."""
    rng, studies, cells, runs, delta = np.random.default_rng(112), 1000, 10, 40, 0.10
    weights, p = grid_weights(cells), np.linspace(0.3, 0.8, cells)
    full = np.full(cells, float(runs))

    def declared(p_b: np.ndarray) -> float:
        hits = 0
        for a, b in zip(
            rng.binomial(runs, p, (studies, cells)), rng.binomial(runs, p_b, (studies, cells)), strict=True
        ):
            both = (
                weighted_share(Cells(weights=weights, successes=x.astype(float), runs=full), alpha=0.10) for x in (a, b)
            )
            found = difference(*both)
            hits += -delta < found.low and found.high < delta
        return hits / studies

    return [
        Row(
            scenario="two one-sided tests, losses that differ by the margin",
            quantity="called equivalent",
            nominal="<= .05",
            measured=declared(p - delta),
            high=0.07,
        ),
        Row(
            scenario="two one-sided tests, equal losses, 40 seeds a cell",
            quantity="called equivalent",
            nominal="1",
            measured=declared(p),
            low=0.8,
        ),
    ]


def interim_looks() -> list[Row]:
    """Looking after every sweep of seeds from the third to the twentieth, until something is significant."""
    rng, studies, cells = np.random.default_rng(113), 400, 6
    weights, p = grid_weights(cells), np.linspace(0.2, 0.8, cells)
    once = often = 0
    for _ in range(studies):
        totals = np.cumsum(rng.random((2, 20, cells)) < p, axis=1).astype(float)
        claims = []
        for n in range(3, 21):
            both = (
                weighted_share(Cells(weights=weights, successes=side[n - 1], runs=np.full(cells, float(n))))
                for side in totals
            )
            found = difference(*both)
            claims.append(not found.low <= 0 <= found.high)
        once, often = once + claims[-1], often + any(claims)
    return [
        Row(
            scenario="one look after 20 sweeps, equal losses",
            quantity="false differences",
            nominal=".05",
            measured=once / studies,
            high=0.08,
        ),
        Row(
            scenario="wrong: a look after every sweep from 3 to 20",
            quantity="false differences",
            nominal=".05",
            measured=often / studies,
            low=0.10,
        ),
    ]


def zones() -> list[Row]:
    """Settings exactly at p = .9, exact binomial law, 10 to 100 seeds."""
    rows = []
    for method, limit in (("exact", 0.05), ("wilson", 0.12)):
        worst = dict.fromkeys(("certified", "ruled_out"), 0.0)
        for runs, name in itertools.product(range(10, 101), worst):
            law = stats.binom.pmf(np.arange(runs + 1), runs, 0.9)
            found = [zone(s / runs, runs, method=method) == name for s in range(runs + 1)]  # type: ignore[arg-type]
            worst[name] = max(worst[name], float(law[found].sum()))
        rows += [
            Row(
                scenario=f"settings at p = .9, 10 to 100 seeds, {method} limits",
                quantity=f"{name.replace('_', ' ')}, worst",
                nominal="<= .05",
                measured=measured,
                high=limit,
            )
            for name, measured in worst.items()
        ]
    return rows


def lotteries() -> list[Row]:
    """Settings with p from Beta(a, b): the intraclass correlation of success is 1 / (a + b + 1)."""
    rng = np.random.default_rng(114)
    rows = []
    for a, b in [(0.5, 0.5), (2.0, 1.0), (20.0, 20.0)]:
        truth = 1 / (a + b + 1)
        p = rng.beta(a, b, (600, 30, 1))
        found = [intraclass_correlation(v) for v in rng.binomial(1, p, (600, 30, 10)).astype(float)]
        rows.append(float(np.nanmean(found)) - truth)
    return [
        Row(
            scenario="intraclass correlation, 30 settings x 10 seeds, truth .02 to .5",
            quantity="largest bias",
            nominal="0",
            measured=max(rows, key=abs),
            low=-0.03,
            high=0.03,
        )
    ]


def common_windows() -> list[Row]:
    """A window around the best of equal rates: selecting it must not make it look better."""
    rng, studies, cells, runs = np.random.default_rng(115), 500, 9, 8
    positions, weights = np.linspace(-5, -1, cells), grid_weights(cells)
    values = rng.binomial(1, 0.6, (studies, cells, runs)).astype(float)
    found = [window_success(v, positions, weights, width=1.0) for v in values]
    naive = []
    for v in values:
        best = int(v.mean(axis=1).argmax())
        naive.append(v[max(0, best - 1) : best + 2].mean())
    name = "success in a window around the optimum, 9 equal rates (p = .6)"
    return [
        Row(
            scenario=name,
            quantity="bias",
            nominal="0",
            measured=float(np.mean([e.value for e in found])) - 0.6,
            low=-0.015,
            high=0.015,
        ),
        Row(
            scenario=name,
            quantity="coverage",
            nominal=".95",
            measured=covered([(e.low, e.high) for e in found], 0.6),
            low=0.92,
        ),
        Row(
            scenario="wrong: window and score from the same seeds",
            quantity="bias",
            nominal="0",
            measured=float(np.mean(naive)) - 0.6,
            low=0.05,
        ),
    ]


def paired_designs() -> list[Row]:
    """Two losses on shared seeds: paired sweeps against the interval that takes them for independent."""
    rng, studies, cells, runs = np.random.default_rng(116), 500, 8, 12
    p = np.linspace(0.4, 0.8, cells)
    right, tests = [], 0
    for _ in range(studies):
        luck = rng.normal(size=runs)
        a, b = (
            arm((0.8 * luck + 0.6 * rng.normal(size=(cells, runs)) < stats.norm.ppf(p)[:, None]).astype(float))
            for _ in "ab"
        )
        found = gap(a, b, "sweeps")
        right.append((found.low, found.high))
        tests += p_value(a, b, "sweeps") <= 0.05
    return [
        Row(
            scenario="two equal losses on shared seeds, paired sweeps",
            quantity="coverage",
            nominal=".95",
            measured=covered(right, 0.0),
            low=0.925,
        ),
        Row(
            scenario="two equal losses on shared seeds, sign flips",
            quantity="rejections at .05",
            nominal=".05",
            measured=tests / studies,
            high=0.08,
        ),
    ]


SCENARIOS: tuple[Scenario, ...] = (
    coverage_of_one_cell,
    coverage_of_shares,
    difference_of_shares,
    power,
    exact_test,
    family_of_pairs,
    equivalence,
    drawn_settings,
    shared_seeds,
    paired_designs,
    interim_looks,
    tuned,
    confirmed_settings,
    decades,
    zones,
    common_windows,
    run_for_run,
    times,
    lotteries,
)


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| scenario | quantity | nominal | measured | accepted |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = (f"{limit:.3g}" if math.isfinite(limit) else "" for limit in (row.low, row.high))
        accepted = f"{low} to {high}" if low and high else f">= {low}" if low else f"<= {high}"
        lines.append(f"| {row.scenario} | {row.quantity} | {row.nominal} | {row.measured:.3f} | {accepted} |")
    return "\n".join(lines)
