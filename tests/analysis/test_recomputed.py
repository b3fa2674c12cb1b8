"""The report's tables, recomputed from runs.csv by other means: plain loops, label shuffling, statsmodels."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from analysis.report import build_report
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
UNSTABLE = ("diverged", "collapsed", "oscillating")
CHANCES = {"minimax": (0.2, 0.8, 0.6, 0.0), "hinge": (0.9, 1.0, 0.5, 0.3), "wgan_gp": (0.0, 0.1, 0.4, 0.2)}
ENDINGS = ("under_trained", "plateau", "oscillating", "collapsed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """runs, losses, contrasts and cells as CSV, of a study with six replicates in each of 24 cells."""
    frames = make_frames(
        losses=tuple(CHANCES),
        ks=(1, 3),
        learning_rates=RATES,
        replicates=6,
        success=lambda loss, k, rate: CHANCES[loss][RATES.index(rate)],
        failure=lambda loss, k, rate: ENDINGS[(RATES.index(rate) + k) % 4],
        seed=11,
    )
    folder = build_report(frames, out=tmp_path_factory.mktemp("recomputed") / "out").folder
    return {
        name: pd.read_csv(folder / f"{name}.csv", keep_default_na=name != "runs")
        for name in ("runs", "losses", "contrasts", "cells")
    }


def cells_of(written, loss):
    """(weight, runs of the cell) for every cell; the outermost of four equal steps in log10 count half."""
    runs = written["runs"]
    for (_, rate), cell in runs[runs["loss"] == loss].groupby(["k", "learning_rate"]):
        yield (1 if rate in (RATES[0], RATES[-1]) else 2) / 6 / 2, cell


def converged(cell):
    return (cell["outcome"] == "converged").to_numpy(dtype=float)


def unstable(cell):
    partly = (cell["outcome"] == "plateau") & (cell["kind"] == "partial_collapse")
    return (cell["outcome"].isin(UNSTABLE) | partly).to_numpy(dtype=float)


def interval(written, loss, event, alpha):
    share = variance = floor = 0.0
    for weight, cell in cells_of(written, loss):
        happened, n = event(cell), len(cell)
        shrunk = (happened.sum() + 0.5) / (n + 1)
        share += weight * happened.mean()
        variance += weight**2 * shrunk * (1 - shrunk) / n
        floor += weight**2 / n
    n = max(1 / floor, share * (1 - share) / variance)
    z = norm.isf(alpha / 2)
    root = math.sqrt(share * (1 - share) / n + z * z / 4 / n**2)
    low, high = ((share + z * z / 2 / n + side * z * root) / (1 + z * z / n) for side in (-1, 1))
    return share, low, high


def newcombe(written, first, second, event, alpha):
    (a, a_low, a_high), (b, b_low, b_high) = (interval(written, loss, event, alpha) for loss in (first, second))
    gap = a - b
    return gap, gap - math.hypot(a - a_low, b_high - b), gap + math.hypot(a_high - a, b - b_low)


def near(values):
    return pytest.approx(values, abs=2e-9)


@pytest.mark.parametrize("loss", CHANCES)
def test_shares_of_each_loss(written, loss):
    row = written["losses"].set_index("loss").loc[loss]
    assert near(interval(written, loss, converged, 0.05)) == tuple(row[["success", "success_low", "success_high"]])
    assert near(interval(written, loss, unstable, 0.05)) == tuple(row[["unstable", "unstable_low", "unstable_high"]])
    for ending in ("converged", *ENDINGS, "diverged"):
        share = sum(weight * (cell["outcome"] == ending).mean() for weight, cell in cells_of(written, loss))
        assert row[ending] == near(share)


@pytest.mark.parametrize("loss", CHANCES)
def test_decades_are_the_best_ks_area(written, loss):
    areas = {}
    for k in (1, 3):
        heights = [converged(cell).mean() for _, cell in cells_of(written, loss) if cell["k"].iloc[0] == k]
        areas[k] = sum((left + right) / 2 for left, right in itertools.pairwise(heights))  # steps of 1
    row = written["losses"].set_index("loss").loc[loss]
    assert row["lr_decades"] == near(max(areas.values()))
    assert areas[row["lr_decades_k"]] == near(max(areas.values()))


def test_intervals_of_every_pair(written):
    for row in written["contrasts"].to_dict("records"):
        pair = row["loss_a"], row["loss_b"]
        joint, single = (newcombe(written, *pair, converged, alpha) for alpha in (0.05 / 3, 0.05))
        assert near(joint) == (row["difference"], row["low"], row["high"])
        assert near(single[1:]) == (row["low_95"], row["high_95"])
        shaky = newcombe(written, *pair, unstable, 0.05 / 3)
        assert near(shaky) == (row["unstable_difference"], row["unstable_low"], row["unstable_high"])


def test_p_values_against_shuffled_labels(written):
    rng = np.random.default_rng(5)
    for row in written["contrasts"].to_dict("records"):
        observed, shuffled = 0.0, np.zeros(20_000)
        pair = zip(cells_of(written, row["loss_a"]), cells_of(written, row["loss_b"]), strict=True)
        for (weight, first), (_, second) in pair:
            a, b = converged(first), converged(second)
            observed += weight * (a.mean() - b.mean())
            mixed = rng.permuted(np.tile(np.append(a, b), (len(shuffled), 1)), axis=1)
            shuffled += weight * (mixed[:, : len(a)].mean(axis=1) - mixed[:, len(a) :].mean(axis=1))
        found = (np.abs(shuffled) >= abs(observed) - 1e-9).mean()
        assert row["p_exact"] == pytest.approx(found, abs=4 * math.sqrt(found * (1 - found) / 20_000) + 2e-4)


def test_holm_over_the_pairs(written):
    table = written["contrasts"]
    assert near(multipletests(table["p_exact"], method="holm")[1]) == tuple(table["p_holm"])


def test_verdicts_and_seeds_follow_from_the_intervals(written):
    words = set()
    for row in written["contrasts"].to_dict("records"):
        sign = 1 if row["difference"] > 0 else -1
        low, high = sorted((sign * row["low"], sign * row["high"]))
        calmer = row["unstable_high"] < 0 if sign > 0 else row["unstable_low"] > 0
        word = "stable" if calmer else "successful"
        ninety = newcombe(written, row["loss_a"], row["loss_b"], converged, 0.10)
        expected = "undetermined"
        if low > 0:
            expected = f"materially more {word}" if low >= 0.1 else f"more {word}" if high >= 0.1 else "immaterial"
        elif ninety[1] > -0.1 and ninety[2] < 0.1:
            expected = "equivalent"
        assert row["verdict_kind"] == expected
        words.add(expected)
        if expected == "undetermined":
            assert row["seeds_needed"] == more_seeds(written, row["loss_a"], row["loss_b"])
    assert len(words) > 1  # the example tells verdicts apart


def more_seeds(written, *pair):
    variance = 0.0
    for weight, cell in (found for loss in pair for found in cells_of(written, loss)):
        shrunk = (converged(cell).sum() + 0.5) / (len(cell) + 1)
        variance += weight**2 * shrunk * (1 - shrunk)
    z = norm.isf(0.05 / 3 / 2) + norm.ppf(0.8)
    return max(1, math.ceil(z**2 * variance / 0.1**2) - 6)


def test_cells_count_their_runs(written):
    cells = written["cells"].set_index("configuration_key")
    for _, cell in written["runs"].groupby("configuration_key"):
        row = cells.loc[cell["configuration_key"].iloc[0]]
        assert row["used"] == 6
        assert row["success"] == near(converged(cell).mean())
        assert row["unstable"] == near(unstable(cell).mean())
    assert written["cells"].groupby("loss")["weight"].sum().tolist() == near([1.0] * 3)
