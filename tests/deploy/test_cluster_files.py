from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.clusters import REPOSITORY
from tests.deploy.cluster_rules import defects, leaked

FILES = ["ray_cluster.yaml", "deploy/on-premise.yaml"]
Config = dict[str, Any]


def config_of(name: str) -> Config:
    return yaml.safe_load((REPOSITORY / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    """By the schema and the rules that `ray up` itself applies; no cloud is asked."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config_of(name))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda config: config.update(dashboard_host="0.0.0.0"),
        lambda config: config["available_node_types"]["gpu"]["resources"].update(GPU=0.5),
        lambda config: config["available_node_types"]["gpu"].pop("resources"),
        lambda config: config.update(head_node_type="heda"),
        lambda config: config["available_node_types"]["gpu"].update(min_workers=99),
    ],
)
def test_ray_refuses_a_broken_file(break_it: Callable[[Config], object]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = config_of("ray_cluster.yaml")
    break_it(config)
    with pytest.raises((ValueError, ValidationError)):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", FILES)
def test_the_files_hold_to_the_rules(name: str) -> None:
    assert defects(config_of(name)) == []


def replaced(place: str, old: str, new: str) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        before = copy.deepcopy(config[place])
        config[place] = [command.replace(old, new) for command in config[place]]
        assert config[place] != before

    return change


PLANTED: dict[str, tuple[Callable[[Config], object], str]] = {
    "head without the mode": (replaced("head_start_ray_commands", "RAY_AUTH_MODE=token ", ""), "head: `ray start`"),
    "worker without the mode": (
        replaced("worker_start_ray_commands", "RAY_AUTH_MODE=token ", ""),
        "worker: `ray start`",
    ),
    "mode switched off": (
        replaced("worker_start_ray_commands", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        "worker: `ray start`",
    ),
    "dashboard for everybody": (
        replaced("head_start_ray_commands", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        "listens on 0.0.0.0",
    ),
    "dashboard said twice": (
        replaced("head_start_ray_commands", "--dashboard-port", "--dashboard-host=0.0.0.0 --dashboard-port"),
        "listens on 127.0.0.1, 0.0.0.0",
    ),
    "dashboard left to Ray": (
        replaced("head_start_ray_commands", "--dashboard-host=127.0.0.1", ""),
        "listens on what is not said",
    ),
    "no token": (lambda config: config["file_mounts"].pop("~/.ray/auth_token"), "the token is not mounted"),
    "token for all to read": (replaced("setup_commands", "chmod 600", "chmod 644"), "readable by its owner only"),
    "MLflow's password everywhere": (
        lambda config: config["file_mounts"].update({"~/.ganstudy/mlflow.env": "~/.ganstudy/mlflow.env"}),
        "go to every node",
    ),
    "any versions": (replaced("setup_commands", "-c ~/ganstudy/constraints.txt", ""), "without the pinned versions"),
    "no job server": (replaced("setup_commands", "ganstudy[cluster,server]", "ganstudy[server]"), "serves jobs"),
    "no ganstudy": (replaced("setup_commands", "ganstudy[cluster,server]", "gan"), "our package is not installed"),
    "versions of another file": (
        lambda config: config["file_mounts"].update({"~/ganstudy/constraints.txt": "latest.txt"}),
        "pinned versions are not mounted",
    ),
    "started twice": (
        lambda config: config["head_start_ray_commands"].append("ray start --head"),
        "2 commands start Ray",
    ),
}


@pytest.mark.parametrize("defect", PLANTED)
@pytest.mark.parametrize("name", FILES)
def test_a_planted_defect_is_named(name: str, defect: str) -> None:
    plant, sentence = PLANTED[defect]
    config = config_of(name)
    plant(config)
    assert [found for found in defects(config) if sentence in found]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("nfsvers=4.1", "nfsvers=3", "NFS 4.1"),
        (",hard,", ",soft,", "get lost"),
        (",hard,", ",hard,nolock,", "get lost"),
    ],
)
def test_a_mount_that_loses_locks_or_writes_is_named(old: str, new: str, sentence: str) -> None:
    config = config_of("ray_cluster.yaml")
    replaced("setup_commands", old, new)(config)
    assert [found for found in defects(config) if sentence in found]


def test_no_secret_is_written_into_a_file() -> None:
    files = [path for path in [*(REPOSITORY / "deploy").rglob("*"), REPOSITORY / "ray_cluster.yaml"] if path.is_file()]
    assert len(files) >= 8
    assert {path.name: found for path in files if (found := leaked(path.read_text()))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "MLFLOW_AUTH_ADMIN_PASSWORD: hunter2hunter2",
        "password='correct-horse-battery'",
        "RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef",
        "postgresql://mlflow:swordfish@host/mlflow",
        "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCY",
        "# the token was 5f4dcc3b5aa765d61d8327deb882cf99",
    ],
)
def test_a_planted_secret_is_found(text: str) -> None:
    assert leaked(f"start: 1\n{text}\nend: 2\n")
