"""The hand-written study after a good engineer's day on it: what Tune costs a short trial is gone, the trainer is not.

Two changes to hand_written.py's trials: torch's fused Adam, and a judge that is loaded once a process. And to what is
around them: actors that stay and take one seed after another, no Tune, no callback that writes to MLflow at each
report, no checkpoints; at the end one MLflow run for each seed, written in one batch. Prints seconds as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from benchmarks.hand_written import evaluations
from trainers.evaluation import Judge

MOST_METRICS = 1000
"""That MLflow takes in one call."""

Row = dict[str, float]
Trained = tuple[dict[str, Any], list[Row], int]
"""A seed's parameters, the measurements of each of its evaluations, and when it ended, in ms."""


class Trainer:
    """An actor: a process with one thread of torch and the judge."""

    def __init__(self, judge: str) -> None:
        self._judge = Judge.load(Path(judge))

    def train(self, config: dict[str, Any]) -> Trained:
        """One loss, k, learning rate and seed."""
        rows = list(evaluations(config, self._judge, fused=True))
        return config, rows, time.time_ns() // 1_000_000


def trials(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The grid, seed by seed."""
    shared = {name: configuration[name] for name in ("steps", "evaluations", "evaluation_samples", "target")}
    axes = (configuration["losses"], configuration["k"], configuration["learning_rates"])
    return [
        {"loss": loss, "k": k, "learning_rate": rate, "seed": seed, **shared}
        for loss, k, rate, seed in itertools.product(*axes, range(configuration["replicates"]))
    ]


def trained(configuration: dict[str, Any]) -> list[Trained]:
    """Every seed by whichever actor is free."""
    import ray
    from ray.util import ActorPool

    actor = ray.remote(num_cpus=1)(Trainer)
    pool = ActorPool([actor.remote(configuration["judge"]) for _ in range(configuration["cpus"])])
    return list(pool.map_unordered(lambda trainer, config: trainer.train.remote(config), trials(configuration)))


def write(done: Sequence[Trained], *, folder: str) -> None:
    """A run for each seed in MLflow, its whole curve at once."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("hand-tuned", artifact_location=f"file://{folder}/artifacts")
    for config, rows, ended in done:
        run = client.create_run(experiment).info.run_id
        every = config["steps"] // config["evaluations"]
        metrics = [Metric(name, value, ended, every * i) for i, row in enumerate(rows) for name, value in row.items()]
        params = [Param(name, str(config[name])) for name in ("loss", "k", "learning_rate", "seed", "steps")]
        for first in range(0, len(metrics), MOST_METRICS - len(params)):
            batch = metrics[first : first + MOST_METRICS - len(params)]
            client.log_batch(run, metrics=batch, params=[] if first else params)
        client.set_terminated(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configuration", type=Path, required=True, help="JSON, as hand_written.py takes it")
    configuration = json.loads(parser.parse_args().configuration.read_text())
    began = time.perf_counter()
    import ray

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        ray.init(address="local", num_cpus=configuration["cpus"], include_dashboard=False, _temp_dir=f"{folder}/ray")
        ready = time.perf_counter()
        done = trained(configuration)
        ended = time.perf_counter()
        write(done, folder=folder)
        written = time.perf_counter()
        ray.shutdown()
        seconds = {"start_s": ready - began, "training_s": ended - ready, "mlflow_s": written - ended}
        print(json.dumps({"wall_s": time.perf_counter() - began, "trials": len(done), **seconds}))


if __name__ == "__main__":
    main()
