"""Whole studies on a real Ray: to the end, killed, interrupted, refused. The law: histories equal bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder, lock_holder
from study.history import REPLICATES_SCHEMA
from study.plan import Plan
from tests.conftest import TINY, Ganstudy, Started, environment

pytestmark = pytest.mark.slow

SPEC = {**TINY, "budget": {**TINY["budget"], "value": 4000}}
PLANNED = 12


def write_spec(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(json.dumps({**SPEC, **changes}))  # JSON is YAML
    return path


def histories(folder: StudyFolder) -> pa.Table:
    """All rows of all cohorts without the clock, in plan order; every cohort must have ended."""
    plan = Plan.from_json(json.loads(folder.plan_file.read_text()))
    tables = []
    for entry in plan.cohorts:
        found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
        assert found is not None
        assert found.complete, entry.cohort
        tables.append(found.history().select(REPLICATES_SCHEMA.names))
    return pa.concat_tables(tables)


def mlflow_runs(home: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny-ring")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def audit_mlflow(home: Path) -> None:
    """One study run and one run per configuration, all FINISHED."""
    runs = mlflow_runs(home)
    keys = [run.data.tags.get("ganstudy.configuration_key", "study run") for run in runs]
    assert len(keys) == len(set(keys)) == 1 + 4, keys
    assert {run.info.status for run in runs} == {"FINISHED"}


def wait_for(condition: Callable[[], Any], what: str, *, process: subprocess.Popen[str], timeout_s: float = 90) -> Any:
    """Polls until ``condition`` gives something true; fails when the process ends or the time is up first."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
        time.sleep(0.02)
    return found


def midway(folder: StudyFolder) -> list[Path]:
    """Checkpoints of cohorts that are under way."""
    found = folder.root.glob("cohorts/*/checkpoint-*/manifest.json")
    return [path for path in found if 0 < int(path.parent.name.removeprefix("checkpoint-").rstrip("~")) < 4000]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The study run to its end without a fault."""
    folder = tmp_path_factory.mktemp("truth")
    home = folder / "runs"
    done = subprocess.run(
        [sys.executable, "-m", "study", "run", str(write_spec(folder)), "--home", str(home)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{PLANNED} of {PLANNED} replicates ended" in done.stdout
    return StudyFolder(home, "tiny-ring")


def test_uninterrupted_run_leaves_everything_in_order(truth: StudyFolder, ganstudy: Ganstudy) -> None:
    rows = histories(truth)
    steps = {(row["configuration_key"], row["replicate"]) for row in rows.to_pylist()}
    assert len(steps) == PLANNED
    audit_mlflow(truth.home)
    assert lock_holder(truth) is None
    status = json.loads(ganstudy("status", "tiny-ring", "--home", truth.home, "--json").stdout)
    assert (status["state"], status["planned"], status["done"], status["failed"]) == ("finished", PLANNED, PLANNED, 0)
    assert sum(status["outcomes"].values()) == PLANNED
    leftovers = [path for path in truth.home.rglob("*") if path.suffix == ".tmp" or path.name.startswith(".tmp-")]
    assert leftovers == []


def test_run_again_trains_nothing_and_changes_nothing(truth: StudyFolder, tmp_path: Path, ganstudy: Ganstudy) -> None:
    before = histories(truth)
    again = ganstudy("run", write_spec(tmp_path), "--home", truth.home)
    assert again.returncode == 0, again.stderr
    assert "nothing is left to train" in again.stderr
    assert histories(truth).equals(before)
    audit_mlflow(truth.home)


def test_changed_spec_is_refused_with_the_difference(truth: StudyFolder, tmp_path: Path, ganstudy: Ganstudy) -> None:
    before = truth.spec_file.read_bytes()
    changed = ganstudy("run", write_spec(tmp_path, seed=12), "--home", truth.home)
    assert changed.returncode == 2
    assert "seed: 11 -> 12" in changed.stderr
    assert truth.spec_file.read_bytes() == before
    question = ganstudy("run", write_spec(tmp_path, question="Which one?"), "--home", truth.home)
    assert question.returncode == 0, question.stderr
    assert "Which one?" in truth.spec_file.read_text()


def test_driver_killed_midway_resumes_bit_for_bit(
    truth: StudyFolder, tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    driver = started("run", write_spec(tmp_path), "--home", folder.home)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert lock_holder(folder) is not None, "the dead owner's record stays"
    status = json.loads(ganstudy("status", "tiny-ring", "--home", folder.home, "--json").stdout)
    assert status["state"] == "died"
    assert "RUNNING" not in {run.info.status for run in mlflow_runs(folder.home)}, "status reconciles"
    resumed = ganstudy("resume", "tiny-ring", "--home", folder.home)
    assert resumed.returncode == 0, resumed.stderr
    assert histories(folder).equals(histories(truth))
    audit_mlflow(folder.home)
    assert folder.attempt() == 2


def test_worker_killed_recovers_inside_the_run(truth: StudyFolder, tmp_path: Path, started: Started) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    driver = started("run", write_spec(tmp_path), "--home", folder.home)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)

    def trial_process() -> psutil.Process | None:
        children = psutil.Process(driver.pid).children(recursive=True)
        names = [(child, " ".join(child.cmdline())) for child in children if child.is_running()]
        return next((child for child, name in names if name.startswith(("ray::trainable", "ray::ImplicitFunc"))), None)

    worker = wait_for(trial_process, "trial process", process=driver)
    os.kill(worker.pid, signal.SIGKILL)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 0, stderr
    assert "its process died" in stderr
    assert histories(folder).equals(histories(truth))
    audit_mlflow(folder.home)


def test_interrupt_keeps_everything_and_a_second_launch_is_refused(
    truth: StudyFolder, tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    spec = write_spec(tmp_path)
    driver = started("run", spec, "--home", folder.home)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    second = ganstudy("run", spec, "--home", folder.home)
    assert second.returncode == 1
    assert f"process {driver.pid} on " in second.stderr
    os.killpg(driver.pid, signal.SIGINT)  # Ctrl-C reaches the whole group of a terminal
    stdout, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 130, stderr
    assert "ganstudy resume tiny-ring" in stdout
    assert lock_holder(folder) is None
    assert {run.info.status for run in mlflow_runs(folder.home)} <= {"KILLED", "FINISHED"}
    finished = ganstudy("run", spec, "--home", folder.home)
    assert finished.returncode == 0, finished.stderr
    assert histories(folder).equals(histories(truth))
    audit_mlflow(folder.home)


def test_stop_from_another_terminal(tmp_path: Path, started: Started, ganstudy: Ganstudy) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    driver = started("run", write_spec(tmp_path), "--home", folder.home)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    stopped = ganstudy("stop", "tiny-ring", "--home", folder.home)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped" in stopped.stdout
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 130, stderr
    status = json.loads(ganstudy("status", "tiny-ring", "--home", folder.home, "--json").stdout)
    assert status["state"] == "interrupted"


NETWORKS = """
import sys
from pathlib import Path
from torch import nn

def build(*, latent_dim, sample_shape):
    in_a_trial = Path(sys.argv[0]).name == "default_worker.py"  # the dry run would have told what fails at once
    if in_a_trial and (Path(__file__).parent / "broken").exists():
        raise RuntimeError("the layer is missing")
    return nn.Sequential(nn.Linear(latent_dim, 2)), nn.Sequential(nn.Linear(2, 1))
"""


def test_python_error_fails_its_cohorts_without_retries_and_resume_tries_again(
    tmp_path: Path, ganstudy: Ganstudy
) -> None:
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    spec = write_spec(
        tmp_path,
        networks={"name": "my_networks:build", "latent_dim": 4},
        budget={"unit": "generator_steps", "value": 40, "evaluations": 20, "evaluation_samples": 100},
    )
    home = tmp_path / "runs"
    planned = ganstudy("plan", spec)
    assert planned.returncode == 0, planned.stderr
    (tmp_path / "broken").touch()
    failed = ganstudy("run", spec, "--home", home)
    assert failed.returncode == 1, failed.stderr
    assert f"{PLANNED} failed" in failed.stdout
    status = json.loads(ganstudy("status", "tiny-ring", "--home", home, "--json").stdout)
    assert status["state"] == "failed"
    assert all("the layer is missing" in problem for problem in status["failures"].values())
    (tmp_path / "broken").unlink()
    resumed = ganstudy("resume", "tiny-ring", "--home", home)
    assert resumed.returncode == 0, resumed.stderr
    audit_mlflow(home)


def test_mlflow_that_cannot_be_reached_ends_the_attempt_with_one_message(tmp_path: Path, ganstudy: Ganstudy) -> None:
    refused = ganstudy("run", write_spec(tmp_path), "--home", tmp_path / "runs", "--tracking-uri", "http://127.0.0.1:9")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("MLflow at http://127.0.0.1:9 cannot be used: ")
    assert refused.stderr.count("MLflow at") == 1
    assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "runs").rglob("checkpoint-*")), "nothing was trained unseen"


def test_a_driver_killed_after_the_last_replicate_is_brought_to_its_end_by_status(
    tmp_path: Path, ganstudy: Ganstudy, truth: StudyFolder
) -> None:
    """What its death left undone is put back as it was: runs RUNNING, the lock's record, nobody there."""
    from mlflow.tracking import MlflowClient

    home = tmp_path / "runs"
    shutil.copytree(truth.home, home, symlinks=True)
    folder = StudyFolder(home, "tiny-ring")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    for run in mlflow_runs(home):
        client.update_run(run.info.run_id, status="RUNNING")
    folder.lock_file.write_text(json.dumps({"host": "here", "pid": 1, "started": "2026-01-01T00:00:00Z"}))
    remembered = json.loads(folder.launch_file.read_text())
    folder.launch_file.write_text(json.dumps({**remembered, "tracking_uri": f"sqlite:///{home}/mlflow.db"}))
    status = json.loads(ganstudy("status", "tiny-ring", "--home", home, "--json").stdout)
    assert (status["state"], status["done"]) == ("finished", PLANNED)
    audit_mlflow(home)
