"""The phase diagram of one loss as rectangles, each of which leads to its cell on the same page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from analysis.figures_style import OUTCOMES, PARTIAL, SUCCESS_MAP, ink_on
from analysis.loss_facts import setting_text
from analysis.wording import DASH, number_text, rate_text

Row = Mapping[Any, Any]


@dataclass(frozen=True, kw_only=True)
class PhaseMap:
    """Rectangles of the map in CSS pixels, and its axes' texts with their places."""

    width: float
    height: float
    boxes: list[dict[str, Any]]
    rates: list[tuple[float, str]]
    ks: list[tuple[float, str]]


def phase_map(cells: pd.DataFrame) -> PhaseMap:
    """k upwards, learning rates to the right; the cells' numbers are their links."""
    rates, ks = (sorted(cells[name].unique(), key=lambda v: (math.isnan(v), v)) for name in ("learning_rate", "k"))
    wide, tall, left, top = min(960 / len(rates), 124.0), 52.0, 44.0, 4.0
    boxes = []
    for number, row in zip(cells.index, cells.to_dict("records"), strict=True):
        x, y = left + wide * _at(rates, row["learning_rate"]), top + tall * (len(ks) - 1 - _at(ks, row["k"]))
        boxes.append({"number": number, "x": x, "y": y, "width": wide, "height": tall, **_box(row, wide)})
    return PhaseMap(
        width=left + wide * len(rates) + 2,
        height=top + tall * len(ks) + 24,
        boxes=boxes,
        rates=[(left + wide * (i + 0.5), rate_text(rate)) for i, rate in enumerate(rates)],
        ks=[(top + tall * (len(ks) - i - 0.5), number_text(k)) for i, k in enumerate(ks)],
    )


def _at(values: Sequence[float], value: float) -> int:
    return next(i for i, other in enumerate(values) if other == value or (math.isnan(other) and math.isnan(value)))


def _box(row: Row, wide: float) -> dict[str, Any]:
    fill = "#ffffff" if math.isnan(row["share"]) else to_hex(SUCCESS_MAP(row["share"]))
    outcome, kind = row["modal_failure"], row["modal_kind"]
    word = "" if outcome not in OUTCOMES else "partial" if kind == PARTIAL else OUTCOMES[outcome].short
    return {
        "fill": fill,
        "ink": "#ffffff" if ink_on(fill) == "white" else ink_on(fill),
        "text": f"{int(row['converged'])}/{int(row['judged'])}" if row["judged"] else DASH,
        "failure": word if wide >= 56 else word[:4],
        "undecided": bool(row["undecided"]),
        "title": f"{setting_text(row)}: {row['outcomes']}",
    }
