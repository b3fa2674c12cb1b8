"""From a study to its configurations: factors crossed or drawn, keys, seeds, and the program each of them trains."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from study.canonical import digest, rounded
from study.data_files import without_folder
from study.design import Design
from study.entries import LossEntry
from study.factors import Scalar
from study.measured import fid_problems, jacobian_problems
from study.model_rules import without_absent
from study.problems import SpecError
from study.sections import Budget
from study.spec import StudySpec
from study.user_code import code_of
from trainers.catalogue import FLOAT32, MEMBER_NUMBERS
from trainers.measurement import groups_on
from trainers.program import Member, Program

_TRIES_PER_CONFIGURATION = 1000


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One value for every factor, without a seed; ``seeds`` holds those of its replicates 0, 1, ...

    ``factors`` are all effective values by spec name, conditional ones (penalty_weight, clip) and varied parameters of
    target and networks included; ``target`` and ``networks`` are complete. ``horizon`` counts generator steps.
    ``code`` is the hash of the user's own code that it runs, empty where everything is registered; ``measurements`` are
    the optional groups that are on, which are no part of what is trained and so none of the key.
    """

    configuration_key: str
    loss: str
    adversarial_loss: str
    penalty: str
    factors: Mapping[str, Scalar]
    target: Mapping[str, object]
    networks: Mapping[str, object]
    budget: Mapping[str, int | str]
    horizon: int
    replicates: int
    seeds: tuple[int, ...]
    code: str = ""
    measurements: tuple[str, ...] = ()

    @property
    def target_id(self) -> str:
        """12 hex digits: which target's reference and judge belong to it."""
        return digest(without_folder(self.target), length=12)

    def program(self) -> Program:
        """What its replicates share with every member of their cohort."""
        return Program(
            loss=self.adversarial_loss,
            penalty=self.penalty,
            k=int(self.factors["k"]),
            batch_size=int(self.factors["batch_size"]),
            optimizer=str(self.factors["optimizer"]),
            updates=str(self.factors["updates"]),
            target=dict(self.target),
            networks=dict(self.networks),
            horizon=self.horizon,
            evaluations=int(self.budget["evaluations"]),
            evaluation_samples=int(self.budget["evaluation_samples"]),
            measurements=self.measurements,
            precision=str(self.factors.get("precision", FLOAT32)),
        )

    def member(self, replicate: int) -> Member:
        """The replicate's seed and its own numbers (both players' rates, betas, penalty weight, ...)."""
        numbers = _both_rates(self.factors)
        return Member(
            seed=self.seeds[replicate],
            numbers={name: float(numbers[name]) for name in MEMBER_NUMBERS if name in numbers},
        )

    def params(self) -> dict[str, str | float | int]:
        """Effective values by spec name, for MLflow: names, factors, and ``target.`` and ``networks.`` parameters."""
        names = {"loss": self.loss, "adversarial_loss": self.adversarial_loss, "penalty": self.penalty}
        parts = {
            f"{part}.{key}": value if isinstance(value, int | float | str) else json.dumps(value)
            for part, mapping in (("target", self.target), ("networks", self.networks))
            for key, value in mapping.items()
        }
        return {**names, **self.factors, **parts}


def replicate_seed(study_seed: int, configuration_key: str, replicate: int) -> int:
    """63 bits of a hash: a replicate's seed depends on its study, its configuration and its number only."""
    return int(digest(["replicate", study_seed, configuration_key, replicate], length=16), 16) >> 1


def configurations(spec: StudySpec) -> tuple[Configuration, ...]:
    """Every configuration of the study, in the order of its loss entries; of an adaptive search a stand-in.

    As many settings as the search will choose, drawn at random: what it is expected to cost, and what can be said of
    its networks and code before it begins.

    Raises SpecError when two labels mean the same configuration, a random search finds too few different ones, or
    a measurement that the study asks for cannot be taken: of networks too large for it, or without what it needs.
    """
    made: dict[str, Configuration] = {}
    problems = []
    for entry in spec.design.entries:
        code = entry_code(spec, entry)
        for factors in _assignments(spec, entry):
            configuration = configuration_of(spec, entry, factors, code)
            other = made.setdefault(configuration.configuration_key, configuration)
            if other is not configuration:
                problems.append(
                    f"scientific.loss: {_named(other)} and {_named(configuration)} are the same configuration"
                )
    if problems:
        more = [f"... and {len(problems) - 10} more pairs"] if len(problems) > 10 else []
        raise SpecError(problems[:10] + more)
    every = tuple(made.values())
    if impossible := [*jacobian_problems(every), *fid_problems(every)]:
        raise SpecError(impossible)
    return every


def entry_code(spec: StudySpec, entry: LossEntry) -> str:
    """The hash of the user's own code that a loss entry runs, empty where everything is registered."""
    return code_of(
        networks=spec.networks["name"],
        adversarial_loss=entry.adversarial_loss,
        penalty=entry.penalty,
        folder=spec.code_folder,
    )


def _assignments(spec: StudySpec, entry: LossEntry) -> Iterator[dict[str, Scalar]]:
    if spec.search.method != "grid":
        return drawn(spec.design, entry, seed=spec.seed, count=spec.search.configurations or 0)
    return _crossed(spec.design, entry)


def _crossed(design: Design, entry: LossEntry) -> Iterator[dict[str, Scalar]]:
    """The full factorial, first factor slowest; optimizers and orders of updates bring their own numbers only."""
    seen = set()
    for optimizer in design.optimizers:
        used = {updates: design.names(optimizer, updates) for updates in design.updates}
        names = dict.fromkeys(itertools.chain.from_iterable(used.values()))
        values = {name: design.values(name, optimizer=optimizer).grid() for name in names}
        values |= {"optimizer": (optimizer,)} | {name: given.grid() for name, given in entry.parameters.items()}
        for combination in itertools.product(*values.values()):
            given = dict(zip(values, combination, strict=True))
            factors = {name: given[name] for name in (*used[str(given["updates"])], *entry.parameters)}
            mark = tuple(factors.items())
            if mark not in seen:  # updates without a number meet each of its values
                seen.add(mark)
                yield factors


def drawn(design: Design, entry: LossEntry, *, seed: int, count: int) -> Iterator[dict[str, Scalar]]:
    """``count`` different draws.

    Every factor has its own stream, and those outside the entry do not know the entry: losses are compared in the same
    cells, and one more loss or factor leaves the other draws as they were.
    """
    own = f"{entry.adversarial_loss}+{entry.penalty}"
    streams = {name: _stream(seed, name) for name in design.varied}
    own_streams = {name: _stream(seed, f"{own}.{name}") for name in entry.parameters}
    seen: set[str] = set()
    for _ in range(_TRIES_PER_CONFIGURATION * count):
        if len(seen) == count:
            return
        values = {name: given.draw(streams[name]) for name, given in design.varied.items()}
        own_values = {name: given.draw(own_streams[name]) for name, given in entry.parameters.items()}
        factors = assembled(design, values, own_values)
        mark = digest(factors, length=16)
        if mark not in seen:
            seen.add(mark)
            yield factors
    if len(seen) < count:
        raise SpecError([f"search.configurations: {entry.label!r} gave only {len(seen)} different ones (got {count})"])


def assembled(design: Design, varied: Mapping[str, Scalar], own: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """All effective factors from the values of those that vary and of the entry's own; unused ones are dropped."""
    optimizer = str(varied.get("optimizer", design.optimizers[0]))
    updates = str(varied.get("updates", design.updates[0]))
    return {
        name: varied[name] if name in varied else _only(design, name, optimizer)
        for name in design.names(optimizer, updates)
    } | dict(own)


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(int(digest(["search", seed, name], length=32), 16))


def _only(design: Design, name: str, optimizer: str) -> Scalar:
    return design.values(name, optimizer=optimizer).grid()[0]


def configuration_of(spec: StudySpec, entry: LossEntry, factors: dict[str, Scalar], code: str) -> Configuration:
    """The configuration of one setting of a loss entry."""
    parts = {
        "target": (spec.target, spec.design.target_factors),
        "networks": (spec.networks, spec.design.networks_factors),
    }
    target, networks = (
        without_absent(part, {**mapping, **{name: value for name, value in factors.items() if name in varied}})
        for part, (mapping, varied) in parts.items()
    )
    others = {name: value for name, value in factors.items() if all(name not in varied for _, varied in parts.values())}
    key = _key(entry, others, target=target, networks=networks, budget=spec.budget, code=code)
    return Configuration(
        configuration_key=key,
        loss=entry.label,
        adversarial_loss=entry.adversarial_loss,
        penalty=entry.penalty,
        factors=factors,
        target=target,
        networks=networks,
        budget=spec.budget.model_dump(),
        horizon=spec.budget.horizon(
            k=int(factors["k"]),
            batch_size=int(factors["batch_size"]),
            penalty=entry.penalty,
            updates=str(factors["updates"]),
        ),
        replicates=spec.replicates,
        seeds=tuple(replicate_seed(spec.seed, key, replicate) for replicate in range(spec.replicates)),
        code=code,
        measurements=groups_on(spec.measurements or (), factors=factors, target=target["name"]),
    )


def _key(
    entry: LossEntry,
    factors: Mapping[str, Scalar],
    *,
    target: Mapping[str, object],
    networks: Mapping[str, object],
    budget: Budget,
    code: str,
) -> str:
    """16 hex digits over what is really run: no label, replicates or resources, and not where a factor was written."""
    effective = {name: value for name, value in _both_rates(factors).items() if name not in {*target, *networks}}
    identity = {
        "adversarial_loss": entry.adversarial_loss,
        "penalty": entry.penalty,
        "factors": effective,
        "target": without_folder(target),
        "networks": networks,
        "budget": budget.model_dump(),
    }
    return digest({**identity, "code": code} if code else identity, length=16)


def _both_rates(factors: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The factors with a common learning rate written as the two players' rates."""
    rest = {name: value for name, value in factors.items() if name != "learning_rate"}
    if "learning_rate" in factors:
        rest["generator_learning_rate"] = rest["discriminator_learning_rate"] = factors["learning_rate"]
    return rest


def _named(configuration: Configuration) -> str:
    values = ", ".join(f"{name}={rounded(value)}" for name, value in configuration.factors.items())
    return f"{configuration.loss!r} ({values})"
