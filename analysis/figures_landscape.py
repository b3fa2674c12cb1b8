"""Figure of success over learning rate and penalty weight (or k): cells of a grid, or points with contours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.figures_style import FAINT, INK, SOFT, SUCCESS_MAP, WIDTH, in_order, ink_on, new_figure, place, style
from analysis.landscape import smoothed
from analysis.wording import number_text, rate_text, shown

_LEFT, _GAP, _TOP, _TALL, _STEP = 56.0, 62.0, 74.0, 170.0, 246.0
FEW_LEVELS = 8
"""Up to so many levels on each axis, and every pair of them evaluated, the points are a grid's cells."""

Places = Mapping[str, tuple[float, float]]


def landscape_figure(table: pd.DataFrame, selected: Places, *, rate_name: str) -> Figure:
    """One panel per loss of ``landscape_table``; a star marks the setting that was confirmed."""
    losses = in_order(table["loss"])
    across = min(2, len(losses))
    wide = min((WIDTH - _LEFT - 12 - _GAP * (across - 1)) / across, 420.0)
    with style():
        figure = new_figure(height=_TOP + _STEP * math.ceil(len(losses) / across) - 14)
        _legend(figure, contours=any(not is_gridded(table[table["loss"] == x]) for x in losses), star=bool(selected))
        for i, loss in enumerate(losses):
            row, column = divmod(i, across)
            left, top = _LEFT + column * (wide + _GAP), _TOP + row * _STEP
            axes = place(figure, left=left, top=top, width=wide, height=_TALL)
            own = table[table["loss"] == loss].reset_index(drop=True)
            (_cells if is_gridded(own) else _scatter)(axes, own, selected.get(loss))
            axes.set_title(shown(loss), loc="left", fontsize=9.5, weight="bold", color=INK, pad=6)
            axes.set_xlabel(rate_name, fontsize=7.5, loc="left", labelpad=3)
            axes.set_ylabel(shown(str(own["factor"].iloc[0]).replace("_", " ")), fontsize=7.5, color=SOFT, labelpad=3)
    return figure


def is_gridded(table: pd.DataFrame) -> bool:
    """Whether the points are the full crossing of few levels."""
    levels = table["rate"].nunique(), table["value"].nunique()
    return max(levels) <= FEW_LEVELS and levels[0] * levels[1] == len(table)


def _cells(axes: Axes, table: pd.DataFrame, chosen: tuple[float, float] | None) -> None:
    rates, values = (sorted(table[name].unique()) for name in ("rate", "value"))
    for row in table.to_dict("records"):
        column, level = rates.index(row["rate"]), values.index(row["value"])
        fill = "#ffffff" if math.isnan(row["share"]) else to_hex(SUCCESS_MAP(row["share"]))
        axes.add_patch(Rectangle((column, level), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.6))
        star = "★ " if chosen == (row["rate"], row["value"]) else ""
        text = f"{star}{row['converged']}/{row['judged']}"
        spot = (column + 0.5, level + 0.5)
        axes.text(*spot, text, ha="center", va="center", fontsize=8.5, weight="bold", color=ink_on(fill))
    axes.set_xlim(0, len(rates))
    axes.set_ylim(0, len(values))
    axes.set_xticks([i + 0.5 for i in range(len(rates))], [rate_text(v) for v in rates], fontsize=7.5)
    axes.set_yticks([i + 0.5 for i in range(len(values))], [number_text(v) for v in values], fontsize=7.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)


def _scatter(axes: Axes, table: pd.DataFrame, chosen: tuple[float, float] | None) -> None:
    known = table[table["share"].notna()]
    logarithmic = bool((table["value"] > 0).all()) and table["factor"].iloc[0] != "k"
    x = np.log10(known["rate"].to_numpy(dtype=float))
    y = known["value"].to_numpy(dtype=float)
    y = np.log10(y) if logarithmic else y
    if len(known) >= 6 and known["value"].nunique() >= 4:
        _contours(axes, x, y, known)
    look: dict[str, Any] = {"edgecolors": INK, "linewidths": 0.7, "zorder": 3, "clip_on": False}
    axes.scatter(x, y, c=known["share"], cmap=SUCCESS_MAP, norm=Normalize(0, 1), s=34, **look)
    if chosen is not None:
        at = math.log10(chosen[0]), math.log10(chosen[1]) if logarithmic else chosen[1]
        axes.plot(*at, marker="*", markersize=15, color="#ffffff", markeredgecolor=INK, zorder=4, clip_on=False)
    axes.xaxis.set_major_formatter(lambda value, _: rate_text(10**value))
    axes.locator_params(axis="both", nbins=5)
    if logarithmic:
        axes.yaxis.set_major_formatter(lambda value, _: number_text(float(f"{10**value:.2g}")))
    elif known["value"].nunique() <= 6:
        axes.set_yticks(sorted(known["value"].unique()))
    axes.tick_params(labelsize=7.5)


def _contours(axes: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], known: pd.DataFrame) -> None:
    low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
    span = np.where(high > low, high - low, 1.0)
    points = (np.stack([x, y], axis=1) - low) / span
    line = np.linspace(0, 1, 60)
    across, up = np.meshgrid(line, line)
    runs, shares = (known[name].to_numpy(dtype=float) for name in ("judged", "share"))
    surface = smoothed(points, shares, runs, np.stack([across.ravel(), up.ravel()], axis=1)).reshape(across.shape)
    place_x, place_y = low[0] + span[0] * across, low[1] + span[1] * up
    levels = np.linspace(0, 1, 11)
    axes.contourf(place_x, place_y, surface, levels=levels, cmap=SUCCESS_MAP, alpha=0.55, zorder=1)
    lines = axes.contour(place_x, place_y, surface, levels=[0.25, 0.5, 0.75], colors=SOFT, linewidths=0.8, zorder=2)
    axes.clabel(lines, fmt={0.25: "¼", 0.5: "½", 0.75: "¾"}, fontsize=7.5)


def _legend(figure: Figure, *, contours: bool, star: bool) -> None:
    axes = place(figure, left=_LEFT, top=18, width=150, height=9)
    scale = ScalarMappable(Normalize(0, 1), SUCCESS_MAP)
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.outline.set_edgecolor(FAINT)
    axes.set_xticklabels(["0", "½", "1"], fontsize=7.5)
    axes.set_title("P(converged)", loc="left", fontsize=7.5, color=SOFT, pad=4)
    mark: dict[str, Any] = {"linestyle": "", "markeredgecolor": INK, "markerfacecolor": "white"}
    handles = [Line2D([], [], marker="o", label="a setting that was tried", **mark)] * contours
    handles += [Line2D([], [], marker="*", markersize=11, label="confirmed with fresh seeds", **mark)] * star
    if handles:
        spot = (230 / WIDTH, 1 - 8 / (figure.get_size_inches()[1] * 96))
        look: dict[str, Any] = {"frameon": False, "fontsize": 7.5, "labelcolor": SOFT, "ncols": 2}
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=spot, **look)
