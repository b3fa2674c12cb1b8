"""Starting, joining and leaving Ray: authentication, addresses, temporary folders, silence."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.errors import WorkFailed

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files per trial that nobody reads
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours maps Ctrl-C to exit code 130 and a resumable study
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # one trial without the metric would end the whole study
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints boxes and errors even when told to be silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # user code named by import path keeps its working directory
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a GPU share of 0 leaves CUDA_VISIBLE_DEVICES alone, without a warning
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
}

STUDY = "ganstudy.study"
"""What a job's metadata says of the study that it runs."""

THREADS = "GANSTUDY_WORKER_THREADS"
"""Tells ``study.worker`` how many threads a trial's libraries get where the user has not said: one for each core."""

PROBE_S = 5.0
_TOO_BUSY = "timed out during startup"

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Linux, Linux under Windows, AMD: without one of them, asking torch for GPUs is a second wasted."""


def worker_environment(*, cpus: float) -> dict[str, str]:
    """What trials on a cluster find in their environment: the user's threads, else as many as the trial has cores."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, int(cpus))))}


def prepare_environment(home: Path) -> None:
    """Sets what Ray reads at its first import; a mode the user chose, or a loaded ray, is left as it is.

    Ray caches the authentication mode on import: set afterwards, ``ray.init`` dies after 20 s.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "ray" in sys.modules or os.environ.get("RAY_AUTH_MODE"):
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_own_token(home))


@contextlib.contextmanager
def ray_session(
    address: str | None, *, log: Path, cpus_per_trial: float = 1.0, trials: int | None = None, study: str = ""
) -> Iterator[dict[str, float]]:
    """A Ray of our own on this machine (``address=None``), or the cluster at ``address``; yields its resources.

    Our own has the cores that so many ``trials`` at once need, all unless given, and a warmed process for each core.
    What Ray prints goes to the file ``log``: our stdout is for results. A cluster is told ``worker_environment``, and
    which ``study`` this driver runs, for the others to share it fairly.
    Uses the Ray of a process that already joined one, and leaves that one running.
    Raises WorkFailed when the cluster cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield total_resources()
        return
    # 107 bytes is the most a Unix socket's path may have: the folder must lie high up
    temporary = _temporary_folder() if address is None else None
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file, contextlib.redirect_stdout(file), _only_errors_logged():
            if address is None:
                _start_here(temporary, cpus_per_trial, trials)
            else:
                _join(address, workers=worker_environment(cpus=cpus_per_trial), study=study)
            yield total_resources()
    finally:
        _shutdown()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def processes_at_hand() -> Iterator[None]:
    """Within it Tune's trials take the processes that a Ray of our own started and warmed while the driver got ready.

    Tune gives each trial variables of the driver's environment, which those have inherited, and one more for a library
    that we do not use. Ray would start a new process for them: three seconds. A Tune without these names starts slower.
    """
    from ray.tune.execution import class_cache

    kept = {name: getattr(class_cache, name) for name in _TUNE_ADDS if hasattr(class_cache, name)}
    for name, value in kept.items():
        setattr(class_cache, name, type(value)())
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(class_cache, name, value)


_TUNE_ADDS = ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE")


def any_node_alive() -> bool:
    """Whether the cluster still has a machine; without one Tune would wait for ever."""
    import ray

    return any(node["Alive"] for node in ray.nodes())


def this_node_is_leaving() -> bool:
    """Whether the machine of this process was given notice (spot interruption, eviction): Ray drains it."""
    import ray
    from ray._private.state import state  # Ray Train asks the same way; there is no public name for it

    try:
        return str(ray.get_runtime_context().get_node_id()) in state.get_draining_nodes()
    except Exception:  # a head that does not answer has given no notice
        return False


def studies_on_cluster() -> frozenset[str]:
    """Names of the studies that drivers run on this cluster now, our own too; empty where the head cannot say."""
    import ray
    from ray.util.state import list_jobs
    from ray.util.state.exception import RayStateApiException

    here = ray.get_runtime_context().gcs_address  # this cluster, whatever others the machine runs
    try:
        jobs = list_jobs(here, detail=True, limit=1000, timeout=5, raise_on_missing_output=False)
    except (RayStateApiException, OSError, RuntimeError, ValueError):
        return frozenset()
    running = [job for job in jobs if str(job.status) in ("RUNNING", "JobStatus.RUNNING")]
    return frozenset(str(job.metadata[STUDY]) for job in running if job.metadata and STUDY in job.metadata)


def total_resources() -> dict[str, float]:
    """What the cluster has, or will have when its autoscaler added all that it may: CPU, GPU and more."""
    import ray

    now = dict(ray.cluster_resources())
    return now | {name: max(float(most), now.get(name, 0.0)) for name, most in _autoscaled().items()}


def _autoscaled() -> dict[str, int]:
    """The most of each resource that a cluster file allows; empty without an autoscaler.

    Ray Train asks in the same way; the API is Ray's own, so that a version without it means "as it is now".
    """
    from ray.exceptions import RayError

    try:
        from ray._private.state import state

        return dict(state.get_max_resources_from_cluster_config() or {})
    except (ImportError, AttributeError, RuntimeError, RayError):
        return {}


def local_cpus() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_resources() -> dict[str, float]:
    """What Ray would find on this machine, without starting it: CPU and GPU."""
    gpus = 0
    if any(Path(device).exists() for device in _GPU_DEVICES):
        import torch

        gpus = torch.cuda.device_count()
    return {"CPU": float(local_cpus()), "GPU": float(gpus)}


def _shutdown() -> None:
    """Leaves Ray, or ends our own.

    Whatever Tune left in reference cycles is freed first and nothing is collected meanwhile: an actor handle that some
    other thread's garbage collection frees while Ray shuts down ends the whole process on the spot, with exit code 1.
    """
    import ray

    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        with contextlib.suppress(Exception):
            ray.shutdown()
    finally:
        if collecting:
            gc.enable()


_QUIETLY: Mapping[str, Any] = {
    "configure_logging": True,
    "logging_level": logging.CRITICAL,
    "log_to_driver": False,
}


def _join(address: str, *, workers: dict[str, str], study: str) -> None:
    import ray
    from ray.job_config import JobConfig

    told = {STUDY: study} if study and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ else {}  # a submission's is told
    with _readable_failures(f"the Ray cluster at {address}", hint=True):
        _require_listener(address)
        ray.init(address=address, runtime_env={"env_vars": workers}, job_config=JobConfig(metadata=told), **_QUIETLY)


def _start_here(temporary: Path | None, cpus_per_trial: float, trials: int | None) -> None:
    """A Ray of our own; one more try where the machine was too busy for the 30 s that Ray gives its own start."""
    import ray

    here = local_cpus()
    cores = here if trials is None else max(1, min(here, math.ceil(trials * cpus_per_trial)))
    warm = {"RAY_preload_python_modules": "study.worker", THREADS: str(max(1, int(cpus_per_trial)))}
    with _readable_failures("Ray on this machine"), _environment(warm):
        for tries_left in (1, 0):
            try:
                ray.init(address="local", num_cpus=cores, include_dashboard=False, _temp_dir=str(temporary), **_QUIETLY)
                return
            except Exception as problem:
                if not tries_left or _TOO_BUSY not in str(problem):
                    raise
                _shutdown()


@contextlib.contextmanager
def _readable_failures(where: str, *, hint: bool = False) -> Iterator[None]:
    """Ray raises plain exceptions, too: "The current node timed out during startup"."""
    try:
        yield
    except Exception as problem:
        mode = os.environ.get("RAY_AUTH_MODE", "unset")
        told = f" (RAY_AUTH_MODE is {mode}; a cluster with tokens needs RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        raise WorkFailed(f"{where} cannot be reached: {problem}{told if hint else ''}") from problem


@contextlib.contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """What Ray's processes are to inherit and ours is to forget; what the user has set stays."""
    new = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _require_listener(address: str) -> None:
    """Raises OSError, within PROBE_S, where nobody listens: Ray itself tries for minutes and tells a log of it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()


def _temporary_folder() -> Path:
    """Ours alone, named by process, so that what a killed driver left behind can be told and removed."""
    root, mine = Path("/tmp"), f"ganstudy-{os.getuid()}-"  # noqa: S108
    for leftover in root.glob(f"{mine}*"):
        pid = leftover.name.removeprefix(mine).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=root))


@contextlib.contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Ray's and Tune's own chatter would tear the progress display."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _own_token(home: Path) -> Path:
    """A token readable by its owner only: Ray's own file is written 0644."""
    path = home / ".ray-token"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
    return path
