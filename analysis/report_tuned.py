"""The section on tuned settings: figure, rows of its tables, what they mean, which commands would settle more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.cautions_tuned import outermost
from analysis.compare import ALPHA, DELTA
from analysis.drawn import Drawn
from analysis.figures_cells import rate_factor
from analysis.figures_landscape import is_gridded, landscape_figure
from analysis.figures_tuned import tuned_figure
from analysis.frames import StudyFrames
from analysis.headline_tuned import setting_text
from analysis.landscape import landscape_table, selected_places
from analysis.tuned import LOTTERY_RUNS
from analysis.wording import counted, listed, p_text, percent, percent_range, points, short_verdict

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[Any, Any]

CONDITIONAL = "conditional on the settings that were selected: searching again may select others"


def draw_tuned(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """The figure of the tuned settings; none where none was confirmed."""
    if "tuned" not in tables or not len(tables["tuned"]):
        return
    table = _ordered(tables)
    low, high = int(table["runs_used"].min()), int(table["runs_used"].max())
    tried = sorted(set(table["settings"].astype(int)))
    searched = f"{tried[0]}" if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
    yield Drawn(
        name="tuned",
        figure=tuned_figure(table, tables["tuned_space"]),
        tables={"tuned": table, "tuned_space": tables["tuned_space"]},
        alt="Success and unstable share of each loss at its selected setting under fresh seeds, and where it sits",
        caption=(
            f"The setting that each loss's search selected from {searched}, trained again under fresh seeds: "
            f"n = {low if low == high else f'{low} to {high}'} judged runs per loss, 95 % Wilson intervals. Diamond: "
            "what the search alone could promise, selected on all its replicates but one and scored on that one; "
            "cross: the share it saw there, which selection inflates. "
            + ("Right: where the learning rate sits; a triangle is at the edge. " if _has_rates(tables) else "")
            + f"Inference target: the selected setting, uncertainty over seeds ({CONDITIONAL})."
        ),
    )


def draw_landscape(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """Success over learning rate and penalty weight (or k); none where a grid has no second factor to show."""
    table = landscape_table(frames, tables["losses"])
    if not len(table):
        return
    selected = selected_places(tables["tuned"], table) if "tuned" in tables else {}
    drawn = [label for label, own in table.groupby("loss") if not is_gridded(own)]
    how = (
        "Contours at a quarter, a half and three quarters: kernel mean of the settings' shares (Gaussian, Scott's "
        "width per axis, blank beyond two widths of every setting), a guide for the eye without an interval. "
        if drawn
        else "Fill and text: converged/judged, settings that differ in other factors pooled. "
    )
    sampled = "An adaptive sampler chose where to look. " if frames.adaptive else ""
    name = (rate_factor(frames.runs) or "learning_rate").replace("_", " ")
    yield Drawn(
        name="landscape",
        figure=landscape_figure(table, selected, rate_name=name),
        tables={"landscape": table},
        alt="Share of converged runs over the learning rate and the penalty weight or k, one panel per loss",
        caption=(
            f"Success over two factors at once. {how}{sampled}n = {int(table['judged'].sum())} judged runs at "
            f"{int(table['settings'].sum())} settings. Inference target: each setting by itself."
        ),
    )


def _has_rates(tables: Tables) -> bool:
    return bool(tables["tuned_space"]["factor"].str.endswith("learning_rate").any())


def _ordered(tables: Tables) -> pd.DataFrame:
    """``tuned`` with the highest success first."""
    return tables["tuned"].sort_values("tuned", ascending=False, kind="stable", na_position="last", ignore_index=True)


def tuned_rows(tables: Tables) -> list[dict[str, Any]]:
    """One row per confirmed loss as text, highest tuned success first; none without a confirming phase."""
    if "tuned" not in tables:
        return []
    edges = outermost(tables["tuned_space"])
    rows = _ordered(tables).to_dict("records")
    return [_row(row, set(edges.loc[edges["loss"] == row["loss"], "factor"])) for row in rows]


def _row(row: Row, at_edge: set[str]) -> dict[str, Any]:
    lost = int(row["runs_failed"])
    return {
        "loss": row["loss"],
        "setting": setting_text(row),
        "edge": f"edge of {listed([name.replace('_', ' ') for name in sorted(at_edge)])}" if at_edge else "",
        "settings": int(row["settings"]),
        "tuned": _interval(row, "tuned"),
        "unstable": _interval(row, "unstable"),
        "runs": f"{int(row['converged'])}/{int(row['runs_used'])}" + (f", {lost} lost" if lost else ""),
        "lottery": percent(row["failure_in_five"]),
        "lottery_order": -1.0 if math.isnan(row["failure_in_five"]) else row["failure_in_five"],
        "lottery_range": percent_range(row["failure_in_five_low"], row["failure_in_five_high"]),
        "explored": percent(row["explored"]),
        "explored_order": -1.0 if math.isnan(row["explored"]) else row["explored"],
        "naive": f"{percent(row['explored_naive'])} seen in {int(row['explored_runs'])}",
    }


def _interval(row: Row, name: str) -> dict[str, Any]:
    known = not math.isnan(row[name])
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    value = row[name] if known else 0.0
    text, limits = percent(row[name]), percent_range(low, high)
    return {"known": known, "value": value, "low": low, "high": high, "text": text, "range": limits}


def tuned_pair_rows(tables: Tables) -> list[dict[str, Any]]:
    """Every pair of confirmed losses as text, in the study's order."""
    if "tuned_contrasts" not in tables:
        return []
    return [
        {
            "first": row["loss_a"],
            "second": row["loss_b"],
            "order": 0.0 if math.isnan(row["difference"]) else row["difference"],
            "difference": points(row["difference"]),
            "single": f"{points(row['low_95'])} to {points(row['high_95'])}",
            "joint": f"{points(row['low'])} to {points(row['high'])}",
            "p_exact": p_text(row["p_exact"]),
            "p_holm": p_text(row["p_holm"]),
            "verdict": short_verdict(row),
            "unstable": "" if "stable" in row["verdict"] else row["unstable_verdict"],
            "decided": bool(row["winner"]),
            "needed": f"about {int(row['seeds_needed'])}" if not pd.isna(row["seeds_needed"]) else row["seeds_note"],
            "needed_order": "" if pd.isna(row["seeds_needed"]) else int(row["seeds_needed"]),
        }
        for row in tables["tuned_contrasts"].to_dict("records")
    ]


def tuned_terms(tables: Tables) -> list[tuple[str, str]]:
    """What these numbers are, for the report's methods."""
    if "tuned" not in tables:
        return []
    pairs = max(1, len(tables["tuned_contrasts"]))
    return [
        (
            "Tuned, fresh seeds",
            "P(converged) at the one setting that each loss's search selected, from replicates that took no part in "
            f"selecting it and enter no other number of this report. 95 % Wilson interval, {CONDITIONAL}. A failure "
            f"in {LOTTERY_RUNS} runs: 1 - S*^{LOTTERY_RUNS}, with the interval's ends turned.",
        ),
        (
            "Tuned differences",
            "Newcombe's hybrid score method, simultaneous over "
            f"{counted(pairs, 'pair')} (Bonferroni, level {ALPHA / pairs:.3g}); Fisher's exact test, Holm over the "
            f"pairs; verdicts with delta = {100 * DELTA:.0f} points, lost runs at their worst; never mixed with the "
            "differences over the space.",
        ),
    ]
