"""Studies on a real cluster while things break at seeded random times: nothing may be lost, doubled or untrue after.

    .venv/bin/python -m benchmarks.chaos [--minutes 30] [--seed 1] [--out benchmarks/results/chaos-30min.json]

Three Ray nodes with tokens on loopback, an MLflow server behind a faulty proxy, studies submitted one after the other.
Every study is audited and its measurements are compared bit for bit with a run nobody disturbed. Exit code 1 on any
violation. The seed decides which faults come and when; what they hit depends on the machine's speed, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.killer import Killer, Log
from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from study.tally import read_plan
from tests.clusters import LoopbackCluster
from tests.faults.proxy import Proxy
from tests.faults.servers import MlflowServer
from tests.processes import until

LOOK_EVERY_S = 0.5
PATIENCE_S = 900.0
"""The longest a study may take from the first submission to its end, whatever is done to it."""

ENVIRONMENT = {
    "GANSTUDY_CHECKPOINT_EVERY_S": "2",
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
}


def study_file(name: str, *, steps: int) -> dict[str, Any]:
    """A small study on the ring: eight configurations in four cohorts."""
    return {
        "study": name,
        "target": {"name": "ring"},
        "networks": {"name": "mlp", "latent_dim": 8, "width": 32, "depth": 1},
        "scientific": {"loss": ["minimax", "hinge"], "k": [1, 2]},
        "nuisance": {"learning_rate": [1e-3, 3e-3]},
        "fixed": {"batch_size": 64},
        "replicates": 2,
        "seed": 5,
        "budget": {"unit": "generator_steps", "value": steps, "evaluations": 40, "evaluation_samples": 200},
        "resources": {"cohort_size": 2},
    }


def measurements(folder: StudyFolder) -> pa.Table:
    """Every row of a study but when it was measured, in the plan's order."""
    parts = []
    for entry in read_plan(folder).cohorts:
        found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
        if found is not None:
            parts.append(found.history().drop_columns("measured_at_ms"))
    return pa.concat_tables(parts)


class Arena:
    """One cluster, one server, and studies that run there through the job server, as `ganstudy submit` runs them."""

    def __init__(self, cluster: LoopbackCluster, proxy: Proxy, home: Path, log: Log, *, steps: int) -> None:
        from study.cluster import Cluster

        self._proxy, self._home, self._log, self._steps = proxy, home, log, steps
        self._jobs = Cluster(cluster.address, home=str(home))

    def run(self, name: str, killer: Killer | None) -> tuple[StudyFolder, list[str]]:
        """A study to its end, however often it must be resumed; what the audit finds wrong."""
        from study.status import study_status

        folder, began = StudyFolder(self._home, name), time.monotonic()
        self._submit(name)
        while True:
            if time.monotonic() - began > PATIENCE_S:
                return folder, [f"{name} does not end"]
            if killer is not None:
                killer.look(folder)
            if self._jobs.running(name) is None:
                state = study_status(folder).state if folder.plan_file.exists() else "not begun"
                if state == "finished":
                    break
                self._log("resumed", study=name, state=state)
                self._submit(name)
            time.sleep(LOOK_EVERY_S)
        if killer is not None:
            killer.calm()
        self._log("finished", study=name, seconds=round(time.monotonic() - began, 1), attempts=folder.attempt())
        return folder, self._audited(folder)

    def _submit(self, name: str) -> None:
        file = self._home.parent / f"{name}.json"
        file.write_text(json.dumps(study_file(name, steps=self._steps)))
        arguments = ["run", "study.yaml", "--address", "auto", "--tracking-uri", self._proxy.uri]
        self._jobs.submit(name, arguments, files={"study.yaml": file})

    def _audited(self, folder: StudyFolder) -> list[str]:
        from study.audit import audit
        from study.cli_study import reconcile_if_died

        reconcile_if_died(folder)  # as `ganstudy status` does for a driver that died after the last replicate
        found = audit(folder)
        self._log("audited", study=folder.study, checked=dict(found.checked), violations=len(found.violations))
        return [f"{folder.study}: {one.invariant} {one.subject}: {one.text}" for one in found.violations]


def chaos(folder: Path, *, minutes: float, seed: int, steps: int, log: Log) -> dict[str, Any]:
    """The whole run; returns its summary."""
    home = folder / "shared"
    with (
        LoopbackCluster(folder, nodes=3, cpus=1, environment=ENVIRONMENT) as cluster,
        MlflowServer(folder) as server,
        Proxy(server.port) as proxy,
    ):
        os.environ.update(cluster.env)  # before the first import of ray, which reads the mode once
        arena = Arena(cluster, proxy, home, log, steps=steps)
        undisturbed, violations = arena.run("undisturbed", None)
        truth, rows, studies = measurements(undisturbed), 0, 0
        killer = Killer(cluster, proxy, log, seed=seed, minutes=minutes)
        while log.now_s < killer.until_s:
            studies += 1
            ended, found = arena.run(f"chaos-{studies:03d}", killer)
            table = measurements(ended)
            rows += len(table)
            if not table.equals(truth):
                found.append(f"{ended.study}: its measurements differ from the undisturbed run's")
            violations += found
            killer.calm()
            until(lambda: len([n for n in cluster.nodes if n.alive]) >= 3, lambda: "no third node")
    faults = sum(killer.faults.values())
    return {
        "faults": faults,
        "faults_by_kind": dict(sorted(killer.faults.items())),
        "studies": studies,
        "rows_compared": rows,
        "violations": violations,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=30, help="how long faults are dealt out; the last study ends after"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--steps", type=int, default=2500, help="generator steps of a study")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/chaos-<minutes>min.json")
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / "results" / f"chaos-{arguments.minutes:g}min.json"
    log = Log()
    log("begins", seed=arguments.seed, minutes=arguments.minutes, load_average=os.getloadavg()[0])
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as folder:
        summary = chaos(Path(folder), minutes=arguments.minutes, seed=arguments.seed, steps=arguments.steps, log=log)
    facts = {
        "seed": arguments.seed,
        "minutes": arguments.minutes,
        "steps": arguments.steps,
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("ray", "torch", "mlflow")},
    }
    log("ends", **summary)
    text = json.dumps(facts | summary, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(line)}" for line in log.lines)
    out.write_text(f'{text},\n "log": [\n{lines}\n ]\n}}\n')
    sys.exit(1 if summary["violations"] else 0)


if __name__ == "__main__":
    main()
