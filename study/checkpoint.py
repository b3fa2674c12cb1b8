"""Checkpoints of one cohort: state and history together, verified by content, replaced in one step, two kept."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from study.environment import Environment
from study.manifest import MANIFEST, DamagedError, check_file, manifest_bytes, parse_manifest

STATE, HISTORY, SAMPLES = "state.pt", "history.parquet", "samples.parquet"

_NAME = re.compile(r"checkpoint-(\d{8,})(~?)")
_DISPLACED = "~"
_TEMPORARY = ".tmp-"
_RESCANS = 10


class _MovedError(Exception):
    """The writer replaced or pruned the folder while it was being read: not damage, look again."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint. Its files were read once: what was hashed is what is used."""

    path: Path
    generator_step: int
    evaluations_done: int
    complete: bool
    attempt: int
    content: Mapping[str, bytes]
    environments: tuple[Environment, ...] = ()

    def state(self, *, map_location: str = "cpu") -> dict[str, Any]:
        """The cohort's state: tensors and plain values (never unpickles code)."""
        import torch

        state: dict[str, Any] = torch.load(
            io.BytesIO(self.content[STATE]), map_location=map_location, weights_only=True
        )
        return state

    def history(self) -> pa.Table:
        """Rows up to this checkpoint, as study.history.history_schema has them."""
        return parquet.read_table(pa.BufferReader(self.content[HISTORY]))

    def samples(self) -> pa.Table:
        """Samples kept up to this checkpoint, in study.history.SAMPLES_SCHEMA."""
        return parquet.read_table(pa.BufferReader(self.content[SAMPLES]))


@dataclass(frozen=True, kw_only=True)
class Found:
    """The newest valid checkpoint, and one line on each damaged one that was passed over to reach it."""

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...]


def newest_checkpoint(folder: Path, *, older: bool = False) -> Found:
    """The newest valid checkpoint of a cohort's folder; damaged ones are skipped and named, with ``older`` all of them.

    Safe while another process writes: a folder that moved under the reader is looked up again.
    """
    for _ in range(_RESCANS):
        try:
            return _scan(folder, older=older)
        except _MovedError:
            continue
    raise OSError(f"{folder}: checkpoints kept changing while they were read")


def write_checkpoint(
    folder: Path,
    *,
    generator_step: int,
    evaluations_done: int,
    complete: bool,
    state: Mapping[str, Any],
    history: pa.Table,
    samples: pa.Table,
    attempt: int,
    environments: Sequence[Environment] = (),
    keep: int = 2,
) -> Path:
    """Writes a checkpoint beside the older ones, makes it durable, then prunes all but ``keep`` valid ones.

    Whatever fails on the way (a full disk, a crash) leaves the older checkpoints as they were. A cohort has one
    writer at a time, so temporary folders found here are leftovers of dead ones and go.
    Raises TypeError for a state that could not be loaded again without unpickling code, OSError for a full disk.
    """
    _require_plain(dict(state), where="state")
    _create(folder)
    _remove_leftovers(folder)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
    try:
        temporary.chmod(0o755)
        files = {STATE: _state_bytes(state), HISTORY: _parquet_bytes(history), SAMPLES: _parquet_bytes(samples)}
        facts = {
            "generator_step": generator_step,
            "evaluations_done": evaluations_done,
            "complete": complete,
            "attempt": attempt,
            "versions": _versions(),
            "environments": [dict(one) for one in environments],
        }
        _write_files(temporary, files, facts)
        target = _move_in(temporary, folder / f"checkpoint-{generator_step:08d}")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _prune(folder, keep=keep, written=target)
    return target


def _scan(folder: Path, *, older: bool) -> Found:
    newest: Checkpoint | None = None
    damaged: list[str] = []
    for path in _candidates(folder):
        try:
            found = _read(path)
        except DamagedError as problem:
            damaged.append(f"{path.name}: {problem}")
            continue
        newest = newest or found
        if not older:
            break
    return Found(checkpoint=newest, damaged=tuple(damaged))


def _candidates(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first; one displaced by a rewrite of the same step comes after its successor."""
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    ranked = [(-int(match[1]), match[2], path) for match, path in named if match and path.is_dir()]
    return [path for _, _, path in sorted(ranked)]


def _read(path: Path) -> Checkpoint:
    """Reads and verifies one folder; raises DamagedError, or _MovedError when it is no longer the same folder."""
    before = _identity(path)
    try:
        return _verified(path)
    except (DamagedError, OSError) as problem:
        if before is None or _identity(path) != before:
            raise _MovedError from problem
        if isinstance(problem, DamagedError | PermissionError):  # what may not be read need not be damaged
            raise
        raise DamagedError(f"{Path(problem.filename or path).name}: {problem.strerror}") from problem


def _verified(path: Path) -> Checkpoint:
    manifest = parse_manifest((path / MANIFEST).read_bytes())
    content = {name: (path / name).read_bytes() for name in (STATE, HISTORY, SAMPLES)}
    for name, data in content.items():
        check_file(manifest, name, data)
    if int(_NAME.fullmatch(path.name)[1]) != manifest["generator_step"]:  # type: ignore[index]
        raise DamagedError(f"{MANIFEST} belongs to generator step {manifest['generator_step']}")
    return Checkpoint(
        path=path,
        generator_step=manifest["generator_step"],
        evaluations_done=manifest["evaluations_done"],
        complete=manifest["complete"],
        attempt=manifest["attempt"],
        content=content,
        environments=tuple(manifest.get("environments", ())),  # older ones do not say
    )


def _versions() -> dict[str, str]:
    import torch

    return {"python": platform.python_version(), "torch": str(torch.__version__), "pyarrow": str(pa.__version__)}


def _require_plain(value: object, *, where: str) -> None:
    """One numpy scalar in the state and ``weights_only`` would refuse the file at resume: refuse it now."""
    import torch

    kind = type(value)
    if isinstance(value, dict) and kind in (dict, OrderedDict):
        for key, entry in value.items():
            _require_plain(key, where=f"{where} key {key!r}")
            _require_plain(entry, where=f"{where}.{key}")
    elif isinstance(value, list | tuple) and kind in (list, tuple):
        for place, entry in enumerate(value):
            _require_plain(entry, where=f"{where}[{place}]")
    elif kind not in (torch.Tensor, int, float, bool, str, bytes, type(None)):
        raise TypeError(f"{where} must be a tensor or a plain Python value, got {kind.__name__}")


def _state_bytes(state: Mapping[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _create(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _fsync_folder(folder.parent)


def _write_files(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, object]) -> None:
    for name, data in files.items():
        _write_durably(folder / name, data)
    _write_durably(folder / MANIFEST, manifest_bytes(facts, files))  # last: it vouches for the others
    _fsync_folder(folder)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_in(temporary: Path, target: Path) -> Path:
    """Renames into place. A folder cannot replace a full one, so an older writing of the same step steps aside.

    Stepped aside it is still a valid checkpoint (name~), so that a crash between the two renames loses nothing.
    """
    displaced = target.with_name(target.name + _DISPLACED)
    if target.exists():
        _remove(displaced)
        os.replace(target, displaced)
    os.replace(temporary, target)
    _fsync_folder(target.parent)
    _remove(displaced)
    return target


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _prune(folder: Path, *, keep: int, written: Path) -> None:
    """Removes all but the newest ``keep`` valid checkpoints; ``written`` was verified by writing it."""
    valid = 0
    for path in _candidates(folder):
        if valid < keep and (path == written or _is_valid(path)):
            valid += 1
        else:
            _remove(path)


def _remove(path: Path) -> None:
    """Takes the name away first: a removal cut short must not look like a damaged checkpoint."""
    doomed = path.with_name(f"{_TEMPORARY}{path.name}")
    with contextlib.suppress(OSError):
        os.replace(path, doomed)
        shutil.rmtree(doomed)


def _is_valid(path: Path) -> bool:
    try:
        _read(path)
    except (DamagedError, _MovedError):
        return False
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
