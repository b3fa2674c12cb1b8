"""The composite search without training: equal budgets, own seeds, nothing twice, nothing left open, crashes mended."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from study.adaptive import EqualBudgets, open_search
from study.configurations import Configuration
from study.errors import WorkFailed
from study.folder import StudyFolder
from study.plan import Plan, plan_for
from study.spec import StudySpec
from study.suggestions import KEY, REPEAT, open_journal
from tests.study.test_search_spec import R1, RANGE, searched

PER_LOSS = 6


def spec_of(sampler: str = "random", **changes: Any) -> StudySpec:
    return StudySpec.from_dict(searched({"configurations": PER_LOSS, "sampler": sampler}, **changes))


class Notebook:
    """A plan that grows in memory, and cohorts that end with a value of their own."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.values = plan, dict[str, float]()

    def grow(self, configuration: Configuration) -> str:
        self.plan = self.plan.grown([configuration])
        return self.plan.cohorts[-1].cohort

    def value(self, cohort: str) -> float | None:
        return self.values.get(cohort)

    def ended(self, cohort: str) -> None:
        """The cohort has its value from now on."""
        self.values[cohort] = quality(self.configuration(cohort))

    def configuration(self, cohort: str) -> Configuration:
        return self.plan.by_key[self.plan.by_cohort[cohort].members[0][0]]


def quality(configuration: Configuration) -> float:
    """A smooth hill over the learning rate, whose top is at 1e-2."""
    return -abs(math.log10(float(configuration.factors["learning_rate"])) + 2)


class Driver:
    """Plays Ray Tune: asks for trials, ends them, and may die at any moment."""

    def __init__(self, folder: StudyFolder, spec: StudySpec, book: Notebook, *, at_once: int = 2) -> None:
        self.book, self.running = book, dict[str, str]()
        unfinished = [entry.cohort for entry in book.plan.cohorts if entry.cohort not in book.values]
        suggestions = open_search(folder, spec, book, ended=book.values)
        self.searcher = EqualBudgets(
            suggestions, book=book, unfinished=unfinished, stopping=lambda: False, limit=lambda: at_once
        )
        self.asked = 0

    def start(self) -> str | None:
        self.asked += 1
        answer = self.searcher.suggest(f"trial-{self.asked}")
        if not isinstance(answer, dict):
            return answer
        self.running[f"trial-{self.asked}"] = answer["cohort"]
        return str(answer["cohort"])

    def end(self, *, failed: bool = False) -> None:
        trial, cohort = self.running.popitem()
        if not failed:
            self.book.ended(cohort)
        self.searcher.on_trial_complete(trial, {"failed": 1.0} if failed else {"complete": 1.0})

    def run(self, steps: int = 10_000) -> None:
        for _ in range(steps):
            answer = self.start()
            if answer is None or (answer == Searcher.FINISHED and self.running):
                self.end()
            elif answer == Searcher.FINISHED:
                return


def trials_of(folder: StudyFolder) -> dict[str, list[FrozenTrial]]:
    storage = open_journal(folder.journal_file)
    return {
        found.study_name: optuna.load_study(study_name=found.study_name, storage=storage).get_trials()
        for found in optuna.get_all_study_summaries(storage)
    }


def audit(folder: StudyFolder, book: Notebook) -> None:
    """Every planned configuration was told once, with its value; nothing else was; nothing is open."""
    planned = {entry.configuration_key: entry for entry in book.plan.configurations}
    assert book.plan.to_come == 0
    assert len(planned) == len(book.plan.cohorts) == 2 * PER_LOSS
    told: Counter[str] = Counter()
    for label, trials in trials_of(folder).items():
        assert not [trial for trial in trials if not trial.state.is_finished()]
        for trial in trials:
            if trial.state == TrialState.COMPLETE and REPEAT not in trial.user_attrs:
                key = trial.user_attrs[KEY]
                told[key] += 1
                assert planned[key].loss == label
                assert trial.value == pytest.approx(quality(planned[key]))
                assert trial.params["learning_rate"] == pytest.approx(planned[key].factors["learning_rate"])
    assert told == Counter(dict.fromkeys(planned, 1))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    made = StudyFolder(tmp_path, "small")
    made.root.mkdir()
    return made


def empty(spec: StudySpec) -> Notebook:
    return Notebook(plan_for(spec, {"CPU": 2.0}))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random"])
def test_every_sampler_gives_each_loss_its_budget_and_nothing_twice(folder: StudyFolder, sampler: str) -> None:
    varied = {"learning_rate": RANGE, "beta1": {"low": 0.0, "high": 0.9}}
    spec = spec_of(sampler, nuisance=varied)
    book = empty(spec)
    Driver(folder, spec, book).run()
    made = [entry.loss for entry in book.plan.configurations]
    assert Counter(made) == {"minimax": PER_LOSS, "ns-r1": PER_LOSS}
    assert all(abs(Counter(made[:n])["minimax"] - n / 2) <= 0.5 for n in range(len(made)))  # interleaved
    for entry in book.plan.configurations:
        assert ("penalty_weight" in entry.factors) == (entry.loss == "ns-r1")
        assert 1e-4 <= float(entry.factors["learning_rate"]) <= 1e-1
    audit(folder, book)


def test_losses_have_seeds_of_their_own_and_a_seed_gives_the_same_search(tmp_path: Path) -> None:
    def rates(name: str, **changes: Any) -> dict[str, list[float]]:
        folder = StudyFolder(tmp_path, name)
        folder.root.mkdir()
        spec = spec_of(**changes)
        book = empty(spec)
        Driver(folder, spec, book).run()
        found: dict[str, list[float]] = {}
        for entry in book.plan.configurations:
            found.setdefault(entry.loss, []).append(float(entry.factors["learning_rate"]))
        return found

    first = rates("first")
    assert not set(first["minimax"]) & set(first["ns-r1"])
    assert rates("again") == first
    assert not set(rates("other", seed=2)["minimax"]) & set(first["minimax"])


def test_conditional_factors_are_asked_only_where_they_are_in_effect(folder: StudyFolder) -> None:
    spec = spec_of(
        "tpe",
        scientific={"loss": ["minimax", R1], "optimizer": ["sgd", "adam"]},
        nuisance={"learning_rate": RANGE, "momentum": {"low": 0.0, "high": 0.9}, "beta1": {"low": 0.0, "high": 0.9}},
    )
    book = empty(spec)
    Driver(folder, spec, book).run()
    chosen = set()
    for trials in trials_of(folder).values():
        for trial in trials:
            assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
            assert ("beta1" in trial.params) == (trial.params["optimizer"] == "adam")
            chosen.add(trial.params["optimizer"])
    assert chosen == {"sgd", "adam"}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_small_space_is_searched_to_its_last_setting(folder: StudyFolder, sampler: str) -> None:
    spec = spec_of(
        sampler,
        scientific={"loss": ["minimax", "hinge"], "k": [1, 2]},
        nuisance={"learning_rate": [1e-3, 1e-2, 1e-1]},
    )
    book = empty(spec)
    Driver(folder, spec, book).run()
    audit(folder, book)  # six of six, each once


def test_a_failed_cohort_is_told_as_failed_and_its_retry_as_its_value(folder: StudyFolder) -> None:
    spec = spec_of()
    book = empty(spec)
    driver = Driver(folder, spec, book)
    lost = driver.start()
    driver.end(failed=True)
    driver.run()
    states = Counter(trial.state for trials in trials_of(folder).values() for trial in trials)
    assert states == {TrialState.COMPLETE: 2 * PER_LOSS - 1, TrialState.FAIL: 1}
    again = Driver(folder, spec, book)
    assert again.start() == lost
    again.end()
    audit(folder, book)


class Killed(BaseException):
    """SIGKILL."""


@pytest.mark.parametrize("seed", range(12))
def test_a_search_killed_at_any_moment_loses_no_suggestion_and_makes_none_twice(
    folder: StudyFolder, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is cut at a random byte after the last thing that others were told, as a dying driver leaves it."""
    rng = random.Random(seed)
    spec = spec_of("tpe" if seed % 2 else "random")
    book = empty(spec)
    for _ in range(6):
        driver = Driver(folder, spec, book)
        growth = Notebook.grow
        doomed = rng.random() < 0.5

        def grow(self: Notebook, configuration: Configuration, *, doomed: bool = doomed, growth: Any = growth) -> str:
            if doomed and rng.random() < 0.4:
                raise Killed  # proposed, not yet planned
            return str(growth(self, configuration))

        monkeypatch.setattr(Notebook, "grow", grow)
        with contextlib.suppress(Killed):
            driver.run(steps=rng.randrange(1, 9))
        monkeypatch.setattr(Notebook, "grow", growth)
        if rng.random() < 0.5 and driver.running:
            cohort = driver.running.popitem()[1]
            book.values[cohort] = quality(book.configuration(cohort))  # ended, not told
        if rng.random() < 0.5:
            with folder.journal_file.open("ab") as file:
                file.write(b'{"op_code":4,"wor')  # a line that death cut short
    Driver(folder, spec, book).run()
    audit(folder, book)


def test_a_lost_journal_is_made_again_from_the_plan(folder: StudyFolder) -> None:
    spec = spec_of("tpe")
    book = empty(spec)
    Driver(folder, spec, book).run(steps=9)
    assert 0 < len(book.values) < 2 * PER_LOSS
    folder.journal_file.unlink()
    Driver(folder, spec, book).run()
    audit(folder, book)


def test_a_damaged_or_unreachable_journal_is_named_with_what_to_do(folder: StudyFolder) -> None:
    spec = spec_of()
    book = empty(spec)
    Driver(folder, spec, book).run(steps=5)
    lines = folder.journal_file.read_bytes().splitlines(keepends=True)
    folder.journal_file.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:]]))
    with pytest.raises(WorkFailed, match=r"search.journal cannot be used: .*move it away and resume"):
        Driver(folder, spec, book)
    folder.journal_file.unlink()
    folder.journal_file.mkdir()
    with pytest.raises(WorkFailed, match="cannot be used: IsADirectoryError"):
        Driver(folder, spec, book)


def test_a_plan_of_a_search_reads_back_and_others_keep_their_bytes() -> None:
    spec = spec_of()
    plan = plan_for(spec, {"CPU": 2.0})
    assert (plan.to_come, plan.replicates, plan.configurations) == (2 * PER_LOSS, 2 * PER_LOSS * spec.replicates, ())
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    mapping: Mapping[str, Any] = {**searched(), "search": {"method": "random", "configurations": 2}}
    assert "declared" not in plan_for(StudySpec.from_dict(mapping), {"CPU": 2.0}).to_json()
