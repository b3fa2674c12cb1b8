"""What a loss's page says before its cells: the first sentence, how it fails and when, where it breaks, its rivals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import UNUSED
from analysis.compare import rank_intervals
from analysis.figures_style import OUTCOMES
from analysis.ranges import RELIABLE
from analysis.wording import (
    DASH,
    counted,
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

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[Any, Any]
NOWHERE = "nowhere in the range"


def first_sentence(tables: Tables, label: str) -> str:
    """Success, place and unstable share of a loss, each with its interval, from the leaderboard's table."""
    losses = tables["losses"]
    row = _row_of(losses, label)
    name = shown(label, limit=80)
    if math.isnan(row["success"]):
        return f"No run of {name} has been judged yet."
    success = f"{name} ends well in {percent(row['success'])} of runs ({_interval(row, 'success')})"
    unstable = f"it is unstable in {percent(row['unstable'])} ({_interval(row, 'unstable')})"
    return f"{success}{_place(losses, tables['contrasts'], label)}; {unstable}."


def _row_of(table: pd.DataFrame, label: str) -> Row:
    found: Row = table[table["loss"] == label].iloc[0].to_dict()
    return found


def _interval(row: Row, name: str) -> str:
    return percent_range(row[f"{name}_low"], row[f"{name}_high"])


def _place(losses: pd.DataFrame, contrasts: pd.DataFrame, label: str) -> str:
    """Its rank with every place that the comparisons leave open; nothing where it is alone."""
    if len(losses) < 2:
        return ""
    rank = _row_of(rank_intervals(losses, contrasts), label)
    best, worst = int(rank["rank_best"]), int(rank["rank_worst"])
    if best == worst:
        return f", place {best} of {len(losses)}"
    return f", somewhere from place {best} to {worst} of {len(losses)}"


def facts(tables: Tables, label: str, cells: pd.DataFrame, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Best setting, where it breaks, what is certified, tuned success, late collapses: terms and plain sentences.

    ``cells`` are the loss's rows of the phase diagrams' table, ``runs`` its runs.
    """
    rows = [
        ("Best setting", best_setting(cells)),
        ("Where it breaks", breaking(cells)),
        ("Safe zone", _safe(tables["profile"], label)),
        ("After tuning", _tuned(tables["profile"], label)),
        ("Working range", _decades(_row_of(tables["losses"], label))),
        ("Late collapse", late_collapses(runs)),
        ("Runs", _counts(_row_of(tables["losses"], label))),
    ]
    return [(term, text) for term, text in rows if text]


def best_setting(cells: pd.DataFrame) -> str:
    """The highest share that was seen, with its interval, and how many cells share it."""
    judged = cells[cells["judged"] > 0]
    if judged.empty:
        return "no run has been judged yet"
    top = judged[judged["share"] == judged["share"].max()]
    if top["converged"].max() == 0:
        return f"none: no run converged in any of {counted(len(judged), 'cell')}"
    row = top.sort_values("judged", ascending=False, kind="stable").iloc[0].to_dict()
    others = f"; {counted(len(top) - 1, 'other cell')} did as well" if len(top) > 1 else ""
    seen = f"{int(row['converged'])} of {int(row['judged'])} converged ({percent_range(row['low'], row['high'])})"
    chosen = f". The best of {len(judged)} is partly luck: its interval allows for the seeds, not for the choice"
    return f"at {setting_text(row)}: {seen}{others}{chosen if len(judged) > 1 else ''}"


def setting_text(row: Row) -> str:
    """A cell in words: k = 1, learning rate 1e-3; what does not vary at all is left out."""
    k, rate = number_text(row["k"]), rate_text(row["learning_rate"])
    parts = [f"k = {k}" * (k != DASH), f"learning rate {rate}" * (rate != "all")]
    return ", ".join(part for part in parts if part) or "the one cell"


def breaking(cells: pd.DataFrame) -> str:
    """Per k the lowest learning rate at which at least half of the judged runs diverged."""
    if cells["learning_rate"].isna().all():
        return ""
    found = {number_text(k): _first_breaking(own) for k, own in cells.groupby("k", dropna=False, sort=True)}
    told = {k: NOWHERE if math.isnan(rate) else f"from {rate_text(rate)}" for k, rate in found.items()}
    if len(set(told.values())) == 1 and next(iter(told.values())) == NOWHERE:
        return f"{NOWHERE}: no learning rate at which at least half of the runs diverged"
    where = "; ".join(f"at k = {k} {text}" if k != DASH else text for k, text in told.items())
    return f"{where} (the lowest learning rate at which at least half of the runs diverged)"


def _first_breaking(cells: pd.DataFrame) -> float:
    judged = cells["judged"].to_numpy(dtype=float)
    broken = cells.loc[(cells["diverged"] >= 0.5 * judged) & (judged > 0), "learning_rate"].dropna()
    return float(broken.min()) if len(broken) else math.nan


def _safe(profile: pd.DataFrame, label: str) -> str:
    """What the table of zones certifies."""
    if not (len(profile) and (profile["loss"] == label).any()):
        return ""
    row = _row_of(profile, label)
    words = {"certified": "certified", "undecided": "undecided", "ruled_out": "ruled out"}
    zones = listed([f"{int(row[name])} {word}" for name, word in words.items() if row[name] > 0])
    told = f" (of its learning rates and k: {zones})" if zones else ""
    if not row["certified"] > 0:
        return f"none: no learning rate is shown to succeed in at least {percent(RELIABLE)} of runs{told}"
    if math.isnan(row["certified_decades"]):
        return f"single learning rates only{told}"
    low, high = rate_text(row["certified_from"]), rate_text(row["certified_to"])
    where = f"learning rate {low}" if low == high else f"learning rates {low} to {high}"
    return f"{where} at k = {number_text(row['certified_k'])}, {row['certified_decades']:.2g} decades{told}"


def _tuned(profile: pd.DataFrame, label: str) -> str:
    if not (len(profile) and (profile["loss"] == label).any()):
        return ""
    tuned = _row_of(profile, label)["tuned"]
    if math.isnan(tuned):
        return ""
    return f"{percent(tuned)} of runs end well at the setting that the other replicates select (cross-fitted)"


def _decades(row: Row) -> str:
    if math.isnan(row["lr_decades"]):
        return ""
    sign = "at least " if row["lr_decades_lower_bound"] else ""
    k = number_text(row["lr_decades_k"])
    return f"{sign}{row['lr_decades']:.2f} of {row['span']:.2g} decades of learning rate, at k = {k}"


def late_collapses(runs: pd.DataFrame) -> str:
    """How many collapsed runs had converged before."""
    collapsed = runs[runs["outcome"] == "collapsed"]
    late = int((collapsed["kind"] == "late").sum()) if "kind" in collapsed else 0
    if collapsed.empty:
        return "no run collapsed"
    had = "had" if late else "none had"
    return f"{f'{late} of ' if late else 'of '}{counted(len(collapsed), 'collapsed run')} {had} converged before"


def _counts(row: Row) -> str:
    lost = [f"{int(row[name]):,} {word}" for name, word in _LOST.items() if row[name] > 0]
    used = f"{int(row['runs_used']):,} judged of {int(row['runs_planned']):,} planned"
    return used + (f"; {listed(lost)}" if lost else "")


_LOST = {"runs_failed": "failed", "censored": "stopped early"}


def endings(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Outcomes with their kinds, how many, their share of the judged runs, and when they happened (quantiles)."""
    judged = int((~runs["outcome"].isin(list(UNUSED))).sum())
    kinds = runs["kind"].fillna("").astype(str) if "kind" in runs else pd.Series("", runs.index)
    rows = []
    for outcome, look in OUTCOMES.items():
        for kind in sorted(set(kinds[runs["outcome"] == outcome])):
            own = runs[(runs["outcome"] == outcome) & (kinds == kind)]
            share = len(own) / judged if judged and outcome not in UNUSED else math.nan
            rows.append(
                {
                    "word": look.word,
                    "colour": look.colour,
                    "kind": shown(kind).replace("_", " "),
                    "count": len(own),
                    "share": percent(share),
                    "share_order": -1.0 if math.isnan(share) else share,
                    "times": event_quantiles(own),
                }
            )
    return rows


def event_quantiles(runs: pd.DataFrame) -> list[tuple[float, str]]:
    """First decile, median and last decile of the event's step, as number and text; empty where no step is known."""
    events = pd.to_numeric(runs.get("t_event", pd.Series(dtype=float)), errors="coerce").dropna().to_numpy(dtype=float)
    if not len(events):
        return []
    return [(float(q), f"{q:,.0f}") for q in np.quantile(events, [0.1, 0.5, 0.9])]


def rivals(contrasts: pd.DataFrame, label: str) -> list[dict[str, Any]]:
    """The loss minus each other one, in the order of the table of pairs."""
    rows = []
    for pair in contrasts.to_dict("records"):
        if label not in (pair["loss_a"], pair["loss_b"]):
            continue
        first = pair["loss_a"] == label
        ends = [_turned(pair, low, high, first) for low, high in (("low_95", "high_95"), ("low", "high"))]
        difference = pair["difference"] if first else -pair["difference"]
        needed = pair["seeds_needed"]
        rows.append(
            {
                "other": pair["loss_b"] if first else pair["loss_a"],
                "difference": points(difference),
                "order": -math.inf if math.isnan(difference) else difference,
                "single": ends[0],
                "joint": ends[1],
                "p_holm": p_text(pair["p_holm"]),
                "verdict": short_verdict(pair),
                "decided": bool(pair["winner"]),
                "needed": f"about {int(needed)}" if not pd.isna(needed) else pair["seeds_note"],
            }
        )
    return rows


def _turned(pair: Row, low: str, high: str, first: bool) -> str:
    ends = (pair[low], pair[high]) if first else (-pair[high], -pair[low])
    return f"{points(ends[0])} to {points(ends[1])}"


def own_warnings(warnings: Sequence[Row], label: str) -> list[Row]:
    """Those that name the loss: by itself, with a remark in brackets, or in a pair."""
    return [warning for warning in warnings if any(_names(str(text), label) for text in warning["affected"])]


def _names(affected: str, label: str) -> bool:
    return affected == label or affected.startswith((f"{label} (", f"{label} / ")) or affected.endswith(f" / {label}")
