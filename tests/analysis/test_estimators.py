"""Intervals and tests against textbook numbers, other libraries, and their own promise of coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.estimators import (
    Cells,
    Estimate,
    Strata,
    difference,
    holm,
    integer_multiples,
    mean_of_units,
    permutation_p,
    seeds_for_power,
    sign_flip_p,
    trapezoid,
    weighted_share,
    wilson,
)


def cells(weights, successes, runs):
    return Cells(weights=np.array(weights, float), successes=np.array(successes, float), runs=np.array(runs, float))


def strata(weights, a, runs_a, b, runs_b):
    integers = [np.array(x, np.int64) for x in (a, runs_a, b, runs_b)]
    return Strata(
        weights=np.array(weights, float),
        successes_a=integers[0],
        runs_a=integers[1],
        successes_b=integers[2],
        runs_b=integers[3],
    )


def estimate(successes, runs):
    low, high = wilson(successes / runs, runs)
    return Estimate(value=successes / runs, low=low, high=high)


@pytest.mark.parametrize(
    ("successes", "runs", "low", "high"),
    [(18, 20, 0.698966, 0.972134), (0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0)],
)
def test_wilson_known_answers(successes, runs, low, high):
    assert wilson(successes / runs, runs) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("successes", "runs", "alpha"), [(1, 7, 0.05), (6, 7, 0.01), (13, 50, 0.10)])
def test_wilson_agrees_with_statsmodels(successes, runs, alpha):
    oracle = proportion_confint(successes, runs, alpha=alpha, method="wilson")
    assert wilson(successes / runs, runs, alpha=alpha) == pytest.approx(oracle, abs=1e-12)


def test_wilson_without_runs_knows_nothing():
    assert wilson(math.nan, 0) == (0.0, 1.0)


def test_one_cell_is_the_plain_wilson_interval():
    found = weighted_share(cells([1.0], [18], [20]))
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 20))
    assert found.n_eff == pytest.approx(20)


def test_two_equal_cells_pool_to_one():
    found = weighted_share(cells([0.5, 0.5], [9, 9], [10, 10]))
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.698966, 0.972134), abs=1e-6)


def test_weighted_share_by_hand():
    # e = .2*2/4 + .8*9/10; V from p~ = 2.5/5 and 9.5/11; n_eff = max(1/sum w^2/R, e(1-e)/V)
    value = 0.2 * 0.5 + 0.8 * 0.9
    variance = 0.2**2 * 0.25 / 4 + 0.8**2 * (9.5 / 11) * (1.5 / 11) / 10
    n_eff = max(1 / (0.04 / 4 + 0.64 / 10), value * (1 - value) / variance)
    found = weighted_share(cells([0.2, 0.8], [2, 9], [4, 10]))
    assert found.value == pytest.approx(value)
    assert found.n_eff == pytest.approx(n_eff)
    assert (found.low, found.high) == pytest.approx(wilson(value, n_eff))


def test_an_unobserved_cell_may_be_anything():
    full = weighted_share(cells([0.5, 0.5], [9, 9], [10, 10]))
    part = weighted_share(cells([0.25, 0.25, 0.5], [9, 9, 0], [10, 10, 0]))
    assert part.value == pytest.approx(full.value)
    assert (part.low, part.high) == pytest.approx((full.low / 2, full.high / 2 + 0.5))


def test_no_observed_cell_gives_nan_in_the_unit_interval():
    found = weighted_share(cells([1.0], [0], [0]))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_cells_refuse_unequal_lengths():
    with pytest.raises(ValueError, match="one entry per cell"):
        cells([0.5, 0.5], [1], [2])


def test_newcombe_known_answer():
    found = difference(estimate(56, 70), estimate(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("a", "n_a", "b", "n_b"), [(3, 10, 9, 12), (0, 8, 5, 9), (20, 20, 19, 25)])
def test_difference_agrees_with_statsmodels(a, n_a, b, n_b):
    found = difference(estimate(a, n_a), estimate(b, n_b))
    oracle = confint_proportions_2indep(a, n_a, b, n_b, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-9)


def test_swapping_the_arms_negates_the_difference():
    a, b = estimate(3, 10), estimate(9, 12)
    there, back = difference(a, b), difference(b, a)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_holm_known_answer_and_oracle():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p_values = [0.2, 0.001, 0.04, 0.013, 0.6]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_leaves_untested_pairs_out_of_the_family():
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)


def test_exact_test_of_one_cell_is_fishers():
    assert permutation_p(strata([1], [8], [10], [3], [10])) == pytest.approx(0.0697786, abs=1e-7)
    for a, b, n in [(1, 6, 7), (4, 5, 9), (0, 3, 5)]:
        oracle = stats.fisher_exact([[a, n - a], [b, n - b]]).pvalue
        assert permutation_p(strata([1], [a], [n], [b], [n])) == pytest.approx(oracle)


def enumerated_p(weights, a, n_a, b, n_b):
    """All ways to deal each cell's runs to the two arms, one by one."""
    laws = []
    for w, x, n, y, m in zip(weights, a, n_a, b, n_b, strict=True):
        outcomes = [1] * (x + y) + [0] * (n + m - x - y)
        dealt = [sum(hand) for hand in itertools.combinations(outcomes, n)]
        laws.append([w * (t / n - (x + y - t) / m) for t in dealt])
    observed = abs(sum(w * (x / n - y / m) for w, x, n, y, m in zip(weights, a, n_a, b, n_b, strict=True)))
    totals = [abs(sum(draw)) for draw in itertools.product(*laws)]
    return sum(t >= observed - 1e-12 for t in totals) / len(totals)


def test_exact_test_agrees_with_enumeration_under_trapezoid_weights():
    case = ([0.25, 0.5, 0.25], [3, 2, 0], [3, 3, 3], [1, 0, 1], [3, 3, 3])
    assert permutation_p(strata(*case)) == pytest.approx(enumerated_p(*case), abs=1e-12)


def test_exact_test_agrees_with_enumeration_under_unequal_runs():
    case = ([0.5, 0.5], [4, 1], [4, 2], [1, 1], [2, 4])
    assert permutation_p(strata(*case)) == pytest.approx(enumerated_p(*case), abs=1e-12)


def test_irregular_weights_are_sampled_and_close_to_enumeration():
    case = ([0.2386, 0.5, 0.2614], [3, 2, 1], [3, 3, 3], [0, 0, 1], [3, 3, 3])
    assert integer_multiples(np.array(case[0])) is None
    first, second = permutation_p(strata(*case)), permutation_p(strata(*case))
    assert first == second
    assert first == pytest.approx(enumerated_p(*case), abs=0.005)


def test_strata_without_a_partner_do_not_count():
    alone = permutation_p(strata([0.5, 0.5], [8, 5], [10, 10], [3, 0], [10, 0]))
    assert alone == pytest.approx(0.0697786, abs=1e-7)
    assert math.isnan(permutation_p(strata([1.0], [3], [5], [0], [0])))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 2, 1], [1, 2, 2, 1]), ([0.3, 0.2], [3, 2]), ([0.7], [1]), ([1.0, math.pi], None)],
)
def test_integer_multiples(values, expected):
    found = integer_multiples(np.array(values, float))
    assert (None if found is None else found.tolist()) == expected


def test_weak_null_is_kept_where_the_unweighted_test_would_reject():
    # weighted shares are equal although the middle cell differs: p_A = (1, .5, 1), p_B = (.5, 1, .5)
    weighted = permutation_p(strata([0.25, 0.5, 0.25], [30, 15, 30], [30] * 3, [15, 30, 15], [30] * 3))
    unweighted = permutation_p(strata([1 / 3] * 3, [30, 15, 30], [30] * 3, [15, 30, 15], [30] * 3))
    assert weighted == pytest.approx(1.0)
    assert unweighted < 0.05


def test_sign_flip_counts_every_pattern():
    # 3 of the 8 patterns' sums of (1, 2, 4) are not below 5 in size on each side: +-7, +-5 -> 4 of 8
    assert sign_flip_p(np.array([1.0, 2.0, -4.0])) == pytest.approx(1.0)
    assert sign_flip_p(np.array([-1.0, 2.0, 4.0])) == pytest.approx(0.5)
    many = np.full(20, 0.3)
    assert sign_flip_p(many) == sign_flip_p(many) <= 1e-3


def test_mean_of_units_is_students_interval():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_of_units(values)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, oracle.low, oracle.high))
    assert mean_of_units(values[:1]).high == math.inf


@pytest.mark.parametrize(
    ("count", "per_cell", "delta", "expected"),
    [(15, 0.11, 0.10, 12), (15, 0.25, 0.05, 105), (30, 0.11, 0.10, 6), (30, 0.25, 0.20, 4)],
)
def test_seeds_for_power_reproduces_the_planning_table(count, per_cell, delta, expected):
    p = 0.5 - math.sqrt(0.25 - per_cell)  # p(1-p) = the table's mean variance
    arm = cells([1 / count] * count, [p * 1e9] * count, [1e9] * count)
    assert math.ceil(seeds_for_power(arm, arm, delta=delta, pairs=1)) == expected


def test_one_cell_needs_the_textbook_number_of_seeds():
    a, b = cells([1.0], [0.9e9], [1e9]), cells([1.0], [0.6e9], [1e9])
    assert seeds_for_power(a, b, delta=0.3, pairs=1) == pytest.approx(7.849 * 0.33 / 0.09, rel=1e-3)


def test_more_pairs_need_more_seeds():
    a, b = cells([1.0], [5], [10]), cells([1.0], [7], [10])
    assert seeds_for_power(a, b, delta=0.1, pairs=6) > 1.3 * seeds_for_power(a, b, delta=0.1, pairs=1)


def test_trapezoid_integrates_a_line_exactly_on_uneven_points():
    x = np.array([0.0, 0.3, 1.0, 3.0])
    assert trapezoid(x) @ (2 * x + 1) == pytest.approx(9 + 3)
    assert trapezoid(np.array([2.0])).tolist() == [0.0]


COVERAGE_PATTERNS = {
    "half .9 half 0, 6 cells": ([0.9] * 3 + [0.0] * 3, 10),
    "half .9 half 0, 12 cells": ([0.9] * 6 + [0.0] * 6, 10),
    "1, 1, 1, 1, .7, 0, 0, 0": ([1, 1, 1, 1, 0.7, 0, 0, 0], 5),
    "one cell .9, rest 1": ([0.9] + [1.0] * 7, 5),
    "gradient": (list(np.linspace(0.05, 0.95, 10)), 8),
    "all .97": ([0.97] * 12, 10),
    "all .5": ([0.5] * 6, 5),
}


@pytest.mark.parametrize("name", COVERAGE_PATTERNS)
def test_weighted_interval_covers_the_truth(name):
    p, runs = COVERAGE_PATTERNS[name]
    p = np.array(p)
    weights = trapezoid(np.arange(len(p), dtype=float))
    weights /= weights.sum()
    drawn = np.random.default_rng(11).binomial(runs, p, size=(1500, len(p)))
    distinct, counts = np.unique(drawn, axis=0, return_counts=True)
    truth = weights @ p
    hits = 0
    for row, count in zip(distinct, counts, strict=True):
        found = weighted_share(cells(weights, row, np.full(len(p), runs)))
        hits += count * (found.low - 1e-12 <= truth <= found.high + 1e-12)
    assert hits / 1500 >= 0.91


def test_exact_test_keeps_its_size_under_the_null():
    p, runs, studies = np.array([0.95, 0.6, 0.2, 0.0]), 5, 400
    weights = np.array([1, 2, 2, 1]) / 6
    rng = np.random.default_rng(5)
    a, b = rng.binomial(runs, p, (studies, 4)), rng.binomial(runs, p, (studies, 4))
    rejected = np.mean(
        [permutation_p(strata(weights, x, [5] * 4, y, [5] * 4)) <= 0.05 for x, y in zip(a, b, strict=True)]
    )
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_exact_test_finds_a_large_difference():
    rng = np.random.default_rng(6)
    a, b = rng.binomial(10, 0.9, (100, 4)), rng.binomial(10, 0.5, (100, 4))
    weights = np.array([1, 2, 2, 1]) / 6
    found = [permutation_p(strata(weights, x, [10] * 4, y, [10] * 4)) <= 0.05 for x, y in zip(a, b, strict=True)]
    assert np.mean(found) > 0.9
