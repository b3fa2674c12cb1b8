"""How a measurement and an optional group of them declare themselves (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementInfo:
    """One measured quantity: ``direction`` says which way is better; ``sparse`` ones skip evaluations.

    ``group``: empty for what every study measures, else the optional group it belongs to. An optional measurement
    is a diagnosis: where it is not a finite number it is absent, and its member lives on.
    """

    name: str
    unit: str
    direction: Literal["lower", "higher"] | None
    comparable_across_losses: bool
    meaning: str
    sparse: bool = False
    group: str = ""


Cadence = Literal["every evaluation", "every fifth and judged", "every fifth and last", "last"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementGroup:
    """Measurements that a study may switch on together; ``cost`` is beside the training of the same evaluation.

    ``factor``: the factor that switches the group on (the study file does not name it then); ``target``: the target
    that does. ``only_targets``: where it has a meaning, empty for everywhere; ``why_not``: target -> why it has none.
    """

    name: str
    meaning: str
    reference: str = ""
    cadence: Cadence = "every evaluation"
    cost: str = ""
    factor: str = ""
    target: str = ""
    only_targets: tuple[str, ...] = ()
    why_not: Mapping[str, str] = field(default_factory=dict)

    @property
    def named_in_file(self) -> bool:
        """Whether the study file switches it on by name, under ``measurements``."""
        return not (self.factor or self.target)

    def refusal(self, target: str) -> str:
        """Why the group has no meaning for a target; empty where it has one."""
        if target in self.why_not:
            return self.why_not[target]
        if self.only_targets and target not in self.only_targets:
            return f"has a meaning only for {', '.join(self.only_targets)}"
        return ""
