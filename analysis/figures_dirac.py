"""The measured stable region of the Dirac-GAN with its exact boundary drawn over it: one panel per loss and order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.dirac_cells import DISAGREES, TOO_SLOW
from analysis.figures_style import (
    FAINT,
    INK,
    OUTCOMES,
    SOFT,
    WIDTH,
    empty_figure,
    hatched_box,
    new_figure,
    place,
    style,
)
from analysis.wording import number_text, shown
from trainers.dirac import DAMPING, stability_map

BOUNDARY_POINTS = 320
"""Points of the boundary's grid along each axis of a panel."""

_LEFT, _TOP, _GAP, _BELOW = 52.0, 70.0, 22.0, 52.0
_STRIP = 1.35
"""How far below the least weight the row without a penalty lies, in rows."""
_HATCH = "#1d232966"


@dataclass(frozen=True)
class _Axis:
    """Values of one factor at equal steps of their logarithm; ``step`` is the width of a cell."""

    values: tuple[float, ...]

    @property
    def places(self) -> list[float]:
        return [math.log10(value) for value in self.values]

    @property
    def step(self) -> float:
        gaps = np.diff(self.places)
        return float(np.median(gaps)) if len(gaps) else 0.3

    @property
    def ends(self) -> tuple[float, float]:
        return self.places[0] - self.step / 2, self.places[-1] + self.step / 2


@dataclass(frozen=True)
class _Panel:
    """The cells of one loss, penalty and order of updates; ``bare`` are those of the same loss without penalty."""

    title: str
    cells: pd.DataFrame
    bare: pd.DataFrame


def boundary_figure(cells: pd.DataFrame) -> Figure:
    """Outcome of every setting over learning rate and penalty weight, with the exact boundary of stability.

    ``cells``: ``dirac_cells.oracle_table``. A row of panels per loss and penalty, a column per order of updates and k.
    """
    drawable = cells[cells["generator_learning_rate"] == cells["discriminator_learning_rate"]]
    if drawable.empty:
        return empty_figure("no setting with one learning rate for both players: see the table")
    rates = _Axis(tuple(sorted(drawable["generator_learning_rate"].unique())))
    weights = _Axis(tuple(sorted(w for w in drawable["penalty_weight"].unique() if w > 0)) or (1.0,))
    rows, columns = _rows(drawable), _columns(drawable)
    across = (WIDTH - _LEFT - 8 - _GAP * (len(columns) - 1)) / len(columns)
    height = min(max(22.0 * (len(weights.values) + _STRIP), 70.0), 200.0)
    with style():
        figure = new_figure(height=_TOP + len(rows) * (height + _BELOW))
        _legend(figure, drawable)
        for i, (loss, penalty, label) in enumerate(rows):
            for j, (updates, k) in enumerate(columns):
                top = _TOP + i * (height + _BELOW)
                axes = place(figure, left=_LEFT + j * (across + _GAP), top=top, width=across, height=height)
                panel = _panel(drawable, loss, penalty, label, updates, k)
                _draw(axes, panel, rates, weights, penalty=penalty, loss=loss, updates=updates, k=k)
                _label_axes(axes, rates, weights, first=j == 0, last=i == len(rows) - 1)
    return figure


def _rows(cells: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(adversarial loss, penalty, label) of every row of panels; a loss without any penalty has a row of its own."""
    found = cells[["adversarial_loss", "penalty", "loss"]].drop_duplicates().itertuples(index=False)
    entries = [(str(loss), str(penalty), str(label)) for loss, penalty, label in found]
    penalised = {loss for loss, penalty, _ in entries if DAMPING.get(penalty)}
    return [entry for entry in entries if entry[1] != "none" or entry[0] not in penalised]


def _columns(cells: pd.DataFrame) -> list[tuple[str, int]]:
    found = cells[["updates", "k"]].drop_duplicates().itertuples(index=False)
    return [(str(updates), int(k)) for updates, k in found]


def _panel(cells: pd.DataFrame, loss: str, penalty: str, label: str, updates: str, k: int) -> _Panel:
    own = cells[(cells["adversarial_loss"] == loss) & (cells["updates"] == updates) & (cells["k"] == k)]
    order = f"k = {k}" if updates == "alternating" else updates
    return _Panel(
        title=f"{shown(label)}, {order}",
        cells=own[(own["loss"] == label) & (own["penalty_weight"] > 0)],
        bare=own[own["penalty"] == "none"] if penalty in DAMPING else own[own["loss"] == label],
    )


def _draw(
    axes: Axes, panel: _Panel, rates: _Axis, weights: _Axis, *, loss: str, penalty: str, updates: str, k: int
) -> None:
    for row in panel.cells.to_dict("records"):
        _cell(axes, rates, math.log10(row["penalty_weight"]), weights.step, row)
    for row in panel.bare.to_dict("records"):
        _cell(axes, rates, weights.places[0] - _STRIP * weights.step, weights.step, row)
    if len(panel.cells) and DAMPING.get(penalty) and set(panel.cells["predicted"]) != {""}:
        _boundary(axes, rates, weights, loss=loss, penalty=penalty, updates=updates, k=k)
    axes.set_title(panel.title, loc="left", fontsize=8.5, weight="bold", color=INK, pad=4)


def _cell(axes: Axes, rates: _Axis, level: float, tall: float, row: Mapping[Any, Any]) -> None:
    wide, left = rates.step, math.log10(row["generator_learning_rate"]) - rates.step / 2
    corner, colour = (left, level - tall / 2), OUTCOMES[row["outcome"]].colour
    if row["status"] == TOO_SLOW:
        axes.add_patch(Rectangle(corner, wide, tall, facecolor=colour, alpha=0.28, linewidth=0))
        axes.add_patch(hatched_box(corner, wide, tall, hatch="/////", colour=_HATCH))
    else:
        axes.add_patch(Rectangle(corner, wide, tall, facecolor=colour, linewidth=0))
    axes.add_patch(Rectangle(corner, wide, tall, facecolor="none", edgecolor="white", linewidth=0.9))
    # the setting itself is a point: the boundary may cross its cell and still leave it on the right side
    axes.plot(left + wide / 2, level, marker="o", markersize=1.8, color="white", markeredgewidth=0, zorder=5)
    if row["status"] == DISAGREES:
        axes.plot(left + wide / 2, level, marker="x", markersize=6, color=INK, markeredgewidth=1.8, zorder=6)


def _boundary(axes: Axes, rates: _Axis, weights: _Axis, *, loss: str, penalty: str, updates: str, k: int) -> None:
    x, y = (np.linspace(*axis.ends, BOUNDARY_POINTS) for axis in (rates, weights))
    if updates not in ("alternating", "simultaneous"):  # decided point by point: a coarser grid will do
        x, y = x[::4], y[::4]
    stable = stability_map(loss, penalty, rates=10**x, weights=10**y, updates=updates, k=k)
    for colour, width in (("white", 3.6), (INK, 1.7)):
        axes.contour(x, y, stable, levels=[0.0], colors=[colour], linewidths=[width], zorder=4)


def _label_axes(axes: Axes, rates: _Axis, weights: _Axis, *, first: bool, last: bool) -> None:
    bottom = weights.places[0] - (_STRIP + 0.5) * weights.step
    axes.set_xlim(*rates.ends)
    axes.set_ylim(bottom, weights.ends[1])
    axes.set_xticks(*_ticks(rates), fontsize=7)
    places, names = _ticks(weights)
    strip = weights.places[0] - _STRIP * weights.step
    axes.set_yticks([strip, *places], ["none", *names] if first else [""] * (1 + len(names)), fontsize=7)
    axes.tick_params(length=2)
    axes.set_facecolor("#ffffff")
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    if first:
        axes.set_ylabel("penalty weight gamma", fontsize=7.5, labelpad=2)
    if last:
        axes.set_xlabel("learning rate", fontsize=7.5, loc="left", labelpad=2)


def _ticks(axis: _Axis) -> tuple[list[float], list[str]]:
    """Places and names of the decades within the axis; of its values where it holds fewer than two decades."""
    low, high = axis.ends
    decades = [10.0**i for i in range(math.ceil(low), math.floor(high) + 1)]
    values = decades if len(decades) > 1 else axis.values
    return [math.log10(value) for value in values], [number_text(value) for value in values]


def _legend(figure: Figure, cells: pd.DataFrame) -> None:
    present = [name for name in OUTCOMES if name in set(cells["outcome"])]
    handles: list[Patch | Line2D] = [Patch(facecolor=OUTCOMES[n].colour, label=OUTCOMES[n].word) for n in present]
    handles.append(Line2D([], [], color=INK, linewidth=1.7, label="exact boundary"))
    if (cells["status"] == TOO_SLOW).any():
        slow = hatched_box((0, 0), 1, 1, hatch="/////", colour=_HATCH, face="#e6f3ee")
        slow.set_label("slower than the budget: left out")
        handles.append(slow)
    if (cells["status"] == DISAGREES).any():
        cross = Line2D([], [], color=INK, marker="x", linestyle="", markeredgewidth=1.8, label="disagrees")
        handles.append(cross)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((_LEFT - 6) / WIDTH, 1 - 6 / (figure.get_size_inches()[1] * 96)),
        ncols=len(handles) if len(handles) <= 5 else math.ceil(len(handles) / 2),
        frameon=False,
        fontsize=8,
        handlelength=1.4,
        columnspacing=1.6,
        labelcolor=SOFT,
    )
