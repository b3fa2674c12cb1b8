"""What a search climbs: finite, ordered by success and then by quality, and never better for a death."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.objective import AGGREGATES, Objective, configuration_value, rung_value
from study.outcomes import Criteria, Outcome, Series, good_lately
from tests.study.test_outcomes import ONES, REFERENCE, T, fast, series

SUCCESS = Objective()
ALIVE = ("converged", "under_trained", "oscillating", "plateau")
OBJECTIVES = [
    SUCCESS,
    *(Objective(measurement=name, aggregate=how) for name in ("distance", "mode_coverage") for how in AGGREGATES),
]
NUMBERS = st.floats(min_value=1e-38, max_value=1e12)
LIVING = st.tuples(st.sampled_from(ALIVE), NUMBERS)


def value(objective: Objective, *replicates: tuple[str, float]) -> float:
    """Replicates as (outcome, last value of whatever the objective asks)."""
    outcomes = [Outcome(name.partition("/")[0], name.partition("/")[2], None, None) for name, _ in replicates]
    return configuration_value(objective, outcomes, [{"distance": x, "mode_coverage": x} for _, x in replicates])


@given(replicates=st.lists(LIVING, min_size=1, max_size=12), objective=st.sampled_from(OBJECTIVES), data=st.data())
def test_a_death_never_raises_the_value(
    replicates: list[tuple[str, float]], objective: Objective, data: st.DataObject
) -> None:
    dead = data.draw(st.sampled_from(["diverged/nonfinite", "diverged/blowup", "collapsed", "plateau/dead"]))
    number = data.draw(st.one_of(NUMBERS, st.sampled_from([math.nan, math.inf, 0.0, -1e300])))
    before = value(objective, *replicates)
    place = data.draw(st.integers(0, len(replicates) - 1))
    replaced = [(dead, number) if i == place else one for i, one in enumerate(replicates)]
    assert value(objective, *replaced) <= before
    assert value(objective, *replicates, (dead, number)) <= before
    for found in (before, value(objective, *replaced)):
        assert math.isfinite(found)


@given(replicates=st.lists(LIVING, min_size=2, max_size=12), data=st.data())
def test_one_more_convergence_outweighs_any_quality(replicates: list[tuple[str, float]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(replicates) - 1))
    other = [(replicates[i][0], data.draw(NUMBERS)) for i in range(len(replicates))]
    worse = [("plateau", x) if i == place else (name, x) for i, (name, x) in enumerate(replicates)]
    better = [("converged", x) if i == place else (name, x) for i, (name, x) in enumerate(other)]
    assert value(SUCCESS, *better) > value(SUCCESS, *worse)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_better_number_is_a_better_value_also_at_the_edge_of_a_double(objective: Objective) -> None:
    higher = objective.measurement == "mode_coverage"
    numbers = [1e-35, 1e-28, 1e-3, 0.5, 0.8, 1.0, 7.0, 1e6]
    values = [value(objective, ("plateau", x), ("plateau", x), ("plateau", x)) for x in numbers]
    assert values == sorted(values, reverse=not higher)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("aggregate", "better", "worse"),
    [
        ("median", (0.1, 0.2, 9.0), (0.1, 0.3, 0.3)),
        ("mean", (0.1, 0.4, 0.4), (0.0, 0.0, 1.0)),
        ("worst", (0.5, 0.5, 0.5), (0.0, 0.0, 0.6)),
        ("cvar25", (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.6), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.8)),
    ],
)
def test_aggregates_are_what_they_are_called(
    aggregate: str, better: tuple[float, ...], worse: tuple[float, ...]
) -> None:
    objective = Objective(measurement="distance", aggregate=aggregate)
    assert value(objective, *(("plateau", x) for x in better)) > value(objective, *(("plateau", x) for x in worse))


def test_where_the_dead_decide_fewer_of_them_are_better_and_any_living_one_is_better_still() -> None:
    objective = Objective(measurement="distance", aggregate="worst")
    alive, dead = ("plateau", 1e12), ("diverged", 0.0)
    assert value(objective, alive, alive) > 0 > value(objective, alive, dead) > value(objective, dead, dead)


def test_what_the_machine_lost_is_no_evidence_and_nothing_is_no_value() -> None:
    kept = [("converged", 0.1), ("plateau", 0.5)]
    assert value(SUCCESS, *kept, ("failed", 0.0)) == value(SUCCESS, *kept)
    with pytest.raises(ValueError, match="did not fail"):
        value(SUCCESS, ("failed", 0.1))


def test_a_stopped_replicate_has_not_converged_and_keeps_its_last_number() -> None:
    assert value(SUCCESS, ("censored", 0.1)) == value(SUCCESS, ("plateau", 0.1))


# --- rungs ------------------------------------------------------------------------------------------


def cut(whole: Series, evaluations: int) -> Series:
    """The history up to and including evaluation number ``evaluations``."""
    rows = slice(0, evaluations + 1)
    return Series(
        generator_step=whole.generator_step[rows],
        finite=whole.finite[rows],
        values={name: values[rows] for name, values in whole.values.items()},
        planned_evaluations=whole.planned_evaluations,
    )


def at_rung(*histories: Series) -> float:
    return rung_value(histories, Criteria(), REFERENCE)


def dies_at(evaluation: int) -> Series:
    whole = cut(series(0.05), evaluation)
    finite = np.arange(evaluation + 1) < evaluation
    values = {name: np.where(finite, value, np.nan) for name, value in whole.values.items()}
    return Series(
        generator_step=whole.generator_step,
        finite=finite,
        values=values,
        planned_evaluations=whole.planned_evaluations,
    )


def test_a_rung_asks_for_the_last_window_only() -> None:
    arrived = series(np.where(T > 0.2, 0.05, 0.9))
    assert good_lately(cut(arrived, 16), Criteria(), REFERENCE)
    assert not good_lately(cut(arrived, 8), Criteria(), REFERENCE)
    lost = series(np.where(T > 0.2, 0.9, 0.05))
    assert not good_lately(cut(lost, 16), Criteria(), REFERENCE)


def test_rungs_compare_shares_first_then_distances_and_the_dead_rank_last() -> None:
    good, near, far = cut(series(0.05), 10), cut(series(0.2), 10), cut(series(0.9), 10)
    assert at_rung(good, far) > at_rung(near, near)
    assert at_rung(near, near, near) > at_rung(far, far, near) == at_rung(far, far, far) > 0
    dead = dies_at(6)
    assert at_rung(far, far, far) > at_rung(far, dead, dead) == at_rung(dead, dead, dead) == 0.0


@given(seed=st.integers(0, 10_000), deaths=st.integers(0, 4))
def test_a_death_never_helps_at_a_rung(seed: int, deaths: int) -> None:
    rng = np.random.default_rng(seed)
    histories = [cut(fast(rng), 10) for _ in range(5)]
    values = [at_rung(*[dies_at(6)] * n, *histories[n:]) for n in range(deaths + 1)]
    assert values == sorted(values, reverse=True)
    assert all(math.isfinite(one) for one in values)


def test_the_dirac_rule_serves_at_rungs_too() -> None:
    steps = np.arange(21)

    def history(rate: float) -> Series:
        radius = 1e-3 * rate ** (10.0 * steps)
        values = {"distance": radius, "generator_parameter": radius, "discriminator_parameter": 0 * radius}
        return Series(generator_step=steps, finite=ONES[:21].astype(bool), values=values, planned_evaluations=40)

    assert rung_value([history(0.9)], Criteria(), {"rule": "radius"}) > 1
    assert (
        1
        > rung_value([history(1.0)], Criteria(), {"rule": "radius"})
        > rung_value([history(1.2)], Criteria(), {"rule": "radius"})
    )
