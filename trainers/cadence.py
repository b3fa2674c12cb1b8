"""Which measurements are due at which evaluation (standard library only)."""

from __future__ import annotations

import math

from trainers.measurement import GROUPS
from trainers.program import Program

SPARSE_EVERY = 5
JUDGED_FRACTION, JUDGED_EVALUATIONS = 0.2, 8


def measures_neighbours(program: Program, index: int) -> bool:
    """Whether nearest-neighbour measurements are due: every fifth evaluation, and those that are judged."""
    judged = max(JUDGED_EVALUATIONS, math.ceil(JUDGED_FRACTION * program.evaluations))
    return index % SPARSE_EVERY == 0 or index > program.evaluations - judged


def groups_due(program: Program, index: int) -> tuple[str, ...]:
    """The optional groups of the program that are measured at evaluation ``index``."""
    last = index == program.evaluations
    due = {
        "every evaluation": True,
        "every fifth and judged": measures_neighbours(program, index),
        "every fifth and last": index % SPARSE_EVERY == 0 or last,
        "last": last,
    }
    return tuple(name for name in program.measurements if due[GROUPS[name].cadence])
