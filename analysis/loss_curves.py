"""The curves of a loss's page: one path per replicate, decimated, in whole units of the chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.dirac_cells import is_dirac
from analysis.figures_examples import Scale
from analysis.frames import StudyFrames
from analysis.report_examples import example_scale
from analysis.wording import rate_text

WIDTH, HEIGHT = 500, 150
LEFT, RIGHT, UPPER, LOWER = 34, 6, 8, 20
MOST_POINTS = 60
"""Of one curve: its evaluations are thinned evenly, the first and the last always kept."""
MOST_DECADES = 12.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart: ``values`` belong to the rows of ``frames.curves``; what lies outside low to high sits on the edge."""

    title: str
    values: Floats
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    threshold: float = math.nan

    def heights(self, values: Floats) -> NDArray[np.int64]:
        """Heights in whole units of the chart, from above; a value that is not known lies at the bottom."""
        share = (np.nan_to_num(values, nan=self.low).clip(self.low, self.high) - self.low) / (self.high - self.low)
        return HEIGHT - LOWER - np.rint(share * (HEIGHT - LOWER - UPPER)).astype(np.int64)

    def y(self, value: float) -> int:
        """One value's height."""
        return int(self.heights(np.array([value]))[0])

    @property
    def drawn_ticks(self) -> list[tuple[int, str]]:
        """Height and text of every tick."""
        return [(self.y(value), text) for value, text in self.ticks]

    @property
    def mark(self) -> int | None:
        """Height of the criterion's dotted line; None where there is none."""
        return self.y(self.threshold) if self.low <= self.threshold <= self.high else None


class Curves:
    """Every replicate's recorded rows, and the charts that they are drawn in."""

    def __init__(self, frames: StudyFrames) -> None:
        curves = frames.curves
        self._rows: Mapping[Any, NDArray[np.intp]] = {}
        self.panels: Sequence[Panel] = ()
        if not len(curves):
            return
        found: Any = curves.groupby(["configuration_key", "replicate"], sort=False).indices
        self._rows = found
        self._steps = _numbers(curves, "generator_step")
        self._finite = curves["finite"].to_numpy(dtype=bool) if "finite" in curves else np.ones(len(curves), bool)
        self.panels = _radius_panels(curves) if is_dirac(frames) else _judged_panels(curves, example_scale(frames))

    def horizon(self, runs: pd.DataFrame) -> float:
        """The last step that any of these replicates reached, at least 1."""
        ends = [self._steps[rows].max() for rows in self._found(runs) if len(rows)]
        return max([1.0, *(float(end) for end in ends if math.isfinite(end))])

    def _found(self, runs: pd.DataFrame) -> Iterable[NDArray[np.intp]]:
        for key, replicate in zip(runs["configuration_key"], runs["replicate"], strict=True):
            yield self.rows(str(key), int(replicate))

    def rows(self, key: str, replicate: int) -> NDArray[np.intp]:
        """Positions of one replicate's rows in ``frames.curves``, in time's order; empty where none is recorded."""
        rows = self._rows.get((key, replicate))
        if rows is None:
            return np.zeros(0, dtype=np.intp)
        return rows[np.argsort(self._steps[rows], kind="stable")]

    def path(self, panel: Panel, rows: NDArray[np.intp], *, horizon: float) -> str:
        """SVG path data of one curve; it breaks where there is no value. Empty where there is none at all."""
        return path_data(*self._places(panel, thinned(rows), horizon))

    def death(self, panel: Panel, rows: NDArray[np.intp], *, horizon: float) -> tuple[int, int] | None:
        """Where the first non-finite row is marked: at its step, as high as the last value before; None while alive."""
        dead = np.flatnonzero(~self._finite[rows])
        if not len(dead):
            return None
        before = rows[: dead[0]]
        known = before[np.isfinite(panel.values[before])]
        height = panel.y(float(panel.values[known[-1]])) if len(known) else UPPER
        return int(_across(self._steps[rows[dead[:1]]], horizon)[0]), height

    def _places(self, panel: Panel, rows: NDArray[np.intp], horizon: float) -> tuple[list[int], list[int | None]]:
        values = panel.values[rows]
        known = (np.isfinite(values) & self._finite[rows]).tolist()
        heights = panel.heights(values).tolist()
        return _across(self._steps[rows], horizon).tolist(), [
            y if k else None for y, k in zip(heights, known, strict=True)
        ]


def thinned(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most MOST_POINTS of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= MOST_POINTS:
        return rows
    return rows[np.rint(np.linspace(0, len(rows) - 1, MOST_POINTS)).astype(np.intp)]


def path_data(xs: Sequence[int], ys: Sequence[int | None]) -> str:
    """SVG path data through the places; a y of None breaks the line. A place by itself is a dot: a line to itself."""
    parts: list[str] = []
    open_at = -1
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if y is None:
            open_at = -1
        elif open_at < 0:
            alone = i + 1 == len(ys) or ys[i + 1] is None
            parts.append(f"M{x} {y}h0" if alone else f"M{x} {y}")
            open_at = i
        else:
            parts.append(f"L{x} {y}" if open_at == i - 1 else f" {x} {y}")
    return "".join(parts)


def _across(steps: Floats, horizon: float) -> NDArray[np.int64]:
    share = np.clip(np.nan_to_num(steps) / horizon, 0, 1)
    return np.asarray(LEFT + np.rint(share * (WIDTH - LEFT - RIGHT)).astype(np.int64))


def _judged_panels(curves: pd.DataFrame, scale: Scale) -> list[Panel]:
    """Distance u (or the plain distance where the reference is unknown) and mode coverage, each where recorded."""
    distance, coverage = _numbers(curves, "distance"), _numbers(curves, "mode_coverage")
    halves = ((0.0, "0"), (0.5, "½"), (1.0, "1"))
    u = (distance - scale.d_real) / (scale.d_ref - scale.d_real)
    found = []
    if np.isfinite(u).any():
        threshold = scale.thresholds.get("u", math.nan)
        ticks = (*halves, (1.5, "1½"))
        found.append(Panel(title="Distance u", values=u, low=-0.05, high=1.5, ticks=ticks, threshold=threshold))
    elif np.isfinite(distance).any():
        high = float(np.quantile(distance[np.isfinite(distance)], 0.98)) or 1.0
        ends = ((0.0, "0"), (high, rate_text(high)))
        found.append(Panel(title="Distance", values=distance, low=0.0, high=high, ticks=ends))
    if np.isfinite(coverage).any():
        threshold = scale.thresholds.get("mode_coverage", math.nan)
        found.append(
            Panel(title="Mode coverage m", values=coverage, low=0.0, high=1.0, ticks=halves, threshold=threshold)
        )
    return found


def _radius_panels(curves: pd.DataFrame) -> list[Panel]:
    """The Dirac-GAN's distance from the equilibrium, on a logarithmic axis of at most MOST_DECADES."""
    radius = _numbers(curves, "distance")
    values = np.full(len(radius), math.nan)
    np.log10(radius, out=values, where=radius > 0)
    if not np.isfinite(values).any():
        return []
    ends = values[np.isfinite(values)]
    high = math.ceil(float(ends.max()) + 1e-9)
    low = max(math.floor(float(ends.min())), high - MOST_DECADES)
    ticks = [(float(e), rate_text(10.0**e)) for e in range(high, int(low) - 1, -math.ceil((high - low) / 4))]
    return [Panel(title="Distance from the equilibrium", values=values, low=float(low), high=float(high), ticks=ticks)]


def _numbers(curves: pd.DataFrame, name: str) -> Floats:
    if name not in curves:
        return np.full(len(curves), math.nan)
    return pd.to_numeric(curves[name], errors="coerce").to_numpy(dtype=np.float64, na_value=math.nan)
