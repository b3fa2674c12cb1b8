"""Machines that leave with notice, and machines that hang and wake; lost ones are in tests/study/test_cluster.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder, write_json
from study.plan import make_plan
from study.reference import prepare_references
from study.spec import StudySpec
from study.trainable import Watch, run_cohort, trainable
from tests.clusters import LoopbackCluster, Node
from tests.conftest import TINY
from tests.faults.conftest import violations
from tests.faults.rows import histories
from tests.processes import is_raylet, until
from tests.study.test_cluster import Laptop

STEPS = 2500
SPEC: dict[str, Any] = {
    **TINY,
    "study": "on-nodes",
    "nuisance": {"learning_rate": [1e-3]},
    "replicates": 2,
    "budget": {**TINY["budget"], "value": STEPS},
    "resources": {"cohort_size": 2},
}
"""Two cohorts, so that a cluster of three single-CPU nodes has one to spare."""

QUICK_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class Running:
    """The study, submitted to a cluster, seen from the storage that its machines share."""

    def __init__(self, cluster: LoopbackCluster, laptop: Laptop, home: Path) -> None:
        self.cluster, self.laptop, self.folder = cluster, laptop, StudyFolder(home, SPEC["study"])
        (laptop.folder / "study.yaml").write_text(json.dumps(SPEC))
        laptop.submit("study.yaml")

    def until(self, true: Callable[[], object], what: str) -> None:
        until(lambda: bool(true()), lambda: f"no {what}: {self.laptop.status(self.folder.study)}")

    def writers(self) -> dict[str, str]:
        """Cohort -> which process trains it, or did last."""
        return {path.parent.name: path.read_text() for path in self.folder.root.glob("cohorts/*/writer")}

    def place_of_a_trial(self) -> int:
        """A worker node that trains, once both cohorts are under way."""
        self.until(lambda: len(self.writers()) == 2 and any(map(self._trains, (1, 2))), "trial on a worker")
        return next(place for place in (2, 1) if self._trains(place))

    def moved(self, before: dict[str, str]) -> list[str]:
        """Cohorts that another process trains now."""
        return [cohort for cohort, writer in self.writers().items() if writer != before[cohort]]

    def ended_like(self, truth: StudyFolder) -> None:
        """Waits for the end; nobody may have noticed in the results."""
        ended = self.laptop.until(self.folder.study, lambda s: s["state"] in ("finished", "failed", "died"))
        assert (ended["state"], ended["failed"], ended["attempt"]) == ("finished", 0, 1)
        assert histories(self.folder).equals(histories(truth))
        assert violations(self.folder) == []

    def _trains(self, place: int) -> bool:
        return bool(trials(self.cluster.nodes[place]))


def trials(node: Node) -> list[psutil.Process]:
    """Processes of trials on a node."""
    found = []
    for process in node.processes():
        try:
            if "ImplicitFunc" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def steps(folder: StudyFolder, cohort: str) -> int:
    """How far a cohort's newest checkpoint is; 0 without one."""
    found = newest_checkpoint(folder.cohort(cohort)).checkpoint
    return found.generator_step if found else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The study trained in this process, without Ray."""
    spec = StudySpec.from_dict(SPEC)
    folder = StudyFolder(tmp_path_factory.mktemp("undisturbed"), spec.study)
    plan = make_plan(spec, workers=3)
    write_json(folder.launch_file, {"launch": "L1", "attempt": 1})
    write_json(folder.plan_file, plan.to_json())
    prepare_references(folder, plan)
    for entry in plan.cohorts:
        watch = Watch(folder, 1)
        run_cohort(
            folder, cohort=entry.cohort, watch=watch, device="cpu", import_path=None, report=lambda metrics: None
        )
    return folder


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LoopbackCluster]:
    environment = {"GANSTUDY_HOME": str(tmp_path / "shared"), **request.param}
    with LoopbackCluster(tmp_path / "cluster", nodes=3, cpus=1, environment=environment) as started:
        yield started


@pytest.fixture
def running(cluster: LoopbackCluster, tmp_path: Path) -> Running:
    return Running(cluster, Laptop(cluster, tmp_path / "laptop"), tmp_path / "shared")


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("cluster", [{"GANSTUDY_CHECKPOINT_EVERY_S": "60"}], indirect=True)
def test_a_trial_on_a_machine_that_leaves_writes_a_checkpoint_and_goes_on_elsewhere(
    running: Running, undisturbed: StudyFolder
) -> None:
    """The notice comes long before a checkpoint is due; what the trial had reached by then is where it goes on."""
    place = running.place_of_a_trial()
    before, leaving = running.writers(), trials(running.cluster.nodes[place])
    for process in leaving:
        process.suspend()  # the notice must find it training, however slow its command is
    drain(running.cluster, place)
    for process in leaving:
        process.resume()
    running.until(lambda: running.moved(before), "process elsewhere")
    [moved] = running.moved(before)
    assert newest_checkpoint(running.folder.cohort(moved)).checkpoint is not None
    running.cluster.nodes[place].killed = True  # it ends when it is empty, or at its deadline
    running.ended_like(undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize("cluster", [{"GANSTUDY_CHECKPOINT_EVERY_S": "0.5", **QUICK_CHECKS}], indirect=True)
def test_a_hung_machine_loses_its_trials_and_is_harmless_when_it_wakes(
    running: Running, undisturbed: StudyFolder
) -> None:
    place = running.place_of_a_trial()
    before = running.writers()
    running.until(lambda: any(steps(running.folder, cohort) for cohort in before), "checkpoint")
    running.cluster.nodes[place].killed = True  # the cluster will count it as lost
    running.cluster.freeze_node(place)
    running.until(lambda: running.moved(before), "process elsewhere")
    running.cluster.freeze_node(place, thaw=True)
    running.ended_like(undisturbed)


def drain(cluster: LoopbackCluster, place: int) -> None:
    """The notice of a spot machine, as deploy/spot-drain.sh gives it."""
    [raylet] = [process for process in cluster.nodes[place].processes() if is_raylet(process)]
    [word] = [word for word in raylet.cmdline() if word.startswith("--node_id=")]
    command = ["ray", "drain-node", "--address", cluster.gcs, "--node-id", word.partition("=")[2]]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot interruption"]
    command += ["--deadline-remaining-seconds", "100"]
    subprocess.run(command, env=cluster.env, check=True, timeout=60, capture_output=True)


@pytest.fixture
def begun(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path, "begun")
    write_json(folder.launch_file, {"attempt": 1})
    return folder


def test_only_the_newest_process_of_a_cohort_may_write(begun: StudyFolder) -> None:
    sleeper, successor, neighbour = (Watch(begun, 1) for _ in range(3))
    sleeper.claim("c0")
    assert not sleeper.superseded()
    successor.claim("c0")
    neighbour.claim("c1")
    assert [watch.superseded() for watch in (sleeper, successor, neighbour)] == [True, False, False]
    assert sleeper()
    assert sleeper.pause == "superseded"
    write_json(begun.launch_file, {"attempt": 2})
    assert successor.superseded()


@pytest.mark.parametrize("superseded", [False, True])
def test_what_fails_in_a_process_that_was_given_up_is_not_recorded(
    begun: StudyFolder, monkeypatch: pytest.MonkeyPatch, superseded: bool
) -> None:
    """Its successor removes the unfinished folder it was writing to: that is no failure of the cohort."""

    def fails(folder: StudyFolder, *, watch: Watch, **_: object) -> str:
        watch.claim("c0")
        if superseded:
            Watch(folder, 1).claim("c0")
        raise FileNotFoundError("checkpoint-00000100")

    reports: list[dict[str, float]] = []
    monkeypatch.setattr("study.trainable.run_cohort", fails)
    monkeypatch.setattr("study.trainable.prepare_device", lambda config: "cpu")
    monkeypatch.setattr("ray.tune.report", reports.append)
    told = {"study": "begun", "cohort": "c0", "attempt": 1, "checkpoint_every_s": 60.0, "import_path": None, "gpus": 0}
    trainable({**told, "home": str(begun.home), "data_folder": None, "rungs": []})
    assert begun.failure_file("c0").exists() is not superseded
    assert superseded or "FileNotFoundError" in begun.failure_file("c0").read_text()
    assert reports == ([] if superseded else [{"failed": 1.0}])


def test_a_notice_is_asked_for_now_and_then_and_pauses_the_training(begun: StudyFolder) -> None:
    now, asked = [0.0], []

    def leaving() -> bool:
        asked.append(now[0])
        return now[0] >= 12

    watch = Watch(begun, 1, clock=lambda: now[0], leaving=leaving)
    while not watch():
        now[0] += 0.25
    assert (watch.pause, asked) == ("leaving", [5.0, 10.0, 15.0])
