"""Run-for-run comparison and quantiles against enumeration, scipy and statsmodels; failures rank last."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.nonparametric import rank_compare_2indep

from analysis.bounded import shrunken_variance
from analysis.estimators import Cells, Estimate, weighted_share
from analysis.ranks import (
    final_u,
    mean_superiority,
    placement_variance,
    quality_table,
    reading,
    superiority,
    superiority_of,
    superiority_table,
    tail_mean,
    weighted_quantile,
)
from tests.analysis.bounded_mean import bounded_mean
from tests.analysis.synthetic import REFERENCE, make_frames

INF = math.inf


def test_superiority_counts_pairs():
    # 6 pairs: 1 < 2, 1 < inf, 2 = 2, 2 < inf, inf > 2, inf = inf
    assert superiority(np.array([1.0, 2.0, INF]), np.array([2.0, INF])) == pytest.approx((3 + 0.5 + 0.5) / 6)


def test_superiority_is_mann_and_whitneys_u_with_failures_last():
    rng = np.random.default_rng(1)
    a = np.where(rng.random(17) < 0.3, INF, np.round(rng.normal(0, 1, 17), 1))
    b = np.where(rng.random(11) < 0.5, INF, np.round(rng.normal(0.3, 1, 11), 1))
    oracle = stats.mannwhitneyu(b, a).statistic / (17 * 11)
    assert superiority(a, b) == pytest.approx(oracle, abs=1e-12)


def test_swapping_the_losses_turns_superiority_around():
    rng = np.random.default_rng(2)
    cells = [(w, rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 4).astype(float)) for w in (0.2, 0.5, 0.3)]
    there, back = mean_superiority(cells), mean_superiority([(w, b, a) for w, a, b in cells])
    assert (there.value, there.low, there.high) == pytest.approx((1 - back.value, 1 - back.high, 1 - back.low))


def test_only_ranks_matter():
    rng = np.random.default_rng(3)
    cells = [(1.0, rng.normal(0, 1, 9), rng.normal(1, 1, 9))]
    moved = [(1.0, np.exp(cells[0][1]), np.exp(cells[0][2]))]
    assert mean_superiority(cells) == mean_superiority(moved)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="no NaN"):
        superiority(np.array([1.0, math.nan]), np.array([1.0]))


def test_placement_variance_agrees_with_statsmodels_for_many_runs():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 400), rng.normal(0.8, 2, 300)
    oracle = rank_compare_2indep(b, a)
    assert superiority(a, b) == pytest.approx(oracle.prob1)
    assert placement_variance(a, b) == pytest.approx(oracle.var / oracle.nobs, rel=0.02)  # theirs: of sqrt(N) P
    found = mean_superiority([(1.0, a, b)])
    assert (found.low, found.high) == pytest.approx(oracle.conf_int(), abs=0.01)


def test_complete_separation_is_not_certainty():
    found = mean_superiority([(1.0, np.arange(5.0), np.full(5, INF))])
    assert found.value == 1.0
    assert (found.low, found.high) == pytest.approx((5 / (5 + 1.959964**2), 1.0))  # five comparisons' worth


def test_no_matched_cell_knows_nothing():
    found = mean_superiority([])
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bounded_mean_of_zeros_and_ones_is_the_weighted_share():
    values = np.array([[1, 1, 0, np.nan], [0, 0, 0, 0], [1, 0, 1, 1]], float)
    weights = np.array([0.25, 0.5, 0.25])
    share = weighted_share(Cells(weights=weights, successes=np.array([2.0, 0, 3]), runs=np.array([3.0, 4, 4])))
    found = bounded_mean(weights, values)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(share))


def test_bounded_mean_lets_an_unseen_cell_be_anything():
    values = np.array([[0.5, 0.7], [np.nan, np.nan]])
    found, alone = bounded_mean(np.array([0.4, 0.6]), values), bounded_mean(np.ones(1), values[:1])
    assert (found.low, found.high) == pytest.approx((0.4 * alone.low, 0.4 * alone.high + 0.6))


def test_shrunken_variance_by_hand():
    assert shrunken_variance(np.array([1.0, 1.0, 1.0])) == pytest.approx(3.5 / 4 * 0.5 / 4)
    assert shrunken_variance(np.array([0.5])) == pytest.approx((0.25 + 0.5) / 2 - 0.25)


def test_quantiles_by_weight():
    values, weights = np.array([0.3, INF, 0.1, 0.2]), np.array([0.2, 0.3, 0.1, 0.4])
    assert [weighted_quantile(values, weights, q) for q in (0.1, 0.11, 0.5, 0.7, 0.75)] == [0.1, 0.2, 0.2, 0.3, INF]


def test_equal_weights_give_the_order_statistic():
    values = np.random.default_rng(5).normal(0, 1, 23)
    for q in (0.5, 0.75, 0.9):
        assert weighted_quantile(values, np.ones(23), q) == np.quantile(values, q, method="inverted_cdf")


def test_tail_mean_counts_part_of_a_run():
    # the worst quarter of six runs is one and a half runs
    assert tail_mean(np.arange(6.0), np.ones(6)) == pytest.approx((5 + 0.5 * 4) / 1.5)
    assert tail_mean(np.arange(8.0), np.ones(8)) == pytest.approx(6.5)


def test_one_failure_in_the_tail_makes_it_infinite_unless_capped():
    values = np.array([0.1, 0.2, 0.3, INF, 0.2, 0.1, 0.3, 0.2])
    assert tail_mean(values, np.ones(8)) == INF
    assert tail_mean(values, np.ones(8), cap=1.0) == pytest.approx((1 + 0.3) / 2)


def wild(loss, k, rate, replicate):
    return "diverged" if loss == "hinge" and replicate < 3 else "failed" if replicate == 5 else "converged"


def test_final_u_ranks_failures_last_and_leaves_lost_runs_out():
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=wild)
    u = final_u(frames)
    assert u[:3].tolist() == [INF] * 3
    assert math.isnan(u[5])
    scaled = (frames.runs["final_distance"][3:5] - REFERENCE["d_real"]) / (REFERENCE["d_ref"] - REFERENCE["d_real"])
    assert u[3:5] == pytest.approx(scaled.to_numpy())


def test_a_collapsed_run_is_worst_whatever_its_distance():
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=lambda *_: "collapsed")
    assert frames.runs["final_distance"].notna().all()
    assert np.isposinf(final_u(frames)).all()


def test_quality_table_weighs_the_cells():
    # one decade of three equal-weight half cells fails: trapezoid weights 1/4, 1/2, 1/4
    frames = make_frames(
        losses=("hinge",), ks=(1,), outcome=lambda loss, k, rate, r: "diverged" if rate == 1e-2 else "converged"
    )
    row = quality_table(frames).iloc[0]
    assert row["worst_rank"] == pytest.approx(0.25)
    assert row["u_75"] < 0.1
    assert row["u_90"] == INF
    assert row["u_tail"] == INF
    assert row["u_tail_capped"] == pytest.approx(1.0)


def test_superiority_table_prefers_the_loss_that_does_not_fail():
    def half(loss, k, rate, replicate):
        return "diverged" if loss == "hinge" and replicate % 2 else "converged"

    there, back = (
        superiority_table(make_frames(losses=pair, outcome=half, replicates=12)).iloc[0]
        for pair in (("hinge", "minimax"), ("minimax", "hinge"))
    )
    assert there["better_high"] < 0.5 < back["better_low"]
    assert there["cliffs_delta"] == pytest.approx(2 * there["better"] - 1)
    assert there["cells"] == 6


def test_shared_seeds_widen_the_interval():
    """Whole sweeps fail together: twelve facts, not seventy-two."""
    frames = make_frames(
        losses=("hinge", "minimax"),
        replicates=12,
        outcome=lambda loss, k, rate, r: "diverged" if r % 3 == (loss == "hinge") else "converged",
    )
    from analysis.ranks import quality_arms

    built = quality_arms(frames)
    grid, sweeps = (superiority_of(built["hinge"], built["minimax"], target) for target in ("grid", "sweeps"))
    assert grid.value == pytest.approx(sweeps.value)
    assert sweeps.high - sweeps.low > 1.5 * (grid.high - grid.low)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.4, 0.8, "not shown"),
        (0.55, 0.7, "shown, small"),
        (0.6, 0.9, "shown, may be meaningful"),
        (0.1, 0.3, "shown, may be meaningful"),
        (0.3, 0.45, "shown, small"),
    ],
)
def test_reading_in_three_zones(low, high, words):
    assert reading(Estimate(value=(low + high) / 2, low=low, high=high)) == words


@pytest.mark.parametrize(
    "arguments",
    [{"losses": ()}, {"outcome": lambda *_: "failed"}, {"outcome": lambda *_: "diverged"}, {"replicates": 1}],
    ids=["no runs", "all lost", "all fail", "one replicate"],
)
def test_poor_studies_yield_tables(arguments):
    frames = make_frames(**arguments)
    assert len(quality_table(frames)) == len(frames.labels())
    superiority_table(frames)


def test_studies_without_a_reference_have_no_u():
    frames = dataclasses.replace(make_frames(), reference={})
    assert quality_table(frames)["u_50"].isna().all() or np.isinf(quality_table(frames)["u_50"]).any()
