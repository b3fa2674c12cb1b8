"""The figure of early signs: what tells, at a fifth of the budget, which runs of a setting will end unstable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.early_warning import EVENTS, LANDMARK
from analysis.figures_style import ACCENT, GRID, INK, SOFT, WIDTH, new_figure, place, style
from analysis.wording import counted, listed, p_text, percent, percent_range

SHOWN = EVENTS[0]
MOST = 12
ALPHA = 0.05
GAP = 0.1
"""A pooled sign that is farther than this ahead of the one within settings is the settings' doing."""

_GREY = "#8b949c"
_LEFT, _TOP, _ROW, _SPAN = 198.0, 52.0, 24.0, 334.0
_COLUMNS = {"predicts": 560.0, "p": 700.0, "pairs": 790.0}


def early_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Measurements with something to compare, the strongest sign first; ``sign``, ``least``, ``most``, ``pooled``
    turned so that one half is chance and 1 a sign that is always right.

    None where no measurement could reach p = .05 with so few runs.
    """
    rows = table[(table["event"] == SHOWN) & (table["cells"] > 0)]
    if not len(rows) or rows["p_least"].min() > ALPHA:
        return rows.iloc[:0].assign(sign=[], least=[], most=[], pooled=[])
    down = rows["auc"] < 0.5
    rows = rows.assign(
        sign=rows["auc"].where(~down, 1 - rows["auc"]),
        least=rows["low"].where(~down, 1 - rows["high"]),
        most=rows["high"].where(~down, 1 - rows["low"]),
        pooled=rows["pooled_auc"].where(~down, 1 - rows["pooled_auc"]),
    )
    return rows.sort_values("sign", ascending=False, kind="stable", ignore_index=True)


def measurement_word(name: str) -> str:
    """A measurement's name as text: k-NN recall, generator gradient norm."""
    return name.replace("_", " ").replace("knn ", "k-NN ").replace("mode kl", "mode KL")


def early_words(table: pd.DataFrame) -> str:
    """What the figure shows, in sentences; empty where there is nothing to draw."""
    rows = early_rows(table)
    if not len(rows):
        return ""
    found = rows.to_dict("records")
    if math.isnan(found[0]["p"]):
        reading = "Settings share their seeds here, so that their runs are not independent: no interval, no test."
    else:
        told = [row for row in found if row["p_holm"] <= ALPHA]
        reading = _told(told, len(found)) if told else _untold(found)
    return " ".join(filter(None, [reading, _settings_doing(found)]))


def _told(told: list[dict[Any, Any]], tried: int) -> str:
    best, names = told[0], [measurement_word(str(row["measurement"])) for row in told]
    named = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    limits = percent_range(best["least"], best["most"])
    return (
        f"At {percent(LANDMARK)} of the budget, {listed(named)} {'tells' if len(told) == 1 else 'tell'} which runs of "
        f"the same setting will end unstable: of two that end differently, the unstable one has the {best['predicts']} "
        f"{names[0]} in {percent(best['sign'])} of cases (95 % interval {limits}; Holm p {p_text(best['p_holm'])} over "
        f"{counted(tried, 'measurement')})."
    )


def _untold(found: list[dict[Any, Any]]) -> str:
    best = found[0]
    return (
        f"Nothing measured at {percent(LANDMARK)} of the budget tells which runs of the same setting will end "
        f"unstable: none of {counted(len(found), 'measurement')} is beyond chance (Holm). With "
        f"{counted(int(best['pairs']), 'pair')} in {counted(int(best['cells']), 'setting')} only a strong sign could "
        f"show: {measurement_word(str(best['measurement']))}, the strongest, is right in {percent(best['sign'])} of "
        f"pairs (95 % interval {percent_range(best['least'], best['most'])}; a coin: 50 %)."
    )


def _settings_doing(found: list[dict[Any, Any]]) -> str:
    """The measurement that pooling over settings flatters most, if any."""
    gaps = [(abs(row["pooled_auc"] - 0.5) - _along(row), row) for row in found if not math.isnan(row["pooled_auc"])]
    gap, row = max(gaps, key=lambda pair: pair[0], default=(0.0, {}))
    if gap <= GAP:
        return ""
    return (
        f"Pooled over all settings {measurement_word(str(row['measurement']))} looks like a sign "
        f"({percent(0.5 + abs(row['pooled_auc'] - 0.5))}), but that is the settings' doing: within a setting the same "
        f"rule is right in {percent(0.5 + _along(row))}."
    )


def _along(row: Mapping[Any, Any]) -> float:
    """How far from chance the pooled rule is within settings, negative where it points the other way."""
    return float((row["auc"] - 0.5) * (1 if row["pooled_auc"] > 0.5 else -1))


def early_caption(table: pd.DataFrame) -> str:
    """What is drawn, over which runs, with which interval."""
    rows = early_rows(table)
    if not len(rows):
        return ""
    first = rows.iloc[0]
    tests = f"blue: Holm p up to .05 over {counted(len(rows), 'measurement')} (van Elteren's test). "
    limits = "Bars: 95 % intervals over seeds (Wilson at the effective n of DeLong's variance); "
    drawn = "No interval: settings share seeds. " if math.isnan(first["p"]) else limits + tests
    ended, begun, dead = int(first["at_risk_event"]), int(first["begun"]), int(first["dead"])
    return (
        f"Signs at {percent(LANDMARK)} of the budget. Dot: of two runs of one setting of which one ends unstable "
        "(diverged, collapsed, oscillating, partial collapse), how often the sign names it; settings count by what "
        f"they can tell, n_1 n_0 / (n_1 + n_0 + 1). {drawn}Ring: the same over all runs, so that settings help it; "
        f"none where losses share no scale. {_choice(len(rows))}"
        f"n = {int(first['at_risk'])} runs alive then, {ended} of which end unstable ({begun} had begun to by then); "
        f"{int(first['runs_event'] + first['runs_other'])} of them are in settings with both endings. "
        f"{counted(dead, 'run')} had died before. Inference target: these settings, uncertainty over seeds."
    )


def _choice(measured: int) -> str:
    return f"Drawn: the {MOST} strongest of {measured}. " if measured > MOST else ""


def early_figure(table: pd.DataFrame) -> Figure:
    """How often each measurement, at the landmark, names the run that will end unstable: the twelve strongest.

    A dot with its interval within settings, a ring for all runs pooled, chance as a line.
    """
    rows = early_rows(table).head(MOST)
    tall = _ROW * len(rows)
    with style():
        figure = new_figure(height=_TOP + tall + 42)
        axes = place(figure, left=_LEFT, top=_TOP, width=_SPAN, height=tall)
        for level, row in enumerate(rows.to_dict("records")):
            _sign(axes, level, row)
            _columns(figure, _TOP + _ROW * (level + 0.5), row)
        _early_axes(axes, rows)
        _heads(figure)
        _key(figure)
    return figure


def _sign(axes: Axes, level: int, row: Mapping[Any, Any]) -> None:
    colour = ACCENT if row["p_holm"] <= ALPHA else _GREY
    axes.plot([row["least"], row["most"]], [level] * 2, color=colour, linewidth=3.4, alpha=0.4, solid_capstyle="butt")
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.1}
    axes.plot([row["pooled"]], [level], marker="o", markersize=8, linestyle="", zorder=5, **ring)
    axes.plot([row["sign"]], [level], marker="o", markersize=7, color=colour, markeredgecolor="white", zorder=4)


def _columns(figure: Figure, y: float, row: Mapping[Any, Any]) -> None:
    height = figure.get_size_inches()[1] * 96
    beyond = row["p_holm"] <= ALPHA
    texts = {
        "predicts": (f"{row['predicts']} if unstable" if row["predicts"] else "neither", "left"),
        "p": (p_text(float(row["p_holm"])), "right"),
        "pairs": (f"{int(row['pairs'])} in {int(row['cells'])}", "right"),
    }
    for name, (text, side) in texts.items():
        look: dict[str, Any] = {"ha": side, "va": "center", "color": INK if beyond else SOFT, "fontsize": 8}
        figure.text(_COLUMNS[name] / WIDTH, 1 - y / height, text, **look)


def _early_axes(axes: Axes, rows: pd.DataFrame) -> None:
    outermost = float(rows[["least", "pooled", "sign"]].min().min())
    names = [measurement_word(str(name)) for name in rows["measurement"]]
    axes.axvline(0.5, color=INK, linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(rows)), names, fontsize=8.5, color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(max(-0.02, min(0.23, outermost - 0.04)), 1.02)
    axes.set_xticks([0.25, 0.5, 0.75, 1], ["25 %", "50 % (chance)", "75 %", "100 %"], fontsize=7.5)
    axes.set_xlabel("pairs of runs of one setting in which the sign names the one that ends unstable", fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _heads(figure: Figure) -> None:
    height = figure.get_size_inches()[1] * 96
    heads = {"predicts": ("the number is", "left"), "p": ("Holm p", "right"), "pairs": ("pairs in settings", "right")}
    for name, (text, side) in heads.items():
        look: dict[str, Any] = {"ha": side, "va": "baseline", "color": SOFT, "fontsize": 7.5}
        figure.text(_COLUMNS[name] / WIDTH, 1 - (_TOP - 10) / height, text, **look)


def _key(figure: Figure) -> None:
    ring = {"marker": "o", "linestyle": "", "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 8}
    looks: list[dict[str, Any]] = [
        {"marker": "o", "color": ACCENT, "linewidth": 3.4, "label": "within settings, beyond chance"},
        {"marker": "o", "color": _GREY, "linewidth": 3.4, "label": "within settings, not shown"},
        {**ring, "label": "all settings pooled"},
    ]
    figure.legend(
        handles=[Line2D([], [], **look) for look in looks],
        loc="upper left",
        ncols=3,
        frameon=False,
        fontsize=8,
        borderaxespad=0,
        bbox_to_anchor=(_LEFT / WIDTH - 0.005, 0.985),
    )
