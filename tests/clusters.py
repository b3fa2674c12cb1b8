"""A real Ray cluster of several nodes on this machine's loopback, with tokens: what `ray up` starts, without a cloud.

Every node is one ``ray start --block`` in a session of its own with a temporary folder of its own. Nothing is ever
ended by name: only processes that this module started, or that carry its folder's name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from tests.processes import MARK, descendants, end_all, is_raylet, naming, until

REPOSITORY = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 80_000_000

HEAD = "RAY_AUTH_MODE=token ray start --head --port=6379 --dashboard-host=127.0.0.1"
WORKER = "RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379"


@dataclass
class Node:
    """One started node: its shell, the folder whose name its processes carry, and what it printed."""

    shell: subprocess.Popen[bytes]
    folder: Path
    log: Path
    killed: bool = False

    @property
    def alive(self) -> bool:
        """Whether its raylet runs."""
        return any(is_raylet(process) for process in self.processes())

    def processes(self) -> list[psutil.Process]:
        """What this node started and still runs: descendants, and orphans that carry its folder's name."""
        found = {process.pid: process for process in descendants(self.shell.pid)}
        found |= {process.pid: process for process in naming(self.folder)}
        return list(found.values())

    def kill(self) -> None:
        """SIGKILL to everything at once, as a machine loses power; returns when all of it is gone."""
        self.killed = True
        end_all(self.processes)
        self.shell.wait()


class LoopbackCluster:
    """``nodes`` nodes of ``cpus`` CPUs: the head and workers. Use it as a context manager.

    ``head`` and ``worker`` are start commands as in a cluster file; only what must differ on one machine is said anew:
    addresses, ports, folders, CPUs, sizes. Every node's home is ``home``, which holds the token where a cluster has it;
    nothing else tells them of it. ``environment`` is added to every node's. Raises AssertionError with the nodes' own
    words when one does not come up within ``PATIENCE_S``.
    """

    def __init__(
        self,
        tmp: Path,
        nodes: int = 3,
        cpus: int = 1,
        *,
        environment: Mapping[str, str] | None = None,
        head: str = HEAD,
        worker: str = WORKER,
    ) -> None:
        self.tmp, self.cpus, self._planned = tmp, cpus, nodes
        self._head_command, self._worker_command = head, worker
        self._added = dict(environment or {})
        self._port, self._dashboard_port = free_ports(2)
        self.gcs, self.address = f"127.0.0.1:{self._port}", f"http://127.0.0.1:{self._dashboard_port}"
        self.nodes: list[Node] = []
        self._numbers = itertools.count()
        self.home = tmp / "home"
        self.token_file = self.home / ".ray" / "auth_token"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a client that holds the token: this checkout, one thread, nothing of the user's."""
        return {
            **self.env_without_token,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
        }

    @property
    def env_without_token(self) -> dict[str, str]:
        """The environment of a client that was given nothing, with an empty home."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GANSTUDY_", "MLFLOW_", "RAY_"))}
        return {
            **kept,
            "HOME": str(self.tmp / "elsewhere"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
        }

    @property
    def token(self) -> str:
        """The cluster's secret."""
        return self.token_file.read_text()

    def __enter__(self) -> LoopbackCluster:
        self.token_file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        with os.fdopen(os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        # 107 bytes is the most a Unix socket's path may have: pytest's folders lie too deep
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"loop-{os.getpid()}-", dir="/tmp"))
        try:
            self._start_head()
            for _ in range(self._planned - 1):
                self._start_worker()
            self.wait_for_nodes(self._planned)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process it started and removes their folders; safe to repeat."""
        shells = [node.shell for node in self.nodes]
        end_all(lambda: [*(p for shell in shells for p in descendants(shell.pid)), *naming(self._folder)])
        for shell in shells:
            shell.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_node(self, *, wait: bool = True, environment: Mapping[str, str] | None = None) -> Node:
        """One more worker; ``wait`` until the cluster counts it. ``environment`` overrides, for this node only."""
        before = self.alive_nodes() if wait else 0
        node = self._start_worker(environment)
        if wait:
            self.wait_for_nodes(before + 1)
        return node

    def kill_node(self, place: int) -> None:
        """Takes worker ``place`` (1 is the first; 0 is the head) away without a word, as a lost machine goes."""
        self.nodes[place].kill()

    def freeze_node(self, place: int, *, thaw: bool = False) -> None:
        """SIGSTOP to all of a node's processes, as a machine hangs; ``thaw`` lets them go on."""
        for process in self.nodes[place].processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    def alive_nodes(self) -> int:
        """Nodes that the head's GCS counts as alive; /nodes would be a summary of some seconds ago."""
        found = json.loads(self.get("/api/v0/nodes")[1])
        return sum(node["state"] == "ALIVE" for node in found["data"]["result"]["result"])

    def wait_for_nodes(self, count: int) -> None:
        """Returns as soon as ``count`` nodes are alive."""
        until(lambda: self._counts(count), lambda: f"{count} nodes are not alive:\n{self.told()}")

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        """Status and body of an HTTP request to the head; ``token=None`` uses the cluster's own, '' none."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.address + path, headers=headers), timeout=20
            ) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()

    def told(self) -> str:
        """The last lines that each node printed."""
        return "\n".join(
            f"--- node {place}\n" + "\n".join(node.log.read_text(errors="replace").splitlines()[-15:])
            for place, node in enumerate(self.nodes)
        )

    def _counts(self, count: int) -> bool:
        for node in self.nodes:
            if node.shell.poll() is not None and not node.killed:
                raise AssertionError(f"a node ended:\n{self.told()}")
        try:
            return self.alive_nodes() == count
        except (OSError, ValueError):
            return False

    def _start_head(self) -> None:
        command = _with(self._head_command, {"--port": self._port, "--dashboard-port": self._dashboard_port})
        self._start(_without(command, "--autoscaling-config"), {"--ray-client-server-port": free_ports(1)[0]}, {})
        until(lambda: _listening(self._port), lambda: f"the head does not listen:\n{self.told()}")

    def _start_worker(self, environment: Mapping[str, str] | None = None) -> Node:
        command = self._worker_command.replace("$RAY_HEAD_IP:6379", self.gcs)
        return self._start(command, {"--include-log-monitor": "false"}, environment or {})  # one a machine

    def _start(self, command: str, flags: Mapping[str, object], environment: Mapping[str, str]) -> Node:
        folder = self._folder / f"n{next(self._numbers)}"
        folder.mkdir()
        command = _with(
            command,
            {
                **flags,
                "--node-ip-address": "127.0.0.1",
                "--temp-dir": folder,
                "--num-cpus": self.cpus,
                "--num-gpus": 0,
                "--object-store-memory": OBJECT_STORE_BYTES,
                "--dashboard-agent-listen-port": free_ports(1)[0],
            },
        )
        command = f"{command} --block"
        log = self.tmp / f"{folder.name}.log"
        with log.open("wb") as file:
            shell = subprocess.Popen(
                # exec, so that the death of the tests reaches ray itself, whose reaper ends the rest
                ["setpriv", "--pdeathsig", "KILL", "/bin/bash", "-c", command.replace("ray start", "exec ray start")],
                cwd=folder,
                env={
                    **self.env_without_token,
                    "HOME": str(self.home),
                    MARK: str(folder),
                    **self._added,
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes.append(Node(shell, folder, log))
        return self.nodes[-1]


def _sweep() -> None:
    """Ends what is left of clusters whose tests were killed: a raylet's agents outlive it."""
    for folder in Path("/tmp").glob("loop-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            end_all(lambda left=folder: list(naming(left)))
            shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those that the kernel and Ray's workers choose from."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found += [port] if port not in found else []
    return found


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _with(command: str, flags: Mapping[str, object]) -> str:
    """The command with these flags, each replacing its own former value."""
    for name, value in flags.items():
        command = f"{_without(command, name)} {name}={shlex.quote(str(value))}"
    return command


def _without(command: str, flag: str) -> str:
    return " ".join(word for word in command.split(" ") if word.partition("=")[0] != flag)
