"""What Ray's processes are started with, and how Ray is left. No Ray runs here."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from pathlib import Path

import pytest

from study import ray_doorway
from study.errors import WorkFailed
from study.ray_doorway import local_resources, ray_session, worker_environment


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Notes how Ray was started: its arguments, and the environment its processes would inherit."""
    import ray

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen: dict[str, object] = {"collecting": []}

    def shutdown() -> None:
        seen["collecting_at_shutdown"] = gc.isenabled()
        seen["alive_at_shutdown"] = [entry for entry in gc.get_objects() if type(entry) is Cycle]

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **arguments: seen.update(arguments=arguments, inherited=dict(os.environ)))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "shutdown", shutdown)
    return seen


class Cycle:
    """Stands for an actor handle in a reference cycle: only a garbage collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_workers_on_this_machine_inherit_their_threads(fake_ray: dict[str, object], tmp_path: Path) -> None:
    before = dict(os.environ)
    with ray_session(None, log=tmp_path / "ray.log", cpus_per_trial=2) as cluster:
        assert cluster == {"CPU": 2.0}
        assert dict(os.environ) == before, "ours are not changed"
    inherited = fake_ray["inherited"]
    assert isinstance(inherited, dict)
    assert inherited["OMP_NUM_THREADS"] == "2"


def test_workers_of_a_cluster_are_told(
    fake_ray: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with ray_session(address, log=tmp_path / "ray.log", cpus_per_trial=0.5):
            pass
    arguments = fake_ray["arguments"]
    assert isinstance(arguments, dict)
    assert arguments["runtime_env"] == {"env_vars": worker_environment(cpus=0.5)}
    assert arguments["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "7", "the user's own stands"


def test_where_nobody_listens_ray_is_not_started_at_all(fake_ray: dict[str, object], tmp_path: Path) -> None:
    with (
        pytest.raises(WorkFailed, match=r"the Ray cluster at 127\.0\.0\.1:1 cannot be reached"),
        ray_session("127.0.0.1:1", log=tmp_path / "ray.log"),
    ):
        pass
    assert "arguments" not in fake_ray


@pytest.mark.parametrize(
    ("problem", "failures", "starts"),
    [
        ("The current node timed out during startup. This could happen", 1, 2),
        ("The current node timed out during startup. This could happen", 2, 2),
        ("No space left on device", 1, 1),
    ],
)
def test_a_start_that_took_too_long_on_a_busy_machine_is_tried_once_more(
    fake_ray: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: str,
    failures: int,
    starts: int,
) -> None:
    """Ray gives its raylet 30 s, and nobody can tell it otherwise."""
    tried: list[str] = []

    def init(**arguments: object) -> None:
        tried.append(os.environ["OMP_NUM_THREADS"])
        if len(tried) <= failures:
            raise RuntimeError(problem)

    monkeypatch.setattr("ray.init", init)
    expected = contextlib.nullcontext() if failures < starts else pytest.raises(WorkFailed, match=problem[:20])
    with expected, ray_session(None, log=tmp_path / "ray.log", cpus_per_trial=2):
        pass
    assert tried == ["2"] * starts


def test_nothing_of_ray_is_left_to_other_threads_when_it_shuts_down(
    fake_ray: dict[str, object], tmp_path: Path
) -> None:
    with ray_session(None, log=tmp_path / "ray.log"):
        Cycle()
    assert fake_ray["alive_at_shutdown"] == []
    assert fake_ray["collecting_at_shutdown"] is False
    assert gc.isenabled()


def test_gpus_are_counted_without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(ray_doorway, "_GPU_DEVICES", (str(tmp_path / "none"),))
    assert local_resources()["GPU"] == 0.0
    monkeypatch.setattr(ray_doorway, "_GPU_DEVICES", (str(tmp_path / "none"), str(tmp_path)))
    assert local_resources()["GPU"] == 3.0
    assert local_resources()["CPU"] >= 1
