"""The rows of the page's tables as text: leaderboard, pairs, cells with their replicates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import report_text as words
from analysis.commands import seeds_command
from analysis.compare import by_success, rank_intervals
from analysis.figures import SHARE_ORDER, outcome_table, segment_look
from analysis.figures_cells import cell_of
from analysis.figures_style import OUTCOMES
from analysis.frames import StudyFrames
from analysis.loss_names import page_address
from analysis.refusals import refusal
from analysis.wording import (
    DASH,
    MINUS,
    listed,
    number_text,
    p_text,
    percent,
    percent_range,
    points,
    rate_text,
    short_verdict,
    shown,
)

MOST_RUNS_LISTED = 4000
"""Beyond so many runs the page lists cells without their replicates; runs.csv holds them all."""


SHARES: tuple[str, ...] = (
    *("success", "success_low", "success_high"),
    *("unstable", "unstable_low", "unstable_high"),
    "lr_decades",
)
"""What the leaderboard shows as a dash where the design forbids a share over the space."""


def leaderboard(frames: StudyFrames, tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One row per loss, best first."""
    losses = tables["losses"]
    refused = refusal(frames, losses)
    ranks = rank_intervals(losses, tables["contrasts"]).set_index("loss")
    shares = outcome_table(losses).to_dict("records")
    if refused:
        losses, shares = losses.assign(**dict.fromkeys(SHARES, math.nan)), [dict.fromkeys(s, math.nan) for s in shares]
    rows = [
        _board_row(row, share, frames.runs[frames.runs["loss"] == row["loss"]])
        | {
            "rank": DASH
            if refused
            else _span(ranks.loc[row["loss"], "rank_best"], ranks.loc[row["loss"], "rank_worst"])
        }
        for row, share in zip(losses.to_dict("records"), shares, strict=True)
    ]
    order = by_success(losses)
    return sorted(rows, key=lambda row: order.index(row["loss"]))


def _board_row(row: Mapping[Any, Any], share: Mapping[Any, Any], runs: pd.DataFrame) -> dict[str, Any]:
    return {
        "loss": row["loss"],
        "page": page_address(str(row["loss"])),
        "success": _interval(row["success"], row["success_low"], row["success_high"]),
        "unstable": _interval(row["unstable"], row["unstable_low"], row["unstable_high"]),
        "stack": _stack(share),
        "decades": "" if math.isnan(row["lr_decades"]) else f"{row['lr_decades']:.2f}",
        "at_least": bool(row["lr_decades_lower_bound"]),
        "span": f"of {row['span']:.2g}, k = {number_text(row['lr_decades_k'])}",
        "planned": int(row["runs_planned"]),
        "used": int(row["runs_used"]),
        "failed": int(row["runs_failed"]),
        "kinds": words.kinds_text(runs),
    }


def _span(best: Any, worst: Any) -> str:
    return str(best) if best == worst else f"{best} to {worst}"


def _interval(value: float, low: float, high: float) -> dict[str, Any]:
    known = not math.isnan(value)
    return {
        "known": known,
        "value": value if known else 0.0,
        "low": low,
        "high": high,
        "text": percent(value),
        "range": percent_range(low, high) if not (math.isnan(low) or math.isnan(high)) else "",
    }


def _stack(share: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Segments of the small outcome bar: where each starts and how wide it is, in per cent."""
    start, segments = 0.0, []
    for name in SHARE_ORDER:
        width = float(share[name])
        if width > 0:
            colour, hatch, word = segment_look(name)
            title = f"{word} {percent(width)}"
            segments.append(
                {
                    "x": round(100 * start, 2),
                    "width": round(100 * width, 2),
                    "colour": colour,
                    "hatch": hatch,
                    "title": title,
                }
            )
            start += width
    return segments


def pair_rows(contrasts: pd.DataFrame) -> list[dict[str, Any]]:
    """The pairwise table as text; ``better`` is empty where no final distance is known."""
    rows = []
    for row in contrasts.to_dict("records"):
        needed = row["seeds_needed"]
        rows.append(
            {
                "first": row["loss_a"],
                "second": row["loss_b"],
                "order": 0.0 if math.isnan(row["difference"]) else row["difference"],
                "difference": points(row["difference"]),
                "single": f"{points(row['low_95'])} to {points(row['high_95'])}",
                "joint": f"{points(row['low'])} to {points(row['high'])}",
                "p_exact": p_text(row["p_exact"]),
                "p_holm": p_text(row["p_holm"]),
                "better": percent(row["better"]),
                "better_order": -1.0 if math.isnan(row["better"]) else row["better"],
                "better_range": _known_range(row["better"], row["better_low"], row["better_high"]),
                "verdict": short_verdict(row),
                "unstable": "" if "stable" in row["verdict"] else row["unstable_verdict"],
                "decided": bool(row["winner"]),
                "needed": f"about {int(needed)}" if not pd.isna(needed) else row["seeds_note"],
                "needed_order": "" if pd.isna(needed) else int(needed),
                "p_order": "" if math.isnan(row["p_exact"]) else row["p_exact"],
                "holm_order": "" if math.isnan(row["p_holm"]) else row["p_holm"],
                "single_order": "" if math.isnan(row["low_95"]) else row["low_95"],
                "joint_order": "" if math.isnan(row["low"]) else row["low"],
            }
        )
    return rows


def pair_commands(frames: StudyFrames, contrasts: pd.DataFrame) -> list[dict[str, str]]:
    """What would settle the open pairs, one command per number of seeds; none where no command extends the study."""
    rows: dict[int, list[str]] = {}
    for row in contrasts[contrasts["seeds_needed"].notna()].to_dict("records"):
        rows.setdefault(int(row["seeds_needed"]), []).append(f"{shown(row['loss_a'])} {MINUS} {shown(row['loss_b'])}")
    told = [
        {"needed": f"about {needed} more", "pairs": listed(pairs), "command": seeds_command(frames, needed)}
        for needed, pairs in sorted(rows.items())
    ]
    return [row for row in told if row["command"]]


def _known_range(value: float, low: float, high: float) -> str:
    return "" if math.isnan(value) else percent_range(low, high)


def cell_rows(frames: StudyFrames, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of the phase diagrams with every replicate's ending."""
    endings = _endings(frames) if len(frames.runs) <= MOST_RUNS_LISTED else {}
    return [
        {
            "loss": row["loss"],
            "page": page_address(str(row["loss"]), int(number)),
            "k": number_text(row["k"]),
            "rate": rate_text(row["learning_rate"]),
            "share": f"{row['converged']}/{row['judged']}",
            "order": -1.0 if math.isnan(row["share"]) else row["share"],
            "range": f"{percent(row['low'])} to {percent(row['high'])}",
            "low": row["low"],
            "undecided": bool(row["undecided"]),
            "outcomes": row["outcomes"],
            "runs": endings.get((row["loss"], _id(row["k"]), _id(row["learning_rate"])), []),
        }
        for number, row in zip(cells.index, cells.to_dict("records"), strict=True)
    ]


def _id(value: float) -> str:
    return f"{value:.12g}"


def _endings(frames: StudyFrames) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Replicates by (loss, k, learning rate): each with its colour and a line of text."""
    cells = cell_of(frames.runs)
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for (loss, k, rate), run in zip(
        cells[["loss", "k", "learning_rate"]].itertuples(index=False), frames.runs.to_dict("records"), strict=True
    ):
        kind = f" ({shown(run['kind'])})" if run.get("kind") else ""
        event, margin = run.get("t_event", math.nan), run.get("margin", math.nan)
        parts = [f"replicate {run['replicate']}: {run['outcome']}{kind}"]
        parts += [f"event at step {event:.0f}"] if isinstance(event, float) and math.isfinite(event) else []
        parts += [f"margin {margin:.2g}"] if isinstance(margin, float) and math.isfinite(margin) else []
        look = OUTCOMES.get(str(run["outcome"]))
        ending = {"text": ", ".join(parts), "colour": look.colour if look else "#ffffff"}
        found.setdefault((loss, _id(k), _id(rate)), []).append(ending)
    return found
