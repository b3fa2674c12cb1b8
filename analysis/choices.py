"""The other scientific choices of a study, value against value and loss by loss: precision, updates, optimizer, ...

The leaderboard averages over them. Here each value's part of the study stands against another's, by the rules of a
comparison of two studies: second value minus first, over matched cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import ALPHA, DELTA
from analysis.compare_studies import COLUMNS as CHANGE_COLUMNS
from analysis.compare_studies import changes_table
from analysis.dirac_cells import is_dirac
from analysis.estimators import holm
from analysis.frames import StudyFrames
from analysis.wording import p_text, percent, percent_range, points, short_verdict

CHOICES = "choices"
"""The table's name, and its file's."""

_RENAMED = {"study_a": "value_a", "study_b": "value_b"}
COLUMNS: tuple[str, ...] = ("factor", *(_RENAMED.get(name, name) for name in CHANGE_COLUMNS))


def scientific_choices(frames: StudyFrames) -> dict[str, list[str]]:
    """The scientific factors beside the loss whose values are words, with those values in the study file's order."""
    declared = frames.spec.get("scientific")
    if not isinstance(declared, Mapping) or is_dirac(frames):
        return {}
    found = {}
    for name, values in declared.items():
        if name == "loss" or name not in frames.runs or not isinstance(values, list):
            continue
        present = set(frames.runs[name].dropna())
        if len(present) > 1 and all(isinstance(value, str) for value in present):
            found[str(name)] = [value for value in values if value in present]
    return found


def choice_tables(frames: StudyFrames, *, delta: float = DELTA, alpha: float = ALPHA) -> dict[str, pd.DataFrame]:
    """The table ``choices`` with columns COLUMNS; none where a study has no such factor, or a sampler adapted.

    One row per factor, pair of its values and loss. ``low`` and ``high`` hold over all the rows of a factor at once, as
    Holm's p does.
    """
    frames = frames.explored
    if frames.adaptive:
        return {}
    tables = [_of_factor(frames, *found, delta=delta, alpha=alpha) for found in scientific_choices(frames).items()]
    return {CHOICES: pd.concat(tables, ignore_index=True)} if tables else {}


def _of_factor(frames: StudyFrames, factor: str, values: list[str], *, delta: float, alpha: float) -> pd.DataFrame:
    pairs = list(itertools.combinations([_part(frames, factor, value) for value in values], 2))
    family = len(pairs) * len(frames.labels())
    tables = []
    for first, second in pairs:
        labels = [label for label in first.labels() if label in second.labels()]
        tables.append(changes_table((first, second), labels, delta=delta, alpha=alpha, family=family))
    table = pd.concat(tables, ignore_index=True)
    exact = table["p_exact"].to_numpy(dtype=np.float64)
    return table.assign(factor=factor, p_holm=holm(list(exact))).rename(columns=_RENAMED)[list(COLUMNS)]


def _part(frames: StudyFrames, factor: str, value: str) -> StudyFrames:
    """The runs with one value of a factor, as a study of that name."""
    runs = frames.runs[frames.runs[factor] == value].reset_index(drop=True)
    return replace(frames, study=value, runs=runs)


def choice_rows(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The table as text, row by row; ``orders`` hold the numbers that the page's columns are sorted by."""
    return [
        {
            "factor": row["factor"],
            "first": row["value_a"],
            "second": row["value_b"],
            "loss": row["loss"],
            **{f"success_{side}": percent(row[f"success_{side}"]) for side in "ab"},
            **{f"range_{side}": _range(row, f"success_{side}") for side in "ab"},
            "difference": points(row["difference"]),
            "joint": f"{points(row['low'])} to {points(row['high'])}",
            "unstable": f"{points(row['unstable_low'])} to {points(row['unstable_high'])}",
            "p_holm": p_text(row["p_holm"]),
            "verdict": short_verdict(row),
            "decided": bool(row["winner"]),
            "needed": row["seeds_note"] if pd.isna(row["seeds_needed"]) else f"about {int(row['seeds_needed'])}",
            "orders": {name: _order(row[name]) for name in _SORTED},
        }
        for row in _records(tables)
    ]


_SORTED = ("success_a", "success_b", "difference", "unstable_low", "p_holm", "seeds_needed")


def _order(value: Any) -> str:
    return "" if pd.isna(value) else f"{float(value):.6g}"


def _records(tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[Any, Any]]:
    if CHOICES in tables:
        yield from tables[CHOICES].to_dict("records")


def _range(row: Mapping[Any, Any], name: str) -> str:
    return percent_range(row[f"{name}_low"], row[f"{name}_high"])
