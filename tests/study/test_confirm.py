"""``tune_then_confirm``: the choice is the explored replicates' alone, made once, and the same for everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tracked import REFERENCE, TrackedStudy, make_study

from study.confirm import choose, confirmed, explored_values
from study.errors import BadInput
from study.folder import StudyFolder, write_json
from study.launch import extend
from study.plan import Plan, make_plan, replicate_seed
from study.protocol import confirmation_to_come, phase_of
from study.spec import StudySpec
from study.status import study_status

ROOM = {"workers": 2, "max_members": 32}


@pytest.fixture
def study(tmp_path: Path) -> TrackedStudy:
    """Two losses at three rates and k in {1, 2}, explored to their end with two seeds, to be confirmed with six."""
    made = make_study(tmp_path / "runs")
    fixed = {name: value for name, value in made.spec.operative["fixed"].items() if name != "learning_rate"}
    made.spec = StudySpec.from_dict(
        {
            **made.spec.operative,
            "replicates": 2,
            "nuisance": {"learning_rate": [1e-4, 1e-3, 3e-3]},
            "fixed": fixed,
            "protocol": {"name": "tune_then_confirm", "confirm_replicates": 6},
        }
    )
    made.plan = make_plan(made.spec, workers=2)
    (made.root / "spec.yaml").write_text(made.spec.dump())
    write_plan(made, made.plan)
    targets = {entry.target_id: REFERENCE for entry in made.plan.configurations}
    (made.root / "reference.json").write_text(json.dumps({"schema": 1, "targets": targets}))
    (made.root / "launch.json").write_text(json.dumps({"launch": "L1", "attempt": 1}))
    return made


def write_plan(study: TrackedStudy, plan: Plan) -> None:
    write_json(study.root / "plan.json", plan.to_json())


def folder_of(study: TrackedStudy) -> StudyFolder:
    return StudyFolder(study.root.parent, study.root.name)


def explore(study: TrackedStudy) -> None:
    for cohort in study.cohorts:
        study.train(cohort)


def values_of(study: TrackedStudy, best: dict[str, float]) -> dict[str, float]:
    return {entry.configuration_key: best.get(entry.configuration_key, 0.0) for entry in study.plan.configurations}


def test_each_loss_is_confirmed_at_its_best_explored_setting_with_seeds_that_follow(study: TrackedStudy) -> None:
    key = {loss: [e for e in study.plan.configurations if e.loss == loss][4].configuration_key for loss in LOSSES}
    for loss in LOSSES:  # all but one setting of each loss lose both replicates
        for entry in study.plan.configurations:
            if entry.loss == loss and entry.configuration_key != key[loss]:
                study.deaths |= {(entry.configuration_key, 0): 3, (entry.configuration_key, 1): 5}
    explore(study)
    assert confirmation_to_come(study.spec, study.plan) == 12
    plan = confirmed(folder_of(study), study.spec, study.plan, ROOM)
    assert plan.until(1) == study.plan
    assert set(plan.phases) == {(key[loss], r) for loss in LOSSES for r in range(2, 8)}
    for loss in LOSSES:
        seeds = plan.configuration(key[loss]).seeds
        assert seeds == tuple(replicate_seed(study.spec.seed, key[loss], r) for r in range(8))
        assert len(set(seeds)) == 8
    assert confirmation_to_come(study.spec, plan) == 0
    assert [phase_of(study.spec, plan, n) for n in plan.launches] == ["explore", "confirm"]


LOSSES = ("wgan_gp", "minimax")


def test_a_loss_where_nothing_succeeded_is_confirmed_all_the_same(study: TrackedStudy) -> None:
    study.deaths = {(entry.configuration_key, r): 2 + r for entry in study.plan.configurations for r in (0, 1)}
    explore(study)
    plan = confirmed(folder_of(study), study.spec, study.plan, ROOM)
    assert {plan.configuration(key).loss for key, _ in plan.phases} == set(LOSSES)
    assert len(plan.phases) == 12


def test_of_equals_the_widest_cell_is_chosen_then_the_first(study: TrackedStudy) -> None:
    """Rates 1e-4, 1e-3, 3e-3: the middle one stands for most of the decades between them."""
    made = choose(study.spec, study.plan, values_of(study, {}))
    for entry in made:
        configuration = study.plan.configuration(entry.configuration_key)
        assert (configuration.factors["learning_rate"], configuration.factors["k"]) == (1e-3, 1)
    assert [entry.loss for entry in made] == list(LOSSES)
    last = study.plan.configurations[-1].configuration_key
    assert choose(study.spec, study.plan, values_of(study, {last: 0.5}))[1].configuration_key == last


def test_the_choice_does_not_see_the_fresh_seeds(study: TrackedStudy) -> None:
    explore(study)
    folder = folder_of(study)
    before = explored_values(folder, study.spec, study.plan)
    study.plan = confirmed(folder, study.spec, study.plan, ROOM)
    study.deaths = dict.fromkeys(study.plan.phases, 1)
    for cohort in study.plan.of_launch(2).cohorts:
        study.train(cohort.cohort)
    assert explored_values(folder, study.spec, study.plan) == before


def test_a_choice_once_written_stands(study: TrackedStudy) -> None:
    """A driver that died between choosing and planning left it; whoever comes back does not choose anew."""
    explore(study)
    folder = folder_of(study)
    plan = confirmed(folder, study.spec, study.plan, ROOM)
    other = {loss: [e for e in study.plan.configurations if e.loss == loss][-1].configuration_key for loss in LOSSES}
    written = json.loads(folder.selection_file.read_text())
    for entry in written["chosen"]:
        assert entry["configuration_key"] != other[entry["loss"]]
        entry["configuration_key"] = other[entry["loss"]]
    write_json(folder.selection_file, written)
    again = confirmed(folder, study.spec, study.plan, ROOM)
    assert again != plan
    assert {key for key, _ in again.phases} == set(other.values())


def test_status_counts_the_fresh_seeds_before_they_are_planned(study: TrackedStudy) -> None:
    explore(study)
    state = study_status(folder_of(study), outcomes=False)
    assert (state.state, state.phase, state.done, state.planned) == ("interrupted", "explore", 24, 36)
    assert state.fraction == pytest.approx(24 / 36)
    study.plan = confirmed(folder_of(study), study.spec, study.plan, ROOM)
    write_plan(study, study.plan)
    for cohort in study.plan.of_launch(2).cohorts:
        study.train(cohort.cohort)
    state = study_status(folder_of(study), outcomes=False)
    assert (state.state, state.phase, state.done, state.planned) == ("finished", "confirm", 36, 36)


def test_extending_a_confirmed_study_adds_fresh_seeds_of_what_was_chosen(
    study: TrackedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.launch._attempt", lambda folder, spec, plan, *rest, **more: plan)
    explore(study)

    def asked(**what: Any) -> Any:
        return extend(study.spec.study, home=study.root.parent, **what)

    with pytest.raises(BadInput, match="has not ended"):
        asked(replicates=9)
    study.plan = confirmed(folder_of(study), study.spec, study.plan, ROOM)
    write_plan(study, study.plan)
    for cohort in study.plan.of_launch(2).cohorts:
        study.train(cohort.cohort)
    plan = asked(replicates=9, only=["minimax"])
    (key,) = {key for cohort in plan.of_launch(3).cohorts for key, _ in cohort.members}
    assert plan.configuration(key).loss == "minimax"
    assert plan.of_launch(3).replicates_of(key) == (8, 9, 10)
    assert {cohort.phase for cohort in plan.of_launch(3).cohorts} == {"confirm"}
    with pytest.raises(BadInput, match="has chosen and confirmed"):
        asked(learning_rates=[1e-2])


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("tune", "protocol.name: must be one of tune_then_confirm"),
        (
            {"name": "tune_then_confirm", "confirm_replicates": 0},
            "protocol.confirm_replicates: must be a whole number >= 1",
        ),
        ({"name": "tune_then_confirm", "seeds": 3}, "protocol.seeds: unknown key"),
        ({"confirm_replicates": 3}, "protocol.name: required"),
        ([1], "protocol: must be a mapping"),
    ],
)
def test_what_is_no_protocol_is_refused(tiny: dict[str, Any], protocol: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        StudySpec.from_dict({**tiny, "protocol": protocol})


def test_a_study_without_a_protocol_is_what_it_was(tiny: dict[str, Any]) -> None:
    assert StudySpec.from_dict(tiny).spec_hash == "175be4e0e96b805c", "as before there were protocols"
    short = StudySpec.from_dict({**tiny, "protocol": "tune_then_confirm"})
    assert short.operative["protocol"] == {"name": "tune_then_confirm", "confirm_replicates": 30}
    assert StudySpec.from_dict(short.operative) == short
