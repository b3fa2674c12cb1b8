"""Tables, verdicts, headline and warnings on synthetic studies whose truth is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from analysis.arms import share
from analysis.compare import (
    arms,
    cells_table,
    compare,
    contrasts_table,
    headline,
    losses_table,
    rank_intervals,
    warnings_list,
    weights,
)
from analysis.estimators import Estimate, difference, wilson
from analysis.verdicts import Rule, judge_pair
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 1e-3, 1e-2)


def with_runs(frames, runs):
    return dataclasses.replace(frames, runs=runs.reset_index(drop=True))


def counted(successes):
    """An outcome rule: the first ``successes(loss, k, rate)`` replicates converge, the others diverge."""
    return lambda loss, k, rate, replicate: "converged" if replicate < successes(loss, k, rate) else "diverged"


def ids(frames):
    return [c["id"] for c in warnings_list(frames, compare(frames))]


# --- weights --------------------------------------------------------------------------------------


def test_weights_are_trapezoid_in_log_rate_and_uniform_in_k():
    table = weights(make_frames(losses=("minimax",), ks=(1, 3), learning_rates=(1e-4, 1e-3, 1e-1)))
    by_rate = table.groupby("learning_rate")["weight"].sum()
    assert by_rate.tolist() == pytest.approx([1 / 6, 3 / 6, 2 / 6])  # gaps of 1 and 2 decades
    assert table.groupby("k")["weight"].sum().tolist() == pytest.approx([0.5, 0.5])


def test_penalty_weights_are_averaged_within_their_label_and_matched_across():
    table = weights(make_frames(penalty_weights={"wgan_gp": (1.0, 10.0, 100.0)}))
    assert table.groupby("loss")["weight"].sum().tolist() == pytest.approx([1, 1])
    by_stratum = table.groupby(["loss", "stratum"])["weight"].sum().unstack(0)
    assert by_stratum["minimax"].tolist() == pytest.approx(by_stratum["wgan_gp"].tolist())


def test_one_learning_rate_weighs_one():
    table = weights(make_frames(ks=(1, 2, 5), learning_rates=(1e-3,)))
    assert table["weight"].tolist() == pytest.approx([1 / 3] * 6)


def test_drawn_settings_weigh_the_same():
    frames = make_frames(learning_rates=(1e-4, 2e-4, 1e-2))
    frames = dataclasses.replace(frames, spec={**frames.spec, "search": {"method": "random"}})
    assert weights(frames)["weight"].tolist() == pytest.approx([1 / 6] * 12)


def test_separate_rates_for_the_players_weigh_the_same():
    frames = make_frames(ks=(1,), learning_rates=(1e-4, 1e-3, 1e-1))
    runs = frames.runs.rename(columns={"learning_rate": "generator_learning_rate"})
    table = weights(with_runs(frames, runs.assign(discriminator_learning_rate=1e-3)))
    assert table["weight"].tolist() == pytest.approx([1 / 3] * 6)


def test_a_cell_that_only_one_loss_has_keeps_its_weight_in_the_other():
    frames = make_frames(ks=(1,), outcome=counted(lambda *_: 6))
    gone = (frames.runs["loss"] == "minimax") & (frames.runs["learning_rate"] == 1e-3)
    losses = losses_table(with_runs(frames, frames.runs[~gone])).set_index("loss")
    minimax = losses.loc["minimax"]
    assert minimax["success"] == 1.0
    assert (minimax["success_worst"], minimax["success_best"]) == pytest.approx((0.5, 1.0))
    assert minimax["success_low"] < 0.5
    assert minimax["cells_empty"] == 1
    assert losses.loc["wgan_gp", "success_worst"] == 1.0


# --- cells and losses -----------------------------------------------------------------------------


def test_cells_count_every_outcome_and_leave_failures_out_of_n():
    endings = ["converged", "converged", "plateau", "oscillating", "failed", "diverged", "diverged"]
    frames = make_frames(
        losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=7, outcome=lambda loss, k, rate, r: endings[r]
    )
    row = cells_table(frames).iloc[0]
    assert (row["planned"], row["used"], row["failed"], row["partial_collapse"]) == (7, 6, 1, 1)
    assert row["success"] == pytest.approx(2 / 6)
    assert row["unstable"] == pytest.approx(4 / 6)  # 2 diverged, 1 oscillating, 1 partly collapsed
    assert (row["success_low"], row["success_high"]) == pytest.approx(wilson(2 / 6, 6))
    assert row["modal_failure"] == "diverged"


def test_losses_weigh_the_cells():
    frames = make_frames(
        losses=("hinge",), ks=(1,), replicates=8, outcome=counted(lambda loss, k, r: {1e-4: 0, 1e-3: 6, 1e-2: 8}[r])
    )
    row = losses_table(frames).iloc[0]
    assert row["success"] == pytest.approx(0.25 * 0 + 0.5 * 0.75 + 0.25 * 1)
    assert row["diverged"] == pytest.approx(1 - row["success"])
    assert row["unstable"] == pytest.approx(row["diverged"])


def test_shares_of_the_endings_sum_to_one():
    table = losses_table(make_frames(success=lambda *_: 0.4, replicates=9))
    names = ["success", "collapsed", "oscillating", "diverged", "under_trained", "plateau"]
    assert table[names].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert table["converged"].tolist() == table["success"].tolist()


def test_decades_of_learning_rate_take_the_best_k():
    rates = (1e-4, 1e-3, 1e-2, 1e-1)
    shares = {1: (0, 4, 4, 0), 2: (0, 0, 4, 1)}
    frames = make_frames(
        losses=("hinge",),
        ks=(1, 2),
        learning_rates=rates,
        replicates=4,
        outcome=counted(lambda loss, k, rate: shares[k][rates.index(rate)]),
    )
    row = losses_table(frames).iloc[0]
    assert row["lr_decades"] == pytest.approx(2.0)  # k = 1: 0 1 1 0 over three decades
    assert row["lr_decades_k"] == 1
    assert row["span"] == pytest.approx(3)
    assert not row["lr_decades_lower_bound"]


def test_success_at_the_edge_makes_the_decades_a_lower_bound():
    frames = make_frames(losses=("hinge",), ks=(1,), outcome=counted(lambda loss, k, rate: 6 if rate > 1e-4 else 0))
    row = losses_table(frames).iloc[0]
    assert row["lr_decades"] == pytest.approx(1.5)
    assert row["lr_decades_lower_bound"]


def test_failed_runs_are_bounded_not_counted():
    frames = make_frames(
        losses=("hinge",),
        ks=(1,),
        learning_rates=(1e-3,),
        replicates=10,
        outcome=lambda loss, k, rate, r: "failed" if r >= 8 else "converged" if r < 6 else "collapsed",
    )
    row = losses_table(frames).iloc[0]
    assert row["success"] == pytest.approx(6 / 8)
    assert (row["success_worst"], row["success_best"]) == pytest.approx((0.6, 0.8))
    assert (row["runs_planned"], row["runs_used"], row["runs_failed"]) == (10, 8, 2)


def test_more_failed_runs_never_narrow_the_bounds():
    def bounds(lost):
        frames = make_frames(
            losses=("hinge",),
            ks=(1,),
            learning_rates=(1e-3,),
            replicates=12,
            outcome=lambda loss, k, rate, r: "failed" if r < lost else "converged" if r % 3 else "diverged",
        )
        row = losses_table(frames).iloc[0]
        return row["success_best"] - row["success_worst"]

    widths = [bounds(lost) for lost in range(5)]
    assert widths == sorted(widths)
    assert widths[0] == 0


# --- contrasts ------------------------------------------------------------------------------------


def test_one_cell_contrast_is_newcombe_and_fisher():
    frames = make_frames(
        ks=(1,),
        learning_rates=(1e-3,),
        replicates=10,
        outcome=counted(lambda loss, k, rate: 8 if loss == "minimax" else 3),
    )
    row = contrasts_table(frames).iloc[0]
    a, b = (Estimate(value=s / 10, low=wilson(s / 10, 10)[0], high=wilson(s / 10, 10)[1]) for s in (8, 3))
    expected = difference(a, b)
    assert (row["difference"], row["low_95"], row["high_95"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert row["p_exact"] == pytest.approx(0.0697786, abs=1e-7)


def test_equivalence_is_read_from_the_ninety_percent_interval():
    frames = make_frames(ks=(1,), learning_rates=(1e-3,), replicates=50, outcome=lambda *_: "converged")
    row = contrasts_table(frames).iloc[0]
    lowest = wilson(1.0, 50, alpha=0.10)[0]
    assert (row["low_90"], row["high_90"]) == pytest.approx((lowest - 1, 1 - lowest))
    assert row["verdict"] == "equivalent"


def test_simultaneous_intervals_contain_the_single_ones():
    table = contrasts_table(make_frames(losses=("minimax", "hinge", "wgan_gp")))
    assert (table["low"] < table["low_95"]).all()
    assert (table["high"] > table["high_95"]).all()
    assert (table["p_holm"] >= table["p_exact"]).all()
    one = contrasts_table(make_frames(losses=("minimax", "hinge"))).iloc[0]
    assert (one["low"], one["high"]) == (one["low_95"], one["high_95"])


def test_pairs_come_once_in_the_order_of_the_study():
    table = contrasts_table(make_frames(losses=("wgan_gp", "hinge", "minimax")))
    pairs = list(zip(table["loss_a"], table["loss_b"], strict=True))
    assert pairs == [("wgan_gp", "hinge"), ("wgan_gp", "minimax"), ("hinge", "minimax")]


def test_swapping_the_losses_negates_the_difference():
    there = make_frames(
        losses=("minimax", "hinge"), outcome=counted(lambda loss, k, r: 6 if loss == "hinge" else 2 * k)
    )
    back = make_frames(losses=("hinge", "minimax"), outcome=counted(lambda loss, k, r: 6 if loss == "hinge" else 2 * k))
    a, b = contrasts_table(there).iloc[0], contrasts_table(back).iloc[0]
    assert (a["difference"], a["low"], a["high"]) == pytest.approx((-b["difference"], -b["high"], -b["low"]))
    assert a["p_exact"] == pytest.approx(b["p_exact"])
    assert a["winner"] == b["winner"] == "hinge"


def interval(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high)


LEVEL = interval(-0.05, 0.05)
CALMER, WILDER = interval(-0.3, -0.1), interval(0.1, 0.3)


@pytest.mark.parametrize(
    ("success", "ninety", "unstable", "kind", "winner"),
    [
        (interval(0.12, 0.30), interval(0.14, 0.28), LEVEL, "materially more successful", "x"),
        (interval(0.12, 0.30), interval(0.14, 0.28), CALMER, "materially more stable", "x"),
        (interval(0.10, 0.30), interval(0.12, 0.28), WILDER, "materially more successful", "x"),
        (interval(-0.30, -0.12), interval(-0.28, -0.14), WILDER, "materially more stable", "y"),
        (interval(-0.30, -0.12), interval(-0.28, -0.14), CALMER, "materially more successful", "y"),
        (interval(0.01, 0.09), interval(0.02, 0.08), CALMER, "detectable but immaterial", "x"),
        (interval(-0.09, -0.01), interval(-0.08, -0.02), LEVEL, "detectable but immaterial", "y"),
        (interval(0.02, 0.20), interval(0.03, 0.19), LEVEL, "more successful", "x"),
        (interval(0.02, 0.20), interval(0.03, 0.19), CALMER, "more stable", "x"),
        (interval(-0.12, 0.11), interval(-0.09, 0.08), LEVEL, "equivalent", ""),
        (interval(-0.12, 0.11), interval(-0.09, 0.10), LEVEL, "undetermined", ""),
        (interval(-0.02, 0.30), interval(0.01, 0.27), CALMER, "undetermined", ""),
    ],
)
def test_verdict_words(success, ninety, unstable, kind, winner):
    rule = Rule(delta=0.1, alpha=0.05, pairs=1, target="grid", pruned=False)
    found = judge_pair(("x", "y"), success=success, ninety=ninety, unstable=unstable, rule=rule, crossing=False)
    assert (found.kind, found.winner) == (kind, winner)


def test_a_slow_loss_makes_its_rival_more_successful_not_more_stable():
    frames = make_frames(
        losses=("hinge", "minimax"),
        replicates=20,
        success=lambda loss, k, rate: 0.9 if loss == "hinge" else 0.4,
        failure=lambda loss, k, rate: "under_trained",
    )
    row = contrasts_table(frames).iloc[0]
    assert row["verdict"] == "hinge is materially more successful than minimax"
    wild = make_frames(
        losses=("hinge", "minimax"),
        replicates=20,
        success=lambda loss, k, rate: 0.9 if loss == "hinge" else 0.4,
        failure=lambda loss, k, rate: "collapsed",
    )
    assert contrasts_table(wild).iloc[0]["verdict"] == "hinge is materially more stable than minimax"


def test_missing_runs_can_take_a_verdict_away():
    def frames(lost):
        return make_frames(
            ks=(1,),
            replicates=20,
            outcome=lambda loss, k, rate, r: (
                "failed"
                if loss == "wgan_gp" and r < lost
                else "converged"
                if loss == "wgan_gp" or r % 2
                else "diverged"
            ),
        )

    sure, shaken = contrasts_table(frames(0)).iloc[0], contrasts_table(frames(12)).iloc[0]
    assert sure["verdict_kind"] == "materially more stable"
    assert (sure["low_worst"], sure["high_best"]) == (sure["low"], sure["high"])
    assert shaken["high"] < 0
    assert shaken["verdict_kind"] == "undetermined"
    assert shaken["seeds_needed"] is pd.NA or shaken["seeds_note"] == ""


def test_the_worst_case_counts_lost_runs_against_each_side_in_turn():
    def table(*, hinge, minimax):
        endings = {"hinge": (6, hinge), "minimax": (5, minimax)}
        frames = make_frames(
            losses=("hinge", "minimax"),
            ks=(1,),
            learning_rates=(1e-3,),
            replicates=12,
            outcome=lambda loss, k, rate, r: (
                endings[loss][1] if r >= 10 else "converged" if r < endings[loss][0] else "collapsed"
            ),
        )
        return contrasts_table(frames).iloc[0]

    lost = table(hinge="failed", minimax="failed")
    assert lost["low_worst"] == pytest.approx(table(hinge="collapsed", minimax="converged")["low"])
    assert lost["high_best"] == pytest.approx(table(hinge="converged", minimax="collapsed")["high"])
    assert lost["unstable_low"] == pytest.approx(table(hinge="converged", minimax="collapsed")["unstable_low"])


def test_undetermined_names_the_seeds_that_are_missing():
    frames = make_frames(
        losses=("hinge", "minimax"),
        ks=(1,),
        learning_rates=(1e-3,),
        replicates=10,
        outcome=counted(lambda loss, k, rate: 7 if loss == "hinge" else 5),
    )
    row = contrasts_table(frames).iloc[0]
    shrunken = 7.5 / 11 * 3.5 / 11 + 5.5 / 11 * 5.5 / 11
    needed = math.ceil((1.959964 + 0.841621) ** 2 * shrunken / 0.1**2)
    assert row["verdict_kind"] == "undetermined"
    assert row["seeds_needed"] == needed - 10


def test_crossing_losses_have_no_single_winner():
    frames = make_frames(
        losses=("hinge", "minimax"),
        ks=(1,),
        replicates=12,
        outcome=counted(lambda loss, k, rate: 12 if (loss == "hinge") == (rate < 1e-3) else 0),
    )
    row = contrasts_table(frames).iloc[0]
    assert row["crossing"]
    assert row["verdict"].startswith("crossing")
    assert "W16" in ids(frames)


def test_pruned_runs_block_every_verdict_of_their_loss():
    frames = make_frames(
        losses=("hinge", "minimax"),
        replicates=20,
        outcome=lambda loss, k, rate, r: "censored" if loss == "hinge" and r == 0 else "converged",
    )
    assert contrasts_table(frames).iloc[0]["verdict"] == "undetermined"
    blocking = [c["id"] for c in warnings_list(frames, compare(frames)) if c["blocks"]]
    assert blocking == ["W03"]


def test_rank_intervals_follow_the_shown_differences():
    frames = make_frames(
        losses=("minimax", "hinge", "wgan_gp"),
        replicates=15,
        outcome=counted(lambda loss, k, rate: {"minimax": 3, "hinge": 13, "wgan_gp": 14}[loss]),
    )
    tables = compare(frames)
    ranks = rank_intervals(tables["losses"], tables["contrasts"])
    assert ranks.to_numpy().tolist() == [["minimax", 3, 3], ["hinge", 1, 2], ["wgan_gp", 1, 2]]


# --- laws -----------------------------------------------------------------------------------------


def test_the_order_of_rows_changes_nothing():
    frames = make_frames(losses=("minimax", "hinge", "wgan_gp"), success=lambda loss, k, rate: 0.6, replicates=5)
    shuffled = with_runs(frames, frames.runs.sample(frac=1, random_state=3))
    for name, table in compare(frames).items():
        pd.testing.assert_frame_equal(table, compare(shuffled)[name])


def test_doubling_the_runs_narrows_the_interval_by_the_root_of_two():
    frames = make_frames(losses=("hinge",), replicates=40, outcome=counted(lambda loss, k, rate: 25))
    again = frames.runs.assign(replicate=frames.runs["replicate"] + 40)
    doubled = with_runs(frames, pd.concat([frames.runs, again]))
    width = [row["success_high"] - row["success_low"] for row in (losses_table(f).iloc[0] for f in (frames, doubled))]
    assert width[0] / width[1] == pytest.approx(math.sqrt(2), rel=0.03)


def test_renaming_the_losses_changes_no_number():
    a = make_frames(losses=("minimax", "hinge"), outcome=counted(lambda loss, k, rate: 5 if loss == "hinge" else 2))
    b = make_frames(losses=("aaa", "zzz"), outcome=counted(lambda loss, k, rate: 5 if loss == "zzz" else 2))
    numbers = ["difference", "low", "high", "p_exact", "unstable_difference"]
    assert contrasts_table(a)[numbers].to_numpy().tolist() == contrasts_table(b)[numbers].to_numpy().tolist()


def test_unequal_replicates_are_weighted_by_cell_not_by_run():
    frames = make_frames(losses=("hinge",), ks=(1,), replicates=10, outcome=counted(lambda loss, k, rate: 5))
    extra = frames.runs[frames.runs["learning_rate"] == 1e-2]
    more = pd.concat([extra.assign(replicate=extra["replicate"] + 10 * i, outcome="diverged") for i in (1, 2)])
    row = losses_table(with_runs(frames, pd.concat([frames.runs, more]))).iloc[0]
    assert row["success"] == pytest.approx(0.25 * 0.5 + 0.5 * 0.5 + 0.25 * 5 / 30)


@pytest.mark.parametrize(
    "arguments",
    [
        {"success": lambda *_: 1.0},
        {"success": lambda *_: 0.0},
        {"losses": ("hinge",)},
        {"losses": ("hinge", "minimax"), "ks": (1,), "learning_rates": (1e-3,)},
        {"replicates": 1},
        {"losses": ()},
        {"outcome": lambda *_: "failed"},
        {"outcome": lambda *_: "censored"},
    ],
    ids=["all converge", "all fail", "one loss", "one cell", "one replicate", "no runs", "all lost", "all pruned"],
)
def test_extreme_studies_yield_tables_and_a_headline(arguments):
    frames = make_frames(**arguments)
    tables = compare(frames)
    losses = tables["losses"]
    known = losses[losses["success"].notna()]
    assert (known["success_low"] <= known["success"]).all()
    assert (known["success"] <= known["success_high"]).all()
    assert len(tables["contrasts"]) == len(losses) * (len(losses) - 1) // 2
    assert headline(frames, losses, tables["contrasts"])
    warnings_list(frames, tables)


def test_all_converged_is_not_certainty():
    row = losses_table(make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), success=lambda *_: 1.0)).iloc[0]
    assert (row["success_low"], row["success_high"]) == pytest.approx(wilson(1.0, 6))


# --- other designs --------------------------------------------------------------------------------


def shared_seeds(frames):
    return with_runs(frames, frames.runs.assign(seed=frames.runs["replicate"] + 100))


def test_shared_seeds_switch_to_intervals_over_sweeps():
    # whole sweeps converge or not: 120 runs hold 20 independent facts, and a grid interval would be far too narrow
    frames = make_frames(
        losses=("hinge",), replicates=20, outcome=lambda loss, k, rate, r: "converged" if r % 2 else "diverged"
    )
    independent, shared = losses_table(frames).iloc[0], losses_table(shared_seeds(frames)).iloc[0]
    assert (independent["target"], shared["target"]) == ("grid", "sweeps")
    assert shared["success"] == pytest.approx(0.5)
    half = 2.093024 * np.std([0, 1] * 10, ddof=1) / math.sqrt(20)
    assert shared["success_high"] == pytest.approx(0.5 + half, abs=1e-4)
    assert "W07" in ids(shared_seeds(frames))
    assert "W07" not in ids(frames)


def test_sweeps_weigh_their_cells():
    # only the middle rate ever works, with every second seed: a sweep is worth its trapezoid weight, one half
    frames = make_frames(
        losses=("hinge",),
        ks=(1,),
        replicates=20,
        outcome=lambda loss, k, rate, r: "converged" if r % 2 and rate == 1e-3 else "diverged",
    )
    row = losses_table(shared_seeds(frames)).iloc[0]
    half = 2.093024 * np.std([0, 0.5] * 10, ddof=1) / math.sqrt(20)
    assert (row["success_low"], row["success_high"]) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-4)


def drawn(losses, cells_per_loss, outcome, *, same=False):
    """A random study: each loss has its own learning rates unless ``same``."""
    parts = []
    for i, loss in enumerate(losses):
        rates = np.geomspace(1e-4, 1e-2, cells_per_loss) * (1.0 if same else 1 + 0.01 * i)
        parts.append(make_frames(losses=(loss,), ks=(1,), learning_rates=tuple(rates), replicates=4, outcome=outcome))
    plan = {"configurations": [c for f in parts for c in f.plan["configurations"]]}
    seeds = np.arange(sum(len(f.runs) for f in parts))
    runs = pd.concat([f.runs for f in parts], ignore_index=True).assign(seed=seeds)
    spec = {**parts[0].spec, "search": {"method": "random"}}
    return dataclasses.replace(parts[0], runs=runs, plan=plan, spec=spec)


def test_drawn_settings_give_an_interval_over_settings():
    # half the settings always work, half never: 12 settings, not 48 runs, are the evidence
    frames = drawn(("hinge",), 12, lambda loss, k, rate, r: "converged" if rate < 1e-3 else "diverged")
    row = losses_table(frames).iloc[0]
    half = 2.200985 * np.std([0, 1] * 6, ddof=1) / math.sqrt(12)
    assert row["target"] == "space"
    assert row["success"] == pytest.approx(0.5)
    assert row["success_high"] == pytest.approx(0.5 + half, abs=1e-4)


def test_fewer_than_eight_drawn_settings_are_refused():
    frames = drawn(("hinge", "minimax"), 6, lambda loss, k, rate, r: "converged" if loss == "hinge" else "diverged")
    row = contrasts_table(frames).iloc[0]
    assert row["verdict"] == "undetermined"
    assert "more settings" in row["seeds_note"]
    assert "W19" in ids(frames)


@pytest.mark.parametrize("same", [True, False], ids=["paired", "independent"])
def test_drawn_settings_still_find_a_large_difference(same):
    def ending(loss, k, rate, r):
        return "converged" if r < (4 if loss == "hinge" else 1) or (rate < 2e-4 and r < 2) else "collapsed"

    row = contrasts_table(drawn(("hinge", "minimax"), 12, ending, same=same)).iloc[0]
    assert row["verdict_kind"] == "materially more stable"
    assert row["p_exact"] < 0.01


def test_shared_seed_sweeps_pair_the_losses():
    frames = shared_seeds(
        make_frames(
            losses=("hinge", "minimax"),
            replicates=12,
            outcome=lambda loss, k, rate, r: "converged" if loss == "hinge" and r != 3 else "diverged",
        )
    )
    units = share(arms(frames)["hinge"], "sweeps")
    row = contrasts_table(frames).iloc[0]
    assert units.n_eff == 12
    assert row["difference"] == pytest.approx(11 / 12)
    assert row["p_exact"] == pytest.approx(2 / 2**11, rel=1e-6)  # eleven signs must agree, the zero is free


# --- headline -------------------------------------------------------------------------------------


def told(frames):
    tables = compare(frames)
    return headline(frames, tables["losses"], tables["contrasts"])


def test_headline_tells_protocol_shares_verdicts_and_what_is_open():
    frames = make_frames(
        losses=("minimax", "hinge", "wgan_gp"),
        replicates=10,
        outcome=counted(lambda loss, k, rate: {"minimax": 3, "hinge": 8, "wgan_gp": 9}[loss]),
    )
    text = told(frames)
    row = losses_table(frames).set_index("loss").loc["wgan_gp"]
    seeds = contrasts_table(frames).set_index(["loss_a", "loss_b"]).loc[("hinge", "wgan_gp"), "seeds_needed"]
    assert text.startswith("With Adam (0.5, 0.999), MLP 2x64 and 3,000 generator steps on ring-8")
    assert f"90 % of cases with wgan_gp (95 % interval {100 * row['success_low']:.0f} to" in text
    assert "80 % with hinge" in text
    assert "wgan_gp is materially more stable than minimax (+60 points" in text
    assert (
        f"Undetermined: hinge against wgan_gp (about {seeds} more seeds per setting); "
        f"ganstudy extend synthetic --replicates {10 + seeds} adds them." in text
    )
    assert text.count(". ") <= 3


def test_headline_claims_no_winner_where_all_are_alike():
    assert "each of the 3 losses" in told(make_frames(losses=("minimax", "hinge", "wgan_gp"), success=lambda *_: 0.0))
    everything = told(make_frames(success=lambda *_: 1.0, replicates=12))
    assert "minimax is equivalent to wgan_gp in success." in everything
    assert "Every judged run converged." in everything
    assert "more s" not in everything


def test_headline_of_one_loss_compares_nothing():
    text = told(make_frames(losses=("hinge",)))
    assert "against" not in text
    assert "Undetermined" not in text


def test_headline_of_nothing_says_so():
    assert told(make_frames(losses=())) == "No run of this study can be judged yet."
    assert told(make_frames(outcome=lambda *_: "failed")) == "No run of this study can be judged yet."


def test_headline_of_blocked_evidence_says_why_and_tells_no_verdict():
    frames = make_frames(outcome=counted(lambda loss, k, rate: 0 if loss == "minimax" else 6), replicates=6)
    assert "more stable" in told(frames)
    unfinished = dataclasses.replace(frames, provenance={**frames.provenance, "interim": True})
    tables = compare(unfinished)
    text = headline(unfinished, tables["losses"], tables["contrasts"], warnings=warnings_list(unfinished, tables))
    assert text.startswith("Blocked, so no verdict: the study has not ended. With Adam")
    assert "100 % of cases with wgan_gp" in text
    assert "more " not in text
    assert "Undetermined" not in text


def test_headline_counts_what_it_does_not_name():
    losses = [f"loss{i}" for i in range(7)]
    share = {name: max(0, 10 - 3 * i) for i, name in enumerate(losses)}
    text = told(make_frames(losses=losses, replicates=10, outcome=counted(lambda loss, k, rate: share[loss])))
    assert "10 % with loss3 (" in text
    assert "0 % with 3 others." in text  # all of them: neither "or less" nor "1 other"
    stable = text[text.index("loss0 is ") :]
    assert "2 others" in stable[: stable.index(" pairs")]  # of six beaten rivals four places are named or counted


def test_headline_of_equal_shares_keeps_different_intervals_apart():
    frames = make_frames(ks=(1,), replicates=12, outcome=lambda *_: "under_trained")
    shorter = frames.runs[(frames.runs["loss"] == "minimax") | (frames.runs["replicate"] < 4)]
    assert "both losses" in told(frames)
    text = told(with_runs(frames, shorter))
    assert "both losses" not in text
    assert "0 % of cases with minimax (95 % interval 0 to " in text
    assert "against 0 % with wgan_gp (0 to " in text


def test_the_commonest_failure_is_one_ending():
    """A plateau of .5, of which .2 lost modes, is stuck in .3: less often than collapsed in .4."""
    endings = ["converged"] + ["plateau"] * 5 + ["collapsed"] * 4
    frames = make_frames(losses=("hinge",), ks=(1,), replicates=10, outcome=lambda *a: endings[a[3]])
    lost = frames.runs["replicate"].isin([1, 2])
    kinds = frames.runs["kind"].where(lost | (frames.runs["outcome"] != "plateau"), "quality")
    text = told(with_runs(frames, frames.runs.assign(kind=kinds)))
    assert "hinge is unstable in 60 % and slow or stuck in 30 % (most often collapsed)." in text


def test_headline_names_only_the_failures_there_are():
    endings = ["converged", "diverged", "diverged"]
    text = told(make_frames(losses=("hinge",), replicates=3, outcome=lambda *a: endings[a[3]]))
    assert "hinge is unstable in 67 % (most often diverged)." in text
    assert "slow" not in text


def test_headline_counts_runs_lost_outside_training():
    frames = make_frames(outcome=lambda *a: "failed" if a[3] == 0 and a[1] == 2 else "converged")
    assert "Every judged run converged; 6 of 72 planned runs failed outside training" in told(frames)


# --- warnings -------------------------------------------------------------------------------------


def test_a_clean_study_has_no_warning():
    frames = make_frames(
        losses=("hinge", "minimax"),
        ks=(1,),
        replicates=30,
        outcome=counted(lambda loss, k, rate: (30 if loss == "hinge" else 6) if rate == 1e-3 else 0),
    )
    assert ids(frames) == []


def test_sparse_evaluations_block():
    frames = make_frames(evaluations=19)
    found = {c["id"]: c for c in warnings_list(frames, compare(frames))}
    assert found["W11"]["blocks"]
    assert "W11" not in ids(make_frames(evaluations=20))


def test_an_adaptive_sampler_blocks():
    frames = make_frames()
    frames = dataclasses.replace(frames, spec={**frames.spec, "search": {"method": "optuna"}})
    assert "W05" in [c["id"] for c in warnings_list(frames, compare(frames)) if c["blocks"]]


def test_an_unfinished_study_is_interim_not_broken():
    frames = make_frames(outcome=lambda loss, k, rate, r: "failed" if r > 3 else "converged")
    interim = dataclasses.replace(frames, provenance={**frames.provenance, "interim": True})
    assert "W04" in ids(frames)
    assert "W08" not in ids(frames)
    assert "W08" in ids(interim)
    assert "W04" not in ids(interim)


def test_failures_that_follow_the_loss_are_reported_even_when_few():
    frames = make_frames(
        losses=("hinge", "minimax", "wgan_gp"),
        ks=(1, 2),
        learning_rates=tuple(np.geomspace(1e-4, 1e-2, 5)),
        replicates=20,
        outcome=lambda loss, k, rate, r: (
            "failed" if loss == "hinge" and k == 1 and r < 1 + (rate > 1e-3) else "converged"
        ),
    )
    found = {c["id"]: c for c in warnings_list(frames, compare(frames))}
    assert found["W04"]["affected"] == ["hinge"]


def test_unequal_replicates_and_single_ones_are_named():
    frames = make_frames(ks=(1,), replicates=2)
    thin = frames.runs[~((frames.runs["loss"] == "minimax") & (frames.runs["replicate"] == 1))]
    found = {c["id"]: c for c in warnings_list(with_runs(frames, thin), compare(with_runs(frames, thin)))}
    assert found["W06"]["affected"] == ["minimax"]
    assert found["W17"]["affected"] == ["minimax"]


def test_noisy_evaluations_are_named():
    frames = make_frames()
    noisy = {"targets": {name: {**r, "sigma_u": 0.034} for name, r in frames.reference["targets"].items()}}
    assert "W10" in ids(dataclasses.replace(frames, reference=noisy))
    assert "W10" not in ids(frames)


def test_slow_runs_and_edges_are_named():
    slow = make_frames(success=lambda loss, k, rate: 0.8, failure=lambda *_: "under_trained", replicates=20)
    assert {"W02", "W12"} <= set(ids(slow))


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"duplicate_rows": 3}, "W14"),
        ({"clipped_values": 2}, "W18"),
        ({"planned_criteria_hash": "a", "criteria_hash": "b"}, "W20"),
        ({"kinds": "not recorded"}, "W22"),
    ],
)
def test_what_the_records_tell_is_passed_on(known, name):
    frames = make_frames(outcome=lambda *a: "plateau" if a[3] == 0 else "converged")
    nothing = {"duplicate_rows": 0, "clipped_values": 0, "planned_criteria_hash": "c", "criteria_hash": "c"}
    assert name not in ids(dataclasses.replace(frames, provenance={**frames.provenance, **nothing}))
    assert name in ids(dataclasses.replace(frames, provenance={**frames.provenance, **nothing, **known}))


def test_a_single_penalty_weight_is_named_and_several_are_not():
    frames = make_frames()
    found = {c["id"]: c for c in warnings_list(frames, compare(frames))}
    assert found["W21"]["affected"] == ["wgan_gp (penalty_weight fixed at 10)"]
    assert "W21" not in ids(make_frames(penalty_weights={"wgan_gp": (1.0, 10.0, 100.0)}))
