"""Tuned success against enumeration, hand-made selections, and the laws of an honest maximum."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.compare import losses_table
from analysis.tuned import (
    budget_table,
    curve_budgets,
    expected_best,
    expected_best_with_replacement,
    failure_in,
    tuned_success,
    tuned_table,
)
from tests.analysis.synthetic import make_frames

SEVEN = np.array([0.1, 0.9, 0.4, 0.4, 0.0, 0.7, 1.0])


@pytest.mark.parametrize("budget", range(1, 8))
def test_best_of_b_is_the_mean_over_all_subsets(budget):
    every = [max(chosen) for chosen in itertools.combinations(SEVEN, budget)]
    assert expected_best(SEVEN, budget) == pytest.approx(np.mean(every), abs=1e-12)


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_best_of_b_with_replacement_is_the_mean_over_all_tuples(budget):
    every = [max(chosen) for chosen in itertools.product(SEVEN, repeat=budget)]
    assert expected_best_with_replacement(SEVEN, budget) == pytest.approx(np.mean(every), abs=1e-12)


@pytest.mark.parametrize("budget", [0, 8])
def test_a_budget_outside_the_settings_is_refused(budget):
    with pytest.raises(ValueError, match=f"between 1 and the 7 values, got {budget}"):
        expected_best(SEVEN, budget)


def test_the_winner_is_scored_where_it_was_not_selected():
    # each setting succeeds once: whoever wins on one replicate fails on the other
    values = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert tuned_success(values) == 0.0
    assert values.mean(axis=1).max() == 0.5


def test_tied_settings_share_the_score():
    # without r = 0: shares 1, 1, 0, so the first two tie and one of them succeeds; without r = 1: shares 1, 0, 1
    values = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert tuned_success(values) == pytest.approx((0.5 + 0.5) / 2)


def test_an_unknown_result_of_the_winner_is_left_out():
    # r = 0 and r = 2 select the first setting, which converged in both; r = 1 selects it too but its run is lost
    values = np.array([[1.0, np.nan, 1.0], [0.0, 0.0, 0.0]])
    assert tuned_success(values) == 1.0


def brute_force(values, budget):
    """Every subset of the settings, every replicate: pick by the other replicates, ties in equal parts."""
    scores = []
    for chosen in itertools.combinations(range(len(values)), budget):
        for r in range(values.shape[1]):
            held = {i: np.delete(values[i], r).mean() for i in chosen}
            best = [i for i in chosen if held[i] > max(held.values()) - 1e-9]
            scores.append(values[best, r].mean())
    return np.mean(scores)


@pytest.mark.parametrize("budget", [1, 2, 3, 6])
def test_cross_fitted_curve_is_the_mean_over_all_subsets(budget):
    values = np.random.default_rng(budget).binomial(1, 0.6, size=(6, 4)).astype(float)
    assert tuned_success(values, budget=budget) == pytest.approx(brute_force(values, budget), abs=1e-12)


def test_draws_by_weight_are_the_mean_over_all_tuples():
    values = np.random.default_rng(3).binomial(1, 0.5, size=(4, 3)).astype(float)
    weights = np.array([0.1, 0.4, 0.3, 0.2])
    total = 0.0
    for chosen in itertools.product(range(4), repeat=3):
        distinct = sorted(set(chosen))
        for r in range(3):
            held = {i: np.delete(values[i], r).mean() for i in distinct}
            winners = [i for i in chosen if held[i] > max(held.values()) - 1e-9]  # as often as drawn
            total += np.prod(weights[list(chosen)]) * np.mean([values[i, r] for i in winners]) / 3
    assert tuned_success(values, budget=3, weights=weights) == pytest.approx(total, abs=1e-12)


def test_one_draw_is_the_weighted_share_and_all_settings_are_the_tuned_success():
    values = np.random.default_rng(4).binomial(1, 0.5, size=(5, 6)).astype(float)
    weights = np.array([0.1, 0.2, 0.3, 0.3, 0.1])
    assert tuned_success(values, budget=1, weights=weights) == pytest.approx(weights @ values.mean(axis=1))
    assert tuned_success(values, budget=1) == pytest.approx(values.mean())
    assert tuned_success(values, budget=5) == pytest.approx(tuned_success(values))
    assert tuned_success(values, budget=400, weights=weights) == pytest.approx(tuned_success(values))


def test_names_of_settings_and_replicates_do_not_matter():
    rng = np.random.default_rng(8)
    values = rng.binomial(1, 0.5, size=(6, 7)).astype(float)
    shuffled = values[rng.permutation(6)][:, rng.permutation(7)]
    assert tuned_success(shuffled, budget=3) == pytest.approx(tuned_success(values, budget=3), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.ones((3, 4)), 1.0),
        (np.zeros((3, 4)), 0.0),
        (np.ones((3, 1)), math.nan),
        (np.full((2, 3), np.nan), math.nan),
        (np.zeros((0, 0)), math.nan),
    ],
    ids=["all converge", "all fail", "one replicate", "all lost", "no settings"],
)
def test_extreme_studies(values, expected):
    assert tuned_success(values) == pytest.approx(expected, nan_ok=True)


def test_a_failure_in_five():
    assert failure_in(5, 0.9) == pytest.approx(1 - 0.9**5)
    assert failure_in(5, 1.0) == 0.0


def test_curve_stops_at_half_of_the_settings():
    assert curve_budgets(30) == [1, 2, 4, 8, 15]
    assert curve_budgets(1) == [1]


def good_at(rate):
    return lambda loss, k, learning_rate, replicate: "converged" if learning_rate == rate else "diverged"


def test_table_names_the_selected_setting():
    row = tuned_table(make_frames(losses=("hinge",), ks=(1,), outcome=good_at(1e-3))).iloc[0]
    assert (row["tuned"], row["tuned_failure"], row["failure_in_five"], row["tuned_naive"]) == (1, 0, 0, 1)
    assert (row["tuned_learning_rate"], row["tuned_k"], row["tuned_ties"], row["settings"]) == (1e-3, 1, 1, 3)


def test_where_nothing_succeeds_no_setting_is_selected():
    row = tuned_table(make_frames(losses=("hinge",), ks=(1,), outcome=lambda *_: "diverged")).iloc[0]
    assert (row["tuned"], row["tuned_naive"], row["tuned_key"], row["tuned_ties"]) == (0, 0, "", 3)


def test_budget_table_starts_at_the_share_of_the_leaderboard():
    frames = make_frames(losses=("hinge",), success=lambda loss, k, rate: 0.5, replicates=8)
    first = budget_table(frames).iloc[0]
    assert first["settings"] == 1
    assert first["tuned_by_weight"] == pytest.approx(losses_table(frames).iloc[0]["success"])


@pytest.mark.parametrize(
    "arguments",
    [{"replicates": 1}, {"losses": ()}, {"outcome": lambda *_: "failed"}, {"ks": (1,), "learning_rates": (1e-3,)}],
    ids=["one replicate", "no runs", "all lost", "one cell"],
)
def test_poor_studies_yield_tables(arguments):
    frames = make_frames(**arguments)
    assert len(tuned_table(frames)) == len(frames.labels())
    assert len(budget_table(frames)) <= len(frames.labels())
