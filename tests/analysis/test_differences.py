"""Differences setting by setting: known answers, laws, the crossing verdict, and how often chance is outlined."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.compare import by_success, compare, contrasts_table, losses_table
from analysis.cost import cost_table
from analysis.differences import difference_map, differences_table
from analysis.estimators import Strata
from analysis.figures_differences import difference_figure
from analysis.figures_style import svg_bytes
from analysis.report_details import draw_details
from analysis.verdicts import cell_p, cell_tests
from analysis.wording import MINUS
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 1e-3, 1e-2)


def counts(wins, replicates):
    """A study in which so many runs of (loss, k, rate) converge."""

    def outcome(loss, k, rate, replicate):
        return "converged" if replicate < wins(loss, k, rate) else "diverged"

    return make_frames(
        losses=("minimax", "hinge"), ks=(1,), learning_rates=RATES, replicates=replicates, outcome=outcome
    )


def test_one_setting_is_fishers_test_and_newcombes_interval():
    frames = counts(lambda loss, k, rate: {"minimax": 8, "hinge": 3}[loss] if rate == 1e-3 else 5, 10)
    table = differences_table(frames).set_index("learning_rate")
    row = table.loc[1e-3]
    assert (row["runs_a"], row["share_a"], row["runs_b"], row["share_b"]) == (10, 0.8, 10, 0.3)
    assert row["difference"] == pytest.approx(0.5)
    assert row["p_exact"] == pytest.approx(0.0697786, abs=1e-7)
    assert row["p_holm"] == pytest.approx(3 * 0.0697786, abs=1e-6)
    # method 10: roots of the two score intervals, 8/10 (.4901625, .9433178) and 3/10 (.1077913, .6032219)
    assert row["low"] == pytest.approx(0.5 - math.hypot(0.8 - 0.4901625, 0.6032219 - 0.3), abs=1e-6)
    assert row["high"] == pytest.approx(0.5 + math.hypot(0.9433178 - 0.8, 0.3 - 0.1077913), abs=1e-6)
    assert table.loc[1e-4, "p_exact"] == pytest.approx(1)


def test_equal_runs_make_it_fishers_exact_test():
    for a, b in itertools.product(range(8), repeat=2):
        assert cell_p(a, 7, b, 7) == pytest.approx(stats.fisher_exact([[a, 7 - a], [b, 7 - b]]).pvalue)


def test_arms_of_unequal_size_are_compared_by_their_shares():
    """In the first setting A has the higher share and fewer successes; in the second one arm has no runs."""
    counts = [np.array(numbers) for numbers in ([4, 2], [4, 5], [9, 0], [20, 0])]
    tests = cell_tests(
        Strata(
            weights=np.full(2, 0.5), successes_a=counts[0], runs_a=counts[1], successes_b=counts[2], runs_b=counts[3]
        )
    )
    assert tests.difference[0] == pytest.approx(1 - 9 / 20)
    law = stats.hypergeom(24, 13, 4)
    far = [x for x in range(5) if abs(x - law.mean()) >= 4 - law.mean() - 1e-9]
    assert tests.p[0] == pytest.approx(sum(law.pmf(x) for x in far))
    assert tests.p_holm[0] == tests.p[0]  # a family of one
    assert np.isnan([tests.difference[1], tests.p[1], tests.p_holm[1]]).all()


def noisy(seed, **changes):
    rng = np.random.default_rng(seed)
    chance = {(loss, k, rate): rng.random() for loss in ("a", "b", "c") for k in (1, 2) for rate in RATES}
    arguments = {"losses": ("a", "b", "c"), "success": lambda *place: chance[place], "replicates": 9, "seed": seed}
    return make_frames(**{**arguments, **changes})


def test_the_other_order_negates_and_shuffled_rows_change_nothing():
    frames = noisy(1)
    table = differences_table(frames)
    shuffled = dataclasses.replace(frames, runs=frames.runs.sample(frac=1, random_state=3).reset_index(drop=True))
    pd.testing.assert_frame_equal(differences_table(shuffled), table)
    turned = dataclasses.replace(frames, plan={**frames.plan, "configurations": frames.plan["configurations"][::-1]})
    other = differences_table(turned)
    names = ["k", "learning_rate"]
    for (a, b), own in table.groupby(["loss_a", "loss_b"]):
        mirrored = other[(other["loss_a"] == b) & (other["loss_b"] == a)].sort_values(names)
        assert len(own) == len(mirrored) == 6
        for mine, theirs, sign in [
            ("difference", "difference", -1),
            ("low", "high", -1),
            ("share_a", "share_b", 1),
            ("p_exact", "p_exact", 1),
            ("p_holm", "p_holm", 1),
        ]:
            np.testing.assert_allclose(own.sort_values(names)[mine], sign * mirrored[theirs], atol=1e-12)


def test_a_crossing_is_what_the_table_shows_in_both_directions():
    found = []
    for seed in range(4):
        frames = noisy(
            seed,
            replicates=12,
            success=lambda loss, k, rate: {"a": 0.95, "b": 0.05, "c": 0.5}[loss] if rate < 5e-3 else 0.5,
        )
        if seed % 2:  # the upper rates are the other way round
            wins = {"a": "diverged", "b": "converged", "c": "diverged"}
            top = frames.runs["learning_rate"] == 1e-2
            ends = frames.runs["outcome"].where(~top, frames.runs["loss"].map(wins))
            frames = dataclasses.replace(frames, runs=frames.runs.assign(outcome=ends))
        table = differences_table(frames)
        shown = table[table["p_holm"] <= 0.05]
        both = shown.groupby(["loss_a", "loss_b"])["difference"].agg(lambda d: (d > 0).any() and (d < 0).any())
        crossing = contrasts_table(frames).set_index(["loss_a", "loss_b"])["crossing"]
        for pair, crosses in crossing.items():
            assert crosses == bool(both.get(pair, False))
            found.append(crosses)
    assert 0 < sum(found) < len(found)


def test_settings_without_runs_and_settings_of_one_loss():
    def outcome(loss, k, rate, replicate):
        return "failed" if loss == "b" and rate == 1e-2 else "converged" if loss == "a" else "diverged"

    frames = make_frames(losses=("a", "b"), ks=(1,), outcome=outcome)
    table = differences_table(frames).set_index("learning_rate")
    lost = table.loc[1e-2]
    assert lost[["difference", "p_exact", "p_holm", "share_b"]].isna().all()
    assert (lost["runs_b"], lost["low"], lost["high"]) == (0, -1, 1)
    assert table["p_holm"].dropna().tolist() == pytest.approx([2 * 2 / math.comb(12, 6)] * 2)  # a family of two
    kept = ~((frames.runs["loss"] == "b") & (frames.runs["learning_rate"] == 1e-3))
    partial = dataclasses.replace(frames, runs=frames.runs[kept].reset_index(drop=True))
    assert sorted(differences_table(partial)["learning_rate"]) == [1e-4, 1e-2]
    assert not len(differences_table(make_frames(losses=("a",))))
    assert not len(differences_table(make_frames(losses=())))


def test_shared_seeds_leave_single_settings_untested():
    frames = noisy(2)
    shared = dataclasses.replace(frames, runs=frames.runs.assign(seed=frames.runs["replicate"] + 1))
    table = differences_table(shared)
    assert table[["low", "high", "p_exact", "p_holm"]].isna().all(axis=None)
    assert table["difference"].notna().all()


def test_other_factors_are_columns_and_the_map_averages_over_them():
    frames = make_frames(losses=("a", "b"), ks=(1,), replicates=4, outcome=lambda *_: "converged")
    batch = np.where(frames.runs["replicate"] < 2, 64, 128)
    lost = (frames.runs["loss"] == "b") & (batch == 128)
    ends = np.where(lost, "diverged", "converged")
    keys = frames.runs["configuration_key"] + "-" + batch.astype(str)
    frames = dataclasses.replace(
        frames, runs=frames.runs.assign(batch_size=batch, outcome=ends, configuration_key=keys), plan={}
    )
    table = differences_table(frames)
    assert table.groupby("batch_size")["difference"].unique().map(list).to_dict() == {64: [0.0], 128: [1.0]}
    cells = difference_map(frames, table, "b")
    assert cells["settings"].tolist() == [2] * 3
    assert cells["difference"].tolist() == pytest.approx([-0.5] * 3)


@pytest.mark.parametrize("cells", [6, 20])
def test_chance_is_outlined_in_one_map_of_twenty_at_most(cells):
    rng, studies, runs = np.random.default_rng(201), 1200, 10
    hits = plain = 0
    p = np.linspace(0.1, 0.9, cells)
    for _ in range(studies):
        a, b = rng.binomial(runs, p, (2, cells))
        full = np.full(cells, runs)
        tests = cell_tests(
            Strata(weights=np.full(cells, 1 / cells), successes_a=a, runs_a=full, successes_b=b, runs_b=full)
        )
        hits += bool((tests.p_holm <= 0.05).any())
        plain += bool((tests.p <= 0.05).any())
    assert hits / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert cells < 20 or plain / studies > 0.15  # without Holm the map would show something that is not there


class TestFigure:
    def drawn(self, frames):
        table, order = differences_table(frames), by_success(losses_table(frames))
        cells = difference_map(frames, table, order[0])
        return cells, difference_figure(cells, order[1:], leader=order[0], rate_name="learning rate"), order

    def test_text_is_the_lead_and_outlines_are_what_holm_shows(self):
        frames = noisy(4, replicates=20)
        cells, figure, order = self.drawn(frames)
        table = differences_table(frames)
        panels = {axes.get_title(loc="left").removeprefix("over "): axes for axes in figure.axes[1:]}
        assert list(panels) == order[1:]
        for rival, axes in panels.items():
            own = cells[cells["loss_b"] == rival]
            sides = (table["loss_a"].isin([rival, order[0]])) & (table["loss_b"].isin([rival, order[0]]))
            assert sum(p.get_facecolor()[3] == 0 for p in axes.patches) == (table[sides]["p_holm"] <= 0.05).sum()
            shares = losses_share(frames, order[0]) - losses_share(frames, rival)
            assert own.set_index(["k", "learning_rate"])["difference"].to_dict() == pytest.approx(shares.to_dict())
            texts = {t.get_text() for t in axes.texts}
            assert {f"{100 * d:+.0f}".replace("-", MINUS) for d in own["difference"] if abs(d) > 0.01} <= texts
        assert cells["shown"].abs().sum() > 0

    def test_bytes_do_not_change_and_hostile_names_are_drawn(self):
        frames = noisy(5, losses=("<script>", "=cmd()", "\u202e" + "x" * 300), success=lambda loss, k, rate: 0.5)
        _, figure, _ = self.drawn(frames)
        first = svg_bytes(figure)
        assert first == svg_bytes(self.drawn(frames)[1])
        for hostile in ("<script>", "\u202e"):
            assert hostile.encode() not in first

    def test_few_replicates_are_told(self):
        for replicates, told in [(3, True), (12, False)]:
            frames = noisy(6, replicates=replicates, losses=("a", "b"))
            (drawn,) = [d for d in draw_details(frames, tables_of(frames)) if d.name == "differences"]
            assert ("With so few replicates" in drawn.caption) == told
            assert f"n = {replicates} judged runs" in drawn.caption


def tables_of(frames):
    empty = cost_table(frames).iloc[:0]
    return {**compare(frames), "cost": empty, "shake": empty, "cells_differences": differences_table(frames)}


def losses_share(frames, loss):
    own = frames.runs[frames.runs["loss"] == loss]
    return (own["outcome"] == "converged").groupby([own["k"], own["learning_rate"]]).mean()
