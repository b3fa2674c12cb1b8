"""The launches of a study, and what launch.json remembers: the first launch, one more for each extension, attempts."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.canonical import digest
from study.folder import StudyFolder, now, read_json, write_json
from study.user_code import user_sources

if TYPE_CHECKING:
    from study.spec import StudySpec

_PACKAGES = ("ganstudy", "ray", "torch", "mlflow", "numpy")


def remembered(folder: StudyFolder) -> dict[str, Any]:
    """The content of launch.json; empty before the first attempt."""
    return read_json(folder.launch_file) if folder.launch_file.exists() else {}


def launch_id(folder: StudyFolder, number: int) -> str:
    """What names a launch in MLflow: the first one's is drawn, a later one's follows from it and its number.

    So nothing has to be remembered of a launch whose driver died before it said a word.
    """
    first = str(remembered(folder)["launch"])
    return first if number == 1 else digest(["launch", first, number], length=16)


def ran_offline(folder: StudyFolder) -> bool:
    """Whether the last attempt told MLflow nothing and nobody has sent its results since."""
    return bool(remembered(folder).get("offline"))


def remember_launch(folder: StudyFolder, *, number: int, purpose: str, command: str) -> None:
    """Notes what a later launch is for; told twice, it is noted once."""
    before = remembered(folder)
    first = {"number": 1, "launch": before["launch"], "purpose": "run", "begun": before.get("begun", "")}
    known: Sequence[dict[str, Any]] = before.get("launches") or [first]
    if any(entry["number"] == number for entry in known):
        return
    entry = {"number": number, "launch": launch_id(folder, number), "purpose": purpose, "command": command}
    write_json(folder.launch_file, {**before, "launches": [*known, {**entry, "begun": now()}]})


def next_record(
    folder: StudyFolder, spec: StudySpec, *, address: str | None, tracking_uri: str | None, offline: bool, command: str
) -> dict[str, Any]:
    """The content of launch.json for the next attempt: the study's launches stay, the attempt's number grows."""
    before = remembered(folder)
    own_code = code_folder(folder, spec)
    return {
        "schema": 1,
        "study": spec.study,
        "home": str(folder.home),
        "launch": before.get("launch") or secrets.token_hex(8),
        "attempt": int(before.get("attempt", 0)) + 1,
        "tracking_uri": store_uri(folder, tracking_uri),
        "address": address,
        "import_path": str(own_code),
        "code": user_sources(spec.operative, folder=own_code),
        "command": command,
        "begun": before.get("begun") or now(),
        "started": now(),
        "versions": _versions(),
        "offline": offline,
        **({"launches": before["launches"]} if "launches" in before else {}),
    }


def store_uri(folder: StudyFolder, asked: str | None) -> str:
    """The MLflow store that a study's results go to: as asked, as before, or as the environment says."""
    from study.mlflow_client import sqlite_uri

    known = remembered(folder).get("tracking_uri")
    return str(asked or known or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(folder.home))


def code_folder(folder: StudyFolder, spec: StudySpec) -> Path:
    """Where code named by import path may lie: beside the study file that was run, not beside our copy of it."""
    if spec.code_folder not in (None, folder.root):
        assert spec.code_folder is not None
        return spec.code_folder
    return Path(remembered(folder).get("import_path") or Path.cwd())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found
