"""One attempt at a study whose lock is held: references, MLflow, Ray, training, true statuses at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from study.beside import beside
from study.errors import WorkFailed
from study.folder import StudyFolder, write_atomic, write_json
from study.interruption import Interrupted, Interruption
from study.launches import launch_id
from study.objective import Objective
from study.offline import Nowhere, require_answer
from study.plan import make_plan
from study.progress import TRAINING, Ledger, Progress, work_of
from study.protocol import phase_of
from study.ray_doorway import (
    any_node_alive,
)
from study.rungs import was_stopped
from study.tally import Tally
from study.terms import Terms

if TYPE_CHECKING:
    from ray.tune.search import Searcher
    from rich.console import Console

    from study.configurations import Configuration
    from study.plan import Plan
    from study.spec import StudySpec
    from study.tracking import BackgroundTracker, Tracker
    from study.verdicts import Verdicts

_DRAIN_S = 60.0
_HURRIED_S = 2.5
_PATIENCE_S = 5.0
_PUBLISH_EVERY_S = 2.0


class Attempt:
    """Trains the unfinished cohorts of one launch and tells MLflow; ``record`` is the content of launch.json."""

    def __init__(
        self,
        folder: StudyFolder,
        spec: StudySpec,
        plan: Plan,
        record: Mapping[str, Any],
        *,
        number: int = 1,
        console: Console | None,
    ) -> None:
        self._folder, self._spec, self._record = folder, spec, record
        self._terms = Terms(folder=folder, spec=spec, record=record, number=number)
        self._whole, self._number = plan, number
        plan = self._plan = plan.of_launch(number)
        ledger = Ledger(work=work_of(plan), to_come=plan.to_come, members_to_come=plan.declared_replicates)
        phase = phase_of(spec, self._whole, number) or ("" if number == 1 else f"launch {number}")
        title = f"{spec.study} ({phase})" if phase else spec.study
        self._progress = Progress(title, ledger, console=console)
        self._interruption = Interruption(folder, announce=self._progress.note)
        self._tally = Tally(folder=folder, plan=plan)
        self._tracker: BackgroundTracker | None = None
        self._published_at = float("-inf")

    @property
    def counts(self) -> Counter[str]:
        """Outcome -> replicates that ended."""
        return self._progress.ledger.outcomes

    @property
    def interrupted(self) -> bool:
        """Whether a signal or the stop file ended it."""
        return self._interruption.requested

    def run(self) -> None:
        """The whole attempt. Raises WorkFailed where Ray or MLflow cannot be used."""
        with self._progress, self._interruption:
            try:
                self._write_files()
                self._look_for_mlflow()
                if any(any(self._folder.cohort(entry.cohort).glob("checkpoint-*")) for entry in self._plan.cohorts):
                    self._look_back()
                self._track_and_train()
            except Interrupted:
                return

    def _write_files(self) -> None:
        """launch.json goes first: its attempt number fences older writers, who look at it before they write."""
        folder = self._folder
        folder.stop_file.unlink(missing_ok=True)
        folder.sweep()  # a search writes the plan again and again: a kill may have met it there
        write_json(folder.launch_file, self._record)
        write_atomic(folder.spec_file, self._spec.dump())
        if not folder.plan_file.exists():
            write_json(folder.plan_file, self._whole.to_json())
        for entry in self._plan.cohorts:
            folder.failure_file(entry.cohort).unlink(missing_ok=True)  # a resume tries failed cohorts again

    def _look_for_mlflow(self) -> None:
        """A first look whether MLflow answers: nothing is measured, and Ray is not started, for nothing."""
        if self._record["offline"]:
            self._progress.note(f"offline: MLflow is told nothing; `ganstudy sync {self._spec.study}` sends it later")
            return
        from study.mlflow_client import readable_uri, set_client_defaults

        set_client_defaults()  # here, not in the thread that opens it: Ray's libraries read the environment meanwhile
        uri = self._record["tracking_uri"]
        require_answer(uri, shown=readable_uri(uri))

    def _look_back(self) -> None:
        """What an earlier attempt left: perhaps nothing remains to be trained, and Ray is not needed."""
        self._progress.enter("looking at what has ended")
        self._measure_references()
        for entry in self._plan.cohorts:
            self._look_at(entry.cohort)

    def _measure_references(self) -> None:
        """What is missing of judges and reference numbers; later calls find them."""
        from study.reference import prepare_references

        # a search varies no target: a stand-in for what it will choose has the same
        prepare_references(self._folder, self._plan if self._plan.configurations else make_plan(self._spec, workers=1))

    def _look_at(self, cohort: str) -> None:
        """Takes an ended cohort into the ledger, and names checkpoints that were damaged."""
        from study.checkpoint import newest_checkpoint

        found = newest_checkpoint(self._folder.cohort(cohort))
        for line in found.damaged:
            self._progress.note(f"{cohort}: damaged checkpoint passed over ({line})")
        if found.checkpoint is not None and (found.checkpoint.complete or was_stopped(self._folder, cohort)):
            self._progress.ledger.finished(cohort, self._tally.judge(cohort, found.checkpoint, failed=False))

    def _track_and_train(self) -> None:
        status = "KILLED"
        try:
            self._train()
            status = self._status()
            if self._tracker and not self.interrupted and not self._record["offline"]:
                self._progress.enter("sending the last results to MLflow")
                self._tracker.deliver(_DRAIN_S, give_up=lambda: self.interrupted)
        finally:
            if self._tracker:
                self._take_leave(self._tracker, status)

    def _take_leave(self, tracker: BackgroundTracker, status: str) -> None:
        tracker.close(status, timeout_s=_HURRIED_S if self.interrupted else _DRAIN_S)
        if tracker.trouble:
            self._progress.note(f"{tracker.trouble}; `ganstudy sync {self._spec.study}` sends the rest")

    def _get_ready(self) -> BackgroundTracker:
        """References are measured, then MLflow begins to open: all that training needs and Ray does not."""
        self._measure_references()
        if self.interrupted:  # nothing may be opened any more that nobody would close
            raise Interrupted(self._interruption.reason)
        from study.tracking import BackgroundTracker

        tracker = self._tracker = BackgroundTracker(self._writer())
        tracker.open(launch=launch_id(self._folder, self._number))
        self._interruption.last_words = lambda: tracker.close("KILLED", timeout_s=1.0)
        tracker.sync()  # an earlier driver may have died between a checkpoint and the sending
        return tracker

    def _writer(self) -> Tracker | Nowhere:
        """What tells MLflow."""
        if self._record["offline"]:
            return Nowhere()
        uri = self._record["tracking_uri"]
        return make_tracker(
            self._folder, self._spec, self._whole, uri, number=self._number, verdicts=self._tally.verdicts
        )

    def _train(self) -> None:
        cohorts = [entry.cohort for entry in self._plan.cohorts if entry.cohort not in self._progress.ledger.ended]
        if not cohorts and not self._plan.to_come:
            self._progress.enter("opening MLflow")
            self._get_ready().opened()
            self._progress.note("nothing is left to train")
            return
        self._progress.enter("starting Ray, measuring the references, opening MLflow")
        ready = beside(self._get_ready, name="getting ready")  # Ray takes seconds to start, most of them waiting
        try:
            with self._terms.ray(trials=len(cohorts) + self._plan.to_come) as cluster:
                self._interruption.install()  # ray.init took SIGTERM
                tracker = ready.result()
                tracker.opened()
                self._progress.enter(TRAINING)
                self._fit(tracker, cohorts, cluster)
        finally:
            wait([ready], timeout=_PATIENCE_S)  # it ends soon: then what it opened is closed

    def _fit(self, tracker: BackgroundTracker, cohorts: list[str], cluster: Mapping[str, float]) -> None:
        from study.listener import Listener
        from study.search import build_tuner
        from study.trainable import trainable

        share, limit = self._terms.share(cluster, self._plan, note=self._progress.note)
        listener = Listener(
            progress=self._progress,
            tracker=tracker,
            interruption=self._interruption,
            count_outcomes=self._outcomes,
            was_stopped=lambda cohort: was_stopped(self._folder, cohort),
            record_death=self._record_death,
            publish=self._publish,
            cluster_alive=any_node_alive,
        )
        tuner = build_tuner(
            trainable,
            constants=self._terms.told(share),
            searcher=self._searcher(cohorts, limit),
            trials=len(cohorts) + self._plan.to_come,
            scheduler=self._terms.scheduler(self._plan),
            share=share,
            storage=self._folder.tune,
            attempt=self._record["attempt"],
            callback=listener,
            shared=self._record["address"] is not None,
        )
        self._interruption.training = True
        try:
            tuner.fit()
        except Exception as problem:
            if not self.interrupted:
                raise WorkFailed(f"Ray Tune ended early: {problem}") from problem
        finally:
            self._interruption.training = False
            self._interruption.poll(at_once=True)  # the trials may have seen the stop file before us

    def _searcher(self, cohorts: list[str], limit: Callable[[], int]) -> Searcher:
        """What hands out the unfinished cohorts, and, in an adaptive search, makes new ones."""
        if self._spec.search.method != "optuna" or self._number > 1:
            from study.search import PlanOrder

            return PlanOrder(cohorts, stopping=self._interruption.poll, limit=limit)
        from study.adaptive import EqualBudgets, open_search

        suggestions = open_search(self._folder, self._spec, self, ended=self._progress.ledger.ended)
        return EqualBudgets(suggestions, book=self, unfinished=cohorts, stopping=self._interruption.poll, limit=limit)

    @property
    def plan(self) -> Plan:
        """As it is now: an adaptive search makes it grow."""
        return self._plan

    def grow(self, configuration: Configuration) -> str:
        """Takes a configuration into the plan, on the disk first, and names its cohort."""
        self._whole = self._whole.grown([configuration])
        write_json(self._folder.plan_file, self._whole.to_json())
        self._plan = self._whole.of_launch(self._number)
        self._tally.plan = self._plan
        self._progress.ledger.expect(work_of(self._plan), to_come=self._plan.to_come)
        if self._tracker is not None:
            self._tracker.grow(self._plan)
        return self._plan.cohorts[-1].cohort

    def value(self, cohort: str) -> float | None:
        """What the search is told of an ended cohort; None where it has not ended, or failed."""
        return self._tally.value(cohort, Objective.from_plain(self._spec.search.objective))

    def _outcomes(self, cohort: str) -> Counter[str]:
        return self._tally.state(cohort).outcomes

    def _record_death(self, cohort: str, problem: str) -> None:
        write_json(
            self._folder.failure_file(cohort),
            {"attempt": self._record["attempt"], "problem": problem, "traceback": ""},
        )

    def _status(self) -> str:
        ledger = self._progress.ledger
        if ledger.done < ledger.planned:
            return "KILLED" if self.interrupted else "FAILED"
        return "FAILED" if ledger.outcomes["failed"] else "FINISHED"

    def _publish(self) -> None:
        """For `status` in another terminal, at most every _PUBLISH_EVERY_S seconds."""
        if time.monotonic() - self._published_at < _PUBLISH_EVERY_S:
            return
        self._published_at = time.monotonic()
        ledger = self._progress.ledger
        write_json(
            self._folder.progress_file,
            {
                "attempt": self._record["attempt"],
                "running": ledger.now_running,
                "fraction": ledger.fraction,
                "time_left_s": ledger.time_left_s(),
                "replicate_steps_per_s": ledger.steps_per_s(),
                "trouble": self._progress.trouble,
            },
        )


def make_tracker(
    folder: StudyFolder,
    spec: StudySpec,
    plan: Plan,
    tracking_uri: str,
    *,
    number: int = 1,
    verdicts: Verdicts | None = None,
) -> Tracker:
    """The MLflow writer of one launch of a study whose references were made."""
    from study.reference import read_references
    from study.tracking import Tracker

    return Tracker(
        folder.root,
        plan=plan,
        tracking_uri=tracking_uri,
        artifact_location=artifact_location(folder, tracking_uri),
        replicate_runs=spec.tracking.replicate_runs,
        criteria=spec.criteria,
        reference=read_references(folder),
        number=number,
        phase=phase_of(spec, plan, number),
        verdicts=verdicts,
    )


def artifact_location(folder: StudyFolder, tracking_uri: str) -> str | None:
    """``<home>/artifacts`` for a local database; a server has an artifact store of its own."""
    if tracking_uri.startswith(("http://", "https://", "databricks")):
        return None
    return (folder.home / "artifacts").as_uri()
