"""Trend statistics against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from study.trends import kendall, theil_sen


@pytest.mark.parametrize("n", [4, 15, 33, 60])
@pytest.mark.parametrize("slope", [0.0, -0.05, 0.3])
def test_untied_series_agree_with_scipy(n: int, slope: float) -> None:
    y = slope * np.arange(n) + np.random.default_rng(n).standard_normal(n)
    expected = stats.kendalltau(np.arange(n), y, method="exact" if n <= 33 else "asymptotic")
    assert kendall(y) == pytest.approx((expected.statistic, expected.pvalue))


def test_tied_series_agree_with_scipy() -> None:
    y = np.array([3.0, 3.0, 2.0, 2.5, 2.0, 2.0, 1.0, 1.5, 1.0, 0.5, 0.5])
    expected = stats.kendalltau(np.arange(len(y)), y, method="asymptotic")
    tau, p = kendall(y)
    assert tau == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, rel=0.02)  # scipy's variance has two more terms, zero without ties in x


def test_a_constant_series_has_no_trend() -> None:
    assert kendall(np.full(9, 0.3)) == (0.0, 1.0)
    assert kendall(np.array([1.0])) == (0.0, 1.0)
    assert theil_sen(np.array([2.0]), np.array([7.0])) == (0.0, 7.0)


def test_theil_sen_agrees_with_scipy_and_shrugs_off_an_outlier() -> None:
    x = np.cumsum(np.random.default_rng(1).random(20) + 0.1)
    y = 2.0 - 0.5 * x
    y[13] = 40.0
    slope, intercept = theil_sen(x, y)
    assert (slope, intercept) == pytest.approx((-0.5, 2.0))
    assert slope == pytest.approx(stats.theilslopes(y, x).slope)
