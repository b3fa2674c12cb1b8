"""The profile as text for report.html and report.md: rows of its tables, what they mean, how far the lead carries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.compare import by_success
from analysis.ranges import RELIABLE
from analysis.robustness import Robustness
from analysis.subspaces import WHOLE
from analysis.tuned import LOTTERY_RUNS
from analysis.wording import DASH, counted, number_text, percent, percent_range, rate_text

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[Any, Any]


def profile_rows(tables: Tables) -> list[dict[str, Any]]:
    """One row per loss, in the leaderboard's order: tuned success, seed lottery, time, certified range."""
    profile = tables["profile"]
    if not len(profile):
        return []
    rows = profile.set_index("loss", drop=False).loc[by_success(tables["losses"])].to_dict("records")
    return [_profile_row(row) for row in rows]


def _profile_row(row: Row) -> dict[str, Any]:
    return {
        "loss": row["loss"],
        "tuned": percent(row["tuned"]),
        "tuned_order": _order(row["tuned"]),
        "setting": _setting(row),
        "lottery": "none seen" if row["tuned"] >= 1 else percent(row["failure_in_five"]),
        "lottery_order": _order(row["failure_in_five"]),
        "time": _number(row["mean_time"]),
        "time_order": _order(row["mean_time"]),
        "time_range": _limits(row),
        "certified": _certified(row),
        "certified_order": _order(row["certified_decades"]),
        "zones": _zones(row),
        "icc": DASH if math.isnan(row["icc"]) else f"{row['icc']:.2f}",
        "icc_order": _order(row["icc"]),
    }


def _order(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:,.0f}"


def _limits(row: Row) -> str:
    if math.isnan(row["mean_time"]):
        return ""
    return f"{row['mean_time_low']:,.0f} to {row['mean_time_high']:,.0f}"


def _setting(row: Row) -> str:
    """The selected setting, and how many share the first place."""
    if not row["tuned_key"] or pd.isna(row["tuned_key"]):
        return "nothing converged" if row["tuned_naive"] == 0 else ""
    known = {"k": number_text(row["tuned_k"]), "lr": rate_text(float(row["tuned_learning_rate"]))}
    text = ", ".join(f"{name} = {value}" for name, value in known.items() if value not in (DASH, "all"))
    others = int(row["tuned_ties"]) - 1
    return text + (f", or {counted(others, 'other')}" if others > 0 else "")


def _certified(row: Row) -> str:
    if row["certified"] == 0:
        return "none"
    return "at single rates" if math.isnan(row["certified_decades"]) else f"{row['certified_decades']:.2g}"


def _zones(row: Row) -> str:
    parts = [f"{int(row[name])} {word}" for name, word in _ZONES.items() if row[name] > 0]
    return ", ".join(parts)


_ZONES = {"certified": "certified", "undecided": "undecided", "ruled_out": "ruled out"}


def certify_words(tables: Tables) -> str:
    """What a certified rate is, and whether the study has the seeds for it."""
    profile, losses = tables["profile"], tables["losses"]
    if not len(profile):
        return ""
    needed, cells = int(profile["seeds_to_certify"].max()), int(losses["cells"].sum())
    most = int(losses["runs_planned"].sum()) / cells if cells else 0
    short = f"; with {most:g} per setting nothing can be certified" if most < needed else ""
    return (
        f"Certified is a learning rate whose success is shown to be at least {percent(RELIABLE)} (exact one-sided "
        f"limit of Clopper and Pearson, wrong at most 5 % of the time), for which {needed} seeds without a failure are "
        f"needed{short}"
    )


def horizon_words(tables: Tables) -> str:
    """The horizon that mean times are cut at."""
    known = tables["profile"]["horizon"].dropna() if len(tables["profile"]) else pd.Series(dtype=float)
    return f"{known.min():,.0f}" if len(known) else ""


def space_rows(tables: Tables) -> tuple[list[str], list[dict[str, Any]]]:
    """The parts of the space, and per loss its success in each with the 95 % interval, leaders marked."""
    spaces = tables["spaces"]
    if not len(spaces) or spaces["loss"].nunique() < 2:
        return [], []
    names = list(dict.fromkeys(spaces["space"]))
    if len(names) < 2:
        return [], []
    by_loss = {loss: rows.set_index("space") for loss, rows in spaces.groupby("loss", sort=False)}
    rows = []
    for loss in by_success(tables["losses"]):
        own = by_loss[loss]
        rows.append({"loss": loss, "cells": [_space_cell(own.loc[name]) for name in names]})
    return [name if name != WHOLE else "the whole space" for name in names], rows


def _space_cell(row: pd.Series) -> dict[str, Any]:
    return {
        "text": percent(float(row["success"])),
        "range": percent_range(float(row["low"]), float(row["high"])),
        "order": _order(float(row["success"])),
        "leader": bool(row["leader"]),
    }


def robustness_words(found: Robustness) -> str:
    """In how many variants and parts the lead holds, and what turns where."""
    if not found.leader:
        return "No loss leads alone, so there is no lead to try."
    if not found.counts:
        return "There was nothing to vary: one set of criteria, one part of the space."
    held = f"The lead of {found.leader} holds in {found.counts}."
    chance = [turn.text for turn in found.turns if not turn.shown]
    shown = [turn.text for turn in found.reversals]
    told = f" Beyond chance it turns: {'; '.join(shown)}." if shown else ""
    return (
        held + told + (f" Turned, but perhaps by chance (the interval holds 0): {'; '.join(chance)}." if chance else "")
    )


def method_terms(tables: Tables) -> list[tuple[str, str]]:
    """What the profile's numbers are, for the report's methods."""
    if not len(tables["profile"]):
        return []
    return [
        (
            "Tuned success",
            "cross-fitted: the setting is selected on all replicates but one and scored on that one, averaged over "
            "replicates; no interval, since resampling settings is invalid for a maximum. Failure in "
            f"{LOTTERY_RUNS} runs: 1 - S*^{LOTTERY_RUNS}, an upper bound.",
        ),
        (
            "Mean time",
            "E[min(T, horizon)] in generator steps, T the first sustained convergence and infinite for a run that does "
            "not converge; 95 % interval: Wilson on the scaled mean.",
        ),
        ("Certified", f"{certify_words(tables)}."),
        (
            "Better run",
            "P(A better): chance that a run of the first ends at a smaller distance than one of the second in the same "
            "cell, ties half, diverged and collapsed runs last; exploratory, not corrected over pairs.",
        ),
        (
            "Robustness",
            "criteria variants: u and the collapsing coverage times 0.5, 1 and 1.5, lacking modes times 0.5, 1 and 2, "
            "every run judged again; the lead holds where the loss still leads and its verdicts stay. Sub-spaces: "
            "without the lowest and the highest rates, each k alone, two decades around each loss's own optimum; the "
            "lead holds where no pair with it turns. Intervals of sub-spaces are not corrected over them.",
        ),
    ]
