"""Points into MLflow: through its client, or as whole sets of rows where its store is SQLite in this process."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from study.summary import Point

MAX_METRICS = 1000
"""A request of the client's takes no more."""

MAX_ROWS = 10_000
"""Of one transaction: a curve of a hundred evaluations, whose rows hold up another writer for a third of a second."""

_COLUMNS = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")
_KEYS = {"metrics": set(_COLUMNS), "latest_metrics": {"key", "run_uuid"}}

_AT_ONCE = 500 if sqlite3.sqlite_version_info >= (3, 32) else 160
"""Rows of one statement: older releases bind no more than 999 values."""

_METHODS = ("ManagedSessionMaker", "_check_run_is_active", "_get_run")
_RULES = ("_validate_metric", "_validate_run_id")

Row = dict[str, Any]


def log_points(client: MlflowClient, run_id: str, points: Iterable[Point]) -> None:
    """Logs whole points, in as few transactions as the limits allow; an exact repetition adds nothing.

    Raises ValueError for a non-finite number: SQL stores would turn it into one that compares.
    """
    if takes_rows(client):
        for batch in _batches(points, MAX_ROWS):
            insert_points(client, run_id, batch)
        return
    from mlflow.entities import Metric

    for batch in _batches(points, MAX_METRICS):
        metrics = [
            Metric(key, value, point.measured_at_ms, point.generator_step)
            for point in batch
            for key, value in point.metrics.items()
        ]
        client.log_batch(run_id, metrics=metrics, synchronous=True)


def takes_rows(client: MlflowClient) -> bool:
    """Whether ``insert_points`` does what ``log_batch`` would: MLflow's own store over SQLite, with known tables."""
    store = client._tracking_client.store  # the client offers no way to it
    if getattr(store, "db_type", "") != "sqlite":
        return False
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking.fluent import get_active_model_id

    # with an active model log_batch writes for that too; a store that inherits may do anything else
    return type(store) is SqlAlchemyStore and get_active_model_id() is None and _is_known(store)


def insert_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """What ``log_batch`` leaves in ``metrics`` and ``latest_metrics``, in one transaction.

    MLflow makes an object of every row and follows each of its attributes, which takes six times as long as the
    database does. Hundreds of rows go in a statement: Python's ``executemany`` gives its lock away at each row, and
    waits 5 ms to have it back from a busy thread. Refuses what log_batch refuses: a run that is deleted or absent, a
    name that MLflow does not allow.
    """
    from mlflow.utils.validation import _validate_run_id

    store: Any = client._tracking_client.store
    _validate_run_id(run_id)
    rows = [row for point in points for row in _rows(run_id, point)]
    _validate(rows)
    if not rows:
        return
    with store.ManagedSessionMaker(read_only=False) as session:
        store._check_run_is_active(store._get_run(run_uuid=run_id, session=session))
        for start in range(0, len(rows), _AT_ONCE):
            session.connection().exec_driver_sql(*_inserting(rows[start : start + _AT_ONCE]))
        session.execute(_renewal(), _latest(rows))


def _rows(run_id: str, point: Point) -> list[Row]:
    when = {"timestamp": point.measured_at_ms, "step": point.generator_step, "is_nan": False, "run_uuid": run_id}
    return [{"key": key, "value": float(value), **when} for key, value in point.metrics.items()]


def _validate(rows: Sequence[Row]) -> None:
    """MLflow's own rules: names repeat from point to point, and so do times within a point."""
    from mlflow.utils.validation import _validate_metric

    telling = {row["key"]: row for row in rows} | {(row["step"], row["timestamp"]): row for row in rows}
    for row in telling.values():
        _validate_metric(row["key"], row["value"], row["timestamp"], row["step"])


def _latest(rows: Sequence[Row]) -> list[Row]:
    """The newest row of each metric, by step, then time, then value: MLflow's own order."""
    latest: dict[str, Row] = {}
    for row in rows:
        known = latest.get(row["key"])
        if known is None or _age(row) > _age(known):
            latest[row["key"]] = row
    return list(latest.values())


def _age(row: Row) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]


def _is_known(store: Any) -> bool:
    """Whether this MLflow, which may be of another version, has what is used here."""
    from mlflow.utils import validation

    used = [(store, name) for name in _METHODS] + [(validation, name) for name in _RULES]
    return all(hasattr(owner, name) for owner, name in used) and _tables_are_known()


@cache
def _tables_are_known() -> bool:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric

    tables = [SqlMetric.__table__, SqlLatestMetric.__table__]
    keys = {table.name: set(table.primary_key.columns.keys()) for table in tables}
    return keys == _KEYS and all(set(table.columns.keys()) == set(_COLUMNS) for table in tables)


def _inserting(rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
    """The statement that adds all of these rows, and their cells."""
    one, order = _insertion()
    places = f"({', '.join('?' * len(order))})"
    return one.replace(places, ", ".join([places] * len(rows))), tuple(row[name] for row in rows for name in order)


@cache
def _insertion() -> tuple[str, tuple[str, ...]]:
    """Adds a row, but for one that is there; and the order in which it wants the cells."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy.dialects import sqlite

    compiled = sqlite.insert(SqlMetric.__table__).on_conflict_do_nothing().compile(dialect=sqlite.dialect())
    return str(compiled), tuple(compiled.positiontup or ())


@cache
def _renewal() -> Any:
    """Puts rows in the place of older ones, or where there is none: the database itself compares."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric
    from sqlalchemy import tuple_
    from sqlalchemy.dialects.sqlite import insert

    there, renewal = SqlLatestMetric.__table__.c, insert(SqlLatestMetric.__table__)
    new = renewal.excluded
    return renewal.on_conflict_do_update(
        index_elements=[there.key, there.run_uuid],
        set_={name: new[name] for name in ("value", "timestamp", "step", "is_nan")},
        where=tuple_(new.step, new.timestamp, new.value) > tuple_(there.step, there.timestamp, there.value),
    )


def _batches(points: Iterable[Point], limit: int) -> Iterator[list[Point]]:
    """Points of up to ``limit`` numbers. None is torn: a store commits a batch as one, so a step is there or not."""
    batch: list[Point] = []
    size = 0
    for point in points:
        _require_finite(point)
        if batch and size + len(point.metrics) > limit:
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += len(point.metrics)
    if batch:
        yield batch


def _require_finite(point: Point) -> None:
    for key, value in point.metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {key} must be finite, got {value} at step {point.generator_step}")
