"""Options that several commands share, and how the command line speaks to people and to programs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from study.errors import BadInput
from study.folder import home_folder

if TYPE_CHECKING:
    from study.launch import StudyResult

SPEC = Annotated[Path, typer.Argument(metavar="SPEC", help="A study file; `ganstudy init` writes one to start from.")]
STUDY = Annotated[str, typer.Argument(metavar="STUDY", help="The study's name, as in its file and in `ganstudy list`.")]
OPTIONAL_STUDY = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="A study's name.", show_default=False)]
HOME = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where studies live; default $GANSTUDY_HOME, else ./runs.", show_default=False),
]
TRACKING_URI = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow store; default what the study was launched with, else $MLFLOW_TRACKING_URI, "
        "else a file under the home.",
        show_default=False,
    ),
]
ADDRESS = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="A running Ray cluster; default Ray on this machine.", show_default=False),
]
OFFLINE = Annotated[
    bool, typer.Option("--offline", help="Train without MLflow; `ganstudy sync` sends the results later.")
]
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Overrides one key of the study file, e.g. fixed.batch_size=64; repeatable."
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]


def out() -> Console:
    """Results: stdout. Wide where nobody watches, so that names are never cut."""
    return _console(stderr=False)


def err() -> Console:
    """Progress and messages: stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(stderr=stderr, highlight=False, width=200)
    return console


def print_json(value: Mapping[str, object]) -> None:
    """Exactly one JSON object on stdout; NaN is refused rather than printed as invalid JSON."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


def existing(path: Path) -> Path:
    """``path`` if it is a file; BadInput otherwise."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder, a file is needed")
    if not path.exists():
        raise BadInput(f"{path}: no such file; `ganstudy init {path}` writes a study file to start from")
    return path


def command_line() -> str:
    """What was typed, for launch.json."""
    return shlex.join(["ganstudy", *sys.argv[1:]])


def conclude(result: StudyResult) -> NoReturn:
    """Says how a launch ended and where its results are, and ends with its exit code."""
    from study.mlflow_client import readable_uri
    from study.progress import outcome_text

    console: Console = out()
    ended = sum(result.counts.values())
    console.print(f"{result.study}: {ended} of {result.planned} replicates ended", soft_wrap=True)
    if result.counts:
        console.print(outcome_text(result.counts))
    console.print(f"results: {result.home / result.study}", soft_wrap=True)
    home = f" --home {shlex.quote(str(result.home))}" if result.home != home_folder() else ""
    name = result.study
    told = (
        f"nothing yet (offline); `ganstudy sync {name}{home}` sends it"
        if result.offline
        else readable_uri(result.tracking_uri)
    )
    console.print(f"MLflow:  {told}", soft_wrap=True)
    if result.exit_code == 130:
        console.print(f"interrupted; everything is kept: `ganstudy resume {name}{home}` goes on", soft_wrap=True)
    elif result.counts.get("failed"):
        console.print(f"some replicates failed: `ganstudy status {name}{home}` says why", soft_wrap=True)
    elif result.exit_code == 1:
        console.print(f"some replicates did not end: `ganstudy resume {name}{home}` goes on", soft_wrap=True)
    else:
        console.print(f"next:    `ganstudy {'sync' if result.offline else 'report'} {name}{home}`", soft_wrap=True)
    raise typer.Exit(result.exit_code)
