"""What was judged once is not judged again, and nothing else is taken for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracked import EVALUATIONS, REFERENCE, TrackedStudy, make_study, query, run_all

import study.outcomes
from study.checkpoint import Checkpoint, newest_checkpoint
from study.folder import StudyFolder, write_json
from study.history import judge_members
from study.outcomes import Outcome
from study.tally import Tally
from study.verdicts import Verdicts

Outcomes = dict[tuple[str, int], Outcome]


@pytest.fixture
def trained(tmp_path: Path) -> TrackedStudy:
    made = make_study(tmp_path / "home")
    made.deaths[made.plan.cohorts[0].members[1]] = 7
    for cohort in made.cohorts[:2]:
        made.train(cohort)
    return made


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each replicate that the judge has seen."""
    seen: list[object] = []
    real = study.outcomes.judge

    def judge(series: Any, criteria: Any, reference: Any) -> Outcome:
        seen.append(criteria)
        return real(series, criteria, reference)

    monkeypatch.setattr(study.outcomes, "judge", judge)
    return seen


def checkpoint_of(made: TrackedStudy, cohort: str) -> Checkpoint:
    found = newest_checkpoint(made.root / "cohorts" / cohort).checkpoint
    assert found is not None
    return found


def ask(verdicts: Verdicts, made: TrackedStudy, cohort: int = 0, **other: Any) -> Outcomes:
    entry = made.plan.cohorts[cohort]
    told: dict[str, Any] = {
        "checkpoint": checkpoint_of(made, entry.cohort),
        "members": entry.members,
        "configurations": made.plan.by_key,
        "criteria": made.spec.criteria,
        "references": {one.target_id: REFERENCE for one in made.plan.configurations},
    }
    return verdicts.of(**(told | other))


def plainly(made: TrackedStudy, cohort: int = 0, **other: Any) -> Outcomes:
    entry = made.plan.cohorts[cohort]
    told: dict[str, Any] = {
        "criteria": made.spec.criteria,
        "references": {one.target_id: REFERENCE for one in made.plan.configurations},
    }
    history = checkpoint_of(made, entry.cohort).history()
    return judge_members(history, entry.members, made.plan.by_key, **(told | other))


def test_the_second_answer_is_the_first_without_judging(trained: TrackedStudy, judged: list[object]) -> None:
    verdicts = Verdicts()
    first = ask(verdicts, trained)
    assert len(judged) == 5
    assert {key: one.outcome for key, one in first.items() if one.outcome != "converged"} == {
        trained.plan.cohorts[0].members[1]: "diverged"
    }
    some = trained.plan.cohorts[0].members[1:3]
    assert ask(verdicts, trained, members=some) == {member: first[member] for member in some}
    assert ask(verdicts, trained) == first
    assert len(judged) == 5


def test_other_criteria_references_or_a_stop_are_judged_anew(trained: TrackedStudy, judged: list[object]) -> None:
    verdicts = Verdicts()
    strict = replace(trained.spec.criteria, u_converged=0.01)
    far = {one.target_id: REFERENCE | {"d_real": 0.01} for one in trained.plan.configurations}
    others: list[dict[str, Any]] = [{}, {"criteria": strict}, {"references": far}, {"censored": True}]
    answers = [ask(verdicts, trained, **other) for other in others]
    assert len(judged) == 20
    assert answers == [plainly(trained, **other) for other in others]
    assert answers[0] not in answers[1:]


def test_a_checkpoint_with_other_rows_is_judged_anew(trained: TrackedStudy, judged: list[object]) -> None:
    """The same cohort, step and number of rows: trained again after its folder was lost, and another one died."""
    verdicts = Verdicts()
    cohort = trained.plan.cohorts[0]
    before = ask(verdicts, trained)
    (trained.root / "cohorts" / cohort.cohort).rename(trained.root / "lost")
    trained.deaths[cohort.members[1]] = EVALUATIONS + 1
    trained.deaths[cohort.members[4]] = 7
    trained.train(cohort.cohort)
    after = ask(verdicts, trained)
    assert len(judged) == 10
    assert [after[member].outcome for member in cohort.members] == [*["converged"] * 4, "diverged"]
    assert before[cohort.members[4]].outcome == "converged"


def test_members_that_nobody_asked_for_are_judged_when_asked(trained: TrackedStudy, judged: list[object]) -> None:
    verdicts = Verdicts()
    ask(verdicts, trained, members=trained.plan.cohorts[0].members[:2])
    assert ask(verdicts, trained) == plainly(trained)
    assert len(judged) == 5 + 5, "two, the other three, and the five for comparison"


def test_it_holds_no_more_than_its_limit_and_forgets_the_oldest(trained: TrackedStudy, judged: list[object]) -> None:
    verdicts = Verdicts(limit=5)
    ask(verdicts, trained, 0)
    ask(verdicts, trained, 1)
    assert sum(len(known) for known in verdicts._known.values()) == verdicts._held == 5
    ask(verdicts, trained, 1)
    assert len(judged) == 10
    ask(verdicts, trained, 0)
    assert len(judged) == 15


def test_threads_that_ask_at_once_get_the_same(trained: TrackedStudy) -> None:
    verdicts, start = Verdicts(limit=7), threading.Barrier(4)
    answers: list[tuple[int, Outcomes]] = []

    def asking(cohort: int) -> None:
        start.wait()
        answers.extend((cohort, ask(verdicts, trained, cohort)) for _ in range(20))

    threads = [threading.Thread(target=asking, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [plainly(trained, cohort) for cohort in (0, 1)]
    assert len(answers) == 80
    assert all(found == expected[cohort] for cohort, found in answers)
    assert verdicts._held == sum(len(known) for known in verdicts._known.values()) <= 7


def test_what_the_driver_counted_mlflow_is_told_without_another_judgement(
    study: TrackedStudy, judged: list[object]
) -> None:
    tally = counted(study)
    tracker = study.tracker()
    tracker._verdicts = tally.verdicts
    tracker.open(launch="L1")
    for cohort in study.cohorts:
        study.train(cohort)
        tally.state(cohort)
    assert len(judged) == 20
    for cohort in study.cohorts:
        tracker.finish(cohort, failed=False)
    assert len(judged) == 20
    shares = query(study.database, "select value from metrics where key = 'outcome/converged_fraction'")
    assert shares == [(1.0,)] * 4


def counted(made: TrackedStudy) -> Tally:
    targets = {entry.target_id: REFERENCE for entry in made.plan.configurations}
    write_json(made.root / "reference.json", {"schema": 1, "targets": targets})
    return Tally(folder=StudyFolder(made.root.parent, made.root.name), plan=made.plan)


def test_a_tracker_of_its_own_judges_what_nobody_did(study: TrackedStudy, judged: list[object]) -> None:
    """Another process that syncs has nothing but the disk."""
    run_all(study, study.tracker())
    assert len(judged) == 20
