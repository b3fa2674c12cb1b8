"""The files of a target that a user brings: where they lie, whether they are whole, and what of them is identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.problems import Problems, SpecError
from trainers.catalogue_images import IMAGE_SETS
from trainers.image_files import DataError, read_files

if TYPE_CHECKING:
    from study.plan import Plan

FOLDER, DATA = "folder", "data"


def without_folder(target: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a target: the data's own hash stays, the place where it lies goes."""
    if target.get("name") not in IMAGE_SETS:
        return dict(target)
    return {name: value for name, value in target.items() if name != FOLDER}


def with_data(target: Mapping[str, Any], *, beside: Path | None, problems: Problems) -> dict[str, Any]:
    """A valid target with its folder absolute and the identity of its files, after every file was read and checked.

    A relative folder is taken from ``beside``, the study file's own. Notes files that are missing, damaged, or others
    than those that ``data`` insists on.
    """
    name = str(target.get("name"))
    if name not in IMAGE_SETS:
        return dict(target)
    folder = Path(os.path.normpath((beside or Path.cwd()) / Path(str(target[FOLDER])).expanduser()))
    try:
        _, identity = read_files(name, folder, contents=str(target["contents"]))
    except DataError as error:
        for line in error.problems:
            problems.add(("target", FOLDER), line)
        return dict(target)
    if target.get(DATA, identity) != identity:
        problems.add(
            ("target", DATA), f"is not the identity of the files in {folder}, which is {identity}", target[DATA]
        )
    return {**target, FOLDER: str(folder), DATA: identity}


def require_data(target: Mapping[str, Any]) -> None:
    """Raises SpecError where the files of a study that was begun are no longer there, or no longer the same."""
    problems = Problems()
    with_data(target, beside=None, problems=problems)
    if problems.under(()):
        problems.add(
            ("target", FOLDER), "if they lie elsewhere now: run the study file again with --set target.folder=..."
        )
    problems.raise_if_any()


def require_absolute(target: Mapping[str, Any]) -> None:
    """Raises SpecError for a relative folder in a study that is submitted: its file goes to the cluster alone."""
    folder = target.get(FOLDER)
    if target.get("name") in IMAGE_SETS and not Path(str(folder)).is_absolute():
        raise SpecError(
            [f"target.{FOLDER}: must be an absolute path that every node of the cluster knows, got {folder!r}"]
        )


def located(plan: Plan, folder: object) -> Plan:
    """The plan with its data in ``folder``: plan.json says what the data are, launch.json where they lie."""
    if not folder:
        return plan
    entries = tuple(
        replace(entry, target={**entry.target, FOLDER: folder}) if entry.target.get("name") in IMAGE_SETS else entry
        for entry in plan.configurations
    )
    return replace(plan, configurations=entries)
