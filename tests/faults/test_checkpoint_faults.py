"""Checkpoints that rot on the disk: every flip is noticed, the audit names it, and the study goes on as if unhurt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from tests.conftest import Ganstudy
from tests.faults.conftest import launched, violations
from tests.faults.driven import folder_of
from tests.faults.rows import histories
from tests.study.tracked import STEPS, TrackedStudy

FLIPS = 100


@pytest.fixture
def midway_study(tracked: TrackedStudy, empty_database: Path) -> TrackedStudy:
    """One cohort with two checkpoints, and MLflow knows what both hold."""
    shutil.copy(empty_database, tracked.database)
    tracker = tracked.tracker()
    tracker.open(launch=launched(tracked, uri=tracked.uri))
    first = tracked.cohorts[0]
    tracker.start(first)
    for evaluations in (4, 9):
        tracked.train(first, evaluations=evaluations)
        tracker.send(first)
    tracker.close("KILLED")
    return tracked


def checkpoints(study: TrackedStudy) -> list[Path]:
    return sorted((study.root / "cohorts" / study.cohorts[0]).glob("checkpoint-*"))


def files_audit(study: TrackedStudy) -> list[str]:
    from study.audit import audit

    return [f"{entry.invariant} {entry.text}" for entry in audit(folder_of(study), mlflow=False).violations]


def test_a_hundred_flips_over_all_files_of_both_checkpoints_are_all_noticed_and_named_by_the_audit(
    midway_study: TrackedStudy,
) -> None:
    """Also in the older one, which nothing reads while the newer is good."""
    folder = midway_study.root / "cohorts" / midway_study.cohorts[0]
    assert files_audit(midway_study) == []
    files = sorted(path for folder in checkpoints(midway_study) for path in folder.iterdir())
    assert len(files) == 8
    rng = np.random.default_rng(20)
    noticed = 0
    for flip in range(FLIPS):
        path = files[flip % len(files)]
        genuine = path.read_bytes()
        rotten = bytearray(genuine)
        rotten[int(rng.integers(len(genuine)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(rotten))
        told = newest_checkpoint(folder, older=True).damaged
        noticed += len(told) == 1 and told[0].startswith(f"{path.parent.name}: ")
        if flip < len(files):
            assert files_audit(midway_study) == [f"I6 damaged checkpoint {told[0]}"]
        path.write_bytes(genuine)
    assert noticed == FLIPS
    assert violations(folder_of(midway_study)) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "name"),
    [(cut, "state.pt"), (empty, "history.parquet"), (zero, "samples.parquet"), (Path.unlink, "manifest.json")],
)
def test_a_damaged_file_leads_to_the_checkpoint_before_and_training_on_from_there_puts_all_right(
    midway_study: TrackedStudy, damage: Callable[[Path], None], name: str
) -> None:
    study, first = midway_study, midway_study.cohorts[0]
    newest = checkpoints(study)[-1]
    damage(newest / name)
    found = newest_checkpoint(study.root / "cohorts" / first)
    assert found.checkpoint is not None
    assert found.checkpoint.generator_step == STEPS[4]
    assert [line.split(":")[0] for line in found.damaged] == [newest.name]
    damaged, *beyond = violations(folder_of(study))
    assert damaged.startswith(f"I6 {first}: damaged checkpoint {newest.name}: ")
    assert all("differs from the checkpoint" in line for line in beyond), (
        "MLflow knows rows that are to be trained again"
    )
    successor = study.tracker()
    successor.open(launch=study.root.parent.parent.name)
    for cohort in study.cohorts:
        successor.start(cohort)
        study.train(cohort, later_ms=3_600_000)
        successor.finish(cohort, failed=False)
    successor.close("FINISHED")
    assert violations(folder_of(study)) == []


@pytest.mark.chaos
@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_trains_that_cohort_again_and_says_so(
    truth: StudyFolder, tmp_path: Path, ganstudy: Ganstudy
) -> None:
    home = tmp_path / "runs"
    shutil.copytree(truth.home, home, symlinks=True)
    folder = StudyFolder(home, truth.study)
    [hurt, *_] = sorted((folder.root / "cohorts").iterdir())
    for state in hurt.glob("checkpoint-*/state.pt"):
        cut(state)
    resumed = ganstudy("resume", truth.study, "--home", home, "--tracking-uri", f"sqlite:///{home}/mlflow.db")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{hurt.name}: damaged checkpoint passed over" in resumed.stderr
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []
