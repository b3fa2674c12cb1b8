"""What Ray Tune's driver loop tells the progress display and MLflow; none of it may ever end the study."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ray.tune import Callback

from study.interruption import Interruption
from study.progress import Progress

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from study.tracking import BackgroundTracker

STOP_DEADLINE_S = 5.0
CHECK_CLUSTER_EVERY_S = 5.0

Method = TypeVar("Method", bound=Callable[..., None])


class StopDeadline(Exception):  # noqa: N818
    """Trials did not return in time after the study was asked to stop: their last checkpoints stand."""


def _never_fatal(method: Method) -> Method:
    """An exception in a Tune callback aborts the whole study: telemetry must cost telemetry only."""

    @functools.wraps(method)
    def safely(self: Listener, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as problem:
            self.trouble(f"{type(problem).__name__}: {problem}")

    return cast("Method", safely)


class ClusterLost(Exception):  # noqa: N818
    """Every machine of the Ray cluster is gone."""


class Listener(Callback):  # type: ignore[misc]
    """Feeds Progress and the tracker from trial events, and ends a stop that takes too long."""

    def __init__(
        self,
        *,
        progress: Progress,
        tracker: BackgroundTracker,
        interruption: Interruption,
        count_outcomes: Callable[[str], Counter[str]],
        was_stopped: Callable[[str], bool],
        record_death: Callable[[str, str], None],
        publish: Callable[[], None],
        cluster_alive: Callable[[], bool],
    ) -> None:
        self._progress = progress
        self._tracker = tracker
        self._interruption = interruption
        self._count_outcomes = count_outcomes
        self._was_stopped = was_stopped
        self._record_death = record_death
        self._publish = publish
        self._cluster_alive = cluster_alive
        self._checked_at = time.monotonic()
        self._sent: dict[str, float] = {}
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks into a file that is never read back; displays and threads stay out."""
        return {}

    def trouble(self, text: str) -> None:
        """Says once, above the display, what went wrong beside the training."""
        if text not in self._told:
            self._told.add(text)
            self._progress.note(f"warning: {text} (training goes on)")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Looks for a stop, refreshes the display.

        Raises StopDeadline when a stop takes too long, ClusterLost when no machine is left to wait for.
        """
        self._look()
        if time.monotonic() - self._checked_at > CHECK_CLUSTER_EVERY_S:
            self._checked_at = time.monotonic()
            if not self._cluster_alive():
                raise ClusterLost(
                    "every machine of the Ray cluster is gone (out of memory?); `ganstudy resume` goes on"
                )
        if self._interruption.elapsed_s() > STOP_DEADLINE_S:
            raise StopDeadline(f"trials did not return within {STOP_DEADLINE_S:g} s")

    @_never_fatal
    def _look(self) -> None:
        self._interruption.poll()
        self._progress.trouble = self._tracker.trouble or ""
        self._progress.tick()
        self._publish()

    @_never_fatal
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The cohort's MLflow runs are opened."""
        cohort = trial.config["cohort"]
        self._progress.ledger.started(cohort)
        self._tracker.start(cohort)

    @_never_fatal
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """MLflow receives rows only once a checkpoint holds them."""
        if "generator_step" not in result:
            return
        cohort = trial.config["cohort"]
        self._progress.ledger.advanced(cohort, step=int(result["generator_step"]), alive=int(result["alive"]))
        saved = result["checkpointed_step"]
        if saved > self._sent.get(cohort, -1.0) and not result.get("complete"):
            self._sent[cohort] = saved
            self._tracker.send(cohort)

    @_never_fatal
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial returned: its cohort ended, failed, was stopped at a rung, or was asked to pause."""
        cohort, last = trial.config["cohort"], trial.last_result or {}
        self._progress.ledger.paused(cohort)
        if last.get("failed") or last.get("complete") or self._was_stopped(cohort):
            self._end(cohort, failed=bool(last.get("failed")))

    @_never_fatal
    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was killed; Tune starts it again from its checkpoint."""
        self._progress.ledger.paused(trial.config["cohort"])
        self._progress.note(f"{trial.config['cohort']}: its process died; going on from the last checkpoint")

    @_never_fatal
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's processes were killed once too often."""
        cohort = trial.config["cohort"]
        self._record_death(cohort, f"its process died {trial.num_failures} times (out of memory, or a lost node?)")
        self._end(cohort, failed=True)

    def _end(self, cohort: str, *, failed: bool) -> None:
        outcomes = self._count_outcomes(cohort)
        self._progress.ledger.finished(cohort, outcomes)
        if failed:
            self._progress.note(f"{cohort}: failed; `ganstudy status` says why")
        self._tracker.finish(cohort, failed=failed)
