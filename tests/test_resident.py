"""The benchmarks' peak of memory is a process's own."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.resident import peak_rss_bytes

MANY = 400_000_000


def test_what_was_taken_once_counts_and_a_child_begins_anew() -> None:
    """ru_maxrss of a child begins with its parent's."""
    before = peak_rss_bytes()
    assert len(bytearray(b"x") * MANY) == MANY
    assert peak_rss_bytes() > max(before, MANY)
    code = "from benchmarks.resident import peak_rss_bytes; print(peak_rss_bytes())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) < MANY / 4
