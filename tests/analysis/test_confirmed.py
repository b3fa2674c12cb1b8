"""Tuned success from fresh seeds: known answers, and that fresh replicates enter nothing else."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.assemble import Judging, build_runs
from analysis.cautions import warnings_list
from analysis.compare import cells_table, compare, contrasts_table, losses_table
from analysis.confirmed import confirmed_table, tuned_contrasts, tuned_space, tuned_tables, with_tuned
from analysis.files import csv_text
from analysis.headline import headline
from analysis.profile import stability_profile
from analysis.report import report_tables, runs_table
from analysis.table import TableError, load_runs
from analysis.tuned import BUDGET_COLUMNS, budget_table
from study.outcomes import Criteria
from tests.analysis.synthetic import fresh, make_frames

RATES = (1e-4, 1e-3, 1e-2)


def tuned_study(**fresh_of):
    """Two losses on a small grid; ``fresh_of``: label -> its fresh replicates."""
    return make_frames(losses=("minimax", "hinge"), ks=(1,), learning_rates=RATES, replicates=4, confirm=fresh_of)


def adaptive(frames):
    return replace(frames, spec={**frames.spec, "search": {"method": "optuna"}})


# --- known answers --------------------------------------------------------------------------------


def test_tuned_success_is_wilsons_interval_over_the_fresh_replicates():
    row = confirmed_table(tuned_study(hinge=fresh(18, 20))).iloc[0]
    assert (row["loss"], row["converged"], row["runs_used"], row["settings"]) == ("hinge", 18, 20, 3)
    assert row["tuned"] == 0.9
    assert (row["tuned_low"], row["tuned_high"]) == pytest.approx((0.698966, 0.972134), abs=1e-6)
    assert row["unstable"] == 0.1  # the two others collapsed
    assert row["failure_in_five"] == pytest.approx(1 - 0.9**5)
    assert row["failure_in_five_low"] == pytest.approx(1 - 0.972134**5, abs=1e-5)
    assert row["failure_in_five_high"] == pytest.approx(1 - 0.698966**5, abs=1e-5)


def test_tuned_differences_are_newcombes_with_fishers_exact_test():
    pair = tuned_contrasts(tuned_study(minimax=fresh(56, 70), hinge=fresh(48, 80))).iloc[0]
    assert (pair["loss_a"], pair["loss_b"]) == ("minimax", "hinge")
    assert pair["difference"] == pytest.approx(0.2)
    assert (pair["low_95"], pair["high_95"]) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert (pair["low"], pair["high"]) == pytest.approx((pair["low_95"], pair["high_95"]))  # a single pair
    assert pair["p_exact"] == pytest.approx(stats.fisher_exact([[56, 14], [48, 32]]).pvalue)
    assert pair["verdict"] == "minimax is more stable than hinge"


def test_fishers_p_of_ten_runs_each_and_the_seeds_that_an_open_pair_needs():
    clear = tuned_contrasts(tuned_study(minimax=fresh(3, 10), hinge=fresh(8, 10))).iloc[0]
    assert clear["p_exact"] == pytest.approx(0.0697786, abs=1e-7)
    pair = tuned_contrasts(tuned_study(minimax=fresh(4, 10), hinge=fresh(6, 10))).iloc[0]
    assert pair["verdict"] == "undetermined"
    shrunken = [(s + 0.5) / 11 for s in (4, 6)]
    needed = (stats.norm.isf(0.025) + stats.norm.ppf(0.8)) ** 2 * sum(p * (1 - p) for p in shrunken) / 0.1**2
    assert pair["seeds_needed"] == math.ceil(needed) - 10


def test_three_tuned_losses_are_compared_at_bonferronis_level():
    frames = make_frames(
        losses=("minimax", "hinge", "wgan_gp"),
        ks=(1,),
        learning_rates=RATES,
        confirm={"minimax": fresh(10, 30), "hinge": fresh(20, 30), "wgan_gp": fresh(30, 30)},
    )
    pairs = tuned_contrasts(frames)
    assert list(zip(pairs["loss_a"], pairs["loss_b"], strict=True)) == [
        ("minimax", "hinge"),
        ("minimax", "wgan_gp"),
        ("hinge", "wgan_gp"),
    ]
    wide, narrow = pairs["high"] - pairs["low"], pairs["high_95"] - pairs["low_95"]
    assert (wide > narrow).all()
    raw = [stats.fisher_exact([[a, 30 - a], [b, 30 - b]]).pvalue for a, b in ((10, 20), (10, 30), (20, 30))]
    assert pairs["p_holm"].tolist() == pytest.approx([raw[0], 3 * raw[1], 2 * raw[2]])


def test_the_search_keeps_its_own_promise_beside_the_fresh_seeds():
    ended = {0: "converged", 1: "converged", 2: "diverged", 3: "diverged"}
    frames = make_frames(
        losses=("hinge",),
        ks=(1,),
        learning_rates=RATES,
        replicates=4,
        outcome=lambda loss, k, rate, r: ended[r] if rate == 1e-3 else "collapsed",
        confirm={"hinge": fresh(5, 10)},
    )
    row = confirmed_table(frames).iloc[0]
    assert (row["explored_naive"], row["explored_runs"], row["learning_rate"]) == (0.5, 4, 1e-3)
    assert row["explored"] == pytest.approx(0.5)  # every other three replicates select 1e-3


# --- fresh replicates enter nothing else ----------------------------------------------------------


def test_fresh_replicates_move_no_number_about_the_space():
    plain = tuned_study()
    confirmed = tuned_study(minimax=fresh(0, 30), hinge=fresh(30, 30))
    assert len(confirmed.runs) == len(plain.runs) + 60
    for table in (losses_table, contrasts_table, cells_table):
        assert csv_text(table(confirmed)) == csv_text(table(plain))
    before, after = stability_profile(plain), stability_profile(confirmed)
    assert {name: csv_text(table) for name, table in before.items()} == {
        name: csv_text(table) for name, table in after.items()
    }


def test_losses_csv_only_gains_columns():
    plain, frames = tuned_study(), tuned_study(hinge=fresh(29, 30))
    table = report_tables(frames)["losses"]
    gained = ["tuned", "tuned_low", "tuned_high", "tuned_unstable", "tuned_runs"]
    assert list(table.columns) == [*losses_table(plain).columns, *gained]
    assert csv_text(table.drop(columns=gained)) == csv_text(losses_table(plain))
    assert table["tuned"].isna().tolist() == [True, False]
    assert not tuned_tables(plain)


def test_a_plan_without_phases_leaves_no_trace():
    plain = tuned_study()
    assert "phase" not in plain.runs
    assert plain.explored is plain
    assert "phase" not in runs_table(plain.runs)


def test_lost_fresh_runs_never_narrow_what_is_said():
    rng = np.random.default_rng(4)
    for _ in range(20):
        converged = [int(rng.integers(0, 21)) for _ in range(2)]
        frames = tuned_study(minimax=fresh(converged[0], 20), hinge=fresh(converged[1], 20))
        runs = frames.runs.copy()
        candidates = runs.index[runs["phase"] == "confirm"]
        runs.loc[rng.choice(candidates, size=int(rng.integers(1, 6)), replace=False), "outcome"] = "failed"
        lost = replace(frames, runs=runs)
        whole, fewer = confirmed_table(frames), confirmed_table(lost)
        assert (fewer["tuned_worst"] <= whole["tuned"] + 1e-12).all()
        assert (fewer["tuned_best"] >= whole["tuned"] - 1e-12).all()
        assert (fewer["runs_planned"] == 20).all()
        pair, less = tuned_contrasts(frames).iloc[0], tuned_contrasts(lost).iloc[0]
        assert less["low_worst"] <= pair["low"] + 1e-12
        assert less["high_best"] >= pair["high"] - 1e-12


def test_phases_come_from_the_plan_and_no_scheduler_stops_a_fresh_replicate():
    frames = tuned_study(hinge=fresh(3, 3))
    criteria, references = Criteria(), frames.reference["targets"]
    judging = Judging(criteria=criteria, references=references, may_prune=True)
    runs = build_runs(frames.plan, frames.curves, judging)
    assert runs.groupby("phase").size().to_dict() == {"": 24, "confirm": 3}
    assert runs.loc[runs["phase"] == "confirm", "replicate"].tolist() == [4, 5, 6]
    cut = frames.curves[frames.curves["evaluation"] < 10]
    ended = build_runs(frames.plan, cut, judging)
    assert set(ended.loc[ended["phase"] == "confirm", "outcome"]) == {"failed"}
    assert "censored" in set(ended.loc[ended["phase"] == "", "outcome"])


def test_a_table_of_runs_keeps_its_phases(tmp_path):
    frames = tuned_study(hinge=fresh(18, 20))
    path = tmp_path / "runs.csv"
    path.write_text(csv_text(runs_table(frames.runs)), encoding="utf-8")
    again = load_runs(path)
    assert csv_text(losses_table(again)) == csv_text(losses_table(frames))
    assert confirmed_table(again)["tuned_low"].tolist() == pytest.approx([0.698966], abs=1e-6)
    path.write_text(path.read_text(encoding="utf-8").replace("confirm", "confirmed"), encoding="utf-8")
    with pytest.raises(TableError, match="phase: must be empty or 'confirm'"):
        load_runs(path)


# --- what an adaptive search may say --------------------------------------------------------------


def test_an_adaptive_search_gives_counts_but_no_share():
    losses = losses_table(adaptive(tuned_study()))
    assert losses["runs_used"].tolist() == [12, 12]
    assert losses[["success", "success_low", "unstable", "converged", "lr_decades", "n_eff"]].isna().all(axis=None)
    pair = contrasts_table(adaptive(tuned_study())).iloc[0]
    assert (pair["verdict"], pair["seeds_note"]) == ("undetermined", "an adaptive sampler chose the settings")
    assert pd.isna(pair["difference"])


@pytest.mark.parametrize("confirmed", [False, True])
def test_confirmed_settings_lift_the_block_of_an_adaptive_search(confirmed):
    frames = adaptive(tuned_study(minimax=fresh(10, 30), hinge=fresh(28, 30)))
    frames = frames if confirmed else frames.explored
    tables = compare(frames) | tuned_tables(frames)
    found = {w["id"]: w for w in warnings_list(frames, tables)}
    assert found["W05"]["blocks"] is not confirmed
    assert "search: {method: grid}" in found["W05"]["effect"]
    assert ("protocol: tune_then_confirm" in found["W05"]["effect"]) is not confirmed
    told = headline(
        frames,
        tables["losses"],
        tables["contrasts"],
        warnings=list(found.values()),
        tuned=tables if "tuned" in tables else None,
    )
    assert "No share over the search space is given" in told
    assert told.startswith("Blocked") is not confirmed
    assert ("hinge is materially more stable than minimax (+60 points, 37 to 75)" in told) is confirmed
    assert ("28 of 30 fresh runs: 93 % (95 % interval 79 to 98 %" in told) is confirmed


def test_a_pruned_search_tells_no_share_but_its_confirmed_settings():
    frames = tuned_study(hinge=fresh(28, 30))
    stopped = (frames.runs["phase"] == "") & (frames.runs["replicate"] > 1)
    frames = replace(frames, runs=frames.runs.assign(outcome=frames.runs["outcome"].mask(stopped, "censored")))
    tables = compare(frames) | tuned_tables(frames)
    assert [w["blocks"] for w in warnings_list(frames, tables) if w["id"] == "W03"] == [False]
    told = headline(frames, tables["losses"], tables["contrasts"], tuned=tables)
    assert "28 of 30 fresh runs" in told
    assert "ends well in" not in told.split("fresh runs")[1]


def test_the_curve_of_a_sequential_search_is_the_best_of_its_first_settings():
    ends = {1e-4: "collapsed", 1e-3: "converged", 1e-2: "diverged"}
    frames = adaptive(
        make_frames(losses=("hinge",), ks=(1,), learning_rates=RATES, replicates=3, outcome=lambda a, k, r, n: ends[r])
    )
    table = budget_table(frames)
    assert list(table.columns) == list(BUDGET_COLUMNS)
    assert table[["settings", "tuned", "naive"]].to_numpy().tolist() == [[1, 0, 0], [2, 1, 1], [3, 1, 1]]


# --- edges ----------------------------------------------------------------------------------------


def test_a_selected_setting_at_the_edge_is_named_with_the_command_that_widens_the_grid():
    frames = tuned_study(minimax=fresh(20, 30), hinge=fresh(20, 30, learning_rate=1e-2))
    space = tuned_space(frames)
    assert space[["loss", "factor", "position", "edge"]].to_numpy().tolist() == [
        ["minimax", "learning_rate", 0.5, ""],
        ["hinge", "learning_rate", 1.0, "high"],
    ]
    edge = next(w for w in warnings_list(frames, compare(frames) | tuned_tables(frames)) if w["id"] == "W25")
    assert edge["affected"] == ["hinge (highest learning rate, 0.01)"]
    assert "a new study with `learning_rate: [1e-4, 1e-3, 1e-2, 0.1]` would tell" in edge["effect"]
    drawn = replace(
        frames,
        spec={
            **frames.spec,
            "search": {"method": "random"},
            "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-2}},
        },
    )
    edge = next(w for w in warnings_list(drawn, compare(drawn) | tuned_tables(drawn)) if w["id"] == "W25")
    assert "`learning_rate: {low: 1e-4, high: 0.1, scale: log}`" in edge["effect"]


def test_more_fresh_seeds_come_with_the_command_that_adds_them():
    frames = tuned_study(minimax=fresh(14, 30), hinge=fresh(16, 30))
    tables = compare(frames) | tuned_tables(frames)
    total = 30 + int(tables["tuned_contrasts"]["seeds_needed"].iloc[0])
    few = next(w for w in warnings_list(frames, tables) if w["id"] == "W26")
    assert f"`ganstudy extend synthetic --replicates {total}` adds them" in few["effect"]
    assert (
        "ganstudy" not in next(w for w in warnings_list(frames, tables) if w["id"] == "W01")["effect"]
    )  # it explores no more


def test_open_pairs_of_a_grid_come_with_the_total_that_extend_takes():
    frames = tuned_study()
    tables = compare(frames)
    total = 4 + int(tables["contrasts"]["seeds_needed"].iloc[0])
    found = {w["id"]: str(w["effect"]) for w in warnings_list(frames, {**tables, **stability_profile(frames)})}
    assert f"`ganstudy extend synthetic --replicates {total}` adds them" in found["W01"]
    assert f"ganstudy extend synthetic --replicates {total} adds them." in headline(
        frames, tables["losses"], tables["contrasts"]
    )
    assert "`ganstudy extend synthetic --learning-rates 1e-5,0.1` widens it" in found["W02"]
    pruned = replace(frames, spec={**frames.spec, "scheduler": {"name": "asha"}})
    assert "ganstudy" not in {w["id"]: w for w in warnings_list(pruned, tables)}["W01"]["effect"]


def test_with_tuned_leaves_labels_without_a_confirmed_setting_empty():
    frames = tuned_study(hinge=fresh(29, 30))
    table = with_tuned(losses_table(frames), confirmed_table(frames))
    assert table["tuned_runs"].isna().tolist() == [True, False]
    missing = [w for w in warnings_list(frames, compare(frames) | tuned_tables(frames)) if w["id"] == "W27"]
    assert missing[0]["affected"] == ["minimax (no setting confirmed)"]
