"""What a study file may say of its search and its scheduler: bad input by name, defaults, and no trace where absent."""

from __future__ import annotations

from typing import Any

import pytest

from study.objective import AGGREGATES, Objective
from study.search_rules import rung_evaluations
from study.sections import SAMPLERS, Scheduler
from study.spec import SpecError, StudySpec

RANGE = {"low": 1e-4, "high": 1e-1}
R1 = {"name": "non_saturating", "penalty": "r1", "penalty_weight": {"low": 0.01, "high": 10}, "label": "ns-r1"}


def searched(search: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A valid adaptive study with sections replaced."""
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring", "modes": 5},
        "scientific": {"loss": ["minimax", R1], "k": [1, 3]},
        "nuisance": {"learning_rate": RANGE},
        "fixed": {"batch_size": 32},
        "budget": {"value": 400, "evaluations": 40},
        "search": {"method": "optuna", "configurations": 10, **(search or {})},
    }
    return {**base, **changes}


def asha(**keys: Any) -> dict[str, Any]:
    return searched(scheduler={"name": "asha", "grace_fraction": 0.2, **keys})


def climb(objective: Any, **changes: Any) -> dict[str, Any]:
    return searched({"objective": objective}, **changes)


MINIMAX = {"loss": "minimax"}
DIRAC = {
    "target": {"name": "dirac"},
    "networks": {"name": "dirac", "initial": {"radius": 1e-3}},
    "fixed": {"batch_size": 4, "optimizer": "sgd"},
}

BAD: list[tuple[dict[str, Any], str]] = [
    (searched({"configurations": None}), "search.configurations: required with method optuna: how many per loss entry"),
    (
        searched({"sampler": "tpee"}),
        "search.sampler: must be one of tpe, gp, cmaes, qmc, random; did you mean 'tpe'? (got 'tpee')",
    ),
    (searched({"samplr": "tpe"}), "search.samplr: unknown key; did you mean 'sampler'?"),
    (climb("sucess"), "search.objective: must be success, or {measurement: distance, aggregate: median | mean |"),
    (
        climb({"measurement": "distanse"}),
        "search.objective.measurement: unknown measurement 'distanse'; did you mean 'distance'? (known: distance,",
    ),
    (
        climb({"measurement": "displacement"}),
        "search.objective.measurement: has no better and worse; tune one of distance, mode_coverage,",
    ),
    (
        climb({"measurement": "frechet_distance"}),
        "search.objective.measurement: is measured only with measurements: [frechet]; or tune one of distance,",
    ),
    (
        climb({"measurement": "average_distance"}),
        "search.objective.measurement: is measured only with a generator_average; or tune one of distance,",
    ),
    (
        climb({"measurement": "mode_coverage"}, **DIRAC),
        "search.objective.measurement: is not measured on dirac; tune one of distance (got 'mode_coverage')",
    ),
    (
        climb({"measurement": "distance", "aggregate": "best"}),
        "search.objective.aggregate: unknown aggregate 'best' (known: median, mean, worst, cvar25)",
    ),
    (climb({"aggregate": "mean"}), "search.objective.measurement: required: the measurement to tune"),
    (
        climb({"measurement": "distance", "agregate": "mean"}),
        "search.objective.agregate: unknown key; did you mean 'aggregate'?",
    ),
    (
        searched({"sampler": "cmaes"}, scientific={"loss": "minimax", "k": [1, 3]}),
        "search.sampler: cmaes places points in a box and draws what is listed at random: it needs 2 ranges in effect "
        "for every setting, 'minimax' has 1 (learning_rate); use tpe, gp or random",
    ),
    (
        searched({"sampler": "qmc"}, nuisance={"learning_rate": [i / 1000 for i in range(1, 13)]}, scientific=MINIMAX),
        "search.sampler: qmc places points in a box",
    ),
    (
        searched(nuisance={"learning_rate": [1e-3, 1e-2]}, scientific={"loss": "minimax", "k": [1, 3]}),
        "search.configurations: 'minimax' has only 4 configurations (got 10)",
    ),
    (
        searched(nuisance={"learning_rate": RANGE, "std": [0.1, 0.2]}),
        "search.method: varies the target; its yardsticks are made before the first trial: use method grid or random",
    ),
    (
        asha(grace_fraction=0.1),
        "scheduler.grace_fraction: puts the first rung at evaluation 4 of 40, before the 8 that a replicate is judged "
        "by (criteria.window_min_evaluations); write grace_fraction: 0.2, or budget.evaluations: 80 or more (got 0.1)",
    ),
    (asha(grace_fraction=1), "scheduler.grace_fraction: leaves no rung before the horizon"),
    (asha(grace_fraction=0.99), "scheduler.grace_fraction: leaves no rung before the horizon"),
    (asha(grace_fraction=0), "scheduler.grace_fraction: must be a number > 0 and <= 1 (got 0)"),
    (asha(reduction_factor=1), "scheduler.reduction_factor: must be a number > 1 and <= 100 (got 1)"),
    (
        searched(scheduler={"name": "asa"}),
        "scheduler.name: must be one of none, asha; did you mean 'asha'? (got 'asa')",
    ),
    (searched(scheduler={"grace_fraction": 0.5}), "scheduler.grace_fraction: is for the scheduler asha (got 0.5)"),
]


@pytest.mark.parametrize(("mapping", "expected"), BAD, ids=[expected[:60] for _, expected in BAD])
def test_bad_input_names_field_rule_and_value(mapping: dict[str, Any], expected: str) -> None:
    mapping = {**mapping, "search": {key: value for key, value in mapping["search"].items() if value is not None}}
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict(mapping)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith(expected)


def test_everything_wrong_with_a_search_is_told_at_once() -> None:
    mapping = climb({"measurement": "nothing", "aggregate": "best"}, scheduler={"name": "asha"})
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict(mapping)
    fields = {line.partition(": ")[0] for line in caught.value.problems}
    assert fields == {"search.objective.measurement", "search.objective.aggregate", "scheduler.grace_fraction"}


def test_defaults_are_written_out_and_read_back() -> None:
    spec = StudySpec.from_dict(searched(scheduler={"name": "asha"}, budget={"value": 400, "evaluations": 80}))
    assert spec.operative["search"] == {
        "method": "optuna",
        "configurations": 10,
        "sampler": "tpe",
        "objective": "success",
    }
    assert spec.operative["scheduler"] == {"name": "asha", "grace_fraction": 0.1, "reduction_factor": 3.0}
    assert StudySpec.from_dict(spec.operative) == spec
    written_out = searched({"sampler": "tpe", "objective": "success"}, budget={"value": 400, "evaluations": 80})
    written_out["scheduler"] = {"name": "asha", "reduction_factor": 3, "grace_fraction": 0.1}
    assert StudySpec.from_dict(written_out).spec_hash == spec.spec_hash


def test_an_objective_has_its_aggregate_written_out() -> None:
    spec = StudySpec.from_dict(climb({"measurement": "mode_kl"}))
    assert spec.operative["search"]["objective"] == {"measurement": "mode_kl", "aggregate": "median"}
    assert Objective.from_plain(spec.search.objective) == Objective(measurement="mode_kl", aggregate="median")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("objective", ["success", *({"measurement": "distance", "aggregate": a} for a in AGGREGATES)])
def test_every_sampler_and_objective_is_accepted(sampler: str, objective: Any) -> None:
    varied = {"learning_rate": RANGE, "beta1": {"low": 0.0, "high": 0.9}}
    StudySpec.from_dict(searched({"sampler": sampler, "objective": objective}, nuisance=varied))


def test_a_grid_and_a_random_study_hash_as_before_there_were_searches() -> None:
    grid = searched(nuisance={"learning_rate": [1e-3, 1e-2]}, scientific={"loss": ["minimax", "hinge"], "k": [1, 3]})
    del grid["search"]
    assert StudySpec.from_dict(grid).spec_hash == "942f7b9f28a48d86"
    drawn = {**grid, "search": {"method": "random", "configurations": 3}}
    assert StudySpec.from_dict(drawn).spec_hash == "1e0e1aeabefc41fd"


@pytest.mark.parametrize(
    ("grace", "factor", "evaluations", "expected"),
    [
        (0.1, 3, 80, (8, 24, 72)),
        (0.1, 3, 240, (24, 72, 216)),
        (0.2, 2, 40, (8, 16, 32)),
        (0.25, 2, 40, (10, 20)),  # the next would be the horizon
        (0.2, 2.5, 40, (8, 20)),
        (0.3, 3, 30, (9, 27)),
        (1 / 3, 3, 27, (9,)),
    ],
)
def test_rungs_lie_where_the_fractions_say_and_before_the_horizon(
    grace: float, factor: float, evaluations: int, expected: tuple[int, ...]
) -> None:
    scheduler = Scheduler(name="asha", grace_fraction=grace, reduction_factor=factor)
    assert rung_evaluations(scheduler, evaluations) == expected
    assert rung_evaluations(Scheduler(), evaluations) == ()
