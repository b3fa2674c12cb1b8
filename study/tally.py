"""How far each cohort of a study is and how its replicates ended, from the files alone: no Ray, no pickles."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import WorkFailed
from study.folder import StudyFolder, read_json, write_json
from study.rungs import was_stopped
from study.verdicts import Verdicts

if TYPE_CHECKING:
    from study.checkpoint import Checkpoint
    from study.objective import Objective
    from study.outcomes import Criteria
    from study.plan import Plan

Fingerprint = list[list[Any]]
"""Name, size and time of change (ns) of every file of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CohortState:
    """One cohort's place: generator step of its newest valid checkpoint (0 without), whether it ended, why it failed.

    ``outcomes``: outcome -> replicates, where the cohort ended or failed and it was asked for.
    """

    generator_step: int
    complete: bool
    problem: str
    outcomes: Counter[str]


def read_plan(folder: StudyFolder) -> Plan:
    """The frozen plan, its data where the last launch found them; WorkFailed when its file is damaged."""
    from study.data_files import located
    from study.plan import Plan

    launched = read_json(folder.launch_file) if folder.launch_file.exists() else {}
    try:
        return located(Plan.from_json(read_json(folder.plan_file)), launched.get("data_folder"))
    except ValueError as problem:
        raise WorkFailed(f"{folder.plan_file}: {problem}") from problem


@dataclass(kw_only=True)
class Tally:
    """Looks at cohorts of the ``plan``, which may grow; ``newest_checkpoint`` is the authority on what is valid.

    It reads and hashes whole checkpoints, and judging takes longer still. So what was found of a complete cohort is
    noted beside its checkpoints, together with their Fingerprint, and believed for as long as the files stay untouched:
    `status` of a finished study looks at names, sizes and times only. A resume looks at every byte.
    """

    folder: StudyFolder
    plan: Plan
    verdicts: Verdicts = field(default_factory=Verdicts)

    @cached_property
    def _criteria(self) -> Criteria:
        from study.spec import StudySpec

        return StudySpec.from_file(self.folder.spec_file, import_code=False).criteria

    @cached_property
    def _references(self) -> Mapping[str, Any]:
        from study.reference import read_references

        return read_references(self.folder)

    def state(self, cohort: str, *, outcomes: bool = True) -> CohortState:
        """Where a cohort is; ``outcomes=False`` spares judging one that nobody judged yet."""
        from study.checkpoint import newest_checkpoint

        problem = self._problem(cohort)
        noted = self._noted(cohort)
        if noted is not None and not problem:
            return CohortState(generator_step=noted[0], complete=True, problem="", outcomes=noted[1])
        found = newest_checkpoint(self.folder.cohort(cohort)).checkpoint
        complete = found is not None and (found.complete or was_stopped(self.folder, cohort))
        counted = self.judge(cohort, found, failed=bool(problem)) if outcomes else Counter[str]()
        return CohortState(
            generator_step=found.generator_step if found else 0,
            complete=complete,
            problem="" if complete else problem,
            outcomes=counted,
        )

    def judge(self, cohort: str, checkpoint: Checkpoint | None, *, failed: bool) -> Counter[str]:
        """Outcomes of an ended or failed cohort's replicates; empty while it is under way."""
        members = self.plan.by_cohort[cohort].members
        if checkpoint is None:
            return Counter({"failed": len(members)}) if failed else Counter()
        stopped = not checkpoint.complete and was_stopped(self.folder, cohort)
        if not (checkpoint.complete or stopped or failed):
            return Counter()
        judged = self.verdicts.of(
            checkpoint,
            members,
            self.plan.by_key,
            criteria=self._criteria,
            references=self._references,
            censored=stopped,
        )
        counted = Counter(outcome.outcome for outcome in judged.values())
        if checkpoint.complete or stopped:
            self._note(cohort, checkpoint, counted)
        return counted

    def value(self, cohort: str, objective: Objective) -> float | None:
        """What a search climbs, of an ended cohort that holds one configuration; None where it has no result."""
        from study.checkpoint import newest_checkpoint
        from study.values import cohort_value

        found = newest_checkpoint(self.folder.cohort(cohort)).checkpoint
        stopped = found is not None and not found.complete and was_stopped(self.folder, cohort)
        if found is None or not (found.complete or stopped):
            return None
        return cohort_value(
            found.history(),
            self.plan.by_cohort[cohort].members,
            self.plan.by_key,
            criteria=self._criteria,
            references=self._references,
            objective=objective,
            censored=stopped,
        )

    def _problem(self, cohort: str) -> str:
        failure = self.folder.failure_file(cohort)
        return str(read_json(failure).get("problem", "unknown problem")) if failure.exists() else ""

    def _note(self, cohort: str, checkpoint: Checkpoint, outcomes: Counter[str]) -> None:
        note = {
            "generator_step": checkpoint.generator_step,
            "criteria_hash": self.plan.criteria_hash,
            "outcomes": dict(outcomes),
            "files": _fingerprint(self.folder.cohort(cohort)),
        }
        with contextlib.suppress(OSError):  # a home that may only be read, a full disk: the next look takes longer
            write_json(self.folder.tally_file(cohort), note)

    def _noted(self, cohort: str) -> tuple[int, Counter[str]] | None:
        path = self.folder.tally_file(cohort)
        try:
            note: dict[str, Any] = read_json(path) if path.exists() else {}
            files = _fingerprint(self.folder.cohort(cohort))
            if note.get("files") != files or note.get("criteria_hash") != self.plan.criteria_hash:
                return None
            return int(note["generator_step"]), Counter(note["outcomes"])
        except (WorkFailed, OSError, KeyError, ValueError, TypeError):  # not what we wrote: look at the cohort itself
            return None


def _fingerprint(folder: Path) -> Fingerprint:
    found = [(path, path.stat()) for path in sorted(folder.glob("checkpoint-*/*"))]
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in found]
