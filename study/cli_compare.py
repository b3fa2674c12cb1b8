"""What `ganstudy compare` says of two studies around the analysis: what differs in their specs, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.errors import BadInput
from study.folder import StudyFolder, read_json


def require_two(first: str, second: str) -> None:
    """Raises BadInput where there is nothing to compare."""
    if first == second:
        raise BadInput(f"compare needs two different studies, got {first!r} twice")


def spec_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for all that differs between two operative specs, besides name, question and resources."""
    from study.spec import SpecError, StudySpec

    try:
        specs = [StudySpec.from_dict(spec, import_code=False) for spec in (first, second)]
    except SpecError as problem:  # recorded by another version, with other rules
        return [f"the specs cannot be compared: {str(problem).splitlines()[0]}"]
    return [line for line in specs[0].difference(specs[1]) if not line.startswith("study: ")]


def version_differences(first: str, second: str, *, home: Path) -> list[str]:
    """``package: old -> new`` for what the two studies were last launched with; nothing where that is not known."""
    files = [StudyFolder(home, study).launch_file for study in (first, second)]
    if not all(file.is_file() for file in files):
        return []
    old, new = ({str(k): v for k, v in _versions(file).items()} for file in files)
    return [
        f"{name}: {old.get(name, '(absent)')} -> {new.get(name, '(absent)')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _versions(file: Path) -> Mapping[str, Any]:
    found = read_json(file).get("versions")
    return found if isinstance(found, Mapping) else {}


def print_comparison(rows: Sequence[Mapping[str, str]], facts: Mapping[str, Sequence[str]], console: Console) -> None:
    """For people: a row per loss (title -> text), then what else is to be known, under a heading each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in rows[0]:
        table.add_column(title, no_wrap=title not in ("verdict",), overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row.values()))
    console.print(table)
    for heading, lines in facts.items():
        if lines:
            console.print()
            console.print(Text(heading, style="bold"))
            for line in lines:
                console.print(f"  {line}", soft_wrap=True, markup=False)
