"""Storage that cannot be written, and a Ray that is not there: one line that says what to do, soon, and exit code 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TINY, Ganstudy, Started
from tests.faults.small_disk import SmallDisk


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(TINY))
    return path


def told(stderr: str) -> str:
    """The one line."""
    [line] = stderr.splitlines()
    assert "internal error" not in line
    return line


def test_a_home_below_a_file(tmp_path: Path, spec: Path, ganstudy: Ganstudy) -> None:
    (tmp_path / "file").touch()
    done = ganstudy("run", spec, "--home", tmp_path / "file" / "runs", timeout_s=60)
    assert done.returncode == 1
    assert told(done.stderr) == (
        f"{tmp_path}/file/runs/tiny-ring cannot be written (Not a directory): "
        "make room or get leave to write there, or name another --home"
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path, megabytes=1) as made:
        if not made.mounted:
            pytest.skip("this system lets nobody mount a tmpfs in a namespace of their own")
        yield made


@pytest.mark.parametrize("left", [0, 4096])
def test_a_full_disk_at_launch(tmp_path: Path, disk: SmallDisk, spec: Path, started: Started, left: int) -> None:
    """Full to the last page, and with a page left: the lock fits there, launch.json does not."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    disk.fill()
    filler = disk.path / "filler"
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - left)
    launch = started("run", spec, "--home", disk.inside / "runs", "--tracking-uri", uri, prefix=disk.prefix)
    _, stderr = launch.communicate(timeout=60)
    assert launch.returncode == 1
    line = told(stderr)
    assert "No space left on device" in line
    assert "cannot be written" in line
    assert not list(disk.path.glob("runs/**/*.tmp"))
    assert not list(disk.path.glob("runs/**/plan.json"))


def test_nobody_listens_where_ray_should_be(tmp_path: Path, spec: Path, ganstudy: Ganstudy) -> None:
    """Ray itself would try for minutes."""
    done = ganstudy("run", spec, "--home", tmp_path / "runs", "--address", "127.0.0.1:1", timeout_s=60)
    assert done.returncode == 1
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached: [Errno 111] Connection refused" in told(done.stderr)
    assert not (tmp_path / "runs/tiny-ring/plan.json").exists()
