"""On what terms a study's trials run: on which Ray, with what resources, what each is told, what may end it early."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.errors import BadInput
from study.folder import StudyFolder
from study.ray_doorway import (
    local_resources,
    processes_at_hand,
    ray_session,
    studies_on_cluster,
    total_resources,
)
from study.search_rules import REDUCTION_FACTOR, rung_evaluations
from study.share import FairShare, Share, queued_share, require_kernels, require_precision, require_room, share_of

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from study.plan import Plan
    from study.spec import StudySpec


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Those of one launch, ``number``; ``record`` is the content of launch.json."""

    folder: StudyFolder
    spec: StudySpec
    record: Mapping[str, Any]
    number: int

    @contextmanager
    def ray(self, *, trials: int) -> Iterator[Mapping[str, float]]:
        """The study's cluster, or a Ray of our own for so many trials; yields its resources."""
        resources, address, log = self.spec.resources, self.record["address"], self.folder.tune / "ray.log"
        session = functools.partial(ray_session, log=log, cpus_per_trial=resources.cpus_per_trial)
        if address is not None:
            with session(address, study=self.spec.study) as cluster:
                yield cluster
            return
        at_once = min(trials, share_of(local_resources(), resources).concurrent)
        with session(None, trials=at_once) as cluster, processes_at_hand():
            yield cluster

    def share(
        self, cluster: Mapping[str, float], plan: Plan, *, note: Callable[[str], None]
    ) -> tuple[Share, Callable[[], int]]:
        """What a trial gets, and how many may be under way; a cluster may grow, and may be used by other studies."""
        resources = self.spec.resources
        share = share_of(cluster, resources)
        require_precision(self.spec.design.precisions, share, device=resources.device)
        if self.record["address"] is None:
            require_room(share, cluster, device=resources.device)
            if resources.kernels == "native":
                require_kernels()
            return share, lambda: share.concurrent
        fair = FairShare(studies=studies_on_cluster, slots=lambda: share_of(total_resources(), resources).concurrent)
        if share.gpus == 0 and resources.device == "auto":
            note("the cluster has no GPU: trials train on CPU")
        return queued_share(share, resources, cohorts=len(plan.cohorts) + plan.to_come), fair

    def told(self, share: Share) -> dict[str, Any]:
        """What every trial is told, as plain JSON."""
        return {
            "home": str(self.folder.home),
            "study": self.spec.study,
            "attempt": self.record["attempt"],
            "import_path": self.record["import_path"],
            "data_folder": self.record["data_folder"],
            "device": self.spec.resources.device,
            "kernels": self.spec.resources.kernels or "torch",
            "cpus": share.cpus,
            "gpus": share.gpus,
            "checkpoint_every_s": checkpoint_every_s(),
            "rungs": self._rungs(),
        }

    def _rungs(self) -> list[int]:
        """The evaluations at which a cohort waits for a verdict; none in a later launch."""
        return list(rung_evaluations(self.spec.scheduler, self.spec.budget.evaluations)) if self.number == 1 else []

    def scheduler(self, plan: Plan) -> TrialScheduler | None:
        """What may end a cohort early; in a later launch nothing does."""
        scheduler, evaluations = self.spec.scheduler, self.spec.budget.evaluations
        if scheduler.name != "asha" or self.number > 1:
            return None
        from study.early_stopping import RungScheduler

        return RungScheduler(
            self.folder,
            [entry.cohort for entry in plan.cohorts],
            first=rung_evaluations(scheduler, evaluations)[0],
            evaluations=evaluations,
            reduction_factor=float(scheduler.reduction_factor or REDUCTION_FACTOR),
        )


def checkpoint_every_s() -> float:
    """Seconds between checkpoints: $GANSTUDY_CHECKPOINT_EVERY_S (for machines that vanish early), at most 60."""
    text = os.environ.get("GANSTUDY_CHECKPOINT_EVERY_S", "60")
    try:
        return min(60.0, max(0.1, float(text)))
    except ValueError as problem:
        raise BadInput(f"GANSTUDY_CHECKPOINT_EVERY_S must be a number of seconds, got {text!r}") from problem
