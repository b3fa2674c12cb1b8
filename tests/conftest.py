"""Shared by all tests: a small study, a home of its own, the command line as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # before anything imports ray, which reads it once
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY: Mapping[str, Any] = {
    "study": "tiny-ring",
    "target": {"name": "ring", "modes": 5},
    "networks": {"name": "mlp", "latent_dim": 4, "width": 16, "depth": 1},
    "scientific": {"loss": ["minimax", "ns_r1"]},
    "nuisance": {"learning_rate": [1e-3, 3e-3]},
    "fixed": {"k": 1, "batch_size": 32},
    "replicates": 3,
    "seed": 11,
    "budget": {"unit": "generator_steps", "value": 40, "evaluations": 20, "evaluation_samples": 100},
}
"""Two losses x two rates x three replicates in two cohorts; about a second of training."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Chaos runs where ``-m`` names it and nowhere else: ``-m "not slow"`` must not mean minutes of faults."""
    if "chaos" in (config.option.markexpr or ""):
        return
    chaos = [item for item in items if item.get_closest_marker("chaos")]
    if chaos:
        config.hook.pytest_deselected(items=chaos)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process: this checkout, one thread, no tracking server of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GANSTUDY_", "MLFLOW_"))}
    return kept | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", **more}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A mapping that StudySpec accepts; change it freely."""
    import copy

    return copy.deepcopy(dict(TINY))


Ganstudy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ganstudy(tmp_path: Path) -> Ganstudy:
    """Runs ``ganstudy`` in ``tmp_path`` to its end."""

    def run(*arguments: str | Path, timeout_s: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "study", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts ``ganstudy``, after ``prefix``, in a process group of its own; nothing outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, prefix: tuple[str, ...] = (), **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "study", *map(str, arguments)],
            env=environment(**{"GANSTUDY_CHECKPOINT_EVERY_S": "0.5"} | more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
