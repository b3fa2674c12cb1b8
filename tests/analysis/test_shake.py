"""Shake of single runs: against scipy and brute force, its laws, and failures that rank last."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from scipy import stats

from analysis.compare import by_success, losses_table
from analysis.figures_shake import shake_figure
from analysis.figures_style import svg_bytes
from analysis.histories import Histories, histories, row_mean, row_median, trends
from analysis.profile import profile_table
from analysis.shake import largest_rise, late_spread, run_shake, shake_medians, shake_table
from study.outcomes import Criteria
from tests.analysis.synthetic import REFERENCE, make_frames

CRITERIA = Criteria()


def history(u, *, step=None, coverage=1.0, quality=0.95):
    u = np.atleast_2d(np.asarray(u, dtype=float))
    runs, evaluations = u.shape
    return Histories(
        rows=np.arange(runs),
        step=np.arange(evaluations, dtype=float) if step is None else step,
        death=np.full(runs, evaluations),
        u=u,
        coverage=np.broadcast_to(coverage, u.shape),
        quality=np.broadcast_to(quality, u.shape),
        knn_coverage=np.full(u.shape, np.nan),
        blowup=u,
        moved=u,
        high_dimensional=False,
    )


@pytest.mark.parametrize("evaluations", [3, 13, 31, 60])
def test_trends_are_those_of_scipy(evaluations):
    rng = np.random.default_rng(evaluations)
    step = np.cumsum(rng.integers(1, 50, evaluations)).astype(float)
    u = np.cumsum(rng.normal(size=(40, evaluations)), axis=1) + 0.1 * step
    u[::3] = np.round(u[::3])  # ties
    u[0] = 1.0
    found, time = trends(step, u), (step - step[0]) / (step[-1] - step[0])
    for i, row in enumerate(u):
        slope = stats.theilslopes(row, time).slope
        assert found.slope[i] == pytest.approx(slope)
        assert found.intercept[i] == pytest.approx(np.median(row - slope * time))
        tied = len(np.unique(row)) < evaluations
        if np.ptp(row) == 0:
            assert (found.tau[i], found.p[i]) == (0, 1)
            continue
        expected = stats.kendalltau(time, row, method="asymptotic" if tied or evaluations > 33 else "exact")
        assert found.tau[i] == np.sign(expected.statistic)
        if not tied:
            assert found.p[i] == pytest.approx(expected.pvalue, abs=1e-12)
        elif evaluations > 12:  # scipy's variance has two terms more, nearly zero without ties in time
            assert found.p[i] == pytest.approx(expected.pvalue, rel=0.05, abs=1e-9)


def test_spread_is_scipys_range_around_scipys_line():
    rng, step = np.random.default_rng(3), np.cumsum(np.random.default_rng(4).integers(1, 9, 31)).astype(float)
    u = 1.5 - 0.04 * step + 0.2 * rng.standard_t(3, size=(30, 31))
    late = 15
    found = late_spread(history(u, step=step), CRITERIA)
    for row, value in zip(u, found, strict=True):
        line = stats.theilslopes(row[-late:], step[-late:])
        assert value == pytest.approx(stats.iqr(row[-late:] - line.slope * step[-late:]))


def test_spread_ignores_trend_and_level_and_scales():
    u = np.random.default_rng(5).normal(size=(8, 25))
    base, time = late_spread(history(u), CRITERIA), np.arange(25)
    np.testing.assert_allclose(late_spread(history(u + 3 - 0.7 * time), CRITERIA), base)
    np.testing.assert_allclose(late_spread(history(4 * u), CRITERIA), 4 * base)
    early = u.copy()
    early[:, :10] += 100
    np.testing.assert_allclose(late_spread(history(early), CRITERIA), base)  # the first part is not looked at
    swing = np.where(time % 2, 0.3, -0.3)
    assert late_spread(history(swing), CRITERIA) == pytest.approx([0.6], rel=0.2)


def test_rise_is_that_of_a_plain_loop():
    rng = np.random.default_rng(6)
    u = np.clip(0.08 + 0.06 * np.cumsum(rng.normal(size=(200, 31)), axis=1) * rng.random((200, 1)), 0, None)
    window, _ = history(u).windows(CRITERIA)
    found = largest_rise(history(u), CRITERIA)
    assert 10 < np.isinf(found).sum() < 190
    for row, value in zip(u, found, strict=True):
        ends = [
            end
            for end in range(window - 1, len(row))
            if np.mean(row[end - window + 1 : end + 1] <= CRITERIA.u_converged) >= CRITERIA.good_fraction
        ]
        rises = [row[t] - min(row[: t + 1]) for t in range(ends[0], len(row))] if ends else [math.inf]
        assert value == pytest.approx(max(rises))


def test_a_fall_after_a_good_time_is_its_height():
    u = np.full(31, 0.02)
    u[:5], u[24] = 1.0, 0.72
    assert largest_rise(history(u), CRITERIA) == pytest.approx([0.7])
    assert largest_rise(history(u, coverage=0.5), CRITERIA) == [math.inf]
    assert largest_rise(history(u, quality=0.1), CRITERIA) == [math.inf]


def test_means_and_medians_of_what_was_measured():
    values = np.array([[1.0, np.nan, 4.0, 2.0], [np.nan] * 4, [5.0, np.nan, np.nan, 7.0]])
    np.testing.assert_allclose(row_median(values), [2.0, np.nan, 6.0])
    np.testing.assert_allclose(row_mean(values), [7 / 3, np.nan, 6.0])


def mixed(loss, k, rate, replicate):
    return ["converged", "collapsed", "diverged", "oscillating", "under_trained", "failed"][replicate % 6]


def test_failures_rank_last_and_nobody_is_dropped():
    frames = make_frames(losses=("minimax",), ks=(1,), replicates=12, outcome=mixed)
    dead = (frames.runs["outcome"] == "under_trained") & (frames.runs["replicate"] > 6)
    frames = dataclasses.replace(frames, runs=frames.runs.assign(kind=frames.runs["kind"].where(~dead, "dead")))
    runs = run_shake(frames)
    outcome = frames.runs["outcome"]
    assert runs.loc[outcome == "failed", "shake"].isna().all()
    worst = outcome.isin(["collapsed", "diverged"]) | dead
    assert np.isinf(runs.loc[worst, ["shake", "drawdown"]]).all(axis=None)
    assert np.isfinite(runs.loc[~worst & (outcome != "failed"), "shake"]).all()
    table = shake_table(runs)
    assert table["runs"].tolist() == [10] * 3
    assert table["shake_infinite"].tolist() == [5] * 3
    for (_, cell), (_, row) in zip(runs.groupby("learning_rate"), table.iterrows(), strict=True):
        known = np.sort(cell["shake"].dropna())
        assert (row["shake_25"], row["shake_50"], row["shake_75"]) == (known[2], known[4], known[7])
    assert table["shake_75"].map(math.isinf).all()
    assert table["drawdown_infinite"].tolist() == [8] * 3  # all but the converged


def test_a_label_weighs_its_cells_as_declared():
    """Runs of the middle rate count twice; they are half of the calm, so the median is theirs."""
    frames = make_frames(losses=("minimax",), ks=(1,), replicates=4, outcome=lambda *_: "converged")
    level = frames.runs["learning_rate"].map({1e-4: 0.1, 1e-3: 0.2, 1e-2: 0.3}).to_numpy()
    runs = run_shake(frames).assign(shake=level, drawdown=level[::-1])
    assert shake_medians(frames, runs)[["shake_median", "drawdown_median"]].to_numpy().tolist() == [[0.2, 0.2]]
    uneven = runs.assign(shake=np.where(runs["learning_rate"] == 1e-4, np.nan, level))
    assert shake_medians(frames, uneven)["shake_median"].tolist() == [0.2]  # .5 against .25
    assert "shake_median" in profile_table(frames)


def test_order_of_rows_changes_nothing_and_missing_evaluations_are_told():
    frames = make_frames(losses=("minimax", "hinge"), outcome=mixed)
    mixed_up = dataclasses.replace(frames, curves=frames.curves.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(run_shake(frames), run_shake(mixed_up))
    gaps = frames.curves["distance"].where(frames.curves["evaluation"] != 20)
    holed = run_shake(dataclasses.replace(frames, curves=frames.curves.assign(distance=gaps)))
    kept = frames.runs["outcome"].isin(["converged", "oscillating", "under_trained"])
    assert holed.loc[kept, "shake"].isna().all()


def test_normalised_as_outcomes_are():
    frames = make_frames(losses=("minimax",), ks=(1,), outcome=lambda *_: "converged")
    (h,) = histories(frames)
    first = frames.curves[frames.curves["replicate"] == 0].iloc[:25]
    expected = (first["distance"] - REFERENCE["d_real"]) / (REFERENCE["d_ref"] - REFERENCE["d_real"])
    np.testing.assert_allclose(h.u[0], expected)
    np.testing.assert_allclose(h.quality[0], first["high_quality_fraction"] / REFERENCE["quality_ceiling"])
    np.testing.assert_allclose(h.blowup[0], first["distance"] / REFERENCE["d_far"])


@pytest.mark.parametrize("arguments", [{"losses": ()}, {"outcome": lambda *_: "failed"}], ids=["no runs", "all lost"])
def test_nothing_to_shake(arguments):
    frames = make_frames(**arguments)
    table = shake_table(run_shake(frames))
    assert not len(table)
    assert len(shake_medians(frames, run_shake(frames))) == len(frames.labels())
    svg_bytes(shake_figure(table, run_shake(frames), [], rate_name="learning rate"))


def test_figure_tells_the_share_that_has_no_place():
    frames = make_frames(losses=("minimax", "<script>"), replicates=10, ks=(1, 2), success=lambda *_: 0.5, seed=3)
    runs = run_shake(frames)
    table, order = shake_table(runs), by_success(losses_table(frames))
    figure = shake_figure(table, runs, order, rate_name="learning rate")
    for axes, loss in zip(figure.axes, order, strict=True):
        own = table[(table["loss"] == loss) & (table["shake_infinite"] > 0)]
        expected = sorted(f"{100 * row.shake_infinite / row.runs:.0f}" for row in own.itertuples())
        assert sorted(t.get_text() for t in axes.texts) == expected
        assert any(isinstance(c, PathCollection) and len(c.get_offsets()) for c in axes.collections)
    assert b"<script>" not in svg_bytes(figure)
