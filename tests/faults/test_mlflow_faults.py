"""A real MLflow server behind a connection that fails in every way: nothing is lost, nothing is twice."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from study.folder import StudyFolder
from tests.conftest import Ganstudy, Started
from tests.faults.conftest import SPEC, launched, violations, write_spec
from tests.faults.driven import begin, conclude, folder_of, opened, train_all, wait_for_trouble
from tests.faults.proxy import Proxy
from tests.faults.rows import complete, histories, midway, wait_for
from tests.faults.servers import MlflowServer
from tests.study.tracked import TrackedStudy, doubled, query

pytestmark = pytest.mark.slow


def runs_of(server: MlflowServer, study: TrackedStudy) -> list[tuple[object, ...]]:
    """(lifecycle, count) of the runs of this launch."""
    launch = json.loads((study.root / "launch.json").read_text())["launch"]
    parent = f"(select run_uuid from tags where key = 'ganstudy.launch' and value = '{launch}')"
    children = f"(select run_uuid from tags where key = 'ganstudy.study_run' and value in {parent})"
    sql = f"select lifecycle_stage, count(*) from runs where run_uuid in {parent} or run_uuid in {children} group by 1"
    return query(server.folder / "mlflow.db", sql)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("mode", ["refuse", "reset", "http500", "blackhole"])
def test_an_outage_of_any_kind_costs_the_training_nothing_and_mlflow_gets_all_of_it_later(
    tracked: TrackedStudy, proxy: Proxy, mode: str
) -> None:
    background = opened(tracked, proxy.uri)
    begin(tracked, background)
    proxy.set(mode)
    train_all(tracked, background)  # returns although nothing can be sent: what is measured is on the disk
    wait_for_trouble(background)
    proxy.set("pass")
    conclude(tracked, background, proxy.uri)


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_never_answers_holds_nobody_up_longer_than_told(tracked: TrackedStudy, proxy: Proxy) -> None:
    background = opened(tracked, proxy.uri)
    begin(tracked, background)
    proxy.set("blackhole")
    train_all(tracked, background)
    proxy.struck()
    before = time.monotonic()
    assert not background.close("KILLED", 2.0)
    assert time.monotonic() - before < 20, "MLflow's own client would wait for minutes"
    assert background.trouble is not None
    proxy.set("pass")
    late = tracked.tracker(uri=proxy.uri, artifacts=False)
    late.open(launch=launched(tracked, uri=proxy.uri))
    late.sync()
    late.close("FINISHED")
    assert violations(folder_of(tracked), tracking_uri=proxy.uri) == []


def test_a_slow_server_gets_everything(tracked: TrackedStudy, proxy: Proxy) -> None:
    background = opened(tracked, proxy.uri)
    begin(tracked, background)
    proxy.set("slow", delay_s=0.3)
    train_all(tracked, background)
    proxy.struck(5)
    proxy.set("slow", delay_s=0.0)
    conclude(tracked, background, proxy.uri)


REPLIES = ("runs/create", "runs/log-batch", "runs/update", "mlflow-artifacts")


@pytest.mark.usefixtures("quick_retries")
def test_replies_that_are_lost_leave_one_run_and_one_row(
    tracked: TrackedStudy, proxy: Proxy, server: MlflowServer
) -> None:
    """Each kind of request is carried out twice: the client repeats what it got no answer to."""
    background = opened(tracked, proxy.uri)
    proxy.lose_next(*REPLIES, *REPLIES)
    train_all(tracked, background)
    proxy.struck(2 * len(REPLIES))
    conclude(tracked, background, proxy.uri)
    alive = dict(runs_of(server, tracked))
    assert alive["active"] == 1 + len(tracked.keys)
    assert alive["deleted"] >= 1, "a creation was carried out twice, and the second run swept"
    assert doubled(server.folder / "mlflow.db") == []


@pytest.mark.usefixtures("quick_retries")
def test_a_server_killed_and_started_again_under_the_study(tracked: TrackedStudy, server: MlflowServer) -> None:
    uri = f"http://127.0.0.1:{server.port}"
    background = opened(tracked, uri)
    begin(tracked, background)
    server.down()
    train_all(tracked, background)
    wait_for_trouble(background)
    server.up()
    conclude(tracked, background, uri)


def test_sending_a_study_again_from_its_first_row_leaves_the_database_as_it_is(
    tracked: TrackedStudy, server: MlflowServer
) -> None:
    """As if nothing of it were known to have arrived: every checkpoint is replayed in full."""
    uri = f"http://127.0.0.1:{server.port}"
    background = opened(tracked, uri)
    train_all(tracked, background)
    conclude(tracked, background, uri)
    columns = "select run_uuid, key, step, timestamp, value, is_nan from metrics order by 1, 2, 3, 4"
    before = query(server.folder / "mlflow.db", columns)
    for _ in range(2):
        again = tracked.tracker(uri=uri, artifacts=False)
        again.open(launch=launched(tracked, uri=uri))
        for configuration in tracked.plan.configurations:  # behind the tracker's own look at what is there
            run = again._run(configuration.configuration_key)
            again._sent[run.info.run_id] = set()
        again._finished.clear()
        again.sync()
        again.close("FINISHED")
    assert query(server.folder / "mlflow.db", columns) == before
    assert violations(folder_of(tracked), tracking_uri=uri) == []


def run_through_outage(
    started: Started, proxy: Proxy, tmp_path: Path, *, downtime_s: float | None
) -> tuple[StudyFolder, int, str]:
    """A whole run whose MLflow goes away midway: until training has ended, or for ``downtime_s``."""
    folder = StudyFolder(tmp_path / "runs", str(SPEC["study"]))
    driver = started("run", write_spec(tmp_path), "--home", folder.home, "--tracking-uri", proxy.uri)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    proxy.set("refuse")
    down = time.monotonic()
    wait_for(lambda: complete(folder) == 2, "end of training", process=driver)
    if downtime_s is not None:
        time.sleep(max(0.0, downtime_s - (time.monotonic() - down)))  # the outage's length is the fault
    proxy.set("pass")
    _, stderr = driver.communicate(timeout=240)
    return folder, driver.returncode, stderr


@pytest.mark.chaos
def test_a_whole_run_trains_on_and_ends_well_when_mlflow_is_away_until_training_has_ended(
    truth: StudyFolder, tmp_path: Path, started: Started, proxy: Proxy
) -> None:
    folder, code, stderr = run_through_outage(started, proxy, tmp_path, downtime_s=None)
    assert code == 0, stderr
    assert violations(folder) == []
    assert histories(folder).equals(histories(truth))


@pytest.mark.chaos
@pytest.mark.parametrize("downtime_s", [0, 20, 60])
def test_a_whole_run_survives_an_outage_of(
    truth: StudyFolder, tmp_path: Path, started: Started, proxy: Proxy, ganstudy: Ganstudy, downtime_s: float
) -> None:
    folder, code, stderr = run_through_outage(started, proxy, tmp_path, downtime_s=downtime_s)
    assert code == 0, stderr
    assert "`ganstudy sync" not in stderr, "the driver waited for MLflow's return"
    assert violations(folder) == []
    assert histories(folder).equals(histories(truth))


@pytest.mark.parametrize("mode", ["refuse", "blackhole", "http500"])
def test_mlflow_away_at_launch_is_one_line_with_the_way_out_before_ray_starts(
    tmp_path: Path, proxy: Proxy, ganstudy: Ganstudy, mode: str
) -> None:
    proxy.set(mode)
    before = time.monotonic()
    refused = ganstudy("run", write_spec(tmp_path), "--home", "runs", "--tracking-uri", proxy.uri)
    took_s = time.monotonic() - before
    assert refused.returncode == 1
    *_, told = refused.stderr.strip().splitlines()
    assert told.startswith(f"MLflow at {proxy.uri} cannot be used: ")
    assert "`--offline`" in told
    assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "runs").rglob("checkpoint-*")), "nothing was trained unseen"
    assert took_s < 60, "a loaded machine; the table of faults has what a quiet one takes"


def test_offline_trains_without_mlflow_and_sync_sends_all_of_it_later(
    truth: StudyFolder, tmp_path: Path, proxy: Proxy, ganstudy: Ganstudy
) -> None:
    proxy.set("refuse")
    folder = StudyFolder(tmp_path / "runs", str(SPEC["study"]))
    done = ganstudy("run", write_spec(tmp_path), "--home", "runs", "--tracking-uri", proxy.uri, "--offline")
    assert done.returncode == 0, done.stderr
    assert "`ganstudy sync tiny-ring" in done.stdout
    assert histories(folder).equals(histories(truth))
    assert proxy.requests == [], "MLflow was not asked for anything"
    status = json.loads(ganstudy("status", "tiny-ring", "--home", "runs", "--json").stdout)
    assert (status["state"], status["offline"]) == ("finished", True)
    assert "next:       `ganstudy sync tiny-ring" in ganstudy("status", "tiny-ring", "--home", "runs").stdout
    [told] = violations(folder)
    assert told.startswith("I1 ")
    assert "offline: `ganstudy sync` sends" in told
    report = ganstudy("report", "tiny-ring", "--home", "runs")
    assert report.returncode != 0
    assert "`ganstudy sync tiny-ring`" in report.stderr
    proxy.set("pass")
    synced = ganstudy("sync", "tiny-ring", "--home", "runs")
    assert synced.returncode == 0, synced.stderr
    assert violations(folder) == []
    status = json.loads(ganstudy("status", "tiny-ring", "--home", "runs", "--json").stdout)
    assert status["offline"] is False


def test_resume_does_not_read_what_ray_tune_wrote_down(truth: StudyFolder, tmp_path: Path, ganstudy: Ganstudy) -> None:
    """Its state is cut off, its other files are garbage: the missing cohort is trained again from its seeds."""
    home = tmp_path / "runs"
    shutil.copytree(truth.home, home, symlinks=True)
    folder = StudyFolder(home, truth.study)
    states = damage_tune(folder)
    assert states, "Ray Tune wrote a state to damage"
    [lost, *_] = sorted((folder.root / "cohorts").iterdir())
    shutil.rmtree(lost)
    uri = f"sqlite:///{home}/mlflow.db"
    resumed = ganstudy("resume", truth.study, "--home", home, "--tracking-uri", uri)
    assert resumed.returncode == 0, resumed.stderr
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []


def damage_tune(folder: StudyFolder) -> list[Path]:
    """Every file below tune/: an experiment state is cut to half, any other is garbage."""
    states = list(folder.tune.rglob("experiment_state-*.json"))
    for path in folder.tune.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if path in states else b"\x80garbage")
    return states
