"""A whole local run and its report with secrets in the environment: none is in anything they leave or show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.conftest import TINY, environment
from tests.processes import descendants, until

pytestmark = pytest.mark.slow

SECRETS = {
    "RAY_AUTH_TOKEN": "c0ffee" * 10 + "beef",
    "MLFLOW_TRACKING_PASSWORD": "canary-password-7d1f",
    "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud-91ab",
}
MAY_LISTEN = ("gcs_server", "raylet", "python", "ray::")
"""Ray's own: they listen on all interfaces whatever they are told, and ask for the token (docs/security.md)."""


class Ran(NamedTuple):
    """What a run left and showed; ``listeners``: (process, address, port) while it trained."""

    home: Path
    printed: str
    arguments: list[str]
    listeners: set[tuple[str, str, int]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("secrets")
    home = folder / "runs"
    (folder / "study.yaml").write_text(json.dumps({**TINY, "budget": {**TINY["budget"], "value": 2000}}))
    told = environment(**SECRETS, RAY_AUTH_MODE="token", GANSTUDY_CHECKPOINT_EVERY_S="0.3")
    command = [sys.executable, "-m", "study", "run", str(folder / "study.yaml"), "--home", str(home)]
    with (folder / "printed").open("wb") as out:
        run = subprocess.Popen(command, env=told, stdout=out, stderr=out, start_new_session=True)
        try:
            until(
                lambda: any(home.glob("tiny-ring/cohorts/*/checkpoint-*")) or run.poll() is not None,
                lambda: f"no checkpoint: {(folder / 'printed').read_text()}",
            )
            family = descendants(run.pid)
            arguments = [word for process in family for word in _words(process)]
            listeners = {one for process in family for one in _listeners(process)}
            assert run.wait(timeout=300) == 0, (folder / "printed").read_text()
        finally:
            run.kill()
            run.wait()
    report = subprocess.run(
        [sys.executable, "-m", "study", "report", "tiny-ring", "--home", str(home)],
        env=told,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(home, (folder / "printed").read_text() + report.stdout + report.stderr, arguments, listeners)


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _listeners(process: psutil.Process) -> list[tuple[str, str, int]]:
    try:
        found = process.net_connections("tcp")
        return [(process.name(), one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_a_file_a_message_or_an_argument(ran: Ran, name: str) -> None:
    """Database, artifacts, checkpoints, Ray's and Tune's logs, report: every byte of the home."""
    secret = SECRETS[name]
    files = [path for path in ran.home.rglob("*") if path.is_file()]
    assert {"mlflow.db", "launch.json", "report.html", "replicates.parquet"} <= {path.name for path in files}
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert secret not in ran.printed
    assert len(ran.arguments) > 20
    assert not [word for word in ran.arguments if secret in word]


def test_the_search_would_find_a_secret(ran: Ran) -> None:
    """What the run was named is in all those places."""
    found = {path.name for path in ran.home.rglob("*") if path.is_file() and b"tiny-ring" in path.read_bytes()}
    assert {"mlflow.db", "launch.json", "report.html"} <= found
    assert "tiny-ring" in ran.printed
    assert any("study.yaml" in word for word in ran.arguments)


def test_a_local_run_listens_for_ray_alone_and_has_no_dashboard(ran: Ran) -> None:
    strangers = [one for one in ran.listeners if not one[0].startswith(MAY_LISTEN)]
    assert not strangers
    assert {name for name, _, _ in ran.listeners} >= {"gcs_server", "raylet"}
    assert not [one for one in ran.listeners if one[2] in (8265, 10001)], "a dashboard, or a server for Ray clients"


def test_what_a_run_leaves_is_not_for_others_where_it_holds_a_key(ran: Ran) -> None:
    """Ray's token of a home is made by us: readable by its owner alone. Here the user gave one, and none is written."""
    assert not (ran.home / ".ray-token").exists()
    assert "RAY_AUTH_TOKEN" not in (ran.home / "tiny-ring/launch.json").read_text()
    assert os.environ.get("RAY_AUTH_TOKEN") != SECRETS["RAY_AUTH_TOKEN"]
