"""Windows and parts of the space: exact integrals, hand-made optima, and rankings that turn."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from analysis.compare import losses_table
from analysis.estimators import trapezoid
from analysis.subspaces import (
    EDGE_COLUMNS,
    SPACE_COLUMNS,
    SPACE_PAIR_COLUMNS,
    WHOLE,
    edges_table,
    subspace_pairs,
    subspaces,
    subspaces_table,
    window_success,
    window_weights,
    windows,
)
from tests.analysis.synthetic import make_frames

GRID = np.array([-4.0, -3.5, -2.0, -1.0])


@pytest.mark.parametrize("centre", [-4.0, -3.2, -2.5, -2.0, -1.0])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_window_weights_integrate_the_line_through_the_values(centre, width):
    heights = np.array([0.2, 0.9, 0.4, 0.0])
    low = min(max(centre - width / 2, -4.0), -1.0 - width)
    x = np.linspace(low, low + width, 200_001)
    assert window_weights(GRID, centre, width) @ heights == pytest.approx(np.interp(x, GRID, heights).mean(), abs=1e-5)


def test_a_window_as_wide_as_the_range_is_the_trapezoid():
    assert window_weights(GRID, -2.0, 3.0) == pytest.approx(trapezoid(GRID) / 3)
    assert window_weights(GRID, -2.0, 9.0) == pytest.approx(trapezoid(GRID) / 3)
    assert window_weights(np.array([-3.0]), -3.0, 2.0).tolist() == [1.0]


def test_the_optimum_is_found_without_the_scored_replicate():
    # one success in ten runs: the replicate that has it must not choose its own window
    positions, weights = np.arange(5.0), trapezoid(np.arange(5.0)) / 4
    values = np.zeros((5, 2))
    values[0, 0] = 1
    assert window_success(values, positions, weights, width=1.0).value == 0.0


def test_a_window_around_a_peak_by_hand():
    # always good at position 2 only: the window (1.5, 2.5) of the tent has the mean 3/4
    values = np.zeros((5, 4))
    values[2] = 1
    found = window_success(values, np.arange(5.0), trapezoid(np.arange(5.0)) / 4, width=1.0)
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high


def test_cells_of_one_rate_share_its_weight():
    positions = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    weights = np.array([1, 3, 2, 6, 1, 3]) / 16
    values = np.repeat([[1.0], [0], [1], [0], [1], [0]], 3, axis=1)
    assert window_success(values, positions, weights, width=1.0).value == pytest.approx(0.25)


def test_windows_of_nothing():
    empty = window_success(np.full((2, 3), np.nan), np.array([0.0, 1]), np.array([0.5, 0.5]))
    assert math.isnan(empty.value)
    assert (empty.low, empty.high) == (0.0, 1.0)


RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def good_where(losses, rates=RATES, ks=(1,), replicates=10, **more):
    """``losses``: label -> a string of 0 and 1 over the rates."""
    return make_frames(
        losses=tuple(losses),
        ks=ks,
        learning_rates=rates,
        replicates=replicates,
        outcome=lambda loss, k, rate, r: "converged" if losses[loss][rates.index(rate)] == "1" else "diverged",
        **more,
    )


def test_parts_of_the_space():
    parts = subspaces(good_where({"hinge": "11111"}, ks=(1, 3)))
    rates = {name: sorted(part.runs["learning_rate"].unique()) for name, part in parts.items()}
    assert rates["without the lowest learning rates"] == list(RATES[1:])
    assert rates["without the highest learning rates"] == list(RATES[:-1])
    assert set(parts["k = 3"].runs["k"]) == {3}
    assert len(parts) == 4


def test_drawn_settings_lose_the_edges_of_the_range():
    frames = good_where({"hinge": "11111"})
    frames = dataclasses.replace(frames, spec={**frames.spec, "search": {"method": "random"}})
    kept = subspaces(frames)["without the lowest learning rates"].runs["learning_rate"]
    assert kept.min() >= 1e-4 * (1 - 1e-9)
    assert windows(frames) == {}


def test_a_ranking_that_the_edge_decides_is_told():
    """hinge works at the two lowest rates, minimax in the middle: without the lowest one the order turns."""
    frames = good_where({"hinge": "11100", "minimax": "00110"})
    pairs = subspace_pairs(frames).set_index("space")
    turned = pairs[pairs["flips"]]
    assert pairs.loc[WHOLE, "difference"] == pytest.approx(0.125)
    assert not pairs.loc[WHOLE, "flips"]
    low = pairs.loc["without the lowest learning rates"]
    assert low["difference"] == pytest.approx(0.5 - 2 / 3)
    assert low["flips"]
    assert list(turned[["loss_a", "loss_b"]].itertuples(name=None)) == [
        ("without the lowest learning rates", "hinge", "minimax")
    ]


def test_windows_lie_around_each_losss_own_optimum():
    frames = good_where({"hinge": "00110", "minimax": "11000"})
    whole = losses_table(frames).set_index("loss")["success"]
    found = windows(frames)
    assert whole["hinge"] - whole["minimax"] == pytest.approx(0.125)
    assert found["hinge"].value == pytest.approx((0.375 + 1 + 0.375) / 2)  # from half a decade before to half after
    assert found["minimax"].value == pytest.approx((1 + 0.5) / 2)  # the two lowest decades: shifted to the edge


def test_a_ranking_that_holds_everywhere():
    frames = good_where({"hinge": "11110", "minimax": "01000"}, ks=(1, 2))
    pairs = subspace_pairs(frames)
    assert pairs["space"].nunique() == len(pairs) == 1 + 5
    assert (pairs["difference"] > 0).all()
    assert not pairs["flips"].any()
    table = subspaces_table(frames)
    assert table[table["leader"]]["loss"].unique().tolist() == ["hinge"]
    assert not table["flips"].any()
    assert len(table) == 6 * 2


def test_whole_space_row_is_the_leaderboard():
    frames = good_where({"hinge": "11110", "minimax": "01000"})
    table = subspaces_table(frames)
    whole = table[table["space"] == WHOLE].set_index("loss")
    board = losses_table(frames).set_index("loss")
    assert whole[["success", "low", "high"]].to_numpy() == pytest.approx(
        board[["success", "success_low", "success_high"]].to_numpy()
    )


def test_edges_that_are_still_good_leave_the_range_open():
    table = edges_table(good_where({"hinge": "00111", "minimax": "01110"}))
    found = table.set_index(["loss", "edge"])["open"]
    assert found.to_dict() == {
        ("hinge", "low"): False,
        ("hinge", "high"): True,
        ("minimax", "low"): False,
        ("minimax", "high"): False,
    }


def test_a_loss_that_never_works_has_no_open_edge():
    assert not edges_table(good_where({"hinge": "00000"}))["open"].any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"losses": ()},
        {"outcome": lambda *_: "failed"},
        {"ks": (1,), "learning_rates": (1e-3,)},
        {"losses": ("hinge",)},
        {"replicates": 1},
    ],
    ids=["no runs", "all lost", "one cell", "one loss", "one replicate"],
)
def test_poor_studies_yield_tables(arguments):
    frames = make_frames(**arguments)
    table, pairs, edges = subspaces_table(frames), subspace_pairs(frames), edges_table(frames)
    for found, headers in ((table, SPACE_COLUMNS), (pairs, SPACE_PAIR_COLUMNS), (edges, EDGE_COLUMNS)):
        assert tuple(found.columns) == headers
    assert_within(table[["success", "low", "high"]], 0, 1)
    assert_within(pairs[["difference", "low", "high"]], -1, 1)
    assert_within(edges[["success", "largest"]], 0, 1)
    for shown in (table, pairs):
        assert (shown["low"] <= shown["high"]).all()
        assert not shown["flips"].any()


def assert_within(numbers, low, high):
    """Every number is NaN or lies between the two."""
    values = numbers.to_numpy(float)
    assert ((values >= low) & (values <= high) | np.isnan(values)).all()
