from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from study import checkpoint as subject
from study.checkpoint import newest_checkpoint, write_checkpoint
from study.errors import WorkFailed
from study.history import HISTORY_SCHEMA, SAMPLES_SCHEMA
from study.manifest import manifest_bytes


class CrashError(BaseException):
    """Stands for a process that dies: nothing may catch it and go on."""


def history(rows: int) -> pa.Table:
    columns = {name: [None] * rows for name in HISTORY_SCHEMA.names}
    columns |= {"evaluation": list(range(rows)), "distance": [0.1 * row for row in range(rows)]}
    return pa.table(columns, schema=HISTORY_SCHEMA)


def write(folder: Path, step: int, *, complete: bool = False, size: int = 50) -> Path:
    generator = torch.Generator().manual_seed(step)
    state = {"weights": torch.randn(size, 7, generator=generator), "step": step, "nested": {"names": ["a", None]}}
    return write_checkpoint(
        folder,
        generator_step=step,
        evaluations_done=step // 10,
        complete=complete,
        state=state,
        history=history(step % 1000),
        samples=SAMPLES_SCHEMA.empty_table(),
        attempt=3,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    awkward = torch.tensor([0.1, -0.0, 1e-45, float("inf"), float("nan")], dtype=torch.float32)
    plain = {"step": 2**62, "rate": 0.1, "flag": True, "none": None}
    state = {"x": awkward, "rng": torch.arange(9, dtype=torch.uint8), **plain}
    write_checkpoint(
        tmp_path, generator_step=12, evaluations_done=4, complete=True, state=state, history=history(3),
        samples=SAMPLES_SCHEMA.empty_table(), attempt=7,
    )  # fmt: skip
    found = newest_checkpoint(tmp_path)
    assert found.damaged == ()
    assert found.checkpoint is not None
    got = found.checkpoint
    assert (got.generator_step, got.evaluations_done, got.complete, got.attempt) == (12, 4, True, 7)
    loaded = got.state()
    assert loaded["x"].numpy().tobytes() == awkward.numpy().tobytes()
    assert torch.equal(loaded["rng"], torch.arange(9, dtype=torch.uint8))
    assert {key: loaded[key] for key in plain} == plain
    assert got.history().equals(history(3))
    assert got.samples().schema.equals(SAMPLES_SCHEMA)


def test_no_folder_and_an_empty_folder_hold_no_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert newest_checkpoint(folder) == subject.Found(checkpoint=None, damaged=())


def test_the_newest_is_the_largest_step_and_two_are_kept(tmp_path: Path) -> None:
    for step in (20, 30, 100_000_000, 200):  # nine digits sort after eight by number, before them by name
        write(tmp_path, step)
    assert names(tmp_path) == ["checkpoint-00000200", "checkpoint-100000000"]
    assert newest_checkpoint(tmp_path).checkpoint.generator_step == 100_000_000  # type: ignore[union-attr]


def test_a_hundred_random_flips_and_truncations_are_all_noticed_and_the_previous_one_is_used(tmp_path: Path) -> None:
    write(tmp_path, 10)
    target = write(tmp_path, 20)
    rng = np.random.default_rng(5)
    files = sorted(path.name for path in target.iterdir())
    assert len(files) == 4
    for trial in range(100):
        path = target / files[trial % 4]
        genuine = path.read_bytes()
        place = int(rng.integers(len(genuine)))
        flipped = bytearray(genuine)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(flipped) if trial % 5 else genuine[:place])
        found = newest_checkpoint(tmp_path)
        assert found.checkpoint is not None
        assert found.checkpoint.generator_step == 10, (path.name, place)
        assert len(found.damaged) == 1
        assert target.name in found.damaged[0]
        path.write_bytes(genuine)
    assert newest_checkpoint(tmp_path).checkpoint.generator_step == 20  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["state.pt", "history.parquet", "samples.parquet", "manifest.json"])
def test_a_missing_or_swapped_file_is_damage(tmp_path: Path, name: str) -> None:
    older = write(tmp_path, 10)
    newer = write(tmp_path, 20)
    (newer / name).unlink()
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint.generator_step == 10  # type: ignore[union-attr]
    assert name in found.damaged[0]
    (newer / name).write_bytes((older / name).read_bytes() + (b"" if name != "samples.parquet" else b"x"))
    assert newest_checkpoint(tmp_path).checkpoint.generator_step == 10  # type: ignore[union-attr]


def test_when_all_are_damaged_each_is_named(tmp_path: Path) -> None:
    for folder in [write(tmp_path, 10), write(tmp_path, 20)]:
        (folder / "state.pt").write_bytes(b"")
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint is None
    assert [line.split(":")[0] for line in found.damaged] == ["checkpoint-00000020", "checkpoint-00000010"]


def test_pruning_counts_valid_checkpoints_only(tmp_path: Path) -> None:
    write(tmp_path, 10)
    (write(tmp_path, 20) / "state.pt").write_bytes(b"rotten")
    write(tmp_path, 30)
    assert names(tmp_path) == ["checkpoint-00000010", "checkpoint-00000030"]


def test_the_same_step_again_replaces_the_incomplete_one(tmp_path: Path) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    write(tmp_path, 20, complete=True)
    assert names(tmp_path) == ["checkpoint-00000010", "checkpoint-00000020"]
    assert newest_checkpoint(tmp_path).checkpoint.complete is True  # type: ignore[union-attr]


def test_leftovers_of_dead_writers_go(tmp_path: Path) -> None:
    (tmp_path / ".tmp-dead").mkdir(parents=True)
    (tmp_path / ".tmp-dead" / "state.pt").write_bytes(b"half")
    (tmp_path / "failure.json").write_text("{}")
    write(tmp_path, 10)
    assert names(tmp_path) == ["checkpoint-00000010", "failure.json"]


def crash_at(call: int, real: Callable[..., object], counter: list[int]) -> Callable[..., object]:
    def wrapped(*args: object) -> object:
        counter[0] += 1
        if counter[0] == call:
            raise CrashError
        return real(*args)

    return wrapped


@pytest.mark.parametrize("step", [20, 30])
def test_a_crash_between_any_two_writes_leaves_a_valid_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Every fsync and every rename in turn is the last thing the process does; also when it rewrites a step."""
    survived = []
    for call in range(1, 40):
        folder = tmp_path / str(call)
        write(folder, 10)
        write(folder, 20)
        counter = [0]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", crash_at(call, os.fsync, counter))
            patch.setattr(os, "replace", crash_at(call, os.replace, counter))
            patch.setattr(subject.shutil, "rmtree", lambda *_, **__: None)  # the dead clean nothing up
            try:
                write(folder, step, complete=True)
            except CrashError:
                survived.append(call)
            else:
                break
        found = newest_checkpoint(folder)
        assert found.damaged == ()
        assert found.checkpoint is not None
        assert found.checkpoint.generator_step in (20, step)
        assert found.checkpoint.history().num_rows == found.checkpoint.generator_step
        write(folder, step, complete=True)  # and the next writer puts everything right
        assert newest_checkpoint(folder).checkpoint.complete is True  # type: ignore[union-attr]
        assert len(names(folder)) == 2
    assert len(survived) >= 7  # four files, the folder, the rename, its folder


@pytest.mark.parametrize("call", [1, 3, 4])
def test_a_full_disk_leaves_the_older_checkpoints_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    before = contents(tmp_path)
    real, calls = subject._write_durably, [0]

    def full(path: Path, data: bytes) -> None:
        calls[0] += 1
        if calls[0] == call:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data)

    monkeypatch.setattr(subject, "_write_durably", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 30)
    assert contents(tmp_path) == before


def test_a_file_size_limit_of_the_kernel_leaves_the_older_checkpoints_untouched(tmp_path: Path) -> None:
    """The real thing: the kernel refuses the write halfway through state.pt."""
    write(tmp_path, 10, size=50)
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path, 20, size=5_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"rate": np.float64(0.1)}, r"state\.rate must be a tensor or a plain Python value, got float64"),
        ({"a": [1, {"b": np.arange(2)}]}, r"state\.a\[1\]\.b must be .* got ndarray"),
        ({"path": Path("x")}, r"state\.path must be"),
    ],
)
def test_a_state_that_could_not_be_loaded_again_is_refused_before_anything_is_written(
    tmp_path: Path, state: dict[str, object], where: str
) -> None:
    with pytest.raises(TypeError, match=where):
        write_checkpoint(
            tmp_path / "cohort", generator_step=1, evaluations_done=1, complete=False, state=state, history=history(1),
            samples=SAMPLES_SCHEMA.empty_table(), attempt=1,
        )  # fmt: skip
    assert not (tmp_path / "cohort").exists()


def test_a_checkpoint_of_another_schema_is_refused_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.manifest.SCHEMA", 2)
    write(tmp_path, 10)
    monkeypatch.undo()
    with pytest.raises(WorkFailed, match="schema 2 was written by another version"):
        newest_checkpoint(tmp_path)


def test_a_manifest_moved_to_another_step_is_damage(tmp_path: Path) -> None:
    write(tmp_path, 10).rename(tmp_path / "checkpoint-00000099")
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint is None
    assert "generator step 10" in found.damaged[0]


def test_a_reader_overtaken_by_the_writer_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between listing and reading, the writer replaces what the reader was about to read: that is not damage."""
    write(tmp_path, 10)
    real, raced = subject._verified, []

    def overtaken(path: Path) -> subject.Checkpoint:
        if not raced:
            raced.append(path)
            write(tmp_path, 20)
            write(tmp_path, 30)  # prunes 10, which the reader holds
        return real(path)

    monkeypatch.setattr(subject, "_verified", overtaken)
    found = newest_checkpoint(tmp_path)
    assert raced[0].name == "checkpoint-00000010"
    assert found.damaged == ()
    assert found.checkpoint.generator_step == 30  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [lambda text: text.rstrip(), lambda text: text.replace("\n ", "\n  ")])
def test_a_manifest_in_another_spelling_is_damage(tmp_path: Path, change: Callable[[str], str]) -> None:
    """Same JSON, other bytes: nobody but a fault writes that."""
    manifest = write(tmp_path, 10) / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint is None
    assert "manifest.json" in found.damaged[0]


def test_the_manifest_is_one_spelling(tmp_path: Path) -> None:
    """Same facts, same bytes, whatever the order they were given in."""
    files = {"state.pt": b"1", "history.parquet": b"2"}
    reordered = dict(reversed(files.items()))
    assert manifest_bytes({"a": 1, "b": 2}, files) == manifest_bytes({"b": 2, "a": 1}, reordered)
