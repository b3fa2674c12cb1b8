from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from study.summary import TENTHS, curve, outcome_fractions, worst_rank_quantiles


def quantile(values: np.ndarray, *, dead: int, tenths: int, direction: str) -> float | None:
    """Of one row."""
    found = worst_rank_quantiles(values[None], worst=np.array([dead]), direction=direction)  # type: ignore[arg-type]
    return found[next(label for label, known in TENTHS.items() if known == tenths)][0]


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
            got = quantile(values, dead=dead, tenths=tenths, direction=direction)
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
    assert quantile(values, dead=7, tenths=9, direction="lower") == 63.0
    assert quantile(values, dead=7, tenths=1, direction="higher") == 0.0
    assert quantile(values, dead=8, tenths=9, direction="lower") is None


def test_without_deaths_quantiles_are_numpys() -> None:
    values = np.random.default_rng(1).normal(size=13)
    for tenths in (1, 5, 9):
        got = quantile(values, dead=0, tenths=tenths, direction="higher")
        assert got == pytest.approx(np.quantile(values, tenths / 10), rel=1e-12)


@pytest.mark.parametrize("direction", ["lower", "higher"])
def test_each_evaluation_has_its_own_living_absent_and_dead(direction: str) -> None:
    """Rows of different lengths at once, bit for bit as each would be alone."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, 9))
    values[rng.random(values.shape) < 0.4] = np.nan
    values[7], worst = np.nan, rng.integers(0, 4, size=40)
    found = worst_rank_quantiles(values, worst=worst, direction=direction)  # type: ignore[arg-type]
    nothing = 0
    for row, (numbers, dead) in enumerate(zip(values, worst, strict=True)):
        measured = numbers[~np.isnan(numbers)].tolist()
        for label, tenths in TENTHS.items():
            higher, q = direction == "higher", Fraction(tenths, 10)
            want = slow_quantile(measured, dead=int(dead), q=q, higher_is_better=higher) if measured else None
            assert found[label][row] == want
            nothing += want is None
    assert 3 < nothing < 60


def test_a_living_replicate_whose_number_was_not_finite_ranks_worst_where_others_have_one() -> None:
    """Evaluation 0: all have numbers. 1: one lacks a distance. 2: one is dead, one lacks it. 3: nobody has any."""
    distance = [[1.0, 2.0, 3.0, 4.0], [1.0, None, 3.0, 4.0], [None, 2.0, 3.0, None], [None] * 4]
    rows = pa.table(
        {
            "evaluation": [index for index in range(4) for _ in range(4)],
            "measured_at_ms": [10 * index + replicate for index in range(4) for replicate in range(4)],
            "finite": [not (index == 2 and replicate == 3) for index in range(4) for replicate in range(4)],
            "distance": [number for numbers in distance for number in numbers],
            "displacement": [number for numbers in distance for number in numbers],
        }
    ).filter(pa.array([not (index == 3 and replicate == 3) for index in range(4) for replicate in range(4)]))
    points = curve(rows, steps=[0, 100, 200, 300], skip={0})
    assert [(point.generator_step, point.measured_at_ms) for point in points] == [(100, 13), (200, 23), (300, 32)]
    one, two, three = (point.metrics for point in points)
    assert list(one) == ["distance/q10", "distance/median", *(f"displacement/{q}" for q in TENTHS), "finite_fraction"]
    assert one["distance/q10"] == pytest.approx(0.7 * 1.0 + 0.3 * 3.0)
    assert one["distance/median"] == pytest.approx(3.5)
    assert one["displacement/q90"] == pytest.approx(0.8 * 4.0 + 0.2 * 3.0)
    assert set(two) == {"distance/q10", *(f"displacement/{q}" for q in TENTHS), "finite_fraction"}
    assert three == {"finite_fraction": 0.75}


def test_outcome_fractions_are_over_judged_replicates() -> None:
    shares = outcome_fractions(["converged", "converged", "collapsed", "failed", "censored", "failed"])
    assert shares["outcome/converged_fraction"] == pytest.approx(2 / 3)
    assert shares["outcome/collapsed_fraction"] == pytest.approx(1 / 3)
    assert shares["judged_fraction"] == 0.5
    assert "outcome/failed_fraction" not in shares
    assert outcome_fractions(["failed"]) == {"judged_fraction": 0.0}
