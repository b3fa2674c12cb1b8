"""How a loss, penalty, optimizer, target, network or factor declares itself (standard library only)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One number or choice of an entry or a factor, with its range; ``default=None`` means required.

    ``omit_default``: the default means that the thing is absent, and is then left out of the operative study and of
    configuration keys, so that studies from before the parameter existed keep theirs.
    """

    name: str
    kind: Literal["number", "integer", "choice"]
    meaning: str
    default: float | int | str | None = None
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    omit_default: bool = False

    @property
    def rule(self) -> str:
        """The allowed values in words, for error messages and ``ganstudy losses``."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        noun = "a whole number" if self.kind == "integer" else "a number"
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"{'>' if self.low_open else '>='} {self.low:g}")
        if self.high < math.inf:
            bounds.append(f"{'<' if self.high_open else '<='} {self.high:g}")
        return " ".join([noun, " and ".join(bounds)]).strip()

    def allows(self, value: object) -> bool:
        """Whether ``value`` keeps the rule; a bool is never a number, NaN and infinities never pass."""
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.kind == "integer" and int(value) != value:
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A value of an entry that is no single number or choice: written in the entry's own section, never varied.

    ``read`` brings what a study file holds to one form in plain data, and returns None for what breaks ``rule``;
    ``schema`` is its JSON schema. ``default=None``: left out of the study where the file does not write it, or refused
    there where it is ``required``.
    """

    name: str
    meaning: str
    rule: str
    default: object
    read: Callable[[object], object]
    schema: Mapping[str, object]
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One registered loss, penalty, optimizer, target or network.

    ``generator_formula`` is only for losses; ``penalised`` marks terms that pay a double backward
    (they cost one more gradient evaluation per discriminator step); ``images`` targets whose samples are images, and
    networks for these only.
    """

    name: str
    summary: str
    reference: str
    formula: str = ""
    generator_formula: str = ""
    parameters: tuple[Parameter, ...] = ()
    settings: tuple[Setting, ...] = ()
    penalised: bool = False
    images: bool = False

    @property
    def defaults(self) -> dict[str, float | int | str | None]:
        """Parameter name -> default (None: required)."""
        return {p.name: p.default for p in self.parameters}


def registry(*entries: Entry) -> Mapping[str, Entry]:
    """Entries by their names, read-only."""
    return MappingProxyType({entry.name: entry for entry in entries})


def integer(name: str, default: int | None, meaning: str, *, low: int = 1, high: float = math.inf) -> Parameter:
    """A whole number from ``low`` to ``high``; ``default=None``: required."""
    return Parameter(name=name, kind="integer", default=default, low=low, high=high, meaning=meaning)


def positive(name: str, default: float | None, meaning: str) -> Parameter:
    """A number above 0; ``default=None``: required."""
    return Parameter(name=name, kind="number", default=default, low=0, low_open=True, meaning=meaning)
