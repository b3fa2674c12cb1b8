"""secrets.sh, environment.sh, mlflow-server.sh and spot-drain.sh: what they make and what they refuse."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.clusters import REPOSITORY
from tests.processes import end_all, naming, until

DEPLOY = REPOSITORY / "deploy"


def bash(command: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], **more}
    return subprocess.run(
        ["/bin/bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


SECRETS = f"umask 022; {DEPLOY}/secrets.sh http://10.0.0.10:5000 postgresql://mlflow@10.0.0.20:5432/mlflow"


def test_secrets_are_private_fit_together_and_are_never_made_anew(tmp_path: Path) -> None:
    assert bash(SECRETS, tmp_path).returncode == 0
    files = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert files.keys() == {
        ".ray/auth_token",
        ".ganstudy/mlflow.env",
        ".ganstudy/mlflow-server.env",
        ".ganstudy/database_password",
    }
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in files.values()} == {0o700}
    texts = {name: path.read_text() for name, path in files.items()}
    assert len(texts[".ray/auth_token"]) == 64
    password = texts[".ganstudy/database_password"]
    assert f"'postgresql://mlflow:{password}@10.0.0.20:5432/mlflow'" in texts[".ganstudy/mlflow-server.env"]
    assert "GANSTUDY_MLFLOW_HOST" not in texts[".ganstudy/mlflow-server.env"]
    again = bash(SECRETS, tmp_path)
    assert {name: path.read_text() for name, path in files.items()} == texts
    assert again.stderr.count("stays") == 4


@pytest.mark.parametrize(("url", "listens"), [("http://localhost:5000", 1), ("http://localhost.evil.example:5000", 0)])
def test_a_server_for_this_machine_alone_listens_on_loopback(tmp_path: Path, url: str, listens: int) -> None:
    bash(SECRETS.replace("http://10.0.0.10:5000", url), tmp_path)
    text = (tmp_path / ".ganstudy/mlflow-server.env").read_text()
    assert text.count("GANSTUDY_MLFLOW_HOST='127.0.0.1'") == listens


@pytest.mark.parametrize(
    "arguments", ["", "http://a:5000", "http://a:5000 sqlite:///x", "http://a:5000 postgresql://u:p@h/d"]
)
def test_secrets_refuses_what_it_cannot_use(tmp_path: Path, arguments: str) -> None:
    """A password among the arguments could be read by every user of the machine."""
    refused = bash(f"{DEPLOY}/secrets.sh {arguments}", tmp_path)
    assert refused.returncode != 0
    assert "usage" in refused.stderr
    assert not list(tmp_path.rglob("*"))


def test_the_environment_reads_private_credentials_only(tmp_path: Path) -> None:
    command = f'. {DEPLOY}/environment.sh && echo "$MLFLOW_TRACKING_PASSWORD $GANSTUDY_CHECKPOINT_EVERY_S"'
    assert bash(command, tmp_path).stdout == " 20\n"
    assert bash(command, tmp_path, GANSTUDY_CHECKPOINT_EVERY_S="5").stdout == " 5\n"
    credentials = tmp_path / ".ganstudy/mlflow.env"
    credentials.parent.mkdir()
    credentials.write_text("MLFLOW_TRACKING_PASSWORD='a b'\n")
    credentials.chmod(0o640)
    refused = bash(command, tmp_path)
    assert (refused.stdout, refused.returncode) == ("", 1)
    assert "chmod 600" in refused.stderr
    credentials.chmod(0o600)
    assert bash(command, tmp_path).stdout == "a b 20\n"


@pytest.mark.parametrize(
    ("mode", "text", "complaint"),
    [
        (0o644, "MLFLOW_BACKEND_STORE_URI='postgresql://u@h/d'", "readable by its owner only"),
        (0o600, "", "MLFLOW_BACKEND_STORE_URI is not set"),
        (0o600, "MLFLOW_BACKEND_STORE_URI='postgresql://u@h/d'", "MLFLOW_AUTH_ADMIN_PASSWORD is not set"),
        (
            0o600,
            "MLFLOW_BACKEND_STORE_URI=sqlite:///x MLFLOW_AUTH_ADMIN_PASSWORD=a MLFLOW_FLASK_SERVER_SECRET_KEY=b",
            "must be postgresql://",
        ),
    ],
)
def test_the_server_does_not_start_without_its_secrets(tmp_path: Path, mode: int, text: str, complaint: str) -> None:
    path = tmp_path / ".ganstudy/mlflow-server.env"
    path.parent.mkdir()
    path.write_text(text + "\n")
    path.chmod(mode)
    refused = bash(f"{DEPLOY}/mlflow-server.sh", tmp_path)
    assert refused.returncode == 1
    assert complaint in refused.stderr
    assert not (tmp_path / ".ganstudy/mlflow").exists()


def test_in_the_background_one_server_runs_and_a_second_start_leaves_it_alone(tmp_path: Path) -> None:
    """With an mlflow that writes down its arguments and stays."""
    bash(SECRETS, tmp_path)
    mlflow = tmp_path / "bin/mlflow"
    mlflow.parent.mkdir()
    mlflow.write_text(f"#!/bin/bash\necho $$ $@ >> {tmp_path}/started\nexec sleep 60\n")
    mlflow.chmod(0o755)
    path = f"{mlflow.parent}{os.pathsep}{os.environ['PATH']}"
    started = tmp_path / "started"
    try:
        assert bash(f"{DEPLOY}/mlflow-server.sh --detach", tmp_path, PATH=path).returncode == 0
        until(lambda: started.exists() and started.read_text().endswith("\n"), lambda: "no server was started")
        for _ in range(3):
            assert bash(f"{DEPLOY}/mlflow-server.sh --detach; wait", tmp_path, PATH=path).returncode == 0
        [words] = [line.split() for line in started.read_text().splitlines()]
        assert "--app-name" in words
        assert psutil.pid_exists(int(words[0]))
    finally:
        end_all(lambda: list(naming(tmp_path)))


def test_a_spot_notice_drains_the_node(tmp_path: Path, metadata: str) -> None:
    """With a ray that writes down what it is asked; the token's mode is said, too."""
    ray = tmp_path / "ganstudy/.venv/bin/ray"
    ray.parent.mkdir(parents=True)
    ray.write_text(f'#!/bin/bash\necho "$RAY_AUTH_MODE $@" > {tmp_path}/asked\n')
    ray.chmod(0o755)
    done = bash(f"{DEPLOY}/spot-drain.sh", tmp_path, METADATA_URL=metadata, GANSTUDY_SPOT_POLL_S="0.01")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("token drain-node --reason DRAIN_NODE_REASON_PREEMPTION ")


def test_outside_of_aws_the_spot_watch_ends_at_once(tmp_path: Path) -> None:
    done = bash(f"{DEPLOY}/spot-drain.sh", tmp_path, METADATA_URL="http://127.0.0.1:9/latest")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
