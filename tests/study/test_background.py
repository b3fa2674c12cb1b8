from __future__ import annotations

import threading
import time

import pytest

from study import background as background_module
from study.background import BackgroundTracker


class Recorder:
    """Stands in for a Tracker: notes what it did, fails while told to, can be held."""

    tracking_uri = "http://user:secret@host"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: set[str] = set()
        self.tried = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.delivered = 0

    def _do(self, what: str) -> None:
        self.gate.wait(30)
        self.tried.set()
        if any(what.startswith(name) for name in self.failing):
            raise ConnectionError(f"no answer from {self.tracking_uri}\nsecond line")
        self.done.append(what)

    def open(self, *, launch: str) -> None:
        self._do(f"open {launch}")

    def start(self, cohort: str) -> None:
        self._do(f"start {cohort}")

    def send(self, cohort: str) -> None:
        self._do(f"send {cohort}")

    def finish(self, cohort: str, *, failed: bool) -> None:
        self._do(f"finish {cohort} {failed}")

    def sync(self) -> None:
        self._do("sync")

    def close(self, status: str) -> None:
        self._do(f"close {status}")


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(background_module, "LAST_DELAY_S", 0.004)


def test_calls_return_at_once_and_sends_that_wait_are_one() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    tracker = BackgroundTracker(recorder)
    tracker.start("a")
    for _ in range(50):
        tracker.send("a")
        tracker.send("b")
    tracker.finish("a", failed=True)
    assert recorder.done == []
    recorder.gate.set()
    assert tracker.drain(30)
    assert recorder.done == ["start a", "send a", "send b", "finish a True"]
    assert tracker.close("FINISHED", 30)
    assert recorder.done[-1] == "close FINISHED"


def test_a_send_that_comes_while_one_is_under_way_is_not_swallowed() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    tracker = BackgroundTracker(recorder)
    tracker.send("a")
    while tracker._current is None:
        time.sleep(0.001)
    tracker.send("a")
    recorder.gate.set()
    assert tracker.drain(30)
    assert recorder.done == ["send a", "send a"]


@pytest.mark.usefixtures("quick_retries")
def test_trouble_with_one_cohort_keeps_its_order_and_does_not_hold_up_the_others() -> None:
    recorder = Recorder()
    recorder.failing = {"start a"}
    tracker = BackgroundTracker(recorder)
    tracker.start("a")
    tracker.send("a")
    tracker.finish("a", failed=False)
    tracker.start("b")
    tracker.finish("b", failed=False)
    assert not tracker.drain(0.5)
    assert recorder.done == ["start b", "finish b False"]
    assert tracker.trouble == "MLflow: no answer from http://host"
    recorder.failing = set()
    assert tracker.drain(30)
    assert recorder.done[2:] == ["start a", "send a", "finish a False"]
    assert tracker.trouble is None


@pytest.mark.usefixtures("quick_retries")
def test_closing_drops_what_cannot_be_delivered_says_so_and_starts_nothing_afterwards() -> None:
    recorder = Recorder()
    recorder.failing = {"start a"}
    tracker = BackgroundTracker(recorder)
    tracker.start("a")
    assert tracker.close("KILLED", 1.0) is False
    assert recorder.done == ["close KILLED"]
    assert tracker.trouble is not None
    recorder.failing = set()
    tracker.start("a")
    assert tracker.drain(5)
    assert recorder.done == ["close KILLED"]


def test_closing_waits_no_longer_than_told_for_a_server_that_hangs() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    tracker = BackgroundTracker(recorder)
    tracker.send("a")
    assert tracker.close("KILLED", 0.2) is False
    assert tracker.trouble is not None
    recorder.gate.set()


class Deliverer(Recorder):
    """Lands parts of its work one by one, each when it is allowed to; the rest hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = threading.Semaphore(0)
        self.left = 4

    def send(self, cohort: str) -> None:
        while self.left:
            assert self.parts.acquire(timeout=30)
            self.left -= 1
            self.delivered += 1


def test_delivering_waits_while_something_lands_however_long_the_whole_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "_LOOK_EVERY_S", 0.01)
    writer = Deliverer()
    tracker = BackgroundTracker(writer)
    tracker.send("a")
    asked: list[int] = []

    def land_one() -> bool:  # asked only when nothing landed since the last look: four times in a row
        asked.append(writer.left)
        writer.parts.release()
        return False

    class Clock:  # 20 s pass between two parts: longer in all than may pass without one
        monotonic = staticmethod(lambda: 20.0 * len(set(asked)))

    monkeypatch.setattr(background_module, "time", Clock)

    assert tracker.deliver(30, give_up=land_one)
    assert writer.left == 0
    assert set(asked) == {4, 3, 2, 1}


def test_delivering_ends_when_nothing_lands_any_more_or_when_told_to() -> None:
    writer = Deliverer()
    tracker = BackgroundTracker(writer)
    tracker.send("a")
    assert not tracker.deliver(0.2, give_up=lambda: False)
    assert not tracker.deliver(1e6, give_up=lambda: True)
    for _ in range(4):
        writer.parts.release()
    assert tracker.deliver(30, give_up=lambda: False)


def test_opening_does_not_wait_and_opened_does() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    tracker = BackgroundTracker(recorder)
    tracker.open(launch="L1")
    tracker.sync()
    assert recorder.done == []
    threading.Timer(0.05, recorder.gate.set).start()
    tracker.opened()
    assert recorder.done[0] == "open L1"
    assert tracker.drain(30)
    assert recorder.done == ["open L1", "sync"]


def test_a_launch_that_cannot_be_opened_says_so_once_and_writes_nothing(quick_retries: None) -> None:
    recorder = Recorder()
    recorder.failing = {"open"}
    tracker = BackgroundTracker(recorder)
    tracker.open(launch="L1")
    tracker.sync()
    with pytest.raises(ConnectionError, match="no answer"):
        tracker.opened()
    tracker.start("a")
    started = time.monotonic()
    assert not tracker.close("KILLED", 30)
    assert time.monotonic() - started < 25, "nothing to wait for"
    assert recorder.done == []
    assert tracker.trouble is None, "the caller was told"
