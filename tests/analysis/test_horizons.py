"""Shorter budgets: the runs' first parts judged as one by one, and what the warning says of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from analysis.compare import compare, losses_table, warnings_list
from analysis.histories import histories
from analysis.horizons import horizons_table, judged, judged_under, shortened
from analysis.multiverse import rejudged
from analysis.report_details import horizon_rows
from study.outcomes import Criteria, Series, judge
from tests.analysis.synthetic import REFERENCE, make_frames

EVALUATIONS = 28
FAMILIES = ("converged", "under_trained", "oscillating", "collapsed", "diverged", "plateau")


def wild(seed, *, dimensions=2):
    """Two hundred runs of every kind: noise, jumps, ties, rows without a distance, deaths, measurements left out."""
    rng = np.random.default_rng(seed)
    frames = make_frames(
        losses=("minimax",),
        ks=(1,),
        learning_rates=(1e-3,),
        replicates=200,
        evaluations=EVALUATIONS,
        outcome=lambda loss, k, rate, r: FAMILIES[r % 6],
        seed=seed,
    )
    curves, run = frames.curves.reset_index(drop=True), frames.curves["replicate"].to_numpy()
    span = REFERENCE["d_ref"] - REFERENCE["d_real"]
    size = rng.choice([0.0, 0.02, 0.1, 0.4], 200)[run]
    u = (
        (curves["distance"] - REFERENCE["d_real"])
        / span
        * rng.choice([0.2, 1.0, 1.6, 8.0], 200, p=[0.4, 0.4, 0.1, 0.1])[run]
    )
    u = u + size * rng.normal(size=len(curves))
    u = np.where(rng.random(200)[run] < 0.15, np.round(u, 1), u)
    coverage = np.clip(np.round(8 * (curves["mode_coverage"] + 0.1 * rng.normal(size=len(curves)))), 0, 8) / 8
    quality = rng.choice([0.1, 0.7, 0.95], 200)[run] + 0.05 * rng.normal(size=len(curves))
    quality = np.where(rng.random(200)[run] < 0.1, np.nan, quality)
    knn = np.where(
        curves["evaluation"] % 4 == 0, rng.choice([0.3, 0.9], 200)[run] + 0.1 * rng.normal(size=len(curves)), np.nan
    )
    moved = rng.choice([0.01, 1.0], 200, p=[0.2, 0.8])[run] * curves["evaluation"] / EVALUATIONS
    distance = REFERENCE["d_real"] + span * u
    distance = np.where(curves["finite"] & (rng.random(len(curves)) < 0.001), np.nan, distance)
    distance[(rng.random(200)[run] < 0.05) & (curves["evaluation"] == 17)] = math.inf
    curves = curves.assign(
        distance=distance,
        mode_coverage=coverage,
        high_quality_fraction=quality,
        knn_coverage=knn,
        displacement=moved,
    )
    targets = {name: {**REFERENCE, "dimensions": dimensions} for name in frames.reference["targets"]}
    frames = dataclasses.replace(frames, curves=curves, reference={"targets": targets})
    ends = one_by_one(frames, 1.0)
    outcome = [ends[r][0] for r in frames.runs["replicate"]]
    return dataclasses.replace(
        frames, runs=frames.runs.assign(outcome=outcome, kind=[ends[r][1] for r in frames.runs["replicate"]])
    )


def one_by_one(frames, fraction, criteria=None):
    """replicate -> (outcome, kind) of the first part of its history, by the judge of single runs."""
    planned = math.floor(fraction * EVALUATIONS)
    names = ["distance", "mode_coverage", "high_quality_fraction", "knn_coverage", "displacement"]
    (reference,) = frames.reference["targets"].values()
    found = {}
    for replicate, rows in frames.curves[frames.curves["evaluation"] <= planned].groupby("replicate"):
        series = Series(
            generator_step=rows["generator_step"].to_numpy(),
            finite=rows["finite"].to_numpy(),
            values={name: rows[name].to_numpy() for name in names},
            planned_evaluations=planned,
        )
        ended = judge(series, criteria or frames.criteria, reference)
        found[replicate] = ended.outcome, ended.kind
    return found


@pytest.mark.parametrize("dimensions", [2, 64])
def test_all_at_once_is_one_by_one(dimensions):
    frames = wild(7, dimensions=dimensions)
    seen = set()
    for fraction in (0.3, 0.5, 0.75, 1.0):
        expected = one_by_one(frames, fraction)
        for h in histories(frames):
            first = h.first(math.floor(fraction * EVALUATIONS) + 1)
            for row, *ended in zip(h.rows, *judged(first, frames.criteria), strict=True):
                assert tuple(ended) == expected[frames.runs.at[row, "replicate"]], (fraction, row)
                seen.add(tuple(ended))
    assert {"diverged", "converged", "collapsed", "oscillating", "under_trained", "plateau"} <= {o for o, _ in seen}
    assert {"nonfinite", "blowup", "dead", "partial_collapse", "quality"} <= {kind for _, kind in seen}


def test_criteria_judged_together_give_what_each_gives_alone():
    frames = wild(11)
    grid = [
        Criteria(u_converged=u, coverage_converged=covered, coverage_collapsed=collapsed, max_crossings=crossings)
        for u in (0.03, 0.1, 0.3)
        for covered, collapsed in ((0.8, 0.3), (0.95, 0.75))
        for crossings in (0, 2)
    ]
    for h in histories(frames):
        for criteria, ends in zip(grid, judged_under(h, grid), strict=True):
            alone = one_by_one(frames, 1.0, criteria)
            assert [alone[frames.runs.at[row, "replicate"]] for row in h.rows] == list(zip(*ends, strict=True))


def test_all_of_the_budget_is_the_losses_table():
    frames = make_frames(
        losses=("minimax", "hinge"),
        replicates=7,
        outcome=lambda loss, k, r, i: [*FAMILIES, "failed"][(i + len(loss)) % 7],
    )
    whole = horizons_table(frames).query("fraction == 1").reset_index(drop=True)
    losses = losses_table(frames)
    names = {"success_low": "low", "success_high": "high", "runs_used": "runs"}
    expected = losses.rename(columns=names)[["loss", "success", "low", "high", "runs"]]
    pd.testing.assert_frame_equal(whole[expected.columns], expected, check_exact=True)
    np.testing.assert_allclose(whole["under_trained"], losses["under_trained"], atol=1e-12)
    assert (whole["runs"] == 36).all()  # lost runs stay out


def study(u_of, *, evaluations=40):
    """Eight runs of each of two losses whose u is the given function of the share of the budget."""
    frames = make_frames(
        losses=("minimax", "hinge"),
        ks=(1,),
        learning_rates=(1e-3,),
        replicates=8,
        evaluations=evaluations,
        outcome=lambda *_: "plateau",
    )
    labels = frames.runs.drop_duplicates("configuration_key").set_index("configuration_key")["loss"]
    loss = frames.curves["configuration_key"].map(labels)
    share = frames.curves["generator_step"] / 3000
    u = np.array([u_of(name, s) for name, s in zip(loss, share, strict=True)])
    distance = REFERENCE["d_real"] + (REFERENCE["d_ref"] - REFERENCE["d_real"]) * u
    curves = frames.curves.assign(distance=distance, high_quality_fraction=0.95, mode_coverage=1.0)
    return rejudged(dataclasses.replace(frames, curves=curves), [Criteria()])[0]


def fast_and_slow(loss, share):
    return max(0.02, 1.2 - 3 * share) if loss == "hinge" else max(0.02, 1.2 - 1.1 * share)


def test_a_slow_loss_and_a_fast_one():
    """The fast one is good from .37 on: of the windows of the half budget only the last 8 of 20 evaluations count."""
    table = horizons_table(study(fast_and_slow))
    assert table.groupby("loss", sort=False)["success"].agg(list).to_dict() == {
        "minimax": [0, 0, 0],
        "hinge": [0, 1, 1],
    }
    slow = table[table["loss"] == "minimax"]
    assert slow["under_trained"].tolist() == [1, 1, 1]
    assert slow["runs"].tolist() == [8, 8, 8]


def test_what_dies_later_is_alive_before():
    frames = study(lambda loss, share: 0.02)
    dead = (frames.curves["configuration_key"] == frames.runs["configuration_key"].iloc[0]) & (
        frames.curves["generator_step"] > 2400
    )
    frames = rejudged(
        dataclasses.replace(frames, curves=frames.curves.assign(finite=frames.curves["finite"] & ~dead)), [Criteria()]
    )[0]
    table = horizons_table(frames)
    assert table[table["loss"] == "minimax"]["success"].tolist() == [1, 1, 0]  # dead from evaluation 33 of 40 on
    assert table[table["loss"] == "hinge"]["success"].tolist() == [1, 1, 1]


def test_half_of_an_odd_number_of_evaluations_is_rounded_down():
    frames = study(lambda loss, share: 0.02, evaluations=25)
    dead = frames.curves["evaluation"] >= 13
    frames = dataclasses.replace(frames, curves=frames.curves.assign(finite=~dead))
    assert shortened(frames, 0.5, histories(frames)).runs["outcome"].tolist() == ["converged"] * 16
    assert shortened(frames, 0.53, histories(frames)).runs["outcome"].tolist() == ["diverged"] * 16


def tables_of(frames):
    return {**compare(frames), "horizons": horizons_table(frames)}


def test_the_warning_tells_the_numbers():
    tables = tables_of(study(fast_and_slow))
    (w12,) = [w for w in warnings_list(study(fast_and_slow), tables) if w["id"] == "W12"]
    assert w12["affected"] == ["minimax"]
    assert w12["effect"].endswith("; success at 0.5, 0.75 and 1 of it: minimax 0, 0 and 0 %")
    heads, rows = horizon_rows(tables)
    assert heads == ["Half of the budget", "Three quarters", "All of it"]
    assert [(row["loss"], [c["text"] for c in row["cells"]], row["slow"]) for row in rows] == [
        ("hinge", ["0 %", "100 %", "100 %"], "0 %"),
        ("minimax", ["0 %", "0 %", "0 %"], "100 %"),
    ]


def test_without_the_table_the_warning_stands_as_it_was():
    frames = study(fast_and_slow)
    (w12,) = [w for w in warnings_list(frames, compare(frames)) if w["id"] == "W12"]
    assert w12["effect"] == "their success depends on the budget: a longer one may change the order"


def test_many_affected_losses_are_counted():
    frames = make_frames(losses=tuple("abcdef"), ks=(1,), outcome=lambda *_: "under_trained")
    (w12,) = [w for w in warnings_list(frames, tables_of(frames)) if w["id"] == "W12"]
    assert w12["effect"].endswith("c 0, 0 and 0 %; and 3 others")
    assert len(w12["affected"]) == 6


def test_no_curves_no_table():
    frames = make_frames()
    assert not len(horizons_table(dataclasses.replace(frames, curves=frames.curves.iloc[:0])))
    assert not len(horizons_table(make_frames(losses=())))
    assert shortened(frames, 1.0, histories(frames)) is frames
