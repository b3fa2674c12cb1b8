"""The values of one factor: a list, or a range to cut into a grid or to draw from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from study.canonical import rounded
from study.problems import FieldPath, Problems
from trainers.catalogue import FACTORS, NETWORKS, OPTIMIZERS, TARGETS, UPDATES, Parameter

Scalar = float | int | str

MAX_VALUES = 10_000
"""Values of one factor: no study may have more configurations than this anyway."""

OPTIMIZER_NUMBERS: Mapping[str, Parameter] = MappingProxyType(
    {parameter.name: parameter for entry in OPTIMIZERS.values() for parameter in entry.parameters}
)
UPDATES_NUMBERS: Mapping[str, Parameter] = MappingProxyType(
    {parameter.name: parameter for entry in UPDATES.values() for parameter in entry.parameters}
)
LEARNING_RATES = ("learning_rate", "generator_learning_rate", "discriminator_learning_rate")

_RANGE_KEYS = ("low", "high", "points", "scale")


@dataclass(frozen=True)
class Listed:
    """Distinct values, in the order given."""

    values: tuple[Scalar, ...]

    def grid(self) -> tuple[Scalar, ...]:
        """Every value."""
        return self.values

    def draw(self, rng: np.random.Generator) -> Scalar:
        """One of the values, each equally likely."""
        return self.values[int(rng.integers(len(self.values)))]

    @property
    def size(self) -> int | None:
        """How many different values there are."""
        return len(self.values)

    @property
    def highest(self) -> Scalar:
        """The largest number (meaningless for choices)."""
        return max(self.values, key=lambda value: value if isinstance(value, int | float) else 0)

    def plain(self) -> object:
        """As a study file holds it."""
        return list(self.values)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``points`` (evenly spaced on ``scale``) only in a grid study."""

    low: float | int
    high: float | int
    scale: str
    points: int | None
    integer: bool

    def grid(self) -> tuple[Scalar, ...]:
        """``points`` values, the ends exact; whole numbers may coincide, see ``read_values``."""
        points = self.points or 0
        inner = [self._value(i / (points - 1)) for i in range(1, points - 1)]
        return (self.low, *inner, self.high)

    def draw(self, rng: np.random.Generator) -> Scalar:
        """Uniform on the scale; whole numbers get the share of the scale that rounds to them."""
        if not self.integer:
            return self._value(float(rng.random()))
        low, high = self.low - 0.5, self.high + 0.5
        drawn = _between(low, high, float(rng.random()), self.scale)
        return min(max(round(drawn), int(self.low)), int(self.high))

    def _value(self, share: float) -> Scalar:
        value = _between(self.low, self.high, share, self.scale)
        return round(value) if self.integer else float(f"{value:.12g}")

    @property
    def size(self) -> int | None:
        """How many different values may be met; None: a continuum."""
        if self.points is not None:
            return self.points
        return int(self.high - self.low) + 1 if self.integer else None

    @property
    def highest(self) -> Scalar:
        """The upper end."""
        return self.high

    def plain(self) -> object:
        """As a study file holds it."""
        points = {} if self.points is None else {"points": self.points}
        return {"low": self.low, "high": self.high, **points, "scale": self.scale}


Values = Listed | Range


def _between(low: float, high: float, share: float, scale: str) -> float:
    if scale == "log":
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return low + share * (high - low)


def read_values(raw: object, parameter: Parameter, *, path: FieldPath, problems: Problems, grid: bool) -> Values | None:
    """The values written as a scalar, a list or a range; None after noting what is wrong with them.

    ``grid``: whether ranges need ``points`` (a grid study) or are drawn from (``points`` is then dropped).
    """
    if isinstance(raw, Mapping):
        return _read_range(raw, parameter, path=path, problems=problems, grid=grid)
    if not isinstance(raw, list):
        value = read_scalar(raw, parameter, path=path, problems=problems)
        return None if value is None else Listed((value,))
    before = len(problems)
    if not raw:
        problems.add(path, "must name at least one value", raw)
    elif len(raw) > MAX_VALUES:
        problems.add(path, f"must have at most {MAX_VALUES:,} values (got {len(raw):,})")
    else:
        read = [read_scalar(item, parameter, path=(*path, i), problems=problems) for i, item in enumerate(raw)]
        values = tuple(value for value in read if value is not None)
        if len(problems) == before:
            _note_repeats(values, path=path, problems=problems)
    return Listed(values) if len(problems) == before else None


def read_scalar(raw: object, parameter: Parameter, *, path: FieldPath, problems: Problems) -> Scalar | None:
    """One value of ``parameter``, whole numbers as int and others as float; None after noting what is wrong."""
    if parameter.kind == "choice" and raw not in parameter.choices:
        if isinstance(raw, str):
            problems.unknown_name(path, parameter.name, raw, parameter.choices)
        else:
            problems.add(path, f"must be {parameter.rule}", raw)
        return None
    if not parameter.allows(raw):
        problems.add(path, f"must be {parameter.rule}", raw)
        return None
    if isinstance(raw, str):
        return raw
    assert isinstance(raw, int | float)
    return int(raw) if parameter.kind == "integer" else float(raw) + 0.0  # -0.0 is 0.0


def _note_repeats(values: tuple[Scalar, ...], *, path: FieldPath, problems: Problems) -> None:
    seen: set[object] = set()
    for i, value in enumerate(values):
        if rounded(value) in seen:
            problems.add((*path, i), "the same value twice in one list", value)
        seen.add(rounded(value))


def _read_range(
    raw: Mapping[str, object], parameter: Parameter, *, path: FieldPath, problems: Problems, grid: bool
) -> Range | None:
    before = len(problems)
    if parameter.kind == "choice":
        problems.add(path, f"must be {parameter.rule}, or a list of them; a range is for numbers", dict(raw))
        return None
    for key in raw:
        if key not in _RANGE_KEYS:
            problems.unknown_key((*path, key), _RANGE_KEYS)
    low, high = (_read_end(raw, end, parameter, path=path, problems=problems) for end in ("low", "high"))
    scale = raw.get("scale", default_scale(parameter))
    if scale not in ("log", "linear"):
        problems.unknown_name((*path, "scale"), "scale", scale, ("log", "linear"))
    points = _read_points(raw, path=path, problems=problems) if grid else None
    if low is not None and high is not None:
        if low >= high:
            problems.add(path, f"low must be below high (got low {low:g}, high {high:g})")
        elif scale == "log" and low <= 0:
            problems.add((*path, "low"), "must be > 0 on a log scale", raw["low"])
    if len(problems) > before or low is None or high is None:
        return None
    read = Range(low=low, high=high, scale=str(scale), points=points, integer=parameter.kind == "integer")
    if points is not None and len({rounded(value) for value in read.grid()}) < points:
        problems.add((*path, "points"), f"must leave {points} different values; there are fewer between the ends")
        return None
    return read


def default_scale(parameter: Parameter) -> str:
    """``log`` for numbers that are strictly positive (rates, scales: ratios matter), else ``linear``."""
    return "log" if parameter.kind == "number" and parameter.low == 0 and parameter.low_open else "linear"


def _read_end(
    raw: Mapping[str, object], end: str, parameter: Parameter, *, path: FieldPath, problems: Problems
) -> float | int | None:
    if end not in raw:
        problems.add(path, f"a range needs {end}", dict(raw))
        return None
    value = read_scalar(raw[end], parameter, path=(*path, end), problems=problems)
    return None if isinstance(value, str) else value


def _read_points(raw: Mapping[str, object], *, path: FieldPath, problems: Problems) -> int | None:
    if "points" not in raw:
        problems.add(path, "a range needs points in a grid study (or search: {method: random, configurations: N})")
        return None
    rule = Parameter(name="points", kind="integer", low=2, high=MAX_VALUES, meaning="values in the grid")
    value = read_scalar(raw["points"], rule, path=(*path, "points"), problems=problems)
    return value if isinstance(value, int) else None


def declared(part: str, name: object) -> dict[str, Parameter]:
    """Parameters of a registered target or network (``part`` of the study file: target or networks), by name.

    A user's networks (an import path) declare ``latent_dim`` only; their other options are free.
    """
    if part == "networks" and isinstance(name, str) and ":" in name:
        return {p.name: p for p in NETWORKS["mlp"].parameters if p.name == "latent_dim"}
    entries = TARGETS if part == "target" else NETWORKS
    entry = entries.get(name) if isinstance(name, str) else None
    return {p.name: p for p in entry.parameters} if entry else {}


def factor_parameters(target: object, networks: object) -> dict[str, Parameter]:
    """Every factor a study of this target and these networks may vary, in canonical order."""
    own = {**declared("target", target), **declared("networks", networks)}
    return {**FACTORS, **UPDATES_NUMBERS, **OPTIMIZER_NUMBERS, **own}
