"""Which cohort trains next, with what resources: the one file that knows Ray's samplers, searchers, schedulers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.search import Searcher

from study.share import Share

WORKER_DEATHS_FORGIVEN = 3
"""How often a cohort's process may be killed (out of memory, lost node) before the cohort counts as failed."""


class PlanOrder(Searcher):  # type: ignore[misc]
    """Hands out cohorts in plan order; asked to stop, it hands out no more.

    A searcher rather than a grid: trials exist only once they can start, so that a study of thousands of cohorts
    neither fills the driver's memory nor has to start every pending trial to learn that it should end.
    """

    def __init__(self, cohorts: Sequence[str], *, stopping: Callable[[], bool]) -> None:
        super().__init__(metric=None, mode=None)
        self._cohorts = list(cohorts)
        self._handed_out = 0
        self._stopping = stopping

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts into files that are never read back; what holds locks stays out."""
        return {name: value for name, value in self.__dict__.items() if name != "_stopping"}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next cohort's configuration, or FINISHED."""
        if self._stopping() or self._handed_out == len(self._cohorts):
            return str(Searcher.FINISHED)
        self._handed_out += 1
        return {"cohort": self._cohorts[self._handed_out - 1]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn from: the plan is fixed."""

    def save(self, checkpoint_path: str) -> None:
        """For Tune's own state, which is never read back."""
        Path(checkpoint_path).write_text(json.dumps({"handed_out": self._handed_out}), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Refused: a study resumes from its plan and checkpoints, as a new attempt."""
        raise NotImplementedError("a study is resumed as a new attempt over its unfinished cohorts")


def build_tuner(
    trainable: Callable[[dict[str, Any]], None],
    *,
    constants: dict[str, Any],
    cohorts: Sequence[str],
    share: Share,
    storage: Path,
    attempt: int,
    callback: Callback,
    stopping: Callable[[], bool],
) -> Tuner:
    """One Tune trial per cohort, in plan order; killed processes are retried, everything is kept quiet."""
    return Tuner(
        tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space=constants,
        tune_config=TuneConfig(
            search_alg=PlanOrder(cohorts, stopping=stopping),
            num_samples=len(cohorts),
            # without it a searcher has one pending trial at a time and the actors start one after the other
            max_concurrent_trials=share.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["cohort"],
            trial_dirname_creator=lambda trial: trial.config["cohort"],
        ),
        run_config=RunConfig(
            name=f"attempt-{attempt:04d}",
            storage_path=str(storage.absolute()),
            callbacks=[callback],
            failure_config=FailureConfig(max_failures=WORKER_DEATHS_FORGIVEN),
            verbose=0,
        ),
    )
