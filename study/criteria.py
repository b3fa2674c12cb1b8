"""The thresholds that turn a series of measurements into an outcome: named, checked, hashed before the first step."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from study.errors import suggestion

WINDOW_KEYS = ("window_fraction", "window_min_evaluations", "late_fraction")
"""Criteria that choose evaluations; all others are thresholds."""

_WHOLE = ("window_min_evaluations", "max_crossings")
_UNBOUNDED = ("u_converged", "hysteresis", "amplitude", "blowup", "dead_u", "trend_gain")


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What counts as converged, collapsed, oscillating, ... (defaults: calibrate them for your own target).

    u is the distance rescaled so that 0 = real data and about 1 = a point mass at the real mean. ``window_*`` choose
    the judged window W, ``late_fraction`` the late part H. ``knn_coverage_converged`` is a share of the real data's
    nearest-neighbour coverage and is only asked in more than two dimensions.
    """

    u_converged: float = 0.10
    coverage_converged: float = 0.90
    quality_converged: float = 0.80
    knn_coverage_converged: float = 0.80
    good_fraction: float = 0.85
    coverage_collapsed: float = 0.50
    collapsed_fraction: float = 0.90
    window_fraction: float = 0.2
    window_min_evaluations: int = 8
    late_fraction: float = 0.5
    hysteresis: float = 0.05
    max_crossings: int = 2
    amplitude: float = 0.25
    trend_p: float = 0.01
    trend_gain: float = 0.10
    blowup: float = 3.0
    dead_u: float = 0.8

    def __post_init__(self) -> None:
        problems = _problems(dataclasses.asdict(self))
        if problems:
            raise ValueError("\n".join(problems))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Criteria:
        """Defaults overridden by ``mapping``; ValueError lists every unknown key and value out of range, one a line."""
        defaults = dataclasses.asdict(cls())
        unknown = [
            f"criteria.{key} is not a criterion{suggestion(str(key), defaults) or '.'}"
            for key in mapping
            if key not in defaults
        ]
        merged = {**defaults, **{key: value for key, value in mapping.items() if key in defaults}}
        problems = unknown + _problems(merged)
        if problems:
            raise ValueError("\n".join(problems))
        numbers: dict[str, Any] = {key: int(v) if key in _WHOLE else float(v) for key, v in merged.items()}
        return cls(**numbers)

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Every threshold by name, without the keys that only choose evaluations."""
        names = (field.name for field in dataclasses.fields(self))
        return {name: float(getattr(self, name)) for name in names if name not in WINDOW_KEYS}

    @property
    def hash(self) -> str:
        """16 hex digits of the canonical JSON of all criteria (numbers to 12 digits)."""
        canonical = {key: f"{value:.12g}" for key, value in dataclasses.asdict(self).items()}
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:16]


def _problems(values: Mapping[str, object]) -> list[str]:
    problems = [problem for key, value in values.items() if (problem := _problem(key, value))]
    low, high = values["coverage_collapsed"], values["coverage_converged"]
    if not problems and _number(low) >= _number(high):
        problems.append(f"criteria.coverage_collapsed must be < coverage_converged ({high}), got {low}.")
    return problems


def _problem(key: str, value: object) -> str:
    number = _number(value)
    if key in _WHOLE:
        smallest = 0 if key == "max_crossings" else 1
        rule, fine = f"a whole number >= {smallest}", number >= smallest and number == math.floor(number)
    elif key in _UNBOUNDED:
        rule, fine = "a number >= 0", number >= 0
    else:
        rule, fine = "a number > 0 and <= 1", 0 < number <= 1
    return "" if fine else f"criteria.{key} must be {rule}, got {value!r}."


def _number(value: object) -> float:
    """The value as a finite number, else -1, which no criterion allows."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return -1.0
    return float(value)
