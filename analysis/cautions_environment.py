"""Warnings about what trained the losses: an environment that goes with the loss, a seed that gave other numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from scipy import stats

from analysis.cautions_records import Caution, Tables, if_any
from analysis.estimators import holm
from analysis.frames import StudyFrames
from analysis.wording import counted, shown

ASSOCIATED_P = 0.05
MOST_VALUES = 4

Counts = Mapping[str, Mapping[str, int]]
"""Value -> label -> cohorts."""


def _confounded(frames: StudyFrames, tables: Tables) -> Caution | None:
    """W13: two losses without a value in common, or a value that one loss has more often than the others.

    Exact tests over cohorts (Fisher), Holm over all of them: cohorts, not replicates, were given to machines.
    """
    recorded = frames.provenance.get("environments")
    facts: Mapping[str, Counts] = recorded if isinstance(recorded, Mapping) else {}
    varying = {fact: counts for fact, counts in facts.items() if len(counts) > 1}
    affected = _apart(varying) | _associated(varying)
    named = {fact for fact, _ in affected}
    labels = {label for _, label in affected}
    return if_any(
        "W13",
        "Losses were trained in different environments",
        [label for label in frames.labels() if label in labels],
        "; ".join(_told(fact, varying[fact]) for fact in varying if fact in named)
        + ": a difference between these losses may be the environment's",
    )


def _apart(facts: Mapping[str, Counts]) -> set[tuple[str, str]]:
    """(fact, label) of every two labels that share no value of a fact."""
    found: set[tuple[str, str]] = set()
    for fact, counts in facts.items():
        values = {label: {v for v, by_label in counts.items() if label in by_label} for label in _labels(counts)}
        for a, b in itertools.combinations(values, 2):
            if values[a].isdisjoint(values[b]):
                found |= {(fact, a), (fact, b)}
    return found


def _associated(facts: Mapping[str, Counts]) -> set[tuple[str, str]]:
    """(fact, label) where the label has a value more or less often than the other labels, by chance in 5 % at most."""
    tests: list[tuple[str, str]] = []
    p_values: list[float] = []
    for fact, counts in facts.items():
        for value, label in itertools.product(_one_of_two(list(counts)), _one_of_two(_labels(counts))):
            with_it, own = sum(counts[value].values()), sum(by_label.get(label, 0) for by_label in counts.values())
            both, everyone = counts[value].get(label, 0), sum(sum(by_label.values()) for by_label in counts.values())
            table = [[both, own - both], [with_it - both, everyone - own - with_it + both]]
            tests.append((fact, label))
            p_values.append(float(stats.fisher_exact(table).pvalue))
    shown_ones = [test for test, p in zip(tests, holm(p_values), strict=True) if p <= ASSOCIATED_P]
    pairs = {fact: _labels(counts) for fact, counts in facts.items() if len(_labels(counts)) == 2}
    return {(fact, name) for fact, label in shown_ones for name in pairs.get(fact, [label])}


def _one_of_two(names: Sequence[str]) -> Sequence[str]:
    """Of two the second says nothing that the first does not."""
    return names[:1] if len(names) == 2 else names


def _labels(counts: Counts) -> list[str]:
    return sorted({label for by_label in counts.values() for label in by_label})


def _told(fact: str, counts: Counts) -> str:
    """torch: 2.1 (hinge 3), 2.2 (minimax 4 cohorts)."""
    parts = [
        f"{shown(value, limit=40)} ({', '.join(f'{shown(label)} {n}' for label, n in by_label.items())})"
        for value, by_label in list(counts.items())[:MOST_VALUES]
    ]
    more = [f"{len(counts) - MOST_VALUES} more"] if len(counts) > MOST_VALUES else []
    return f"{shown(fact)}: cohorts with {', '.join(parts + more)}"


def _not_reproduced(frames: StudyFrames, tables: Tables) -> Caution | None:
    """W15: one seed, one environment, two different numbers."""
    count, keys = (frames.provenance.get(f"differing_{name}") for name in ("duplicates", "configurations"))
    if not isinstance(count, int) or not count or not isinstance(keys, list):
        return None
    hit = set(frames.runs.loc[frames.runs["configuration_key"].isin(keys), "loss"])
    return if_any(
        "W15",
        "The same seed gave other numbers when it was trained again",
        [label for label in frames.labels() if label in hit],
        f"{counted(count, 'evaluation')} in {counted(len(keys), 'setting')} differ from those of an earlier attempt in "
        "the same environment: the later ones stand, and a rerun cannot be expected to repeat them",
    )


ENVIRONMENT_CHECKS: Sequence[Callable[[StudyFrames, Tables], Caution | None]] = (_confounded, _not_reproduced)
