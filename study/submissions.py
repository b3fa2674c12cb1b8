"""Which cluster a study was handed to from this machine, so that ``status STUDY`` finds it again (standard library)."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from study.errors import WorkFailed
from study.folder import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Handed:
    """A study, the job server it was submitted to, and its home there."""

    study: str
    address: str
    home: str


def remember(handed: Handed) -> None:
    """Notes where a study went; the newest submission of a name stands."""
    known = _read()
    known[handed.study] = asdict(handed)
    write_json(_file(), dict(sorted(known.items())))


def recall(study: str) -> Handed | None:
    """Where a study was submitted to from here; None where it never was."""
    found = _read().get(study)
    if not isinstance(found, dict):
        return None
    return Handed(study=study, address=str(found.get("address", "")), home=str(found.get("home", "")))


def _file() -> Path:
    """``$XDG_STATE_HOME/ganstudy/submissions.json``: it belongs to the person, not to a folder of studies."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "ganstudy" / "submissions.json"


def _read() -> dict[str, object]:
    try:
        return read_json(_file()) if _file().exists() else {}
    except WorkFailed:  # a convenience: a damaged note is as good as none
        return {}
