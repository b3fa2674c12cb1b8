"""P(converged) against the learning rate: one panel per loss, one line per k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis.figures_style import (
    ACCENT,
    GRID,
    INK,
    SOFT,
    WIDTH,
    empty_figure,
    in_order,
    new_figure,
    panels_across,
    place,
    style,
)
from analysis.wording import number_text, rate_text, shown

_K_COLOURS = ("#5aa9d6", "#0b5c8a", "#0b2a4a", "#8a5fb0", "#4a2a70", "#1d2329")
_K_MARKERS = ("o", "s", "^", "D", "v", "P")


def response_figure(
    table: pd.DataFrame, *, rate_name: str = "learning rate", notes: Mapping[str, str] | None = None
) -> Figure:
    """P(converged) over the learning rate with 95 % Wilson bars: one panel per loss, one line per k.

    ``notes`` puts a short remark (the decades that work) behind a loss's name.
    """
    drawn = table[table["judged"] > 0] if len(table) else table
    if drawn.empty:
        return empty_figure("no judged runs yet: no response to draw")
    losses, ks = in_order(table["loss"]), sorted(drawn["k"].unique(), key=lambda v: (math.isnan(v), v))
    across, left, gap, top, tall, step = panels_across(len(losses)), 34.0, 40.0, 62.0, 130.0, 192.0
    panel = min((WIDTH - left - 8 - gap * (across - 1)) / across, 400.0)
    handles: dict[str, ErrorbarContainer] = {}
    with style():
        figure = new_figure(height=top + step * math.ceil(len(losses) / across) - 18)
        for i, loss in enumerate(losses):
            row, column = divmod(i, across)
            axes = place(figure, left=left + column * (panel + gap), top=top + row * step, width=panel, height=tall)
            handles |= _response_lines(axes, drawn[drawn["loss"] == loss], ks)
            _response_axes(axes, drawn["learning_rate"].unique(), loss, (notes or {}).get(loss, ""))
            if i + across >= len(losses):
                axes.set_xlabel(rate_name, fontsize=7.5, loc="left", labelpad=3)
        _response_legend(figure, handles, left)
    return figure


def _response_legend(figure: Figure, handles: Mapping[str, ErrorbarContainer], left: float) -> None:
    high = figure.get_size_inches()[1] * 96
    figure.text(left / WIDTH, 1 - 14 / high, "P(converged)", fontsize=7.5, color=SOFT)
    figure.legend(
        list(handles.values()),  # type: ignore[arg-type]  # a legend draws containers too
        list(handles),
        loc="upper right",
        ncols=min(len(handles), 6) or 1,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        bbox_to_anchor=(1.0, 1.0),
    )


def _response_lines(axes: Axes, rows: pd.DataFrame, ks: Sequence[float]) -> dict[str, ErrorbarContainer]:
    """One line per k; returns what the legend shows."""
    found = {}
    for j, k in enumerate(ks):
        own = rows[rows["k"].isna() if math.isnan(k) else rows["k"] == k]
        if len(own):
            found["all k" if math.isnan(k) else f"k = {number_text(k)}"] = _response_line(axes, own, j, len(ks))
    return found


def _rate_position(rate: float) -> float:
    return math.log10(rate) if rate > 0 else 0.0


def _response_line(axes: Axes, rows: pd.DataFrame, j: int, n: int) -> ErrorbarContainer:
    dodge = 0.035 * (j - (n - 1) / 2)  # bars of different k stay apart
    x = [_rate_position(rate) + dodge for rate in rows["learning_rate"]]
    below, above = rows["share"] - rows["low"], rows["high"] - rows["share"]
    colour = _K_COLOURS[j % len(_K_COLOURS)] if n > 1 else ACCENT
    return axes.errorbar(
        x,
        rows["share"],
        yerr=[below.clip(lower=0), above.clip(lower=0)],
        color=colour,
        marker=_K_MARKERS[j % len(_K_MARKERS)],
        markersize=4.5,
        linewidth=1.4,
        elinewidth=0.9,
        capsize=0,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _response_axes(axes: Axes, rates: np.ndarray, loss: str, note: str) -> None:
    finite = sorted({float(r) for r in rates if r > 0})
    ticks = finite if len(finite) <= 5 else finite[:: math.ceil(len(finite) / 5)]
    axes.set_xticks([math.log10(r) for r in ticks] or [0.0], [rate_text(r) for r in ticks] or ["all"], fontsize=7.5)
    span = [math.log10(r) for r in finite] or [0.0]
    room = max(0.15, 0.06 * (span[-1] - span[0]))
    axes.set_xlim(span[0] - room, span[-1] + room)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"], fontsize=7.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(shown(loss, limit=22), loc="left", fontsize=9.5, weight="bold", color=INK, pad=6)
    if note:
        axes.set_title(note, loc="right", fontsize=7.5, color=SOFT, pad=6)
