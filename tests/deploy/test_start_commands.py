"""The start commands of ray_cluster.yaml, run as they are: three nodes on loopback, and who gets in.

Said anew for one machine (tests/clusters.py): node addresses, ports, folders, CPUs, GPUs, object store; left out:
``ray stop``, which would end everybody's Ray, and the autoscaler's configuration, which needs a cloud.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.clusters import REPOSITORY, LoopbackCluster, Node
from tests.deploy.cluster_rules import start_commands
from tests.processes import is_raylet

pytestmark = pytest.mark.slow

CONNECT = "import ray; ray.init('{}', logging_level='CRITICAL'); print(int(ray.cluster_resources()['CPU']), 'CPUs')"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    config = yaml.safe_load((REPOSITORY / "ray_cluster.yaml").read_text())
    tmp = tmp_path_factory.mktemp("cluster")
    shutil.copytree(REPOSITORY / "deploy", tmp / "home/ganstudy/deploy")  # as file_mounts brings it
    (tmp / "home/.ganstudy").mkdir()
    credentials = tmp / "home/.ganstudy/mlflow.env"
    credentials.write_text("MLFLOW_TRACKING_USERNAME='ganstudy'\nMLFLOW_TRACKING_PASSWORD='of this test'\n")
    credentials.chmod(0o600)
    [head], [worker] = start_commands(config, "head"), start_commands(config, "worker")
    with LoopbackCluster(tmp, nodes=3, cpus=1, head=head, worker=worker) as running:
        yield running


def connect(cluster: LoopbackCluster, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CONNECT.format(cluster.gcs)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def test_a_client_is_let_in_with_the_token_only(cluster: LoopbackCluster) -> None:
    """At once, since Ray tries for 20 s before it gives up."""
    nothing = cluster.env_without_token
    clients = [
        connect(cluster, cluster.env),
        connect(cluster, nothing | {"RAY_AUTH_MODE": "disabled"}),
        connect(cluster, nothing | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}),
    ]
    printed = [client.communicate(timeout=120)[0] for client in clients]
    assert printed == ["3 CPUs\n", "", ""]
    assert [client.returncode == 0 for client in clients] == [True, False, False]


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/v0/nodes", "/nodes?view=summary"])
def test_the_job_server_answers_to_the_token_only(cluster: LoopbackCluster, path: str) -> None:
    assert [cluster.get(path, token=token)[0] for token in (None, "", "f" * 64)] == [200, 401, 403]


def test_the_dashboard_listens_on_loopback_only(cluster: LoopbackCluster) -> None:
    port = int(cluster.address.rpartition(":")[2])
    sockets = [entry for entry in psutil.net_connections("tcp") if entry.status == "LISTEN"]
    assert {entry.laddr.ip for entry in sockets if entry.laddr.port == port} == {"127.0.0.1"}


def test_a_worker_joins_with_the_token_only(cluster: LoopbackCluster) -> None:
    """A home without the token, and a home with another: the commands are the same."""
    strangers = []
    for name, token in {"nothing": None, "another": "f" * 64}.items():
        home = cluster.tmp / name
        shutil.copytree(REPOSITORY / "deploy", home / "ganstudy/deploy")
        if token:
            (home / ".ray").mkdir()
            (home / ".ray/auth_token").write_text(token)
        strangers.append(cluster.add_node(wait=False, environment={"HOME": str(home)}))
        cluster.nodes.remove(strangers[-1])
    for node in strangers:
        assert node.shell.wait(timeout=120) != 0
        assert "uthentication" in node.log.read_text()
        assert not node.alive
    assert cluster.alive_nodes() == 3


SHOWN = ("MLFLOW_TRACKING_PASSWORD", "GANSTUDY_CHECKPOINT_EVERY_S", "GANSTUDY_HOME")
PRINTS = f"import os; print([os.environ.get(name) for name in {SHOWN}])"
SUBMIT = """
import sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
job = client.submit_job(entrypoint=f'python -c "{sys.argv[2]}"')
while not client.get_job_status(job).is_terminal():
    time.sleep(0.2)
print(client.get_job_logs(job), client.get_job_info(job), sep="#")
"""


def test_jobs_find_what_the_environment_file_says(cluster: LoopbackCluster) -> None:
    """The driver runs on the head, with MLflow's password from the 0600 file; the submission holds none."""
    command = [sys.executable, "-c", SUBMIT, cluster.address, PRINTS]
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=120, check=True)
    printed, _, details = done.stdout.partition("#")
    assert printed.splitlines()[-1] == "['of this test', '20', '/mnt/ganstudy/runs']"
    assert "SUCCEEDED" in details
    assert "of this test" not in details


def test_the_token_is_in_no_command_line_and_no_log(cluster: LoopbackCluster) -> None:
    processes = [process for node in cluster.nodes for process in node.processes()]
    assert len(processes) > 10
    assert not any(cluster.token in word for process in processes for word in process.cmdline())
    logs = [path for node in cluster.nodes for path in Path(node.folder).glob("session_*/logs/**/*") if path.is_file()]
    assert len(logs) > 10
    assert not [path for path in logs if cluster.token.encode() in path.read_bytes()]


def test_a_spot_notice_drains_a_real_node(cluster: LoopbackCluster, metadata: str) -> None:
    """An idle one goes at once, and the cluster knows why; a node of its own is told by its own Ray, here by its id."""
    before = cluster.alive_nodes()
    node = cluster.add_node()
    node.killed = True
    command = [str(REPOSITORY / "deploy/spot-drain.sh")]
    more = {
        "HOME": str(cluster.home),
        "METADATA_URL": metadata,
        "GANSTUDY_SPOT_POLL_S": "0.1",
        "RAY_DRAIN_ARGUMENTS": f"--address {cluster.gcs} --node-id {node_id(node)}",
    }
    subprocess.run(command, env=cluster.env_without_token | more, check=True, timeout=60, capture_output=True)
    cluster.wait_for_nodes(before)
    assert "spot interruption" in cluster.get("/api/v0/nodes?detail=1")[1]


def node_id(node: Node) -> str:
    """The id that its raylet was started with."""
    [raylet] = [process for process in node.processes() if is_raylet(process)]
    [word] = [word for word in raylet.cmdline() if word.startswith("--node_id=")]
    return word.partition("=")[2]


def test_a_lost_node_is_noticed_and_replaced(cluster: LoopbackCluster) -> None:
    cluster.kill_node(1)
    cluster.wait_for_nodes(2)
    assert not cluster.nodes[1].processes()
    cluster.add_node()
    assert cluster.alive_nodes() == 3
