"""Runs a notebook's cells in this process, and keeps what they show.

    python -m benchmarks.notebook docs/notebooks/first-study.ipynb           # runs it, changes nothing
    python -m benchmarks.notebook docs/notebooks/first-study.ipynb --write   # runs it and stores the outputs

The cells of a notebook of ours are plain Python without magics, so that no kernel is needed to run them: each is
executed in a new folder of its own; what it prints and the value of its last line are its outputs.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Output = dict[str, Any]


def executed(notebook: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """The notebook with the outputs of its code cells, run in ``folder``; a cell that fails raises what it raised."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    with _working_in(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                cells.append(cell)
                continue
            count += 1
            outputs = _run_cell("".join(cell["source"]), names, count)
            cells.append({**cell, "execution_count": count, "outputs": outputs})
    return {**notebook, "cells": cells}


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """The folder is where the cells write, and where they import from."""
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path


def _run_cell(source: str, names: dict[str, Any], number: int) -> list[Output]:
    tree = ast.parse(source, filename=f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names) if last else None
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data = _shown(value)
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """A value as a notebook shows it: a figure as PNG, a table as HTML, and text for all."""
    if hasattr(value, "savefig"):
        drawn = io.BytesIO()
        value.savefig(drawn, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        return {"image/png": base64.b64encode(drawn.getvalue()).decode("ascii"), "text/plain": ["<Figure>"]}
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    plain = _lines(value if isinstance(value, str) else repr(value))
    return {"text/html": _lines(html), "text/plain": plain} if html else {"text/plain": plain}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def read(path: Path) -> dict[str, Any]:
    """The notebook in ``path``."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> None:
    path = Path(arguments[0])
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        done = executed(read(path), folder=Path(folder))
    if "--write" in arguments[1:]:
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for cell in done["cells"]:
        for output in cell.get("outputs", []):
            print("".join(output.get("text", output.get("data", {}).get("text/plain", []))))


if __name__ == "__main__":
    main(sys.argv[1:])
