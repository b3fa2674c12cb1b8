from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tracked import (
    STEPS,
    T0,
    TrackedStudy,
    artifacts,
    doubled,
    dump,
    make_study,
    metrics_of,
    query,
    run_all,
    statuses,
)

from study import mlflow_rows, results
from study.background import BackgroundTracker


class CrashError(BaseException):
    """Stands for kill -9."""


REQUESTS = ("create_run", "log_batch", "log_artifact", "log_artifacts", "log_text", "set_terminated", "update_run")


def dies_at(monkeypatch: pytest.MonkeyPatch, fatal: int, *, reply_lost: bool) -> None:
    """The process dies at its ``fatal``-th request or set of rows, before it is sent or after it was carried out."""
    from mlflow.tracking import MlflowClient

    counter = itertools.count(1)

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def request(*args: object, **kwargs: object) -> object:
            if next(counter) != fatal:
                return real(*args, **kwargs)
            if reply_lost:
                real(*args, **kwargs)
            raise CrashError

        return request

    for name in REQUESTS:
        monkeypatch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
    monkeypatch.setattr(mlflow_rows, "insert_points", dying(mlflow_rows.insert_points))


def everything(study: TrackedStudy) -> object:
    """What a study left in MLflow, by configuration key instead of run id, clocks of the runs aside."""
    rows = query(
        study.database,
        "select t.value, m.key, m.step, m.timestamp, m.value from metrics m join tags t on t.run_uuid = m.run_uuid "
        "and t.key = 'ganstudy.configuration_key' order by 1, 2, 3, 4",
    )
    return rows, statuses(study.database), query(study.database, "select count(*) from params")


@pytest.mark.slow
@pytest.mark.parametrize("reply_lost", [False, True])
def test_a_driver_killed_at_any_request_leaves_what_the_next_one_completes(
    tmp_path: Path, empty_database: Path, reply_lost: bool
) -> None:
    """Kill at the first, second, ... request; a fresh process syncs; the database equals that of a peaceful run."""

    def one_cohort(home: Path) -> TrackedStudy:
        made = make_study(home, replicates=3)
        shutil.copy(empty_database, made.database)
        return replace(made, plan=replace(made.plan, cohorts=made.plan.cohorts[:1]))

    calm = one_cohort(tmp_path / "calm")
    run_all(calm, calm.tracker())
    for fatal in itertools.count(1):
        study = one_cohort(tmp_path / str(fatal))
        with pytest.MonkeyPatch.context() as patch:
            dies_at(patch, fatal, reply_lost=reply_lost)
            try:
                run_all(study, study.tracker())
            except CrashError:
                pass
            else:
                break
        study.train(study.cohorts[0])
        successor = study.tracker()
        successor.open(launch="L1")
        successor.sync()
        successor.close("FINISHED")
        assert everything(study) == everything(calm), f"killed at request {fatal}"
    assert fatal > 12


def test_rows_trained_again_after_a_damaged_checkpoint_are_not_logged_again(study: TrackedStudy) -> None:
    """The clock of the second training differs: MLflow would keep both rows. Same process, then a fresh one."""
    cohort = study.cohorts[0]
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.start(cohort)
    study.train(cohort, evaluations=4)
    study.train(cohort, evaluations=9)
    tracker.send(cohort)
    for checkpoint in (study.root / "cohorts" / cohort).glob(f"checkpoint-{STEPS[9]:08d}"):
        (checkpoint / "history.parquet").write_bytes(b"rotten")
    study.train(cohort, evaluations=12, later_ms=3_600_000)
    tracker.send(cohort)
    fresh = study.tracker()
    fresh.open(launch="L1")
    fresh.send(cohort)
    assert doubled(study.database) == []
    stamps = dict(query(study.database, "select step, timestamp from metrics where key = 'finite_fraction'"))
    assert [stamps[step] - T0 for step in STEPS[:13]] == [
        1000 * index + (3_600_000 if index > 9 else 0) for index in range(13)
    ]


def test_runs_doubled_by_a_lost_reply_are_swept(study: TrackedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP client repeats a creation whose reply was lost: the server then holds two runs for one call."""
    from mlflow.tracking import MlflowClient

    real = MlflowClient.create_run

    def twice(self: object, *args: object, **kwargs: object) -> object:
        real(self, *args, **kwargs)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    run_all(study, study.tracker())
    assert statuses(study.database) == {"configuration": ["FINISHED"] * 4, "study": ["FINISHED"]}
    assert query(study.database, "select count(*) from runs where lifecycle_stage = 'deleted'") == [(5,)]


class Server:
    """A real tracking server on a port of its own, ended and started again by process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--workers",
            "1",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        log = (self.folder / "server.log").open("ab")
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    def down(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: the server and its worker, nobody else
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    made = Server(folder)
    made.up()
    yield made
    made.down()


@pytest.mark.slow
def test_over_http_a_server_that_dies_and_returns_loses_nothing_and_gets_nothing_twice(
    server: Server, tmp_path: Path
) -> None:
    study = make_study(tmp_path / "home")
    tracker = study.tracker(uri=server.uri, artifacts=False)
    tracker.open(launch="L1")
    background = BackgroundTracker(tracker)
    first, second, *others = study.cohorts
    background.start(first)
    study.train(first, evaluations=8)
    background.send(first)
    assert background.drain(60)
    server.down()
    for cohort in (first, second):
        background.start(cohort)
        study.train(cohort)
        background.send(cohort)
        background.finish(cohort, failed=False)
    assert not background.drain(4)
    assert background.trouble is not None
    assert background.trouble.startswith("MLflow: ")
    server.up()
    assert background.drain(120)
    assert background.trouble is None
    for cohort in others:
        background.start(cohort)
        study.train(cohort)
        background.finish(cohort, failed=False)
    assert background.close("FINISHED", 120)
    database = server.folder / "mlflow.db"
    assert statuses(database) == {"configuration": ["FINISHED"] * 4, "study": ["FINISHED"]}
    assert doubled(database) == []
    for key in study.keys:
        logged = metrics_of(database, key)
        assert [step for step in STEPS if ("distance/median", step) in logged] == STEPS
    assert len(list((server.folder / "served").rglob("replicates.parquet"))) == 4
    before = dump(database)["metrics"]
    again = study.tracker(uri=server.uri, artifacts=False)
    again.open(launch="L1")
    again.sync()
    again.close("FINISHED")
    assert dump(database)["metrics"] == before


def test_results_that_cannot_be_written_leave_the_run_open_for_the_next_try(
    study: TrackedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written beside the sending of the curve: what goes wrong there is told, and nothing is closed."""
    cohort = study.cohorts[0]
    study.train(cohort)
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.start(cohort)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results, "write_results", full)
        with pytest.raises(OSError, match="no space left"):
            tracker.finish(cohort, failed=False)
    assert statuses(study.database)["configuration"] == ["RUNNING"]
    tracker.finish(cohort, failed=False)
    assert statuses(study.database)["configuration"] == ["FINISHED"]
    assert doubled(study.database) == []
    assert (artifacts(study, study.plan.by_cohort[cohort].members[0][0]) / "replicates.parquet").exists()
