"""Which cohort trains next, with what resources: how Ray Tune is given a study's trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.share import Share

WORKER_DEATHS_FORGIVEN = 3
"""How often a cohort's process may be killed (out of memory, lost node) before the cohort counts as failed."""


class PlanOrder(Searcher):  # type: ignore[misc]
    """Hands out cohorts in plan order, at most ``limit()`` at a time; asked to stop, it hands out no more.

    A searcher rather than a grid: trials exist only once they can start, so that a study of thousands of cohorts
    neither fills the driver's memory nor has to start every pending trial to learn that it should end.
    """

    def __init__(self, cohorts: Sequence[str], *, stopping: Callable[[], bool], limit: Callable[[], int]) -> None:
        super().__init__(metric=None, mode=None)
        self._cohorts = list(cohorts)
        self._handed_out = self._returned = 0
        self._stopping, self._limit = stopping, limit

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts into files that are never read back; what holds locks stays out."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_stopping", "_limit")}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next cohort's configuration, None for "not now", or FINISHED."""
        if self._stopping() or self._handed_out == len(self._cohorts):
            return str(Searcher.FINISHED)
        if self._handed_out - self._returned >= max(1, self._limit()):
            return None
        self._handed_out += 1
        return {"cohort": self._cohorts[self._handed_out - 1]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A place is free; there is nothing to learn: the plan is fixed."""
        self._returned += 1

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
    searcher: Searcher,
    trials: int,
    scheduler: TrialScheduler | None,
    share: Share,
    storage: Path,
    attempt: int,
    callback: Callback,
    shared: bool,
) -> Tuner:
    """One Tune trial per cohort that ``searcher`` hands out; killed processes are retried, everything is kept quiet.

    ``trials``: how many it will hand out at most. ``shared``: others use the cluster, so that a process
    ends with its cohort; reused ones start faster (2 s), but Tune always keeps one idle, with its cores.
    """
    return Tuner(
        tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus}),
        param_space=constants,
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=trials,
            # without it a searcher has one pending trial at a time and the actors start one after the other
            max_concurrent_trials=share.concurrent,
            reuse_actors=not shared,
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
