"""Families of processes that tests start: found by descent or by a folder's name, ended by their ids alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

MARK = "LOOPBACK_NODE"
"""The environment variable that names a family's folder."""
PATIENCE_S = 300.0
"""For machines that are shared: it only says how long a test that fails goes on waiting."""


def descendants(pid: int) -> list[psutil.Process]:
    """The process and everything below it; nothing where it is gone."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def naming(folder: Path) -> Iterator[psutil.Process]:
    """Processes whose command line, working folder or environment names this folder: nobody else's do."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and _names(process, str(folder)):
                yield process


def end_all(running: Callable[[], list[psutil.Process]]) -> None:
    """SIGKILL to what runs until nothing does; the first look is the whole family, before any of it is orphaned."""

    def ended() -> bool:
        processes = [process for process in running() if process.is_running() and not _is_zombie(process)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=2)
        return not processes

    until(ended, lambda: f"survive SIGKILL: {running()}")


def _names(process: psutil.Process, folder: str) -> bool:
    if _is_zombie(process):
        return False
    words = [*process.cmdline(), process.cwd(), process.environ().get(MARK, "")]
    return any(f"{folder}/" in f"{word}/" for word in words)


def is_raylet(process: psutil.Process) -> bool:
    """Whether it is a node's raylet, alive."""
    with contextlib.suppress(psutil.Error):
        return process.name() == "raylet" and not _is_zombie(process)
    return False


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def until(true: Callable[[], bool], complaint: Callable[[], str]) -> None:
    """Waits until ``true()``; raises AssertionError with the complaint after ``PATIENCE_S``."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(complaint())
        time.sleep(0.2)
