"""The study folder: atomic replacement, the lock between processes, names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import BadInput, WorkFailed
from study.folder import (
    StudyFolder,
    find_study,
    home_folder,
    lock_holder,
    locked,
    read_json,
    study_names,
    write_atomic,
    write_json,
)

HOLD = """
import sys
from pathlib import Path
from study.folder import StudyFolder, locked
with locked(StudyFolder(Path(sys.argv[1]), sys.argv[2])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "home", "ring-7")


def hold(folder: StudyFolder) -> subprocess.Popen[str]:
    """Another process that holds the lock until a line arrives on its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.home), folder.study],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_launch_is_refused_naming_the_holder(folder: StudyFolder) -> None:
    holder = hold(folder)
    try:
        with pytest.raises(WorkFailed, match=rf"ring-7.*process {holder.pid} on ") as refusal, locked(folder):
            pass
        assert "ganstudy stop ring-7" in str(refusal.value)
        assert folder.lock_file.read_text() != "", "a refused launch must not wipe the holder's record"
    finally:
        holder.communicate("\n")


def test_lock_tells_held_from_released_from_died(folder: StudyFolder) -> None:
    assert lock_holder(folder) is None
    holder = hold(folder)
    held = lock_holder(folder)
    assert held is not None
    assert (held.alive, held.pid) == (True, holder.pid)
    holder.communicate("\n")
    assert lock_holder(folder) is None, "released in order"
    killed = hold(folder)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    dead = lock_holder(folder)
    assert dead is not None
    assert (dead.alive, dead.pid) == (False, killed.pid)
    with locked(folder):
        pass
    assert lock_holder(folder) is None, "the kernel freed a dead process's lock"


def test_lock_is_released_after_an_exception_inside(folder: StudyFolder) -> None:
    with pytest.raises(ZeroDivisionError), locked(folder):
        raise ZeroDivisionError
    assert lock_holder(folder) is None, "an error is no death"
    with locked(folder):
        holder = lock_holder(folder)
        assert holder is not None
        assert holder.pid == os.getpid()


def test_failed_replacement_leaves_the_old_bytes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launch.json"
    write_json(path, {"attempt": 1})

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "half")
    assert read_json(path) == {"attempt": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["launch.json"]


def test_json_files_refuse_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"d_real": float("nan")})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_damaged_json_is_named_not_guessed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(WorkFailed, match=r"plan\.json"):
        read_json(path)


def test_attempt_fences(folder: StudyFolder) -> None:
    assert folder.attempt() == 0
    write_json(folder.launch_file, {"attempt": 3})
    assert folder.attempt() == 3


def test_stop_file_says_why(folder: StudyFolder) -> None:
    assert folder.stop_reason() is None
    folder.ask_to_stop("SIGTERM")
    assert folder.stop_reason() == "SIGTERM"


def test_unknown_study_names_the_nearest(tmp_path: Path) -> None:
    for name in ("ring-quick", "digits"):
        write_json(tmp_path / name / "plan.json", {"schema": 1})
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "Not-A-Study").mkdir()
    assert study_names(tmp_path) == ["digits", "ring-quick"]
    assert find_study("digits", home=tmp_path).plan_file.read_text() == json.dumps({"schema": 1}, indent=1) + "\n"
    with pytest.raises(BadInput, match="did you mean 'ring-quick'"):
        find_study("ring-quik", home=tmp_path)
    with pytest.raises(BadInput, match="none was begun"):
        find_study("ring", home=tmp_path / "empty")
    assert not (tmp_path / "empty").exists(), "looking creates nothing"


@pytest.mark.parametrize("name", ["../digits", "digits/..", "/", "", ".", "DIGITS"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "digits" / "plan.json", {"schema": 1})
    with pytest.raises(BadInput, match="unknown study"):
        find_study(name, home=tmp_path)


def test_home_is_what_was_asked_for_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANSTUDY_HOME", raising=False)
    assert home_folder() == tmp_path / "runs"
    monkeypatch.setenv("GANSTUDY_HOME", str(tmp_path / "from-env"))
    assert home_folder() == tmp_path / "from-env"
    assert home_folder("here") == tmp_path / "here"


def test_sweeping_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "swept")
    kept = [folder.plan_file, folder.rungs_file("c000"), folder.root / "tune" / ".x.tmp", folder.root / "note.tmp"]
    left = [
        folder.root / ".plan.json.abc.tmp",
        folder.cohort("c000") / ".rungs.json.abc.tmp",
        folder.root / "judges" / "abc.tmp",
    ]
    for path in (*kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    folder.sweep()
    assert [path.exists() for path in kept] == [True] * len(kept)
    assert [path.exists() for path in left] == [False] * len(left)
