"""Processes that die or are told to go: drivers, trials, whole terminals; and code that fails in one cohort."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.folder import StudyFolder, lock_holder
from study.tally import read_plan
from tests.conftest import Ganstudy, Started
from tests.faults.conftest import SPEC, violations, write_spec
from tests.faults.rows import complete, histories, midway, wait_for
from tests.processes import PATIENCE_S, descendants, until
from tests.study.tracked import query

pytestmark = pytest.mark.slow

STUDY = str(SPEC["study"])
HASTE_S = 1.0
"""A kill comes at a milestone and up to so long after it."""

MILESTONES: dict[str, Callable[[StudyFolder], object]] = {
    "took the lock": lambda folder: (holder := lock_holder(folder)) is not None and holder.alive,
    "wrote its launch": lambda folder: folder.launch_file.exists(),
    "wrote a checkpoint": midway,
    "ended a cohort": complete,
}


def milestone(rng: random.Random, folder: StudyFolder) -> tuple[str, Callable[[], object]]:
    """One that lies ahead, and the question whether it is reached."""
    ahead = [name for name, reached in MILESTONES.items() if not reached(folder)] or ["took the lock"]
    name = rng.choice(ahead)
    return name, lambda: MILESTONES[name](folder)


def trial_processes(driver: int) -> list[psutil.Process]:
    """Processes of trials below a driver."""
    found = []
    for process in descendants(driver):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(("ray::trainable", "ray::ImplicitFunc")):
                found.append(process)
    return found


def killed_at_random(driver: subprocess.Popen[str], folder: StudyFolder, rng: random.Random) -> str:
    """SIGKILL to the driver at a random point of its life; says where. A driver that ended first was too fast."""
    name, reached = milestone(rng, folder)
    delay_s = rng.uniform(0, HASTE_S)
    with contextlib.suppress(AssertionError):
        wait_for(reached, name, process=driver)
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(delay_s)  # the random point: nothing is waited for
    driver.kill()
    driver.communicate()
    return f"{name} + {delay_s:.2f} s"


def drivers_killed(seed: int, kills: int, home: Path, spec: Path, started: Started, ganstudy: Ganstudy) -> StudyFolder:
    """A study whose driver is killed ``kills`` times before it is left alone; every restart is plain `run`."""
    folder, rng = StudyFolder(home, STUDY), random.Random(seed)
    points = [
        killed_at_random(started("run", spec, "--home", home, GANSTUDY_CHECKPOINT_EVERY_S="0.3"), folder, rng)
        for _ in range(kills)
    ]
    ended = ganstudy("run", spec, "--home", home)
    assert ended.returncode == 0, f"seed {seed}, killed at {points}: {ended.stderr}"
    return folder


@pytest.mark.chaos
def test_a_driver_killed_at_two_random_points_loses_and_doubles_nothing(
    truth: StudyFolder, tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    folder = drivers_killed(7, 2, tmp_path / "runs", write_spec(tmp_path), started, ganstudy)
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_a_driver_killed_at_random_points(
    seed: int, truth: StudyFolder, tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    folder = drivers_killed(seed, 1 + seed % 3, tmp_path / "runs", write_spec(tmp_path), started, ganstudy)
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_a_trial_killed_at_a_random_point(seed: int, truth: StudyFolder, tmp_path: Path, started: Started) -> None:
    """Up to three times, which is what a cohort is forgiven."""
    rng, folder = random.Random(seed), StudyFolder(tmp_path / "runs", STUDY)
    driver = started("run", write_spec(tmp_path), "--home", folder.home, GANSTUDY_CHECKPOINT_EVERY_S="0.3")
    for _ in range(rng.randint(1, 3)):
        wait_for(lambda: trial_processes(driver.pid) or complete(folder) == 2, "trial", process=driver)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(rng.uniform(0, 2.0))
        for process in trial_processes(driver.pid)[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    _, stderr = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, stderr
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []


@pytest.mark.chaos
def test_a_second_ctrl_c_ends_at_once_and_sigterm_stops_in_order(
    truth: StudyFolder, tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    """Both leave a study that goes on; nothing of the first one's Ray survives it."""
    folder, spec = StudyFolder(tmp_path / "runs", STUDY), write_spec(tmp_path)
    driver = started("run", spec, "--home", folder.home)
    wait_for(lambda: midway(folder), "checkpoint midway", process=driver)
    family = descendants(driver.pid)
    for stopping in trial_processes(driver.pid):
        stopping.suspend()  # or they may write their checkpoints before the second signal arrives
    os.kill(driver.pid, signal.SIGINT)
    wait_for(lambda: folder.stop_reason() == "SIGINT", "stop file", process=driver)
    os.kill(driver.pid, signal.SIGINT)
    driver.communicate(timeout=5)
    assert driver.returncode == 130
    until(lambda: not any(map(running, family)), lambda: f"outlive their driver: {list(filter(running, family))}")
    status = json.loads(ganstudy("status", STUDY, "--home", folder.home, "--json").stdout)
    assert status["state"] == "died", "it had no time to say goodbye"
    resumed = started("resume", STUDY, "--home", folder.home)
    holds = lambda: (holder := lock_holder(folder)) is not None and holder.pid == resumed.pid  # noqa: E731
    wait_for(lambda: holds() and trial_processes(resumed.pid), "trial", process=resumed)
    resumed.send_signal(signal.SIGTERM)
    stdout, stderr = resumed.communicate(timeout=60)
    assert (resumed.returncode, lock_holder(folder)) == (130, None), stderr
    assert "ganstudy resume tiny-ring" in stdout
    assert violations(folder) == []
    assert ganstudy("resume", STUDY, "--home", folder.home).returncode == 0
    assert histories(folder).equals(histories(truth))
    assert violations(folder) == []


def running(process: psutil.Process) -> bool:
    """Whether it is there and not merely waiting to be reaped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


BAD_LOSSES = """
import os, resource, signal, sys
from collections import Counter
from pathlib import Path

import torch
from torch.nn.functional import softplus
from trainers.losses import AdversarialLoss

IN_A_TRIAL = Path(sys.argv[0]).name == "default_worker.py"
AILING = Path(__file__).parent / "ailing"
calls = Counter()

def due(name):
    calls[name] += 1
    return IN_A_TRIAL and calls[name] > 60 and AILING.exists()

def plain(real_logits, fake_logits):
    return softplus(-real_logits).mean(-1) + softplus(fake_logits).mean(-1)

def generator(*, real_logits, fake_logits):
    return softplus(-fake_logits).mean(-1)

def turns_nan(*, real_logits, fake_logits):
    calls["nan"] += 1
    bad = float("nan") if IN_A_TRIAL and calls["nan"] > 60 else 1.0
    return plain(real_logits, fake_logits) * bad

def takes_all_memory(*, real_logits, fake_logits):
    if due("memory"):
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, hard))
        try:
            torch.ones(400_000_000)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return plain(real_logits, fake_logits)

def is_killed(*, real_logits, fake_logits):
    if due("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(real_logits, fake_logits)

nan, greedy, doomed = (
    AdversarialLoss(name=name, discriminator=critic, generator=generator)
    for name, critic in (("nan", turns_nan), ("greedy", takes_all_memory), ("doomed", is_killed))
)
"""


def finite_metrics(database: Path) -> bool:
    """Whether MLflow holds measurements, and not one that is nan or an infinity in disguise."""
    [(held, bad)] = query(database, "select count(*), sum(is_nan or abs(value) > 1e300) from metrics")
    return bool(held and not bad)


def test_nan_no_memory_and_sudden_death_stay_in_their_own_cohorts(tmp_path: Path, ganstudy: Ganstudy) -> None:
    """NaN is an outcome; a cohort without memory, or killed again and again, fails by name; `resume` tries it again."""
    (tmp_path / "bad_losses.py").write_text(BAD_LOSSES)
    (tmp_path / "ailing").touch()
    losses: list[Any] = ["minimax", *({"name": f"bad_losses:{name}"} for name in ("nan", "greedy", "doomed"))]
    spec = write_spec(
        tmp_path,
        scientific={"loss": losses},
        nuisance={"learning_rate": [1e-3]},
        budget={**SPEC["budget"], "value": 200},
        resources={"cohort_size": 3},
    )
    folder = StudyFolder(tmp_path / "runs", STUDY)
    done = ganstudy("run", spec, "--home", folder.home)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    status = json.loads(ganstudy("status", STUDY, "--home", folder.home, "--json").stdout)
    assert (status["state"], status["done"], status["failed"]) == ("failed", 6, 6), done.stderr
    assert status["outcomes"]["diverged"] >= 3
    reasons = dict(zip(by_loss(folder, status["failures"]), status["failures"].values(), strict=True))
    assert "can't allocate memory" in reasons["greedy"]
    assert "its process died 4 times (out of memory, or a lost node?)" in reasons["doomed"]
    assert violations(folder) == []
    assert finite_metrics(folder.home / "mlflow.db")
    (tmp_path / "ailing").unlink()
    healed = ganstudy("resume", STUDY, "--home", folder.home)
    assert healed.returncode == 0, healed.stderr
    assert violations(folder) == []
    assert finite_metrics(folder.home / "mlflow.db")


def by_loss(folder: StudyFolder, cohorts: dict[str, str]) -> list[str]:
    """Which of the bad losses each cohort trains."""
    plan = read_plan(folder)
    keys = [plan.by_cohort[cohort].members[0][0] for cohort in cohorts]
    return [plan.by_key[key].adversarial_loss.rpartition(":")[2] for key in keys]
