"""The report of a large study: `load_study` and `build_report` timed, with their peak memory.

    .venv/bin/python benchmarks/report_size.py [--replicates 100] [--http] [--json FILE]

Nothing is trained: curves of known shapes (converging, slow, oscillating, collapsing, dying) are put into checkpoints,
and the one MLflow writer sends them, so that MLflow holds exactly what a study of 5 losses x 2 k x 10 learning rates
leaves there: 100 configurations, by default 10,000 replicates with 101 evaluations each and 256 samples at five of
them. A fresh process then loads the study and builds its report, from the sqlite file or from an `mlflow server`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from study.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
STUDY, BEGAN_MS = "report-size", 1_700_000_000_000
EVALUATIONS, HORIZON, SAMPLES = 100, 3000, 256
REFERENCE = {
    "d_real": 0.05,
    "d_ref": 1.3,
    "d_far": 2.6,
    "sigma_u": 0.005,
    "quality_ceiling": 0.989,
    "coverage_ceiling": 1.0,
    "knn_coverage_ceiling": 0.95,
    "knn_precision_ceiling": 0.95,
    "dimensions": 2,
    "modes": 8,
    "evaluation_samples": 2500,
    "distance_samples": 1000,
    "seed": 1,
}
SHAPES = ("converging", "slow", "oscillating", "collapsing", "dying")


@dataclass
class Measured:
    """One evaluation of a cohort, as the trainer yields it."""

    index: int
    generator_step: int
    discriminator_steps: int
    samples_seen: int
    finite: np.ndarray
    death_step: np.ndarray
    values: dict[str, np.ndarray]
    samples: np.ndarray | None


def write_study(home: Path, *, replicates: int) -> Plan:
    """Checkpoints of every cohort, sent to MLflow by the study's own writer."""
    from study.plan import make_plan
    from study.spec import StudySpec
    from study.tracking import Tracker, sqlite_uri

    spec = StudySpec.from_dict(
        {
            "study": STUDY,
            "question": "How long does the report of a large study take?",
            "target": {"name": "ring"},
            "scientific": {"loss": ["minimax", "non_saturating", "hinge", "wgan_gp", "ns_r1"], "k": [1, 2]},
            "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "points": 10, "scale": "log"}},
            "replicates": replicates,
            "budget": {
                "unit": "generator_steps",
                "value": HORIZON,
                "evaluations": EVALUATIONS,
                "evaluation_samples": 2500,
            },
            "resources": {"cohort_size": replicates},
        }
    )
    plan = make_plan(spec, workers=2)
    root = home / STUDY
    root.mkdir(parents=True)
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    (root / "spec.yaml").write_text(spec.dump())
    (root / "plan.json").write_text(json.dumps(plan.to_json()))
    (root / "reference.json").write_text(json.dumps({"schema": 1, "targets": targets}))
    for number, cohort in enumerate(plan.cohorts):
        train(root, plan, cohort.cohort, rng=np.random.default_rng(number))
    tracker = Tracker(
        root,
        plan=plan,
        tracking_uri=sqlite_uri(home),
        artifact_location=(home / "artifacts").as_uri(),
        replicate_runs=False,
        criteria=spec.criteria,
        reference=targets,
    )
    tracker.open(launch="benchmark")
    tracker.sync()
    tracker.close("FINISHED")
    return plan


def train(root: Path, plan: Plan, name: str, *, rng: np.random.Generator) -> None:
    """The complete checkpoint of one cohort."""
    from study.checkpoint import write_checkpoint
    from study.history import History

    members = [(key, r, plan.configuration(key).seeds[r]) for key, r in plan.by_cohort[name].members]
    program = plan.configuration(members[0][0]).program()
    history = History(members, program.k, program.batch_size)
    rates = np.array([float(plan.configuration(key).factors["learning_rate"]) for key, _, _ in members])
    shapes = drawn_shapes(rates, rng)
    for evaluation in evaluations(shapes, k=program.k, batch_size=program.batch_size, rng=rng):
        history.append(evaluation, measured_at_ms=BEGAN_MS + 1000 * evaluation.index)  # type: ignore[arg-type]
    write_checkpoint(
        root / "cohorts" / name,
        generator_step=HORIZON,
        evaluations_done=EVALUATIONS + 1,
        complete=True,
        state={"step": HORIZON},
        history=history.table(),
        samples=history.samples_table(),
        attempt=1,
    )


def drawn_shapes(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slow at low learning rates, violent at high ones, a lottery between."""
    position = np.log10(rates / 1e-4) / 3
    weights = np.stack(
        [
            np.exp(-((position - 0.4) ** 2) / 0.05),
            np.exp(-5 * position),
            0.4 * position,
            0.6 * position,
            position**3,
        ],
        axis=1,
    )
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return np.argmax(cumulative > rng.random((len(rates), 1)), axis=1)


def evaluations(shapes: np.ndarray, *, k: int, batch_size: int, rng: np.random.Generator) -> Iterator[Measured]:
    """Every evaluation of a cohort whose members follow ``shapes``; the dying are dead from half of the horizon on."""
    from trainers.measurement import MEASUREMENTS
    from trainers.program import evaluation_steps, sample_evaluations

    steps, kept = evaluation_steps(horizon=HORIZON, evaluations=EVALUATIONS), sample_evaluations(EVALUATIONS)
    death = EVALUATIONS // 2 + rng.integers(0, 20, len(shapes))
    for index, step in enumerate(steps):
        t = index / EVALUATIONS
        u = np.array(
            [1.2 * np.exp(-9 * t), 1.2 - 0.6 * t, 0.4 + 0.35 * np.sin(20 * t), 0.5 + 0.7 * np.exp(-9 * t), 0.5]
        )
        distance = REFERENCE["d_real"] + (REFERENCE["d_ref"] - REFERENCE["d_real"]) * u[shapes]
        coverage = np.array([1.0, 1.0, 1.0, 0.25, 0.75])[shapes]
        finite = (np.array(SHAPES)[shapes] != "dying") | (index < death)
        values = {
            name: 0.5 + 0.2 * t + rng.normal(0, 0.01, len(shapes))
            for name, info in MEASUREMENTS.items()
            if not info.sparse or index % 5 == 0 or index > 0.8 * EVALUATIONS
        }
        values["distance"] = distance + rng.normal(0, 0.01, len(shapes))
        values["mode_coverage"] = coverage
        values["high_quality_fraction"] = np.clip(0.95 - 0.9 * u[shapes] + rng.normal(0, 0.01, len(shapes)), 0, 1)
        yield Measured(
            index=index,
            generator_step=step,
            discriminator_steps=k * step,
            samples_seen=k * step * batch_size,
            finite=finite,
            death_step=np.where(finite, -1, step - 7),
            values=values,
            samples=rng.normal(size=(len(shapes), SAMPLES, 2)).astype(np.float32) if index in kept else None,
        )


def measure(home: Path, *, tracking_uri: str | None) -> dict[str, float]:
    """What this process needs to load the study and to build its report, imports included."""
    began = time.perf_counter()
    from analysis.load import load_study
    from analysis.report import build_report

    imported = time.perf_counter()
    frames = load_study(STUDY, home=home, tracking_uri=tracking_uri)
    loaded = time.perf_counter()
    peak_loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        build_report(frames, out=Path(folder) / "report")
    built = time.perf_counter()
    return {
        "replicates": len(frames.runs),
        "rows": len(frames.curves),
        "import_s": imported - began,
        "load_study_s": loaded - imported,
        "build_report_s": built - loaded,
        "total_s": built - began,
        "cpu_s": time.process_time(),
        "peak_rss_after_loading_mb": peak_loaded / 1024,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured_apart(home: Path, *, tracking_uri: str | None = None) -> dict[str, float]:
    """``measure`` in a fresh process, whose peak memory is its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(home)]
    command += ["--tracking-uri", tracking_uri] if tracking_uri else []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def served(home: Path) -> Iterator[str]:
    """An `mlflow server` with the study, on a free port of this machine; ended by its process id.

    It hands out the artifacts itself, as a server elsewhere would: a copy of the database says so.
    """
    database = home / "served.db"
    shutil.copy(home / "mlflow.db", database)
    with sqlite3.connect(database) as connection:
        connection.execute(
            "update runs set artifact_uri = replace(artifact_uri, ?, ?)",
            ((home / "artifacts").as_uri(), "mlflow-artifacts:"),
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--serve-artifacts", "--artifacts-destination", (home / "artifacts").as_uri(), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes], *, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"no server at {address}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100, help="of each of the 100 configurations")
    parser.add_argument("--http", action="store_true", help="also over HTTP, from an mlflow server on this machine")
    parser.add_argument("--keep", type=Path, help="write the study here and leave it; one that is there is used again")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tracking-uri", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, tracking_uri=arguments.tracking_uri)))
        return
    results: dict[str, Any] = {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "evaluations": EVALUATIONS,
    }
    with tempfile.TemporaryDirectory() as scratch:
        home = (arguments.keep or Path(scratch) / "runs").absolute()
        if not (home / STUDY).exists():
            began = time.perf_counter()
            write_study(home, replicates=arguments.replicates)
            print(f"study written in {time.perf_counter() - began:.0f} s", flush=True)
        results["sqlite"] = measured_apart(home)
        report("sqlite", results["sqlite"])
        if arguments.http:
            with served(home) as address:
                results["http"] = measured_apart(home, tracking_uri=address)
            report("http", results["http"])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def report(name: str, figures: dict[str, float]) -> None:
    parts = [
        f"{figures[part]:.1f} s {part.removesuffix('_s')}" for part in ("load_study_s", "build_report_s", "total_s")
    ]
    print(f"{name}: {figures['replicates']:,} replicates, {figures['rows']:,} rows: {', '.join(parts)}, "
          f"{figures['peak_rss_mb']:,.0f} MB at most", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
