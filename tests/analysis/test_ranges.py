"""Certified learning rates: exact numbers of seeds, unbroken runs, and what few seeds cannot show."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from analysis.ranges import (
    certified_table,
    longest_run,
    one_sided_limits,
    rate_sensitivity,
    seeds_to_certify,
    sensitivity_table,
    zone,
    zones_table,
)
from tests.analysis.synthetic import make_frames

KNOWN = json.loads((Path(__file__).parent / "known_answers.json").read_text(encoding="utf-8"))["seeds_to_certify"]
RATES = (1e-4, 1e-3, 1e-2, 1e-1)


@pytest.mark.parametrize("sided", ["one_sided", "two_sided"])
def test_seeds_that_certify(sided):
    found = {p: seeds_to_certify(float(p), two_sided=sided == "two_sided", method="wilson") for p in KNOWN[sided]}
    assert found == KNOWN[sided]


@pytest.mark.parametrize("reliable", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_one_seed_fewer_does_not_certify(reliable):
    for method in ("wilson", "exact"):
        needed = seeds_to_certify(reliable, method=method)
        assert zone(1.0, needed, reliable=reliable, method=method) == "certified"
        assert zone(1.0, needed - 1, reliable=reliable, method=method) == "undecided"


def test_limits_are_one_sided():
    oracle = proportion_confint(18, 20, alpha=0.10, method="wilson")
    assert one_sided_limits(0.9, 20, method="wilson") == pytest.approx(oracle)
    for successes in (0, 3, 18, 20):
        oracle = proportion_confint(successes, 20, alpha=0.10, method="beta")
        expected = (oracle[0] if successes else 0.0, oracle[1] if successes < 20 else 1.0)
        assert one_sided_limits(successes / 20, 20) == pytest.approx(expected)


def test_exact_limits_ask_for_more_seeds():
    assert seeds_to_certify() == 29  # .9^29 = .047, .9^28 = .052
    assert (zone(1.0, 29), zone(1.0, 28)) == ("certified", "undecided")
    assert (zone(1.0, 25, method="wilson"), zone(1.0, 25)) == ("certified", "undecided")


@pytest.mark.parametrize(
    ("successes", "runs", "expected"),
    [(10, 10, "undecided"), (0, 10, "ruled_out"), (8, 10, "undecided"), (7, 10, "ruled_out"), (0, 0, "undecided")],
)
def test_zones_of_ten_seeds(successes, runs, expected):
    assert zone(successes / runs if runs else math.nan, runs, method="wilson") == expected
    if successes != 7:
        assert zone(successes / runs if runs else math.nan, runs) == expected
    else:
        assert zone(0.7, 10) == "undecided"  # Clopper and Pearson's upper limit is .913


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("1111", (3, 1e-4, 1e-1)),
        ("0110", (1, 1e-3, 1e-2)),
        ("1011", (1, 1e-2, 1e-1)),
        ("1101", (1, 1e-4, 1e-3)),
        ("0100", (0, 1e-3, 1e-3)),
        ("0000", (0, math.nan, math.nan)),
    ],
)
def test_longest_unbroken_run(pattern, expected):
    assert longest_run(RATES, [c == "1" for c in pattern]) == pytest.approx(expected, nan_ok=True)


def study(pattern_by_k, replicates=30):
    return make_frames(
        losses=("hinge",),
        ks=tuple(pattern_by_k),
        learning_rates=RATES,
        replicates=replicates,
        outcome=lambda loss, k, rate, r: "converged" if pattern_by_k[k][RATES.index(rate)] == "1" else "diverged",
    )


def test_certified_run_at_the_best_k():
    row = certified_table(study({1: "0100", 2: "0111"})).iloc[0]
    assert (row["certified_decades"], row["certified_k"]) == pytest.approx((2, 2))
    assert (row["certified_from"], row["certified_to"]) == (1e-3, 1e-1)
    assert (row["certified"], row["ruled_out"], row["undecided"], row["seeds_to_certify"]) == (4, 4, 0, 29)


def test_one_certified_rate_beats_none():
    row = certified_table(study({1: "0000", 2: "0010"})).iloc[0]
    assert (row["certified_decades"], row["certified_k"], row["certified_from"]) == (0, 2, 1e-2)


def test_ten_seeds_certify_nothing():
    row = certified_table(study({1: "1111"}, replicates=10)).iloc[0]
    assert (row["certified"], row["undecided"]) == (0, 4)
    assert math.isnan(row["certified_from"])


def test_a_rate_is_certified_only_with_all_its_penalty_weights():
    frames = make_frames(losses=("wgan_gp",), ks=(1,), penalty_weights={"wgan_gp": (1.0, 10.0)}, replicates=30)
    light = frames.runs["penalty_weight"] == 1.0
    runs = frames.runs.assign(outcome="converged")
    whole = zones_table(dataclasses.replace(frames, runs=runs))
    mixed = zones_table(
        dataclasses.replace(frames, runs=runs.assign(outcome=light.map({True: "diverged", False: "converged"})))
    )
    assert set(whole["zone"]) == {"certified"}
    assert set(mixed["zone"]) == {"undecided"}
    assert mixed["success"].tolist() == [0, 0, 0]


def test_drawn_settings_have_no_neighbours():
    frames = study({1: "1111"})
    frames = dataclasses.replace(frames, spec={**frames.spec, "search": {"method": "random"}})
    row = certified_table(frames).iloc[0]
    assert math.isnan(row["certified_decades"])
    assert row["certified"] == 4


def test_sensitivity_is_the_mean_cost_of_a_wrong_rate():
    levels, shares = np.array([0.9, 0.1, 0.3, np.inf]), np.array([1, 2, 2, 1])
    assert rate_sensitivity(levels, shares) == pytest.approx((0.9 + 0.2 + 0.6 + 1) / 6 - 0.1)
    assert rate_sensitivity(np.full(3, 0.4), np.ones(3)) == pytest.approx(0)


def test_sensitivity_counts_failures_at_the_cap():
    row = sensitivity_table(study({1: "0110", 2: "0100"})).iloc[0]
    assert row["lr_sensitivity_k"] == 1
    assert row["lr_sensitivity"] == pytest.approx((1 + 0.02 * 2 + 0.02 * 2 + 1) / 6 - 0.02, abs=0.01)
    assert math.isnan(sensitivity_table(make_frames(learning_rates=(1e-3,))).iloc[0]["lr_sensitivity"])


@pytest.mark.parametrize(
    "arguments",
    [{"losses": ()}, {"outcome": lambda *_: "failed"}, {"ks": (1,), "learning_rates": (1e-3,)}],
    ids=["no runs", "all lost", "one cell"],
)
def test_poor_studies_yield_tables(arguments):
    frames = make_frames(**arguments)
    assert len(certified_table(frames)) == len(frames.labels())
