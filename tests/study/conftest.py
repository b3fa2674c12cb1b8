"""What the tests of the MLflow writer share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tracked import TrackedStudy, make_study

from study.mlflow_client import MlflowStore


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: its migrations take a second."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}")
    return path


@pytest.fixture
def study(tmp_path: Path, empty_database: Path) -> TrackedStudy:
    made = make_study(tmp_path / "home")
    shutil.copy(empty_database, made.database)
    return made
