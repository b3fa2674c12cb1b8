"""compare.html and compare.csv: two studies against each other, in the report's style, without any script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.compare_cells import ALL, COMMON
from analysis.compare_studies import Comparison
from analysis.files import csv_text, json_text, plain, replaced_folder, write_manifest, write_text
from analysis.pages import read_part, render_template
from analysis.wording import counted, percent, percent_range, points, shown

PAGE, TABLE, SUMMARY = "compare.html", "compare.csv", "compare.json"
_LONG = 400


def write_comparison(found: Comparison, *, differences: Sequence[str], out: Path | str) -> Path:
    """Writes compare.html, compare.csv and compare.json to the folder ``out``, in place of an older comparison there.

    ``differences``: what differs between the two specs, a line each. The same input gives the same bytes. OutputError:
    ``out`` is a file, or holds files that nothing of ours wrote. Returns the page's path.
    """
    with replaced_folder(Path(out)) as folder:
        write_text(folder / TABLE, csv_text(found.table))
        write_text(folder / SUMMARY, json_text(summary(found, differences=differences)))
        write_text(folder / PAGE, render(found, differences=differences))
        write_manifest(folder)
    return Path(out) / PAGE


def summary(found: Comparison, *, differences: Sequence[str]) -> dict[str, Any]:
    """The whole comparison as plain data: compare.json, and what ``--json`` prints."""
    return {
        "study_a": found.first,
        "study_b": found.second,
        "headline": found.headline,
        "blocked": list(found.blocked),
        "only_a": list(found.only_first),
        "only_b": list(found.only_second),
        "grids": list(found.grids),
        "remarks": list(found.remarks),
        "differences": list(differences),
        "losses": plain(found.table.to_dict("records")),
    }


def terminal_rows(found: Comparison) -> list[dict[str, str]]:
    """A row of text per loss, title -> cell, for the terminal."""
    rows = [_row(row) for row in found.table.to_dict("records")]
    return [
        {
            "loss": shown(row["loss"], limit=40),
            shown(found.first, limit=64): f"{row['before']['text']} ({row['before']['range']})",
            shown(found.second, limit=64): f"{row['after']['text']} ({row['after']['range']})",
            "change": f"{row['change']['text']} ({row['change']['range']})",
            "unstable": f"{row['unstable']['text']} ({row['unstable']['range']})",
            "over": row["over"],
            "verdict": shown(f"{row['verdict']}{': ' if row['note'] else ''}{row['note']}", limit=160),
        }
        for row in rows
    ]


def render(found: Comparison, *, differences: Sequence[str]) -> str:
    """The page as HTML text; every word from a study is escaped."""
    return render_template(
        "compare.html.j2",
        css=read_part("report.css"),
        filters={"shown": lambda value, limit=_LONG: shown(value, limit=limit)},
        first=found.first,
        second=found.second,
        headline=[part + "." for part in found.headline.removesuffix(".").split(". ")],
        blocked=found.blocked,
        rows=[_row(row) for row in found.table.to_dict("records")],
        only=[(name, labels) for name, labels in
              ((found.first, found.only_first), (found.second, found.only_second)) if labels],
        grids=found.grids,
        remarks=found.remarks,
        differences=differences,
        files=(TABLE, SUMMARY),
    )  # fmt: skip


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    needed = row["seeds_needed"]
    settle = str(row["seeds_note"]) if math.isnan(float("nan") if needed is None else _number(needed)) else (
        f"about {counted(int(needed), 'more seed')} per setting in each"
    )  # fmt: skip
    return {
        "loss": row["loss"],
        "over": over_text(row),
        "before": _share(row, "success_a"),
        "after": _share(row, "success_b"),
        "change": _change(row, "difference", "low", "high", colour="#0b5c8a"),
        "unstable": _change(row, "unstable_difference", "unstable_low", "unstable_high", colour="#a83a00"),
        "verdict": row["verdict"],
        "decided": bool(row["winner"]),
        "note": settle or ("" if "stable" in str(row["verdict"]) else str(row["unstable_verdict"])),
    }


def _number(value: Any) -> float:
    try:
        return float(value)
    except TypeError:  # pandas' own NA
        return math.nan


def over_text(row: Mapping[Any, Any]) -> str:
    """What a difference is over, in words."""
    if row["over"] == ALL:
        return f"{counted(int(row['cells']), 'matched cell')}"
    return f"{row['cells']} cells in common" if row["over"] == COMMON else "each study's own cells"


def _share(row: Mapping[Any, Any], name: str) -> dict[str, str]:
    return {"text": percent(row[name]), "range": percent_range(row[f"{name}_low"], row[f"{name}_high"])}


def _change(row: Mapping[Any, Any], value: str, low: str, high: str, *, colour: str) -> dict[str, Any]:
    known = not math.isnan(row[value])
    return {
        "known": known,
        "text": points(row[value]),
        "range": f"{points(row[low])} to {points(row[high])}" if known else "",
        "at": [50 + 50 * (row[name] if known else 0.0) for name in (low, value, high)],
        "colour": colour,
    }
