"""Success by generator steps and by their price: does the order of the losses hang on the axis?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.estimators import Estimate, difference
from analysis.frames import StudyFrames
from analysis.times import Axis, incidence_table
from analysis.wording import listed, percent, percent_range, points, shown

STEPS: Axis = "generator_steps"
PRICE: Axis = "gradient_evaluations"
COST_COLUMNS: tuple[str, ...] = ("loss", "axis", "time", "share", "low", "high")
MAX_NAMED = 3


def cost_table(frames: StudyFrames, steps: pd.DataFrame | None = None) -> pd.DataFrame:
    """Share of runs that have converged for good by each time, on both axes, columns COST_COLUMNS.

    One generator step costs 1 + k (1 + penalised) gradient evaluations, times what the order of updates takes. Each
    axis ends where the study's shortest run on it ends. ``steps``: the incidence on generator steps, where it is
    known. Labels that lack one axis are left out of both.
    """
    tables = [incidence_table(frames) if steps is None else steps, incidence_table(frames, PRICE)]
    table = pd.concat(tables, ignore_index=True)
    on_both = table.groupby("loss")["axis"].nunique() > 1 if len(table) else pd.Series(dtype=bool)
    kept = (table["event"] == "converged") & table["loss"].isin(list(on_both[on_both].index))
    return table.loc[kept, list(COST_COLUMNS)].reset_index(drop=True)


def costs_differ(table: pd.DataFrame) -> bool:
    """Whether the axes say different things: not where every step of the study costs the same."""
    steps, price = (table.loc[table["axis"] == axis, "share"].to_numpy(dtype=float) for axis in (STEPS, PRICE))
    return bool(len(steps) and not np.allclose(steps, price))


def ends(table: pd.DataFrame, axis: Axis) -> dict[str, Estimate]:
    """The share of every label at the end of an axis."""
    own = table[table["axis"] == axis]
    last = own[own["time"] == own["time"].max()]
    return {
        str(row["loss"]): Estimate(value=float(row["share"]), low=float(row["low"]), high=float(row["high"]))
        for row in last.to_dict("records")
    }


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Two labels whose order turns: ``ahead`` has the higher success at equal cost, ``behind`` at equal steps.

    ``lead``: ahead minus behind at equal cost, 95 % by Newcombe's hybrid score method.
    """

    ahead: str
    behind: str
    lead: Estimate

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        return self.lead.low > 0

    @property
    def text(self) -> str:
        """Hinge is ahead of ns-r1 (+12 points, 3 to 21)."""
        limits = f"{points(self.lead.low).lstrip('+')} to {points(self.lead.high).lstrip('+')}"
        names = f"{shown(self.ahead)} is ahead of {shown(self.behind)}"
        return f"{names} ({points(self.lead.value)} points, {limits})"


def turns(table: pd.DataFrame) -> list[Turn]:
    """Every pair of labels whose order at equal cost is the other way round than at equal steps; ties turn nothing."""
    if not len(table):
        return []
    steps, price = ends(table, STEPS), ends(table, PRICE)
    found = []
    for a, b in itertools.combinations(steps, 2):
        before, after = steps[a].value - steps[b].value, price[a].value - price[b].value
        if before * after < 0 and min(abs(before), abs(after)) > 1e-9:
            ahead, behind = (a, b) if after > 0 else (b, a)
            found.append(Turn(ahead=ahead, behind=behind, lead=difference(price[ahead], price[behind])))
    return found


def cost_words(table: pd.DataFrame) -> str:
    """Whether the losses come in the same order at equal cost; "" where steps cost the same or one loss is alone."""
    if not costs_differ(table) or table["loss"].nunique() < 2:
        return ""
    price, horizon = ends(table, PRICE), float(table.loc[table["axis"] == PRICE, "time"].max())
    by_then = f"by {horizon:,.0f} gradient evaluations, where the cheapest runs end"
    highest = max(e.value for e in price.values())
    best = [label for label, e in price.items() if e.value >= highest - 1e-12]
    led = ""
    if len(best) == 1 and not math.isnan(highest):
        e = price[best[0]]
        led = f" {shown(best[0])} is highest there, with {percent(e.value)} ({percent_range(e.low, e.high)})."
    turned = turns(table)
    if not turned:
        return f"At equal cost ({by_then}) the losses come in the same order as at equal steps.{led}"
    clear = [turn for turn in turned if turn.shown]
    chance = [turn for turn in turned if not turn.shown]
    parts = [f"At equal cost ({by_then}) the order of the losses differs from that at equal steps.{led}"]
    parts += [f"Beyond chance, {some_turns(clear)}."] * bool(clear)
    parts += [f"Perhaps by chance (the interval holds 0), {some_turns(chance)}."] * bool(chance)
    return " ".join(parts)


def some_turns(found: Sequence[Turn]) -> str:
    """The first of them in words, the others counted."""
    most = MAX_NAMED if len(found) <= MAX_NAMED else MAX_NAMED - 1
    rest = len(found) - most
    return listed([*(turn.text for turn in found[:most]), *([f"{rest} other pairs turn"] if rest > 0 else [])])
