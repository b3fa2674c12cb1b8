"""Files of the report: the same input gives the same bytes, spreadsheets run nothing, folders are swapped whole."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
_DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # left by file browsers, nobody's work
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet run a cell, in full width too (OWASP, CSV injection)."""

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that end a text early, hide it, or turn its direction; tab and line ends are left to the format."""


class OutputError(ValueError):
    """The report cannot be written where it was asked for."""


def csv_cell(value: object) -> str:
    """One cell as text: numbers with ten significant digits, nothing for missing, text that no spreadsheet runs.

    A text that begins with one of FORMULA_STARTS gets a leading ``'``, and so does one that begins so after quotes,
    so that ``csv_text_of`` finds every text again; numbers are left alone, so a negative number stays one. Control
    characters and those that change the direction of writing are spelled out: \\u202e.
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{float(value):.10g}"
    text = spelled_out(str(value))
    if text.lstrip("'").startswith(FORMULA_STARTS):
        text = "'" + text
    if any(character in text for character in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text


def csv_text_of(cell: str) -> str:
    """The text that ``csv_cell`` protected from spreadsheets with a leading quote."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def spelled_out(text: str) -> str:
    """Text in which no control character hides: as the escape that JSON and Python read back."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV without its index, lines ending in a bare newline."""
    header = ",".join(csv_cell(str(name)) for name in frame.columns)
    columns = [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]
    rows = [",".join(map(csv_cell, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header, *rows]) + "\n"


def plain(value: Any) -> Any:
    """A value of JSON: arrays and numpy numbers made plain, NaN and infinities become null, keys become text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str | int | float | bool | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)


def json_text(value: Any) -> str:
    """Indented JSON with sorted keys and no NaN; control characters as escapes, which read back as themselves."""
    return spelled_out(json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with bare newlines; a character that UTF-8 has no code for is spelled out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame without index or pandas metadata, so that equal rows are equal bytes."""
    columns = {str(name): _arrow_ready(frame[name]) for name in frame.columns}
    table = pa.Table.from_pandas(pd.DataFrame(columns, index=frame.index), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _arrow_ready(column: pd.Series) -> pd.Series:
    """Columns that mix numbers and text become text: Parquet columns have one type."""
    if column.dtype != object or pd.api.types.infer_dtype(column, skipna=True) in {"string", "empty", "boolean"}:
        return column
    if pd.api.types.infer_dtype(column, skipna=True) in {"integer", "floating", "mixed-integer-float", "decimal"}:
        return pd.to_numeric(column)
    return column.map(lambda value: None if value is None or value is pd.NA else str(value)).astype(object)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path) -> None:
    """Write manifest.json: SHA-256 and size of every other file below ``folder``."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_text(folder / MANIFEST, json_text({"schema": MANIFEST_SCHEMA, "kind": "ganstudy report", "files": files}))


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` when the block ends well; else ``out`` stays as it was.

    Raises OutputError, before anything is written, where ``out`` holds files that no report wrote: swapping the
    folder would delete them.
    """
    out = out.resolve()
    refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}")
    aside = out.with_name(f".{out.name}.old-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if out.exists():
            out.rename(aside)
        fresh.rename(out)
    finally:
        if aside.exists() and not out.exists():
            aside.rename(out)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def refuse_foreign(out: Path) -> None:
    """Raises OutputError where ``out`` is a file, or a folder with files that no manifest of ours lists."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"out: must be a folder, got the file {str(out)!r}")
    manifest = out / MANIFEST
    try:
        known = (
            set(json.loads(manifest.read_text(encoding="utf-8"))["files"]) | {MANIFEST} if manifest.exists() else set()
        )
    except (ValueError, KeyError, TypeError):
        known = set()
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    foreign = sorted(name for name in present - known if Path(name).name not in _DESKTOP_FILES)
    if foreign:
        shown = ", ".join(map(repr, foreign[:3])) + (", ..." if len(foreign) > 3 else "")
        raise OutputError(
            f"out: {str(out)!r} holds files that this report did not write ({shown}); name an empty or new folder"
        )
