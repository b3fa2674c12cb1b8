"""What `status` counts: only checkpoints that stand, without reading everything again each time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tracked import EVALUATIONS, REFERENCE, STEPS, TrackedStudy, make_study

from study.folder import StudyFolder, write_json
from study.status import all_statuses, study_status


@pytest.fixture
def trained(tmp_path: Path) -> TrackedStudy:
    """Four cohorts: ended, ended, under way, not begun."""
    study = make_study(tmp_path / "home")
    targets = {entry.target_id: REFERENCE for entry in study.plan.configurations}
    write_json(study.root / "reference.json", {"schema": 1, "targets": targets})
    study.deaths[study.plan.cohorts[0].members[0]] = 5
    for cohort, evaluations in zip(study.cohorts, (EVALUATIONS, EVALUATIONS, 8), strict=False):
        study.train(cohort, evaluations=evaluations // 2)
        study.train(cohort, evaluations=evaluations)
    return study


def folder_of(study: TrackedStudy) -> StudyFolder:
    return StudyFolder(study.root.parent, study.root.name)


def newest(study: TrackedStudy, cohort: str) -> Path:
    return max((study.root / "cohorts" / cohort).glob("checkpoint-*"))


def test_counts_are_those_of_the_checkpoints(trained: TrackedStudy) -> None:
    for _ in range(2):  # judged, then remembered
        now = study_status(folder_of(trained))
        assert (now.state, now.planned, now.done, now.failed) == ("interrupted", 20, 10, 0)
        assert now.outcomes == {"converged": 9, "diverged": 1}
    assert all_statuses(trained.root.parent)[0][0].done == 10


@pytest.mark.parametrize("name", ["state.pt", "history.parquet", "samples.parquet", "manifest.json"])
@pytest.mark.parametrize("remembered", [False, True])
def test_a_flipped_byte_in_a_complete_checkpoint_makes_it_incomplete(
    trained: TrackedStudy, name: str, remembered: bool
) -> None:
    if remembered:
        study_status(folder_of(trained))
    path = newest(trained, trained.cohorts[1]) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    now = study_status(folder_of(trained))
    assert now.done == 5
    assert sum(now.outcomes.values()) == 5
    state = (EVALUATIONS + EVALUATIONS // 2 + 8) / (4 * EVALUATIONS)
    assert now.fraction == pytest.approx(state, abs=0.2), "the older checkpoint still counts as progress"


def test_a_file_that_vanished_makes_it_incomplete(trained: TrackedStudy) -> None:
    study_status(folder_of(trained))
    (newest(trained, trained.cohorts[0]) / "state.pt").unlink()
    assert study_status(folder_of(trained)).done == 5


def test_a_finished_cohort_is_read_once(trained: TrackedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study_status(folder_of(trained))
    read: list[str] = []
    whole = Path.read_bytes

    def counting(path: Path) -> bytes:
        read.append(path.parent.parent.name)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    assert study_status(folder_of(trained)) == first
    assert not set(read) & set(trained.cohorts[:2])
    assert trained.cohorts[2] in read, "what is under way is looked at"


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"files": 3}'])
def test_a_note_that_is_not_ours_is_not_believed(trained: TrackedStudy, note: str) -> None:
    study_status(folder_of(trained))
    folder_of(trained).tally_file(trained.cohorts[0]).write_text(note)
    assert study_status(folder_of(trained)).outcomes == {"converged": 9, "diverged": 1}


def test_a_failed_cohort_keeps_the_outcomes_that_its_rows_show(trained: TrackedStudy) -> None:
    """As MLflow and the report have it: what died diverged, whatever happened to its cohort later."""
    cohort = trained.plan.cohorts[2]
    trained.deaths[cohort.members[3]] = 9
    trained.train(cohort.cohort, evaluations=11)
    write_json(folder_of(trained).failure_file(cohort.cohort), {"problem": "RuntimeError: out of luck"})
    now = study_status(folder_of(trained))
    assert now.failures == {cohort.cohort: "RuntimeError: out of luck"}
    assert now.outcomes == {"converged": 9, "diverged": 2, "failed": 4}
    assert now.fraction > STEPS[8] / STEPS[-1] / 4


def test_list_shows_the_others_when_one_study_cannot_be_read(trained: TrackedStudy) -> None:
    home = trained.root.parent
    write_json(StudyFolder(home, "broken").plan_file, {"schema": 7})
    statuses, problems = all_statuses(home)
    assert [status.study for status in statuses] == ["ring-test"]
    assert len(problems) == 1
    assert problems[0].startswith("broken: ")
    assert "schema" in problems[0]


def test_the_note_says_what_was_counted(trained: TrackedStudy) -> None:
    study_status(folder_of(trained))
    note = json.loads(folder_of(trained).tally_file(trained.cohorts[0]).read_text())
    assert Counter(note["outcomes"]) == Counter({"converged": 4, "diverged": 1})
    assert note["criteria_hash"] == trained.plan.criteria_hash
