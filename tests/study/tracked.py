"""A small study on disk for the tests of the MLflow writer: a real plan, checkpoints without any training."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from study.checkpoint import newest_checkpoint, write_checkpoint
from study.history import History
from study.network_size import dimensions
from study.plan import Plan, make_plan
from study.spec import StudySpec
from study.tracking import Tracker, sqlite_uri
from trainers.measurement import MEASUREMENTS
from trainers.program import evaluation_steps, sample_evaluations

T0 = 1_700_000_000_000
EVALUATIONS, HORIZON = 20, 410
STEPS = evaluation_steps(horizon=HORIZON, evaluations=EVALUATIONS)
REFERENCE = {
    "d_real": 0.03,
    "d_ref": 1.5,
    "d_far": 2.5,
    "dimensions": 2,
    "quality_ceiling": 0.989,
    "coverage_ceiling": 1.0,
    "knn_coverage_ceiling": 0.95,
    "knn_precision_ceiling": 0.95,
}


@dataclass
class FakeEvaluation:
    index: int
    finite: np.ndarray
    death_step: np.ndarray
    values: dict[str, np.ndarray]
    samples: np.ndarray | None
    generator_step: int
    discriminator_steps: int
    samples_seen: int


def value(name: str, seed: int, index: int) -> float:
    """A number that belongs to one replicate, measurement and evaluation; it moves towards converged."""
    rng = np.random.default_rng([seed % 2**32, list(MEASUREMENTS).index(name), index])
    if name == "distance":
        return float(1.5 * np.exp(-index / 3) + 0.05 + 0.01 * rng.random())
    return float(min(1.0, 0.2 + 0.1 * index) - 0.01 * rng.random())


@dataclass
class TrackedStudy:
    """``deaths``: (configuration_key, replicate) -> evaluation at which the death is found, at step 7 before it."""

    root: Path
    spec: StudySpec
    plan: Plan
    deaths: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return sqlite_uri(self.root.parent)

    @property
    def database(self) -> Path:
        return self.root.parent / "mlflow.db"

    @property
    def keys(self) -> list[str]:
        return [entry.configuration_key for entry in self.plan.configurations]

    @property
    def cohorts(self) -> list[str]:
        return [entry.cohort for entry in self.plan.cohorts]

    def tracker(self, *, uri: str = "", replicate_runs: bool = False, artifacts: bool = True) -> Tracker:
        """A fresh writer, as a new process would make it."""
        return Tracker(
            self.root,
            plan=self.plan,
            tracking_uri=uri or self.uri,
            artifact_location=(self.root.parent / "artifacts").as_uri() if artifacts else None,
            replicate_runs=replicate_runs,
            criteria=self.spec.criteria,
            reference={entry.target_id: REFERENCE for entry in self.plan.configurations},
        )

    def train(self, cohort: str, *, evaluations: int = EVALUATIONS, later_ms: int = 0) -> None:
        """Takes a cohort from its newest checkpoint to (and with) an evaluation, and writes a checkpoint there."""
        planned = next(entry for entry in self.plan.cohorts if entry.cohort == cohort)
        members = [(key, r, self.plan.configuration(key).seeds[r]) for key, r in planned.members]
        program = self.plan.configuration(members[0][0]).program()
        found = newest_checkpoint(self.root / "cohorts" / cohort).checkpoint
        if found is None:
            history, first = History(members, program.k, program.batch_size), 0
        else:
            first = found.evaluations_done
            history = History.restore(members, program.k, program.batch_size, found.history(), found.samples())
        for index in range(first, evaluations + 1):
            history.append(self._evaluation(members, index, k=program.k), measured_at_ms=T0 + 1000 * index + later_ms)
        write_checkpoint(
            self.root / "cohorts" / cohort,
            generator_step=STEPS[evaluations],
            evaluations_done=evaluations + 1,
            complete=evaluations == EVALUATIONS,
            state={"step": STEPS[evaluations]},
            history=history.table(),
            samples=history.samples_table(),
            attempt=1,
        )

    def _evaluation(self, members: list[tuple[str, int, int]], index: int, *, k: int) -> FakeEvaluation:
        found = [self.deaths.get(member[:2], EVALUATIONS + 1) for member in members]
        finite = np.array([index < death for death in found])
        values = {
            name: np.array([value(name, seed, index) for _, _, seed in members])
            for name, info in MEASUREMENTS.items()
            if not info.sparse or index % 5 == 0
        }
        for column in values.values():
            column[~finite] = np.nan
        draws = (
            np.random.default_rng(index)
            .normal(size=(len(members), 16, dimensions(self.spec.target)))
            .astype(np.float32)
        )
        return FakeEvaluation(
            index=index,
            finite=finite,
            death_step=np.array([-1 if index < death else STEPS[death] - 7 for death in found]),
            values=values,
            samples=draws if index in sample_evaluations(EVALUATIONS) else None,
            generator_step=STEPS[index],
            discriminator_steps=k * STEPS[index],
            samples_seen=k * STEPS[index] * 128,
        )


def make_study(
    home: Path, *, replicates: int = 5, cohort_size: int | str = "auto", target: str = "ring"
) -> TrackedStudy:
    """Two losses x k in {1, 2} on the ring, or another target, written under ``home`` as the driver would."""
    spec = StudySpec.from_dict(
        {
            "study": "ring-test",
            "target": {"name": target},
            "scientific": {"loss": ["wgan_gp", "minimax"], "k": [1, 2]},
            "fixed": {"learning_rate": 1e-3},
            "replicates": replicates,
            "budget": {
                "unit": "generator_steps",
                "value": HORIZON,
                "evaluations": EVALUATIONS,
                "evaluation_samples": 500,
            },
            "resources": {"cohort_size": cohort_size},
        }
    )
    plan = make_plan(spec, workers=2)
    root = home / "ring-test"
    root.mkdir(parents=True)
    (root / "spec.yaml").write_text(spec.dump())
    (root / "plan.json").write_text(json.dumps(plan.to_json()))
    (root / "reference.json").write_text(json.dumps({"schema": 1, "targets": {}}))
    return TrackedStudy(root=root, spec=spec, plan=plan)


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows straight from MLflow's database: what is really stored, not what a client makes of it."""
    with sqlite3.connect(database) as connection:
        return connection.execute(sql).fetchall()


def dump(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that must not change when the same thing is sent twice."""
    tables = {
        "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage",
        "metrics": "run_uuid, key, step, timestamp, value, is_nan",
        "params": "run_uuid, key, value",
        "tags": "run_uuid, key, value",
    }
    return {table: sorted(query(database, f"select {columns} from {table}")) for table, columns in tables.items()}


def statuses(database: Path) -> dict[str, list[str]]:
    """Kind of run -> statuses of the live ones, sorted."""
    rows = query(
        database,
        "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'ganstudy.kind' "
        "where r.lifecycle_stage = 'active' order by 1, 2",
    )
    kinds: dict[str, list[str]] = {}
    for kind, status in rows:
        kinds.setdefault(kind, []).append(status)
    return kinds


def doubled(database: Path) -> list[tuple[Any, ...]]:
    """(run, metric, step) with more than one row: there must be none."""
    return query(database, "select run_uuid, key, step, count(*) from metrics group by 1, 2, 3 having count(*) > 1")


def metrics_of(database: Path, key: str) -> Mapping[tuple[str, int], float]:
    """(metric, step) -> value of one configuration's run."""
    rows = query(
        database,
        "select m.key, m.step, m.value from metrics m join tags t on t.run_uuid = m.run_uuid "
        f"and t.key = 'ganstudy.configuration_key' and t.value = '{key}'",
    )
    counts = Counter((name, step) for name, step, _ in rows)
    assert set(counts.values()) <= {1}
    return {(name, step): value for name, step, value in rows}


def run_all(study: TrackedStudy, tracker: Tracker) -> None:
    tracker.open(launch="L1")
    for cohort in study.cohorts:
        tracker.start(cohort)
        study.train(cohort, evaluations=8)
        tracker.send(cohort)
        study.train(cohort)
        tracker.finish(cohort, failed=False)
    tracker.close("FINISHED")


def artifacts(study: TrackedStudy, key: str) -> Path:
    (found,) = query(
        study.database,
        "select r.artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid "
        f"where t.key = 'ganstudy.configuration_key' and t.value = '{key}'",
    )
    assert found[0].startswith((study.root.parent / "artifacts").as_uri())
    return Path(found[0].removeprefix("file://"))
