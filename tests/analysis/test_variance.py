"""Intraclass correlation and ANOVA against textbook numbers, scipy and statsmodels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.variance import SEED_NOISE, balanced_anova, icc_table, intraclass_correlation, variance_table
from tests.analysis.synthetic import make_frames

KNOWN = json.loads((Path(__file__).parent / "known_answers.json").read_text(encoding="utf-8"))


def test_icc_of_shrout_and_fleiss():
    example = KNOWN["icc_judges"]
    assert intraclass_correlation(np.array(example["values"], float)) == pytest.approx(example["icc"], abs=5e-5)


def test_icc_follows_from_the_f_ratio():
    values = np.random.default_rng(1).binomial(1, [[0.9], [0.5], [0.2], [0.6]], size=(4, 7)).astype(float)
    ratio = stats.f_oneway(*values).statistic
    assert intraclass_correlation(values) == pytest.approx((ratio - 1) / (ratio + 7 - 1))


def test_icc_of_unequal_groups_by_hand():
    # groups 1 1 0 and 0 0: MSB = 8/15, MSW = (2/3)/3, n0 = 5 - 13/5 = 2.4
    values = np.array([[1, 1, 0], [0, 0, np.nan]])
    between, within = 8 / 15, 2 / 9
    assert intraclass_correlation(values) == pytest.approx((between - within) / (between + 1.4 * within))


def test_icc_ends():
    assert intraclass_correlation(np.array([[1.0, 1, 1], [0, 0, 0]])) == pytest.approx(1)
    assert intraclass_correlation(np.array([[1.0, 0], [1, 0]])) == pytest.approx(-1)  # settings agree too well
    assert intraclass_correlation(np.random.default_rng(2).normal(size=(500, 6))) == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("values", [np.ones((3, 4)), np.ones((1, 4)), np.eye(3)[:, :1], np.full((2, 2), np.nan)])
def test_icc_that_nothing_tells_is_nan(values):
    assert math.isnan(intraclass_correlation(values))


def grid(seed=3):
    rng = np.random.default_rng(seed)
    p = 0.5 + 0.3 * np.array([-1, 0, 1])[:, None, None] * np.array([1, -1])[:, None] + 0.1 * np.arange(2)
    return rng.binomial(1, np.clip(p, 0, 1)[..., None], size=(3, 2, 2, 5)).astype(float)


def test_anova_agrees_with_least_squares():
    values = grid()
    index = pd.MultiIndex.from_product([range(n) for n in values.shape], names=["a", "b", "c", "run"])
    table = pd.DataFrame({"y": values.ravel()}, index=index).reset_index()
    oracle = anova_lm(ols("y ~ C(a) * C(b) * C(c)", table).fit(), typ=2)
    found = balanced_anova(values, ("a", "b", "c")).set_index("term")
    for term, row in oracle.iterrows():
        name = SEED_NOISE if term == "Residual" else term.replace("C(", "").replace(")", "").replace(":", " x ")
        assert found.loc[name, "sum_of_squares"] == pytest.approx(row["sum_sq"], abs=1e-10)
        assert found.loc[name, "df"] == row["df"]


def test_anova_terms_add_up():
    found = balanced_anova(grid(), ("a", "b", "c"))
    assert found["share"].sum() == pytest.approx(1)
    assert found["df"].sum() == 3 * 2 * 2 * 5 - 1


def test_omega_squared_takes_the_noise_away():
    # two levels, values 0 2 and 3 5: SS = 9, MSW = 2, SST = 13 -> (9 - 2) / (13 + 2)
    row = balanced_anova(np.array([[0.0, 2.0], [3.0, 5.0]]), ("a",)).iloc[0]
    assert (row["sum_of_squares"], row["share"], row["omega_squared"]) == pytest.approx((9, 9 / 13, 7 / 15))


def test_omega_squared_of_pure_noise_is_zero_on_average():
    rng = np.random.default_rng(4)
    draws = [balanced_anova(rng.normal(size=(3, 4, 5)), ("a", "b"))["omega_squared"][:3] for _ in range(200)]
    assert np.mean(draws, axis=0) == pytest.approx([0, 0, 0], abs=0.015)


def test_one_run_a_cell_has_no_noise_to_take_away():
    found = balanced_anova(np.arange(6.0).reshape(3, 2, 1), ("a", "b"))
    assert found["omega_squared"].isna().all()
    assert found["share"].iloc[:3].sum() == pytest.approx(1)


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.full((2, 2, 2), np.nan)])
def test_anova_refuses_what_is_no_full_grid(values):
    with pytest.raises(ValueError, match="full grid over a, b and runs"):
        balanced_anova(values, ("a", "b"))


def test_variance_of_a_study_that_only_the_learning_rate_decides():
    frames = make_frames(outcome=lambda loss, k, rate, r: "converged" if rate == 1e-3 else "diverged")
    table = variance_table(frames).set_index("term")
    assert table.loc["learning_rate", "share"] == pytest.approx(1)
    assert table.loc[["loss", "k", SEED_NOISE], "share"].tolist() == pytest.approx([0, 0, 0])
    assert icc_table(frames)["icc"].tolist() == pytest.approx([1, 1])


def test_an_interaction_is_no_main_effect():
    frames = make_frames(
        ks=(1,),
        outcome=lambda loss, k, rate, r: "converged" if (loss == "minimax") == (rate < 1e-3) else "diverged",
        learning_rates=(1e-4, 1e-2),
    )
    table = variance_table(frames).set_index("term")
    assert table.loc["loss x learning_rate", "share"] == pytest.approx(1)
    assert table.loc["loss", "share"] == pytest.approx(0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"losses": ()},
        {"outcome": lambda loss, k, rate, r: "failed" if r == 0 else "converged"},
        {"penalty_weights": {"wgan_gp": (1.0, 10.0)}},
    ],
    ids=["no runs", "lost runs", "a factor of one label"],
)
def test_what_is_not_balanced_has_no_exact_split(arguments):
    assert not len(variance_table(make_frames(**arguments)))


def test_order_of_rows_changes_nothing():
    frames = make_frames(success=lambda *_: 0.5)
    from dataclasses import replace

    shuffled = replace(frames, runs=frames.runs.sample(frac=1, random_state=1).reset_index(drop=True))
    first = variance_table(frames).set_index("term").sort_index()
    pd.testing.assert_frame_equal(first, variance_table(shuffled).set_index("term").sort_index())
