"""Warnings about tuned settings and their fresh replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.cautions_records import Caution, Tables, if_any
from analysis.commands import fresh_command, most_seeds, widening
from analysis.frames import StudyFrames
from analysis.wording import counted, listed, number_text, shown


def outermost(space: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``tuned_space`` whose value lies at an edge: of more than two values, and not k = 1, nature's end."""
    natural = (space["factor"] == "k") & (space["value"] == 1)
    return space[(space["edge"] != "") & (space["levels"] > 2) & ~natural].reset_index(drop=True)


def _at_edge(frames: StudyFrames, tables: Tables) -> Caution | None:
    """W25: the best setting may lie outside what was searched."""
    space = tables.get("tuned_space", pd.DataFrame())
    if not len(space):
        return None
    found = outermost(space)
    return if_any(
        "W25",
        "A selected setting lies at the edge of what was searched",
        [f"{row['loss']} ({_told(row)})" for row in found.to_dict("records")],
        f"a better setting may lie outside: tuned success is that of this range{_widening(frames, found)}",
    )


def _told(row: dict[object, object]) -> str:
    """The lowest of learning rate: 1e-4."""
    name = str(row["factor"]).replace("_", " ")
    return f"{'lowest' if row['edge'] == 'low' else 'highest'} {name}, {number_text(row['value'])}"


def _widening(frames: StudyFrames, found: pd.DataFrame) -> str:
    """; what would look beyond the edges."""
    clause = widening(frames, [str(end) for end in found.loc[found["factor"] == "learning_rate", "edge"].unique()])
    others = [str(n).replace("_", " ") for n in found["factor"].unique() if n != "learning_rate" or not clause]
    told = [clause] * bool(clause) + [f"so would one with a wider {listed(list(map(shown, others)))}"] * bool(others)
    return f"; {', '.join(told)}" if clause else f"; a study with a wider {listed(others)} would tell"


def _few_fresh(frames: StudyFrames, tables: Tables) -> Caution | None:
    """W26: the fresh replicates do not tell some tuned losses apart."""
    pairs = tables.get("tuned_contrasts", pd.DataFrame())
    if not len(pairs) or not most_seeds(pairs):
        return None
    open_pairs = pairs[pairs["seeds_needed"].notna()]
    command = fresh_command(frames, most_seeds(pairs))
    return if_any(
        "W26",
        "Too few fresh seeds to tell some tuned losses apart",
        [f"{a} / {b}" for a, b in zip(open_pairs["loss_a"], open_pairs["loss_b"], strict=True)],
        f"up to {most_seeds(pairs)} more of each selected setting would find the smallest difference that matters in "
        f"four studies of five{f': `{command}` adds them' if command else ''}",
    )


def _unconfirmed(frames: StudyFrames, tables: Tables) -> Caution | None:
    """W27: a loss of which no setting was confirmed, or whose fresh replicates were lost."""
    if not len(frames.confirmed):
        return None
    tuned = tables.get("tuned", pd.DataFrame(columns=["loss", "runs_planned", "runs_failed"]))
    lost = tuned[tuned["runs_failed"] > 0]
    missing = [label for label in frames.explored.labels() if label not in set(tuned["loss"])]
    named = [f"{r['loss']} ({counted(int(r['runs_failed']), 'run')} lost)" for r in lost.to_dict("records")]
    return if_any(
        "W27",
        "Fresh replicates are missing",
        [*(f"{label} (no setting confirmed)" for label in missing), *named],
        "lost runs are left out of tuned success, and verdicts on it hold whatever they would have shown",
    )


TUNED_CHECKS: Sequence[Callable[[StudyFrames, Tables], Caution | None]] = (_at_edge, _few_fresh, _unconfirmed)
