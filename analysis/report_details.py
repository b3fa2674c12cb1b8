"""Where losses differ, how single runs shake, what steps cost, what a shorter budget shows: figures, rows and words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.compare import ALPHA, by_success
from analysis.cost import cost_words, costs_differ
from analysis.differences import difference_map
from analysis.drawn import Drawn
from analysis.figures_cells import rate_factor
from analysis.figures_cost import cost_figure
from analysis.figures_differences import difference_figure
from analysis.figures_shake import MOST_POINTS, shake_figure
from analysis.frames import StudyFrames
from analysis.report_text import TARGETS
from analysis.verdicts import cell_p
from analysis.weights import inference_target
from analysis.wording import percent, percent_range

Tables = Mapping[str, pd.DataFrame]


def draw_details(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """The figures that the study can fill."""
    order = by_success(tables["losses"])
    if costs_differ(tables["cost"]):
        yield _cost(tables["cost"], order, len(frames.runs))
    if len(tables["shake"]):
        yield _shake(frames, tables, order)
    if tables["cells_differences"]["difference"].notna().any():
        yield _differences(frames, tables["cells_differences"], order)


def _rate_name(frames: StudyFrames) -> str:
    return (rate_factor(frames.runs) or "learning_rate").replace("_", " ")


def _cost(table: pd.DataFrame, order: list[str], runs: int) -> Drawn:
    return Drawn(
        name="cost",
        figure=cost_figure(table, order),
        tables={"cost": table},
        alt="Share of runs that have converged for good, by generator steps and by gradient evaluations",
        caption=(
            "Success over steps and over their cost: a generator step costs 1 + k gradient evaluations, 1 + 2k where a "
            "penalty pays a double backward. Each axis ends where the study's shortest run on it ends; runs are judged "
            "by their whole history. Cumulative incidence with failures as never (Aalen and Johansen; the declared "
            "weights). Bars: 95 % interval at the end, Wilson at the effective number of runs. "
            f"n = {runs} runs. Inference target: {TARGETS['grid']}."
        ),
    )


def _shake(frames: StudyFrames, tables: Tables, order: list[str]) -> Drawn:
    cells, runs = tables["shake"], tables["shake_runs"]
    used, few = int(cells["runs"].sum()), len(runs) <= MOST_POINTS
    losses = [label for label in order if label in set(cells["loss"])]
    low, high = int(cells["runs"].min()), int(cells["runs"].max())
    counted = f"{low}" if low == high else f"{low} to {high}"
    return Drawn(
        name="shake",
        figure=shake_figure(cells, runs, losses, rate_name=_rate_name(frames)),
        tables={"shake": cells, "shake_runs": runs},
        alt="Shake of single runs over the learning rate, one panel per loss and one line per k",
        caption=(
            "How much one run shakes: interquartile range of its distance u over the late part of its evaluations, "
            f"after its trend (Theil and Sen) is taken off; lower is calmer. {'Points: runs. ' if few else ''}Marker "
            "and bar: median and quartiles of a cell (no confidence interval). Runs that diverged, collapsed or never "
            "learned rank last: their share stands above, and a median that they reach is a triangle at the top. "
            f"n = {used} judged runs, {counted} per cell. Inference target: each cell by itself."
        ),
    )


def _differences(frames: StudyFrames, table: pd.DataFrame, order: list[str]) -> Drawn:
    held = set(table["loss_a"]) | set(table["loss_b"])
    leader, *rivals = (label for label in order if label in held)
    cells = difference_map(frames, table, leader)
    own = table[(table["loss_a"] == leader) | (table["loss_b"] == leader)]
    return Drawn(
        name="differences",
        figure=difference_figure(cells, rivals, leader=leader, rate_name=_rate_name(frames)),
        tables={"differences": cells},
        alt="Difference maps of the share of converged runs, the leading loss minus each other one",
        caption=(
            "Where the loss of highest success leads (blue) and where it trails (orange), in points of the share that "
            f"converged. {_test_words(frames, own)} Grey: a setting that the two do not share. "
            f"{_counts_words(own)}. All pairs, with 95 % intervals (Newcombe): cells_differences.csv. "
            "Inference target: each setting by itself, uncertainty over seeds."
        ),
    )


def _test_words(frames: StudyFrames, own: pd.DataFrame) -> str:
    if inference_target(frames) == "sweeps":
        return "Settings share seeds, so no setting is tested by itself."
    words = "Outlined: beyond chance (exact test, Holm over the settings of the pair)."
    settings = own[own["p_exact"].notna()].groupby(["loss_a", "loss_b"]).size()
    a, b = int(own["runs_a"].max()), int(own["runs_b"].max())
    if len(settings) and a and b and cell_p(a, a, 0, b) * int(settings.min()) > ALPHA:
        words += " With so few replicates not even all against none would be outlined."
    return words


def _counts_words(own: pd.DataFrame) -> str:
    counts = pd.concat([own["runs_a"], own["runs_b"]]).astype(int)
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low if low == high else f'{low} to {high}'} judged runs per loss and setting"


def cost_sentence(tables: Tables) -> str:
    """Whether the order of the losses hangs on the axis of cost."""
    return cost_words(tables["cost"])


def horizon_rows(tables: Tables) -> tuple[list[str], list[dict[str, Any]]]:
    """Heads of the shares of the budget, and per loss, best first, its success at each with the 95 % interval."""
    table = tables["horizons"]
    if not len(table):
        return [], []
    fractions = list(dict.fromkeys(table["fraction"]))
    by_loss = {loss: rows.set_index("fraction") for loss, rows in table.groupby("loss", sort=False)}
    rows = []
    for loss in by_success(tables["losses"]):
        own = by_loss[loss]
        slow = float(own.loc[fractions[-1], "under_trained"])
        cells = [_horizon_cell(own.loc[fraction]) for fraction in fractions]
        rows.append({"loss": loss, "cells": cells, "slow": percent(slow), "slow_order": _order(slow)})
    return [_fraction_words(fraction) for fraction in fractions], rows


def _fraction_words(fraction: float) -> str:
    return {0.5: "Half of the budget", 0.75: "Three quarters", 1.0: "All of it"}.get(fraction, percent(fraction))


def _horizon_cell(row: pd.Series) -> dict[str, Any]:
    value = float(row["success"])
    limits = percent_range(float(row["low"]), float(row["high"]))
    return {"text": percent(value), "range": limits, "order": _order(value)}


def _order(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def detail_terms(tables: Tables) -> list[tuple[str, str]]:
    """What these numbers are, for the report's methods."""
    if not len(tables["profile"]):
        return []
    return [
        (
            "Differences by setting",
            "settings matched as in the differences of the losses; exact test of each, two-sided by the distance from "
            "the expected count (Fisher's where both have as many runs), Holm over the settings of a pair; 95 % by "
            "Newcombe's hybrid score method, not simultaneous. Settings that differ in both directions are a crossing.",
        ),
        (
            "Shake",
            "interquartile range of u over the late evaluations after the Theil-Sen line is taken off; drawdown: the "
            "largest rise of u above its best so far, from the end of the first window that would pass as converged. "
            "Runs that diverged, collapsed or never learned (for drawdown also those never good) rank last, as "
            "infinite (after Chan et al. 2020).",
        ),
        (
            "Equal cost",
            "a generator step costs 1 + k (1 + penalised) gradient evaluations, twice as many with extragradient and "
            "three times with consensus updates; shares are compared where the cheapest runs end.",
        ),
        (
            "Shorter budgets",
            "every run judged again on the first half and the first three quarters of its evaluations, by the same "
            "criteria; shown where a loss has more than 10 % of its runs under-trained.",
        ),
    ]
