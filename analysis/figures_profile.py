"""Figures of the profile: what becomes of runs over time, and what trying more settings buys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures_style import (
    FAINT,
    GRID,
    INK,
    OUTCOMES,
    SOFT,
    WIDTH,
    in_order,
    new_figure,
    panels_across,
    place,
    style,
)
from analysis.wording import percent, shown

_DASHES = {"converged": "-", "collapsed": (0, (4, 1.6)), "diverged": (0, (1.2, 1.4))}
LINES = ("#0b5c8a", "#d55e00", "#009e73", "#a8447c", "#b57c00", "#4a4f55", "#56b4e9", "#8a5fb0")
"""Colours of lines that stand for losses, in the page's order."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_TALL, _STEP = 118.0, 206.0
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SIDES: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "center", "center", "right")


def incidence_figure(table: pd.DataFrame) -> Figure:
    """Share of runs that converged, collapsed or diverged by each step, one panel per loss in the table's order.

    Bands are 95 % intervals; below each axis the runs that none of the three has ended yet, at each quarter.
    """
    losses = in_order(table["loss"])
    across, left, gap, top = panels_across(len(losses)), 40.0, 44.0, 62.0
    panel = min((WIDTH - left - 12 - gap * (across - 1)) / across, 400.0)
    with style():
        figure = new_figure(height=top + _STEP * math.ceil(len(losses) / across) - 20)
        high = figure.get_size_inches()[1] * 96
        for i, loss in enumerate(losses):
            row, column = divmod(i, across)
            axes = place(figure, left=left + column * (panel + gap), top=top + row * _STEP, width=panel, height=_TALL)
            _incidence_panel(axes, table[table["loss"] == loss], loss)
        figure.text(left / WIDTH, 1 - 14 / high, "share of runs", fontsize=7.5, color=SOFT)
        handles = [
            Line2D([], [], color=OUTCOMES[name].colour, linestyle=dash, linewidth=1.8, label=OUTCOMES[name].word)
            for name, dash in _DASHES.items()
        ]
        figure.legend(
            handles=handles,
            loc="upper right",
            ncols=3,
            frameon=False,
            fontsize=8,
            handlelength=2.2,
            bbox_to_anchor=(1.0, 1.0),
        )
    return figure


def _incidence_panel(axes: Axes, rows: pd.DataFrame, loss: str) -> None:
    for name, dash in _DASHES.items():
        own = rows[rows["event"] == name]
        colour = OUTCOMES[name].colour
        axes.fill_between(own["time"], own["low"], own["high"], step="post", color=colour, alpha=0.13, linewidth=0)
        axes.step(own["time"], own["share"], where="post", color=colour, linestyle=dash, linewidth=1.8)
    end = float(rows["time"].max())
    ticks = [end * quarter for quarter in QUARTERS]
    axes.set_xlim(0, end)
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"], fontsize=7.5)
    axes.set_xticks(ticks, ["0", *("" for _ in ticks[1:-1]), f"{end:,.0f} steps"], fontsize=7.5)
    for label, side in zip(axes.get_xticklabels(), _SIDES, strict=True):
        label.set_horizontalalignment(side)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(shown(loss, limit=28), loc="left", fontsize=9.5, weight="bold", color=INK, pad=6)
    _at_risk_row(axes, rows[rows["event"] == "converged"], ticks)


def _at_risk_row(axes: Axes, rows: pd.DataFrame, ticks: Sequence[float]) -> None:
    """Runs still on their way at each quarter, under the axis."""
    times, counts = rows["time"].to_numpy(dtype=float), rows["at_risk"].to_numpy()
    place_of = axes.get_xaxis_transform()
    look: dict[str, Any] = {"transform": place_of, "va": "baseline", "fontsize": 7.5, "color": SOFT}
    axes.text(0, -0.31, "still on their way:", ha="left", **look)
    for tick, side in zip(ticks, _SIDES, strict=True):
        here = max(0, int(np.searchsorted(times, tick * (1 + 1e-9), side="right")) - 1)
        axes.text(tick, -0.43, f"{int(counts[here])}", ha=side, **look)


def budget_figure(table: pd.DataFrame, *, column: str) -> Figure:
    """Cross-fitted success of the best of B settings over B, one line per loss in the table's order, named at its end.

    Of many losses the first eight have a colour and a marker, the others are grey.
    """
    losses = in_order(table["loss"])
    top, left, right, tall = 34.0, 40.0, 190.0, max(170.0, 15.0 * len(losses))
    with style():
        figure = new_figure(height=top + tall + 40)
        axes = place(figure, left=left, top=top, width=WIDTH - left - right, height=tall)
        ends = []
        for i, loss in reversed(list(enumerate(losses))):
            own = table[table["loss"] == loss].sort_values("settings")
            colour = LINES[i] if i < len(LINES) else FAINT
            marker = _MARKERS[i] if i < len(_MARKERS) else ""
            x, y = np.log2(own["settings"].to_numpy(dtype=float)), own[column].to_numpy(dtype=float)
            look: dict[str, Any] = {
                "marker": marker,
                "markersize": 5,
                "markeredgecolor": "white",
                "markeredgewidth": 0.6,
            }
            axes.plot(x, y, color=colour, linewidth=1.6, clip_on=False, zorder=3, **look)
            ends.append((float(y[-1]), float(x[-1]), loss, colour if i < len(LINES) else SOFT))
        _budget_axes(axes, sorted(set(table["settings"].astype(int))))
        _name_ends(axes, ends, tall)
        height = figure.get_size_inches()[1] * 96
        figure.text(left / WIDTH, 1 - 14 / height, "P(converged) at the setting selected", fontsize=7.5, color=SOFT)
    return figure


def _budget_axes(axes: Axes, budgets: Sequence[int]) -> None:
    span = max(math.log2(budgets[-1]), 1e-3)
    axes.set_xlim(-0.03 * span, 1.02 * span)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([math.log2(b) for b in budgets], [str(b) for b in budgets], fontsize=7.5)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"], fontsize=7.5)
    axes.set_xlabel("settings tried (log scale)", fontsize=7.5, loc="left", labelpad=3)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], tall: float) -> None:
    """Names at the ends of the lines, pushed apart where they would meet."""
    line = 13.0 / tall
    known = sorted((end for end in ends if not math.isnan(end[0])), key=lambda end: -end[0])
    heights: list[float] = []
    for share, *_ in known:
        heights.append(min(share, heights[-1] - line) if heights else share)
    lift = max(0.0, -heights[-1]) if heights else 0.0  # the lowest name stays on the axes
    for height, (share, x, loss, colour) in zip(heights, known, strict=True):
        text = f"{shown(loss, limit=20)} {percent(share)}"
        at = (axes.get_xlim()[1], height + lift)
        axes.plot([x, at[0]], [share, at[1]], color=GRID, linewidth=0.8, clip_on=False, zorder=1)
        spot: dict[str, Any] = {
            "xytext": (7, 0),
            "textcoords": "offset points",
            "va": "center",
            "annotation_clip": False,
        }
        axes.annotate(text, at, fontsize=8, color=colour, **spot)
