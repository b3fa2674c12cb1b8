from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from study.summary import outcome_fractions, worst_rank_quantile


def slow_quantile(values: list[float], *, dead: int, q: Fraction, higher_is_better: bool) -> float | None:
    """Independent: exact positions, replicates sorted from good to bad by hand, the dead behind the worst living."""
    best_first = sorted(values, reverse=higher_is_better)
    ranked: list[float | None] = [*best_first, *([None] * dead)]
    if higher_is_better:
        ranked.reverse()
    position = (len(ranked) - 1) * q
    below, above = ranked[math.floor(position)], ranked[math.ceil(position)]
    if below is None or above is None:
        return None
    return below + float(position - math.floor(position)) * (above - below)


@pytest.mark.parametrize("direction", ["lower", "higher"])
@pytest.mark.parametrize("tenths", [1, 5, 9])
def test_worst_rank_quantiles_equal_an_independent_slow_reference(direction: str, tenths: int) -> None:
    rng = np.random.default_rng(3)
    died = 0
    for living in range(1, 24):
        for dead in range(0, 5):
            values = rng.normal(size=living)
            got = worst_rank_quantile(values, dead=dead, tenths=tenths, direction=direction)  # type: ignore[arg-type]
            want = slow_quantile(
                values.tolist(), dead=dead, q=Fraction(tenths, 10), higher_is_better=direction == "higher"
            )
            assert (got is None) == (want is None)
            assert got is None or got == pytest.approx(want, rel=1e-12)
            died += want is None
    assert died > 0 or (direction, tenths) in {("lower", 1), ("higher", 9)} or tenths == 5


def test_a_quantile_that_falls_on_the_last_living_replicate_is_alive() -> None:
    """71 replicates, 7 dead: position 63 = 0.9 x 70 is exactly the last living one; 0.9 x 70 in floats is 63.0, and
    0.1 x 70 is 7.000000000000001: a float position would reach into the dead."""
    values = np.arange(64, dtype=np.float64)
    assert worst_rank_quantile(values, dead=7, tenths=9, direction="lower") == 63.0
    assert worst_rank_quantile(values, dead=7, tenths=1, direction="higher") == 0.0
    assert worst_rank_quantile(values, dead=8, tenths=9, direction="lower") is None


def test_without_deaths_quantiles_are_numpys() -> None:
    values = np.random.default_rng(1).normal(size=13)
    for tenths in (1, 5, 9):
        got = worst_rank_quantile(values, dead=0, tenths=tenths, direction="higher")
        assert got == pytest.approx(np.quantile(values, tenths / 10), rel=1e-12)


def test_outcome_fractions_are_over_judged_replicates() -> None:
    shares = outcome_fractions(["converged", "converged", "collapsed", "failed", "censored", "failed"])
    assert shares["outcome/converged_fraction"] == pytest.approx(2 / 3)
    assert shares["outcome/collapsed_fraction"] == pytest.approx(1 / 3)
    assert shares["judged_fraction"] == 0.5
    assert "outcome/failed_fraction" not in shares
    assert outcome_fractions(["failed"]) == {"judged_fraction": 0.0}
