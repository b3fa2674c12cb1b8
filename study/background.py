"""The tracker beside the training: calls return at once, an absent MLflow costs nothing but a later delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from study.mlflow_client import first_line

if TYPE_CHECKING:
    from study.plan import Plan

FIRST_DELAY_S, LAST_DELAY_S = 1.0, 30.0
_CLOSING_SHARE = 0.5
_LOOK_EVERY_S = 0.5


class Writer(Protocol):
    """What study.tracking.Tracker offers to the thread."""

    @property
    def tracking_uri(self) -> str:
        """Where it writes, with whatever credentials it holds."""

    @property
    def delivered(self) -> int:
        """Grows with every part of a configuration that has landed."""

    def open(self, *, launch: str) -> object:
        """The launch's parent run is RUNNING and no run of a dead owner is."""

    def grow(self, plan: Plan) -> None:
        """The plan has more cohorts now."""

    def start(self, cohort: str) -> None:
        """The cohort's runs exist."""

    def send(self, cohort: str) -> None:
        """The cohort's newest rows are sent."""

    def finish(self, cohort: str, *, failed: bool) -> None:
        """The cohort's runs are closed."""

    def sync(self) -> None:
        """All cohorts."""

    def close(self, status: str) -> None:
        """The parent run is closed."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    kind: str
    cohort: str = ""
    failed: bool = False
    status: str = ""
    launch: str = ""
    plan: Plan | None = None

    def run(self, writer: Writer) -> None:
        match self.kind:
            case "open":
                writer.open(launch=self.launch)
            case "grow":
                assert self.plan is not None
                writer.grow(self.plan)
            case "start":
                writer.start(self.cohort)
            case "send":
                writer.send(self.cohort)
            case "finish":
                writer.finish(self.cohort, failed=self.failed)
            case "sync":
                writer.sync()
            case "close":
                writer.close(self.status)


class BackgroundTracker:
    """Runs a Tracker's work in a thread of its own. Only ``opened`` waits for MLflow and raises what it raises.

    Work that failed is kept and tried again after 1, 2, 4 ... 30 s, behind the other cohorts' work, so that one
    cohort's trouble does not hold up the rest. ``trouble`` is the last error while there is one. What is still
    undelivered at the end is on the disk: ``Tracker.sync`` sends it.
    """

    def __init__(self, tracker: Writer) -> None:
        self._writer = tracker
        self._queue: list[_Job] = []
        self._current: _Job | None = None
        self._hurry = False
        self._ended = False
        self._trouble: str | None = None
        self._refused: Exception | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="mlflow", daemon=True).start()

    @property
    def trouble(self) -> str | None:
        """What went wrong last, in one line; None while all goes well."""
        return self._trouble

    def open(self, *, launch: str) -> None:
        """Begins to open the launch: goes first, and is not tried again."""
        self._put(_Job(kind="open", launch=launch))

    def opened(self) -> None:
        """Waits until the launch is open; raises what kept MLflow from opening it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._opening())
        if self._refused is not None:
            raise self._refused

    def grow(self, plan: Plan) -> None:
        """The plan has more cohorts now; to be told before any of them starts."""
        self._put(_Job(kind="grow", plan=plan))

    def start(self, cohort: str) -> None:
        """A cohort began."""
        self._put(_Job(kind="start", cohort=cohort))

    def send(self, cohort: str) -> None:
        """A cohort wrote a checkpoint; repeated calls while one is waiting are one."""
        self._put(_Job(kind="send", cohort=cohort))

    def finish(self, cohort: str, *, failed: bool) -> None:
        """A cohort ended."""
        self._put(_Job(kind="finish", cohort=cohort, failed=failed))

    def sync(self) -> None:
        """Everything the disk holds."""
        self._put(_Job(kind="sync"))

    def deliver(self, stall_s: float, *, give_up: Callable[[], bool]) -> bool:
        """Waits until all work is done, for as long as something lands; False after ``stall_s`` without, or given up.

        A study of a thousand configurations takes minutes to send, and a server that is away takes for ever.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            delivered, since = self._writer.delivered, time.monotonic()
            while not self._changed.wait_for(self._idle, min(_LOOK_EVERY_S, stall_s)):
                if self._writer.delivered != delivered:
                    delivered, since = self._writer.delivered, time.monotonic()
                elif give_up() or time.monotonic() - since >= stall_s:
                    return False
        return True

    def drain(self, timeout_s: float) -> bool:
        """Waits until all work is done, trying again at once what was put off; False when time ran out."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(self._idle, timeout_s)

    def close(self, status: str, timeout_s: float) -> bool:
        """Drains, gives the parent run its status and ends the thread; True when everything landed.

        Never takes much longer than ``timeout_s``. What did not land by then is left to a later sync.
        """
        if self._refused is not None:
            return False
        deadline = time.monotonic() + timeout_s
        drained = self.drain(timeout_s * _CLOSING_SHARE)
        undelivered = None if drained else self._trouble or "MLflow: some results were not sent in time"
        with self._changed:
            # a start after the closing would leave a run RUNNING for ever: what is late stays on the disk
            self._queue = [_Job(kind="close", status=status)]
        closed = self.drain(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._ended = True
            self._queue = []
            self._trouble = undelivered or self._trouble
            self._changed.notify_all()
        return drained and closed

    def _put(self, job: _Job) -> None:
        with self._changed:
            if not self._ended and job not in self._queue:
                self._queue.append(job)
                self._changed.notify_all()

    def _idle(self) -> bool:
        return not self._queue and self._current is None

    def _opening(self) -> bool:
        return any(job is not None and job.kind == "open" for job in (self._current, *self._queue))

    def _work(self) -> None:
        delay_s = FIRST_DELAY_S
        while (job := self._take()) is not None:
            try:
                job.run(self._writer)
            except Exception as problem:  # whatever it is, training goes on and the work is kept
                if job.kind == "open":
                    self._refuse(problem)
                    return
                self._give_back(job, f"MLflow: {first_line(problem, self._writer.tracking_uri)}")
                self._pause(delay_s)
                delay_s = min(2 * delay_s, LAST_DELAY_S)
            else:
                self._done()
                delay_s = FIRST_DELAY_S

    def _take(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            if self._ended:
                return None
            self._current = self._queue.pop(0)
            return self._current

    def _done(self) -> None:
        with self._changed:
            self._current = None
            if not self._queue:
                self._trouble = None
            self._changed.notify_all()

    def _give_back(self, job: _Job, trouble: str) -> None:
        """Behind the other cohorts' work, and before what waits for the same cohort: its order matters."""
        with self._changed:
            self._current = None
            self._trouble = trouble
            others = [entry for entry in self._queue if entry.cohort != job.cohort]
            same = [entry for entry in self._queue if entry.cohort == job.cohort and entry != job]
            closing = any(entry.kind == "close" for entry in others)
            self._queue = others if closing else [*others, job, *same]
            self._changed.notify_all()

    def _refuse(self, problem: Exception) -> None:
        """Without an open launch there is nothing to write to: the thread ends."""
        with self._changed:
            self._refused, self._ended = problem, True
            self._current, self._queue = None, []
            self._changed.notify_all()

    def _pause(self, delay_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._hurry or self._ended, delay_s)
            self._hurry = False
