"""The reader of runs made elsewhere: one CSV or Parquet table, as frames."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.assemble import CURVE_COLUMNS
from analysis.files import csv_text_of, sha256
from analysis.frames import IDENTITY_COLUMNS, PENALTY_PARAMETERS, RESULT_COLUMNS, StudyFrames
from analysis.load import versions
from analysis.table_values import converter, is_absent, told
from analysis.wording import counted, did_you_mean, rate_text, shown
from trainers.catalogue import FACTORS, LOSSES, MEMBER_NUMBERS, PRESETS

Columns = dict[str, list[Any]]

REQUIRED: tuple[str, ...] = ("loss", "k", "learning_rate", "replicate", "outcome")
FACTOR_NAMES: tuple[str, ...] = tuple(dict.fromkeys([*FACTORS, *MEMBER_NUMBERS, *sorted(PENALTY_PARAMETERS)]))
KNOWN: frozenset[str] = RESULT_COLUMNS | IDENTITY_COLUMNS | frozenset(FACTOR_NAMES)

MAX_MEGABYTES, MAX_ROWS, MAX_COLUMNS, MAX_LABELS = 64, 500_000, 500, 100
"""Of one table: more than a report can show; a file that is larger was not meant for it, or was meant to harm."""


class TableError(ValueError):
    """A table of runs that cannot be used; ``problems`` names every one, str() gives one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def load_runs(path: str | Path) -> StudyFrames:
    """Frames of a table with one row per replicate: at least loss, k, learning_rate, replicate, outcome.

    Other columns of runs.csv are used where present (penalty weights, seed, kind, final measurements, ...); columns
    under other names are left out and listed in the provenance. Without ``configuration_key`` every distinct
    setting of the factors is a configuration. Losses keep the order of their first row. TableError: what is wrong,
    all of it at once.
    """
    path = Path(path)
    columns = _read(path)
    _check_size(columns)
    ignored = _check_names(columns)
    columns = _parsed({name: values for name, values in columns.items() if name in KNOWN})
    runs = _runs(columns)
    _check_cells(runs, ignored)
    given = "kind" in columns
    return StudyFrames(
        study=path.stem,
        runs=runs,
        curves=pd.DataFrame(columns=list(CURVE_COLUMNS)),
        spec={"fixed": _fixed(runs)},
        reference={},
        plan={"configurations": runs[["loss", "configuration_key"]].drop_duplicates().to_dict("records")},
        provenance={
            "source": path.name,
            "source_sha256": sha256(path),
            "ignored_columns": ignored,
            "outcomes": "given in the table",
            "kinds": "given in the table" if given else "not recorded",
            "versions": versions("numpy", "pandas", "pyarrow", "scipy"),
        },
    )


def _read(path: Path) -> Columns:
    """Columns by name; CSV cells are text, absent values None."""
    if path.stat().st_size > MAX_MEGABYTES * 2**20:
        size = f"{path.stat().st_size / 2**20:,.0f} MB"
        raise TableError([f"{path.name}: has {size}, at most {MAX_MEGABYTES} MB are read; keep columns of runs.csv"])
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        return _read_parquet(path.name, content)
    if (lines := content.count(b"\n")) > MAX_ROWS + 1:
        raise TableError([_too_many("lines", lines, MAX_ROWS)])
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as problem:
        raise TableError([f"{path.name}: neither Parquet nor CSV in UTF-8 ({problem})"]) from problem
    rows = [row for row in rows if row]
    if not rows:
        raise TableError([f"{path.name}: is empty"])
    header, body = rows[0], rows[1:]
    twice = _twice(header)
    uneven = [i for i, row in enumerate(body, 1) if len(row) != len(header)]
    problems = [f"column {told(name)} occurs twice" for name in twice]
    problems += [f"row {i} has {len(body[i - 1])} cells, the header has {len(header)}" for i in uneven[:3]]
    if problems:
        raise TableError(problems)
    return {name: [csv_text_of(row[i]) or None for row in body] for i, name in enumerate(header)}


def _read_parquet(name: str, content: bytes) -> Columns:
    """The columns of a Parquet file; how many rows it would have is looked at before they are unpacked."""
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        if file.metadata.num_rows > MAX_ROWS:
            raise TableError([_too_many("rows", file.metadata.num_rows, MAX_ROWS)])
        names = [str(column) for column in file.schema_arrow.names]
        if twice := _twice(names):
            raise TableError([f"column {told(column)} occurs twice" for column in twice])
        wanted = [column for column in names if column in KNOWN]
        read = file.read(columns=wanted).to_pydict()
        return {column: read.get(column, []) for column in names}
    except (pa.ArrowException, OSError) as problem:
        raise TableError([f"{name}: not a readable Parquet file ({shown(problem, limit=200)})"]) from problem


def _twice(names: Sequence[str]) -> list[str]:
    """Names that occur more than once; TableError where there are too many names to look at."""
    if len(names) > MAX_COLUMNS:
        raise TableError([_too_many("columns", len(names), MAX_COLUMNS)])
    return sorted({name for name in names if names.count(name) > 1})


def _check_size(columns: Columns) -> None:
    """TableError for a table that no report could show."""
    labels = columns.get("loss", [])
    found = {"rows": (len(labels), MAX_ROWS), "different losses": (len(set(map(str, labels))), MAX_LABELS)}
    if problems := [_too_many(what, count, most) for what, (count, most) in found.items() if count > most]:
        raise TableError(problems)


def _too_many(what: str, count: int, most: int) -> str:
    return f"the table has {count:,} {what}, at most {most:,} make a report"


def _check_names(columns: Columns) -> list[str]:
    """Names of the columns to leave out; TableError where a required one is absent or another looks misspelt."""
    unknown = [name for name in columns if name not in KNOWN]
    absent = [name for name in REQUIRED if name not in columns]
    problems = [f"column {name!r} is missing{did_you_mean(name, unknown)}" for name in absent]
    free = KNOWN - columns.keys() - set(absent)
    hints = {name: did_you_mean(name[:80], free, cutoff=0.85) for name in unknown}
    problems += [f"column {name!r} is not known{hint}" for name, hint in hints.items() if hint]
    if not problems and not len(columns["loss"]):
        problems = ["the table has no rows"]
    if problems:
        raise TableError(problems)
    return sorted(unknown)


def _parsed(columns: Columns) -> Columns:
    """Typed columns; TableError tells the first wrong value of each and how many more there are."""
    problems: list[str] = []
    parsed: Columns = {}
    for name, values in columns.items():
        convert = converter(name)
        found: list[Any] = []
        wrong: list[str] = []
        for row, value in enumerate(values, 1):
            try:
                found.append(convert(value))
            except ValueError as problem:
                wrong.append(f"{name}: {problem} (row {row})")
                found.append(None)
        problems += [wrong[0] + (f", and {counted(len(wrong) - 1, 'more row')}" if wrong[1:] else "")] if wrong else []
        parsed[name] = found
    split = "generator_learning_rate" in columns  # then the common rate may be absent
    needed = [name for name in REQUIRED if not (name == "learning_rate" and split)]
    for name in [*needed, *({"configuration_key"} & columns.keys())]:
        rows = [row for row, value in enumerate(columns[name], 1) if is_absent(value)]
        problems += [f"{name}: must not be empty (row {rows[0]})"] if len(rows) > 0 else []
    if problems:
        raise TableError(problems)
    return parsed


def _runs(columns: Columns) -> pd.DataFrame:
    """The frame of runs, with identity columns filled in from the labels where the table has none."""
    count = len(columns["loss"])
    entries = [_entry(label) for label in columns["loss"]]
    factors = [name for name in FACTOR_NAMES if name in columns]
    settings = [{name: columns[name][i] for name in factors if not is_absent(columns[name][i])} for i in range(count)]
    keys = [_key(label, setting) for label, setting in zip(columns["loss"], settings, strict=True)]
    filled: Columns = {
        "configuration_key": keys,
        "loss": columns["loss"],
        "adversarial_loss": [entry[0] for entry in entries],
        "penalty": [entry[1] for entry in entries],
        "kind": [""] * count,
    } | columns
    table = pd.DataFrame(filled)
    table = table.astype({"replicate": "int64", "k": "int64"})
    texts = [name for name in ("optimizer", "updates", "precision") if name in table]
    return table.assign(**{name: table[name].replace("", np.nan) for name in texts})


def _entry(label: str) -> tuple[str, str]:
    """(adversarial_loss, penalty) behind a label of the catalogue, empty for another one."""
    preset: Mapping[str, object] = PRESETS.get(label, {})
    known = (label, "none") if label in LOSSES else ("", "")
    return (str(preset["name"]), str(preset["penalty"])) if preset else known


def _key(label: str, setting: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps([label, setting], sort_keys=True).encode()).hexdigest()[:16]


def _check_cells(runs: pd.DataFrame, ignored: Sequence[str]) -> None:
    """TableError where a configuration_key names two settings, or a replicate of a setting occurs twice."""
    problems = []
    cell = ["loss", "configuration_key"]
    for name in (name for name in FACTOR_NAMES if name in runs):
        values = runs.groupby(cell, sort=False)[name].nunique(dropna=False)
        problems += [f"configuration_key {key!r}: has more than one {name}" for (_, key) in values[values > 1].index]
    rows: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, identity in enumerate(runs[[*cell, "replicate"]].itertuples(index=False), 1):
        rows[tuple(identity)].append(row)
    twice = [found for found in rows.values() if len(found) > 1]
    for found in twice[:3]:
        run = runs.iloc[found[0] - 1]
        setting = f"{shown(run['loss'], limit=60)}, k = {run['k']}, learning rate {rate_text(run['learning_rate'])}"
        problems.append(f"replicate {run['replicate']} of {setting} occurs twice (rows {found[0]} and {found[1]})")
    if len(twice) > 3:
        problems.append(f"... and {counted(len(twice) - 3, 'other replicate')} too")
    if twice and ignored:
        others = shown(", ".join(ignored), limit=200)
        problems.append(f"if these columns tell settings apart, add a configuration_key column: {others}")
    if problems:
        raise TableError(problems)


def _fixed(runs: pd.DataFrame) -> dict[str, object]:
    """Factors that have one value in every run."""
    shared = [n for n in FACTOR_NAMES if n in runs and n not in ("k", "learning_rate") and runs[n].notna().all()]
    return {name: runs[name].iloc[0] for name in shared if runs[name].nunique() == 1}
