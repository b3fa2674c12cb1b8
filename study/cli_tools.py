"""Commands around studies: init, losses, ui."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.cli_check import check_entry
from study.cli_options import HOME, TRACKING_URI, err, out
from study.errors import BadInput, WorkFailed
from study.folder import home_folder
from trainers.catalogue import LOSSES, PENALTIES, PRESETS, UPDATES, Entry


def register_init(app: typer.Typer) -> None:
    """Adds what comes first in a study's life."""
    app.command()(init)


def register_rest(app: typer.Typer) -> None:
    """Adds what comes after the report."""
    for command in (losses, ui):
        app.command()(command)


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from; an existing file is left alone."""
    if not file.parent.is_dir():
        raise BadInput(f"{file.parent} is no folder")
    text = files("study").joinpath("template.yaml").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as problem:
        raise BadInput(f"{file} exists already and is left as it is") from problem
    except OSError as problem:
        raise BadInput(f"{file} cannot be written: {problem.strerror}") from problem
    out().print(f"wrote {file}; next: `ganstudy plan {file}`", soft_wrap=True, markup=False)


def losses(
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="Check a loss or penalty of your own (or a registered one): exit code 1 when it breaks a rule.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """The registered losses, penalties, orders of updates and presets, with formula and reference."""
    console = out()
    if check is not None:
        raise typer.Exit(0 if check_entry(check, console) else 1)
    _section(console, "losses", "higher logit = more real, for every loss")
    for entry in LOSSES.values():
        _entry(console, entry, formulas=[("L_D", entry.formula), ("L_G", entry.generator_formula)])
    _section(console, "penalties", "on the discriminator: a term of L_D, its inputs, or its weights")
    for entry in PENALTIES.values():
        _entry(console, entry, formulas=[("    ", entry.formula)] if entry.formula else [])
    _section(console, "updates", "orders of the players' updates, a factor; all but alternating need k = 1")
    for entry in UPDATES.values():
        _entry(console, entry, formulas=[("    ", entry.formula)])
    _section(console, "presets", "short names for a loss with its penalty")
    presets = Table.grid(padding=(0, 2))
    for name, meaning in PRESETS.items():
        presets.add_row(Text(name, style="bold cyan", no_wrap=True), Text(_flow(meaning)))
    console.print(presets)


def ui(
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 5000,
) -> None:
    """The MLflow UI on the store of this home's studies; Ctrl-C ends it."""
    from study.mlflow_client import sqlite_uri

    base = home_folder(home)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(base)
    if uri.startswith(("http://", "https://")):
        out().print(f"the tracking server has its own UI: {uri}", soft_wrap=True, markup=False)
        return
    if uri == sqlite_uri(base) and not (base / "mlflow.db").exists():
        raise BadInput(f"no study was recorded under {base}: {base / 'mlflow.db'} does not exist")
    out().print(f"MLflow UI: http://127.0.0.1:{port}  (Ctrl-C ends it)", soft_wrap=True, markup=False)
    raise typer.Exit(_serve(uri, base, port))


def _section(console: Console, title: str, remark: str) -> None:
    console.print()
    console.print(Text.assemble((title, "bold underline"), (f"  {remark}", "bright_black")))


def _entry(console: Console, entry: Entry, *, formulas: list[tuple[str, str]]) -> None:
    console.print()
    name = Text.assemble((entry.name, "bold cyan"), f"  {entry.summary}")
    console.print(name, soft_wrap=True)
    rows = [(symbol, Text(formula, style="green")) for symbol, formula in formulas]
    rows += [(p.name, Text(f"{p.rule}; {_default(p.default)}: {p.meaning}")) for p in entry.parameters]
    if entry.reference:
        rows.append(("ref", Text(entry.reference, style="bright_black")))
    for symbol, text in rows:
        console.print(Text.assemble(f"    {symbol}  ", text), soft_wrap=True)


def _default(value: object) -> str:
    return "required" if value is None else f"default {value}"


def _flow(mapping: object) -> str:
    return ", ".join(f"{key}: {value}" for key, value in dict(mapping).items())  # type: ignore[call-overload]


def _serve(uri: str, home: Path, port: int) -> int:
    """Runs the server as a child in the terminal's process group, so that Ctrl-C reaches it too."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", str(home / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # without the job runner the server takes a fifth of the memory and starts nothing nobody asked for
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 130
    if code > 0:
        err().print(f"the MLflow server ended with code {code}; is port {port} in use?", soft_wrap=True, markup=False)
        raise WorkFailed(f"no MLflow UI on port {port}")
    return 0
