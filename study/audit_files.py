"""The audit's look at the disk: checkpoints, rows, leftovers (I5, I6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from study.audit_rules import Violation
from study.checkpoint import Checkpoint, newest_checkpoint
from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, lock_holder
from study.rungs import read_rungs
from trainers.program import evaluation_steps

if TYPE_CHECKING:
    from study.plan import Cohort, Configuration, Plan


@dataclass(frozen=True, kw_only=True)
class CohortFiles:
    """One cohort on disk: its newest valid checkpoint, whether it ended, and whether it failed."""

    checkpoint: Checkpoint | None
    history: pa.Table | None
    failed: bool
    stopped: bool = False

    @property
    def complete(self) -> bool:
        """Whether it trained to its horizon, or to the rung at which it was stopped."""
        return self.checkpoint is not None and (self.checkpoint.complete or self.stopped)


class FileAudit:
    """Reads every cohort once; ``cohorts`` keeps what the look at MLflow needs."""

    def __init__(self, folder: StudyFolder, plan: Plan, *, running: bool, checked: dict[str, int]) -> None:
        self._folder, self._plan, self._running, self._checked = folder, plan, running, checked
        self.cohorts: dict[str, CohortFiles] = {}

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong on disk."""
        self._checked |= {"cohorts": 0, "replicates": 0, "rows": 0}
        for cohort in self._plan.cohorts:
            yield from self._cohort(cohort)
        yield from self._spec()
        if not self._running:
            yield from self._leftovers()

    def _cohort(self, cohort: Cohort) -> Iterator[Violation]:
        found = newest_checkpoint(self._folder.cohort(cohort.cohort), older=True)
        for line in found.damaged:
            yield Violation(invariant="I6", subject=cohort.cohort, text=f"damaged checkpoint {line}")
        history = found.checkpoint.history() if found.checkpoint else None
        failed = self._folder.failure_file(cohort.cohort).exists()
        rungs = read_rungs(self._folder, cohort.cohort)
        held = self.cohorts[cohort.cohort] = CohortFiles(
            checkpoint=found.checkpoint, history=history, failed=failed, stopped=rungs.stopped is not None
        )
        self._checked["cohorts"] += 1
        if history is not None and found.checkpoint is not None:
            yield from self._rows(cohort, history, evaluations=found.checkpoint.evaluations_done)
        if rungs.stopped is not None and (
            found.checkpoint is None or found.checkpoint.evaluations_done != rungs.stopped + 1
        ):
            text = f"was stopped at evaluation {rungs.stopped}, its checkpoint is of another"
            yield Violation(invariant="I5", subject=cohort.cohort, text=text)
        if held.complete and failed:
            yield Violation(invariant="I6", subject=cohort.cohort, text="is complete and yet has a failure.json")

    def _rows(self, cohort: Cohort, history: pa.Table, *, evaluations: int) -> Iterator[Violation]:
        self._checked["rows"] += len(history)
        members = set(cohort.members)
        names = ("configuration_key", "replicate", "seed", "evaluation", "generator_step", "finite")
        columns = {name: history[name].to_numpy() for name in names}
        places: dict[tuple[str, int], list[int]] = {}
        for place, member in enumerate(zip(columns["configuration_key"], columns["replicate"], strict=True)):
            places.setdefault((str(member[0]), int(member[1])), []).append(place)
        for stranger in sorted(places.keys() - members):
            yield Violation(invariant="I5", subject=cohort.cohort, text=f"holds rows of {stranger}, no member of it")
        for key, replicate in cohort.members:
            self._checked["replicates"] += 1
            own = np.array(places.get((key, replicate), ()), dtype=np.intp)
            rows = {name: column[own] for name, column in columns.items()}
            problem = replicate_problem(rows, self._plan.by_key[key], replicate, evaluations=evaluations)
            if problem:
                yield Violation(invariant="I5", subject=f"{key} replicate {replicate}", text=problem)

    def _spec(self) -> Iterator[Violation]:
        from study.spec import StudySpec

        try:
            found = StudySpec.from_file(self._folder.spec_file, import_code=False).spec_hash
        except (BadInput, WorkFailed, OSError) as problem:
            first = str(problem).splitlines()[0]
            yield Violation(invariant="I6", subject="spec.yaml", text=f"cannot be read: {first}")
            return
        if found != self._plan.spec_hash:
            text = f"has the hash {found}, the plan was made from {self._plan.spec_hash}"
            yield Violation(invariant="I6", subject="spec.yaml", text=text)

    def _leftovers(self) -> Iterator[Violation]:
        for path in sorted(self._folder.root.rglob("*")):
            if _is_temporary(path) and self._folder.tune not in path.parents:
                yield Violation(invariant="I6", subject=str(path.relative_to(self._folder.root)), text="is a leftover")
        holder = lock_holder(self._folder)
        if holder is not None:
            yield Violation(invariant="I6", subject="lock", text=f"{holder.text} died holding it: resume, or status")


def replicate_problem(
    rows: Mapping[str, NDArray[Any]], configuration: Configuration, replicate: int, *, evaluations: int
) -> str:
    """What is wrong with a replicate's rows after so many ``evaluations``; empty where nothing is."""
    return next(_problems(rows, configuration, configuration.seeds[replicate], evaluations=evaluations), "")


def _problems(
    rows: Mapping[str, NDArray[Any]], configuration: Configuration, seed: int, *, evaluations: int
) -> Iterator[str]:
    program = configuration.program()
    steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    finite, order = rows["finite"].astype(bool), rows["evaluation"]
    living, reached = int(finite.sum()), rows["generator_step"]
    if not len(order):
        yield f"has no rows after {evaluations} evaluations"
    elif (rows["seed"] != seed).any():
        yield f"has the seed {rows['seed'][0]}, planned was {seed}"
    elif not np.array_equal(order, np.arange(len(order))):
        yield f"has the evaluations {order.tolist()[:12]}, each must be there once and in order"
    elif not finite[:-1].all():
        yield "goes on after its death"
    elif not np.array_equal(reached[:living], steps[:living]):
        yield f"was evaluated at generator steps {reached[:living].tolist()[:12]}, planned otherwise"
    elif finite.all() and living != evaluations:
        yield f"has {living} evaluations, its cohort {evaluations}"


def _is_temporary(path: Path) -> bool:
    return path.name.endswith(".tmp") or path.name.startswith(".tmp-")
