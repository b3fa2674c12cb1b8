"""Difference maps over (learning rate, k): the leading loss minus each other one, one panel per rival."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures_robustness import LEAD_MAP
from analysis.figures_style import (
    FAINT,
    INK,
    SOFT,
    WIDTH,
    empty_figure,
    ink_on,
    new_figure,
    panels_across,
    place,
    style,
)
from analysis.wording import number_text, points, rate_text, shown

LEFT, GAP, TOP, CELL, BELOW = 34.0, 40.0, 74.0, 36.0, 66.0
BOTH = 2
"""Settings of one cell differ beyond chance in both directions."""


def difference_figure(table: pd.DataFrame, rivals: Sequence[str], *, leader: str, rate_name: str) -> Figure:
    """One panel per rival in the given order: fill and text are the leader's lead in points, outlined beyond chance.

    ``table``: rows of ``difference_map``.
    """
    if table.empty:
        return empty_figure("no setting that two losses share: no differences to map")
    rates, ks = (sorted(table[name].unique(), key=lambda v: (math.isnan(v), v)) for name in ("learning_rate", "k"))
    across = panels_across(len(rivals), most=3 if len(rates) <= 5 else 2 if len(rates) <= 8 else 1)
    wide = min((WIDTH - LEFT - 8 - GAP * (across - 1)) / across / len(rates), 110.0)
    panel = wide * len(rates), CELL * len(ks)
    rows = math.ceil(len(rivals) / across)
    with style():
        figure = new_figure(height=TOP + (panel[1] + BELOW) * rows - 24.0)
        _legend(figure, leader)
        for i, rival in enumerate(rivals):
            row, column = divmod(i, across)
            corner = LEFT + column * (panel[0] + GAP), TOP + row * (panel[1] + BELOW)
            axes = place(figure, left=corner[0], top=corner[1], width=panel[0], height=panel[1])
            cells = table[table["loss_b"] == rival].to_dict("records")
            for cell in sorted(cells, key=lambda cell: abs(cell["shown"])):  # outlines lie over their neighbours
                _cell(axes, _index(rates, cell["learning_rate"]), _index(ks, cell["k"]), cell, wide)
            _axes(axes, rates, ks, f"over {shown(rival, limit=24)}", rate_name if i + across >= len(rivals) else "")
    return figure


def _index(values: Sequence[float], value: float) -> int:
    return next(i for i, other in enumerate(values) if other == value or (math.isnan(other) and math.isnan(value)))


def _cell(axes: Axes, x: int, y: int, cell: Mapping[Any, Any], pixels: float) -> None:
    lead, beyond = float(cell["difference"]), bool(cell["shown"])
    fill = "#ffffff" if math.isnan(lead) else LEAD_MAP(0.5 + 0.5 * float(np.clip(lead, -1, 1)))
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.6))
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.0 if pixels >= 46 else 7.5}
    text = points(lead) + ("*" if cell["shown"] == BOTH else "")
    axes.text(x + 0.5, y + 0.5, text, color=ink_on(fill), weight="bold" if beyond else "normal", **look)
    if beyond:
        inset = 2.0 / pixels, 2.0 / CELL
        box = Rectangle((x + inset[0], y + inset[1]), 1 - 2 * inset[0], 1 - 2 * inset[1])
        box.set(facecolor="none", edgecolor=INK, linewidth=1.6)
        axes.add_patch(box)


def _axes(axes: Axes, rates: Sequence[float], ks: Sequence[float], title: str, rate_name: str) -> None:
    axes.set_xlim(0, len(rates))
    axes.set_ylim(0, len(ks))
    axes.set_xticks([i + 0.5 for i in range(len(rates))], [rate_text(v) for v in rates], fontsize=7.5)
    axes.set_yticks([i + 0.5 for i in range(len(ks))], [number_text(v) for v in ks], fontsize=7.5)
    axes.tick_params(length=0)
    axes.set_facecolor("#f1f3f5")  # a setting that the two do not share stays grey
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)
    axes.set_title(title, loc="left", fontsize=9.5, weight="bold", color=INK, pad=6)
    spot: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate("k", (0, 1), xytext=(-12, 8), fontsize=7.5, color=SOFT, **spot)
    if rate_name:
        axes.set_xlabel(rate_name, fontsize=7.5, loc="left", labelpad=3)


def _legend(figure: Figure, leader: str) -> None:
    """The scale of the fill, and what an outline means."""
    axes = place(figure, left=LEFT, top=18, width=170, height=9)
    axes.imshow(np.linspace(0, 1, 128)[None, :], cmap=LEAD_MAP, aspect="auto", vmin=0, vmax=1)
    axes.set_yticks([])
    axes.set_xticks([0, 63.5, 127], [points(-1), "0", points(1)], fontsize=7.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.set_title(f"lead of {shown(leader, limit=28)}, points", loc="left", fontsize=7.5, color=SOFT, pad=4)
    outlined = Rectangle((0, 0), 1, 1, facecolor="#f7f7f7", edgecolor=INK, linewidth=1.6)
    figure.legend(
        [outlined],
        ["beyond chance (Holm over the pair's settings)"],
        loc="upper left",
        bbox_to_anchor=(230 / WIDTH, 1 - 8 / (figure.get_size_inches()[1] * 96)),
        frameon=False,
        fontsize=7.5,
        labelcolor=SOFT,
    )
