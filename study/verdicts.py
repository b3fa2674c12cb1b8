"""Outcomes judged once though asked for twice: the driver counts a cohort's, and its MLflow thread tells them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.checkpoint import Checkpoint
    from study.configurations import Configuration
    from study.outcomes import Criteria, Outcome

LIMIT = 50_000
"""Replicates remembered: those that a slow MLflow lets wait, in 20 MB at most."""

Member = tuple[str, int]
Grounds = tuple[object, ...]
"""Everything that the outcomes of a configuration's replicates in a checkpoint depend on."""


class Verdicts:
    """Remembers the outcomes found in checkpoints, by their grounds; the oldest are forgotten. For several threads."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit, self._held = limit, 0
        self._known: OrderedDict[Grounds, dict[int, Outcome]] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        checkpoint: Checkpoint,
        members: Iterable[Member],
        configurations: Mapping[str, Configuration],
        *,
        criteria: Criteria,
        references: Mapping[str, Mapping[str, Any]],
        censored: bool = False,
    ) -> dict[Member, Outcome]:
        """What ``judge_members`` says of the checkpoint's rows, judged or remembered."""
        from study.history import judge_members

        members = list(members)
        shared = (hashlib.sha256(checkpoint.content["history.parquet"]).digest(), criteria, censored)
        grounds = {key: (*shared, *_own(configurations[key], references)) for key in {key for key, _ in members}}
        found = {key: self._remembered(entry) for key, entry in grounds.items()}
        unknown = [(key, replicate) for key, replicate in members if replicate not in found[key]]
        if unknown:
            judged = judge_members(
                checkpoint.history(),
                unknown,
                configurations,
                criteria=criteria,
                references=references,
                censored=censored,
            )
            for (key, replicate), outcome in judged.items():
                found[key][replicate] = outcome
            for key in {key for key, _ in unknown}:
                self._remember(grounds[key], found[key])
        return {(key, replicate): found[key][replicate] for key, replicate in members}

    def _remembered(self, grounds: Grounds) -> dict[int, Outcome]:
        with self._lock:
            return dict(self._known.get(grounds, {}))

    def _remember(self, grounds: Grounds, outcomes: dict[int, Outcome]) -> None:
        with self._lock:
            self._held += len(outcomes) - len(self._known.pop(grounds, {}))
            self._known[grounds] = outcomes
            while self._held > self._limit:
                self._held -= len(self._known.popitem(last=False)[1])


def _own(configuration: Configuration, references: Mapping[str, Mapping[str, Any]]) -> Grounds:
    """A reference is a few plain numbers: they are the key, not the file they came from."""
    reference = tuple(sorted(references[configuration.target_id].items()))
    return configuration.configuration_key, configuration.budget["evaluations"], reference
