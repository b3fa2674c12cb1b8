"""Success over generator steps beside success over what the steps cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cost import PRICE, STEPS
from analysis.figures_profile import LINES
from analysis.figures_style import FAINT, GRID, INK, SOFT, WIDTH, new_figure, place, style
from analysis.wording import percent, shown

LEFT, TOP, NAMES = 40.0, 56.0, 138.0
TITLES = {STEPS: "by generator steps", PRICE: "by gradient evaluations"}


def cost_figure(table: pd.DataFrame, losses: Sequence[str]) -> Figure:
    """Share of runs that have converged for good by each time; a panel per axis, a line per loss with its end's bar.

    Bars are the 95 % intervals at the end of the axis; of many losses the first eight have a colour.
    """
    drawn = [loss for loss in losses if loss in set(table["loss"])]
    strip = 7.0 * min(len(drawn), len(LINES)) + 6.0
    tall = max(170.0, 14.0 * len(drawn))
    wide = (WIDTH - 2 * (LEFT + strip + NAMES)) / 2
    with style():
        figure = new_figure(height=TOP + tall + 40)
        high = figure.get_size_inches()[1] * 96
        for i, axis in enumerate((STEPS, PRICE)):
            left = LEFT + i * WIDTH / 2
            axes = place(figure, left=left, top=TOP, width=wide, height=tall)
            own = table[table["axis"] == axis]
            _panel(axes, own, drawn, strip / wide, tall)
            axes.set_title(TITLES[axis], loc="left", fontsize=9.5, weight="bold", color=INK, pad=8)
        figure.text(LEFT / WIDTH, 1 - 14 / high, "share of runs converged for good", fontsize=7.5, color=SOFT)
    return figure


def _panel(axes: Axes, table: pd.DataFrame, losses: Sequence[str], strip: float, tall: float) -> None:
    end = float(table["time"].max())
    names = []
    for i, loss in reversed(list(enumerate(losses))):
        own = table[table["loss"] == loss].sort_values("time")
        colour = LINES[i] if i < len(LINES) else FAINT
        look: dict[str, Any] = {"color": colour, "clip_on": False}
        axes.step(own["time"], own["share"], where="post", linewidth=1.7, zorder=3, **look)
        last = own.iloc[-1]
        if i < len(LINES):
            x = end * (1 + strip * (i + 1) / (min(len(losses), len(LINES)) + 1))
            axes.plot([x, x], [last["low"], last["high"]], linewidth=2.2, alpha=0.55, solid_capstyle="butt", **look)
            axes.plot([x], [last["share"]], marker="o", markersize=3.6, zorder=4, **look)
        names.append((float(last["share"]), loss, colour if i < len(LINES) else SOFT))
    axes.set_xlim(0, end)
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"], fontsize=7.5)
    axes.set_xticks([0, end / 2, end], ["0", "", f"{end:,.0f}"], fontsize=7.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _name(axes, names, end * (1 + strip), tall)


def _name(axes: Axes, names: Sequence[tuple[float, str, str]], x: float, tall: float) -> None:
    """Names and shares beside the bars, the highest first, pushed apart where they would meet."""
    line = 13.0 / tall
    known = sorted(names, key=lambda one: -one[0])
    heights: list[float] = []
    for share, *_ in known:
        heights.append(min(share, heights[-1] - line) if heights else share)
    lift = max(0.0, -heights[-1]) if heights else 0.0  # the lowest name stays on the axes
    for height, (share, loss, colour) in zip(heights, known, strict=True):
        spot: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "annotation_clip": False}
        text = f"{shown(loss, limit=15)} {percent(share)}"
        axes.annotate(text, (x, height + lift), va="center", fontsize=8, color=colour, **spot)
