"""Phase diagrams over (learning rate, k): one panel per loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures_style import (
    FAINT,
    INK,
    OUTCOMES,
    PARTIAL,
    SOFT,
    SUCCESS_MAP,
    WIDTH,
    empty_figure,
    hatched_box,
    in_order,
    ink_on,
    new_figure,
    panels_across,
    place,
    style,
)
from analysis.wording import DASH, number_text, rate_text, shown

Row = Mapping[Any, Any]
_DARK_HATCH, _LIGHT_HATCH = "#1d232947", "#ffffff80"


@dataclass(frozen=True)
class Hotspot:
    """Where one cell of a phase diagram lies, in shares of the figure from its upper left corner."""

    row: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class _Layout:
    """Where the panels go, in CSS pixels; ``rates`` are the columns of a panel and ``ks`` its rows from below."""

    losses: Sequence[str]
    rates: Sequence[float]
    ks: Sequence[float]

    left, gap, top = 34.0, 40.0, 74.0

    @property
    def across(self) -> int:
        return panels_across(len(self.losses), most=3 if len(self.rates) <= 5 else 2 if len(self.rates) <= 8 else 1)

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of one cell."""
        room = (WIDTH - self.left - 8 - self.gap * (self.across - 1)) / self.across
        return min(room / len(self.rates), 110.0), 40.0

    @property
    def panel(self) -> tuple[float, float]:
        """Width and height of one panel."""
        return self.cell[0] * len(self.rates), self.cell[1] * len(self.ks)

    @property
    def height(self) -> float:
        return self.top + (self.panel[1] + 66.0) * math.ceil(len(self.losses) / self.across) - 24.0

    def corner(self, panel: int) -> tuple[float, float]:
        """Upper left corner of a panel."""
        row, column = divmod(panel, self.across)
        return self.left + column * (self.panel[0] + self.gap), self.top + row * (self.panel[1] + 66.0)

    def position(self, row: Row) -> tuple[int, int]:
        """Column and level of a cell within its panel."""
        return _index(self.rates, row["learning_rate"]), _index(self.ks, row["k"])

    def hotspot(self, number: int, panel: int, row: Row) -> Hotspot:
        """The cell's place in shares of the figure."""
        (x, y), (wide, tall), (column, level) = self.corner(panel), self.cell, self.position(row)
        below = len(self.ks) - 1 - level
        left, top = (x + wide * column) / WIDTH, (y + tall * below) / self.height
        return Hotspot(number, left, top, wide / WIDTH, tall / self.height)


def phase_diagrams(table: pd.DataFrame, *, rate_name: str = "learning rate") -> tuple[Figure, tuple[Hotspot, ...]]:
    """One panel per loss: fill P(converged), text converged/judged and the commonest failure, hatched if undecided."""
    if table.empty:
        return empty_figure("no runs yet: nothing to map"), ()
    rates, ks = (sorted(table[name].unique(), key=lambda v: (math.isnan(v), v)) for name in ("learning_rate", "k"))
    layout = _Layout(in_order(table["loss"]), rates, ks)
    spots: list[Hotspot] = []
    with style():
        figure = new_figure(height=layout.height)
        _phase_legend(figure)
        for i, loss in enumerate(layout.losses):
            (x, y), (width, height) = layout.corner(i), layout.panel
            axes = place(figure, left=x, top=y, width=width, height=height)
            rows = table[table["loss"] == loss]
            for number, row in zip(rows.index, rows.to_dict("records"), strict=True):
                _phase_cell(axes, *layout.position(row), row, layout.cell[0])
                spots.append(layout.hotspot(int(number), i, row))
            lowest = i + layout.across >= len(layout.losses)
            _phase_axes(axes, loss, rates, ks, rate_name if lowest else "")
    return figure, tuple(spots)


def _index(values: Sequence[float], value: float) -> int:
    return next(i for i, other in enumerate(values) if other == value or (math.isnan(other) and math.isnan(value)))


def _phase_cell(axes: Axes, column: int, level: int, row: Row, pixels: float) -> None:
    judged, converged, share = row["judged"], row["converged"], row["share"]
    fill = "#ffffff" if math.isnan(share) else to_hex(SUCCESS_MAP(share))
    ink = ink_on(fill)
    axes.add_patch(Rectangle((column, level), 1, 1, facecolor=fill, edgecolor="none"))
    if row["undecided"]:
        colour = _LIGHT_HATCH if ink == "white" else _DARK_HATCH
        axes.add_patch(hatched_box((column, level), 1, 1, hatch="////", colour=colour))
    axes.add_patch(Rectangle((column, level), 1, 1, facecolor="none", edgecolor="white", linewidth=1.6))
    text = f"{converged}/{judged}" if judged else DASH
    failure = _failure_word(row, pixels)
    halo = {"facecolor": fill, "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
    shift = 0.17 if failure else 0.0
    size = 9.0 if pixels >= 46 else 7.5
    axes.text(
        column + 0.5,
        level + 0.5 + shift,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=ink,
        bbox=halo,
        weight="bold",
    )
    if failure:
        axes.text(
            column + 0.5, level + 0.5 - 0.22, failure, ha="center", va="center", fontsize=6.6, color=ink, bbox=halo
        )


def _failure_word(row: Row, pixels: float) -> str:
    outcome, kind = row["modal_failure"], row["modal_kind"]
    if outcome not in OUTCOMES:
        return ""
    word = "partial" if kind == PARTIAL else OUTCOMES[outcome].short
    return word if pixels >= 42 else word[:4]


def _phase_axes(axes: Axes, loss: str, rates: Sequence[float], ks: Sequence[float], rate_name: str) -> None:
    axes.set_xlim(0, len(rates))
    axes.set_ylim(0, len(ks))
    axes.set_xticks([i + 0.5 for i in range(len(rates))], [rate_text(v) for v in rates], fontsize=7.5)
    axes.set_yticks([i + 0.5 for i in range(len(ks))], [number_text(v) for v in ks], fontsize=7.5)
    axes.tick_params(length=0)
    axes.set_facecolor("#f1f3f5")  # a cell of the grid that was never planned stays grey
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)
    axes.set_title(shown(loss), loc="left", fontsize=9.5, weight="bold", color=INK, pad=6)
    axes.annotate(
        "k", (0, 1), xytext=(-12, 8), xycoords="axes fraction", textcoords="offset points", fontsize=7.5, color=SOFT
    )
    if rate_name:
        axes.set_xlabel(rate_name, fontsize=7.5, loc="left", labelpad=3)


def _phase_legend(figure: Figure) -> None:
    axes = place(figure, left=34, top=18, width=150, height=9)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), SUCCESS_MAP), cax=axes, orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.outline.set_edgecolor(FAINT)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")
    axes.set_xticklabels(["0", "½", "1"], fontsize=7.5)
    axes.set_title("P(converged)", loc="left", fontsize=7.5, color=SOFT, pad=4)
    hatched = hatched_box((0, 0), 1, 1, hatch="////", colour=_DARK_HATCH, face="#eaf4f0")
    figure.legend(
        [hatched],
        ["undecided: the interval holds ½"],
        loc="upper left",
        bbox_to_anchor=(210 / WIDTH, 1 - 8 / (figure.get_size_inches()[1] * 96)),
        frameon=False,
        fontsize=7.5,
        labelcolor=SOFT,
    )
