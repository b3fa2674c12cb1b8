"""What the driver of a large study does beside training: time and peak memory of planning and bookkeeping.

    .venv/bin/python -m benchmarks.bookkeeping [--replicates 10000] [--evaluations 100] [--json FILE]

`ganstudy run` without Ray: the study is validated, planned and locked, its files are written, its references measured,
its launch opened in MLflow (sqlite); then each cohort's trial starts, reports and ends, its checkpoint appears, and
ledger, tally, progress file and MLflow's runs follow, by the driver's own code, until all is delivered and the launch
is closed. The checkpoints were made before, of curves of known shapes: nothing is trained. Afterwards
the same process reads the frozen plan again, and `ganstudy status` looks at the study. What Ray Tune costs for each
trial is in benchmarks/reliability.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.made_study import CONFIGURATIONS, EVALUATIONS, HORIZON, REFERENCE, STUDY, spec_of, train_all
from benchmarks.resident import peak_rss_bytes

if TYPE_CHECKING:
    from study.attempt import Attempt
    from study.spec import StudySpec

ROOT = Path(__file__).resolve().parent.parent
REPORTS = 30
"""Of each trial: one every half second, for as long as 32 members need on two cores."""
GOALS = {"total_s": 60.0, "peak_rss_mb": 1000.0}

PARTS = {
    "imports_s": "imports, Ray's and MLflow's among them",
    "planning_s": "validation, plan, lock",
    "files_s": "plan.json, launch.json and the study file are written",
    "references_s": "references and judge",
    "opening_s": "MLflow opens",
    "events_s": "the driver's loop: starts, reports and ends of all trials; MLflow is told beside it",
    "delivery_s": "until MLflow has the rest and the launch is closed",
    "parse_s": "plan.json is read back",
    "status_s": "`ganstudy status`",
}
"""Parts of the time, in order; together they are total_s."""


class Stopwatch:
    """Seconds by part, and the process's peak so far after each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks_mb: dict[str, float] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Times one part."""
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began
        self.peaks_mb[part] = peak_rss_bytes() / 2**20

    def timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method under the watch."""

        @functools.wraps(method)
        def within(*arguments: Any, **more: Any) -> Any:
            with self.of(part):
                return method(*arguments, **more)

        return within


def stage(home: Path, spec: StudySpec) -> None:
    """References where the study will look for them, and every cohort's checkpoint aside, until its trial ends."""
    from study.folder import write_json
    from study.plan import plan_for
    from study.ray_doorway import local_resources

    plan = plan_for(spec, local_resources())
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    write_json(home / STUDY / "reference.json", {"schema": 1, "targets": targets})
    train_all(home / "aside", plan)


def driven(home: Path, spec: StudySpec) -> dict[str, Any]:
    """The driver in this process, trials played; the home was staged."""
    watch = Stopwatch()
    with watch.of("imports_s"):
        import mlflow  # noqa: F401

        from study import attempt, launch, search, trainable  # noqa: F401
    driver = player(watch, aside=home / "aside" / "cohorts")
    inner = ("files_s", "references_s", "opening_s", "events_s")
    launch.Attempt = driver  # type: ignore[assignment, attr-defined]
    began = time.perf_counter()
    result = launch.run(spec, home=home)
    wall = time.perf_counter() - began
    assert result.exit_code == 0, result
    watch.seconds["planning_s"] = watch.seconds.pop("before_attempt") - began
    rest = wall - watch.seconds["planning_s"] - sum(watch.seconds[part] for part in inner)
    watch.seconds["delivery_s"], watch.peaks_mb["delivery_s"] = rest, peak_rss_bytes() / 2**20
    cohorts = looked_back(home, watch)
    seconds = {part: watch.seconds[part] for part in PARTS}
    return {
        "replicates": result.planned,
        "configurations": CONFIGURATIONS,
        "cohorts": cohorts,
        "evaluations": spec.budget.evaluations,
        "seconds": seconds,
        "total_s": sum(seconds.values()),
        "peak_rss_mb": peak_rss_bytes() / 2**20,
        "peaks_mb": watch.peaks_mb,
        "outcomes": dict(result.counts),
    }


def looked_back(home: Path, watch: Stopwatch) -> int:
    """Reads the plan and the status as other commands do; returns how many cohorts there are."""
    from study.folder import StudyFolder
    from study.status import study_status
    from study.tally import read_plan

    folder = StudyFolder(home, STUDY)
    with watch.of("parse_s"):
        plan = read_plan(folder)
    with watch.of("status_s"):
        study_status(folder)
    return len(plan.cohorts)


def player(watch: Stopwatch, *, aside: Path) -> type[Attempt]:
    """The driver with the watch on its parts, and a loop over played trials in place of Ray Tune's."""
    from study.attempt import Attempt
    from study.progress import TRAINING

    class Player(Attempt):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            watch.seconds["before_attempt"] = time.perf_counter()
            super().__init__(*arguments, **more)

        def _train(self) -> None:
            with watch.of("references_s"):
                self._measure_references()
            with watch.of("opening_s"):
                tracker = self._get_ready()
                tracker.opened()
            self._progress.enter(TRAINING)
            with watch.of("events_s"):
                events(self, tracker, aside=aside)

    Player._write_files = watch.timed("files_s", Attempt._write_files)  # type: ignore[method-assign]
    return Player


def events(driver: Any, tracker: Any, *, aside: Path) -> None:
    """What Ray Tune would tell the driver's listener, trial by trial in plan order, at once."""
    from study.listener import Listener

    listener = Listener(
        progress=driver._progress,
        tracker=tracker,
        interruption=driver._interruption,
        count_outcomes=driver._outcomes,
        was_stopped=lambda cohort: False,
        record_death=driver._record_death,
        publish=driver._publish,
        cluster_alive=lambda: True,
    )
    for entry in driver.plan.cohorts:
        trial = SimpleNamespace(config={"cohort": entry.cohort}, last_result={"complete": 1.0})
        alive = float(len(entry.members))
        listener.on_trial_start(0, [], trial)
        for report in range(1, REPORTS + 1):
            step = float(HORIZON * report // REPORTS)
            result = {"generator_step": step, "alive": alive, "checkpointed_step": -1.0}
            listener.on_trial_result(0, [], trial, result)
            listener.on_step_end(0, [])
        place(aside / entry.cohort, driver._folder.cohort(entry.cohort))
        listener.on_trial_complete(0, [], trial)
        listener.on_step_end(0, [])


def place(made: Path, cohort: Path) -> None:
    """The checkpoint appears where a trial would have written it."""
    cohort.parent.mkdir(parents=True, exist_ok=True)
    made.rename(cohort)


def measure(*, replicates: int = 10_000, evaluations: int = EVALUATIONS) -> dict[str, Any]:
    """Stage and driver in a process each, so that the driver's peak is its own."""
    with tempfile.TemporaryDirectory(prefix="bookkeeping-", dir="/tmp") as folder:
        for part in ("stage", "driver"):
            command = [sys.executable, "-m", "benchmarks.bookkeeping", *("--replicates", str(replicates))]
            environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
            command += ["--evaluations", str(evaluations), "--part", part, "--home", str(Path(folder) / "runs")]
            began = time.perf_counter()
            done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
            print(f"{part}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1])) | {"goals": GOALS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=10_000, help=f"of all {CONFIGURATIONS} configurations")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of each, beside the one at step 0")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=("stage", "driver"), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = {"replicates": arguments.replicates, "evaluations": arguments.evaluations}
    if arguments.part:
        spec = spec_of(replicates=max(1, size["replicates"] // CONFIGURATIONS), evaluations=size["evaluations"])
        print(json.dumps({"stage": stage, "driver": driven}[arguments.part](arguments.home, spec)))
        return
    from benchmarks.circumstances import circumstances

    where = circumstances()
    text = json.dumps({"circumstances": where, **measure(**size)}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
