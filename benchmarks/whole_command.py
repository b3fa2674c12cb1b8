"""Where the wall time of `ganstudy run` and `ganstudy report` goes, and how long `ganstudy --help` takes.

    .venv/bin/python -m benchmarks.whole_command [studies/quickstart.yaml] [--set replicates=1 ...] [--json FILE]

Whole processes, as a user starts them, watched from outside: the run prints each phase as it enters it, and its files
say when the first trial claimed its cohort and when the last wrote its checkpoint. For studies of one launch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "studies/quickstart.yaml"

PARTS: Mapping[str, str] = {
    "planning_s": "imports, validation, plan",
    "start_s": "Ray starts, references are measured, MLflow opens, until the first trial's process trains",
    "training_s": "training: first trial's start to last trial's end",
    "ray_end_s": "Tune's end and Ray's shutdown",
    "mlflow_s": "the last results go to MLflow",
    "exit_s": "the process ends",
}
"""Parts of a run's wall time, in order."""

_ENTERED = ("starting Ray, measuring the references, opening MLflow", "sending the last results to MLflow")
_ENDED = "replicates ended"


@dataclass(frozen=True)
class Watched:
    """A process that ended well: seconds since the epoch of its start, its end, and each line that it printed."""

    began: float
    ended: float
    lines: tuple[tuple[float, str], ...]

    @property
    def wall_s(self) -> float:
        """From start to end."""
        return self.ended - self.began

    def at(self, text: str) -> float:
        """When it first printed a line that ends with ``text``; ValueError where it never did."""
        for when, line in self.lines:
            if line.rstrip().endswith(text):
                return when
        raise ValueError(f"never printed {text!r}; only studies of one launch that train can be split")


def user_environment(**more: str) -> dict[str, str]:
    """As a user has it, with this checkout's code, and no token asked for."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # which benchmarks set
    return own | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "PYTHONUNBUFFERED": "1"} | more


def watched(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, fine: Sequence[int] = (0,)
) -> Watched:
    """Runs a command to its end; what it said is shown when its exit code is none of ``fine``."""
    began = time.time()
    lines: list[tuple[float, str]] = []
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.time(), line))
    if process.returncode not in fine:
        said = "".join(line for _, line in lines[-40:])
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Watched(began, time.time(), tuple(lines))


def ganstudy(*arguments: str | Path) -> list[str]:
    """The command line of this checkout's ganstudy."""
    return [sys.executable, "-m", "study", *map(str, arguments)]


def trials(study: Path) -> list[tuple[float, float]]:
    """When each trial claimed its cohort and when it wrote its last checkpoint, in seconds since the epoch."""
    found = []
    for claim in study.glob("cohorts/*/writer"):
        written = [path.stat().st_mtime for path in claim.parent.glob("checkpoint-*/*")]
        found.append((claim.stat().st_mtime, max(written)))
    return found


def split(run: Watched, study: Path, *, cores: int) -> dict[str, float]:
    """Seconds of each of PARTS, their sum ``wall_s``, the share that is not training, and how busy the cores were."""
    starting, sending = (run.at(text) for text in _ENTERED)
    claimed = trials(study)
    first, last = min(began for began, _ in claimed), max(ended for _, ended in claimed)
    marks = (run.began, starting, first, last, sending, run.at(_ENDED), run.ended)
    seconds = {name: after - before for name, before, after in zip(PARTS, marks, marks[1:], strict=False)}
    busy = sum(ended - began for began, ended in claimed) / (cores * (last - first))
    return {**seconds, "wall_s": run.wall_s, "not_training": 1 - seconds["training_s"] / run.wall_s, "busy": busy}


def study_run(spec: Path, folder: Path, *, changes: Sequence[str] = (), **more: str) -> dict[str, float]:
    """``ganstudy run`` under ``folder``/runs, split; ``more`` joins its environment."""
    from study.folder import study_names

    home = folder / "runs"
    command = ganstudy("run", spec, "--home", home, *(part for one in changes for part in ("--set", one)))
    run = watched(command, environment=user_environment(**more), folder=folder)
    [name] = study_names(home)
    return split(run, home / name, cores=len(os.sched_getaffinity(0)))


def help_seconds(*, rounds: int = 7) -> dict[str, float]:
    """Best and median seconds of `ganstudy --help`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment, command = user_environment(), ganstudy("--help")
        taken = [watched(command, environment=environment, folder=Path(folder)).wall_s for _ in range(rounds)]
    return {"best_s": min(taken), "median_s": statistics.median(taken), "rounds": rounds}


def measure(spec: Path = QUICKSTART, *, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A study's run and report, and the help."""
    from study.folder import study_names

    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        folder = Path(scratch)
        run = study_run(spec.absolute(), folder, changes=changes)
        [name] = study_names(folder / "runs")
        told = ganstudy("report", name, "--home", folder / "runs")
        # 3: a report that warns more than it says, as of studies made small by --set
        report_s = watched(told, environment=user_environment(), folder=folder, fine=(0, 3)).wall_s
    share = 1 - run["training_s"] / (run["wall_s"] + report_s)
    return {
        "study": name,
        "set": list(changes),
        "run": run,
        "report_s": report_s,
        "not_training_with_report": share,
        "help": help_seconds(),
    }


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Part, seconds and share of run and report together."""
    whole = found["run"]["wall_s"] + found["report_s"]
    parts = [(text, found["run"][name]) for name, text in PARTS.items()]
    parts += [("`ganstudy report`", found["report_s"]), ("all", whole)]
    return [[text, f"{seconds:.1f}", f"{seconds / whole:.0%}"] for text, seconds in parts]


def main() -> None:
    from benchmarks.circumstances import circumstances, sentence

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--set", action="append", default=[], dest="changes", help="as of `ganstudy run`; repeatable")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    where = circumstances()
    found = {"circumstances": where, **measure(arguments.spec, changes=arguments.changes)}
    for text, seconds, share in rows(found):
        print(f"{seconds:>8s} s {share:>5s}  {text}")
    print(f"not training: {found['run']['not_training']:.0%} of the run, "
          f"{found['not_training_with_report']:.0%} with the report; cores busy while training: "
          f"{found['run']['busy']:.0%}; --help {found['help']['median_s']:.2f} s. {sentence(where)}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
