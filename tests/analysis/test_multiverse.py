"""Judging again under other criteria: against the loader's own judging, and on studies whose answer is known."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from analysis.assemble import Judging, build_runs
from analysis.compare import arms, contrasts_table
from analysis.multiverse import leader, multiverse, rejudged, variants, verdicts
from study.outcomes import Criteria
from tests.analysis.synthetic import REFERENCE, make_frames


def test_grid_of_criteria():
    grid = variants(Criteria())
    assert len(grid) == len(set(grid)) == 27
    assert grid[13] == Criteria()
    for name, values in {
        "u_converged": [0.05, 0.10, 0.15],
        "coverage_converged": [0.8, 0.9, 0.95],
        "coverage_collapsed": [0.25, 0.5, 0.75],
    }.items():
        assert sorted({getattr(c, name) for c in grid}) == pytest.approx(values)


@pytest.mark.parametrize("high", [1.0, 0.6, 0.51, 0.05])
def test_every_variant_is_allowed(high):
    grid = variants(Criteria(coverage_converged=high, coverage_collapsed=0.9 * high))
    assert len(grid) == 27  # Criteria refuses what is out of range


def mixed(loss, k, rate, replicate):
    return ["converged", "collapsed", "diverged", "oscillating", "under_trained", "plateau"][replicate % 6]


def test_outcomes_are_those_of_the_loader_under_the_same_criteria():
    frames = settled(make_frames(losses=("minimax",), ks=(1,), outcome=mixed), {"minimax": 0.12})
    grid = [variants(Criteria())[i] for i in (0, 13, 26)]
    found = rejudged(frames, grid)
    for one, judged in zip(grid, found, strict=True):
        targets = frames.reference["targets"]
        fresh = build_runs(frames.plan, frames.curves, Judging(criteria=one, references=targets, may_prune=False))
        assert judged.runs["outcome"].tolist() == fresh["outcome"].tolist()
        assert judged.runs["kind"].tolist() == fresh["kind"].tolist()
        assert judged.criteria == one
    assert [int((judged.runs["outcome"] == "converged").sum()) for judged in found] == [0, 0, 9]


def test_lost_and_pruned_runs_stay_so():
    frames = make_frames(losses=("minimax",), ks=(1,), outcome=lambda *a: "failed" if a[3] else "censored")
    judged = rejudged(frames, [Criteria()])[0]
    assert judged.runs["outcome"].tolist() == frames.runs["outcome"].tolist()


def settled(frames, u_by_loss):
    """Every run of a loss ends, and stays through its late half, at the loss's own distance."""
    span = REFERENCE["d_ref"] - REFERENCE["d_real"]
    level = frames.curves["configuration_key"].map(
        frames.runs.drop_duplicates("configuration_key").set_index("configuration_key")["loss"].map(u_by_loss)
    )
    curves = frames.curves.assign(distance=REFERENCE["d_real"] + span * level, high_quality_fraction=0.95)
    return dataclasses.replace(frames, curves=curves)


def study(u_by_loss):
    frames = make_frames(
        losses=tuple(u_by_loss), ks=(1,), learning_rates=(1e-3,), replicates=8, outcome=lambda *_: "converged"
    )
    frames = settled(frames, u_by_loss)
    return rejudged(frames, [Criteria.from_mapping(frames.spec["criteria"])])[0]


def test_a_lead_that_every_criterion_shares_is_every_variants():
    tables = multiverse(study({"minimax": 0.02, "hinge": 0.4}))
    assert tables["variants"]["leader"].tolist() == ["minimax"] * 27
    assert tables["pairs"]["agrees"].tolist() == [True] * 27


def test_a_lead_that_hangs_on_one_threshold_is_counted():
    """u .12 converges only where u_converged is loosened to .15: then both losses are alike."""
    tables = multiverse(study({"minimax": 0.02, "hinge": 0.12}))
    variants_ = tables["variants"]
    assert (variants_["leader"] == "minimax").sum() == 18
    assert tables["pairs"]["agrees"].sum() == 18
    assert (variants_.loc[variants_["u_converged"] > 0.12, "changed"] == 0.5).all()
    assert (variants_.loc[variants_["u_converged"] < 0.12, "changed"] == 0.0).all()
    assert variants_["own"].sum() == 1


def test_leaders_that_share_the_first_place_are_none():
    def led(a, b):
        ends = {"minimax": a, "hinge": b}
        return leader(arms(make_frames(losses=tuple(ends), ks=(1,), outcome=lambda loss, k, rate, r: ends[loss])))

    assert led("converged", "diverged") == "minimax"
    assert led("converged", "converged") == ""
    assert led("failed", "diverged") == "hinge"
    assert led("failed", "failed") == ""


def test_verdicts_are_those_of_the_contrasts():
    frames = make_frames(
        losses=("minimax", "hinge", "wgan_gp"), success=lambda loss, k, r: 0.9 if loss == "hinge" else 0.3
    )
    table = contrasts_table(frames)
    names = ["loss_a", "loss_b", "difference", "low_worst", "high_best", "verdict_kind", "winner"]
    pd.testing.assert_frame_equal(pd.DataFrame(verdicts(frames, arms(frames)))[names], table[names])


def test_a_table_of_runs_cannot_be_judged_again():
    frames = dataclasses.replace(make_frames(), spec={}, curves=pd.DataFrame())
    with pytest.raises(ValueError, match="curves and criteria"):
        multiverse(frames)


def test_criteria_of_different_windows_are_not_judged_together():
    with pytest.raises(ValueError, match="must agree in window_fraction"):
        rejudged(make_frames(), [Criteria(), Criteria(window_fraction=0.5)])


def test_runs_that_a_rule_without_criteria_judged_stay_so():
    frames = make_frames(losses=("minimax",), ks=(1,), outcome=mixed)
    targets = {name: {"rule": "radius"} for name in frames.reference["targets"]}
    frames = dataclasses.replace(frames, reference={"targets": targets})
    for judged in rejudged(frames, variants(Criteria())):
        assert judged.runs["outcome"].tolist() == frames.runs["outcome"].tolist()
        assert judged.runs["kind"].tolist() == frames.runs["kind"].tolist()
