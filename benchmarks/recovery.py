"""How long a study needs until it measures again after it lost a trial, a machine or its driver; seconds.

`python -m benchmarks.recovery FOLDER STEPS REPEATS` loses machines, in a process of its own: Ray reads once, when it is
imported, whether it needs a token.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.driven_attempts import SMALL
from benchmarks.killer import trials_of
from study.cluster import Cluster
from study.folder import StudyFolder
from tests.clusters import LoopbackCluster
from tests.faults.test_process_faults import trial_processes
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = "0.5"
"""Between checkpoints: what a trial does again after a loss, and the grain of what is measured here."""
LOOK_EVERY_S = 0.05
PATIENCE_S = 900.0

Places = dict[str, tuple[str, int]]
"""Cohort -> (which process writes it, generator step of its newest checkpoint)."""


def study_file(folder: Path, name: str, *, steps: int) -> Path:
    """Two cohorts that train for a while."""
    spec = {
        **SMALL,
        "study": name,
        "scientific": {"loss": ["minimax", "hinge"], "k": [1]},
        "nuisance": {"learning_rate": [1e-3]},
        "replicates": 2,
        "budget": {"unit": "generator_steps", "value": steps, "evaluations": 40, "evaluation_samples": 200},
        "resources": {"cohort_size": 2},
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(spec))
    return path


def places(folder: StudyFolder) -> Places:
    """Where each cohort is, by the names of its files."""
    found: Places = {}
    for writer in folder.root.glob("cohorts/*/writer"):
        steps = [int(path.name.removeprefix("checkpoint-").rstrip("~")) for path in writer.parent.glob("checkpoint-*")]
        found[writer.parent.name] = (writer.read_text(), max(steps, default=0))
    return found


def going(folder: StudyFolder) -> bool:
    """Whether both cohorts have a checkpoint."""
    found = places(folder)
    return len(found) == 2 and all(step > 0 for _, step in found.values())


def seconds_until_measured(folder: StudyFolder, before: Places) -> float:
    """Until another process has written a cohort's next checkpoint, from now on."""
    began = time.monotonic()
    while not any(
        writer != before[cohort][0] and step > before[cohort][1]
        for cohort, (writer, step) in places(folder).items()
        if cohort in before
    ):
        if time.monotonic() - began > PATIENCE_S:
            raise AssertionError(f"{folder.study} did not go on: {before} -> {places(folder)}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


def launched(spec: Path, home: Path) -> subprocess.Popen[bytes]:
    """`ganstudy run`, quietly."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "GANSTUDY_CHECKPOINT_EVERY_S": EVERY_S,
    }
    command = [sys.executable, "-m", "study", "run", str(spec), "--home", str(home)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trial_and_driver(folder: Path, *, steps: int, repeats: int) -> tuple[dict[str, list[float]], StudyFolder]:
    """A study on this machine: its trials are killed, then its driver, each so many times; it ends in peace."""
    spec, study = study_file(folder, "recovery", steps=steps), StudyFolder(folder / "runs", "recovery")
    seconds: dict[str, list[float]] = {"trial": [], "driver": []}
    driver = launched(spec, study.home)
    try:
        _wait(lambda: going(study), "checkpoint")
        for _ in range(repeats):
            before = places(study)
            trial_processes(driver.pid)[0].kill()
            seconds["trial"].append(seconds_until_measured(study, before))
        for _ in range(repeats):
            before = places(study)
            driver.kill()
            driver.wait()
            driver = launched(spec, study.home)
            seconds["driver"].append(seconds_until_measured(study, before))
        if driver.wait(timeout=PATIENCE_S) != 0:
            raise AssertionError("the study did not end well")
    finally:
        driver.kill()
        driver.wait()
    return seconds, study


def node(folder: Path, *, steps: int, repeats: int) -> tuple[list[float], StudyFolder]:
    """A study on three machines with the settings of deploy/environment.sh: one after the other is lost."""
    home = folder / "shared"
    with LoopbackCluster(folder, nodes=3, cpus=1, environment=_deployed() | {"GANSTUDY_HOME": str(home)}) as cluster:
        os.environ.update(cluster.env)  # the token
        spec, study = study_file(folder, "nodes", steps=steps), StudyFolder(home, "nodes")
        jobs = Cluster(cluster.address, home=str(home))
        jobs.submit("nodes", ["run", "study.yaml", "--address", "auto"], files={"study.yaml": spec})
        _wait(lambda: going(study), "checkpoint")
        seconds = []
        for _ in range(repeats):
            before = places(study)
            cluster.kill_node(next(p for p, one in enumerate(cluster.nodes) if p and not one.killed and trials_of(one)))
            seconds.append(seconds_until_measured(study, before))
            cluster.add_node(wait=False)
        _wait(lambda: jobs.running("nodes") is None, "end")
    return seconds, study


def _deployed() -> dict[str, str]:
    """Ray's checks of health as deploy/environment.sh has them."""
    command = ["bash", "-c", ". deploy/environment.sh && env"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={"HOME": "/nonexistent"})
    found: dict[str, Any] = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    checks = {name: value for name, value in found.items() if name.startswith("RAY_health_check_")}
    return checks | {"GANSTUDY_CHECKPOINT_EVERY_S": EVERY_S}


def _wait(true: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return until(true, lambda: f"no {what}")
        except AssertionError:
            continue
    raise AssertionError(f"no {what} within {PATIENCE_S:g} s")


def main() -> None:
    """Prints the seconds after each lost machine as JSON; the study lies in FOLDER/shared."""
    folder, steps, repeats = sys.argv[1:]
    seconds, _ = node(Path(folder), steps=int(steps), repeats=int(repeats))
    print(json.dumps({"node": seconds}))


if __name__ == "__main__":
    main()
