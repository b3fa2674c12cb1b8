"""What Ray's processes are started with, and how Ray is left. No Ray runs here."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from study import ray_doorway
from study.errors import WorkFailed
from study.ray_doorway import (
    THREADS,
    local_resources,
    processes_at_hand,
    ray_session,
    worker_environment,
)


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


def test_workers_on_this_machine_are_warmed_with_their_threads(fake_ray: dict[str, object], tmp_path: Path) -> None:
    before = dict(os.environ)
    with ray_session(None, log=tmp_path / "ray.log", cpus_per_trial=2) as cluster:
        assert cluster == {"CPU": 2.0}
        assert dict(os.environ) == before, "ours are not changed"
    inherited = fake_ray["inherited"]
    assert isinstance(inherited, dict)
    assert {name: inherited[name] for name in inherited.keys() - before.keys()} == {
        "RAY_preload_python_modules": "study.worker",
        "GANSTUDY_WORKER_THREADS": "2",
    }


@pytest.mark.parametrize(
    ("here", "cpus_per_trial", "trials", "cores"),
    [(64, 1.0, 3, 3), (64, 2.5, 3, 8), (2, 1.0, 40, 2), (4, 0.5, 1, 1), (4, 8.0, 1, 4), (4, 1.0, None, 4)],
)
def test_our_ray_has_the_cores_that_the_trials_need(
    fake_ray: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: int,
    cpus_per_trial: float,
    trials: int | None,
    cores: int,
) -> None:
    """Each core has a process with torch in it: a large machine is not filled for a small study."""
    monkeypatch.setattr(ray_doorway, "local_cpus", lambda: here)
    with ray_session(None, log=tmp_path / "ray.log", cpus_per_trial=cpus_per_trial, trials=trials):
        pass
    arguments = fake_ray["arguments"]
    assert isinstance(arguments, dict)
    assert arguments["num_cpus"] == cores


@pytest.mark.parametrize(("told", "users", "threads"), [("1", None, 1), ("2", None, 2), ("1", "2", 2), (None, None, 1)])
def test_a_workers_libraries_are_loaded_with_its_threads(told: str | None, users: str | None, threads: int) -> None:
    """torch and BLAS read them once, when they are loaded."""
    code = "import study.worker, torch, threadpoolctl as t; print(torch.get_num_threads(), "
    code += "*[pool['num_threads'] for pool in t.threadpool_info() if pool['user_api'] == 'blas'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {name: value for name, value in ((THREADS, told), ("OMP_NUM_THREADS", users)) if value}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(map(int, said.stdout.split())) == {threads}


def test_tune_gives_a_trial_no_environment_of_its_own() -> None:
    """Ray lets no process serve a trial that was started with another environment than the trial's."""
    from ray.tune.execution.class_cache import _ActorClassCache

    def environment() -> dict[str, str]:
        class Trial:
            pass

        options = _ActorClassCache().get(Trial)._default_options
        return dict(options["runtime_env"].get("env_vars", {}))

    assert environment()
    with processes_at_hand():
        assert environment() == {}
    assert environment()


def test_tune_is_left_as_it_was() -> None:
    from ray.tune.execution import class_cache

    before = (dict(class_cache.DEFAULT_ENV_VARS), set(class_cache.ENV_VARS_TO_PROPAGATE))
    with contextlib.suppress(ZeroDivisionError), processes_at_hand():
        assert not class_cache.DEFAULT_ENV_VARS
        assert not class_cache.ENV_VARS_TO_PROPAGATE
        raise ZeroDivisionError
    assert before == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)


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
        tried.append(os.environ[THREADS])
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
