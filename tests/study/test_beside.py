"""Work beside other work: its result, its failure, and that nobody waits for it who does not want to."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from study.beside import beside


def test_it_runs_while_its_starter_goes_on() -> None:
    gate = threading.Event()
    future = beside(lambda: gate.wait(60), name="waits")
    assert not future.done()
    gate.set()
    assert future.result(60) is True


@pytest.mark.parametrize("problem", [ValueError("target: gone"), KeyboardInterrupt()])
def test_what_it_raised_is_raised_where_it_is_asked_for(problem: BaseException) -> None:
    def work() -> None:
        raise problem

    with pytest.raises(type(problem)) as caught:
        beside(work, name="fails").result(60)
    assert caught.value is problem


def test_a_process_that_ends_does_not_wait_for_it() -> None:
    code = "import threading; from study.beside import beside; beside(threading.Event().wait, name='for ever')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
