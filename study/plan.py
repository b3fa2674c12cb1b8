"""The frozen plan: configurations, and the cohorts that train them. Written once; it grows at its end alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, TypedDict

from study.cohorts import MAX_COHORT, MAX_GPU_COHORT, Cohort, MemberId, Seats, cut_cohorts
from study.configurations import Configuration, configurations, replicate_seed
from study.cost import STARTUP_S, Estimate, cohort_seconds, makespan
from study.data_files import without_folder
from study.share import share_of
from study.spec import StudySpec

__all__ = ["Cohort", "Configuration", "Estimate", "Plan", "make_plan", "plan_for", "replicate_seed"]

SCHEMA = 1


class Room(TypedDict):
    """Arguments of ``Plan.grown``: cohorts that train at once, members of one at most."""

    workers: int
    max_members: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every replicate of a study, each in exactly one cohort; cohorts in the order they are started.

    ``declared``: how many configurations an adaptive search makes in all, of which the plan holds those chosen so far;
    None where the plan is whole from the start. ``declared_replicates``: replicates of each.
    A plan grows at its end and nowhere else: what is in it stays as it is (see ``grown``).
    """

    study: str
    spec_hash: str
    criteria_hash: str
    configurations: tuple[Configuration, ...]
    cohorts: tuple[Cohort, ...]
    declared: int | None = None
    declared_replicates: int = 0

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
        """Planned replicates, all cohorts together, those that a search will still choose included."""
        return sum(len(entry.members) for entry in self.cohorts) + self.to_come * self.declared_replicates

    @property
    def to_come(self) -> int:
        """Configurations that a search will still choose."""
        return 0 if self.declared is None else self.declared - len(self.configurations)

    @property
    def launches(self) -> tuple[int, ...]:
        """The numbers of its launches, ascending: 1, and one more for each extension."""
        return tuple(sorted({1, *(entry.launch for entry in self.cohorts)}))

    @cached_property
    def phases(self) -> Mapping[MemberId, str]:
        """The phase of every replicate that has one."""
        return {member: entry.phase for entry in self.cohorts if entry.phase for member in entry.members}

    def grown(
        self,
        made: Iterable[Configuration],
        *,
        size: int | str | None = None,
        workers: int = 1,
        max_members: int = MAX_COHORT,
        launch: int = 1,
        phase: str = "",
    ) -> Plan:
        """This plan with more: new configurations, or more replicates of those it has, in cohorts of their own.

        ``size=None`` makes one cohort of each configuration. Nothing that was planned changes: raises ValueError for a
        configuration of a known key that differs in more than its last replicates.
        """
        held, seats = dict(self.by_key), []
        for entry in made:
            before = held.get(entry.configuration_key)
            if before is not None and replace(entry, replicates=before.replicates, seeds=before.seeds) != before:
                raise ValueError(f"configuration {entry.configuration_key} is planned already, and otherwise")
            first = 0 if before is None else before.replicates
            if before is not None and entry.seeds[:first] != before.seeds:
                raise ValueError(f"configuration {entry.configuration_key} has other seeds than planned")
            held[entry.configuration_key] = entry
            if entry.replicates > first:
                seats.append(Seats(configuration=entry, first=first, stop=entry.replicates))
        taken = sum(entry.launch == launch for entry in self.cohorts)
        room = Room(workers=workers, max_members=max_members)
        cohorts = cut_cohorts(seats, size=size, **room, launch=launch, phase=phase, taken=taken)
        return replace(self, configurations=tuple(held.values()), cohorts=(*self.cohorts, *cohorts))

    def until(self, launch: int) -> Plan:
        """The plan as it is at the end of a launch, without what later ones added."""
        return self._cut([entry for entry in self.cohorts if entry.launch <= launch])

    def of_launch(self, launch: int) -> Plan:
        """The cohorts of one launch, and the configurations they train, with the replicates up to its own."""
        return self._cut([entry for entry in self.cohorts if entry.launch == launch])

    def replicates_of(self, configuration_key: str) -> tuple[int, ...]:
        """The numbers of a configuration's replicates in this plan's cohorts, ascending."""
        return self._numbers.get(configuration_key, ())

    @cached_property
    def _numbers(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for key, replicate in (member for entry in self.cohorts for member in entry.members):
            found.setdefault(key, []).append(replicate)
        return {key: tuple(sorted(numbers)) for key, numbers in found.items()}

    def _cut(self, cohorts: Sequence[Cohort]) -> Plan:
        """With these cohorts alone; a configuration has the seeds up to its last replicate in them."""
        kept = replace(self, cohorts=tuple(cohorts))
        ends = {key: numbers[-1] + 1 for key, numbers in kept._numbers.items()}
        known = [entry for entry in self.configurations if entry.configuration_key in ends]
        return replace(
            kept,
            configurations=tuple(_shortened(entry, ends[entry.configuration_key]) for entry in known),
            declared=None if self.declared is None else len(known) + self.to_come,
        )

    def estimate(self, *, workers: int, kernels: str | None = None) -> Estimate:
        """Steps (exact) and wall time (rough) when ``workers`` cohorts train at once with these ``kernels``."""
        programs = [(self.by_key[cohort.members[0][0]].program(), len(cohort.members)) for cohort in self.cohorts]
        return Estimate(
            generator_steps=sum(program.horizon for program, _ in programs),
            replicate_steps=sum(program.horizon * members for program, members in programs),
            wall_s=STARTUP_S + makespan((cohort_seconds(*part, kernels=kernels) for part in programs), workers=workers),
            workers=workers,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data of plan.json: nothing in it depends on when or where it was made."""
        search = {"declared": self.declared, "declared_replicates": self.declared_replicates}
        return {
            "schema": SCHEMA,
            "study": self.study,
            "spec_hash": self.spec_hash,
            "criteria_hash": self.criteria_hash,
            **({} if self.declared is None else search),
            "configurations": [_plain(entry) for entry in self.configurations],
            "cohorts": [_plain_cohort(entry) for entry in self.cohorts],
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
                    Cohort(
                        entry["cohort"],
                        tuple((key, replicate) for key, replicate in entry["members"]),
                        launch=entry.get("launch", 1),
                        phase=entry.get("phase", ""),
                    )
                    for entry in data["cohorts"]
                ),
                declared=data.get("declared"),
                declared_replicates=data.get("declared_replicates", 0),
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


def _plain_cohort(entry: Cohort) -> dict[str, Any]:
    """A cohort; its launch and phase only where they are not the first and none, as before there were any."""
    plain: dict[str, Any] = {"cohort": entry.cohort, "members": [list(member) for member in entry.members]}
    if entry.launch != 1:
        plain["launch"] = entry.launch
    if entry.phase:
        plain["phase"] = entry.phase
    return plain


def _shortened(entry: Configuration, replicates: int) -> Configuration:
    return replace(entry, replicates=replicates, seeds=entry.seeds[:replicates])


def _tuples(entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {"seeds": tuple(entry["seeds"]), "measurements": tuple(entry.get("measurements", ()))}


def _only(entry: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    unknown = set(entry) - names - _DERIVED
    if unknown:
        raise ValueError(f"plan.json: unknown keys of a configuration: {', '.join(sorted(unknown))}")
    return {name: value for name, value in entry.items() if name in names}


def plan_for(spec: StudySpec, cluster: Mapping[str, float]) -> Plan:
    """The plan of a study on a machine or cluster with these resources (Ray's totals by name: CPU, GPU).

    As many workers as trials run there at once, and larger cohorts where they train on GPUs. Of an adaptive search it
    holds nothing yet but how many configurations there will be. Raises SpecError.
    """
    if spec.search.method != "optuna":
        return expected_plan(spec, cluster)
    declared = (spec.search.configurations or 0) * len(spec.design.entries)
    return replace(_empty(spec), declared=declared, declared_replicates=spec.replicates)


def expected_plan(spec: StudySpec, cluster: Mapping[str, float]) -> Plan:
    """As ``plan_for``, with a stand-in for what an adaptive search will choose: as many settings drawn at random."""
    return make_plan(spec, **room(spec, cluster))


def room(spec: StudySpec, cluster: Mapping[str, float]) -> Room:
    """How many cohorts train at once there, and how many members one may have with ``cohort_size: auto``."""
    share = share_of(cluster, spec.resources)
    return {"workers": share.concurrent, "max_members": MAX_GPU_COHORT if share.gpus else MAX_COHORT}


def make_plan(spec: StudySpec, *, workers: int, max_members: int = MAX_COHORT) -> Plan:
    """The plan of a study for ``workers`` parallel workers; ``cohort_size: auto`` goes up to ``max_members``.

    Raises SpecError when two labels mean the same configuration.
    """
    whole = spec.search.method == "optuna" or spec.scheduler.name == "asha"
    size = None if whole else spec.resources.cohort_size
    return _empty(spec).grown(configurations(spec), size=size, workers=workers, max_members=max_members)


def _empty(spec: StudySpec) -> Plan:
    return Plan(
        study=spec.study,
        spec_hash=spec.spec_hash,
        criteria_hash=spec.criteria_hash,
        configurations=(),
        cohorts=(),
    )
