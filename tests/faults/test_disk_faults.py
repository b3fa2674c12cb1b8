"""A disk that fills up in the middle of a run: what was written stays, and the study goes on when there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from tests.conftest import Started
from tests.faults.conftest import SPEC, write_spec
from tests.faults.rows import histories, midway, wait_for
from tests.faults.small_disk import SmallDisk

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path, megabytes=64) as made:
        if not made.mounted:
            pytest.skip("this system lets nobody mount a tmpfs in a namespace of their own")
        yield made


def bytes_of(folder: StudyFolder) -> dict[str, bytes]:
    """Every file of every valid newest checkpoint."""
    kept = {}
    for cohort in sorted((folder.root / "cohorts").iterdir()):
        if found := newest_checkpoint(cohort).checkpoint:
            kept |= {f"{cohort.name}/{found.path.name}/{name}": data for name, data in found.content.items()}
    return kept


@pytest.mark.chaos
def test_a_full_disk_ends_the_run_and_hurts_nothing_and_resume_gives_the_same_rows(
    truth: StudyFolder, tmp_path: Path, disk: SmallDisk, started: Started
) -> None:
    """MLflow's database lies elsewhere: the study's own folder is what is full."""
    inside, folder = disk.inside / "runs", StudyFolder(disk.path / "runs", str(SPEC["study"]))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    driver = started("run", write_spec(tmp_path), "--home", inside, "--tracking-uri", uri, prefix=disk.prefix)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    disk.fill()
    before = bytes_of(folder)
    stdout, stderr = driver.communicate(timeout=300)
    assert driver.returncode == 1, stdout + stderr
    assert "No space left on device" in stderr
    assert "Traceback" not in stderr
    after = bytes_of(folder)
    assert before
    assert {name: after[name] for name in before} == before
    disk.free()
    resumed = started("resume", SPEC["study"], "--home", inside, prefix=disk.prefix)
    stdout, stderr = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, stderr
    disk.copy_to(tmp_path / "copy")
    copy = StudyFolder(tmp_path / "copy" / "runs", str(SPEC["study"]))
    assert histories(copy).equals(histories(truth))
    audited = started("audit", SPEC["study"], "--home", inside, "--tracking-uri", uri, prefix=disk.prefix)
    stdout, stderr = audited.communicate(timeout=120)  # in there, where MLflow's artifacts lie
    assert audited.returncode == 0, stdout + stderr
