"""Looking at a study on disk while it runs, and at all of its rows afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from study.history import REPLICATES_SCHEMA
from study.plan import Plan
from tests.processes import PATIENCE_S


def histories(folder: StudyFolder) -> pa.Table:
    """All rows of all cohorts without the clock, in plan order; every cohort must have ended."""
    plan = Plan.from_json(json.loads(folder.plan_file.read_text()))
    tables = []
    for entry in plan.cohorts:
        found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
        assert found is not None, entry.cohort
        assert found.complete, entry.cohort
        tables.append(found.history().select(REPLICATES_SCHEMA.names))
    return pa.concat_tables(tables)


def midway(folder: StudyFolder, *, horizon: int = 4000) -> list[Path]:
    """Checkpoints of cohorts that are under way."""
    found = folder.root.glob("cohorts/*/checkpoint-*/manifest.json")
    return [path for path in found if 0 < int(path.parent.name.removeprefix("checkpoint-").rstrip("~")) < horizon]


def complete(folder: StudyFolder, *, horizon: int = 4000) -> int:
    """How many cohorts are at their horizon on disk."""
    return len(list(folder.root.glob(f"cohorts/*/checkpoint-{horizon:08d}/manifest.json")))


def wait_for(condition: Callable[[], Any], what: str, *, process: subprocess.Popen[str]) -> Any:
    """Polls until ``condition`` gives something true; fails when the process ends or the time is up first."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s"
        time.sleep(0.02)
    return found
