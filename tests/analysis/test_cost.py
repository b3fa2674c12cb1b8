"""Success over steps and over their cost: known prices, known turns, and the warning that tells them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.compare import by_success, compare, losses_table, warnings_list
from analysis.cost import PRICE, STEPS, cost_table, cost_words, costs_differ, ends, turns
from analysis.differences import differences_table
from analysis.figures_cost import cost_figure
from analysis.figures_style import svg_bytes
from analysis.report_details import draw_details
from analysis.shake import run_shake, shake_table
from analysis.times import incidence_table, run_times
from tests.analysis.synthetic import make_frames

LOSSES = ("minimax", "wgan_gp")  # 2 and 3 gradient evaluations a step at k 1


def raced(*, share, event, ks=(1,), replicates=20, losses=LOSSES):
    """``share`` of a loss's runs converge for good at its step ``event``, the others never do."""

    def outcome(loss, k, rate, replicate):
        return "converged" if replicate < share[loss] * replicates else "plateau"

    frames = make_frames(losses=losses, ks=ks, replicates=replicates, outcome=outcome, learning_rates=(1e-3,))
    at = frames.runs["loss"].map(event).where(frames.runs["outcome"] == "converged")
    return dataclasses.replace(frames, runs=frames.runs.assign(t_event=at.astype(float)))


def test_prices_are_those_of_the_updates():
    frames = make_frames(losses=LOSSES, ks=(1, 5), replicates=1, learning_rates=(1e-3,))
    assert (run_times(frames, PRICE)["horizon"] / 3000).tolist() == [2, 6, 3, 11]
    for order, rounds in [("extragradient", 2), ("consensus", 3), ("simultaneous", 1)]:
        changed = dataclasses.replace(frames, runs=frames.runs.assign(updates=order))
        assert (run_times(changed, PRICE)["horizon"] / 3000).tolist() == [
            2 * rounds,
            6 * rounds,
            3 * rounds,
            11 * rounds,
        ]
        assert (run_times(changed, STEPS)["horizon"] == 3000).all()
    own = dataclasses.replace(frames, runs=frames.runs.assign(penalty="mine:penalty"))
    assert (run_times(own, PRICE)["horizon"] / 3000).tolist() == [3, 11, 3, 11]
    for name, value in [("penalty", "unheard"), ("updates", "unheard"), ("k", np.nan)]:
        unknown = dataclasses.replace(frames, runs=frames.runs.assign(**{name: value}))
        assert run_times(unknown, PRICE)["horizon"].isna().all()


def test_the_axis_of_cost_turns_the_order():
    """Ahead by steps, the dear loss converges at 2,500 steps = 7,500 evaluations: after the cheap runs' 6,000."""
    frames = raced(share={"minimax": 0.6, "wgan_gp": 0.9}, event={"minimax": 900, "wgan_gp": 2500})
    table = cost_table(frames)
    assert {k: e.value for k, e in ends(table, STEPS).items()} == pytest.approx({"minimax": 0.6, "wgan_gp": 0.9})
    assert {k: e.value for k, e in ends(table, PRICE).items()} == pytest.approx({"minimax": 0.6, "wgan_gp": 0.0})
    assert table.groupby("axis")["time"].max().to_dict() == {STEPS: 3000, PRICE: 6000}
    (turn,) = turns(table)
    assert (turn.ahead, turn.behind, turn.shown) == ("minimax", "wgan_gp", True)
    assert turn.lead.value == pytest.approx(0.6)
    words = cost_words(table)
    for told in ("by 6,000 gradient evaluations", "differs", "minimax is highest there, with 60 %"):
        assert told in words
    assert "Beyond chance, minimax is ahead of wgan_gp (+60 points" in words
    (w24,) = [w for w in warnings_list(frames, tables_of(frames)) if w["id"] == "W24"]
    assert (w24["affected"], w24["blocks"]) == (["minimax / wgan_gp"], False)
    assert "+60 points" in w24["effect"]


def test_a_turn_within_chance_is_told_but_not_warned_of():
    frames = raced(share={"minimax": 0.1, "wgan_gp": 0.2}, event={"minimax": 900, "wgan_gp": 2500})
    (turn,) = turns(cost_table(frames))
    assert not turn.shown
    assert "Perhaps by chance" in cost_words(cost_table(frames))
    assert "W24" not in [w["id"] for w in warnings_list(frames, tables_of(frames))]


def test_the_same_order_is_said_to_be_the_same():
    frames = raced(share={"minimax": 0.6, "wgan_gp": 0.9}, event={"minimax": 900, "wgan_gp": 1000})
    assert turns(cost_table(frames)) == []
    assert "in the same order" in cost_words(cost_table(frames))


def test_ties_turn_nothing():
    frames = raced(share={"minimax": 0.5, "wgan_gp": 0.5}, event={"minimax": 900, "wgan_gp": 2500})
    assert turns(cost_table(frames)) == []


def test_where_all_steps_cost_the_same_there_is_no_other_axis():
    frames = raced(
        share={"minimax": 0.6, "hinge": 0.9}, event={"minimax": 900, "hinge": 2500}, losses=("minimax", "hinge")
    )
    table = cost_table(frames)
    assert not costs_differ(table)
    assert cost_words(table) == ""
    assert "cost" not in report_figures(frames)


def tables_of(frames):
    runs = run_shake(frames)
    shaken = {"shake": shake_table(runs), "shake_runs": runs}
    return {**compare(frames), **shaken, "cost": cost_table(frames), "cells_differences": differences_table(frames)}


def report_figures(frames):
    return {drawn.name: drawn for drawn in draw_details(frames, tables_of(frames))}


def test_steps_are_the_incidence_and_their_end_the_success():
    frames = make_frames(losses=LOSSES, ks=(1, 2), success=lambda loss, k, rate: 0.4, replicates=10)
    table, incidence = cost_table(frames), incidence_table(frames)
    own = incidence[incidence["event"] == "converged"].reset_index(drop=True)
    steps = table[table["axis"] == STEPS].reset_index(drop=True)
    pd.testing.assert_frame_equal(steps, own[list(steps.columns)])
    pd.testing.assert_frame_equal(cost_table(frames, incidence), table)
    success = losses_table(frames).set_index("loss")["success"].to_dict()
    assert {k: e.value for k, e in ends(table, STEPS).items()} == pytest.approx(success)
    for loss, rows in table[table["axis"] == PRICE].groupby("loss"):
        assert rows["share"].iloc[-1] <= success[loss] + 1e-12  # never more than in the whole of its own time


@pytest.mark.parametrize(
    "arguments",
    [{"losses": ()}, {"outcome": lambda *_: "censored"}, {"losses": ("hinge",)}],
    ids=["none", "pruned", "one"],
)
def test_studies_without_a_comparison(arguments):
    table = cost_table(make_frames(**arguments))
    assert (cost_words(table), turns(table)) == ("", [])


def test_figure_shows_both_ends_and_hostile_names_stay_text():
    frames = raced(
        share={"minimax": 0.6, "wgan_gp": 0.9, "<script>": 0.3},
        event={"minimax": 900, "wgan_gp": 2500, "<script>": 100},
        losses=(*LOSSES, "<script>"),
    )
    table, order = cost_table(frames), by_success(losses_table(frames))
    figure = cost_figure(table, order)
    texts = [sorted(t.get_text() for t in axes.texts) for axes in figure.axes]
    assert texts[0] == ["<script> 30 %", "minimax 60 %", "wgan_gp 90 %"]
    assert texts[1] == ["<script> 30 %", "minimax 60 %", "wgan_gp 0 %"]
    drawn = svg_bytes(figure)
    assert drawn == svg_bytes(cost_figure(table, order))
    assert b"<script>" not in drawn
    assert "2k where a" in report_figures(frames)["cost"].caption
