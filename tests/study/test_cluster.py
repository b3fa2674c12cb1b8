"""Studies on a real cluster of three nodes with tokens, driven from outside by the command line alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from study.tally import read_plan
from tests.clusters import LoopbackCluster

pytestmark = pytest.mark.slow

PATIENCE_S = 240.0
SPEC = """\
study: {name}
target: {{name: ring}}
networks: {{name: {networks}, latent_dim: 8, width: 32, depth: 1}}
scientific:
  loss: [minimax, hinge]
  k: [1, 2]
nuisance:
  learning_rate: {rates}
replicates: 2
seed: 5
budget: {{unit: generator_steps, value: {steps}, evaluations: 20, evaluation_samples: 200}}
resources: {{cohort_size: 2}}
"""
OWN = """\
from torch import nn

def build(*, latent_dim, sample_shape, width, depth):
    return (nn.Sequential(nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, 2)),
            nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1)))
"""


class Laptop:
    """A machine outside the cluster: it has the token, an empty home, and the command line."""

    def __init__(self, cluster: LoopbackCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        folder.mkdir()
        self.env = cluster.env | {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}

    def ganstudy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "study", *arguments]
        return subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False)

    def spec(self, name: str, *, steps: int, networks: str = "mlp", rates: str = "[1e-3]") -> str:
        path = self.folder / f"{name}.yaml"
        path.write_text(SPEC.format(name=name, steps=steps, networks=networks, rates=rates))
        return str(path)

    def submit(self, spec: str) -> str:
        done = self.ganstudy("submit", spec, "--address", self.cluster.address)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[1]

    def status(self, study: str) -> dict[str, Any]:
        done = self.ganstudy("status", study, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else {"state": "pending", "running": 0}

    def until(self, study: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline, found = time.monotonic() + PATIENCE_S, self.status(study)
        while not true(found):
            assert time.monotonic() < deadline, f"{found}\n{self.cluster.told()}"
            found = self.status(study)
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage that all machines see."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[LoopbackCluster]:
    environment = {"GANSTUDY_HOME": str(shared), "GANSTUDY_CHECKPOINT_EVERY_S": "0.5"}
    with LoopbackCluster(tmp_path_factory.mktemp("cluster"), nodes=3, cpus=1, environment=environment) as started:
        yield started


@pytest.fixture
def laptop(cluster: LoopbackCluster, tmp_path: Path) -> Laptop:
    return Laptop(cluster, tmp_path / "laptop")


def audited(laptop: Laptop, study: str, home: Path) -> str:
    done = laptop.ganstudy("audit", study, "--home", str(home))
    assert done.returncode == 0, done.stdout
    return done.stdout


def measurements(home: Path, study: str) -> pa.Table:
    """Every row of a finished study but when it was measured, in the plan's order."""
    folder = StudyFolder(home, study)
    parts = []
    for entry in read_plan(folder).cohorts:
        found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
        assert found is not None
        assert found.complete
        parts.append(found.history().drop_columns("measured_at_ms"))
    return pa.concat_tables(parts)


def checkpoints(home: Path, study: str) -> int:
    return len(list((home / study / "cohorts").glob("*/checkpoint-*")))


def training(cluster: LoopbackCluster, place: int) -> bool:
    """Whether a trial runs on a node."""
    names = []
    for process in cluster.nodes[place].processes():
        try:
            names.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return any("ImplicitFunc" in name for name in names)


def test_a_submitted_study_survives_the_loss_of_a_node_and_equals_the_one_trained_at_home(
    cluster: LoopbackCluster, laptop: Laptop, shared: Path, tmp_path: Path
) -> None:
    spec = laptop.spec("ring-there", steps=2000)
    assert laptop.submit(spec) == "ring-there-1"
    laptop.until("ring-there", lambda s: s["running"] >= 4 and checkpoints(shared, "ring-there") >= 2)
    victim = next(place for place in (2, 1) if training(cluster, place))
    cluster.kill_node(victim)
    cluster.add_node(wait=False)
    again = laptop.ganstudy("submit", spec, "--address", cluster.address)
    assert again.returncode == 1
    assert "is being run by submission ring-there-1" in again.stderr
    ended = laptop.until("ring-there", lambda s: s["state"] in ("finished", "failed", "died"))
    assert (ended["state"], ended["done"], ended["failed"]) == ("finished", 8, 0)
    assert ended["submission"]["submission_id"] == "ring-there-1"
    assert "all invariants hold in 4 cohorts, 8 replicates" in audited(laptop, "ring-there", shared)
    home = tmp_path / "home"
    alone = laptop.ganstudy("run", spec, "--home", str(home))
    assert alone.returncode == 0, alone.stderr
    assert measurements(shared, "ring-there").equals(measurements(home, "ring-there"))


@pytest.mark.chaos
def test_stopped_from_the_laptop_and_resumed_under_a_new_number(laptop: Laptop, shared: Path) -> None:
    laptop.submit(laptop.spec("stopped", steps=1500))
    laptop.until("stopped", lambda s: s["running"] > 0 and checkpoints(shared, "stopped") > 0)
    stopped = laptop.ganstudy("stop", "stopped")
    assert stopped.returncode == 0, stopped.stderr
    assert "go on with `ganstudy resume stopped`" in stopped.stdout
    assert laptop.status("stopped")["state"] == "interrupted"
    audited(laptop, "stopped", shared)
    resumed = laptop.ganstudy("resume", "stopped")
    assert resumed.returncode == 0, resumed.stderr
    assert "submitted stopped-2" in resumed.stdout
    ended = laptop.until("stopped", lambda s: s["state"] in ("finished", "failed", "died"))
    assert (ended["state"], ended["attempt"], ended["done"]) == ("finished", 2, 8)
    audited(laptop, "stopped", shared)


def test_code_of_ones_own_travels_with_the_study_file_and_the_log_is_followed(laptop: Laptop, shared: Path) -> None:
    (laptop.folder / "own_networks.py").write_text(OWN)
    spec = laptop.spec("own-code", steps=40, networks="own_networks:build")
    done = laptop.ganstudy("submit", spec, "--address", laptop.cluster.address, "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "own-code: 8 of 8 replicates ended" in done.stdout
    assert "own-code-1: succeeded" in done.stderr
    audited(laptop, "own-code", shared)


@pytest.mark.chaos
def test_a_second_study_does_not_wait_for_the_first_to_end(laptop: Laptop) -> None:
    laptop.submit(laptop.spec("first", steps=800, rates="[1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3]"))
    laptop.until("first", lambda s: s["running"] > 0)
    laptop.submit(laptop.spec("second", steps=100))
    laptop.until("second", lambda s: s["state"] == "finished")
    assert laptop.status("first")["state"] == "running"
    laptop.ganstudy("stop", "first")


def test_an_unknown_study_is_bad_input(laptop: Laptop) -> None:
    done = laptop.ganstudy("status", "nobody-knows-it", "--address", laptop.cluster.address)
    assert done.returncode == 2
    assert "unknown study 'nobody-knows-it'" in done.stderr
    assert "Traceback" not in done.stderr
