"""The curves beside a replay, as geometry that the page draws: what is judged, the losses, what D says, gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.figures_examples import BOTTOM, CURVES, TOP, Scale, example_curves
from analysis.wording import MINUS

WIDTH, HEIGHT = 460.0, 132.0
LEFT, RIGHT, UPPER, LOWER = 42.0, 8.0, 8.0, 20.0
_BLUE, _RUST, _VIOLET, _GREEN = "#0b5c8a", "#b4642d", "#8a5fb0", "#00704f"
_DASHES: Mapping[object, str] = {"-": "", "--": "5 3"}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One measurement over generator steps: ``path`` replayed and ``recorded``, as SVG path data (empty: no points)."""

    name: str
    word: str
    colour: str
    dash: str
    path: str
    recorded: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves on one axis; ``ticks`` and ``marks`` are (height in pixels, text or colour)."""

    title: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Heights from ``low`` to ``high`` (already logarithms where ``log``) over steps from 0 to ``horizon``."""

    low: float
    high: float
    horizon: float
    log: bool = False

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(self.horizon, 1.0)

    def y(self, value: float) -> float:
        height = math.log10(value) if self.log else value
        share = (height - self.low) / (self.high - self.low)
        return UPPER + (HEIGHT - UPPER - LOWER) * (1 - min(max(share, 0.0), 1.0))

    def path(self, steps: Sequence[float], values: Sequence[float]) -> str:
        """SVG path data through the numbers there are: a measurement that skips evaluations is still one line."""
        points = [
            f"{self.x(step):.1f} {self.y(value):.1f}"
            for step, value in zip(steps, values, strict=True)
            if math.isfinite(value) and not (self.log and value <= 0)
        ]
        return f"M{'L'.join(points)}" if points else ""


def judged_table(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The rows with the judged quantities (u, mode_coverage, quality, nn_coverage) as columns, in the order of time."""
    if rows.empty:
        return rows
    row = rows.iloc[0]
    names = {"outcome": "", "which": "", "configuration_key": row["configuration_key"], "replicate": row["replicate"]}
    judged = example_curves(pd.DataFrame([names]), rows, scale)
    ordered = rows.sort_values("generator_step", kind="stable").reset_index(drop=True)
    return ordered.assign(**{name: judged[name].to_numpy() for name, *_ in CURVES})


def panels(rows: pd.DataFrame, record: pd.DataFrame, scale: Scale, *, horizon: int) -> list[Panel]:
    """The panels that have numbers, in their order; ``rows`` and ``record`` come from ``judged_table``."""
    judged = [(name, word, colour, _DASHES.get(dash, "8 3 2 3")) for name, colour, dash, word in CURVES]
    marks = [
        (value, colour) for name, _, colour, _ in judged if math.isfinite(value := scale.thresholds.get(name, math.nan))
    ]
    sigmoid = [("mean_sigmoid_real", "on real data", _GREEN, ""), ("mean_sigmoid_fake", "on samples", _VIOLET, "5 3")]
    losses = [("discriminator_loss", "discriminator", _BLUE, ""), ("generator_loss", "generator", _RUST, "5 3")]
    norms = [
        ("discriminator_gradient_norm", "discriminator", _BLUE, ""),
        ("generator_gradient_norm", "generator", _RUST, "5 3"),
    ]
    fixed, unit = (BOTTOM, TOP), (0.0, 1.0)
    alone = [] if any(math.isfinite(u) for u in _numbers(rows, "u")) else [("distance", "distance", "#1d2329", "")]
    numbers = [
        ("generator_parameter", "generator \u03b8", _BLUE, ""),
        ("discriminator_parameter", "discriminator \u03c8", _RUST, "5 3"),
    ]
    made = [
        _panel("Distance to the equilibrium", alone, rows, record, horizon=horizon, log=True),
        _panel("Parameters", numbers, rows, record, horizon=horizon),
        _panel("What is judged", judged, rows, record, horizon=horizon, limits=fixed, marks=marks),
        _panel("Losses", losses, rows, record, horizon=horizon),
        _panel("Mean sigmoid(D)", sigmoid, rows, record, horizon=horizon, limits=unit, marks=[(0.5, "#5b6670")]),
        _panel("Gradient norms", norms, rows, record, horizon=horizon, log=True),
    ]
    return [panel for panel in made if panel.curves]


def _panel(
    title: str,
    named: Sequence[tuple[str, str, str, str]],
    rows: pd.DataFrame,
    record: pd.DataFrame,
    *,
    horizon: int,
    limits: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    log: bool = False,
) -> Panel:
    low, high = limits or _limits([_numbers(rows, name) for name, *_ in named], log=log)
    axis = _Axis(low=low, high=high, horizon=float(horizon), log=log)
    curves = (
        Curve(
            name=name,
            word=word,
            colour=colour,
            dash=dash,
            path=axis.path(_numbers(rows, "generator_step"), _numbers(rows, name)),
            recorded=axis.path(_numbers(record, "generator_step"), _numbers(record, name)),
        )
        for name, word, colour, dash in named
    )
    return Panel(
        title=title,
        curves=tuple(curve for curve in curves if curve.path),
        ticks=tuple((axis.y(value), text) for value, text in _ticks(low, high, log=log)),
        marks=tuple((axis.y(value), colour) for value, colour in marks),
    )


def _numbers(rows: pd.DataFrame, name: str) -> list[float]:
    if name not in rows:
        return [math.nan] * len(rows)
    return [float(value) for value in pd.to_numeric(rows[name], errors="coerce")]


def _limits(series: Sequence[Sequence[float]], *, log: bool) -> tuple[float, float]:
    """What holds nine tenths of the numbers with room to spare, so that one explosion does not flatten the rest."""
    values = np.array([value for numbers in series for value in numbers if math.isfinite(value)])
    values = np.log10(values[values > 0]) if log else values
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.05, 0.95])
    room = 0.35 * (high - low) or 0.1 * abs(high) or 0.1
    return float(max(values.min(), low - room) - 0.1 * room), float(min(values.max(), high + room) + 0.1 * room)


def _ticks(low: float, high: float, *, log: bool) -> list[tuple[float, str]]:
    if log:
        powers = range(math.floor(low), math.ceil(high) + 1)
        decades = [10.0**power for power in powers if low <= power <= high]
        between = [m * 10.0**power for power in powers for m in (1, 2, 5) if low <= math.log10(m) + power <= high]
        shown = decades[:: math.ceil(len(decades) / 4)] if len(decades) > 2 else between
        return [(value, _short(value)) for value in shown]
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step_size = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough)
    first = math.ceil(low / step_size)
    values = [i * step_size for i in range(first, math.floor(high / step_size) + 1)]
    return [(value, _short(value)) for value in values]


def _short(value: float) -> str:
    if value == 0:
        return "0"
    text = f"{value:.3g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return MINUS + text[1:] if text.startswith("-") else text
