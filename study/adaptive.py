"""Adaptive search: Ray Tune's OptunaSearch for each loss entry, all with the same budget, and the plan that grows."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from study.configurations import Configuration
from study.errors import WorkFailed
from study.folder import StudyFolder
from study.plan import Plan
from study.spec import StudySpec
from study.suggestions import Suggestions, open_journal

VALUE = "value"
ASK_AGAIN = 20
"""How often a sampler may propose what was tried before, until a random setting is put in its place."""


class Book(Protocol):
    """The plan, which grows, and what is known of its cohorts."""

    @property
    def plan(self) -> Plan:
        """As it is now."""

    def grow(self, configuration: Configuration) -> str:
        """Takes a configuration into the plan, durably, and names its cohort."""

    def value(self, cohort: str) -> float | None:
        """How good an ended cohort is; None where it has not ended, or failed."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One loss entry: its Optuna study, and the searcher that asks it."""

    suggestions: Suggestions
    search: OptunaSearch

    @classmethod
    def of(cls, suggestions: Suggestions) -> Arm:
        """OptunaSearch on a study that exists, and on its sampler."""
        search = OptunaSearch(
            space=suggestions.define,
            metric=VALUE,
            mode="max",
            sampler=suggestions.sampler,
            study_name=suggestions.label,
            storage=suggestions.storage,
        )
        return cls(suggestions=suggestions, search=search)

    def ask(self, question: str) -> tuple[int, Configuration]:
        """The next proposal: its number in the Optuna study, and its configuration."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a model takes a second to ask, and that a sampler is experimental
            answer = self.search.suggest(question)
        number = int(answer["number"])
        return number, self.suggestions.proposed(number)


class EqualBudgets(Searcher):  # type: ignore[misc]
    """Interleaves one search per loss entry: who has the fewest configurations is asked next.

    First comes what is planned and has not ended: a resumed study loses no suggestion and makes none twice.
    """

    def __init__(
        self,
        suggestions: Sequence[Suggestions],
        *,
        book: Book,
        unfinished: Sequence[str],
        stopping: Callable[[], bool],
        limit: Callable[[], int],
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._arms = {entry.label: Arm.of(entry) for entry in suggestions}
        self._book, self._waiting = book, list(unfinished)
        self._running: dict[str, str] = {}
        self._asked = 0
        self._stopping, self._limit = stopping, limit

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts into files that are never read back."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next cohort's configuration, None for "not now", or FINISHED."""
        if self._stopping() or not (self._waiting or self._book.plan.to_come):
            return str(Searcher.FINISHED)
        if len(self._running) >= max(1, self._limit()):
            return None
        cohort = self._waiting.pop(0) if self._waiting else self._book.grow(self._next())
        self._running[trial_id] = cohort
        return {"cohort": cohort}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna what became of the cohort; one that was paused stays open."""
        cohort = self._running.pop(trial_id)
        key = self._book.plan.by_cohort[cohort].members[0][0]
        configuration = self._book.plan.by_key[key]
        value = None if error else self._book.value(cohort)
        if value is not None or error or (result or {}).get("failed"):
            self._arms[configuration.loss].suggestions.tell(configuration, value)

    def save(self, checkpoint_path: str) -> None:
        """For Tune's own state, which is never read back."""
        Path(checkpoint_path).write_text(json.dumps({"running": len(self._running)}), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Refused: a study resumes from its plan and checkpoints, as a new attempt."""
        raise NotImplementedError("a study is resumed as a new attempt over its unfinished cohorts")

    def _next(self) -> Configuration:
        """A configuration that is not planned yet, of the loss entry with the fewest."""
        plan = self._book.plan
        made = Counter(entry.loss for entry in plan.configurations)
        arm = min(self._arms.values(), key=lambda one: made[one.suggestions.label])
        for _ in range(2):
            for _ in range(ASK_AGAIN):
                self._asked += 1
                number, configuration = arm.ask(f"question-{self._asked}")
                known = plan.by_key.get(configuration.configuration_key)
                if known is None:
                    return configuration
                arm.suggestions.repeats(number, self._known_value(configuration.configuration_key))
            if not arm.suggestions.enqueue_unseen(plan.by_key):
                break
        raise WorkFailed(f"{arm.suggestions.label!r}: no setting is left that was not tried yet")

    def _known_value(self, key: str) -> float | None:
        cohort = next(entry.cohort for entry in self._book.plan.cohorts if entry.members[0][0] == key)
        return self._book.value(cohort)


def open_search(folder: StudyFolder, spec: StudySpec, book: Book, *, ended: Collection[str]) -> list[Suggestions]:
    """The Optuna studies of a study whose lock is held, told all that the plan knows.

    ``ended``: cohorts that have a result. Raises WorkFailed where the storage cannot be used.
    """
    storage = open_journal(folder.journal_file)
    suggestions = [Suggestions(spec, entry, storage) for entry in spec.design.entries]
    by_label = {entry.label: entry for entry in suggestions}
    for entry in suggestions:
        entry.forget(book.plan.by_key)
    for cohort in book.plan.cohorts:
        configuration = book.plan.by_key[cohort.members[0][0]]
        if cohort.cohort in ended:
            by_label[configuration.loss].tell(configuration, book.value(cohort.cohort))
    return suggestions
