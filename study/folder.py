"""The folder of one study: where each file lies, who holds the lock, and how files are replaced (standard library)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from study.errors import BadInput, WorkFailed, suggestion

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOCK_PATIENCE_S = 1.0


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study below its home; both need not exist yet."""

    home: Path
    study: str

    @property
    def root(self) -> Path:
        """``<home>/<study>``."""
        return self.home / self.study

    @property
    def spec_file(self) -> Path:
        """The operative study file, defaults filled in."""
        return self.root / "spec.yaml"

    def launch_spec_file(self, launch: int) -> Path:
        """The operative study file of a launch: ``spec-N.yaml`` of an extension that changed it, else the first."""
        later = (self.root / f"spec-{number}.yaml" for number in range(launch, 1, -1))
        return next((path for path in later if path.exists()), self.spec_file)

    @property
    def plan_file(self) -> Path:
        """The frozen plan: configurations, cohorts, seeds."""
        return self.root / "plan.json"

    @property
    def launch_file(self) -> Path:
        """What the study was last launched with; its ``attempt`` fences older writers."""
        return self.root / "launch.json"

    @property
    def selection_file(self) -> Path:
        """Which configuration of each loss was chosen to be confirmed: written once."""
        return self.root / "selection.json"

    @property
    def reference_file(self) -> Path:
        """The yardsticks that outcomes are judged by, per target."""
        return self.root / "reference.json"

    @property
    def journal_file(self) -> Path:
        """Optuna's storage of an adaptive search: every suggestion and what came of it."""
        return self.root / "search.journal"

    @property
    def lock_file(self) -> Path:
        """Held (flock) by the process that runs the study."""
        return self.root / "lock"

    @property
    def stop_file(self) -> Path:
        """Exists while the study is asked to stop."""
        return self.root / "stop"

    @property
    def progress_file(self) -> Path:
        """How fast the running driver last was, for ``status`` in another terminal."""
        return self.root / "progress.json"

    @property
    def tune(self) -> Path:
        """Ray Tune's own folders: never read back."""
        return self.root / "tune"

    @property
    def report(self) -> Path:
        """Where the report goes by default."""
        return self.root / "report"

    def judge_file(self, target_id: str) -> Path:
        """The tensors that evaluations of one target need."""
        return self.root / "judges" / f"{target_id}.pt"

    def cohort(self, cohort: str) -> Path:
        """The checkpoints of one cohort."""
        return self.root / "cohorts" / cohort

    def failure_file(self, cohort: str) -> Path:
        """Says why a cohort failed; gone when it is tried again."""
        return self.cohort(cohort) / "failure.json"

    def writer_file(self, cohort: str) -> Path:
        """Names the process that trains a cohort: one that was taken for dead and comes back must not write."""
        return self.cohort(cohort) / "writer"

    def tally_file(self, cohort: str) -> Path:
        """How a complete cohort's replicates ended, for ``status``: made again when it is missing or out of date."""
        return self.cohort(cohort) / "tally.json"

    def rungs_file(self, cohort: str) -> Path:
        """What early stopping compared of a cohort, and whether it was stopped."""
        return self.cohort(cohort) / "rungs.json"

    def sweep(self) -> None:
        """Removes what writers that were killed left half-written. Only for the holder of the lock."""
        for pattern in (".*.tmp", "cohorts/*/.*.tmp", "judges/*.tmp"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)

    def ask_to_stop(self, reason: str) -> None:
        """Writes the stop file: trials checkpoint and return, pending ones end at once."""
        write_atomic(self.stop_file, reason + "\n")

    def stop_reason(self) -> str | None:
        """What the stop file says, or None when nobody asked to stop."""
        try:
            return self.stop_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def attempt(self) -> int:
        """The newest attempt's number; 0 before the first."""
        return int(read_json(self.launch_file).get("attempt", 0)) if self.launch_file.exists() else 0  # type: ignore[call-overload]


def home_folder(home: str | Path | None = None) -> Path:
    """The home asked for, else $GANSTUDY_HOME, else ``./runs``; absolute, not created."""
    return Path(home or os.environ.get("GANSTUDY_HOME") or "runs").expanduser().absolute()


def study_names(home: Path) -> list[str]:
    """Names of the studies under ``home``, sorted: the folders that hold a plan."""
    if not home.is_dir():
        return []
    return sorted(path.name for path in home.iterdir() if NAME.fullmatch(path.name) and (path / "plan.json").is_file())


def find_study(study: str, *, home: str | Path | None = None) -> StudyFolder:
    """The folder of a study that was begun under ``home``.

    Raises BadInput naming the nearest study when there is none of that name.
    """
    base = home_folder(home)
    names = study_names(base)
    if study in names:
        return StudyFolder(base, study)
    known = f"studies there: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "none was begun"
    raise BadInput(f"unknown study {study!r} under {base}{suggestion(study, names)} ({known})")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces ``path`` in one step: a reader sees the old bytes or the new ones, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def remove_torn(path: Path) -> None:
    """Removes what writers of ``path`` that were killed left beside it; for its only living writer."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Strict JSON (no NaN), keys as given, replaced atomically."""
    write_atomic(path, json_text(value))


def json_text(value: Mapping[str, object]) -> str:
    """What ``write_json`` writes."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, object]:
    """One JSON object from ``path``; WorkFailed names a file that cannot be read as such."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise WorkFailed(f"{path} cannot be read: {problem}") from problem
    if not isinstance(value, dict):
        raise WorkFailed(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who wrote the lock: ``alive`` means that the lock is held now."""

    host: str
    pid: int
    started: str
    alive: bool

    @property
    def text(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host}, started {self.started}"


def lock_holder(folder: StudyFolder) -> Holder | None:
    """The process that holds the study, or that died holding it (``alive=False``); None when it was released."""
    try:
        with folder.lock_file.open(encoding="utf-8") as file:
            alive = not _try_lock(file.fileno(), shared=True)
            written = json.loads(file.read() or "{}")
    except FileNotFoundError:
        return None
    except ValueError:  # caught between truncation and writing: somebody is taking it right now
        written = {}
    if not alive and not written:
        return None
    return Holder(
        host=str(written.get("host", "unknown host")),
        pid=int(written.get("pid", 0)),
        started=str(written.get("started", "just now")),
        alive=alive,
    )


@contextlib.contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Holds the study's lock; the kernel frees it when the process dies, whatever the cause.

    Raises WorkFailed naming the holder when another process has it, or where the home cannot be written.
    """
    with _lock_file(folder) as file:
        if not _lock_patiently(file.fileno()):
            holder = lock_holder(folder)
            raise WorkFailed(
                f"study {folder.study!r} is being run by {holder.text if holder else 'another process'}; "
                f"watch it with `ganstudy status {folder.study}`, end it with `ganstudy stop {folder.study}`"
            )
        with _writable(folder):
            file.truncate(0)
            record = {"host": socket.gethostname(), "pid": os.getpid(), "started": now()}
            os.write(file.fileno(), json.dumps(record).encode())  # a buffer would be tried again when it is closed
        for leftover in (*folder.root.glob(".*.tmp"), *folder.root.glob("cohorts/*/.*.tmp")):
            leftover.unlink(missing_ok=True)  # of writers that were killed: who holds the lock outlived them
        try:
            yield
        finally:
            file.truncate(0)  # released in peace; after a death the record stays and says whose it was


def _lock_file(folder: StudyFolder) -> TextIO:
    with _writable(folder):
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder.lock_file.open("a+", encoding="utf-8")


@contextlib.contextmanager
def _writable(folder: StudyFolder) -> Iterator[None]:
    """The lock is the first thing a command writes: what is wrong with the storage is said here, in one line."""
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise WorkFailed(
            f"{folder.root} cannot be written ({reason}): make room or get leave to write there, or name another --home"
        ) from problem


def now() -> str:
    """UTC to the second, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lock_patiently(descriptor: int) -> bool:
    """`status` probes the lock for a moment: a refusal needs more than one failed try."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while not _try_lock(descriptor, shared=False):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
