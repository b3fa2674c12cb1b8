"""Figures of the comparison: outcome shares per loss, and the differences between losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures_style import (
    ACCENT,
    GRID,
    INK,
    OUTCOMES,
    PARTIAL,
    PIXEL,
    SOFT,
    WIDTH,
    empty_figure,
    hatched_box,
    ink_on,
    new_figure,
    place,
    style,
)
from analysis.wording import MINUS, short_verdict, shown

SHARE_ORDER = ("converged", "under_trained", "plateau", PARTIAL, "oscillating", "collapsed", "diverged")
"""Segments of an outcome bar from the left: well, slow, stuck, then the unstable ones."""


_FOREST_LEFT, _FOREST_RIGHT = 222.0, 250.0
"""Room for the pair's names and for the verdict, in CSS pixels."""
PARTIAL_INK = "#a8447c"
"""Hatch of a partial collapse: the colour of a collapse, darker, over the grey of a plateau."""


def outcome_table(losses: pd.DataFrame) -> pd.DataFrame:
    """Weighted outcome shares per loss (columns loss, SHARE_ORDER, success_low, success_high, runs_used).

    A plateau of kind partial_collapse counts as unstable and has a share of its own; ``plateau`` keeps the rest.
    """
    shares = losses[["loss", *SHARE_ORDER, "success_low", "success_high", "runs_used"]].copy()
    shares["plateau"] = (shares["plateau"] - shares[PARTIAL]).clip(lower=0.0).round(12)
    return shares


def segment_look(name: str) -> tuple[str, str, str]:
    """(colour, hatch, word) of a segment of an outcome bar."""
    if name == PARTIAL:
        return OUTCOMES["plateau"].colour, "/////", "partial collapse"
    look = OUTCOMES[name]
    return look.colour, look.hatch, look.word


def outcome_bars(shares: pd.DataFrame) -> Figure:
    """Stacked outcome shares, one bar per loss; the whisker is the interval of the converged share."""
    drawn = shares.dropna(subset=list(SHARE_ORDER), how="all")
    if drawn.empty:
        return empty_figure("no judged runs yet: no outcome shares to draw")
    row, top = 30.0, 40.0
    with style():
        figure = new_figure(height=top + row * len(drawn) + 34)
        axes = place(figure, left=170, top=top, width=WIDTH - 170 - 20, height=row * len(drawn))
        for level, record in enumerate(drawn.to_dict("records")):
            _outcome_bar(axes, level, record)
        _share_axis(axes, len(drawn))
        axes.set_yticks(range(len(drawn)), [shown(label, limit=24) for label in drawn["loss"]], fontsize=9)
        for tick in axes.get_yticklabels():
            tick.set_color(INK)
        _outcome_legend(figure, drawn)
    return figure


def _outcome_bar(axes: Axes, level: int, record: Mapping[Any, Any]) -> None:
    start = 0.0
    for name in SHARE_ORDER:
        share = float(record[name])
        if not share > 0:
            continue
        colour, hatch, _ = segment_look(name)
        axes.barh(level, share, left=start, height=0.66, color=colour, edgecolor="white", linewidth=0.8)
        if hatch:
            axes.add_patch(hatched_box((start, level - 0.33), share, 0.66, hatch=hatch, colour=PARTIAL_INK))
        if share >= 0.06:
            box = {"facecolor": colour, "edgecolor": "none", "pad": 1.0} if hatch else None
            text = f"{100 * share:.0f} %"
            spot = start + share / 2
            axes.text(spot, level, text, ha="center", va="center", fontsize=7.5, color=ink_on(colour), bbox=box)
        start += share
    low, high = record["success_low"], record["success_high"]
    if isinstance(low, float) and isinstance(high, float) and math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [level + 0.42] * 2, color=INK, linewidth=1.6, solid_capstyle="butt")
        for end in (low, high):
            axes.plot([end] * 2, [level + 0.36, level + 0.48], color=INK, linewidth=1.2)


def _share_axis(axes: Axes, rows: int) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _outcome_legend(figure: Figure, drawn: pd.DataFrame) -> None:
    present = [name for name in SHARE_ORDER if (drawn[name] > 0).any()]
    patches = []
    for name in present:
        colour, hatch, word = segment_look(name)
        patches.append(hatched_box((0, 0), 1, 1, hatch=hatch, colour=PARTIAL_INK, face=colour))
        patches[-1].set_label(word)
    figure.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(166 / WIDTH, 1 - 4 * PIXEL / figure.get_size_inches()[1]),
        ncols=len(SHARE_ORDER),
        frameon=False,
        fontsize=8,
        handlelength=1.1,
        handleheight=1.0,
        columnspacing=1.3,
        labelcolor=SOFT,
    )


def forest(contrasts: pd.DataFrame, *, delta: float) -> Figure:
    """Differences of the success share: dot, thick 95 % interval, thin simultaneous interval, band of +-delta."""
    drawn = contrasts.dropna(subset=["difference", "low", "high"]) if len(contrasts) else contrasts
    if drawn.empty:
        return empty_figure("fewer than two losses with judged runs: nothing to compare")
    row, top = 26.0, 30.0
    with style():
        figure = new_figure(height=top + row * len(drawn) + 40)
        axes = place(
            figure, left=_FOREST_LEFT, top=top, width=WIDTH - _FOREST_LEFT - _FOREST_RIGHT, height=row * len(drawn)
        )
        bound = max(0.25, float(drawn[["low", "high"]].abs().to_numpy().max()) * 1.06)
        axes.axvspan(-delta, delta, color="#eef1f4", linewidth=0, zorder=0)
        axes.axvline(0, color=SOFT, linewidth=0.8, zorder=1)
        for level, record in enumerate(drawn.to_dict("records")):
            _forest_row(axes, level, record)
        axes.set_xlim(-bound, bound)
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        labels = [
            f"{shown(a, limit=17)} {MINUS} {shown(b, limit=17)}"
            for a, b in zip(drawn["loss_a"], drawn["loss_b"], strict=True)
        ]
        axes.set_yticks(range(len(drawn)), labels, fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}".replace("+0", "0").replace("-", MINUS))
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("difference of the success share, percentage points", fontsize=7.5, loc="left")
        height = figure.get_size_inches()[1] / PIXEL
        figure.text(_FOREST_LEFT / WIDTH, 1 - 16 / height, "◂ second succeeds more", fontsize=7.5, color=SOFT)
        figure.text(
            1 - _FOREST_RIGHT / WIDTH, 1 - 16 / height, "first succeeds more ▸", fontsize=7.5, color=SOFT, ha="right"
        )
    return figure


def _forest_row(axes: Axes, level: int, record: Mapping[Any, Any]) -> None:
    low, high, middle = (float(record[name]) for name in ("low", "high", "difference"))
    decided = bool(record.get("winner"))
    colour = ACCENT if decided else "#7b8791"
    axes.plot([low, high], [level, level], color=colour, linewidth=1.0, zorder=2)
    inner = [float(record.get(name, math.nan)) for name in ("low_95", "high_95")]
    if all(map(math.isfinite, inner)):
        axes.plot(inner, [level, level], color=colour, linewidth=3.4, solid_capstyle="butt", zorder=3)
    axes.plot([middle], [level], marker="o", markersize=6, color=colour, markeredgecolor="white", zorder=4)
    verdict = axes.annotate(
        "",
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=INK if decided else SOFT,
    )
    for limit in (18, 15, 12, 9, 6):  # wide letters leave less room for the name
        verdict.set_text(short_verdict(record, limit=limit))
        if verdict.get_window_extent().x1 <= axes.figure.bbox.width:
            break
