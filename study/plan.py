"""The frozen plan: configurations, and the cohorts that train them. Written once, never made again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from study.canonical import digest
from study.configurations import Configuration, configurations, replicate_seed
from study.cost import MEMBER_MULTIPLE, STARTUP_S, Estimate, cohort_seconds, makespan, members_that_fit
from study.data_files import without_folder
from study.share import share_of
from study.spec import StudySpec

__all__ = ["Cohort", "Configuration", "Estimate", "Plan", "make_plan", "plan_for", "replicate_seed"]

SCHEMA = 1
MIN_COHORT, MAX_COHORT = 16, 32
"""Sizes of ``cohort_size: auto``: below, a process spends its time launching kernels; above, on CPU, nothing is won."""
MAX_GPU_COHORT = 512
"""On a GPU launching kernels is the cost for far longer, so that eight times the replicates take hardly more time."""

_UNSAFE = re.compile(r"[^a-z0-9]+")

MemberId = tuple[str, int]
"""(configuration_key, replicate)."""


@dataclass(frozen=True)
class Cohort:
    """Replicates trained together as one stacked model: one Ray Tune trial."""

    cohort: str
    members: tuple[MemberId, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every replicate of a study, each in exactly one cohort; cohorts in the order they are started."""

    study: str
    spec_hash: str
    criteria_hash: str
    configurations: tuple[Configuration, ...]
    cohorts: tuple[Cohort, ...]

    @cached_property
    def by_key(self) -> Mapping[str, Configuration]:
        """Configurations by key."""
        return {entry.configuration_key: entry for entry in self.configurations}

    @cached_property
    def by_cohort(self) -> Mapping[str, Cohort]:
        """Cohorts by id."""
        return {entry.cohort: entry for entry in self.cohorts}

    def configuration(self, configuration_key: str) -> Configuration:
        """The configuration with this key; KeyError when the plan has none."""
        return self.by_key[configuration_key]

    @property
    def replicates(self) -> int:
        """Planned replicates, all configurations together."""
        return sum(entry.replicates for entry in self.configurations)

    def estimate(self, *, workers: int) -> Estimate:
        """Steps (exact) and wall time (rough) when ``workers`` cohorts train at once."""
        programs = [(self.by_key[cohort.members[0][0]].program(), len(cohort.members)) for cohort in self.cohorts]
        return Estimate(
            generator_steps=sum(program.horizon for program, _ in programs),
            replicate_steps=sum(program.horizon * members for program, members in programs),
            wall_s=STARTUP_S
            + makespan((cohort_seconds(program, members) for program, members in programs), workers=workers),
            workers=workers,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data of plan.json: nothing in it depends on when or where it was made."""
        return {
            "schema": SCHEMA,
            "study": self.study,
            "spec_hash": self.spec_hash,
            "criteria_hash": self.criteria_hash,
            "configurations": [_plain(entry) for entry in self.configurations],
            "cohorts": [
                {"cohort": entry.cohort, "members": [list(member) for member in entry.members]}
                for entry in self.cohorts
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` gave; raises ValueError when ``data`` is not one."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"plan.json: schema must be {SCHEMA}, got {data.get('schema')!r}")
        names = {field.name for field in fields(Configuration)}
        try:
            plan = cls(
                study=data["study"],
                spec_hash=data["spec_hash"],
                criteria_hash=data["criteria_hash"],
                configurations=tuple(
                    Configuration(**{**_only(entry, names), **_tuples(entry)}) for entry in data["configurations"]
                ),
                cohorts=tuple(
                    Cohort(entry["cohort"], tuple((key, replicate) for key, replicate in entry["members"]))
                    for entry in data["cohorts"]
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"plan.json is damaged: {type(error).__name__}: {error}") from error
        return plan


_DERIVED = {"target_id"}
"""Written beside a configuration's own fields for readers of plan.json that do not import the plan."""


def _plain(entry: Configuration) -> dict[str, Any]:
    """A configuration's own fields, but not where a target's files lie: launch.json says that.

    Without ``measurements`` where none is switched on, as before there were any.
    """
    own = {**asdict(entry), "seeds": list(entry.seeds), "measurements": list(entry.measurements)}
    own["target"] = without_folder(entry.target)
    return {key: value for key, value in own.items() if key != "measurements" or value} | {"target_id": entry.target_id}


def _tuples(entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {"seeds": tuple(entry["seeds"]), "measurements": tuple(entry.get("measurements", ()))}


def _only(entry: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    unknown = set(entry) - names - _DERIVED
    if unknown:
        raise ValueError(f"plan.json: unknown keys of a configuration: {', '.join(sorted(unknown))}")
    return {name: value for name, value in entry.items() if name in names}


def plan_for(spec: StudySpec, cluster: Mapping[str, float]) -> Plan:
    """The plan of a study on a machine or cluster with these resources (Ray's totals by name: CPU, GPU).

    As many workers as trials run there at once, and larger cohorts where they train on GPUs. Raises SpecError.
    """
    share = share_of(cluster, spec.resources)
    return make_plan(spec, workers=share.concurrent, max_members=MAX_GPU_COHORT if share.gpus else MAX_COHORT)


def make_plan(spec: StudySpec, *, workers: int, max_members: int = MAX_COHORT) -> Plan:
    """The plan of a study for ``workers`` parallel workers; ``cohort_size: auto`` goes up to ``max_members``.

    Raises SpecError when two labels mean the same configuration.
    """
    made = configurations(spec)
    groups = _by_program(made)
    whole = spec.search.method == "optuna" or spec.scheduler.name == "asha"
    size = spec.resources.cohort_size
    if whole:
        parts = _cut(groups, size=None)
    elif isinstance(size, int):
        parts = _cut(groups, size=size)
    else:
        fit = min(members_that_fit(group[0].program()) for group in groups)
        parts = _best_cut(groups, workers=workers, max_members=min(max_members, fit))
    ordered = sorted(parts, key=lambda part: -part.seconds)
    width = max(3, len(str(len(ordered) - 1)))
    return Plan(
        study=spec.study,
        spec_hash=spec.spec_hash,
        criteria_hash=spec.criteria_hash,
        configurations=made,
        cohorts=tuple(Cohort(part.name(i, width), part.members) for i, part in enumerate(ordered)),
    )


@dataclass(frozen=True)
class _Part:
    """A cohort in the making."""

    first: Configuration
    members: tuple[MemberId, ...]

    @cached_property
    def seconds(self) -> float:
        return cohort_seconds(self.first.program(), len(self.members))

    def name(self, index: int, width: int) -> str:
        label = _UNSAFE.sub("-", self.first.loss.lower()).strip("-")[:40].strip("-")
        return f"c{index:0{width}d}-{label}-k{self.first.factors['k']}"


def _by_program(made: Sequence[Configuration]) -> list[list[Configuration]]:
    """Configurations that may share a cohort, which differ in MEMBER_NUMBERS and seeds only."""
    groups: dict[str, list[Configuration]] = {}
    for configuration in made:
        identity = digest([asdict(configuration.program()), configuration.budget], length=64)
        groups.setdefault(identity, []).append(configuration)
    return list(groups.values())


def _best_cut(groups: Sequence[Sequence[Configuration]], *, workers: int, max_members: int) -> list[_Part]:
    """The cohort size from MIN_COHORT to ``max_members`` that keeps every worker busy and ends soonest.

    A configuration that fits is split only for workers that would have nothing to do otherwise. Among equals the
    largest cohorts win: they launch fewer kernels for the same replicates.
    """
    sizes = range(max(max_members // MEMBER_MULTIPLE, 1) * MEMBER_MULTIPLE, MIN_COHORT - 1, -MEMBER_MULTIPLE)
    cuts = [(size, _cut(groups, size=size)) for size in sizes or [max_members]]
    busy = [(size, cut) for size, cut in cuts if len(cut) >= workers]
    whole = [cut for size, cut in busy if size >= groups[0][0].replicates]
    candidates = whole or [cut for _, cut in busy] or [max((cut for _, cut in cuts), key=len)]
    return min(candidates, key=lambda cut: makespan((part.seconds for part in cut), workers=workers))


def _cut(groups: Sequence[Sequence[Configuration]], *, size: int | None) -> list[_Part]:
    """Cohorts of at most ``size`` members; None: one whole configuration each (adaptive search, early stopping)."""
    return [part for group in groups for part in _cut_group(group, size=size)]


def _cut_group(group: Sequence[Configuration], *, size: int | None) -> Iterator[_Part]:
    """Whole configurations, as many as fit and evenly spread; only one that does not fit is split."""
    replicates = group[0].replicates
    if size is not None and replicates > size:
        for configuration in group:
            yield from _split(configuration, size=size)
        return
    cohorts = math.ceil(len(group) / (1 if size is None else size // replicates))
    for i in range(cohorts):
        chosen = group[i * len(group) // cohorts : (i + 1) * len(group) // cohorts]
        yield _Part(chosen[0], tuple((entry.configuration_key, r) for entry in chosen for r in range(replicates)))


def _split(configuration: Configuration, *, size: int) -> Iterator[_Part]:
    """The replicates of one configuration in even parts, in multiples of MEMBER_MULTIPLE where ``size`` allows it."""
    parts = math.ceil(configuration.replicates / size)
    even = math.ceil(configuration.replicates / parts)
    step = min(size, math.ceil(even / MEMBER_MULTIPLE) * MEMBER_MULTIPLE)
    for start in range(0, configuration.replicates, step):
        chosen = range(start, min(start + step, configuration.replicates))
        yield _Part(configuration, tuple((configuration.configuration_key, r) for r in chosen))
