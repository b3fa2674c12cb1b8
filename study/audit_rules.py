"""The invariants of a study, and what breaking one looks like (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "I1": "every configuration that has results has exactly one MLflow run in its launch, and no run is a stranger",
        "I2": "a metric has each of its steps exactly once, and none is missing",
        "I3": "every number in MLflow is the one the checkpoint holds, bit for bit",
        "I4": "no run is RUNNING without an owner, and a final status is true",
        "I5": "every replicate's rows are whole: the planned seed, each evaluation once, nothing after a death",
        "I6": "nothing is left behind: no temporary file, no damaged checkpoint, no lock of a dead process",
    }
)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken invariant: where, and what is wrong there."""

    invariant: str
    subject: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {"invariant": self.invariant, "subject": self.subject, "text": self.text}
