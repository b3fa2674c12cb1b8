"""The statistics keep their promises on simulated studies, and the wrong methods are seen to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.simulations import SCENARIOS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "simulations.md"


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_promise(scenario):
    rows = scenario()
    broken = [
        f"{r.scenario}, {r.quantity}: {r.measured:.4f} not in {r.low:.3g} to {r.high:.3g}" for r in rows if not r.kept
    ]
    assert broken == []
    document = DOCUMENT.read_text(encoding="utf-8")
    unwritten = [r.scenario for r in rows if f"| {r.scenario} | {r.quantity} | {r.nominal} |" not in document]
    assert unwritten == [], "run: python -m benchmarks.simulation_table --write"
