"""SIGINT, SIGTERM and the stop file: the first asks the study to stop and keeps its state, a second signal ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from study.folder import StudyFolder

INTERRUPTED = 130
GIVE_UP_S = 9.0
"""The longest a stop may take: a Ray that was killed along with us never answers again."""

_POLL_EVERY_S = 0.5


class Interrupted(BaseException):
    """Raised at the signal itself while nothing is training; a BaseException so that no library swallows it."""


class Interruption:
    """Whether, why and since when the study is asked to stop.

    While ``training`` is set, a signal writes the stop file and returns: the trials see it and write checkpoints.
    Otherwise it raises Interrupted where it arrives, since nothing needs to be saved.
    """

    def __init__(self, folder: StudyFolder, *, announce: Callable[[str], None]) -> None:
        self.reason = ""
        self.training = False
        self._folder = folder
        self._announce = announce
        self._since = 0.0
        self._polled_at = float("-inf")
        self._previous: dict[int, Any] = {}
        self._last_resort: threading.Timer | None = None
        self.last_words: Callable[[], object] = lambda: None

    def __enter__(self) -> Interruption:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if self._last_resort is not None:
            self._last_resort.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Takes the signals; called again after ``ray.init``, which installs a SIGTERM handler of its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, self._on_signal)
            self._previous.setdefault(number, previous)

    @property
    def requested(self) -> bool:
        """Whether the study is asked to stop."""
        return bool(self.reason)

    def elapsed_s(self) -> float:
        """Seconds since the study was asked to stop."""
        return time.monotonic() - self._since if self.reason else 0.0

    def poll(self, *, at_once: bool = False) -> bool:
        """Looks for a stop file that somebody else wrote, at most twice a second; returns ``requested``."""
        if not self.reason and (at_once or time.monotonic() - self._polled_at >= _POLL_EVERY_S):
            self._polled_at = time.monotonic()
            self._request(self._folder.stop_reason())
        return self.requested

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(INTERRUPTED)  # the kernel frees the lock, Ray's processes follow their driver
        name = signal.Signals(number).name
        self._request(name)
        self._last_resort = threading.Timer(GIVE_UP_S, self._give_up)
        self._last_resort.daemon = True
        self._last_resort.start()
        if not self.training:
            raise Interrupted(name)
        self._folder.ask_to_stop(name)

    def _give_up(self) -> None:
        try:
            self._announce("Ray does not answer any more: ended here, the last checkpoints stand; `resume` goes on")
            self.last_words()
        finally:
            os._exit(INTERRUPTED)

    def _request(self, reason: str | None) -> None:
        if reason is None or self.reason:
            return
        self.reason, self._since = reason or "stop", time.monotonic()
        self._announce(f"stopping ({self.reason}): trials write their checkpoints; again to end at once")
