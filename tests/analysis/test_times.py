"""Restricted means and competing risks against textbook numbers, scipy, statsmodels and plain counting."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import CumIncidenceRight

from analysis.times import (
    Lives,
    cumulative_incidence,
    incidence_table,
    mean_time,
    restricted_mean,
    run_times,
    times_table,
)
from tests.analysis.bounded_mean import bounded_mean
from tests.analysis.synthetic import HORIZON, make_frames

KNOWN = json.loads((Path(__file__).parent / "known_answers.json").read_text(encoding="utf-8"))
GEHAN = KNOWN["gehan_6mp"]


def lives(times, observed=None):
    times = np.array(times, float)
    return Lives(times=times, observed=np.ones(len(times), bool) if observed is None else np.array(observed, bool))


GEHAN_LIVES = lives(GEHAN["times"], GEHAN["observed"])


def test_restricted_mean_of_gehans_trial():
    found = restricted_mean(GEHAN_LIVES, GEHAN["horizon"])
    assert found == pytest.approx((GEHAN["restricted_mean"], GEHAN["restricted_mean_variance"]), abs=5e-5)


def test_the_textbook_curve_has_the_same_area():
    steps = {float(t): s for t, s in GEHAN["survival"].items() if float(t) <= 21}
    edges, heights = [0.0, *steps, 21.0], [1.0, *steps.values()]
    assert np.diff(edges) @ heights == pytest.approx(GEHAN["restricted_mean"], abs=1e-3)


def test_scipys_survival_function_has_the_same_area():
    observed = np.array(GEHAN["observed"], bool)
    times = np.array(GEHAN["times"], float)
    curve = stats.ecdf(stats.CensoredData(uncensored=times[observed], right=times[~observed])).sf
    for t, expected in GEHAN["survival"].items():
        assert curve.evaluate(float(t)) == pytest.approx(expected, abs=5e-5)
    for horizon in (5.0, 10.0, 23.0, 34.0):
        grid = np.linspace(0, horizon, 200_001)[:-1] + horizon / 400_000
        area = curve.evaluate(grid).mean() * horizon
        assert restricted_mean(GEHAN_LIVES, horizon)[0] == pytest.approx(area, abs=1e-3)


def test_nothing_lost_gives_the_plain_mean_and_its_variance():
    times = np.array([*KNOWN["gehan_placebo"]["times"], math.inf, math.inf])
    capped = np.minimum(times, 12)
    assert restricted_mean(lives(times), 12) == pytest.approx((capped.mean(), capped.var() / len(capped)))


def test_failures_never_converge():
    assert restricted_mean(lives([math.inf] * 3), 100) == (100.0, 0.0)
    half = restricted_mean(lives([0.0, math.inf]), 100)
    assert half == pytest.approx((50, 2500 / 2))


def test_the_last_event_leaves_no_area():
    assert restricted_mean(lives([2.0, 4.0]), 10) == pytest.approx((3, 1 / 2))


@pytest.mark.parametrize(("times", "horizon"), [([], 10), ([1.0], 0), ([1.0], math.inf)])
def test_a_restricted_mean_needs_runs_and_a_horizon(times, horizon):
    with pytest.raises(ValueError, match="positive horizon"):
        restricted_mean(lives(times), horizon)


@pytest.mark.parametrize("times", [[math.nan], [-1.0]])
def test_times_are_numbers_from_zero_on(times):
    with pytest.raises(ValueError, match="not NaN"):
        lives(times)


def test_mean_time_of_equal_cells_is_their_mean_and_never_certain():
    cells = [lives([10, 20, math.inf]), lives([math.inf] * 3)]
    found = mean_time(cells, np.array([0.5, 0.5]), 100)
    assert found.value == pytest.approx((130 / 3 + 100) / 2)
    sure = mean_time([lives([math.inf] * 4)], np.ones(1), 100)
    assert sure.value == sure.high == 100
    assert sure.low == pytest.approx(100 * 4 / (4 + 1.959964**2))  # Wilson's 4 of 4


def test_mean_time_without_losses_is_the_bounded_mean():
    rng = np.random.default_rng(2)
    times = np.where(rng.random((3, 8)) < 0.3, math.inf, rng.exponential(40, (3, 8)))
    weights = np.array([0.25, 0.5, 0.25])
    oracle = bounded_mean(weights, np.minimum(times, 60) / 60)
    found = mean_time([lives(row) for row in times], weights, 60)
    expected = (60 * oracle.value, 60 * oracle.low, 60 * oracle.high, oracle.n_eff)
    assert (found.value, found.low, found.high, found.n_eff) == pytest.approx(expected)


def test_a_cell_without_runs_keeps_its_weight():
    found = mean_time([lives([50, 50]), lives([])], np.array([0.5, 0.5]), 100)
    alone = mean_time([lives([50, 50])], np.ones(1), 100)
    assert (found.low, found.high) == pytest.approx((alone.low / 2, alone.high / 2 + 50))


CAUSES = np.array(["converged", "diverged", "converged", "collapsed", "", "converged", "diverged", ""])
TIMES = np.array([3.0, 1.0, 5.0, 4.0, math.inf, 8.0, 5.0, math.inf])


def test_incidence_without_losses_is_the_share_that_has_ended():
    at = np.array([0.5, 1.0, 4.9, 5.0, 100.0])
    found = cumulative_incidence(TIMES, CAUSES, at)
    for cause, values in found.items():
        assert values == pytest.approx([np.mean((t >= TIMES) & (cause == CAUSES)) for t in at])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracle's own variance divides by zero at its last time
def test_incidence_with_losses_is_aalen_and_johansens():
    rng = np.random.default_rng(7)
    times = np.round(rng.exponential(10, 60), 1)
    causes = rng.choice(np.array(["converged", "collapsed", "diverged", "lost"]), 60, p=[0.4, 0.2, 0.2, 0.2])
    status = np.select([causes == c for c in ("converged", "collapsed", "diverged")], [1, 2, 3], 0)
    oracle = CumIncidenceRight(times, status)
    found = cumulative_incidence(times, causes, oracle.times)
    for i, cause in enumerate(("converged", "collapsed", "diverged")):
        assert found[cause] == pytest.approx(oracle.cinc[i], abs=1e-12)


def test_incidences_and_the_rest_sum_to_one():
    weights = np.random.default_rng(1).random(8)
    found = cumulative_incidence(TIMES, CAUSES, np.array([100.0]), run_weights=weights)
    never = weights[np.isinf(TIMES)].sum() / weights.sum()
    assert sum(values[0] for values in found.values()) == pytest.approx(1 - never)


def test_abolishing_divergence_is_another_question():
    """A run that diverged is not one that might still converge: coding it as lost promises too much."""
    at = np.array([10.0])
    wrong = np.where(np.isin(CAUSES, ["diverged", "collapsed"]), "lost", CAUSES)
    assert cumulative_incidence(TIMES, wrong, at)["converged"][0] > cumulative_incidence(TIMES, CAUSES, at)["converged"]


def outcomes(endings):
    return lambda loss, k, rate, replicate: endings[replicate % len(endings)]


def test_only_convergence_ends_the_waiting():
    frames = make_frames(
        losses=("hinge",), ks=(1,), replicates=8, outcome=outcomes(["converged", "collapsed", "diverged", "plateau"])
    )
    row = times_table(frames).iloc[0]
    assert row["horizon"] == HORIZON
    assert row["mean_time"] == pytest.approx((1500 + 3 * HORIZON) / 4)  # t_event of the synthetic converged runs
    assert row["mean_time_low"] < row["mean_time"] < row["mean_time_high"]


def test_a_run_that_diverged_early_is_waited_for_to_the_end():
    """Lost to follow-up at 500 it would leave everyone who is followed converged, half a horizon too early."""
    frames = make_frames(losses=("hinge",), ks=(1,), outcome=outcomes(["converged", "diverged"]))
    died = frames.runs["outcome"] == "diverged"
    runs = frames.runs.assign(t_event=frames.runs["t_event"].where(~died, 500.0))
    curves = frames.curves[(frames.curves["replicate"] % 2 == 0) | (frames.curves["generator_step"] <= 500)]
    row = times_table(dataclasses.replace(frames, runs=runs, curves=curves)).iloc[0]
    assert row["mean_time"] == pytest.approx((1500 + HORIZON) / 2)
    assert row["runs_lost"] == 0


def test_gradient_evaluations_price_k_and_the_penalty():
    frames = make_frames(losses=("minimax", "wgan_gp"), ks=(1, 2), outcome=outcomes(["converged"]))
    runs = run_times(frames, "gradient_evaluations")
    price = (runs["time"] / 1500).groupby([frames.runs["loss"], frames.runs["k"]]).first()
    assert price.to_dict() == {("minimax", 1): 2, ("minimax", 2): 3, ("wgan_gp", 1): 3, ("wgan_gp", 2): 5}
    assert times_table(frames, "gradient_evaluations").iloc[0]["horizon"] == 2 * HORIZON


def test_a_lost_run_is_followed_to_its_last_evaluation():
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=outcomes(["converged", "plateau"]))
    seen = frames.runs.assign(outcome=frames.runs["outcome"].replace("plateau", "failed"))
    short = frames.curves[(frames.curves["replicate"] % 2 == 0) | (frames.curves["generator_step"] <= 2000)]
    row = times_table(dataclasses.replace(frames, runs=seen, curves=short)).iloc[0]
    assert row["runs_lost"] == 3
    assert row["mean_time"] == pytest.approx(1500 + 0.5 * 1500)  # three of six are left at 1500; lost later


def test_incidence_table_of_a_study():
    endings = ["converged", "converged", "diverged", "plateau"]
    table = incidence_table(make_frames(losses=("hinge",), replicates=8, outcome=outcomes(endings)), points=3)
    last = table[table["time"] == HORIZON].set_index("event")
    assert last["share"].to_dict() == pytest.approx({"converged": 0.5, "collapsed": 0.0, "diverged": 0.25})
    assert (last["low"] <= last["share"]).all()
    assert (last["share"] <= last["high"]).all()
    first = table[table["time"] == 0]
    assert (first["share"] == 0).all()
    assert (first["at_risk"] == 48).all()


def test_pruned_runs_leave_no_time_to_report():
    frames = make_frames(losses=("hinge",), outcome=outcomes(["converged", "censored"]))
    assert math.isnan(times_table(frames).iloc[0]["mean_time"])
    assert not len(incidence_table(frames))


@pytest.mark.parametrize(
    "arguments",
    [{"losses": ()}, {"outcome": lambda *_: "failed"}, {"outcome": lambda *_: "diverged"}, {"replicates": 1}],
    ids=["no runs", "all lost", "all fail", "one replicate"],
)
def test_poor_studies_yield_tables(arguments):
    frames = make_frames(**arguments)
    assert len(times_table(frames)) == len(frames.labels())
    incidence_table(frames)
