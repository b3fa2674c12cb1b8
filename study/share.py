"""What one trial gets of a machine or cluster, and how many trials run at once (standard library and sections only)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from study.errors import WorkFailed
from study.sections import Resources
from trainers.catalogue import TF32

TRIALS_PER_GPU = 4
"""The most that share one GPU unasked: the networks of stability studies are small, their memory is not endless."""

LOOK_EVERY_S = 5.0
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Share:
    """CPU cores and GPUs (or a share of one) of one trial, and how many trials run at once."""

    cpus: float
    gpus: float
    concurrent: int


def share_of(cluster: Mapping[str, float], resources: Resources) -> Share:
    """Resolves ``auto`` against Ray's totals (``CPU``, ``GPU``): a trial per CPU share, and equal shares of the GPUs.

    What asks for more than there is still gets one trial at a time, since a cluster may grow; see ``require_room``.
    """
    cpus = resources.cpus_per_trial
    slots = int(cluster.get("CPU", 1.0) / cpus + _ROUNDING)
    total_gpus = 0.0 if resources.device == "cpu" else cluster.get("GPU", 0.0)
    if resources.gpus_per_trial != "auto":
        gpus = float(resources.gpus_per_trial)
    else:
        gpus = 1.0 / min(TRIALS_PER_GPU, max(1, round(slots / total_gpus))) if total_gpus else 0.0
    if gpus > 0:
        slots = min(slots, _gpu_slots(cluster.get("GPU", 0.0), gpus))
    asked = resources.max_concurrent_trials
    return Share(cpus=cpus, gpus=gpus, concurrent=max(1, slots) if asked == "auto" else int(asked))


def queued_share(share: Share, resources: Resources, *, cohorts: int) -> Share:
    """The share on a cluster, which may grow while the study runs: ``FairShare`` limits the trials there."""
    return replace(share, concurrent=cohorts) if resources.max_concurrent_trials == "auto" else share


class FairShare:
    """How many trials a study may have on a cluster, running or waiting in its queue.

    Alone: all the places and one more, whose waiting is what makes an autoscaler add a node. Beside other studies: its
    part of the places, rounded up. What was handed out is never taken back, so no more is handed out than that.
    ``studies`` names those that run now, ``slots`` says how many trials fit; both are asked every ``LOOK_EVERY_S``.
    """

    def __init__(
        self,
        *,
        studies: Callable[[], Collection[str]],
        slots: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._studies, self._slots, self._clock = studies, slots, clock
        self._looked_at, self._limit = -math.inf, 1

    def __call__(self) -> int:
        """The limit now."""
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            there, slots = len(set(self._studies())), self._slots()
            self._limit = math.ceil(slots / there) if there > 1 else slots + 1
        return self._limit


def require_room(share: Share, cluster: Mapping[str, float], *, device: str) -> None:
    """Raises WorkFailed where not even one trial could start: Ray would wait for ever, without a word."""
    for name, key, asked in (("CPU", "cpus_per_trial", share.cpus), ("GPU", "gpus_per_trial", share.gpus)):
        if asked > cluster.get(name, 0.0):
            raise WorkFailed(
                f"resources.{key}: a trial needs {asked:g} {name}s and this machine has {cluster.get(name, 0.0):g}"
            )
    if device == "cuda" and not cluster.get("GPU"):
        raise WorkFailed("resources.device: is cuda and this machine has no GPU that Ray can see; write auto or cpu")


def require_kernels() -> None:
    """Builds the compiled kernels for the trials of this machine; raises WorkFailed where that does not work."""
    from trainers import native

    try:
        native.build()
    except RuntimeError as error:
        raise WorkFailed(f"resources.kernels: {error}") from error


def require_precision(precisions: Collection[str], share: Share, *, device: str) -> None:
    """Raises WorkFailed where a study trains in TF32 and its trials would get no GPU."""
    if TF32 in precisions and share.gpus == 0 and device != "cuda":
        raise WorkFailed(
            "precision: tf32 needs a GPU for every trial and here a trial gets none; run it where Ray sees GPUs "
            "(or say resources.gpus_per_trial), or write float32 or bfloat16"
        )


def _gpu_slots(total: float, each: float) -> int:
    """A share of a GPU lies on one GPU: two of 0.4 fit on each, and the rest of each is lost."""
    return int(1.0 / each + _ROUNDING) * int(total) if each <= 1 else int(total / each + _ROUNDING)
