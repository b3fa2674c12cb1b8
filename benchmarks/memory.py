"""Memory of a cohort: its estimate, the peak of a process that trains it, and the size of its checkpoint's state.

    .venv/bin/python -m benchmarks.memory [--json FILE]

Each size trains in a process of its own, so that the peaks are its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CASES = tuple(
    (size, penalty, kernels)
    for size in (8, 32, 128)
    for penalty in ("none", "gradient_penalty")
    for kernels in ("torch", "native")
)


def peak(size: int, penalty: str, kernels: str) -> dict[str, int]:
    """This process's growth, in bytes, by training ``size`` members at width 128 and batch 256."""
    import torch

    from benchmarks.resident import peak_rss_bytes
    from benchmarks.steps import members, program
    from trainers import native
    from trainers.cohort import Cohort
    from trainers.footprint import cohort_bytes
    from trainers.loop import advance

    torch.set_num_threads(1)
    native.use(kernels)
    warm = program(width=16, batch=32, penalty=penalty)
    advance(Cohort.start(warm, members(warm, 8)), 8)  # libraries loaded, workspaces taken
    before = peak_rss_bytes()
    of = program(width=128, batch=256, penalty=penalty)
    cohort = Cohort.start(of, members(of, size))
    advance(cohort, 10)
    grown = peak_rss_bytes() - before
    state = io.BytesIO()
    torch.save(cohort.state(), state)
    return {"peak_bytes": grown, "estimate_bytes": cohort_bytes(of, size), "state_bytes": state.getbuffer().nbytes}


def measure() -> list[dict[str, Any]]:
    """Every case in its own process."""
    found = []
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(case)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(dict(zip(("members", "penalty", "kernels"), case, strict=True)) | json.loads(done.stdout))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    text = json.dumps(peak(*arguments.case) if arguments.case else measure(), indent=None if arguments.case else 2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
