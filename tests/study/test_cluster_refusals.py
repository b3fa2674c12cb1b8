"""Job servers that cannot be used: one message that says what to do, soon, and exit code 1."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tracked import make_study

from study.cli_cluster import place_of
from study.folder import write_json
from study.submissions import Handed, remember

SPEC = """\
study: there
target: {name: ring}
scientific: {loss: [minimax], k: [1]}
fixed: {learning_rate: 1e-3}
replicates: 2
budget: {unit: generator_steps, value: 100}
"""
Serve = Callable[[Callable[[str, str], tuple[int, str]]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers (path, token) with (status, body); returns its address."""
    servers = []

    def start(answer: Callable[[str, str], tuple[int, str]]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answer(self.path, self.headers.get("Authorization", "").removeprefix("Bearer "))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def submit(address: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A submission that must not take longer than 15 s, nor leave anything."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env = {**kept, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "300", **environment}
    command = [sys.executable, "-m", "study", "submit", str(tmp_path / "spec.yaml"), "--address", address]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.yaml"]
    return done


def versions(theirs: str) -> Callable[[str, str], tuple[int, str]]:
    return lambda path, token: (200, json.dumps({"ray_version": theirs}))


def test_nobody_listens(tmp_path: Path) -> None:
    done = submit("http://127.0.0.1:1", tmp_path)
    assert done.returncode == 1
    assert "no Ray job server answers at http://127.0.0.1:1 ([Errno 111] Connection refused)" in done.stderr
    assert "is the way to the head open" in done.stderr


def test_packets_are_swallowed(tmp_path: Path) -> None:
    """A server that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        done = submit(f"http://127.0.0.1:{hole.getsockname()[1]}", tmp_path)
    assert done.returncode == 1
    assert "no Ray job server answers" in done.stderr
    assert "timed out" in done.stderr


def test_a_token_is_asked_for(tmp_path: Path, serve: Serve) -> None:
    done = submit(serve(lambda path, token: (401, "who are you?")), tmp_path)
    assert done.returncode == 1
    assert "asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH" in done.stderr


def test_the_token_is_the_wrong_one(tmp_path: Path, serve: Serve) -> None:
    seen: list[str] = []
    address = serve(lambda path, token: (seen.append(token) or 403, "no"))  # type: ignore[func-returns-value]
    done = submit(address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="secret-of-mine")
    assert done.returncode == 1
    assert "refuses this token" in done.stderr
    assert seen == ["secret-of-mine"]
    assert "secret-of-mine" not in done.stdout + done.stderr


def test_a_token_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    done = submit("http://127.0.0.1:1", tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="/nowhere/token")
    assert done.returncode == 2
    assert "/nowhere/token cannot be read: No such file or directory" in done.stderr


def test_another_ray_runs_there(tmp_path: Path, serve: Serve) -> None:
    done = submit(serve(versions("2.9.3")), tmp_path)
    assert done.returncode == 1
    assert f"Ray 2.9.3 runs at http://127.0.0.1:{done.stderr.split(':')[2].split()[0]}" in done.stderr
    assert f"and Ray {version('ray')} here: install ray==2.9.3 here" in done.stderr


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, "[]"), (200, "{}"), (404, "?"), (500, "!")])
def test_some_other_server_answers(tmp_path: Path, serve: Serve, answer: tuple[int, str]) -> None:
    done = submit(serve(lambda path, token: answer), tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "job server" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "ftp://x"])
def test_an_address_that_is_no_url_is_bad_input(tmp_path: Path, address: str) -> None:
    done = submit(address, tmp_path)
    assert done.returncode == 2
    assert "--address: must be a job server, as http://127.0.0.1:8265" in done.stderr


def test_a_home_that_only_the_laptop_has_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "study", "submit", "spec.yaml", "--address", "http://h:1", "--home", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--home: must be an absolute path on storage that all of the cluster's machines share" in done.stderr


def test_a_password_is_not_sent_with_a_submission(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "study", "submit", "spec.yaml", "--address", "http://127.0.0.1:1"]
    command += ["--tracking-uri", "http://me:hunter2@mlflow:5000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_PASSWORD into the head's environment" in done.stderr.replace("\n", " ")
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        ({"address": None, "home": None}, ("http://head:8265", "/shared")),  # remembered
        ({"address": None, "home": Path("/mine")}, None),  # a home on this machine is named
        ({"address": "http://other:1", "home": None}, ("http://other:1", "/shared")),
        ({"address": "http://other:1", "home": Path("/theirs")}, ("http://other:1", "/theirs")),
        ({"address": "auto", "home": None}, None),  # a driver on the cluster itself
    ],
)
def test_where_a_command_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], there: tuple[str, str] | None
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert place_of("sent", **arguments) is None or arguments["address"] == "http://other:1"
    remember(Handed(study="sent", address="http://head:8265", home="/shared"))
    found = place_of("sent", **arguments)
    assert (None if found is None else (found.address, found.home)) == there
    (tmp_path / "runs" / "sent").mkdir(parents=True)
    (tmp_path / "runs" / "sent" / "plan.json").write_text("{}")
    assert (place_of("sent", **arguments) is None) == (arguments["address"] != "http://other:1")


def test_status_does_not_tell_a_password(tmp_path: Path) -> None:
    made = make_study(tmp_path / "runs")
    write_json(
        made.root / "launch.json", {"launch": "L", "attempt": 1, "tracking_uri": "http://me:hunter2@mlflow:5000"}
    )
    command = [sys.executable, "-m", "study", "status", made.root.name, "--home", str(tmp_path / "runs"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["tracking_uri"] == "http://mlflow:5000"
    assert "hunter2" not in done.stdout + done.stderr
