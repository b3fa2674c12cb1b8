"""How far each cohort of a study is and how its replicates ended, from the files alone: no Ray, no pickles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import WorkFailed
from study.folder import StudyFolder, read_json

if TYPE_CHECKING:
    from study.outcomes import Criteria
    from study.plan import Plan


@dataclass(frozen=True, kw_only=True)
class CohortState:
    """One cohort's place: generator step of its newest checkpoint (0 without), whether it ended, why it failed."""

    generator_step: int
    complete: bool
    problem: str


def read_plan(folder: StudyFolder) -> Plan:
    """The frozen plan; WorkFailed when its file is damaged."""
    from study.plan import Plan

    try:
        return Plan.from_json(read_json(folder.plan_file))
    except ValueError as problem:
        raise WorkFailed(f"{folder.plan_file}: {problem}") from problem


def cohort_state(folder: StudyFolder, cohort: str) -> CohortState:
    """Reads manifests, not tensors; an unreadable manifest counts as no checkpoint."""
    manifests = [_manifest(path) for path in sorted(folder.cohort(cohort).glob("checkpoint-*/manifest.json"))]
    steps = [int(manifest.get("generator_step", 0)) for manifest in manifests]
    failure = folder.failure_file(cohort)
    return CohortState(
        generator_step=max(steps, default=0),
        complete=any(manifest.get("complete") is True for manifest in manifests),
        problem=str(read_json(failure).get("problem", "unknown problem")) if failure.exists() else "",
    )


def cohort_outcomes(
    folder: StudyFolder, plan: Plan, cohort: str, *, criteria: Criteria, references: Mapping[str, Any]
) -> Counter[str]:
    """Outcomes of one ended cohort's replicates, judged from its newest valid checkpoint; failed ones all ``failed``.

    Empty while the cohort is still under way.
    """
    from study.checkpoint import newest_checkpoint
    from study.history import series_of
    from study.outcomes import judge

    planned = next(entry for entry in plan.cohorts if entry.cohort == cohort)
    state = cohort_state(folder, cohort)
    if not state.complete:
        return Counter({"failed": len(planned.members)}) if state.problem else Counter()
    found = newest_checkpoint(folder.cohort(cohort)).checkpoint
    if found is None:
        return Counter()
    table = found.history()
    configurations = {entry.configuration_key: entry for entry in plan.configurations}
    outcomes: Counter[str] = Counter()
    for key, replicate in planned.members:
        configuration = configurations[key]
        evaluations = int(configuration.budget["evaluations"])
        series = series_of(table, key, replicate, planned_evaluations=evaluations)
        outcomes[judge(series, criteria, references[configuration.target_id]).outcome] += 1
    return outcomes


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
