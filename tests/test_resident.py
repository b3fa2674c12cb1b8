"""The benchmarks' peak of memory is a process's own."""

from __future__ import annotations

import subprocess
import sys

MANY = 400_000_000
SAY = "from benchmarks.resident import peak_rss_bytes; print(peak_rss_bytes(), flush=True)"
TAKE = f"""
import subprocess, sys
{SAY}
assert len(bytearray(b"x") * {MANY}) == {MANY}
{SAY}
subprocess.run([sys.executable, "-c", {SAY!r}], check=True)
"""


def test_what_was_taken_once_counts_and_a_child_begins_anew() -> None:
    """ru_maxrss of a child begins with its parent's."""
    said = subprocess.run([sys.executable, "-c", TAKE], capture_output=True, text=True, check=True).stdout
    before, after, of_a_child = map(int, said.split())
    assert before < MANY < after < 1.1 * MANY
    assert of_a_child < MANY / 4
