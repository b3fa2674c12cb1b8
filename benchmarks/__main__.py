"""Every measurement of speed and memory on this machine, and the page that shows them.

    .venv/bin/python -m benchmarks [--only end_to_end quickstart ...] [--page-only]

Writes benchmarks/results/speed-<machine>.json, each section as it comes, and from it docs/performance.md and its plots.
Sections that are not measured now stay as they are in the file. `--small --folder DIR` shows that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import bookkeeping, end_to_end, memory, scaling, throughput, whole_command
from benchmarks.circumstances import circumstances, name_of_machine
from benchmarks.page import draw, page

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured: rounds of each contender, seeds end to end, replicates to keep the books of."""

    rounds: int = 5
    replicates: int = 32
    hand_written_replicates: int | None = None
    repeats: int = 3
    booked: int = 10_000
    booked_evaluations: int = 100
    changes: tuple[str, ...] = ()


SMALL = Sizes(
    rounds=1,
    replicates=1,
    hand_written_replicates=1,
    repeats=1,
    booked=100,
    booked_evaluations=20,
    changes=("replicates=1", "budget.value=120", "budget.evaluations=10"),
)
"""Sizes whose figures mean nothing."""

Measure = Callable[[Sizes, Mapping[str, Any], Callable[[Any], None]], Any]
"""From the sizes, the section as it was, and who wants to hear of parts, to the section."""

SECTIONS: Mapping[str, Measure] = {
    "throughput": lambda sizes, before, tell: throughput.measure(rounds=sizes.rounds),
    "scaling": lambda sizes, before, tell: scaling.measure(),
    "memory": lambda sizes, before, tell: memory.measure(),
    "quickstart": lambda sizes, before, tell: whole_command.measure(changes=sizes.changes),
    "bookkeeping": lambda sizes, before, tell: bookkeeping.measure(
        replicates=sizes.booked, evaluations=sizes.booked_evaluations
    ),
    "end_to_end": lambda sizes, before, tell: end_to_end.measure(
        replicates=sizes.replicates,
        hand_written_replicates=sizes.hand_written_replicates,
        repeats=sizes.repeats,
        before=before,
        tell=tell,
    ),
}


def measure(file: Path, sizes: Sizes, *, only: Sequence[str]) -> None:
    """Measure the sections and put each into the file as it comes, beside those that are there."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def put(name: str, section: Any) -> None:
        found[name] = section
        file.write_text(json.dumps(found, indent=1) + "\n")

    for name in only or SECTIONS:
        print(f"{name} ...", flush=True)
        found.setdefault("circumstances", {})[name] = circumstances()
        before = found.get(name, {})
        put(name, SECTIONS[name](sizes, before, lambda section, name=name: put(name, section)))  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=[], help="measure these; all by default")
    parser.add_argument("--rounds", type=int, default=Sizes.rounds, help="how often each contender of a step runs")
    parser.add_argument("--replicates", type=int, default=Sizes.replicates, help="seeds of 8 configurations end to end")
    parser.add_argument(
        "--hand-written-replicates", type=int, help="the same for the sides by hand; as many by default"
    )
    parser.add_argument("--booked", type=int, default=Sizes.booked, help="replicates of the bookkeeping")
    parser.add_argument("--page-only", action="store_true", help="only write the page anew, from this machine's file")
    parser.add_argument("--small", action="store_true", help="sizes whose figures mean nothing; needs --folder")
    parser.add_argument("--folder", type=Path, default=ROOT, help="write below this folder; default: the repository")
    arguments = parser.parse_args()
    if arguments.small and arguments.folder == ROOT:
        parser.error("--small needs --folder: its figures are not for the repository")
    sizes = Sizes(
        rounds=arguments.rounds,
        replicates=arguments.replicates,
        hand_written_replicates=arguments.hand_written_replicates,
        booked=arguments.booked,
    )
    results, images = arguments.folder / "benchmarks/results", arguments.folder / "docs/images"
    for folder in (results, images):
        folder.mkdir(parents=True, exist_ok=True)
    file = results / f"speed-{name_of_machine()}.json"
    if not arguments.page_only:
        measure(file, SMALL if arguments.small else sizes, only=arguments.only)
    found = json.loads(file.read_text())
    draw(found, images=images)
    (arguments.folder / "docs/performance.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
