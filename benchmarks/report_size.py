"""The report of a large study: `load_study` and `build_report` timed, with their peak memory.

    .venv/bin/python -m benchmarks.report_size [--replicates 100] [--http] [--json FILE]

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
from pathlib import Path
from typing import Any

from benchmarks.made_study import EVALUATIONS, REFERENCE, STUDY, spec_of, train_all
from benchmarks.resident import peak_rss_bytes

ROOT = Path(__file__).resolve().parent.parent


def write_study(home: Path, *, replicates: int) -> None:
    """Checkpoints of every cohort, sent to MLflow by the study's own writer."""
    from study.plan import make_plan
    from study.tracking import Tracker, sqlite_uri

    spec = spec_of(replicates=replicates, cohort_size=replicates)
    plan = make_plan(spec, workers=2)
    root = home / STUDY
    root.mkdir(parents=True)
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    (root / "spec.yaml").write_text(spec.dump())
    (root / "plan.json").write_text(json.dumps(plan.to_json()))
    (root / "reference.json").write_text(json.dumps({"schema": 1, "targets": targets}))
    train_all(root, plan)
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


def measure(home: Path, *, tracking_uri: str | None) -> dict[str, float]:
    """What this process needs to load the study and to build its report, imports included."""
    began = time.perf_counter()
    from analysis.load import load_study
    from analysis.report import build_report

    imported = time.perf_counter()
    frames = load_study(STUDY, home=home, tracking_uri=tracking_uri)
    loaded = time.perf_counter()
    peak_loaded = peak_rss_bytes()
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
        "peak_rss_after_loading_mb": peak_loaded / 2**20,
        "peak_rss_mb": peak_rss_bytes() / 2**20,
    }


def measured_apart(home: Path, *, tracking_uri: str | None = None) -> dict[str, float]:
    """``measure`` in a fresh process, whose peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.report_size", "--measure", str(home)]
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
