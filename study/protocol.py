"""``protocol: tune_then_confirm``: explore with few seeds, choose each loss's best, try that again with fresh seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from study.sections import Section, choice, whole

if TYPE_CHECKING:
    from study.plan import Plan
    from study.spec import StudySpec

TUNE_THEN_CONFIRM = "tune_then_confirm"
EXPLORE, CONFIRM = "explore", "confirm"


class Protocol(Section):
    """What follows when the search has ended."""

    name: Annotated[str, choice("what follows the search", TUNE_THEN_CONFIRM)]
    confirm_replicates: Annotated[int, whole("fresh seeds of each loss's best configuration", 1, 100_000)] = 30


def spelled_out(value: object) -> object:
    """``protocol: NAME`` as the mapping it is short for."""
    return {"name": value} if isinstance(value, str) else value


def is_confirmed(plan: Plan) -> bool:
    """Whether each loss's best was chosen and its fresh seeds are planned."""
    return bool(plan.phases)


def confirmation_to_come(spec: StudySpec, plan: Plan) -> int:
    """How many replicates the study will add to its plan when its search has ended."""
    if spec.protocol is None or is_confirmed(plan):
        return 0
    return len(spec.design.entries) * spec.protocol.confirm_replicates


def phase_of(spec: StudySpec, plan: Plan, launch: int) -> str:
    """The phase that a launch belongs to: explore, confirm, or none without a protocol."""
    if spec.protocol is None:
        return ""
    confirming = any(entry.phase == CONFIRM for entry in plan.cohorts if entry.launch == launch)
    return CONFIRM if confirming else EXPLORE
