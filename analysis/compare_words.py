"""What a comparison of two studies says in words: the headline, how the grids differ, and what else to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.compare_cells import Pair, cell_ids, own_rows, spanning_factors
from analysis.frames import StudyFrames
from analysis.verdicts import UNDETERMINED
from analysis.weights import inference_target
from analysis.wording import counted, listed, number_text, points, rate_text


def headline_of(first: str, second: str, table: pd.DataFrame, blocked: Sequence[str]) -> str:
    """A few plain sentences: what is shown about each loss, and what is open."""
    if blocked:
        return f"Blocked, so no verdict: {'; '.join(blocked)}."
    rows = table.to_dict("records")
    over = "with a 95 % interval" if len(rows) == 1 else f"with 95 % intervals over all {len(rows)} losses"
    shown_ones = [_shown(row) for row in rows if row["winner"]]
    parts = [f"{listed(shown_ones)}; {over}, {second} minus {first}"] if shown_ones else []
    for kind, words in {
        "equivalent": "equivalent in both studies",
        "crossing": "better in some cells and worse in others",
    }.items():
        names = [str(row["loss"]) for row in rows if row["verdict_kind"] == kind]
        parts += [f"{listed(names)} {'is' if len(names) == 1 else 'are'} {words}"] if names else []
    undetermined = [f"{row['loss']} ({_settle(row)})" for row in rows if row["verdict_kind"] == UNDETERMINED]
    parts += [f"Undetermined: {listed(undetermined)}"] if undetermined else []
    return ". ".join(part[:1].upper() + part[1:] if part.startswith("undetermined") else part for part in parts) + "."


def _shown(row: Mapping[Any, Any]) -> str:
    size = f"{points(row['difference'])} points, {points(row['low'])} to {points(row['high'])}"
    kind = str(row["verdict_kind"])
    told = "detectably but immaterially ahead" if "immaterial" in kind else kind
    return f"{row['loss']} is {told} in {row['winner']} ({size})"


def _settle(row: Mapping[Any, Any]) -> str:
    if not pd.isna(row["seeds_needed"]):
        return f"about {counted(int(row['seeds_needed']), 'more seed')} per setting in each study"
    return str(row["seeds_note"])


def grids_of(pair: Pair, labels: Sequence[str]) -> list[str]:
    """How the grids differ: values of each factor, then cells of each loss; nothing where they agree."""
    varying, lines = spanning_factors(pair), []
    for name in varying:
        values = [_levels(frames, labels, name) for frames in pair]
        if values[0] != values[1]:
            lines.append(
                f"{name}: {_span(name, values[0])} in {pair[0].study}, {_span(name, values[1])} in {pair[1].study}"
            )
    for label in labels:
        ids = [set(cell_ids(own_rows(frames, label), varying)) for frames in pair]
        if ids[0] != ids[1]:
            common = len(ids[0] & ids[1])
            lines.append(
                f"{label}: {counted(common, 'cell')} in common, {len(ids[0]) - common} only in {pair[0].study}, "
                f"{len(ids[1]) - common} only in {pair[1].study}"
            )
    return lines


def _levels(frames: StudyFrames, labels: Sequence[str], name: str) -> list[Any]:
    if name not in frames.runs:
        return []
    values = frames.runs.loc[frames.runs["loss"].isin(list(labels)), name].dropna().unique()
    return sorted(
        {float(f"{v:.12g}") if not isinstance(v, str) else v for v in values}, key=lambda v: (str(type(v)), v)
    )


def _span(name: str, values: Sequence[Any]) -> str:
    if not values:
        return "none"
    told = [rate_text(v) if "learning_rate" in name else number_text(v) for v in values]
    return f"{{{', '.join(told)}}}" if len(told) <= 4 else f"{told[0]} to {told[-1]} ({len(told)} values)"


def remarks_of(pair: Pair) -> list[str]:
    """Runs that both studies have, criteria that differ, and designs whose intervals mean different things."""
    first, second = pair
    remarks = []
    if same := _same_runs(pair):
        total = min(len(first.runs), len(second.runs))
        remarks.append(
            f"{counted(same, 'run')} of {total} have the same configuration and seed in both studies: there only code, "
            "libraries or the machine can make a difference, and the intervals, which take the runs as independent, "
            "are wider than they need be"
        )
    criteria = [frames.criteria for frames in pair]
    if criteria[0] != criteria[1]:
        remarks.append("the outcomes were judged by different criteria: success is not the same thing in both studies")
    targets = [inference_target(frames) for frames in pair]
    if targets[0] != targets[1]:
        remarks.append(
            f"the designs differ: intervals are for {targets[0]} in {first.study}, {targets[1]} in {second.study}"
        )
    return remarks


def _same_runs(pair: Pair) -> int:
    keys = ["configuration_key", "seed"]
    if any(not set(keys) <= set(frames.runs) for frames in pair):
        return 0
    parts = [frames.runs[keys].dropna().astype({"configuration_key": str}) for frames in pair]
    return len(parts[0].merge(parts[1], on=keys))
