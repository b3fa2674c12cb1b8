"""The ledger behind the progress display, and the watch that decides when a trial pauses: clocks are injected."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.folder import StudyFolder, write_json
from study.progress import CohortWork, Ledger, duration
from study.trainable import Watch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    work = {
        "slow": CohortWork(cohort="slow", members=3, horizon=1000, step_cost=5),
        "fast": CohortWork(cohort="fast", members=8, horizon=500, step_cost=2),
    }
    return Ledger(work=work, clock=clock)


def test_time_left_weighs_steps_by_their_cost(ledger: Ledger, clock: Clock) -> None:
    ledger.advanced("slow", step=0, alive=3)
    clock.now += 10
    ledger.advanced("slow", step=200, alive=3)
    done, total = 3 * 200 * 5, 3 * 1000 * 5 + 8 * 500 * 2
    assert ledger.steps_per_s() == pytest.approx(3 * 200 / 10)
    assert ledger.fraction == pytest.approx(done / total)
    assert ledger.time_left_s() == pytest.approx((total - done) / (done / 10))


def test_restored_steps_are_progress_but_no_pace(ledger: Ledger, clock: Clock) -> None:
    ledger.advanced("slow", step=0, alive=3)
    clock.now += 1
    ledger.advanced("fast", step=400, alive=8)
    assert ledger.steps_per_s() == 0
    assert ledger.time_left_s() is None
    assert ledger.fraction > 0


def test_work_done_is_that_of_every_cohorts_last_step(ledger: Ledger) -> None:
    """Reports come again and again, one may come late, and a cohort may end at the rung where it was stopped."""
    for cohort, step in (("slow", 100), ("fast", 50), ("slow", 700), ("slow", 300), ("fast", 450), ("fast", 450)):
        ledger.advanced(cohort, step=step, alive=1)
    total = 3 * 1000 * 5 + 8 * 500 * 2
    assert ledger.fraction == pytest.approx((3 * 700 * 5 + 8 * 450 * 2) / total)
    ledger.finished("slow", {"converged": 3})
    ledger.finished("slow", {})
    assert ledger.fraction == pytest.approx((3 * 1000 * 5 + 8 * 450 * 2) / total)


def test_counts_are_replicates(ledger: Ledger) -> None:
    ledger.started("slow")
    ledger.started("fast")
    ledger.started("fast")
    assert (ledger.planned, ledger.now_running, ledger.done) == (11, 11, 0)
    ledger.finished("fast", {"converged": 5, "diverged": 3})
    assert (ledger.now_running, ledger.done) == (3, 8)
    assert ledger.outcomes == {"converged": 5, "diverged": 3}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (11_100, "3 h 05 min"), (190_000, "2 d 4 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def watch(tmp_path: Path, clock: Clock) -> Watch:
    folder = StudyFolder(tmp_path, "tiny")
    write_json(folder.launch_file, {"attempt": 2})
    return Watch(folder, 2, checkpoint_every_s=60, clock=clock)


def test_watch_pauses_for_a_checkpoint_once_a_minute(tmp_path: Path, clock: Clock) -> None:
    watching = watch(tmp_path, clock)
    clock.now += 59
    assert not watching()
    assert watching.due(), "at an evaluation half the time is enough"
    clock.now += 1
    assert watching()
    assert watching.pause == "checkpoint"
    watching.saved()
    assert not watching()
    assert not watching.due()


def test_watch_sees_the_stop_file_and_stays_paused(tmp_path: Path, clock: Clock) -> None:
    watching = watch(tmp_path, clock)
    assert not watching()
    watching.folder.ask_to_stop("stop")
    assert not watching(), "the disk is looked at twice a second at most"
    clock.now += 0.5
    assert watching()
    watching.folder.stop_file.unlink()
    clock.now += 5
    assert watching.pause == "stop"
    assert watching()


def test_older_attempt_is_fenced_even_when_asked_to_stop(tmp_path: Path, clock: Clock) -> None:
    watching = watch(tmp_path, clock)
    assert not watching.superseded()
    write_json(watching.folder.launch_file, {"attempt": 3})
    watching.folder.ask_to_stop("stop")
    assert watching()
    assert watching.pause == "superseded"
