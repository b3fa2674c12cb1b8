"""Figures of how far the findings carry: where the variance lies, and the lead under other criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures_style import ACCENT, FAINT, INK, SOFT, WIDTH, in_order, ink_on, new_figure, place, style
from analysis.variance import SEED_NOISE
from analysis.wording import number_text, percent, points, shown

LEAD_MAP = LinearSegmentedColormap.from_list("lead", ["#b35806", "#f1a340", "#f7f7f7", "#7fb2d5", "#0b5c8a"])
"""Behind (orange) to ahead (blue) by up to LEAD_LIMIT; colour-blind eyes tell them apart."""

LEAD_LIMIT = 0.6
TIMES = "\u00d7"
LEAD_COLUMNS = ("variant", "u_converged", "coverage_converged", "coverage_collapsed", "own", "rival", "lead", "winner")


def variance_figure(table: pd.DataFrame) -> Figure:
    """Share of the variance of success that each factor, each interaction and the seed explain, as bars."""
    drawn = table.dropna(subset=["share"])
    row, top, left = 21.0, 10.0, 222.0
    with style():
        figure = new_figure(height=top + row * len(drawn) + 14)
        axes = place(figure, left=left, top=top, width=WIDTH - left - 70, height=row * len(drawn))
        shares = drawn["share"].to_numpy(dtype=float)
        colours = ["#8b949c" if term == SEED_NOISE else ACCENT for term in drawn["term"]]
        axes.barh(range(len(drawn)), shares, height=0.62, color=colours)
        for level, share in enumerate(shares):
            axes.text(share + 0.008, level, percent(float(share)), va="center", fontsize=8, color=INK)
        names = [shown(term, limit=40).replace("_", " ").replace(" x ", f" {TIMES} ") for term in drawn["term"]]
        axes.set_yticks(range(len(drawn)), names, fontsize=8.5)
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlim(0, max(0.2, float(shares.max())))
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
    return figure


def lead_table(leader: str, variants: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The lead of ``leader`` over each other loss under each criteria variant, columns LEAD_COLUMNS."""
    first, second = pairs["loss_a"] == leader, pairs["loss_b"] == leader
    own = pairs[first | second]
    sign = np.where(own["loss_a"] == leader, 1.0, -1.0)
    rival = own["loss_b"].where(own["loss_a"] == leader, own["loss_a"])
    found = own[["variant", "winner"]].assign(rival=rival, lead=sign * own["difference"].astype(float))
    settings = variants[["variant", "u_converged", "coverage_converged", "coverage_collapsed", "own"]]
    return found.merge(settings, on="variant", how="left")[list(LEAD_COLUMNS)].reset_index(drop=True)


def multiverse_figure(table: pd.DataFrame, held: Mapping[int, bool], *, leader: str) -> Figure:
    """Heat map: one column per criteria variant, one row per rival; fill is the lead, a dot a verdict with a winner.

    The upper row marks the variants in which the headline's lead holds; the study's own criteria are outlined.
    """
    rivals = in_order(table["rival"])
    variants = table.drop_duplicates("variant").sort_values(["u_converged", "variant"], kind="stable")
    wide, row, left, top = 20.0, 22.0, 150.0, 62.0
    spots = _columns([float(u) for u in variants["u_converged"]])
    with style():
        figure = new_figure(height=top + row * (len(rivals) + 1) + 46)
        width = wide * (spots[-1] + 1)
        axes = place(figure, left=left, top=top, width=width, height=row * (len(rivals) + 1))
        column = {int(v): spot for v, spot in zip(variants["variant"], spots, strict=True)}
        for record in table.to_dict("records"):
            _lead_cell(axes, column[int(record["variant"])], rivals.index(str(record["rival"])) + 1, record, leader)
        for variant, spot in column.items():
            mark = "✓" if held.get(variant) else "·"
            axes.text(spot + 0.5, 0.5, mark, ha="center", va="center", fontsize=9, color=INK)
        _lead_axes(axes, rivals, column, variants)
        _lead_key(figure, left + width + 24, top)
    return figure


def _columns(levels: Sequence[float]) -> list[float]:
    """Where each column begins: groups of equal u stand half a column apart."""
    groups = [sorted(set(levels)).index(level) for level in levels]
    return [i + 0.5 * group for i, group in enumerate(groups)]


def _lead_cell(axes: Axes, x: float, y: int, record: Mapping[object, object], leader: str) -> None:
    lead = float(str(record["lead"]))
    fill = LEAD_MAP(0.5 + 0.5 * float(np.clip(lead / LEAD_LIMIT, -1, 1))) if math.isfinite(lead) else "white"
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.0))
    if record["winner"]:
        marker = "o" if record["winner"] == leader else "x"
        axes.plot([x + 0.5], [y + 0.5], marker=marker, markersize=4, color=ink_on(fill), markeredgewidth=1.2)


def _lead_axes(axes: Axes, rivals: Sequence[str], column: Mapping[int, float], variants: pd.DataFrame) -> None:
    axes.set_xlim(0, max(column.values()) + 1)
    axes.set_ylim(len(rivals) + 1, 0)
    names = ["the lead holds", *(f"over {shown(rival, limit=18)}" for rival in rivals)]
    axes.set_yticks([0.5 + i for i in range(len(names))], names, fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    rows = variants.to_dict("records")
    _brackets(axes, [("u ≤ ", r["u_converged"], column[int(r["variant"])]) for r in rows], -1.62)
    _brackets(axes, [("m ≥ ", r["coverage_converged"], column[int(r["variant"])]) for r in rows], -0.62)
    for record in rows:
        x = column[int(record["variant"])] + 0.5
        text = f"{float(record['coverage_collapsed']):.2g}".lstrip("0")
        axes.text(x, len(rivals) + 1.2, text, ha="center", va="top", fontsize=6.5, color=SOFT)
        if record["own"]:
            axes.add_patch(Rectangle((x - 0.5, 0), 1, len(rivals) + 1, facecolor="none", edgecolor=INK, linewidth=1.4))
    axes.text(0, len(rivals) + 2.0, "collapsed at mode coverage m up to", fontsize=7.5, color=SOFT, ha="left", va="top")


def _brackets(axes: Axes, columns: Sequence[tuple[str, float, float]], y: float) -> None:
    """A line over neighbouring columns of the same value, with the value."""
    start = 0
    for i in range(1, len(columns) + 1):
        if i < len(columns) and columns[i][1] == columns[start][1]:
            continue
        sign, value, x = columns[start]
        end = columns[i - 1][2] + 1
        axes.plot([x + 0.12, end - 0.12], [y + 0.42] * 2, color=FAINT, linewidth=1.2, clip_on=False)
        text = f"{sign}{number_text(float(value))}"
        axes.text((x + end) / 2, y + 0.2, text, ha="center", va="bottom", fontsize=7.5, color=SOFT)
        start = i


def _lead_key(figure: Figure, left: float, top: float) -> None:
    """The scale of the fill, and the two marks."""
    axes = place(figure, left=left, top=top, width=10, height=88)
    axes.imshow(np.linspace(1, 0, 64)[:, None], cmap=LEAD_MAP, aspect="auto", vmin=0, vmax=1)
    axes.set_xticks([])
    marks = [points(LEAD_LIMIT), "0", points(-LEAD_LIMIT)]
    axes.set_yticks([0, 31.5, 63], marks, fontsize=7)
    axes.yaxis.tick_right()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
