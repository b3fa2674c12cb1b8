"""What MLflow is told of a study that nobody runs: what it missed, and the true status of every launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.begun import begun_spec
from study.folder import StudyFolder, write_json
from study.launches import launch_id, ran_offline, remembered, store_uri
from study.tally import Tally, read_plan

if TYPE_CHECKING:
    from study.tracking import Tracker


def sync_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> str:
    """Sends MLflow whatever it missed of a study whose lock is held, and returns the store's URI."""
    for number, status in run_statuses(folder).items():
        _sync_launch(folder, number, status, tracking_uri=tracking_uri)
    uri = store_uri(folder, tracking_uri)
    if ran_offline(folder):
        write_json(folder.launch_file, {**remembered(folder), "tracking_uri": uri, "offline": False})
    return uri


def _sync_launch(folder: StudyFolder, number: int, status: str, *, tracking_uri: str | None) -> None:
    tracker = _recorded_tracker(folder, number, tracking_uri=tracking_uri)
    tracker.open(launch=launch_id(folder, number))
    with tracker.readable_failures():
        tracker.sync()
        tracker.close(status)


def recorded_store(folder: StudyFolder, *, tracking_uri: str | None = None) -> tuple[dict[int, str], str]:
    """Number -> name of each of the study's launches, and the URI of the MLflow store that its results go to."""
    launches = {number: launch_id(folder, number) for number in read_plan(folder).launches}
    return launches, store_uri(folder, tracking_uri)


def reconcile_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> None:
    """Gives the runs of launches whose driver died their true status; the lock is held.

    A driver that died after a launch's last replicate ended left nothing of it to resume: its results are sent, too.
    """
    if ran_offline(folder):
        return
    for number, status in run_statuses(folder).items():
        if status == "KILLED":
            tracker = _recorded_tracker(folder, number, tracking_uri=tracking_uri)
            tracker.reconcile(launch=launch_id(folder, number))
        else:
            _sync_launch(folder, number, status, tracking_uri=tracking_uri)


def run_statuses(folder: StudyFolder) -> dict[int, str]:
    """Launch -> the true status of its study run while nobody runs it."""
    plan = read_plan(folder)
    tally = Tally(folder=folder, plan=plan)
    found: dict[int, str] = {}
    for number in plan.launches:
        own = plan.of_launch(number)
        states = [tally.state(entry.cohort, outcomes=False) for entry in own.cohorts]
        ended = all(state.complete or state.problem for state in states) and not own.to_come
        found[number] = "KILLED" if not ended else "FAILED" if any(state.problem for state in states) else "FINISHED"
    return found


def _recorded_tracker(folder: StudyFolder, number: int, *, tracking_uri: str | None) -> Tracker:
    from study.attempt import make_tracker

    plan = read_plan(folder)  # it is there: the study was found by it
    uri = store_uri(folder, tracking_uri)
    return make_tracker(folder, begun_spec(folder), plan, uri, number=number)
