"""Figure of the tuned settings: success under fresh seeds beside what the search promised, and where each one sits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
    PIXEL,
    SOFT,
    WIDTH,
    empty_figure,
    new_figure,
    place,
    style,
)
from analysis.wording import number_text, rate_text, shown

Row = Mapping[Any, Any]
GOOD, BAD = OUTCOMES["converged"].colour, "#a83a00"
_LEFT, _SHARES, _GAP, _TOP, _ROW = 150.0, 360.0, 46.0, 54.0, 34.0


def tuned_figure(tuned: pd.DataFrame, space: pd.DataFrame) -> Figure:
    """One row per loss of ``tuned``: intervals from fresh seeds, marks of the search, and its learning rate's place.

    ``space``: ``tuned_space``; the right panel is left out where no learning rate was searched.
    """
    drawn = tuned.dropna(subset=["tuned"]).reset_index(drop=True)
    if drawn.empty:
        return empty_figure("no fresh replicate has been judged yet")
    tall = _ROW * len(drawn)
    rates = space[space["factor"].isin(["learning_rate", "generator_learning_rate"])].drop_duplicates("loss")
    with style():
        figure = new_figure(height=_TOP + tall + 44)
        wide = _SHARES if len(rates) else WIDTH - _LEFT - 20
        axes = place(figure, left=_LEFT, top=_TOP, width=wide, height=tall)
        for level, row in enumerate(drawn.to_dict("records")):
            _share_row(axes, level, row)
        _share_axes(axes, [shown(label, limit=22) for label in drawn["loss"]])
        _title(figure, _LEFT, "P(converged) and P(unstable) at the selected setting")
        if len(rates):
            left = _LEFT + wide + _GAP
            beside = place(figure, left=left, top=_TOP, width=WIDTH - left - 30, height=tall)
            _rate_panel(beside, list(drawn["loss"]), rates, drawn)
            _title(figure, left, f"selected {str(rates['factor'].iloc[0]).replace('_', ' ')} in the range searched")
        _legend(figure)
    return figure


def _title(figure: Figure, left: float, text: str) -> None:
    height = figure.get_size_inches()[1] / PIXEL
    figure.text(left / WIDTH, 1 - (_TOP - 10) / height, text, fontsize=7.5, color=SOFT)


def _share_row(axes: Axes, level: int, row: Row) -> None:
    for name, low, high, colour, shift in (
        ("tuned", "tuned_low", "tuned_high", GOOD, -0.14),
        ("unstable", "unstable_low", "unstable_high", BAD, 0.2),
    ):
        at = level + shift
        axes.plot([row[low], row[high]], [at] * 2, color=colour, linewidth=3.6, alpha=0.45, solid_capstyle="butt")
        axes.plot(
            [row[name]],
            [at],
            marker="o",
            color=colour,
            markersize=6.5,
            markeredgecolor="white",
            zorder=4,
            clip_on=False,
        )
    marks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("explored", {"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK}),
        ("explored_naive", {"marker": "x", "markeredgecolor": SOFT}),
    )
    for name, look in marks:
        if math.isfinite(row[name]):
            axes.plot([row[name]], [level - 0.14], linestyle="", markersize=5, zorder=5, clip_on=False, **look)


def _share_axes(axes: Axes, labels: list[str]) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=7.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    for tick in axes.get_yticklabels():
        tick.set_color(INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _rate_panel(axes: Axes, labels: list[str], rates: pd.DataFrame, tuned: pd.DataFrame) -> None:
    """The searched range of each loss as a line, its selected learning rate as a dot; a triangle at an edge."""
    place_of = {str(row["loss"]): row for row in rates.to_dict("records")}
    ks = tuned.set_index("loss")["k"] if "k" in tuned and tuned["k"].notna().any() else pd.Series(dtype=float)
    for level, label in enumerate(labels):
        if label not in place_of:
            continue
        row = place_of[label]
        axes.plot([row["low"], row["high"]], [level] * 2, color=FAINT, linewidth=5, solid_capstyle="butt", zorder=1)
        edge = str(row["edge"])
        marker, colour = {"low": ("<", BAD), "high": (">", BAD)}.get(edge, ("o", INK))
        look: dict[str, Any] = {"markersize": 8, "markeredgecolor": "white", "clip_on": False, "zorder": 3}
        axes.plot([row["value"]], [level], marker=marker, color=colour, **look)
        text = rate_text(float(row["value"])) + (f", k = {number_text(ks[label])}" if label in ks.index else "")
        side = "left" if row["position"] < 0.25 else "right" if row["position"] > 0.75 else "center"
        axes.text(row["value"], level - 0.24, text, fontsize=7.5, color=colour, ha=side, va="bottom")
    low, high = float(rates["low"].min()), float(rates["high"].max())
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
    ticks = _decades(low, high)
    axes.set_xticks(ticks, [rate_text(tick) for tick in ticks], fontsize=7.5)
    axes.set_xticks([], minor=True)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _decades(low: float, high: float) -> list[float]:
    whole = np.arange(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [float(f"{10.0**e:.3g}") for e in whole] if len(whole) > 1 else [low, high]


def _legend(figure: Figure) -> None:
    mark: dict[str, Any] = {"linestyle": "", "markerfacecolor": "white"}
    bar: dict[str, Any] = {"linewidth": 3.6, "alpha": 0.6, "marker": "o"}
    handles = [
        Line2D([], [], color=GOOD, label="success, fresh seeds", **bar),
        Line2D([], [], color=BAD, label="unstable, fresh seeds", **bar),
        Line2D([], [], marker="D", markeredgecolor=INK, label="the search, cross-fitted", **mark),
        Line2D([], [], marker="x", markeredgecolor=SOFT, label="the search, as seen", **mark),
    ]
    spot = (_LEFT / WIDTH - 0.008, 1.0)
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": SOFT, "handlelength": 1.6}
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=spot, ncols=4, **look)
