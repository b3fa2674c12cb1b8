"""The one MLflow writer: finds or makes the runs of a study and sends them what the newest checkpoints hold."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute

from study.background import BackgroundTracker
from study.checkpoint import Checkpoint, newest_checkpoint
from study.environment import environment_tags
from study.errors import WorkFailed
from study.folder import StudyFolder, json_text
from study.mlflow_client import PARENT_RUN, MlflowStore, now_ms, sqlite_uri
from study.results import (
    Ended,
    Part,
    configuration_yaml,
    ended_replicates,
    name_in,
    results_beside,
    rows_of,
    sheets,
    shows_images,
)
from study.rungs import was_stopped
from study.summary import Point, curve, outcome_fractions
from study.verdicts import Verdicts
from trainers.program import evaluation_steps

if TYPE_CHECKING:
    from mlflow.entities import Run

    from study.outcomes import Criteria
    from study.plan import Configuration, Plan

__all__ = ["BackgroundTracker", "Tracker", "sqlite_uri"]

KIND, STUDY, LAUNCH, KEY, STUDY_RUN = (
    "ganstudy.kind",
    "ganstudy.study",
    "ganstudy.launch",
    "ganstudy.configuration_key",
    "ganstudy.study_run",
)
PHASE = "ganstudy.phase"
"""explore or confirm, in a study with a protocol."""
CENSORED = "ganstudy.censored_at"
"""The generator step at which the scheduler stopped a configuration."""
SENT_MARK = "finite_fraction"


class Tracker:
    """Writes one launch of a study to MLflow. Each call may be repeated, also by another process: nothing doubles.

    It keeps no spool of its own: the checkpoints hold all that MLflow has not received yet. Calls raise what MLflow
    raises; ``BackgroundTracker`` is the form that never does. FINISHED is set last and means that all is sent.
    ``number`` counts the study's launches from 1: it writes that launch's cohorts, and the replicates in them alone;
    ``phase`` is what a study with a protocol tags it with; ``verdicts`` are shared with whoever counts outcomes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        plan: Plan,
        tracking_uri: str,
        artifact_location: str | None,
        replicate_runs: bool,
        criteria: Criteria,
        reference: Mapping[str, Mapping[str, Any]],
        number: int = 1,
        phase: str = "",
        verdicts: Verdicts | None = None,
    ) -> None:
        self._folder = StudyFolder(folder.parent, folder.name)
        self._number, self._phase = number, phase
        self._uri, self._artifact_location = tracking_uri, artifact_location
        self._replicate_runs, self._criteria, self._reference = replicate_runs, criteria, reference
        self._verdicts = verdicts or Verdicts()
        self._take(plan)
        self._connection: MlflowStore | None = None
        self._experiment_id = ""
        self._study: Run | None = None
        self._runs: dict[str, Run] = {}
        self._sent: dict[str, set[int]] = {}
        self._finished: set[str] = set()
        self._ended: dict[str, bool] = {}
        self._pictured: dict[str, set[str]] = {}
        self.delivered = 0  # parts of configurations so far: while it grows, waiting is worth while

    @property
    def tracking_uri(self) -> str:
        """Where it writes."""
        return self._uri

    def open(self, *, launch: str) -> str:
        """Opens the experiment and the launch's parent run, RUNNING, with the study's files; returns its run id.

        Only for the holder of the study's lock: configurations of this launch that still say RUNNING are set to KILLED.
        Raises WorkFailed, in one line, where MLflow cannot be used or a file of the study is missing.
        """
        missing = [path.name for path in self._study_files() if not path.exists()]
        if missing:
            raise WorkFailed(f"{self._folder.root} lacks {', '.join(missing)}: nothing to open in MLflow yet")
        with self._store.readable_failures():
            identity = {KIND: "study", LAUNCH: launch}
            self._study = self._store.find_or_create(
                self._experiment, identity, tags=self._common_tags(), name=self._plan.study, began=now_ms
            )
            self._store.set_tags(self._study_run, self._common_tags())
            self._upload_study_files()
            self._store.reopen(self._study)
            self._kill_running(self._study_run)
        return self._study_run

    def grow(self, plan: Plan) -> None:
        """Knows from now on what ``plan`` has more of this launch, and gives its study run the new plan.json.

        A plan that it has outgrown changes nothing: work that failed is tried again later.
        """
        if len(plan.cohorts) >= len(self._plan.cohorts):
            self._take(plan)
        if self._study is not None:
            self._upload_plan()

    def start(self, cohort: str) -> None:
        """The runs of the cohort's configurations exist and are RUNNING (those already FINISHED stay so)."""
        self._ended.pop(cohort, None)
        for key in self._pending(cohort):
            self._store.reopen(self._run(key))

    def send(self, cohort: str) -> None:
        """Sends what the cohort's newest valid checkpoint holds and MLflow has not.

        A configuration that is split over cohorts is left until all its parts ended: its quantiles need them all.
        """
        whole = [key for key in self._pending(cohort) if len(self._parts[key]) == 1]
        checkpoint = self._checkpoint(cohort) if whole else None
        if checkpoint is not None:
            history = checkpoint.history()
            for key in whole:
                self._send_curve(self._configurations[key], rows_of(history, key))
            if shows_images(self._configurations[whole[0]]):
                samples = checkpoint.samples()
                for key in whole:
                    self._send_sheets(self._configurations[key], rows_of(samples, key))

    def finish(self, cohort: str, *, failed: bool) -> None:
        """Sends the rest and closes each configuration of which every part ended: FINISHED, or FAILED if any failed."""
        self._ended[cohort] = failed
        read: dict[str, Checkpoint | None] = {}
        for key in self._pending(cohort):
            names = self._parts[key]
            read |= {name: self._checkpoint(name) for name in names if name not in read}
            parts = [self._ended_part(name, read[name]) for name in names]
            ended = [part for part in parts if part is not None]
            if len(ended) == len(parts):
                self._conclude(self._configurations[key], ended)

    def sync(self) -> None:
        """Everything again from the disk, for every cohort that left something there."""
        for cohort in self._cohorts:
            folder, failed = self._folder.cohort(cohort), self._folder.failure_file(cohort).exists()
            if not failed and not any(folder.glob("checkpoint-*")):
                continue
            checkpoint = self._checkpoint(cohort) if self._pending(cohort) else None
            if failed or self._has_ended(cohort, checkpoint):
                self.finish(cohort, failed=failed)
            else:
                self.send(cohort)

    def close(self, status: str) -> None:
        """Gives the parent its final status; configurations that are still RUNNING were KILLED."""
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise ValueError(f"status must be FINISHED, FAILED or KILLED, got {status!r}")
        self._kill_running(self._study_run)
        self._store.end(self._opened, status)

    def reconcile(self, *, launch: str) -> int:
        """Sets the runs of this launch to KILLED that say RUNNING though nobody runs them; returns how many.

        Only for the holder of the study's lock, so that no owner lives. Another launch's runs may be somebody else's:
        a server is shared, and names of studies are not unique on it.
        """
        with self.readable_failures():
            parents = self._store.find(self._experiment, {KIND: "study", LAUNCH: launch})
            killed = sum(self._kill_running(parent.info.run_id) for parent in parents)
            running = [parent for parent in parents if parent.info.status == "RUNNING"]
            for parent in running:
                self._store.end(parent, "KILLED")
        return killed + len(running)

    def readable_failures(self) -> AbstractContextManager[None]:
        """Raises WorkFailed with one line where MLflow would end a command with a traceback."""
        return self._store.readable_failures()

    @property
    def _store(self) -> MlflowStore:
        if self._connection is None:
            self._connection = MlflowStore(self._uri)
        return self._connection

    @property
    def _experiment(self) -> str:
        if not self._experiment_id:
            self._experiment_id = self._store.experiment(self._plan.study, artifact_location=self._artifact_location)
        return self._experiment_id

    @property
    def _opened(self) -> Run:
        if self._study is None:
            raise RuntimeError("the tracker must be opened before it writes")
        return self._study

    @property
    def _study_run(self) -> str:
        return str(self._opened.info.run_id)

    def _take(self, plan: Plan) -> None:
        """What this launch trains, and the plan as it is at its end: later launches are not its affair."""
        self._plan, own = plan.until(self._number), plan.of_launch(self._number)
        self._own, self._configurations = own, own.by_key
        self._cohorts = {entry.cohort: list(dict.fromkeys(key for key, _ in entry.members)) for entry in own.cohorts}
        self._parts: dict[str, list[str]] = {}
        for cohort, keys in self._cohorts.items():
            for key in keys:
                self._parts.setdefault(key, []).append(cohort)

    def _study_files(self) -> tuple[Path, ...]:
        return self._folder.launch_spec_file(self._number), self._folder.plan_file, self._folder.reference_file

    def _upload_study_files(self) -> None:
        spec, _, reference = self._study_files()
        self._store.upload_text(self._study_run, self._folder.spec_file.name, spec.read_text(encoding="utf-8"))
        self._upload_plan()
        self._store.upload(self._study_run, reference)
        if self._own.phases:
            self._store.upload(self._study_run, self._folder.selection_file)

    def _upload_plan(self) -> None:
        text = json_text(self._plan.to_json())
        self._store.upload_text(self._study_run, self._folder.plan_file.name, text)

    def _common_tags(self) -> dict[str, str]:
        return {
            STUDY: self._plan.study,
            "ganstudy.spec_hash": self._plan.spec_hash,
            "ganstudy.criteria_hash": self._plan.criteria_hash,
            **({PHASE: self._phase} if self._phase else {}),
        }

    def _pending(self, cohort: str) -> list[str]:
        """The cohort's configurations that MLflow has not seen FINISHED; their runs exist afterwards."""
        for key in self._cohorts[cohort]:
            if key not in self._finished:
                self._run(key)
        return [key for key in self._cohorts[cohort] if key not in self._finished]

    def _checkpoint(self, cohort: str) -> Checkpoint | None:
        return newest_checkpoint(self._folder.cohort(cohort)).checkpoint

    def _has_ended(self, cohort: str, checkpoint: Checkpoint | None) -> bool:
        """Whether it trained to its horizon, or to the rung at which it was stopped."""
        return checkpoint is not None and (checkpoint.complete or was_stopped(self._folder, cohort))

    def _ended_part(self, cohort: str, checkpoint: Checkpoint | None) -> Part | None:
        """How a cohort ended, perhaps under an earlier process; None while it has not."""
        if cohort not in self._ended and not self._has_ended(cohort, checkpoint):
            return None
        return Part(checkpoint=checkpoint, failed=self._ended.get(cohort, False))

    def _run(self, key: str) -> Run:
        """The one run of a configuration in this launch; looked up once per process."""
        if key not in self._runs:
            configuration = self._configurations[key]
            identity = {KIND: "configuration", KEY: key, PARENT_RUN: self._study_run}
            run = self._store.find_or_create(
                self._experiment,
                identity,
                tags=self._common_tags() | {STUDY_RUN: self._study_run},
                name=name_in(self._plan, configuration),
                began=lambda: self._first_measured_ms(key),
            )
            if run.info.status == "FINISHED":
                self._finished.add(key)
            elif not run.data.params:  # last, so that it says that the rest is there
                text = configuration_yaml(configuration, self._own.replicates_of(key))
                self._store.upload_text(run.info.run_id, "configuration.yaml", text)
                self._store.log_params(run.info.run_id, configuration.params())
            self._runs[key] = run
        return self._runs[key]

    def _first_measured_ms(self, key: str) -> int:
        """A run made after the fact began when its first row was measured."""
        checkpoints = [self._checkpoint(part) for part in self._parts[key]]
        first = [compute.min(found.history()["measured_at_ms"]).as_py() for found in checkpoints if found]
        return min((one for one in first if one is not None), default=now_ms())

    def _send_curve(self, configuration: Configuration, rows: pa.Table) -> None:
        run_id = self._run(configuration.configuration_key).info.run_id
        if run_id not in self._sent:
            self._sent[run_id] = self._store.logged_steps(run_id, SENT_MARK)
        program = configuration.program()
        steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
        points = curve(rows, steps=steps, skip=self._sent[run_id])
        self._store.log_points(run_id, points)
        self._sent[run_id] |= {point.generator_step for point in points}
        self.delivered += 1

    def _send_sheets(self, configuration: Configuration, samples: pa.Table) -> None:
        """Pictures of image samples at the kept steps reached since the last time, for who watches a long run."""
        key = configuration.configuration_key
        sent = self._pictured.setdefault(key, set())
        new = sheets(configuration, samples, without=sent)
        with tempfile.TemporaryDirectory(prefix="ganstudy-") as folder:
            for name, png in new.items():
                (Path(folder) / name).write_bytes(png)
            if new:
                self._store.upload(self._run(key).info.run_id, Path(folder), to="samples")
        sent.update(new)

    def _conclude(self, configuration: Configuration, parts: list[Part]) -> None:
        run = self._run(configuration.configuration_key)
        failed = any(part.failed for part in parts)
        reference = self._reference[configuration.target_id]
        ended = ended_replicates(
            configuration,
            parts,
            replicates=self._own.replicates_of(configuration.configuration_key),
            criteria=self._criteria,
            reference=reference,
            verdicts=self._verdicts,
        )
        with results_beside(configuration, ended) as written:
            if len(parts) == 1 or not failed:  # quantiles over the parts that did not fail could never be put right
                self._send_curve(configuration, ended.history)
            self._store.upload(run.info.run_id, written())
        last = ended.last_measured_ms or run.info.start_time  # never the clock: what is sent twice must be the same
        if not failed:  # MLflow keeps what it was once told: a retry would leave two answers
            shares = outcome_fractions(outcome.outcome for outcome in ended.outcomes.values())
            point = Point(generator_step=ended.last_step, measured_at_ms=last, metrics=shares)
            self._store.log_points(run.info.run_id, [point])
        if any(part.censored for part in parts):
            self._store.set_tags(run.info.run_id, {CENSORED: str(ended.last_step)})
        if tags := environment_tags(part.checkpoint.environments for part in parts if part.checkpoint):
            self._store.set_tags(run.info.run_id, tags)
        if self._replicate_runs:
            for replicate in ended.outcomes:
                self._write_replicate(configuration, replicate, ended, parent=run.info.run_id, last=last)
        self._store.end(run, "FAILED" if failed else "FINISHED", end_ms=last)
        self._runs.pop(configuration.configuration_key)  # its status is stale now
        if not failed:
            self._finished.add(configuration.configuration_key)
        self.delivered += 1

    def _write_replicate(
        self, configuration: Configuration, replicate: int, ended: Ended, *, parent: str, last: int
    ) -> None:
        outcome = ended.outcomes[replicate]
        run = self._store.find_or_create(
            self._experiment,
            {KIND: "replicate", PARENT_RUN: parent, "ganstudy.replicate": str(replicate)},
            tags=self._common_tags() | {STUDY_RUN: self._study_run},
            name=f"replicate {replicate}",
            began=lambda: self._first_measured_ms(configuration.configuration_key),
        )
        run_id = run.info.run_id
        identity = {"replicate": replicate, "seed": configuration.seeds[replicate]}
        self._store.log_params(run_id, {**configuration.params(), **identity})
        self._store.set_tags(run_id, {"ganstudy.outcome": outcome.outcome, "ganstudy.outcome_kind": outcome.kind})
        values = ended.final_values(replicate)
        self._store.log_points(run_id, [Point(generator_step=ended.last_step, measured_at_ms=last, metrics=values)])
        self._store.end(run, "FAILED" if outcome.outcome == "failed" else "FINISHED", end_ms=last)

    def _kill_running(self, study_run: str) -> int:
        running = self._store.find(self._experiment, {STUDY_RUN: study_run}, status="RUNNING")
        for run in running:
            self._store.end(run, "KILLED")
        self._runs.clear()
        return len(running)
