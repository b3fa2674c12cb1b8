"""The Dirac-GAN in a study file: two forms of ``initial``, and a target and networks that come together only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.plan import Plan, make_plan
from study.spec import SpecError, StudySpec

STUDIES = Path(__file__).resolve().parents[2] / "studies"


def mapping(**changes: Any) -> dict[str, Any]:
    plain = {
        "study": "dirac-spec",
        "target": {"name": "dirac"},
        "scientific": {"loss": ["minimax", {"name": "minimax", "penalty": "r1", "penalty_weight": [0.1, 1]}]},
        "fixed": {"learning_rate": 0.1, "optimizer": "sgd", "batch_size": 4},
        "budget": {"value": 100, "evaluations": 20, "evaluation_samples": 32},
    }
    return {**plain, **changes}


def spec(**changes: Any) -> StudySpec:
    return StudySpec.from_dict(mapping(**changes))


def problem(**changes: Any) -> str:
    with pytest.raises(SpecError) as error:
        spec(**changes)
    return str(error.value)


def keys(study: StudySpec) -> list[str]:
    return [entry.configuration_key for entry in make_plan(study, workers=1).configurations]


def test_networks_default_to_the_targets_own_near_the_equilibrium() -> None:
    assert spec().networks == {"name": "dirac", "initial": {"radius": 1e-3}}
    written = {"networks": {"name": "dirac", "initial": {"radius": 0.001}}}
    assert keys(spec()) == keys(spec(**written))
    assert spec() == spec(**written)


@pytest.mark.parametrize(
    ("initial", "read"), [([1, -2], [1.0, -2.0]), ({"radius": 2}, {"radius": 2.0}), ([-0.0, 1.5], [0.0, 1.5])]
)
def test_both_forms_are_operative_reach_the_program_and_read_back(initial: object, read: object) -> None:
    study = spec(networks={"name": "dirac", "initial": initial})
    assert study.operative["networks"]["initial"] == read
    assert StudySpec.from_dict(study.operative) == study
    plan = make_plan(study, workers=1)
    assert plan.configurations[0].program().networks == {"name": "dirac", "initial": read}
    assert Plan.from_json(plan.to_json()) == plan


def test_where_training_starts_is_part_of_the_key() -> None:
    starts = [{"radius": 1e-3}, {"radius": 1.4}, [1.4, 0], [0, 1.4], [1e-3, 0]]
    assert len({tuple(keys(spec(networks={"name": "dirac", "initial": start}))) for start in starts}) == len(starts)


@pytest.mark.parametrize(
    "initial",
    [[1], [1, 2, 3], {"radius": 0}, {"radius": -1}, {"radius": 1, "angle": 2}, {}, 0.5, "1, 2", [1, True], None],
)
def test_other_forms_are_refused_with_the_rule_and_the_value(initial: object) -> None:
    text = problem(networks={"name": "dirac", "initial": initial})
    assert "networks.initial: must be [theta, psi], or {radius: r} with r > 0" in text


def test_the_start_does_not_vary_within_a_study() -> None:
    assert "nuisance.initial: unknown key" in problem(nuisance={"initial": [1.0, 2.0]})
    assert "did you mean 'initial'" in problem(networks={"name": "dirac", "inital": [1, 1]})


def test_target_and_networks_need_each_other() -> None:
    assert "networks.name: must be dirac for the target dirac" in problem(networks={"name": "mlp"})
    assert "networks.name: must be dirac" in problem(networks={"name": "my_module:build"})
    assert "of the target dirac only; not of ring" in problem(target={"name": "ring"}, networks={"name": "dirac"})


def test_members_of_all_rates_and_weights_share_a_program_and_measure_their_parameters() -> None:
    rates = {"nuisance": {"learning_rate": [0.1, 0.2, 0.4]}, "fixed": {"optimizer": "sgd", "batch_size": 4}}
    plan = make_plan(spec(**rates, resources={"cohort_size": 160}), workers=1)
    assert len(plan.configurations) == 9
    assert len(plan.cohorts) == 2  # one per penalty
    assert all(entry.measurements == ("dirac",) for entry in plan.configurations)


@pytest.mark.parametrize("name", ["dirac", "dirac-simultaneous", "dirac-from-afar"])
def test_the_studies_that_come_along_are_valid_and_can_be_judged(name: str) -> None:
    study = StudySpec.from_file(STUDIES / f"{name}.yaml")
    assert study.study == name
    assert study.budget.evaluations >= 40  # the rule compares quarters
    assert {str(study.fixed["optimizer"]), study.fixed["momentum"]} == {"sgd", 0.0}
