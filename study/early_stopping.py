"""ASHA over whole configurations: Ray's scheduler, told one value for all replicates of a cohort at each rung."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from study.folder import StudyFolder
from study.rungs import read_rungs, write_rungs

RUNG, VALUE = "rung", "rung_value"
"""What a trial reports at a rung: the number of the evaluation, and how good its cohort is."""


class RungScheduler(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Compares cohorts at their rungs; a decision is on the disk before anybody hears of it.

    Cohorts are known by name and not by trial, so that neither a retry nor a resume counts twice. One whose replicates
    are all dead is compared with, but goes on: it ends by itself, and what it met is no censoring.
    """

    def __init__(
        self, folder: StudyFolder, cohorts: Iterable[str], *, first: int, evaluations: int, reduction_factor: float
    ) -> None:
        super().__init__(
            time_attr=RUNG,
            metric=VALUE,
            mode="max",
            grace_period=first,
            max_t=evaluations,
            reduction_factor=reduction_factor,
        )
        self._folder = folder
        for cohort in cohorts:
            for evaluation, value in sorted(read_rungs(folder, cohort).values.items()):
                self._compare(cohort, evaluation, value)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts into files that are never read back."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP or CONTINUE; other reports than those of rungs change nothing."""
        if RUNG not in result:
            return str(TrialScheduler.CONTINUE)
        cohort, evaluation, value = str(trial.config["cohort"]), int(result[RUNG]), float(result[VALUE])
        known = read_rungs(self._folder, cohort)
        if evaluation not in known.values:
            if not math.isfinite(value):
                raise ValueError(f"{cohort}: a rung's value must be finite, got {value}")
            stop = self._compare(cohort, evaluation, value) and result["alive"] > 0
            known = known.reached(evaluation, value, stop=stop)
            write_rungs(self._folder, cohort, known)
        return str(TrialScheduler.CONTINUE if known.stopped is None else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: what a cohort ended with is not compared with what others had at a rung."""
        self._trial_info.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing is kept of a trial."""
        self._trial_info.pop(trial.trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: rungs are kept beside the cohorts."""

    def _compare(self, cohort: str, evaluation: int, value: float) -> bool:
        """Whether the cohort should stop; it is taken into the rung either way."""
        decision = self._brackets[0].on_result(SimpleNamespace(trial_id=cohort), evaluation, value)
        return bool(decision == TrialScheduler.STOP)
