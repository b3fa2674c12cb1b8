"""Orders of updates, their numbers and averaged generators as factors of a study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from study.configurations import Configuration, configurations
from study.cost import cohort_seconds
from study.history import History
from study.plan import make_plan
from study.spec import StudySpec
from trainers.measurement import AVERAGED
from trainers.measuring import Evaluation


def study(**changes: Any) -> StudySpec:
    """A small study with top-level sections replaced."""
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring"},
        "scientific": {"loss": "hinge", "k": 1},
        "nuisance": {"learning_rate": [1e-3, 1e-2]},
        "budget": {"value": 400},
        "replicates": 3,
    }
    return StudySpec.from_dict({**base, **changes})


def varied(*updates: str, **more: Any) -> StudySpec:
    return study(scientific={"loss": "hinge", "k": 1, "updates": list(updates)}, **more)


def by_updates(spec: StudySpec) -> dict[str, list[Configuration]]:
    found: dict[str, list[Configuration]] = {}
    for configuration in configurations(spec):
        found.setdefault(str(configuration.factors["updates"]), []).append(configuration)
    return found


def keys(made: list[Configuration] | tuple[Configuration, ...]) -> list[str]:
    return [configuration.configuration_key for configuration in made]


WEIGHTS = {"nuisance": {"learning_rate": [1e-3, 1e-2], "consensus_weight": [0.1, 1, 10]}}


def test_each_order_of_updates_has_only_the_numbers_it_uses() -> None:
    found = by_updates(varied("simultaneous", "consensus", "optimistic", **WEIGHTS))
    assert {updates: len(made) for updates, made in found.items()} == {
        "simultaneous": 2,
        "consensus": 6,
        "optimistic": 2,
    }
    assert {c.factors["consensus_weight"] for c in found["consensus"]} == {0.1, 1.0, 10.0}
    assert {c.member(0).numbers["consensus_weight"] for c in found["consensus"]} == {0.1, 1.0, 10.0}
    for configuration in (*found["simultaneous"], *found["optimistic"]):
        assert "consensus_weight" not in configuration.factors
        assert "consensus_weight" not in configuration.member(0).numbers


def test_the_company_of_consensus_changes_no_other_key() -> None:
    mixed = by_updates(varied("simultaneous", "consensus", **WEIGHTS))
    assert keys(mixed["simultaneous"]) == keys(configurations(varied("simultaneous")))
    weights = {"learning_rate": [1e-3, 1e-2], "consensus_weight": [0.1, 1, 10]}
    alone = study(scientific={"loss": "hinge", "k": 1}, nuisance=weights, fixed={"updates": "consensus"})
    assert keys(mixed["consensus"]) == keys(configurations(alone))
    assert len({*keys(mixed["consensus"]), *keys(mixed["simultaneous"])}) == 8


def test_what_was_written_reads_back_and_a_plan_survives_its_json() -> None:
    spec = varied("simultaneous", "consensus", **WEIGHTS)
    again = StudySpec.from_dict(spec.operative)
    assert again == spec
    assert keys(configurations(again)) == keys(configurations(spec))
    plan = make_plan(spec, workers=1)
    programs = [plan.configuration(cohort.members[0][0]).program().updates for cohort in plan.cohorts]
    assert sorted(set(programs)) == ["consensus", "simultaneous"]
    assert type(plan).from_json(plan.to_json()) == plan


def test_random_search_draws_numbers_for_the_updates_that_use_them() -> None:
    weights = {"low": 0.1, "high": 10, "scale": "log"}
    search = {"method": "random", "configurations": 40}
    both = varied("simultaneous", "consensus", nuisance={"learning_rate": 0.1, "consensus_weight": weights},
                  search={"method": "random", "configurations": 12})  # fmt: skip
    found = by_updates(both)
    assert len(found["simultaneous"]) == 1, "one setting, however often it is drawn"
    assert len({c.factors["consensus_weight"] for c in found["consensus"]}) == 11
    with pytest.raises(ValueError, match="'hinge' has only 4 configurations"):
        varied(
            "simultaneous", "consensus", nuisance={"learning_rate": 0.1, "consensus_weight": [1, 2, 3]}, search=search
        )


@pytest.mark.parametrize(
    ("unit", "value", "updates", "horizon"),
    [
        ("generator_steps", 300, "extragradient", 300),
        ("samples_seen", 12_800, "simultaneous", 100),
        ("samples_seen", 12_800, "extragradient", 50),  # two real minibatches a step
        ("gradient_evaluations", 300, "optimistic", 150),
        ("gradient_evaluations", 300, "extragradient", 75),
        ("gradient_evaluations", 300, "consensus", 50),
    ],
)
def test_the_horizon_is_what_the_budget_buys(unit: str, value: int, updates: str, horizon: int) -> None:
    weight = {"consensus_weight": 1} if updates == "consensus" else {}
    spec = study(
        scientific={"loss": "hinge", "k": 1},
        nuisance={"learning_rate": 0.1},
        fixed={"updates": updates, **weight},
        budget={"unit": unit, "value": value, "evaluations": 20},
    )
    (configuration,) = configurations(spec)
    assert configuration.horizon == configuration.program().horizon == horizon


def test_twice_the_gradients_take_about_twice_the_time() -> None:
    seconds = {
        updates: cohort_seconds(made[0].program(), 8)
        for updates, made in by_updates(varied("simultaneous", "extragradient")).items()
    }
    assert 1.5 < seconds["extragradient"] / seconds["simultaneous"] < 2


@pytest.mark.parametrize(("updates", "samples"), [("simultaneous", 7 * 5), ("extragradient", 7 * 2 * 5)])
def test_a_dead_members_row_counts_the_minibatches_it_was_shown(updates: str, samples: int) -> None:
    history = History([("aa", 0, 1)], k=1, batch_size=5, updates=updates)
    evaluation = Evaluation(
        index=1,
        generator_step=10,
        discriminator_steps=10,
        samples_seen=0,
        values={},
        finite=np.array([False]),
        death_step=np.array([7]),
        samples=None,
    )
    history.append(evaluation, measured_at_ms=1)
    (row,) = history.table().to_pylist()
    assert (row["generator_step"], row["discriminator_steps"], row["samples_seen"]) == (7, 7, samples)


def test_an_averaged_generator_is_a_factor_that_switches_its_measurements_on() -> None:
    without, (one, two) = configurations(study())[0], configurations(
        study(nuisance={"learning_rate": 1e-3, "generator_average": [0.9, 0.999]})
    )  # fmt: skip
    assert [c.member(0).numbers["generator_average"] for c in (one, two)] == [0.9, 0.999]
    assert one.program() == two.program(), "they train in one cohort"
    assert one.program().measurements == ("average",)
    assert without.program().measurements == ()
    assert "generator_average" not in without.factors
    assert "generator_average" not in study().operative["fixed"]
    assert len({without.configuration_key, one.configuration_key, two.configuration_key}) == 3
    assert len(AVERAGED) == 9
