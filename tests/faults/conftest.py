"""What the fault tests share: servers, faulty connections, whole runs, and the audit that each of them ends with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.folder import StudyFolder, write_json
from study.mlflow_client import MlflowStore
from study.plan import make_plan
from study.spec import StudySpec
from tests.conftest import TINY, environment
from tests.faults.proxy import Proxy
from tests.faults.servers import MlflowServer
from tests.study.tracked import REFERENCE, TrackedStudy, make_study

SPEC: Mapping[str, Any] = {**TINY, "budget": {**TINY["budget"], "value": 4000}}
"""Twelve replicates in two cohorts; a few seconds of training with checkpoints midway."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its migrations take a second."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    """One real server on SQLite."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with MlflowServer(folder) as running:
        yield running


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    """What stands between a study and the server."""
    with Proxy(server.port) as made:
        yield made


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays of retries a tenth as long, and three seconds for an answer: outages of seconds stand for minutes."""
    from study import background

    monkeypatch.setattr(background, "FIRST_DELAY_S", 0.1)
    monkeypatch.setattr(background, "LAST_DELAY_S", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")


def small_study(home: Path) -> TrackedStudy:
    """Two configurations in two cohorts: the audit asks a server for each of their metrics."""
    made = make_study(home, replicates=2)
    operative = {**made.spec.operative, "scientific": {"loss": ["minimax"], "k": [1, 2]}}
    spec = StudySpec.from_dict(operative)
    plan = make_plan(spec, workers=2)
    (made.root / "spec.yaml").write_text(spec.dump())
    write_json(made.root / "plan.json", plan.to_json())
    return replace(made, spec=spec, plan=plan)


@pytest.fixture
def tracked(tmp_path: Path) -> TrackedStudy:
    """Checkpoints without training, as a driver leaves them; each test is a launch of its own on a shared server."""
    made = small_study(tmp_path / "home")
    targets = {entry.target_id: REFERENCE for entry in made.plan.configurations}
    write_json(made.root / "reference.json", {"schema": 1, "targets": targets})
    return made


def launched(study: TrackedStudy, *, uri: str) -> str:
    """launch.json as a driver writes it: where the study's results go, under a launch that nobody else has."""
    launch = str(study.root.parent.parent.name)
    write_json(study.root / "launch.json", {"schema": 1, "launch": launch, "attempt": 1, "tracking_uri": uri})
    return launch


def violations(folder: StudyFolder, *, tracking_uri: str | None = None) -> list[str]:
    """What the audit says, one line each."""
    from study.audit import audit

    found = audit(folder, tracking_uri=tracking_uri)
    return [f"{entry.invariant} {entry.subject}: {entry.text}" for entry in found.violations]


def write_spec(folder: Path, **changes: Any) -> Path:
    """The study file of the whole runs."""
    path = folder / "study.yaml"
    path.write_text(json.dumps({**SPEC, **changes}))  # JSON is YAML
    return path


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The study run to its end without a fault."""
    folder = tmp_path_factory.mktemp("truth")
    done = subprocess.run(
        [sys.executable, "-m", "study", "run", str(write_spec(folder)), "--home", str(folder / "runs")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return StudyFolder(folder / "runs", str(SPEC["study"]))
