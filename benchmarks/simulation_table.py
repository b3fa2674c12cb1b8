"""What the statistics promise and what simulated studies measure, as a Markdown table.

    python -m benchmarks.simulation_table            # prints it
    python -m benchmarks.simulation_table --write    # writes docs/simulations.md

Seeds are fixed, so the numbers come out the same; they take about a minute of one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.analysis.mutants import mutants_table
from tests.analysis.simulations import SCENARIOS, table

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "simulations.md"

INTRODUCTION = """# What the statistics promise, and what simulations measure

Written by `python -m benchmarks.simulation_table --write` (fixed seeds; the same scenarios are the gates of
`tests/analysis/test_simulations.py`). "Nominal" is what the method claims, "accepted" the range the gate allows; rows
that begin with "wrong:" are methods that must fail, which shows that the simulation can tell.
"""


MUTANTS = """## Planted defects

Each of these defects was planted in the real function, and the named checks, which are ordinary tests and scenarios of
the suite, were seen to fail with it and to pass without (`tests/analysis/test_mutants.py` repeats that every time).
"""


def main() -> None:
    rows = [row for scenario in SCENARIOS for row in scenario()]
    text = f"{table(rows)}\n\n{MUTANTS}\n{mutants_table()}"
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(f"{INTRODUCTION}\n{text}\n", encoding="utf-8")
    print(text)
    broken = [row.scenario for row in rows if not row.kept]
    if broken:
        sys.exit(f"not kept: {', '.join(broken)}")


if __name__ == "__main__":
    main()
