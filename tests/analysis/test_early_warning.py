"""What tells early: known answers, other implementations, what the landmark may know, and promises by simulation."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.early_warning import discrimination, early_warning_table, midranks, pooled_auc, risk_set
from analysis.estimators import holm
from analysis.figures_early import early_caption, early_figure, early_rows, early_words
from analysis.ranks import mean_superiority
from tests.analysis.synthetic import HORIZON, make_frames


def drawn_runs(seed, *, cells=9, ties=False):
    """Cells of 3 to 14 runs, endings at random, values that lean on the ending, some infinite."""
    rng = np.random.default_rng(seed)
    cell = np.repeat(np.arange(cells), rng.integers(3, 15, cells))
    event = rng.random(len(cell)) < rng.uniform(0.1, 0.9, cells)[cell]
    values = rng.normal(0.6 * event + cell, 1)
    values = np.round(values) if ties else np.where(rng.random(len(cell)) < 0.1, np.inf, values)
    return values, cell * 7 + 3, event


class TestStatistic:
    @pytest.mark.parametrize("ties", [False, True])
    def test_one_cell_is_mann_and_whitneys(self, ties):
        values, _, event = drawn_runs(4, cells=4, ties=ties)
        found = discrimination(values, np.zeros(len(values), dtype=int), event)
        oracle = stats.mannwhitneyu(values[event], values[~event], method="asymptotic", use_continuity=False)
        assert found.auc == pytest.approx(oracle.statistic / (event.sum() * (~event).sum()))
        assert found.p == pytest.approx(oracle.pvalue)
        assert (found.cells, found.event, found.other) == (1, event.sum(), (~event).sum())

    @pytest.mark.parametrize("ties", [False, True])
    def test_cells_are_the_areas_under_their_roc_curves(self, ties):
        values, cells, event = drawn_runs(5, ties=ties)
        finite = np.minimum(values, 1e6)
        areas, shares = [], []
        for cell in np.unique(cells):
            own = cells == cell
            if 0 < event[own].sum() < own.sum():
                areas.append(roc_auc_score(event[own], finite[own]))
                shares.append(event[own].sum() * (~event[own]).sum() / (own.sum() + 1))
        assert len(areas) >= 6
        assert discrimination(values, cells, event).auc == pytest.approx(np.average(areas, weights=shares))
        assert pooled_auc(values, event) == pytest.approx(roc_auc_score(event, finite))

    def test_a_hand_worked_example_of_two_cells(self):
        values = np.array([1.0, 5.0, 2.0, 2.0, 9.0, 30.0, 10.0, 20.0, 99.0])
        cells = np.array([1, 1, 1, 1, 1, 2, 2, 2, 4])
        event = np.array([False, True, True, False, False, True, False, False, True])
        found = discrimination(values, cells, event)
        # cell 1: 5 beats 1 and 2; 2 beats 1 and ties 2: 3.5 of 6. Cell 2: 2 of 2. Cell 4 has one ending.
        weights = np.array([6 / 6, 2 / 4])
        assert found.auc == pytest.approx((weights @ [3.5 / 6, 1.0]) / weights.sum())
        assert (found.cells, found.pairs, found.event, found.other) == (2, 8, 3, 5)
        assert found.p_least == pytest.approx(2 / (10 * 3))  # 5 over 2 times 3 over 1 arrangements

    @pytest.mark.parametrize("ties", [False, True])
    def test_interval_is_that_of_matched_cells(self, ties):
        values, cells, event = drawn_runs(6, ties=ties)
        matched = []
        for cell in np.unique(cells):
            ones, zeros = values[(cells == cell) & event], values[(cells == cell) & ~event]
            if len(ones) and len(zeros):
                matched.append((len(ones) * len(zeros) / (len(ones) + len(zeros) + 1), zeros, ones))
        oracle = mean_superiority(matched)
        found = discrimination(values, cells, event)
        assert (found.auc, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))

    def test_p_is_near_the_permutation_law_and_never_below_what_is_possible(self):
        values = np.array([0.1, 0.9, 0.4, 0.8, 0.3, 5.0, 7.0, 6.0, 8.0, 4.0])
        cells = np.repeat([0, 1], 5)
        event = np.isin(np.arange(10), [1, 3, 6, 8, 7])
        found = discrimination(values, cells, event)
        firsts, seconds = (list(itertools.combinations(range(5 * c, 5 * c + 5), n)) for c, n in ((0, 2), (1, 3)))
        law = [
            discrimination(values, cells, np.isin(np.arange(10), one + other)).auc
            for one, other in itertools.product(firsts, seconds)
        ]
        exact = np.mean(np.abs(np.array(law) - 0.5) >= abs(found.auc - 0.5) - 1e-12)
        assert len(law) == 100
        assert found.auc == 1
        assert (exact, found.p_least) == pytest.approx((0.02, 0.02))
        assert found.p == found.p_least  # the normal law alone says .014
        assert np.var(law) == pytest.approx(((found.auc - 0.5) / stats.norm.isf(0.0143 / 2)) ** 2, rel=0.01)

    def test_a_sign_that_never_errs_is_not_certain(self):
        event = np.tile([True, True, False, False, False], 4)
        found = discrimination(event.astype(float), np.repeat(np.arange(4), 5), event)
        assert found.auc == found.high == 1
        assert 0.5 < found.low < 0.9

    def test_equal_numbers_tell_nothing(self):
        found = discrimination(np.ones(6), np.zeros(6, dtype=int), np.arange(6) < 3)
        assert (found.auc, found.p) == (0.5, 1.0)

    def test_cells_of_one_ending_tell_nothing(self):
        found = discrimination(np.arange(4.0), np.array([0, 0, 1, 1]), np.array([True, True, False, False]))
        assert (found.cells, found.pairs, found.low, found.high) == (0, 0, 0, 1)
        assert math.isnan(found.auc)
        assert math.isnan(found.p)
        assert math.isnan(pooled_auc(np.arange(2.0), np.array([True, True])))

    def test_turning_the_numbers_turns_the_sign_and_scales_do_not_matter(self):
        values, cells, event = drawn_runs(8)
        one, turned = discrimination(values, cells, event), discrimination(-values, cells, event)
        assert (turned.auc, turned.low, turned.high) == pytest.approx((1 - one.auc, 1 - one.high, 1 - one.low))
        assert turned.p == pytest.approx(one.p)
        order = np.random.default_rng(0).permutation(len(values))
        moved = discrimination((np.exp(values / 9) + 100 * cells)[order], cells[order], event[order])
        assert (moved.auc, moved.low, moved.p) == pytest.approx((one.auc, one.low, one.p))

    def test_ranks_are_those_of_each_group(self):
        values, groups = np.array([3.0, 1.0, 3.0, np.inf, 2.0, np.inf]), np.array([5, 5, 5, 2, 2, 2])
        assert midranks(values, groups).tolist() == [2.5, 1.0, 2.5, 2.5, 1.0, 2.5]
        assert len(midranks(np.zeros(0), np.zeros(0, dtype=int))) == 0


# --- studies ---------------------------------------------------------------------------------------


def mixed_study(**changes):
    """Two rates, ten replicates: the first half of them oscillates, the others converge; 30 evaluations."""
    arguments = {
        "losses": ("hinge",),
        "ks": (1,),
        "learning_rates": (1e-3, 1e-2),
        "replicates": 10,
        "evaluations": 30,
        "outcome": lambda loss, k, rate, r: "oscillating" if r < 5 else "converged",
    }
    frames = make_frames(**(arguments | changes))
    noise = np.random.default_rng(3).normal(0, 1, (3, len(frames.curves)))
    told_by_ending = ("distance", "mode_coverage", "high_quality_fraction")  # curves are shaped like their outcome
    return with_curves(frames, **dict(zip(told_by_ending, noise, strict=True)))


def with_curves(frames, **columns):
    """The study with columns of its curves computed anew from the curves."""
    return dataclasses.replace(frames, curves=frames.curves.assign(**columns))


def row_of(frames, name, event="unstable"):
    table = early_warning_table(frames)
    found = table[(table["event"] == event) & (table["measurement"] == name)]
    return found.iloc[0] if len(found) else None


def fails(curves):
    return curves["replicate"] < 5


class TestLandmark:
    @pytest.mark.parametrize(("evaluations", "expected"), [(30, 6), (24, 4), (100, 20)])
    def test_only_the_last_evaluation_by_then_counts(self, evaluations, expected):
        frames = mixed_study(evaluations=evaluations)
        told = with_curves(
            frames,
            distance=lambda c: np.where(c["evaluation"] == expected, 1.0, -1.0) * fails(c) + 0.01 * c["replicate"],
        )
        row = row_of(told, "distance")
        assert (row["auc"], row["predicts"]) == (1.0, "higher")
        assert row["measured_at"] == pytest.approx(expected / evaluations, abs=1e-3)

    def test_what_comes_later_changes_nothing(self):
        frames = mixed_study()
        later = frames.curves["generator_step"] > 0.2 * HORIZON
        names = ["distance", "mode_coverage", "generator_loss"]
        changed = frames.curves[names].mask(later, 7.0)
        pd.testing.assert_frame_equal(
            early_warning_table(frames), early_warning_table(with_curves(frames, **{n: changed[n] for n in names}))
        )

    def test_sparse_numbers_are_the_last_recorded_ones(self):
        frames = mixed_study()
        every_fifth = with_curves(
            frames,
            knn_recall=lambda c: np.where(c["evaluation"] % 5 == 0, -1.0 * fails(c) * (c["evaluation"] == 5), np.nan),
            knn_density=lambda c: np.where(c["evaluation"] % 9 == 0, 1.0 * fails(c), np.nan),
        )
        row = row_of(every_fifth, "knn_recall")
        assert (row["auc"], row["predicts"], row["measured_at"]) == (0.0, "lower", pytest.approx(5 / 30))
        assert row_of(every_fifth, "knn_density") is None  # by then recorded before the first step only
        assert row_of(with_curves(frames, knn_recall=math.nan), "knn_recall") is None

    def test_a_number_that_only_some_runs_lack_ranks_worst(self):
        frames = mixed_study()
        lacking = with_curves(
            frames,
            knn_recall=lambda c: np.where(fails(c), np.nan, -1.0),
            discriminator_loss=lambda c: np.where(fails(c), np.nan, 1e9),
        )
        assert row_of(lacking, "knn_recall")["auc"] == 0  # higher is better: the lowest
        assert row_of(lacking, "discriminator_loss")["auc"] == 1
        assert row_of(lacking, "discriminator_loss")["pairs"] == 50

    def test_the_dead_are_counted_and_left_out(self):
        ends = {0: "failed", 1: "censored", 2: "diverged", 3: "diverged"}
        frames = mixed_study(outcome=lambda loss, k, rate, r: ends.get(r, "oscillating" if r < 7 else "converged"))
        early = (frames.curves["replicate"] == 3) & (frames.curves["evaluation"] == 4)
        dropped = (frames.curves["replicate"] == 3) & (frames.curves["evaluation"] > 4)
        died = frames.curves.assign(finite=frames.curves["finite"] & ~early)[~dropped]
        row = row_of(dataclasses.replace(frames, curves=died), "generator_gradient_norm")
        assert row["dead"] == 2  # replicate 3 of both settings; replicate 2 dies at half of the budget
        assert row["unused"] == 4
        assert (row["at_risk"], row["at_risk_event"]) == (14, 8)
        assert (row["runs_event"], row["runs_other"], row["pairs"]) == (8, 6, 24)

    def test_events_and_those_that_had_begun(self):
        ends = {0: "collapsed", 1: "collapsed", 2: "plateau", 3: "under_trained"}
        frames = mixed_study(outcome=lambda loss, k, rate, r: ends.get(r, "converged"))
        onset = frames.runs["t_event"].where(frames.runs["replicate"] != 1, 0.2 * HORIZON)
        onset = onset.where(frames.runs["outcome"] != "converged", 0.1 * HORIZON)
        frames = dataclasses.replace(frames, runs=frames.runs.assign(t_event=onset))
        unstable, unconverged = (row_of(frames, "distance", event) for event in ("unstable", "unconverged"))
        assert unstable["at_risk_event"] == 6  # collapsed and partly collapsed
        assert unconverged["at_risk_event"] == 8
        assert unstable["begun"] == unconverged["begun"] == 2
        assert unstable["at_risk"] == 20

    def test_runs_that_recover_stay_with_those_that_do_not(self):
        """Leaving out the runs whose collapse turns out to last would make few modes a good sign."""
        frames = mixed_study(outcome=lambda loss, k, rate, r: "collapsed" if r < 6 else "converged")
        few = with_curves(frames, mode_coverage=lambda c: np.where(c["replicate"].isin([0, 1, 2, 6]), 0.25, 1.0))
        onset = few.runs["t_event"].where(few.runs["replicate"] > 2, 0.0)
        row = row_of(dataclasses.replace(few, runs=few.runs.assign(t_event=onset)), "mode_coverage")
        assert (row["predicts"], row["begun"], row["at_risk"]) == ("lower", 6, 20)

    def test_each_configuration_has_its_own_budget(self):
        frames = mixed_study()
        keys = list(dict.fromkeys(frames.runs["configuration_key"]))
        plan = dict(frames.plan)
        plan["configurations"] = [
            {**entry, "horizon": HORIZON if entry["configuration_key"] == keys[0] else HORIZON // 2}
            for entry in plan["configurations"]
        ]
        risk = risk_set(dataclasses.replace(frames, plan=plan))
        at = {0: 6, 1: 3}
        position = frames.curves.set_index(["configuration_key", "replicate", "evaluation"])["generator_loss"]
        expected = [position[key, r, at[i]] for i, key in enumerate(keys) for r in range(10)]
        assert risk.values[:, risk.names.index("generator_loss")].tolist() == expected

    def test_order_of_rows_changes_nothing(self):
        frames = mixed_study(losses=("hinge", "minimax"))
        shuffled = dataclasses.replace(
            frames,
            runs=frames.runs.sample(frac=1, random_state=1).reset_index(drop=True),
            curves=frames.curves.sample(frac=1, random_state=2).reset_index(drop=True),
        )
        pd.testing.assert_frame_equal(early_warning_table(frames), early_warning_table(shuffled))

    def test_losses_without_a_common_scale_are_not_pooled(self):
        frames = mixed_study(losses=("hinge", "minimax"))
        assert math.isnan(row_of(frames, "discriminator_loss")["pooled_auc"])
        assert 0 <= row_of(frames, "knn_recall")["pooled_auc"] <= 1
        assert 0 <= row_of(frames, "discriminator_loss")["auc"] <= 1

    def test_holm_is_over_the_measurements_of_an_event(self):
        table = early_warning_table(mixed_study())
        for _, own in table.groupby("event", sort=False):
            assert own["p_holm"].tolist() == pytest.approx(holm(list(own["p"])))


class TestFigure:
    @pytest.fixture
    def told(self):
        frames = mixed_study(learning_rates=(1e-4, 1e-3, 1e-2))
        level = {key: 10.0 * i for i, key in enumerate(dict.fromkeys(frames.runs["configuration_key"]))}
        return with_curves(
            frames,
            knn_recall=lambda c: c["configuration_key"].map(level) - fails(c) * 3 + 0.1 * c["replicate"],
            generator_gradient_norm=lambda c: fails(c) + 0.4 * (c["replicate"] % 3),
        )

    def test_dots_and_rings_are_the_table_turned_to_the_right_of_chance(self, told):
        table = early_warning_table(told)
        rows = early_rows(table)
        best = rows.iloc[0]
        assert (best["measurement"], best["auc"], best["sign"], best["most"]) == ("knn_recall", 0.0, 1.0, 1.0)
        assert best["least"] == 1 - best["high"] > 0.5
        assert (rows["sign"] >= 0.5).all()
        assert ((rows["least"] <= rows["sign"]) & (rows["sign"] <= rows["most"])).all()
        assert rows["sign"].is_monotonic_decreasing
        axes = early_figure(table).axes[0]
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        assert len(marks) == 2 * 12
        dots = [float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() != "none"]
        rings = [float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() == "none"]
        assert dots == pytest.approx(rows["sign"].head(12).tolist())
        assert rings == pytest.approx(rows["pooled"].head(12).tolist(), nan_ok=True)
        assert rings[0] == pytest.approx(1 - best["pooled_auc"])
        assert 0.5 < rings[0] < 1  # settings lie farther apart than runs
        assert axes.get_yticklabels()[0].get_text() == "k-NN recall"

    def test_words_and_caption_say_what_the_table_says(self, told):
        table = early_warning_table(told)
        words = early_words(table)
        assert words.startswith("At 20 % of the budget, k-NN recall and generator gradient norm tell which runs of")
        assert "the unstable one has the lower k-NN recall in 100 % of cases" in words
        caption = early_caption(table)
        assert "n = 30 runs alive then, 15 of which end unstable (0 had begun to by then)" in caption
        assert "Drawn: the 12 strongest of 19." in caption

    def test_a_sign_of_the_setting_is_told_as_such(self):
        rates = tuple(np.logspace(-4, -2, 6))
        frames = mixed_study(
            learning_rates=rates,
            outcome=lambda loss, k, rate, r: "oscillating" if r <= rates.index(rate) else "converged",
        )
        level = {key: float(i) for i, key in enumerate(dict.fromkeys(frames.runs["configuration_key"]))}
        frames = with_curves(
            frames, displacement=lambda c: c["configuration_key"].map(level) + 0.1 * (c["replicate"] % 2)
        )
        row = row_of(frames, "displacement")
        assert row["pooled_auc"] > 0.7
        assert abs(row["auc"] - 0.5) < 0.1
        words = early_words(early_warning_table(frames))
        assert words.startswith("Nothing measured at 20 % of the budget tells which runs of the same setting will")
        assert "Pooled over all settings displacement looks like a sign" in words

    def test_shared_seeds_have_neither_interval_nor_test(self):
        frames = mixed_study()
        shared = dataclasses.replace(frames, runs=frames.runs.assign(seed=frames.runs["replicate"]))
        table = early_warning_table(shared)
        assert table[["low", "high", "p", "p_holm"]].isna().all().all()
        assert table["auc"].tolist() == early_warning_table(frames)["auc"].tolist()
        assert "no interval, no test" in early_words(table)
        assert "Bars" not in early_caption(table)
        assert early_figure(table).axes

    @pytest.mark.parametrize(
        "changes",
        [{"replicates": 3, "outcome": lambda loss, k, rate, r: "converged" if r else "oscillating"},
         {"outcome": lambda *_: "oscillating"}, {"outcome": lambda *_: "failed"}, {"evaluations": 4}],
        ids=["too few", "all unstable", "all lost", "not looked at by then"],
    )  # fmt: skip
    def test_nothing_is_drawn_where_nothing_could_show(self, changes):
        table = early_warning_table(mixed_study(**changes))
        assert not len(early_rows(table))
        assert early_words(table) == early_caption(table) == ""


# --- promises, by simulation -------------------------------------------------------------------------


def normal_study(rng, *, runs, risk, shift, rounding=None):
    """One study: cells of ``runs`` [C] with P(event) ``risk`` [C]; the number is N(0, 1) + ``shift`` [C] x event."""
    cell = np.repeat(np.arange(len(runs)), runs)
    event = rng.random(len(cell)) < risk[cell]
    values = rng.normal(0, 1, len(cell)) + shift[cell] * event
    return (values if rounding is None else np.round(values / rounding)), cell, event


def conditional_truth(cell, event, area):
    """The weighted area of the cells that hold both endings, with the weights of ``discrimination``."""
    ones, runs = np.bincount(cell, event), np.bincount(cell)
    weights = ones * (runs - ones) / (runs + 1)
    return float(weights @ area / weights.sum()) if weights.sum() else math.nan


SHIFTS = {area: math.sqrt(2) * stats.norm.ppf(area) for area in (0.5, 0.65, 0.8, 0.95)}
DESIGNS = {
    "12 cells x 6": (np.full(12, 6), np.linspace(0.1, 0.9, 12)),
    "30 cells x 5, rare": (np.full(30, 5), np.full(30, 0.15)),
    "4 cells x 20": (np.full(4, 20), np.array([0.2, 0.4, 0.6, 0.8])),
    "1 cell x 30": (np.array([30]), np.array([0.4])),
    "8 cells of 3 to 40": (np.array([3, 3, 5, 5, 10, 10, 40, 40]), np.full(8, 0.5)),
}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_cover(design):
    rng = np.random.default_rng(20 + list(DESIGNS).index(design))
    runs, risk = DESIGNS[design]
    shifts = [np.full(len(runs), shift) for shift in SHIFTS.values()]
    shifts.append(np.linspace(0, 2.5, len(runs)))  # a sign in some settings only
    for shift in shifts:
        area, covered = stats.norm.cdf(shift / math.sqrt(2)), []
        for _ in range(800):
            values, cell, event = normal_study(rng, runs=runs, risk=risk, shift=shift)
            truth = conditional_truth(cell, event, area)
            if not math.isnan(truth):
                found = discrimination(values, cell, event)
                covered.append(found.low <= truth <= found.high)
        assert np.mean(covered) >= 0.93, (design, shift, np.mean(covered))


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("rounding", [None, 1.0])
def test_a_number_that_tells_nothing_is_rarely_significant(design, rounding):
    rng = np.random.default_rng(40 + list(DESIGNS).index(design))
    runs, risk = DESIGNS[design]
    p = []
    for _ in range(1500):
        study = normal_study(rng, runs=runs, risk=risk, shift=np.zeros(len(runs)), rounding=rounding)
        p.append(discrimination(*study).p)
    share = float(np.mean(np.array(p) <= 0.05))
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500), (design, share)


@pytest.mark.slow
def test_holm_over_twenty_numbers_and_the_power_that_is_left():
    rng = np.random.default_rng(60)
    cell = np.repeat(np.arange(20), 8)
    alarms = found = 0
    for _ in range(400):
        event = rng.random(160) < 0.4
        common = rng.normal(0, 1, (160, 1))
        values = 0.7 * common + 0.7 * rng.normal(0, 1, (160, 20))
        null = holm([discrimination(values[:, j], cell, event).p for j in range(20)])
        alarms += min(null) <= 0.05
        values[:, 0] += SHIFTS[0.8] * event
        null[0] = discrimination(values[:, 0], cell, event).p
        found += null[0] * 20 <= 0.05
    assert alarms / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert found / 400 >= 0.95  # a sign that is right in four pairs of five is seen in 20 settings of 8 seeds


def test_pooling_takes_the_setting_for_a_sign():
    """Wrong: settings differ in the number and in how often they fail, and nothing tells within a setting."""
    rng, pooled, within = np.random.default_rng(70), [], []
    cell = np.repeat(np.arange(12), 10)
    for _ in range(100):
        event = rng.random(120) < np.linspace(0.1, 0.9, 12)[cell]
        values = cell + rng.normal(0, 1, 120)
        pooled.append(pooled_auc(values, event))
        within.append(discrimination(values, cell, event).auc)
    assert np.mean(pooled) > 0.75
    assert np.mean(within) == pytest.approx(0.5, abs=0.02)


def test_leaving_out_what_lasts_turns_the_sign():
    """Wrong: the state at the landmark recovers or lasts by chance; leaving out what lasts makes it a good sign."""
    rng, honest, wrong = np.random.default_rng(80), [], []
    cell = np.repeat(np.arange(12), 20)
    for _ in range(100):
        collapsed = rng.random(240) < 0.4
        fails = rng.random(240) < np.where(collapsed, 0.6, 0.3)
        coverage = np.where(collapsed, 0.3, 0.9) + rng.normal(0, 0.1, 240)
        honest.append(discrimination(coverage, cell, fails).auc)
        kept = ~(collapsed & fails)
        wrong.append(discrimination(coverage[kept], cell[kept], fails[kept]).auc)
    assert np.mean(honest) < 0.4
    assert np.mean(wrong) > 0.55
