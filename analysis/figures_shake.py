"""How much single runs shake over the learning rate: one panel per loss, one line per k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures_style import ACCENT, GRID, INK, SOFT, WIDTH, empty_figure, new_figure, panels_across, place, style
from analysis.wording import number_text, percent, rate_text, shown

COLOURS = ("#3f97cc", "#0b2a4a", "#a8447c", "#8a5fb0", "#b57c00", "#4a4f55")
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_POINTS = 1500
"""With more runs than this the page would drown in points: only medians and quartiles are drawn."""

LOWEST = 1e-3
"""u below which runs are alike: evaluation noise is larger."""

LEFT, GAP, TOP, TALL, BELOW = 40.0, 44.0, 62.0, 140.0, 76.0
NOTED = 3
"""Values of k whose failures are told one by one; those of more are told together."""


def shake_figure(cells: pd.DataFrame, runs: pd.DataFrame, losses: Sequence[str], *, rate_name: str) -> Figure:
    """Median and quartiles of the late spread of u per learning rate and k, runs in the background.

    Runs at +inf (diverged, collapsed, never learned) have no place on the scale: their share stands above it, and a
    median that is infinite is drawn there. ``cells``: from ``shake_table``; ``runs``: from ``run_shake``.
    """
    if cells.empty:
        return empty_figure("no recorded curves: no shake to draw")
    ks = sorted(cells["k"].unique(), key=lambda v: (math.isnan(v), v))
    across, scale = panels_across(len(losses)), _scale(runs)
    panel = min((WIDTH - LEFT - 8 - GAP * (across - 1)) / across, 400.0)
    step = TALL + BELOW + 12 * min(len(ks), NOTED)
    with style():
        figure = new_figure(height=TOP + step * math.ceil(len(losses) / across) - 30)
        for i, loss in enumerate(losses):
            row, column = divmod(i, across)
            top = TOP + row * step + 12 * min(len(ks), NOTED)
            axes = place(figure, left=LEFT + column * (panel + GAP), top=top, width=panel, height=TALL)
            own = runs[(runs["loss"] == loss) & runs["shake"].notna()]
            _panel(axes, cells[cells["loss"] == loss], own if len(runs) <= MOST_POINTS else own.iloc[:0], ks, scale)
            _axes(axes, sorted(cells["learning_rate"].dropna().unique()), scale)
            axes.set_title(shown(loss, limit=26), loc="left", fontsize=9.5, weight="bold", color=INK, pad=_pad(ks))
            if i + across >= len(losses):
                axes.set_xlabel(rate_name, fontsize=7.5, loc="left", labelpad=3)
        _key(figure, ks)
    return figure


def _pad(ks: Sequence[float]) -> float:
    """Room in points between a panel and its name, for the shares of failures."""
    return 8.0 + 9.0 * min(len(ks), NOTED)


def _scale(runs: pd.DataFrame) -> tuple[float, float]:
    """Lowest and highest u drawn, whole or half decades around the finite runs."""
    finite = runs["shake"].to_numpy(dtype=float)
    finite = finite[np.isfinite(finite) & (finite > LOWEST)]
    if not len(finite):
        return LOWEST, 1.0
    return max(LOWEST, float(finite.min()) / 1.3), max(0.1, float(finite.max()) * 1.3)


def _place(rate: float) -> float:
    return math.log10(rate) if rate > 0 else 0.0


def _panel(
    axes: Axes, cells: pd.DataFrame, runs: pd.DataFrame, ks: Sequence[float], scale: tuple[float, float]
) -> None:
    low, high = scale
    room = _room(cells) / len(ks)
    for j, k in enumerate(ks):
        own, colour = _of(cells, k), COLOURS[j % len(COLOURS)] if len(ks) > 1 else ACCENT
        dodge = room * (j - (len(ks) - 1) / 2)
        finite = _of(runs, k)
        finite = finite[np.isfinite(finite["shake"])]
        spots = np.array([_place(rate) for rate in finite["learning_rate"]]) + dodge + _spread(finite, 0.8 * room)
        values = np.clip(finite["shake"].to_numpy(dtype=float), low, high)
        axes.scatter(spots, values, s=7, color=colour, alpha=0.38, linewidths=0, zorder=2)
        x = np.array([_place(rate) for rate in own["learning_rate"]]) + dodge
        quartiles = {q: own[f"shake_{q}"].to_numpy(dtype=float) for q in (25, 50, 75)}
        drawn = {q: np.clip(v, low, high) for q, v in quartiles.items()}
        bars = np.isfinite(quartiles[25])
        ending = np.isfinite(quartiles[75])
        for these, alpha in ((bars & ending, 1.0), (bars & ~ending, 0.5)):  # fainter where failures reach the quartile
            axes.vlines(
                x[these], drawn[25][these], drawn[75][these], color=colour, linewidth=1.1, alpha=alpha, zorder=3
            )
        middle = np.where(np.isfinite(quartiles[50]), drawn[50], math.nan)  # the line breaks where failures are half
        look: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        axes.plot(x, middle, color=colour, marker=MARKERS[j % len(MARKERS)], linewidth=1.4, zorder=4, **look)
        off = ~np.isfinite(quartiles[50])
        axes.plot(x[off], np.full(int(off.sum()), high), marker=6, linestyle="", color=colour, clip_on=False, zorder=5)
    _failures(axes, cells, ks)


def _room(cells: pd.DataFrame) -> float:
    """Decades that one learning rate may take for the lines of all k and their runs."""
    places = np.unique([_place(rate) for rate in cells["learning_rate"]])
    return 0.55 * float(min(np.diff(places), default=0.3))


def _of(table: pd.DataFrame, k: float) -> pd.DataFrame:
    return table[table["k"].isna() if math.isnan(k) else table["k"] == k]


def _spread(runs: pd.DataFrame, width: float) -> np.ndarray:
    """A fixed sideways place for every run of a cell, by its number."""
    return width * ((runs["replicate"].to_numpy(dtype=float) * 0.6180339887) % 1.0 - 0.5)


def _failures(axes: Axes, cells: pd.DataFrame, ks: Sequence[float]) -> None:
    """Shares of runs that have no place on the scale, over each learning rate; a line per k."""
    told: list[tuple[pd.DataFrame, str]] = [(cells, SOFT)]
    if 1 < len(ks) <= NOTED:
        told = [(_of(cells, k), COLOURS[j]) for j, k in enumerate(ks)]
    for level, (rows, colour) in enumerate(reversed(told)):
        for rate, cell in rows.groupby("learning_rate", dropna=False, sort=True):
            share = float(cell["shake_infinite"].sum() / cell["runs"].sum())
            if share > 0:
                spot: dict[str, Any] = {"xytext": (0, 6 + 9 * level), "textcoords": "offset points"}
                axes.annotate(
                    percent(share).removesuffix(" %"),
                    (_place(float(str(rate))), 1),
                    xycoords=axes.get_xaxis_transform(),
                    ha="center",
                    fontsize=6.6,
                    color=colour,
                    annotation_clip=False,
                    **spot,
                )


def _axes(axes: Axes, rates: Sequence[float], scale: tuple[float, float]) -> None:
    ticks = rates if len(rates) <= 5 else rates[:: math.ceil(len(rates) / 5)]
    spots = [_place(rate) for rate in rates] or [0.0]
    axes.set_yscale("log")
    axes.set_xticks([_place(r) for r in ticks] or [0.0], [rate_text(r) for r in ticks] or ["all"], fontsize=7.5)
    room = max(0.15, 0.06 * (spots[-1] - spots[0]))
    axes.set_xlim(spots[0] - room, spots[-1] + room)
    axes.set_ylim(*scale)
    marks = [m for m in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0) if scale[0] * 0.99 <= m <= scale[1]]
    axes.set_yticks(marks, [f"{m:g}".lstrip("0") for m in marks], fontsize=7.5)
    axes.set_yticks([], minor=True)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _key(figure: Figure, ks: Sequence[float]) -> None:
    high = figure.get_size_inches()[1] * 96
    figure.text(LEFT / WIDTH, 1 - 14 / high, "shake of one run (u, log scale)", fontsize=7.5, color=SOFT)
    note = "above each panel: per cent of runs off the scale"
    figure.text(LEFT / WIDTH, 1 - 28 / high, note, fontsize=7.5, color=SOFT)
    if len(ks) < 2:
        return
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[j % len(COLOURS)],
            marker=MARKERS[j % len(MARKERS)],
            linewidth=1.4,
            markersize=4.5,
            markeredgecolor="white",
            label="all k" if math.isnan(k) else f"k = {number_text(k)}",
        )
        for j, k in enumerate(ks)
    ]
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "handlelength": 1.6}
    figure.legend(handles=handles, loc="upper right", ncols=min(len(ks), 6), bbox_to_anchor=(1.0, 1.0), **look)
