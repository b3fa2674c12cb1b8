"""What Optuna keeps of an adaptive search: one study per loss entry, all in one journal in the study's folder.

The plan is the truth. The journal says what was proposed and told: a trial names its configuration by key before the
plan takes it up, so that after a crash each trial is either planned or forgotten, and nothing is proposed twice.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from study.canonical import digest
from study.configurations import Configuration, configuration_of, drawn, entry_code
from study.entries import LossEntry
from study.errors import WorkFailed
from study.factors import Listed, Values
from study.problems import SpecError
from study.space import asked, choose
from study.spec import StudySpec

KEY, REPEAT = "configuration_key", "repeat"
"""User attributes of a trial: what it became, and whether that had been tried before."""

STARTUP = 10
"""Settings drawn at random before a model is asked, at most; never more than a quarter of the search."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Held(JournalFileOpenLock):  # type: ignore[misc]
    """The study's own lock is held by whoever writes here: a second one would outlive a killed driver."""

    def acquire(self) -> bool:
        """At once."""
        return True

    def release(self) -> None:
        """Nothing."""


def open_journal(path: Path) -> BaseStorage:
    """Optuna's storage in ``path``, made where it is missing. A line that a crash cut short is taken back.

    Raises WorkFailed where it cannot be read or written, with what to do.
    """
    try:
        _mend(path)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_Held(str(path))))
    except Exception as problem:  # Optuna raises whatever a damaged line makes it stumble over
        reason = f"{type(problem).__name__}: {problem}"
        raise WorkFailed(
            f"the search's storage {path} cannot be used: {reason}; if it is damaged, move it away and resume: "
            "it is made again from the plan and the checkpoints"
        ) from problem


def _mend(path: Path) -> None:
    """Cuts off an unfinished last line, which nobody was told about; raises ValueError for a damaged one before it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        if not isinstance(json.loads(line), dict):
            raise ValueError(f"line {number} is no entry")
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))


def build_sampler(name: str, *, seed: int, budget: int) -> BaseSampler:
    """Optuna's sampler of this name for a search of ``budget`` settings, with its own seed."""
    startup = min(STARTUP, max(1, budget // 4))
    makers: Mapping[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True),
        "gp": lambda: GPSampler(seed=seed, n_startup_trials=startup),
        "cmaes": lambda: CmaEsSampler(
            seed=seed, independent_sampler=RandomSampler(seed=seed), warn_independent_sampling=False
        ),
        "qmc": lambda: QMCSampler(
            scramble=True,
            seed=seed,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        ),
        "random": lambda: RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # qmc, since 2021
        return makers[name]()


class Suggestions:
    """One loss entry's Optuna study. ``define`` is its space, as OptunaSearch wants it: asked trial by trial."""

    def __init__(self, spec: StudySpec, entry: LossEntry, storage: BaseStorage) -> None:
        self._spec, self._entry, self._code = spec, entry, entry_code(spec, entry)
        self._proposed: dict[int, Configuration] = {}
        self.budget = spec.search.configurations or 0
        self.storage = storage
        self.study = optuna.create_study(
            storage=storage, study_name=entry.label, direction="maximize", load_if_exists=True
        )
        self.sampler = build_sampler(str(spec.search.sampler), seed=self._seed(), budget=self.budget)
        self.study.sampler = self.sampler

    @property
    def label(self) -> str:
        """The loss entry's, and the name of its Optuna study."""
        return self._entry.label

    def define(self, trial: Any) -> dict[str, Any]:
        """Asks ``trial`` for one setting, and writes down beside it which configuration that is."""
        factors = choose(self._spec.design, self._entry, trial)
        configuration = configuration_of(self._spec, self._entry, factors, self._code)
        trial.set_user_attr(KEY, configuration.configuration_key)
        self._proposed[trial.number] = configuration
        return {"number": trial.number}

    def proposed(self, number: int) -> Configuration:
        """The configuration of the trial that was just asked for; KeyError when it was taken before."""
        return self._proposed.pop(number)

    def repeats(self, number: int, value: float | None) -> None:
        """Trial ``number`` proposed what was tried before: its known value is told, if there is one."""
        found = next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)
        self.storage.set_trial_user_attr(found._trial_id, REPEAT, True)
        self._tell(number, value)

    def enqueue_unseen(self, planned: Mapping[str, object]) -> bool:
        """Puts a random setting that is not in ``planned`` next in the queue; False where none was found."""
        draws = drawn(self._spec.design, self._entry, seed=self._seed(), count=len(planned) + 1)
        with contextlib.suppress(SpecError):  # the space has no more
            for factors in draws:
                configuration = configuration_of(self._spec, self._entry, factors, self._code)
                if configuration.configuration_key not in planned:
                    chosen = asked(self._spec.design, self._entry, factors)
                    self.study.enqueue_trial({name: value for name, (_, value) in chosen.items()})
                    return True
        return False

    def tell(self, configuration: Configuration, value: float | None) -> None:
        """What became of a planned configuration: its value, or None where the machine failed. Repeatable."""
        own = self._trials(configuration.configuration_key)
        running = [trial for trial in own if trial.state == TrialState.RUNNING]
        if running:
            self._tell(running[0].number, value)
        elif value is not None and not any(trial.state == TrialState.COMPLETE for trial in own):
            self._add(configuration, value)  # it failed before, or the journal was lost

    def forget(self, planned: Mapping[str, object]) -> int:
        """Ends as failed what was proposed and never planned, or proposed again; returns how many."""
        running = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        kept: set[str] = set()
        lost = []
        for trial in running:
            key = trial.user_attrs.get(KEY)
            done = any(other.state == TrialState.COMPLETE for other in self._trials(str(key)))
            if key in planned and key not in kept and not done and REPEAT not in trial.user_attrs:
                kept.add(str(key))
            else:
                lost.append(trial.number)
        for number in lost:
            self._tell(number, None)
        return len(lost)

    def _trials(self, key: str) -> list[FrozenTrial]:
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.user_attrs.get(KEY) == key and REPEAT not in trial.user_attrs]

    def _tell(self, number: int, value: float | None) -> None:
        if value is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, value)

    def _add(self, configuration: Configuration, value: float) -> None:
        chosen = asked(self._spec.design, self._entry, configuration.factors)
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                value=value,
                params={name: given for name, (_, given) in chosen.items()},
                distributions={name: _distribution(values) for name, (values, _) in chosen.items()},
                user_attrs={KEY: configuration.configuration_key},
            )
        )

    def _seed(self) -> int:
        """32 bits from the study's seed and the label; after a resume others, or the same draws would come again.

        Not with qmc: its points are one sequence, whose place Optuna keeps.
        """
        known = 0 if self._spec.search.sampler == "qmc" else len(self.study.get_trials(deepcopy=False))
        return int(digest(["search", self._spec.seed, self.label, known], length=8), 16)


def _distribution(values: Values) -> BaseDistribution:
    """As ``space.choose`` asks for it."""
    if isinstance(values, Listed):
        return CategoricalDistribution(values.values)
    log = values.scale == "log"
    if values.integer:
        return IntDistribution(int(values.low), int(values.high), log=log)
    return FloatDistribution(float(values.low), float(values.high), log=log)
