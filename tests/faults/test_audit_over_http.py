"""The audit through a real server: as exact as on the database itself, with a request for many runs at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from study import mlflow_bulk
from study.mlflow_bulk import Histories
from tests.faults.conftest import launched, violations
from tests.faults.driven import folder_of
from tests.faults.proxy import Proxy
from tests.faults.servers import MlflowServer
from tests.study.tracked import STEPS, TrackedStudy

pytestmark = pytest.mark.slow

AWKWARD = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, -1 / 3, 0.0, 1.0)
RUNS = 5


@pytest.fixture(params=["server", "database"])
def client(request: pytest.FixtureRequest, server: MlflowServer) -> MlflowClient:
    return MlflowClient(f"http://127.0.0.1:{server.port}" if request.param == "server" else server.database)


@pytest.fixture
def runs(client: MlflowClient, tmp_path: Path) -> list[str]:
    """Runs with 0, 7, 14 ... rows, each step twice from the second run on, and a metric that only one of them has."""
    experiment = client.create_experiment(tmp_path.name + client.tracking_uri[:4])
    made = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
    for place, run_id in enumerate(made):
        rows = [Metric("loss", value, 10 + copy, step) for copy in range(place) for step, value in enumerate(AWKWARD)]
        client.log_batch(run_id, metrics=rows)
    client.log_metric(made[-1], "rare", 0.5, timestamp=1, step=3)
    return made


def told(rows: list[tuple[int, float]]) -> list[tuple[int, str]]:
    """As text that tells -0.0 from 0.0."""
    return sorted((step, value.hex()) for step, value in rows)


@pytest.mark.parametrize("most", [25_000, 20, 8])
def test_rows_are_those_that_mlflow_gives_one_by_one_wherever_answers_are_cut(
    client: MlflowClient, runs: list[str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_bulk, "MAX_ROWS", most)
    monkeypatch.setattr(mlflow_bulk, "MAX_RUNS", 3)
    found = Histories(client, runs)
    for metric in ("loss", "rare", "never"):
        for run_id in runs:
            alone = [(entry.step, entry.value) for entry in client.get_metric_history(run_id, metric)]
            assert told(found.rows(run_id, metric)) == told(alone)


def test_a_server_that_does_not_know_the_endpoint_is_asked_metric_by_metric(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(f"http://127.0.0.1:{server.port}")
    run_id = client.create_run(client.create_experiment(tmp_path.name)).info.run_id
    client.log_metric(run_id, "loss", 0.25, timestamp=1, step=7)
    monkeypatch.setattr(mlflow_bulk, "_ENDPOINT", "/ajax-api/2.0/mlflow/metrics/of-another-version")
    assert Histories(client, [run_id]).rows(run_id, "loss") == [(7, 0.25)]


@pytest.fixture
def sent(tracked: TrackedStudy, proxy: Proxy) -> TrackedStudy:
    """A whole study that a server has, artifacts too."""
    tracker = tracked.tracker(uri=proxy.uri, artifacts=False)
    tracker.open(launch=launched(tracked, uri=proxy.uri))
    for cohort in tracked.cohorts:
        tracked.train(cohort)
        tracker.finish(cohort, failed=False)
    tracker.close("FINISHED")
    return tracked


def one_row(server: MlflowServer, study: TrackedStudy, name: str, step: int) -> str:
    """SQL that means one row of the first configuration's curve, in this study's launch."""
    key, study_run = study.keys[0], "ganstudy.study_run"
    with sqlite3.connect(server.database.removeprefix("sqlite:///")) as connection:
        sql = (
            "select k.run_uuid from tags k join tags s on s.run_uuid = k.run_uuid and s.key = ? "
            "join tags l on l.run_uuid = s.value and l.key = 'ganstudy.launch' and l.value = ? where k.value = ?"
        )
        [(run_id,)] = connection.execute(sql, (study_run, study.root.parent.parent.name, key)).fetchall()
    return f"run_uuid = '{run_id}' and key = '{name}' and step = {step}"


def test_each_break_planted_in_the_database_is_named_over_http(
    sent: TrackedStudy, server: MlflowServer, proxy: Proxy
) -> None:
    folder, key = folder_of(sent), sent.keys[0]
    assert violations(folder, tracking_uri=proxy.uri) == []
    columns = "key, value, timestamp, step, run_uuid, is_nan"
    wrong, lost, twice = (one_row(server, sent, "distance/median", STEPS[place]) for place in (3, 5, 7))
    with sqlite3.connect(server.database.removeprefix("sqlite:///")) as connection:
        connection.execute(f"update metrics set value = value * (1 + 4e-16) where {wrong}")
        connection.execute(f"delete from metrics where {lost}")
        connection.execute(
            f"insert into metrics ({columns}) select key, value, timestamp + 1, step, run_uuid, is_nan "
            f"from metrics where {twice}"
        )
    assert violations(folder, tracking_uri=proxy.uri) == [
        f"I2 {key} distance/median: doubled at step {STEPS[7]}",
        f"I3 {key} distance/median: differs from the checkpoint at step {STEPS[3]}",
        f"I2 {key} distance/median: missing at step {STEPS[5]}",
    ]
