"""What early stopping knows of one cohort: its value at each rung, and where it was stopped (standard library only).

Written by the driver before Tune hears of the decision, so that neither a crash nor a retry can decide twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from study.errors import WorkFailed
from study.folder import StudyFolder, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """``values``: number of the evaluation -> value; ``stopped``: the evaluation at which the cohort ended early."""

    values: Mapping[int, float] = field(default_factory=dict)
    stopped: int | None = None

    def reached(self, evaluation: int, value: float, *, stop: bool) -> Rungs:
        """With one more rung."""
        return replace(self, values={**self.values, evaluation: value}, stopped=evaluation if stop else self.stopped)


def read_rungs(folder: StudyFolder, cohort: str) -> Rungs:
    """What is written of the cohort; nothing where it has reached no rung. WorkFailed names a damaged file."""
    path = folder.rungs_file(cohort)
    if not path.exists():
        return Rungs()
    content = read_json(path)
    try:
        values = {int(evaluation): float(value) for evaluation, value in content["rungs"]}  # type: ignore[attr-defined]
        stopped = content["stopped"]
        return Rungs(values=values, stopped=None if stopped is None else int(stopped))  # type: ignore[call-overload]
    except (KeyError, TypeError, ValueError) as problem:
        raise WorkFailed(f"{path} is damaged: {type(problem).__name__}: {problem}") from problem


def write_rungs(folder: StudyFolder, cohort: str, rungs: Rungs) -> None:
    """Replaces what is written of the cohort, durably."""
    reached = [[evaluation, value] for evaluation, value in sorted(rungs.values.items())]
    write_json(folder.rungs_file(cohort), {"rungs": reached, "stopped": rungs.stopped})


def was_stopped(folder: StudyFolder, cohort: str) -> bool:
    """Whether the scheduler ended the cohort before its horizon."""
    return read_rungs(folder, cohort).stopped is not None
