"""Figures against their tables, and the tables against independent counts."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import binomtest

from analysis.compare import contrasts_table, losses_table
from analysis.figures import SHARE_ORDER, forest, outcome_bars, outcome_table
from analysis.figures_cells import MOST_COLUMNS, modal_failure, phase_table
from analysis.figures_examples import CLOSEST, TYPICAL, apart, choose_examples, example_curves, example_figure
from analysis.figures_phase import phase_diagrams
from analysis.figures_response import response_figure
from analysis.figures_samples import mode_centres, snapshots, tiles
from analysis.figures_style import OUTCOMES, png_bytes, svg_bytes
from analysis.report_examples import example_scale
from analysis.report_figures import draw_all
from analysis.wording import number_text, rate_text, shown
from study.outcomes import OUTCOMES as JUDGED
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 1e-3, 1e-2)


def uneven(loss, k, learning_rate, replicate):
    """Outcomes with counts that differ from cell to cell, so that swapped axes or losses would show."""
    order = ("converged", "under_trained", "collapsed", "failed", "diverged")
    return order[(replicate * (1 + k) + RATES.index(learning_rate) * len(loss)) % 5]


@pytest.fixture(scope="module")
def frames():
    return make_frames(losses=("minimax", "wgan_gp"), ks=(1, 3), learning_rates=RATES, replicates=7, outcome=uneven)


@pytest.fixture(scope="module")
def cells(frames):
    return phase_table(frames.runs, frames.labels())


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


class TestPhaseDiagrams:
    def test_counts_are_those_of_the_runs(self, frames, cells):
        judged = frames.runs[~frames.runs["outcome"].isin(["failed", "censored"])]
        group = judged.groupby(["loss", "k", "learning_rate"])["outcome"]
        expected = {name: ((g == "converged").sum(), len(g)) for name, g in group}
        got = {(r.loss, r.k, r.learning_rate): (r.converged, r.judged) for r in cells.itertuples()}
        assert got == expected
        assert len(set(got.values())) > 2  # the example tells cells apart

    def test_intervals_are_wilson_and_undecided_means_one_half_inside(self, cells):
        for row in cells.itertuples():
            interval = binomtest(row.converged, row.judged).proportion_ci(method="wilson")
            assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
            assert row.undecided == (interval.low <= 0.5 <= interval.high)

    def test_each_cell_shows_its_count_where_it_belongs(self, cells):
        figure, _ = phase_diagrams(cells)
        panels = {
            axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left") in set(cells["loss"])
        }
        for row in cells.itertuples():
            column, level = RATES.index(row.learning_rate), (1, 3).index(row.k)
            found = [
                t.get_text()
                for t in panels[row.loss].texts
                if "/" in t.get_text()
                and math.floor(t.get_position()[0]) == column
                and math.floor(t.get_position()[1]) == level
            ]
            assert found == [f"{row.converged}/{row.judged}"]

    def test_only_undecided_cells_are_hatched(self):
        share = {1e-4: 0, 1e-3: 5, 1e-2: 10}  # of ten: never, half, always
        frames = make_frames(
            losses=("hinge",),
            ks=(1,),
            replicates=10,
            outcome=lambda _, k, rate, n: "converged" if n < share[rate] else "plateau",
        )
        figure, _ = phase_diagrams(phase_table(frames.runs, ["hinge"]))
        (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == "hinge"]
        assert [patch.get_x() for patch in axes.patches if patch.get_hatch()] == [1]

    def test_fill_gets_darker_with_success(self):
        runs = make_frames(
            losses=("hinge",),
            ks=(1,),
            replicates=4,
            outcome=lambda _, k, r, n: "converged" if n < RATES.index(r) * 2 else "plateau",
        ).runs
        figure, _ = phase_diagrams(phase_table(runs, ["hinge"]))
        fills = {
            p.get_x(): sum(to_rgb(p.get_facecolor()))
            for a in figure.axes
            for p in a.patches
            if p.get_facecolor()[3] == 1 and p.get_width() == 1
        }
        assert fills[0] > fills[1] > fills[2]

    def test_hotspots_lie_on_their_cells(self, cells):
        figure, spots = phase_diagrams(cells)
        titles = {axes.get_title(loc="left"): axes for axes in figure.axes}
        assert [spot.row for spot in spots] == list(cells.index)
        width, height = figure.canvas.get_width_height()
        for spot in spots:
            row = cells.loc[spot.row]
            centre = (RATES.index(row["learning_rate"]) + 0.5, (1, 3).index(row["k"]) + 0.5)
            x, y = titles[row["loss"]].transData.transform(centre)
            assert (spot.x + spot.width / 2) * width == pytest.approx(x, abs=1)
            assert (1 - spot.y - spot.height / 2) * height == pytest.approx(y, abs=1)

    def test_settings_that_differ_in_other_factors_are_pooled(self):
        frames = make_frames(losses=("wgan_gp",), ks=(1,), penalty_weights={"wgan_gp": (1.0, 5.0, 25.0)}, replicates=4)
        table = phase_table(frames.runs, frames.labels())
        assert table["settings"].tolist() == [3, 3, 3]
        assert table["planned"].tolist() == [12, 12, 12]

    def test_many_drawn_rates_are_gathered_without_losing_a_run(self):
        rates = tuple(float(x) for x in np.logspace(-4, -1, 40))
        frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=rates, replicates=1)
        table = phase_table(frames.runs, frames.labels())
        assert len(table) == MOST_COLUMNS // 2
        assert table["planned"].sum() == 40
        assert table["converged"].sum() == (frames.runs["outcome"] == "converged").sum()

    def test_commonest_failure_with_its_kind_and_ties(self):
        judged = pd.DataFrame(
            {
                "outcome": ["converged", "diverged", "plateau", "plateau", "diverged"],
                "kind": ["", "blowup", "quality", "partial_collapse", "blowup"],
            }
        )
        assert modal_failure(judged) == ("plateau", "partial_collapse")  # two of each: the earlier in report order
        assert modal_failure(judged.iloc[:2]) == ("diverged", "blowup")
        assert modal_failure(judged.iloc[:1]) == ("", "")


class TestShares:
    def test_segments_of_each_bar_sum_to_one_and_start_with_success(self, frames):
        losses = losses_table(frames)
        shares = outcome_table(losses)
        assert shares[list(SHARE_ORDER)].sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
        assert shares["converged"].tolist() == losses["success"].tolist()
        unstable = shares[["diverged", "collapsed", "oscillating", "partial_collapse"]].sum(axis=1)
        assert unstable.tolist() == pytest.approx(losses["unstable"].tolist())

    def test_bars_are_as_long_as_the_shares(self, frames):
        shares = outcome_table(losses_table(frames))
        (axes,) = outcome_bars(shares).axes
        drawn = [
            p.get_width() for p in axes.patches if round(p.get_y() + p.get_height() / 2) == 1 and not p.get_hatch()
        ]
        assert drawn == pytest.approx([x for x in shares.loc[1, list(SHARE_ORDER)] if x > 0])

    def test_forest_draws_the_table(self, frames):
        contrasts = contrasts_table(frames)
        axes = forest(contrasts, delta=0.1).axes[0]
        spans = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
        row = contrasts.iloc[0]
        assert (row["low"], row["high"]) in spans
        assert (row["low_95"], row["high_95"]) in spans
        assert [row["difference"]] in [list(line.get_xdata()) for line in axes.lines]

    @pytest.mark.parametrize("kind", ["materially more successful", "detectable but immaterial"])
    def test_the_longest_verdict_fits_on_the_page(self, kind):
        name = "W" * 40
        row = {"loss_a": name, "loss_b": "hinge", "difference": 0.5, "low": 0.1, "high": 0.7, "low_95": 0.2}
        table = pd.DataFrame([row | {"high_95": 0.6, "verdict_kind": kind, "winner": name}])
        figure = forest(table, delta=0.1)
        figure.canvas.draw()
        told = [text for axes in figure.axes for text in axes.texts if kind in text.get_text()]
        assert len(told) == 1
        assert told[0].get_window_extent().x1 < figure.bbox.width

    def test_response_draws_every_judged_cell(self, cells):
        figure = response_figure(cells)
        for axes in figure.axes:
            own = cells[cells["loss"] == axes.get_title(loc="left")]
            drawn = sorted(y for line in axes.lines for y in line.get_ydata())
            assert drawn == pytest.approx(sorted(own["share"]))


class TestExamples:
    def test_median_and_smallest_margin_of_each_outcome(self):
        runs = pd.DataFrame(
            {
                "configuration_key": list("abcdefg"),
                "loss": "hinge",
                "k": 1,
                "learning_rate": 1e-3,
                "replicate": 0,
                "outcome": ["converged"] * 4 + ["failed", "diverged", "converged"],
                "kind": "",
                "margin": [0.4, 0.1, 0.3, 0.2, 0.0, math.nan, math.nan],
            }
        )
        chosen = choose_examples(runs)
        assert list(zip(chosen["outcome"], chosen["which"], chosen["configuration_key"], strict=True)) == [
            ("converged", TYPICAL, "d"),  # margins .1 .2 .3 .4: the lower of the two middle ones
            ("converged", CLOSEST, "b"),
            ("diverged", CLOSEST, "f"),
        ]

    def test_curves_are_rescaled_measurements(self, frames):
        chosen = choose_examples(frames.runs)
        curves = example_curves(chosen, frames.curves, example_scale(frames))
        first = chosen.iloc[0]
        same = frames.curves["configuration_key"] == first["configuration_key"]
        own = frames.curves[same & (frames.curves["replicate"] == first["replicate"])].sort_values("generator_step")
        got = curves[(curves["which"] == first["which"]) & (curves["outcome"] == first["outcome"])]
        assert got["u"].to_numpy() == pytest.approx((own["distance"].to_numpy() - 0.05) / 1.25)
        assert got["quality"].to_numpy() == pytest.approx(own["high_quality_fraction"].to_numpy() / 0.989)

    def test_thresholds_are_the_studys(self, frames):
        spec = {**frames.spec, "criteria": {"u_converged": 0.2, "coverage_converged": 0.7}}
        scale = example_scale(dataclasses.replace(frames, spec=spec))
        assert (scale.thresholds["u"], scale.thresholds["mode_coverage"]) == (0.2, 0.7)
        assert math.isnan(scale.thresholds["nn_coverage"])  # asked in more than two dimensions only

    def test_snapshots_follow_the_runs_own_horizon(self):
        rows = [
            {
                "configuration_key": "a",
                "replicate": 1,
                "generator_step": step,
                "sample": i,
                "x": [float(step), float(i)],
            }
            for step in (0, 250, 1000)
            for i in (1, 0)
        ]
        shots = snapshots(pd.DataFrame(rows), {"configuration_key": "a", "replicate": 1, "horizon": 1000.0})
        assert sorted(shots) == [0.0, 0.25, 1.0]
        assert shots[0.25].tolist() == [[250.0, 0.0], [250.0, 1.0]]  # by sample, whatever the order of the rows

    def test_tiles_of_three_colours_keep_their_channels(self):
        image = np.full((3, 4, 4), -1.0)
        image[0, 1, 2] = 1.0
        picture = tiles(np.stack([np.full(48, -1.0), image.ravel()]), side=2)
        assert picture.shape == (9, 9, 3)
        assert picture[1, 5 + 2].tolist() == [1.0, 0.0, 0.0]
        assert picture[1, 2].tolist() == [0.0, 0.0, 0.0]
        assert picture[4, 0].tolist() == pytest.approx([0.875] * 3)

    def test_tiles_put_images_in_reading_order(self):
        images = np.stack([np.full(16, value) for value in (-1.0, 0.0, 0.5, 1.0)])
        picture = tiles(images, side=2)
        assert picture.shape == (9, 9)
        assert [picture[0, 0], picture[0, 8], picture[8, 0], picture[8, 8]] == [-1.0, 0.0, 0.5, 1.0]

    def test_mode_centres_of_the_planar_targets(self):
        ring = mode_centres({"name": "ring", "modes": 5, "radius": 3.0})
        assert np.hypot(*ring.T) == pytest.approx([3.0] * 5)
        assert ring[0] == pytest.approx([3.0, 0.0])
        grid = mode_centres({"name": "grid", "side": 3, "spacing": 2.0})
        assert sorted(map(tuple, grid)) == [(x, y) for x in (-2.0, 0.0, 2.0) for y in (-2.0, 0.0, 2.0)]
        assert mode_centres({"name": "digits"}) is None

    def test_digits_are_drawn_as_images(self):
        example = {"outcome": "converged", "which": CLOSEST, "margin": 0.1, "kind": "", "loss": "hinge", "k": 1}
        chosen = pd.DataFrame(
            [{**example, "learning_rate": 1e-3, "replicate": 0, "configuration_key": "a", "horizon": 10.0}]
        )
        shots = {CLOSEST: {1.0: np.linspace(-1, 1, 64 * 64).reshape(64, 64)}}
        scale = example_scale(make_frames(losses=("hinge",), ks=(1,), replicates=1))
        curves = example_curves(chosen, pd.DataFrame(columns=["configuration_key", "replicate"]), scale)
        figure = example_figure(chosen, curves, shots, scale=scale, centres=None)
        (large,) = [axes for axes in figure.axes if axes.images]
        assert large.images[0].get_array().shape == (62, 62)  # 7 x 7 images of 8 x 8 with a line between
        assert large.images[0].cmap(large.images[0].norm(-1.0))[:3] == (1.0, 1.0, 1.0)  # -1 is paper
        assert large.images[0].cmap(large.images[0].norm(1.0))[:3] == (0.0, 0.0, 0.0)  # 1 is ink
        assert "no measurements" in texts(figure)

    def test_names_of_curves_that_end_together_stay_apart(self):
        moved = apart([0.0, 0.02, 0.9, 1.7, 1.75])
        assert moved[:3] == pytest.approx([0.0, 0.125, 0.9])
        assert moved[3:] == pytest.approx([1.625, 1.75])  # pushed up by none, down by the upper edge
        assert all(high - low >= 0.125 - 1e-12 for low, high in itertools.pairwise(moved))


class TestStyle:
    def test_palette_covers_every_outcome_in_report_order(self):
        assert tuple(OUTCOMES) == JUDGED
        assert len({look.colour for look in OUTCOMES.values()}) == len(JUDGED)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1e-4, "1e-4"),
            (4.64e-4, "4.6e-4"),
            (0.01, "1e-2"),
            (0.1, "0.1"),
            (2.5e-5, "2.5e-5"),
            (0.0, "0"),
            (math.nan, "all"),
        ],
    )
    def test_rates_read_as_people_write_them(self, value, text):
        assert rate_text(value) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.05, "0.05"), (0.01, "0.01"), (64, "64"), (0.999, "0.999"), (1e-5, "1e-5"), (True, "True")],
    )
    def test_other_numbers_read_as_numbers(self, value, text):
        assert number_text(value) == text

    def test_shown_text_is_tame_and_short(self):
        assert shown("a\u202eb\x00c\ud800") == "a\\u202eb\\u0000c\\ud800"
        assert shown("two\nlines\tand a tab") == "two lines and a tab"
        assert shown("x" * 40) == "x" * 27 + "…"

    def test_bytes_carry_no_date_and_repeat(self, cells):
        first, second = (phase_diagrams(cells)[0] for _ in range(2))
        assert svg_bytes(first) == svg_bytes(second)
        assert png_bytes(first) == png_bytes(second)
        assert not re.search(rb"dc:date|20\d\d-\d\d-\d\d", svg_bytes(first))

    def test_dollars_and_angles_are_not_markup(self, frames):
        runs = frames.runs.assign(loss="$\\frac{<b>&")
        svg = svg_bytes(phase_diagrams(phase_table(runs, ["$\\frac{<b>&"]))[0]).decode("utf-8")
        assert "$\\frac{&lt;b&gt;&amp;" in svg


def test_losses_come_best_first_in_every_figure():
    chance = {"minimax": 0.1, "hinge": 0.9, "wgan_gp": 0.5}
    frames = make_frames(losses=tuple(chance), replicates=10, success=lambda loss, k, rate: chance[loss])
    tables = {"losses": losses_table(frames), "contrasts": contrasts_table(frames)}
    drawn = {figure.name: figure for figure in draw_all(frames, tables)}
    for name in ("outcome_bars", "phase_diagrams", "learning_rate_response"):
        assert list(dict.fromkeys(drawn[name].tables[name]["loss"])) == ["hinge", "wgan_gp", "minimax"]
    titles = [axes.get_title(loc="left") for axes in drawn["phase_diagrams"].figure.axes]
    assert [title for title in titles if title in chance] == ["hinge", "wgan_gp", "minimax"]


def test_every_figure_comes_with_the_table_it_draws(frames):
    tables = {"losses": losses_table(frames), "contrasts": contrasts_table(frames)}
    drawn = {figure.name: figure for figure in draw_all(frames, tables)}
    assert all(figure.name in figure.tables for figure in drawn.values())
    assert {f"examples_{name}" for name in frames.runs["outcome"].unique() if name != "failed"} <= set(drawn)
    samples = drawn["examples_converged"].tables["examples_converged_samples"]
    assert samples.groupby(["which", "budget_share"]).size().tolist() == [64] * 10
    assert json.dumps(sorted(drawn["phase_diagrams"].tables)) == '["phase_diagrams"]'
