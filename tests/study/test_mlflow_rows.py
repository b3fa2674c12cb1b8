"""Rows written beside MLflow's client are the rows that its client writes."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlMetric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from tracked import query

from study import mlflow_rows
from study.mlflow_client import MlflowStore
from study.summary import Point

Batches = list[list[Point]]


class Pair:
    """Two databases that are equal to the byte, with one run: MLflow's client writes to one, we to the other."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.theirs, self.ours = folder / "theirs.db", folder / "ours.db"
        shutil.copy(empty, self.theirs)
        store = MlflowStore(f"sqlite:///{self.theirs}")
        experiment = store.experiment("rows", artifact_location=folder.as_uri())
        self.run_id = store._client.create_run(experiment).info.run_id
        self.deleted = store._client.create_run(experiment).info.run_id
        store._client.delete_run(self.deleted)
        self.experiment = experiment
        shutil.copy(self.theirs, self.ours)
        self.their_client, self.our_client = (MlflowClient(f"sqlite:///{path}") for path in (self.theirs, self.ours))

    def write(self, batches: Batches) -> None:
        for points in batches:
            log_batch(self.their_client, self.run_id, points)
            mlflow_rows.insert_points(self.our_client, self.run_id, points)


@pytest.fixture
def pair(tmp_path: Path, empty_database: Path) -> Pair:
    return Pair(tmp_path, empty_database)


def log_batch(client: MlflowClient, run_id: str, points: list[Point]) -> None:
    metrics = [Metric(key, v, p.measured_at_ms, p.generator_step) for p in points for key, v in p.metrics.items()]
    client.log_batch(run_id, metrics=metrics)


def point(step: int, ms: int, **metrics: float) -> Point:
    return Point(generator_step=step, measured_at_ms=ms, metrics=metrics)


def tables(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every cell with its storage class, row by row in the order in which they lie there."""
    columns = "rowid, key, run_uuid, value, typeof(value), timestamp, typeof(timestamp), step, typeof(step), is_nan"
    return {name: query(database, f"select {columns} from {name}") for name in ("metrics", "latest_metrics")}


def drawn(seed: int) -> Batches:
    """Curves in several batches: parts of earlier ones again, older steps after newer, ties in step and in time."""
    rng = np.random.default_rng(seed)
    sent: list[Point] = []
    batches: Batches = []
    for _ in range(int(rng.integers(2, 6))):
        batch = [drawn_point(rng) for _ in range(int(rng.integers(0, 12)))]
        if sent:
            batch += [sent[place] for place in rng.integers(0, len(sent), size=int(rng.integers(0, 6)))]
        rng.shuffle(batch)  # type: ignore[arg-type]
        batches.append(batch)
        sent += batch
    return batches


def drawn_point(rng: np.random.Generator) -> Point:
    """Few steps, times and values, so that many are equal; 0, whole numbers and numbers with every bit among them."""
    names = [name for name in ("loss/median", "loss/q10", "finite_fraction", "ö ä") if rng.random() < 0.7]
    values = [-0.0, 0.0, 1.0, -2.5, 0.1, 1e300, float(rng.normal())]
    return Point(
        generator_step=int(rng.integers(0, 4)),
        measured_at_ms=1_700_000_000_000 + int(rng.integers(0, 3)),
        metrics={name: values[rng.integers(len(values))] for name in names},
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_tables_are_those_of_log_batch(pair: Pair, seed: int) -> None:
    pair.write([points for points in drawn(seed) if any(entry.metrics for entry in points)])
    assert tables(pair.ours) == tables(pair.theirs)
    assert tables(pair.ours)["metrics"]


def test_a_curve_of_more_rows_than_a_statement_takes_is_whole(pair: Pair) -> None:
    curve = [point(step, 1000 + step, a=float(step), b=-float(step)) for step in range(450)]
    pair.write([curve[:3], curve])
    assert len(tables(pair.ours)["metrics"]) == 900
    assert tables(pair.ours) == tables(pair.theirs)


@pytest.mark.parametrize(
    ("batches", "latest"),
    [
        ([[point(2, 10, a=1.0)], [point(1, 99, a=9.0)]], (2, 10, 1.0)),
        ([[point(2, 10, a=1.0)], [point(2, 11, a=0.0)]], (2, 11, 0.0)),
        ([[point(2, 10, a=1.0), point(2, 10, a=3.0)], [point(2, 10, a=2.0)]], (2, 10, 3.0)),
        ([[point(5, 10, a=1.0), point(3, 12, a=4.0)]], (5, 10, 1.0)),
    ],
)
def test_the_latest_value_goes_by_step_then_time_then_value(
    pair: Pair, batches: Batches, latest: tuple[int, int, float]
) -> None:
    pair.write(batches)
    assert query(pair.ours, "select step, timestamp, value from latest_metrics") == [latest]
    assert tables(pair.ours) == tables(pair.theirs)


def test_mlflows_own_readers_see_the_same(pair: Pair) -> None:
    rng = np.random.default_rng(7)
    curve = [point(step, 1000 * step, loss=float(rng.normal()), finite=1.0) for step in range(40)]
    pair.write([curve[:15], curve[10:], curve])
    seen = [
        (
            client.get_metric_history(pair.run_id, "loss"),
            client.get_run(pair.run_id).data.metrics,
            [run.info.run_id for run in client.search_runs([pair.experiment], "metrics.finite = 1.0")],
            [run.info.run_id for run in client.search_runs([pair.experiment], "metrics.finite > 1.0")],
        )
        for client in (pair.their_client, pair.our_client)
    ]
    assert seen[0] == seen[1]
    history, last, found, missed = seen[1]
    assert {entry.step: entry.value for entry in history} == {p.generator_step: p.metrics["loss"] for p in curve}
    assert last == curve[-1].metrics
    assert (found, missed) == ([pair.run_id], [])


@pytest.mark.parametrize("which", ["deleted", "absent", "malformed"])
@pytest.mark.parametrize("name", ["good", "bad;name", "x" * 251])
def test_what_log_batch_refuses_is_refused_in_its_words(pair: Pair, which: str, name: str) -> None:
    run_id = {"deleted": pair.deleted, "absent": "0" * 32, "malformed": "no run!"}[which]
    before, refusals = tables(pair.ours), []
    for write, client in ((log_batch, pair.their_client), (insert, pair.our_client)):
        with pytest.raises(MlflowException) as caught:
            write(client, run_id, [point(1, 1, **{name: 0.5})])
        refusals.append((caught.value.error_code, str(caught.value).replace("metrics[0].", "")))
    assert refusals[0] == refusals[1]
    assert tables(pair.ours) == before


def insert(client: MlflowClient, run_id: str, points: list[Point]) -> None:
    mlflow_rows.insert_points(client, run_id, points)


@pytest.mark.parametrize("when", [-1, "yesterday"])
def test_a_time_that_is_none_is_refused(pair: Pair, when: Any) -> None:
    with pytest.raises(MlflowException, match=r"[Tt]imestamp"):
        mlflow_rows.insert_points(
            pair.our_client, pair.run_id, [point(1, 1, a=0.5), point(2, when, a=0.5), point(3, 3, a=0.5)]
        )
    assert tables(pair.ours)["metrics"] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_number_is_refused(pair: Pair, value: float) -> None:
    with pytest.raises(ValueError, match=r"metric b must be finite, got .* at step 3"):
        mlflow_rows.log_points(pair.our_client, pair.run_id, [point(3, 1, a=0.5, b=value)])
    assert tables(pair.ours)["metrics"] == []


def test_a_fault_between_the_two_tables_leaves_neither_changed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow_rows.insert_points(pair.our_client, pair.run_id, [point(1, 1, a=0.5)])
    before = tables(pair.ours)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_rows, "_latest", lambda rows: 1 / 0)
        with pytest.raises(MlflowException, match="division by zero"):
            mlflow_rows.insert_points(pair.our_client, pair.run_id, [point(2, 2, a=1.5), point(3, 3, a=2.5)])
    assert tables(pair.ours) == before


def test_a_kill_between_the_two_tables_leaves_what_the_next_process_completes(pair: Pair) -> None:
    script = f"""
import os, signal
from study import mlflow_rows
from study.mlflow_client import MlflowStore
from study.summary import Point
mlflow_rows._latest = lambda rows: os.kill(os.getpid(), signal.SIGKILL)
points = [Point(generator_step=step, measured_at_ms=step, metrics={{"a": 0.5, "b": 1.5}}) for step in range(50)]
MlflowStore("sqlite:///{pair.ours}").log_points("{pair.run_id}", points)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert tables(pair.ours)["metrics"] == []
    pair.write([[point(step, step, a=0.5, b=1.5) for step in range(50)]])
    assert tables(pair.ours) == tables(pair.theirs)


def test_a_curve_beyond_one_transaction_goes_in_whole_points(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_rows, "MAX_ROWS", 7)
    sizes: list[int] = []
    real = mlflow_rows.insert_points

    def counting(client: MlflowClient, run_id: str, points: list[Point]) -> None:
        sizes.append(len(points))
        real(client, run_id, points)

    monkeypatch.setattr(mlflow_rows, "insert_points", counting)
    curve = [point(step, step, a=1.0, b=2.0, c=3.0) for step in range(5)]
    mlflow_rows.log_points(pair.our_client, pair.run_id, curve)
    assert sizes == [2, 2, 1]
    assert len(tables(pair.ours)["metrics"]) == 15


@pytest.fixture
def forget_tables() -> Iterator[None]:
    mlflow_rows._tables_are_known.cache_clear()
    yield
    mlflow_rows._tables_are_known.cache_clear()


class AnotherStore(SqlAlchemyStore):  # type: ignore[misc]
    """As MLflow's own for workspaces is."""


@pytest.mark.usefixtures("forget_tables")
@pytest.mark.parametrize("other", ["http", "postgresql", "store", "column", "key", "model", "method", "rule"])
def test_any_other_store_gets_requests(pair: Pair, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    client, sent = pair.our_client, []
    assert mlflow_rows.takes_rows(client)
    mlflow_rows._tables_are_known.cache_clear()
    match other:
        case "http":
            monkeypatch.setattr(client, "_tracking_client", SimpleNamespace(store=SimpleNamespace()))
        case "postgresql":
            monkeypatch.setattr(client._tracking_client.store, "db_type", other)
        case "store":
            monkeypatch.setattr(client._tracking_client.store, "__class__", AnotherStore)
        case "column" | "key":
            monkeypatch.setattr(SqlMetric, "__table__", another_table(key=other == "key"))
        case "method":
            monkeypatch.delattr(SqlAlchemyStore, "_check_run_is_active")
        case "rule":
            monkeypatch.delattr("mlflow.utils.validation._validate_metric")
        case "model":
            monkeypatch.setattr("mlflow.tracking.fluent.get_active_model_id", lambda: "m-1")
    monkeypatch.setattr(MlflowClient, "log_batch", lambda self, run_id, **more: sent.append(len(more["metrics"])))
    mlflow_rows.log_points(client, pair.run_id, [point(1, 1, a=1.0, b=2.0)])
    assert sent == [2]
    with sqlite3.connect(pair.ours) as connection:
        assert connection.execute("select count(*) from metrics").fetchone() == (0,)


def another_table(*, key: bool) -> sqlalchemy.Table:
    """The metrics of a later MLflow: with a column more, or with another key."""
    known = SqlMetric.__table__
    columns = [
        sqlalchemy.Column(column.name, column.type, primary_key=column.primary_key and not (key and name == "step"))
        for name, column in known.columns.items()
    ]
    more = [] if key else [sqlalchemy.Column("unit", sqlalchemy.String)]
    return sqlalchemy.Table("metrics", sqlalchemy.MetaData(), *columns, *more)
