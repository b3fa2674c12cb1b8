"""Launches at the same moment: of one study, where exactly one may win, and of two studies, where both must."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from study.folder import StudyFolder, lock_holder
from tests.conftest import TINY, Started, environment
from tests.faults.conftest import violations, write_spec
from tests.faults.rows import histories

pytestmark = pytest.mark.slow

STARTING_LINE = """
import os, sys, threading
import study.cli, study.launch
from study.launch import StudyResult

spec, home, races = sys.argv[1], sys.argv[2], int(sys.argv[3])

def hold(folder, checked, plan, record, console):
    # the winner has the lock and trains; it lets go when the race is decided
    print("won", flush=True)
    sys.stdin.readline()
    return StudyResult(study=checked.study, home=folder.home, tracking_uri="", counts={}, planned=0, exit_code=0)

study.launch._attempt = hold
sys.argv = ["ganstudy", "run", spec, "--home", home]
print("ready", flush=True)
for _ in range(races):
    sys.stdin.readline()
    try:
        study.cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    print(f"exit {code}", flush=True)
    print("over", file=sys.stderr, flush=True)
"""


class Racer:
    """A command line that has its imports behind it and waits for the signal to run ``ganstudy run``."""

    def __init__(self, spec: Path, home: Path, *, races: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", STARTING_LINE, str(spec), str(home), str(races)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def say(self) -> None:
        """Starts it, or lets the winner go."""
        stream = self._stream(self._process.stdin)
        stream.write("\n")
        stream.flush()

    def hear(self) -> str:
        """The next thing that matters: ready, won, or exit with its code."""
        for line in self._stream(self._process.stdout):
            if line.split()[:1] in (["ready"], ["won"], ["exit"]):
                return line.strip()
        raise AssertionError(self._process.communicate()[1])

    def complaint(self) -> str:
        """What it said to stderr in this race."""
        lines: list[str] = []
        for line in self._stream(self._process.stderr):
            if line == "over\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError("".join(lines))

    def end(self) -> None:
        """No more races."""
        self._process.kill()
        self._process.communicate()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@pytest.fixture
def racers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Racer, Racer]]:
    spec = write_spec(tmp_path)
    pair = tuple(Racer(spec, tmp_path / "runs", races=request.param) for _ in range(2))
    try:
        assert [racer.hear() for racer in pair] == ["ready", "ready"]
        yield pair
    finally:
        for racer in pair:
            racer.end()


def race(racers: tuple[Racer, Racer], folder: StudyFolder) -> Racer:
    """Both at once; returns the winner. The other must have ended with 1, naming it, while it still held the study."""
    for racer in racers:
        racer.say()
    heard = [racer.hear() for racer in racers]
    assert sorted(heard) == ["exit 1", "won"], heard
    winner, loser = (racers[heard.index(word)] for word in ("won", "exit 1"))
    holder = lock_holder(folder)
    assert holder is not None
    assert (holder.pid, holder.alive) == (winner.pid, True), "the loser must not touch the lock's record"
    complaint = loser.complaint()
    assert f"is being run by process {winner.pid} on " in complaint
    assert "Traceback" not in complaint
    winner.say()
    assert winner.hear() == "exit 0"
    assert "Traceback" not in winner.complaint()
    assert lock_holder(folder) is None
    return winner


@pytest.mark.parametrize("racers", [5], indirect=True)
def test_of_two_launches_at_once_exactly_one_wins(racers: tuple[Racer, Racer], tmp_path: Path) -> None:
    for _ in range(5):
        race(racers, StudyFolder(tmp_path / "runs", "tiny-ring"))


@pytest.mark.chaos
@pytest.mark.parametrize("racers", [50], indirect=True)
def test_of_two_launches_at_once_exactly_one_wins_fifty_times(racers: tuple[Racer, Racer], tmp_path: Path) -> None:
    for _ in range(50):
        race(racers, StudyFolder(tmp_path / "runs", "tiny-ring"))


def test_two_studies_and_a_double_launch_at_once_in_one_home_and_one_mlflow(
    tmp_path: Path, started: Started, truth: StudyFolder
) -> None:
    """Three real launches on a home that does not exist yet: experiments, folders and the database are made by all."""
    home, database = tmp_path / "runs", f"sqlite:///{tmp_path}/mlflow.db"
    other: dict[str, Any] = {**TINY, "study": "other-ring", "seed": 12}
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    spec = write_spec(tmp_path)
    launches = [
        started("run", file, "--home", home, "--tracking-uri", database)
        for file in (spec, spec, tmp_path / "other.yaml")
    ]
    said = [launch.communicate(timeout=240) for launch in launches]
    codes = [launch.returncode for launch in launches]
    assert sorted(codes[:2]) == [0, 1], said
    assert codes[2] == 0, said[2]
    winner = launches[codes.index(0)]
    assert f"is being run by process {winner.pid} on " in said[codes.index(1)][1]
    for name in ("tiny-ring", "other-ring"):
        assert violations(StudyFolder(home, name)) == []
    assert histories(StudyFolder(home, "tiny-ring")).equals(histories(truth))
