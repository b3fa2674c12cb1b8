"""What a process of trials does with files: the plan is parsed once and never an old one, the torn are swept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study import trainable
from study.folder import StudyFolder, locked, write_json
from study.plan import Plan, make_plan
from study.spec import StudySpec
from trainers.footprint import CohortTooLargeError, cohort_bytes


def test_the_plan_is_parsed_once_and_again_when_its_file_was_replaced(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    from_json = Plan.from_json
    monkeypatch.setattr(Plan, "from_json", lambda data: parsed.append(data["spec_hash"]) or from_json(data))
    folder = StudyFolder(tmp_path, "tiny-ring")
    plans = [make_plan(StudySpec.from_dict({**tiny, "seed": seed}), workers=2) for seed in (1, 2)]
    for plan in plans:
        write_json(folder.plan_file, plan.to_json())  # of the same size: only what it holds is new
        assert trainable.frozen_plan(folder) == trainable.frozen_plan(folder) == plan
    assert parsed == [plan.spec_hash for plan in plans]


def test_what_killed_writers_left_is_swept_by_the_next_owner(tmp_path: Path) -> None:
    """A trial killed while it claims its cohort, a driver killed anywhere: seen once in twenty random kills."""
    folder = StudyFolder(tmp_path, "tiny-ring")
    torn = [
        folder.cohort("c000") / ".writer.abc.tmp",
        folder.cohort("c000") / ".failure.json.abc.tmp",
        folder.root / ".launch.json.abc.tmp",
    ]
    folder.cohort("c000").mkdir(parents=True)
    for path in torn:
        path.touch()
    trainable.Watch(folder, 1).claim("c000")
    assert [path.exists() for path in torn] == [False, True, True], "only its own"
    with locked(folder):
        assert not list(folder.root.rglob("*.tmp"))
    assert folder.writer_file("c000").read_text().startswith("1 ")


def test_a_cohort_too_large_for_the_room_trains_in_parts_or_is_refused_before_it_takes_any(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(StudySpec.from_dict({**tiny, "replicates": 20}), workers=1)
    planned, folder = plan.cohorts[0], StudyFolder(tmp_path, "tiny-ring")
    program = plan.by_key[planned.members[0][0]].program()
    whole, size = cohort_bytes(program, len(planned.members)), len(planned.members)
    assert size > 8

    def opened(room_bytes: int | None) -> int | None:
        watch = trainable.Watch(folder, 1)
        run = trainable.open_cohort(
            folder, plan.by_key, planned, None, device="cpu", watch=watch, room_bytes=room_bytes
        )
        return run.at_once

    assert opened(None) is None
    assert opened(whole) == size
    assert opened(cohort_bytes(program, size, at_once=8)) == 8
    with pytest.raises(CohortTooLargeError):
        opened(cohort_bytes(program, size, at_once=8) - 1)
