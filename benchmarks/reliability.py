"""The promises of reliability as numbers, each against its gate; exit code 1 when one is missed.

    .venv/bin/python -m benchmarks.reliability [--only no-op reports ...] [--json FILE]

The driver, searcher, listener and trainable are those of `ganstudy run`, MLflow and PostgreSQL are real ones. Counts
and ratios hold on any machine; seconds were set for two free cores, and the load of the machine is written beside them.
Parts that are run alone replace their own figures in the file and leave the others'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import recovery
from benchmarks.driven_attempts import LOOK_EVERY, SMALL
from benchmarks.killer import damage
from study.audit import audit
from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder, write_json
from study.plan import make_plan
from study.spec import StudySpec
from tests.faults.proxy import Proxy
from tests.faults.servers import MlflowServer, Postgres
from tests.study.tracked import REFERENCE, TrackedStudy

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "reliability-2-cores.json"


@dataclass(frozen=True)
class Gate:
    """A figure that must be at most (or at least) a limit."""

    text: str
    limit: float
    least: bool = False

    def holds(self, value: float) -> bool:
        """Whether the figure keeps the promise."""
        return value >= self.limit if self.least else value <= self.limit


GATES = {
    "violations": Gate("lost, doubled or untrue in all audits", 0),
    "flips_noticed": Gate("flipped bits noticed, of 100", 100, least=True),
    "no_op_ms": Gate("ms for each of 2,000 trials without work", 60),
    "no_op_growth": Gate("cost of a trial at 2,000 over that at 500, driver and trials", 1.2),
    "no_op_kb": Gate("kB of driver memory for each trial", 100),
    "report_up_ms": Gate("ms mean that an evaluation's report costs a trial, MLflow up", 2),
    "report_down_ms": Gate("the same, MLflow away", 2),
    "trial_s": Gate("s until a killed trial's next checkpoint, median", 10),
    "node_s": Gate("s after a lost machine, median", 15),
    "driver_s": Gate("s after a killed driver that is started again, median", 60),
    "sqlite_per_s": Gate("measurements a second into SQLite", 500, least=True),
    "server_per_s": Gate("the same through a server on SQLite", 500, least=True),
    "postgresql_per_s": Gate("the same through a server on PostgreSQL", 500, least=True),
}

Figures = dict[str, Any]


class Audits:
    """Everything that was sent here is audited: ``points`` numbers were compared, ``violations`` found wrong."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.violations: list[str] = []

    def look(self, folder: StudyFolder) -> int:
        """Audits one study; returns how many measurements MLflow holds of it."""
        found = audit(folder)
        self.checked.update(found.checked)
        self.violations += [f"{folder.study}: {one.invariant} {one.subject}: {one.text}" for one in found.violations]
        return found.checked["points"]


def no_op(folder: Path, audits: Audits, *, cohorts: int = 2000) -> Figures:
    """Cost and memory of trials that have nothing to do; windows of 250 trials around 500 and at the end."""
    marks = driven("no-op", folder / "runs", str(cohorts))["marks"]
    assert len(marks) == cohorts, len(marks)
    return figures_of(marks)


def figures_of(marks: Sequence[Sequence[float]]) -> Figures:
    """From (seconds, processor seconds of all processes, bytes of the driver) at the end of each trial."""
    cohorts = len(marks)
    quarter = cohorts // 4
    windows = {"early": (quarter // 2, 3 * quarter // 2), "late": (cohorts - quarter, cohorts - LOOK_EVERY)}

    def per_trial(column: int, window: tuple[int, int]) -> float:
        first, last = window
        return float((marks[last][column] - marks[first][column]) / (last - first))

    wall = {name: 1e3 * per_trial(0, window) for name, window in windows.items()}
    cpu = {name: 1e3 * per_trial(1, window) for name, window in windows.items()}
    return {
        "no_op_ms": 1e3 * per_trial(0, (0, cohorts - 1)),
        "no_op_growth": cpu["late"] / cpu["early"],
        "no_op_kb": per_trial(2, (quarter, cohorts - 1)) / 1e3,
        "wall_ms": wall,
        "cpu_ms": cpu,
        "rss_mb": marks[-1][2] / 1e6,
    }


def reports(folder: Path, audits: Audits, *, steps: int = 3000) -> Figures:
    """What reporting costs the trials of a real run, with MLflow there and with MLflow away while they train."""
    figures: Figures = {}
    with MlflowServer(folder) as server:
        for mode, name in (("pass", "up"), ("refuse", "down")):
            home = folder / name
            study = StudyFolder(home, "reports")
            with Proxy(server.port) as proxy:
                process = started("reports", home, proxy.uri, str(steps))
                try:
                    _wait_for(process, lambda study=study: any(study.root.glob("cohorts/*/checkpoint-*")))
                    proxy.set(mode)
                    _wait_for(process, lambda study=study: len(list(study.root.glob("timings/*.json"))) == 4)
                    proxy.set("pass")
                    found = result(process)
                finally:
                    process.kill()
                audits.look(study)
            figures[f"report_{name}_ms"] = 1e3 * statistics.fmean(found["calls"])
            figures[name] = {
                "evaluations": len(found["calls"]),
                "sent": len(found["sent"]),
                "sent_ms_mean": 1e3 * statistics.fmean(found["sent"]),
                "sent_ms_median": 1e3 * statistics.median(found["sent"]),
                "of_training": sum(found["calls"]) / found["wall_s"],
            }
    return figures


def recoveries(folder: Path, audits: Audits, *, steps: int = 12_000, repeats: int = 3) -> Figures:
    """Seconds until something new is measured."""
    (folder / "alone").mkdir()
    seconds, study = recovery.trial_and_driver(folder / "alone", steps=steps, repeats=repeats)
    audits.look(study)
    (folder / "cluster").mkdir()
    print(f"recovery: {json.dumps(seconds)}", flush=True)
    lost = started(folder / "cluster", str(steps), "2", module="benchmarks.recovery", RAY_AUTH_MODE="token")
    seconds |= result(lost)
    audits.look(StudyFolder(folder / "cluster" / "shared", "nodes"))
    return {f"{name}_s": statistics.median(all_) for name, all_ in seconds.items()} | {"seconds": seconds}


def delivery(folder: Path, audits: Audits, *, configurations: int = 16) -> Figures:
    """A finished study into MLflow: runs, curves, rows, samples and pictures, as `sync` sends it."""
    figures: Figures = {"configurations": configurations}
    (folder / "sqlite").mkdir()
    figures["sqlite_per_s"] = _delivered(folder / "sqlite", f"sqlite:///{folder}/sqlite/mlflow.db", audits)
    with MlflowServer(_made(folder / "served")) as server:
        figures["server_per_s"] = _delivered(folder / "served", f"http://127.0.0.1:{server.port}", audits)
    with Postgres() as postgres, MlflowServer(_made(folder / "pg"), database=postgres.uri) as server:
        figures["postgresql_per_s"] = _delivered(folder / "pg", f"http://127.0.0.1:{server.port}", audits)
    return figures


def flips(folder: Path, audits: Audits, *, count: int = 100) -> Figures:
    """Single flipped bits in any file of either checkpoint, put back each time."""
    study = _stage(folder, uri="", configurations=8)
    cohort = study.root / "cohorts" / study.cohorts[0]
    study.train(study.cohorts[0], evaluations=8)
    study.train(study.cohorts[0])
    files, rng = sorted(cohort.glob("checkpoint-*/*")), random.Random(5)
    noticed = 0
    for _ in range(count):
        path = rng.choice(files)
        content = path.read_bytes()
        damage(path, "flipped", rng)
        noticed += bool(newest_checkpoint(cohort, older=True).damaged)
        path.write_bytes(content)
    assert not newest_checkpoint(cohort, older=True).damaged
    return {"flips_noticed": noticed, "files": len(files)}


PARTS: dict[str, Callable[[Path, Audits], Figures]] = {
    "flips": flips,
    "no-op": no_op,
    "reports": reports,
    "recovery": recoveries,
    "delivery": delivery,
}


def started(*arguments: str | Path, module: str = "benchmarks.driven_attempts", **more: str) -> subprocess.Popen[str]:
    """A measurement in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"} | more
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def result(process: subprocess.Popen[str]) -> Figures:
    """What it printed last."""
    stdout, _ = process.communicate()
    if process.returncode:
        raise AssertionError(f"{process.args} ended with {process.returncode}")
    return dict(json.loads(stdout.splitlines()[-1]))


def driven(*arguments: str | Path) -> Figures:
    """Starts a measurement and waits for it."""
    return result(started(*arguments))


def _wait_for(process: subprocess.Popen[str], true: Callable[[], bool]) -> None:
    while not true():
        if process.poll() is not None:
            raise AssertionError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.05)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _stage(folder: Path, *, uri: str, configurations: int) -> TrackedStudy:
    spec = StudySpec.from_dict(
        {
            **SMALL,
            "study": "delivered",
            "scientific": {"loss": ["minimax", "hinge"], "k": [1, 2]},
            "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-2, "points": configurations // 4, "scale": "log"}},
            "replicates": 8,
            "budget": {"unit": "generator_steps", "value": 410, "evaluations": 20, "evaluation_samples": 500},
        }
    )
    plan, home = make_plan(spec, workers=2), StudyFolder(folder / "runs", spec.study)
    home.root.mkdir(parents=True)
    home.spec_file.write_text(spec.dump())
    write_json(home.plan_file, plan.to_json())
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    write_json(home.reference_file, {"schema": 1, "targets": targets})
    write_json(home.launch_file, {"schema": 1, "launch": "L1", "attempt": 1, "tracking_uri": uri})
    return TrackedStudy(root=home.root, spec=spec, plan=plan)


def _delivered(folder: Path, uri: str, audits: Audits, *, configurations: int = 16) -> float:
    """Measurements a second."""
    study = _stage(folder, uri=uri, configurations=configurations)
    for cohort in study.cohorts:
        study.train(cohort)
    tracker = study.tracker(uri=uri, artifacts=uri.startswith("sqlite"))
    tracker.open(launch="L1")
    began = time.monotonic()
    tracker.sync()
    tracker.close("FINISHED")
    seconds = time.monotonic() - began
    return audits.look(StudyFolder(study.root.parent, study.root.name)) / seconds


def measured(name: str) -> Figures:
    """One part, in a folder of its own, with what its audits found and the load it began under."""
    audits, load, began = Audits(), os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reliability-", dir="/tmp") as folder:
        figures = PARTS[name](Path(folder), audits)
    return figures | {
        "seconds_taken": round(time.monotonic() - began, 1),
        "load_before": load,
        "audited": dict(audits.checked),
        "violations": audits.violations,
    }


def judged(parts: Mapping[str, Figures]) -> dict[str, Figures]:
    """Each gate against its figure; a gate whose part was not run has none, and does not hold."""
    figures: Figures = {key: value for part in parts.values() for key, value in part.items()}
    figures["violations"] = sum(len(part["violations"]) for part in parts.values()) if parts else None
    return {
        name: {
            "value": figures.get(name),
            "limit": gate.limit,
            "text": gate.text,
            "holds": figures.get(name) is not None and gate.holds(figures[name]),
        }
        for name, gate in GATES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default: {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    parts: dict[str, Figures] = json.loads(arguments.json.read_text())["parts"] if arguments.json.exists() else {}
    for name in arguments.only:
        parts[name] = measured(name)
        print(f"{name}: {json.dumps(parts[name])}", flush=True)
    sys.exit(written(parts, arguments.json))


def written(parts: Mapping[str, Figures], out: Path) -> int:
    """Prints and writes the verdicts; 1 where a gate is missed."""
    verdicts = judged(parts)
    for name, verdict in verdicts.items():
        word = "ok" if verdict["holds"] else "not run" if verdict["value"] is None else "MISSED"
        value = "" if verdict["value"] is None else f"{verdict['value']:,.2f}"
        sign = ">=" if GATES[name].least else "<="
        print(f"{word:8s}{value:>10s} {sign} {verdict['limit']:<6g} {verdict['text']}")
    versions = {package: version(package) for package in ("ray", "torch", "mlflow")}
    facts = {
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version()} | versions,
        "gates": verdicts,
        "parts": parts,
    }
    out.write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if all(verdict["holds"] for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    main()
