"""The notebook runs from its first cell to its last, and shows what it was committed with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.notebook import executed
from tests.conftest import REPOSITORY, environment

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def cell(source: str) -> dict[str, object]:
    return {"cell_type": "code", "source": [source], "outputs": [], "metadata": {}}


def test_a_cell_shows_what_it_prints_and_its_last_value(tmp_path):
    done = executed({"cells": [cell("x = 3\nprint('hello')"), cell("x + 1")]}, folder=tmp_path)
    first, second = (c["outputs"] for c in done["cells"])
    assert first == [{"output_type": "stream", "name": "stdout", "text": ["hello\n"]}]
    assert second[0]["data"] == {"text/plain": ["4"]}
    with pytest.raises(ZeroDivisionError):
        executed({"cells": [cell("1 / 0")]}, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path: Path, tmp_path: Path):
    """In a process of its own, as a reader has it; every cell that was stored with something to show shows it again.

    Not the numbers: another processor's matrix kernels round differently, and a run at the edge may end otherwise.
    """
    copy = tmp_path / path.name
    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.notebook", str(copy), "--write"],
        cwd=REPOSITORY,
        env=environment(TMPDIR=os.environ.get("TMPDIR", "/tmp")),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    before, after = (_tables(json.loads(p.read_text(encoding="utf-8"))) for p in (path, copy))
    assert all(after[-3:])  # its own loss was trained and compared
    assert any(before)
    assert [len(shown) for shown in after] == [len(shown) for shown in before]


def _tables(notebook: dict[str, list[dict[str, list[dict[str, object]]]]]) -> list[list[object]]:
    """The text of every output; pictures are left out, which another machine may draw with other pixels."""
    return [
        [output.get("text") or dict(output["data"])["text/plain"] for output in cell["outputs"]]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
