"""What the report of a Dirac-GAN study says in words: agreement with the closed form, the rule of its outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

from analysis.dirac_cells import agreement, oracle_table
from analysis.frames import StudyFrames
from analysis.wording import mapping, number_text
from study.outcomes import RADIUS_MEANINGS, RADIUS_THRESHOLDS

OUTCOME_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "converged": "the distance to the equilibrium shrinks by half or more from the third quarter to the last",
        "oscillating": "neither shrinks nor grows so much, and theta goes on moving by a tenth of the distance or more",
        "plateau": "rests away from the equilibrium, or nears it too slowly to tell",
        "diverged": "non-finite numbers, or the distance grows by half or more from the third quarter to the last",
    }
)
"""What the outcomes mean where the radius is judged; the others do not occur, or have their usual meaning."""


def agreement_sentence(frames: StudyFrames) -> str:
    """The study's first sentence: how many settings end as the closed form says."""
    found = agreement(oracle_table(frames))
    if not found.compared:
        return "No setting of this study can be compared with the closed form."
    every = "all" if not found.disagreeing else f"{found.agreeing:,}"
    told = (
        f"Of {found.compared:,} settings that the closed form speaks of, {every} end as it says: they converge inside "
        "the exact boundary of stability and nowhere else"
    )
    if found.disagreeing:
        told += f"; {found.disagreeing:,} {'does' if found.disagreeing == 1 else 'do'} not"
    if found.too_slow:
        verb = "converges" if found.too_slow == 1 else "converge"
        told += f"; {found.too_slow:,} more {verb} too slowly for the budget and {_are(found.too_slow)} left out"
    return f"{told}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def boundary_caption(frames: StudyFrames, cells: pd.DataFrame) -> str:
    """Counts and what the figure shows."""
    found = agreement(cells)
    low, high = int(cells["judged"].min()), int(cells["judged"].max())
    replicates = f"{low}" if low == high else f"{low} to {high}"
    others = f", {found.others:,} without a closed form or without a judged run" if found.others else ""
    return (
        f"How the real trainer ends from {_start(frames)}, against the exact boundary of stability of the same "
        "discrete steps (the line; the row below the gap has no penalty; a cell's dot is its setting). Fill: commonest "
        f"outcome of n = {replicates} judged replicates per setting. {len(cells):,} settings: {found.agreeing:,} agree "
        f"with the closed form, {found.disagreeing:,} disagree, {found.too_slow:,} are excluded: their contraction "
        f"needs more than the budget (hatched: steps < 4 / -ln of the spectral radius){others}. "
        "A setting agrees when all of its replicates converged, or none did, as predicted."
    )


def _start(frames: StudyFrames) -> str:
    initial = mapping(frames.spec.get("networks")).get("initial")
    radius = mapping(initial).get("radius")
    if radius is not None:
        return f"radius {number_text(radius)}"
    numbers = initial if isinstance(initial, list) else []
    return f"(θ, ψ) = ({', '.join(number_text(number) for number in numbers)})"


def orbit_caption(word: str, *, count: int, shown: int) -> str:
    """Of one outcome's examples."""
    both = "The run of median margin and the run of smallest margin" if shown > 1 else "The run of smallest margin"
    return (
        f"{both} of n = {count} {word} runs; single runs, no interval. Left: distance to the equilibrium, with the two "
        "quarters whose largest radii are compared shaded. Right: the parameters at every evaluation, joined in their "
        "order (an orbit turns on between two evaluations)."
    )


def rule_rows() -> list[dict[str, object]]:
    """The rule's thresholds in the form of the report's table of criteria."""
    return [
        {
            "name": name,
            "value": number_text(value),
            "default": number_text(value),
            "changed": False,
            "meaning": RADIUS_MEANINGS[name],
        }
        for name, value in RADIUS_THRESHOLDS.items()
    ]
