"""A loss entry's space as an adaptive search sees it: asked factor by factor, each only where it is in effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from study.configurations import assembled
from study.design import Design
from study.entries import LossEntry
from study.factors import Listed, Scalar, Values

CHOOSING = ("optimizer", "updates")
"""Factors that decide which others are in effect: asked first."""


class Chooser(Protocol):
    """What Optuna's trial offers."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number between the ends."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number between the ends."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


def choose(design: Design, entry: LossEntry, chooser: Chooser) -> dict[str, Scalar]:
    """One setting of the entry: all its effective factors."""
    varied = {name: _ask(chooser, name, design.varied[name]) for name in CHOOSING if name in design.varied}
    optimizer = str(varied.get("optimizer", design.optimizers[0]))
    updates = str(varied.get("updates", design.updates[0]))
    for name in design.names(optimizer, updates):
        if name in design.varied and name not in varied:
            varied[name] = _ask(chooser, name, design.varied[name])
    own = {name: _ask(chooser, name, values) for name, values in entry.parameters.items()}
    return assembled(design, varied, own)


def asked(design: Design, entry: LossEntry, factors: Mapping[str, Scalar]) -> dict[str, tuple[Values, Scalar]]:
    """The factors of a setting that ``choose`` would have asked for, with their values: those with a choice."""
    given = {**design.varied, **entry.parameters}
    return {name: (given[name], value) for name, value in factors.items() if name in given and not _single(given[name])}


def _ask(chooser: Chooser, name: str, values: Values) -> Scalar:
    if isinstance(values, Listed):
        value: Scalar = values.values[0] if _single(values) else chooser.suggest_categorical(name, values.values)
        return value
    log = values.scale == "log"
    if values.integer:
        return int(chooser.suggest_int(name, int(values.low), int(values.high), log=log))
    return float(f"{chooser.suggest_float(name, float(values.low), float(values.high), log=log):.12g}")


def _single(values: Values) -> bool:
    return isinstance(values, Listed) and len(values.values) == 1
