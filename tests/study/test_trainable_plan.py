"""A process that trains many cohorts parses the plan once, and never an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study import trainable
from study.folder import StudyFolder, write_json
from study.plan import Plan, make_plan
from study.spec import StudySpec


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
