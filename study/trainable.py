"""The Ray Tune trainable: one cohort from its newest checkpoint to its end, through trainers.loop."""

from __future__ import annotations

import functools
import json
import os
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from study.checkpoint import newest_checkpoint, write_checkpoint
from study.data_files import located
from study.environment import Environment, environment, joined
from study.folder import StudyFolder, remove_torn, write_atomic, write_json
from study.history import History
from study.plan import Cohort as PlannedCohort
from study.plan import Plan
from study.ray_doorway import this_node_is_leaving
from study.reference import read_references
from study.spec import StudySpec
from study.values import value_at_rung
from trainers import native
from trainers.cohort import Cohort
from trainers.evaluation import Judge
from trainers.footprint import members_at_once
from trainers.loop import train

if TYPE_CHECKING:
    from study.checkpoint import Checkpoint
    from study.plan import Configuration

POLL_EVERY_S = 0.5
REPORT_EVERY_S = 0.5
NOTICE_EVERY_S = 5.0
"""How often a trial asks whether its machine is leaving: clouds give at least 30 s, and the head has many to answer."""

Report = Callable[[dict[str, float]], None]


@dataclass
class Watch:
    """Decides, between two updates, whether the loop should pause: superseded, asked to stop, its machine leaving,
    or a checkpoint due.

    Looks at the disk at most every POLL_EVERY_S seconds, since a shared file system may be slow.
    """

    folder: StudyFolder
    attempt: int
    checkpoint_every_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    leaving: Callable[[], bool] = lambda: False
    pause: str = ""
    _saved_at: float = field(init=False)
    _polled_at: float = field(init=False, default=float("-inf"))
    _asked_at: float = field(init=False)
    _claimed: tuple[Path, str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._saved_at = self._asked_at = self.clock()

    def __call__(self) -> bool:
        """Whether to pause now; ``pause`` then says why: superseded, stop, leaving or checkpoint."""
        now = self.clock()
        if not self.pause and now - self._polled_at >= POLL_EVERY_S:
            self._polled_at = now
            self.pause = self._reason(now)
        return bool(self.pause)

    def claim(self, cohort: str) -> None:
        """Makes this process the cohort's one writer: a hung machine may come back after Ray gave its trials away."""
        claim = self.folder.writer_file(cohort), f"{self.attempt} {secrets.token_hex(8)}"
        remove_torn(claim[0])  # of a process that was killed at this very place
        write_atomic(*claim)
        self._claimed = claim

    def superseded(self) -> bool:
        """Whether a newer attempt, or a newer process of this one, trains here: this one must not write any more."""
        if self.folder.attempt() > self.attempt:
            return True
        return self._claimed is not None and self._claimed[0].read_text(encoding="utf-8") != self._claimed[1]

    def saved(self) -> None:
        """Starts the clock of the next checkpoint."""
        self._saved_at, self.pause = self.clock(), ""

    def due(self) -> bool:
        """Whether the last checkpoint is old enough to write one at an evaluation, where the row is fresh."""
        return self.clock() - self._saved_at >= self.checkpoint_every_s / 2

    def _reason(self, now: float) -> str:
        if self.superseded():
            return "superseded"
        if self.folder.stop_reason() is not None:
            return "stop"
        if now - self._asked_at >= NOTICE_EVERY_S:
            self._asked_at = now
            if self.leaving():
                return "leaving"
        return "checkpoint" if now - self._saved_at >= self.checkpoint_every_s else ""


@dataclass
class CohortRun:
    """One cohort in this process: its training state, its history, and where both are kept.

    ``at_once``: how many of its members the device's memory holds at a time, all unless given.
    """

    folder: StudyFolder
    planned: PlannedCohort
    cohort: Cohort
    history: History
    watch: Watch
    environments: tuple[Environment, ...] = ()
    saved_step: int = -1
    at_once: int | None = None

    def save(self, *, complete: bool) -> None:
        """Writes state and history together, unless a newer attempt owns the study."""
        if self.watch.superseded():
            self.watch.pause = "superseded"
            return
        write_checkpoint(
            self.folder.cohort(self.planned.cohort),
            generator_step=self.cohort.generator_step,
            evaluations_done=self.cohort.evaluations_done,
            complete=complete,
            state=self.cohort.state(),
            history=self.history.table(),
            samples=self.history.samples_table(),
            attempt=self.watch.attempt,
            environments=self.environments,
        )
        self.saved_step = self.cohort.generator_step
        self.watch.saved()


def trainable(config: Mapping[str, Any]) -> None:
    """Trains ``config["cohort"]`` of the study in ``config["folder"]`` (home) to its end or until asked to stop.

    A Python error would come back at every retry, so it is recorded in failure.json instead of raised;
    Tune's retries are left to what kills processes. A process whose machine is leaving ends itself once its checkpoint
    is written, so that the cohort goes on elsewhere at once; Ray knows why, and does not count it as a failure.
    """
    from ray import tune

    folder = StudyFolder(Path(config["home"]), config["study"])
    watch = Watch(
        folder, config["attempt"], checkpoint_every_s=config["checkpoint_every_s"], leaving=this_node_is_leaving
    )
    paused = ""
    try:
        paused = run_cohort(
            folder,
            cohort=config["cohort"],
            watch=watch,
            device=prepare_device(config),
            gpus=config["gpus"],
            import_path=config["import_path"],
            data_folder=config["data_folder"],
            report=tune.report,
            rungs=config["rungs"],
        )
    except Exception as problem:
        if watch.superseded():  # the newer writer took away what this one was writing
            return
        record_failure(folder, config["cohort"], attempt=config["attempt"], problem=problem)
        tune.report({"failed": 1.0})
    if paused == "leaving":
        os._exit(0)


def record_failure(folder: StudyFolder, cohort: str, *, attempt: int, problem: BaseException) -> None:
    """Writes failure.json: what failed, in which attempt, with the traceback."""
    text = "".join(traceback.format_exception(problem))
    summary = f"{type(problem).__name__}: {problem}".strip()
    write_json(folder.failure_file(cohort), {"attempt": attempt, "problem": summary, "traceback": text})


def prepare_device(config: Mapping[str, Any]) -> str:
    """Sets this process's threads, kernels and GPU share; ``auto`` is cuda exactly where Ray gave the trial a GPU."""
    import ray

    torch.set_num_threads(max(1, int(config["cpus"])))
    native.use(config["kernels"])
    device = str(config["device"])
    if device == "auto":
        device = "cuda" if ray.get_gpu_ids() else "cpu"
    if device.startswith("cuda") and 0 < config["gpus"] < 1:
        # Ray's fractions are bookkeeping only: the cap keeps one trial from taking its neighbours' memory
        torch.cuda.set_per_process_memory_fraction(float(config["gpus"]))
    return device


def gpu_room_bytes(gpus: float) -> int:
    """What this process may take of its GPU's memory: what is free, and no more than its share where it has one."""
    free, total = torch.cuda.mem_get_info()
    return min(free, int(gpus * total)) if 0 < gpus < 1 else free


def frozen_plan(folder: StudyFolder) -> Plan:
    """The plan as its file says now, which may have grown; parsed once per process, since one trains many cohorts.

    2,000 configurations take 27 ms to parse: more than all else that Tune does for a trial.
    """
    stat = folder.plan_file.stat()
    return _parsed(folder.plan_file, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, stamp: tuple[int, int, int]) -> Plan:
    return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))


def run_cohort(
    folder: StudyFolder,
    *,
    cohort: str,
    watch: Watch,
    device: str,
    import_path: str | None,
    report: Report,
    rungs: Sequence[int] = (),
    data_folder: str | None = None,
    gpus: float = 1.0,
) -> str:
    """Restores or starts the cohort and trains it until it ends; returns why it paused for good before that, or "".

    ``rungs``: numbers of the evaluations at which a scheduler may end it early; ``report`` returns if it does not.
    ``gpus``: the trial's share of a GPU. A cohort too large for the memory of its share trains in parts.
    """
    if import_path and import_path not in sys.path:
        sys.path.append(import_path)
    plan = located(frozen_plan(folder), data_folder)
    planned = plan.by_cohort[cohort]
    watch.claim(cohort)
    found = newest_checkpoint(folder.cohort(cohort)).checkpoint
    if found is not None and found.complete:
        report({"complete": 1.0, "checkpointed_step": found.generator_step})
        return ""
    configurations = plan.by_key
    room_bytes = gpu_room_bytes(gpus) if device.startswith("cuda") else None
    run = open_cohort(folder, configurations, planned, found, device=device, watch=watch, room_bytes=room_bytes)
    target_id = configurations[planned.members[0][0]].target_id
    judge = Judge.load(folder.judge_file(target_id), device=device)
    climb = Climb(folder, plan, run, report, frozenset(rungs))
    if found is not None:
        climb.arrived(run.cohort.evaluations_done - 1, alive=int(run.cohort.alive[: run.cohort.size].sum()))
    return drive(run, judge, pace=Pace(report), climb=climb)


def open_cohort(
    folder: StudyFolder,
    configurations: Mapping[str, Configuration],
    planned: PlannedCohort,
    found: Checkpoint | None,
    *,
    device: str,
    watch: Watch,
    room_bytes: int | None = None,
) -> CohortRun:
    """The cohort as its newest valid checkpoint left it, or new.

    ``room_bytes`` is what it may take of the device's memory, where that is limited: it then trains in parts, or is
    refused (CohortTooLargeError) before anything of it is there.
    """
    members = [configurations[key].member(replicate) for key, replicate in planned.members]
    program = configurations[planned.members[0][0]].program()
    at_once = None if room_bytes is None else members_at_once(program, len(members), room_bytes=room_bytes)
    rows = [(key, replicate, member.seed) for (key, replicate), member in zip(planned.members, members, strict=True)]
    if found is None:
        cohort = Cohort.start(program, members, device=device)
        history = History(
            rows,
            k=program.k,
            batch_size=program.batch_size,
            groups=program.measurements,
            updates=program.updates,
        )
    else:
        cohort = Cohort.restore(program, members, found.state(), device=device)
        history = History.restore(
            rows,
            k=program.k,
            batch_size=program.batch_size,
            history=found.history(),
            samples=found.samples(),
            groups=program.measurements,
            updates=program.updates,
        )
    known = joined(() if found is None else found.environments, environment(device))
    return CohortRun(folder, planned, cohort, history, watch, environments=known, at_once=at_once)


def drive(run: CohortRun, judge: Judge, *, pace: Pace, climb: Climb) -> str:
    """Trains to the end, pausing to write checkpoints; returns "", or why it ended early: ``Watch.pause``."""
    while True:
        for evaluation in train(run.cohort, judge, should_stop=run.watch, at_once=run.at_once):
            run.history.append(evaluation, measured_at_ms=time.time_ns() // 1_000_000)
            alive = int(evaluation.finite.sum())
            if run.watch.due() or evaluation.index in climb.rungs:
                run.save(complete=False)
            pace.evaluated(run, alive=alive)
            climb.arrived(evaluation.index, alive=alive)
        pause = run.watch.pause
        run.save(complete=not pause)
        pace.saved(run, complete=not pause)
        if pause != "checkpoint":
            return pause


@dataclass(frozen=True)
class Climb:
    """Tells the scheduler how good the cohort is at each of its rungs, once a checkpoint stands there."""

    folder: StudyFolder
    plan: Plan
    run: CohortRun
    report: Report
    rungs: frozenset[int]

    def arrived(self, evaluation: int, *, alive: int) -> None:
        """Waits for the scheduler at a rung, which ends the process there if the cohort is to go no further.

        After a crash it may be told twice; the first decision stands.
        """
        if evaluation not in self.rungs or self.run.watch.pause == "superseded":
            return
        value = value_at_rung(
            self.run.history.table(),
            self.run.planned.members,
            self.plan.by_key,
            criteria=StudySpec.from_file(self.folder.spec_file, import_code=False).criteria,
            references=read_references(self.folder),
        )
        self.report({"rung": float(evaluation), "rung_value": value, "alive": float(alive)})


@dataclass
class Pace:
    """Tells Ray Tune how far the cohort is, at most every REPORT_EVERY_S seconds: a report costs milliseconds."""

    report: Report
    clock: Callable[[], float] = time.monotonic
    alive: int = -1
    _reported_at: float = field(init=False, default=float("-inf"))

    def evaluated(self, run: CohortRun, *, alive: int) -> None:
        """After an evaluation."""
        self.alive = alive
        if self.clock() - self._reported_at >= REPORT_EVERY_S:
            self._send(run)

    def saved(self, run: CohortRun, *, complete: bool) -> None:
        """After a checkpoint: always told, since MLflow receives what checkpoints hold."""
        self._send(run, complete=float(complete))

    def _send(self, run: CohortRun, **more: float) -> None:
        self._reported_at = self.clock()
        self.report(
            {
                "generator_step": float(run.cohort.generator_step),
                "evaluations_done": float(run.cohort.evaluations_done),
                "members": float(len(run.planned.members)),
                "alive": float(self.alive),
                "checkpointed_step": float(run.saved_step),
                **more,
            }
        )
