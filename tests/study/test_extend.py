"""``extend`` before anything trains: what it adds, what it refuses, and what an extended study answers to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tracked import REFERENCE, TrackedStudy, make_study, statuses

from analysis.load import load_study
from study.audit import audit
from study.begun import refuse_changed
from study.cli import app
from study.errors import BadInput
from study.folder import StudyFolder, write_json
from study.launch import Options, extend
from study.launches import launch_id
from study.mlflow_client import MlflowStore
from study.plan import Plan, make_plan
from study.spec import StudySpec
from study.tally import read_plan
from study.tracking import Tracker


@pytest.fixture
def study(tmp_path: Path) -> TrackedStudy:
    """Two losses x k in {1, 2} at one fixed learning rate with five replicates: it has ended."""
    made = make_study(tmp_path / "runs")
    for cohort in made.cohorts:
        made.train(cohort)
    (made.root / "launch.json").write_text(json.dumps({"launch": "L1", "attempt": 1, "study": made.spec.study}))
    return made


@pytest.fixture
def grown(study: TrackedStudy, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls ``extend`` without training; returns the plan it would train."""

    def attempt(
        folder: StudyFolder, spec: object, plan: Plan, options: Options, console: object, *, first: int
    ) -> Plan:
        assert first == plan.launches[-1]
        assert read_plan(folder) == plan, "on the disk before anything trains"
        return plan

    monkeypatch.setattr("study.launch._attempt", attempt)
    return lambda **asked: extend(study.spec.study, home=study.root.parent, **asked)


def from_the_start(study: TrackedStudy, **changes: Any) -> Plan:
    return make_plan(StudySpec.from_dict({**study.spec.operative, **changes}), workers=2)


def folder_of(study: TrackedStudy) -> StudyFolder:
    return StudyFolder(study.root.parent, study.root.name)


def by_key(plan: Plan) -> dict[str, Any]:
    return dict(plan.by_key)


def test_more_seeds_are_those_of_a_study_with_all_of_them(study: TrackedStudy, grown: Any) -> None:
    plan = grown(replicates=9)
    assert plan.launches == (1, 2)
    assert by_key(plan) == by_key(from_the_start(study, replicates=9))
    assert plan.until(1) == study.plan
    assert plan.of_launch(2).replicates_of(study.keys[0]) == (5, 6, 7, 8)
    assert StudySpec.from_file(study.root / "spec-2.yaml").replicates == 9
    assert StudySpec.from_file(study.root / "spec.yaml") == study.spec, "the study's own spec stays"
    (first, second) = json.loads((study.root / "launch.json").read_text())["launches"]
    assert (first["launch"], second["number"], second["purpose"]) == ("L1", 2, "replicates to 9")


def test_more_cells_are_those_of_a_grid_with_all_of_them(study: TrackedStudy, grown: Any) -> None:
    fixed = {name: value for name, value in study.spec.operative["fixed"].items() if name != "learning_rate"}
    plan = grown(learning_rates=[1e-2, 1e-4], add={"k": [3]})
    whole = from_the_start(
        study,
        scientific={**study.spec.operative["scientific"], "k": [1, 2, 3]},
        nuisance={"learning_rate": [1e-4, 1e-3, 1e-2]},
        fixed=fixed,
    )
    assert by_key(plan) == by_key(whole)
    assert len(plan.configurations) == 2 * 3 * 3
    assert plan.until(1) == study.plan


def test_only_one_loss_may_have_more_seeds(study: TrackedStudy, grown: Any) -> None:
    plan = grown(replicates=7, only=["minimax"])
    assert {entry.loss: entry.replicates for entry in plan.configurations} == {"wgan_gp": 5, "minimax": 7}
    assert not (study.root / "spec-2.yaml").exists(), "the study as a whole is what it was"


def test_the_same_call_goes_on_with_an_extension_that_was_cut_short(study: TrackedStudy, grown: Any) -> None:
    asked = {"replicates": 6, "learning_rates": [1e-2]}
    plan = grown(**asked)
    assert grown(**asked) == plan
    with pytest.raises(BadInput, match="has not ended"):
        grown(replicates=8)


def test_an_extended_study_is_extended_again(study: TrackedStudy, grown: Any) -> None:
    study.plan = grown(replicates=6)
    for cohort in study.plan.of_launch(2).cohorts:
        study.train(cohort.cohort)
    plan = grown(learning_rates=[1e-2])
    assert plan.launches == (1, 2, 3)
    assert {entry.replicates for entry in plan.configurations} == {6}, "new cells have as many seeds as the others"
    assert plan.until(2) == study.plan


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "needs --replicates N, --learning-rates LIST or --add KEY=LIST"),
        ({"replicates": 5}, "has them already; it is the new total"),
        ({"replicates": 3}, r"is the new total of each configuration, and must be more than 5 \(got 3\)"),
        ({"replicates": 9, "only": ["hinge"]}, r"--only hinge: no loss of 'ring-test'.*\(wgan_gp, minimax\)"),
        ({"learning_rates": [1e-3]}, "0.001 is in the study already"),
        ({"learning_rates": [-1.0]}, "must be a number > 0"),
        ({"learning_rates": [1e-2], "only": ["minimax"]}, "compared in the same cells"),
        ({"learning_rates": [1e-2], "replicates": 4}, r"has 5 per configuration \(got 4\)"),
        ({"add": {"kk": [3]}}, "kk: no factor of 'ring-test'"),
        ({"add": {"optimizer": ["adamm"]}}, "unknown optimizer 'adamm'"),
    ],
)
def test_what_is_no_extension_is_refused(study: TrackedStudy, grown: Any, asked: dict[str, Any], said: str) -> None:
    before = {path.name: path.read_bytes() for path in study.root.iterdir() if path.is_file() and path.name != "lock"}
    with pytest.raises(BadInput, match=said):
        grown(**asked)
    after = {path.name: path.read_bytes() for path in study.root.iterdir() if path.is_file() and path.name != "lock"}
    assert after == before


@pytest.mark.parametrize(
    ("search", "asked", "said"),
    [
        (
            {"method": "random", "configurations": 2},
            {"learning_rates": [1e-1]},
            "settings of a random search are drawn",
        ),
        ({"method": "random", "configurations": 2}, {"replicates": 6}, ""),
    ],
)
def test_only_a_grid_has_cells_to_add(
    study: TrackedStudy, grown: Any, search: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    fixed = {name: value for name, value in study.spec.operative["fixed"].items() if name != "learning_rate"}
    drawn = {"fixed": fixed, "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-2}}, "search": search}
    study.spec = StudySpec.from_dict({**study.spec.operative, **drawn})
    study.plan = make_plan(study.spec, workers=2)
    (study.root / "spec.yaml").write_text(study.spec.dump())
    (study.root / "plan.json").write_text(json.dumps(study.plan.to_json()))
    for cohort in study.cohorts:
        study.train(cohort)
    if said:
        with pytest.raises(BadInput, match=said):
            grown(**asked)
    else:
        assert {entry.replicates for entry in grown(**asked).configurations} == {6}


def test_a_study_that_has_not_ended_is_not_extended(study: TrackedStudy, grown: Any) -> None:
    import shutil

    shutil.rmtree(study.root / "cohorts" / study.cohorts[0])
    with pytest.raises(BadInput, match="`ganstudy resume ring-test` goes on"):
        grown(replicates=9)


def test_the_file_with_more_in_it_is_told_the_command_and_then_recognised(study: TrackedStudy, grown: Any) -> None:
    folder = folder_of(study)
    wider = {
        "replicates": 8,
        "scientific": study.spec.operative["scientific"],
        "fixed": study.spec.operative["fixed"],
    }
    given = StudySpec.from_dict({**study.spec.operative, **wider})
    with pytest.raises(BadInput, match="`ganstudy extend ring-test --replicates 8"):
        refuse_changed(folder, given)
    grown(replicates=8)
    changed = StudySpec.from_dict({**given.operative, "question": "Which?"})
    assert refuse_changed(folder, changed) == StudySpec.from_dict({**study.spec.operative, "question": "Which?"})
    with pytest.raises(BadInput, match="only question, resources and tracking may change"):
        refuse_changed(folder, StudySpec.from_dict({**given.operative, "seed": 12}))


def test_each_launch_has_runs_of_its_own_with_its_own_replicates(study: TrackedStudy, grown: Any) -> None:
    folder = folder_of(study)
    reference = {entry.target_id: REFERENCE for entry in study.plan.configurations}
    write_json(folder.reference_file, {"schema": 1, "targets": reference})
    study.plan = grown(replicates=7)
    for cohort in study.plan.of_launch(2).cohorts:
        study.train(cohort.cohort)
    for number in (2, 1):  # whoever is sent first: a launch knows its own
        tracker = Tracker(
            study.root,
            plan=study.plan,
            tracking_uri=study.uri,
            artifact_location=(study.root.parent / "artifacts").as_uri(),
            replicate_runs=False,
            criteria=study.spec.criteria,
            reference=reference,
            number=number,
        )
        tracker.open(launch=launch_id(folder, number))
        tracker.sync()
        tracker.close("FINISHED")
    assert statuses(study.database) == {"configuration": ["FINISHED"] * 8, "study": ["FINISHED"] * 2}
    found = audit(folder, tracking_uri=study.uri)
    assert found.violations == ()
    assert (found.checked["runs"], found.checked["replicates"]) == (8, 28)
    store = MlflowStore(study.uri)
    experiment = store.known_experiment(study.plan.study)
    for number, replicates in ((1, [0, 1, 2, 3, 4]), (2, [5, 6])):
        (parent,) = store.find(experiment, {"ganstudy.launch": launch_id(folder, number)})
        plan = json.loads(store.read_text(parent.info.run_id, "plan.json") or "")
        assert plan == study.plan.until(number).to_json()
        for run in store.find(experiment, {"mlflow.parentRunId": parent.info.run_id}):
            rows = pq.read_table(Path(run.info.artifact_uri.removeprefix("file://")) / "replicates.parquet")
            assert sorted(set(rows["replicate"].to_pylist())) == replicates
    runs = load_study(study.plan.study, home=study.root.parent, tracking_uri=study.uri).runs
    assert len(runs) == 4 * 7
    assert set(runs["outcome"]) == {"converged"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--learning-rates", "fast"], "takes numbers"),
        (["--add", "k"], "is written KEY=LIST"),
        ([], "needs --replicates N"),
    ],
)
def test_the_command_line_refuses_in_one_message(study: TrackedStudy, arguments: list[str], said: str) -> None:
    from typer.testing import CliRunner

    command = ["extend", study.spec.study, *arguments, "--home", str(study.root.parent)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code in (1, 2)
    assert said in (str(done.exception) if isinstance(done.exception, BadInput) else done.output)
