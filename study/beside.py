"""Work in a thread of its own, beside something that mostly waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T], *, name: str) -> Future[T]:
    """Begins ``work``; the future gives what it returned, or raises what it raised.

    A daemon thread, not a pool's, so that a process that is told to end does not wait for it.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as problem:
            future.set_exception(problem)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
