"""What a driver tells the tracker of a small study, without any training, and how it must end after a fault."""

from __future__ import annotations

import time

from study.background import BackgroundTracker
from study.folder import StudyFolder
from tests.faults.conftest import launched, violations
from tests.study.tracked import TrackedStudy

DRAIN_S = 120.0


def folder_of(study: TrackedStudy) -> StudyFolder:
    return StudyFolder(study.root.parent, study.root.name)


def opened(study: TrackedStudy, uri: str) -> BackgroundTracker:
    background = BackgroundTracker(study.tracker(uri=uri, artifacts=False))
    background.open(launch=launched(study, uri=uri))
    background.opened()
    return background


def train_all(study: TrackedStudy, background: BackgroundTracker) -> None:
    """What a driver tells the tracker: every cohort starts, checkpoints midway and ends."""
    for cohort in study.cohorts:
        background.start(cohort)
        study.train(cohort, evaluations=8)
        background.send(cohort)
        study.train(cohort)
        background.finish(cohort, failed=False)


def begin(study: TrackedStudy, background: BackgroundTracker) -> None:
    """The first cohort is under way, and MLflow has what its first checkpoint holds."""
    first = study.cohorts[0]
    background.start(first)
    study.train(first, evaluations=4)
    background.send(first)
    assert background.drain(DRAIN_S)


def conclude(study: TrackedStudy, background: BackgroundTracker, uri: str) -> None:
    """The fault is over: everything lands, and the audit finds every number once."""
    assert background.drain(DRAIN_S), background.trouble
    assert background.close("FINISHED", DRAIN_S), background.trouble
    assert background.trouble is None
    assert violations(folder_of(study), tracking_uri=uri) == []


def wait_for_trouble(background: BackgroundTracker) -> None:
    deadline = time.monotonic() + DRAIN_S
    while background.trouble is None:
        assert time.monotonic() < deadline, "the fault never struck"
        time.sleep(0.01)
    assert background.trouble.startswith("MLflow: ")
