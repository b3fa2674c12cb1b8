"""Extensions and confirmations on a real Ray, killed midway and resumed. The law: the same rows as planned at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from analysis.load import load_study
from analysis.weights import weights
from study.attempt import make_tracker
from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder, write_json
from study.history import REPLICATES_SCHEMA
from study.plan import Plan, make_plan
from study.reference import prepare_references
from study.spec import StudySpec
from study.tally import read_plan
from study.tracking import sqlite_uri
from study.trainable import Watch, run_cohort
from tests.conftest import TINY, Ganstudy, Started

pytestmark = pytest.mark.slow

SPEC = {**TINY, "budget": {**TINY["budget"], "value": 400}}
WHOLE = {**SPEC, "replicates": 5, "nuisance": {"learning_rate": [1e-3, 3e-3, 1e-2]}}
TUNED = {
    **SPEC,
    "study": "tiny-tuned",
    "nuisance": {"learning_rate": {"low": 1e-3, "high": 1e-2}},
    "replicates": 2,
    "search": {"method": "random", "configurations": 3},
    "protocol": {"name": "tune_then_confirm", "confirm_replicates": 4},
}


def write_spec(folder: Path, spec: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(json.dumps(spec))
    return path


def rows_of(folder: StudyFolder, plan: Plan) -> pa.Table:
    """Every row of the plan's cohorts without the clock, by replicate."""
    tables = []
    for entry in plan.cohorts:
        found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
        assert found is not None, entry.cohort
        assert found.complete, entry.cohort
        tables.append(found.history().select(REPLICATES_SCHEMA.names))
    order = [(name, "ascending") for name in ("configuration_key", "replicate", "evaluation")]
    return pa.concat_tables(tables).sort_by(order)


def bytes_of(folder: StudyFolder, plan: Plan) -> dict[str, bytes]:
    """The checkpoints of the plan's cohorts."""
    paths = [path for entry in plan.cohorts for path in folder.cohort(entry.cohort).rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if "checkpoint-" in str(path)}


def trained_at_once(home: Path) -> tuple[StudyFolder, Plan]:
    """The study that had all seeds and cells from the start: one cohort after the other in this process, and MLflow."""
    spec = StudySpec.from_dict(WHOLE)
    folder, plan = StudyFolder(home, spec.study), make_plan(spec, workers=2)
    folder.root.mkdir(parents=True)
    folder.spec_file.write_text(spec.dump())
    write_json(folder.plan_file, plan.to_json())
    write_json(folder.launch_file, {"attempt": 1})
    prepare_references(folder, plan)
    for entry in plan.cohorts:
        run_cohort(
            folder, cohort=entry.cohort, watch=Watch(folder, 1), device="cpu", import_path=None, report=lambda _: None
        )
    tracker = make_tracker(folder, spec, plan, sqlite_uri(home))
    tracker.open(launch="at-once")
    tracker.sync()
    tracker.close("FINISHED")
    return folder, plan


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_in_second_launch(process: subprocess.Popen[str], folder: StudyFolder) -> None:
    """SIGKILL to the driver once some cohort of its second launch trains."""
    wait_for(lambda: list(folder.root.glob("cohorts/l2-*/writer")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def launches_in_mlflow(folder: StudyFolder) -> list[tuple[Any, list[Any]]]:
    """(study run, its configuration runs) of each launch, in order."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(sqlite_uri(folder.home))
    experiment = client.get_experiment_by_name(folder.study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000, order_by=["start_time ASC"])
    parents = [run for run in runs if run.data.tags["ganstudy.kind"] == "study"]
    return [
        (parent, [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id])
        for parent in parents
    ]


def audited(ganstudy: Ganstudy, folder: StudyFolder) -> None:
    done = ganstudy("audit", folder.study, "--home", folder.home)
    assert "all invariants hold" in done.stdout, done.stdout


def test_an_extension_killed_and_resumed_is_the_study_planned_at_once(
    tmp_path: Path, ganstudy: Ganstudy, started: Started
) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    first = ganstudy("run", write_spec(tmp_path, SPEC), "--home", folder.home)
    assert first.returncode == 0, first.stderr
    old = read_plan(folder)
    before, plan_text = bytes_of(folder, old), json.dumps(old.to_json())

    asked = ("extend", "tiny-ring", "--replicates", "5", "--learning-rates", "1e-2", "--home", folder.home)
    kill_in_second_launch(started(*asked), folder)
    status = json.loads(ganstudy("status", "tiny-ring", "--home", folder.home, "--json").stdout)
    assert (status["state"], status["planned"], status["launches"]) == ("died", 30, 2)
    resumed = ganstudy("resume", "tiny-ring", "--home", folder.home)
    assert resumed.returncode == 0, resumed.stderr
    assert "30 of 30 replicates ended" in resumed.stdout
    audited(ganstudy, folder)

    plan = read_plan(folder)
    assert json.dumps(plan.until(1).to_json()) == plan_text
    assert bytes_of(folder, old) == before, "nothing was trained again"
    at_once, whole = trained_at_once(tmp_path / "at-once")
    assert rows_of(folder, plan).equals(rows_of(at_once, whole))

    (one, its), (two, more) = launches_in_mlflow(folder)
    assert {run.info.status for run in (one, two, *its, *more)} == {"FINISHED"}
    assert (len(its), len(more)) == (4, 6)
    frames, expected = (load_study("tiny-ring", home=home) for home in (folder.home, at_once.home))
    columns = ["configuration_key", "replicate", "outcome", "final_distance"]
    by_member = ["configuration_key", "replicate"]
    found = [f.runs[columns].sort_values(by_member, ignore_index=True) for f in (frames, expected)]
    assert found[0].equals(found[1])
    shares = [weights(f).set_index("configuration_key")["weight"].sort_index() for f in (frames, expected)]
    assert shares[0].equals(shares[1]), "trapezoid weights of the wider grid"


def test_a_confirmation_killed_and_resumed_keeps_its_choice(
    tmp_path: Path, ganstudy: Ganstudy, started: Started
) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-tuned")
    spec = write_spec(tmp_path, TUNED)
    kill_in_second_launch(started("run", spec, "--home", folder.home), folder)
    chosen, planned = folder.selection_file.read_bytes(), folder.plan_file.read_bytes()
    again = ganstudy("run", spec, "--home", folder.home)
    assert again.returncode == 0, again.stderr
    assert "20 of 20 replicates ended" in again.stdout
    assert folder.selection_file.read_bytes() == chosen
    assert folder.plan_file.read_bytes() == planned
    audited(ganstudy, folder)
    status = json.loads(ganstudy("status", "tiny-tuned", "--home", folder.home, "--json").stdout)
    assert (status["state"], status["phase"]) == ("finished", "confirm")
    (one, its), (two, more) = launches_in_mlflow(folder)
    phases = [{run.data.tags["ganstudy.phase"] for run in runs} for runs in ([one, *its], [two, *more])]
    assert phases == [{"explore"}, {"confirm"}]
    keys = {entry["configuration_key"] for entry in json.loads(chosen)["chosen"]}
    assert {run.data.tags["ganstudy.configuration_key"] for run in more} == keys
    runs = load_study("tiny-tuned", home=folder.home).runs
    assert len(runs) == 2 * 3 * 2 + 2 * 4
    assert (runs["outcome"] != "failed").all()
