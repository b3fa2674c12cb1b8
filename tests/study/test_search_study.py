"""Whole searches on a real Ray: killed and resumed, stopped early at rungs, reported."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder
from study.plan import Plan
from study.rungs import read_rungs
from study.search_rules import rung_evaluations
from study.spec import StudySpec
from study.suggestions import KEY, REPEAT, open_journal
from study.tally import Tally, read_plan
from tests.conftest import TINY, Ganstudy, Started
from tests.study.test_launch import mlflow_runs, wait_for

pytestmark = pytest.mark.slow

PER_LOSS = 4
REPLICATES = 3
PLANNED = 2 * PER_LOSS
R1 = {"name": "non_saturating", "penalty": "r1", "penalty_weight": {"low": 0.01, "high": 10}, "label": "ns-r1"}
SEARCH: dict[str, Any] = {
    **TINY,
    "scientific": {"loss": ["minimax", R1]},
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1}},
    "budget": {**TINY["budget"], "value": 1500},
    "search": {"method": "optuna", "configurations": PER_LOSS},
}
ASHA: dict[str, Any] = {
    **SEARCH,
    # up to rates at which the game overflows at once: what dies by itself is no censoring
    "nuisance": {"learning_rate": [1e-4, 1e-3, 1e-2, 1e20]},
    "fixed": {"k": 1, "batch_size": 32, "optimizer": "sgd"},
    "budget": {**TINY["budget"], "value": 400, "evaluations": 40},
    "search": {"method": "grid"},
    "scheduler": {"name": "asha", "grace_fraction": 0.2, "reduction_factor": 2},
    "scientific": {"loss": ["minimax", "wasserstein"]},
}


def write(folder: Path, spec: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(json.dumps(spec))  # JSON is YAML
    return path


def seen(folder: StudyFolder) -> Counter[str]:
    """How often each planned configuration was told a value; fails where a trial of Optuna is still open."""
    storage = open_journal(folder.journal_file)
    told: Counter[str] = Counter()
    for found in optuna.get_all_study_summaries(storage):
        for trial in optuna.load_study(study_name=found.study_name, storage=storage).get_trials():
            assert trial.state.is_finished(), (found.study_name, trial.number)
            if trial.state == TrialState.COMPLETE and REPEAT not in trial.user_attrs:
                told[trial.user_attrs[KEY]] += 1
    return told


def assert_searched(folder: StudyFolder, ganstudy: Ganstudy) -> None:
    """All that was declared is planned, was trained and told once; nothing is lost, doubled or left behind."""
    plan = read_plan(folder)
    assert plan.to_come == 0
    assert Counter(entry.loss for entry in plan.configurations) == {"minimax": PER_LOSS, "ns-r1": PER_LOSS}
    assert seen(folder) == Counter(dict.fromkeys(plan.by_key, 1))
    audited = ganstudy("audit", folder.study, "--home", folder.home)
    assert audited.returncode == 0, audited.stdout
    keys = [run.data.tags.get("ganstudy.configuration_key", "study") for run in mlflow_runs(folder.home)]
    assert sorted(keys) == sorted(["study", *plan.by_key])
    assert {run.info.status for run in mlflow_runs(folder.home)} == {"FINISHED"}


def ended(folder: StudyFolder) -> list[str]:
    plan = Plan.from_json(json.loads(folder.plan_file.read_text())) if folder.plan_file.exists() else None
    tally = Tally(folder=folder, plan=plan) if plan else None
    return [c.cohort for c in plan.cohorts if tally and tally.state(c.cohort, outcomes=False).complete] if plan else []


def test_a_search_killed_midway_goes_on_and_makes_each_suggestion_once(
    tmp_path: Path, started: Started, ganstudy: Ganstudy
) -> None:
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    spec = write(tmp_path, SEARCH)
    driver = started("run", spec, "--home", folder.home)
    wait_for(lambda: len(ended(folder)) >= 2, "two ended cohorts", process=driver, timeout_s=240)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    before = read_plan(folder)
    assert 0 < before.to_come < PLANNED
    (folder.root / ".plan.json.dead.tmp").write_text('{"schema"')  # the kill may have met the plan half-written
    status = json.loads(ganstudy("status", "tiny-ring", "--home", folder.home, "--json").stdout)
    assert (status["state"], status["planned"]) == ("died", PLANNED * REPLICATES)
    assert 2 * REPLICATES <= status["done"] < PLANNED * REPLICATES
    resumed = ganstudy("resume", "tiny-ring", "--home", folder.home, timeout_s=400)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{PLANNED * REPLICATES} of {PLANNED * REPLICATES} replicates ended" in resumed.stdout
    after = read_plan(folder)
    assert after.configurations[: len(before.configurations)] == before.configurations  # a plan grows at its end
    assert after.cohorts[: len(before.cohorts)] == before.cohorts
    assert_searched(folder, ganstudy)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
def test_a_search_killed_again_and_again_makes_each_suggestion_once(
    tmp_path: Path, started: Started, ganstudy: Ganstudy, seed: int
) -> None:
    rng = random.Random(seed)
    folder = StudyFolder(tmp_path / "runs", "tiny-ring")
    spec = write(tmp_path, SEARCH)
    for goal in (1, 3, 5):
        driver = started("run", spec, "--home", folder.home)
        wait_for(lambda goal=goal: len(ended(folder)) >= goal, f"{goal} ended", process=driver, timeout_s=240)
        try:
            driver.wait(rng.uniform(0, 2))
        except Exception:
            driver.send_signal(signal.SIGKILL)
        driver.communicate()
    done = ganstudy("run", spec, "--home", folder.home, timeout_s=400)
    assert done.returncode == 0, done.stderr
    assert_searched(folder, ganstudy)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A grid under early stopping, to its end."""
    import subprocess
    import sys

    from tests.conftest import environment

    folder = tmp_path_factory.mktemp("pruned")
    done = subprocess.run(
        [sys.executable, "-m", "study", "run", str(write(folder, ASHA)), "--home", str(folder / "runs")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return StudyFolder(folder / "runs", "tiny-ring")


def test_early_stopping_ends_cohorts_exactly_at_their_rungs(pruned: StudyFolder) -> None:
    plan, spec = read_plan(pruned), StudySpec.from_file(pruned.spec_file)
    rungs = rung_evaluations(spec.scheduler, spec.budget.evaluations)
    assert rungs == (8, 16, 32)
    stopped = 0
    for cohort in plan.cohorts:
        known = read_rungs(pruned, cohort.cohort)
        checkpoint = newest_checkpoint(pruned.cohort(cohort.cohort)).checkpoint
        assert checkpoint is not None
        assert list(known.values) == [rung for rung in rungs if rung < checkpoint.evaluations_done]
        assert checkpoint.complete == (known.stopped is None)
        if known.stopped is not None:
            stopped += 1
            assert checkpoint.evaluations_done == known.stopped + 1
    assert 0 < stopped < len(plan.cohorts)


def test_the_stopped_are_censored_the_dead_diverged_and_no_one_failed(pruned: StudyFolder, ganstudy: Ganstudy) -> None:
    plan = read_plan(pruned)
    tally = Tally(folder=pruned, plan=plan)
    status = json.loads(ganstudy("status", "tiny-ring", "--home", pruned.home, "--json").stdout)
    assert (status["state"], status["done"], status["failed"]) == ("finished", plan.replicates, 0)
    counts = Counter(status["outcomes"])
    assert counts.total() == plan.replicates
    assert counts["censored"] > 0
    assert counts["failed"] == 0
    for cohort in plan.cohorts:
        outcomes = tally.state(cohort.cohort).outcomes
        stopped = read_rungs(pruned, cohort.cohort).stopped is not None
        rate = plan.by_key[cohort.members[0][0]].factors["learning_rate"]
        assert set(outcomes) <= ({"censored", "diverged"} if stopped else set(outcomes) - {"censored"})
        if rate == 1e20:
            assert (outcomes, stopped) == (Counter({"diverged": REPLICATES}), False)
    audited = ganstudy("audit", "tiny-ring", "--home", pruned.home)
    assert audited.returncode == 0, audited.stdout


def test_mlflow_calls_a_stopped_configuration_finished_and_says_where(pruned: StudyFolder) -> None:
    plan = read_plan(pruned)
    by_key = {run.data.tags.get("ganstudy.configuration_key"): run for run in mlflow_runs(pruned.home)}
    for cohort in plan.cohorts:
        run, known = by_key[cohort.members[0][0]], read_rungs(pruned, cohort.cohort)
        assert run.info.status == "FINISHED"
        told = run.data.tags.get("ganstudy.censored_at")
        assert told == (None if known.stopped is None else str(known.stopped * 10))
        if known.stopped is not None:
            assert run.data.metrics["judged_fraction"] == 0.0


def test_the_report_is_blocked_and_names_the_study_that_would_answer(pruned: StudyFolder, ganstudy: Ganstudy) -> None:
    reported = ganstudy("report", "tiny-ring", "--home", pruned.home)
    assert reported.returncode == 3, reported.stderr
    warnings = json.loads((pruned.report / "warnings.json").read_text())
    (found,) = (entry for entry in warnings if entry["id"] == "W03")
    assert found["blocks"]


def test_a_finished_study_is_not_stopped_again(pruned: StudyFolder, tmp_path: Path, ganstudy: Ganstudy) -> None:
    before = {path: path.read_bytes() for path in pruned.root.glob("cohorts/*/rungs.json")}
    again = ganstudy("run", write(tmp_path, ASHA), "--home", pruned.home)
    assert again.returncode == 0, again.stderr
    assert "nothing is left to train" in again.stderr
    assert {path: path.read_bytes() for path in pruned.root.glob("cohorts/*/rungs.json")} == before
