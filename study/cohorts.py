"""Which replicates train together: cohorts of whole configurations, cut so that all workers stay busy and end soon."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from study.canonical import digest
from study.configurations import Configuration
from study.cost import MEMBER_MULTIPLE, cohort_seconds, makespan, members_that_fit

MIN_COHORT, MAX_COHORT = 16, 32
"""Sizes of ``cohort_size: auto``: below, a process spends its time launching kernels; above, on CPU, nothing is won."""
MAX_GPU_COHORT = 512
"""On a GPU launching kernels is the cost for far longer, so that eight times the replicates take hardly more time."""

_UNSAFE = re.compile(r"[^a-z0-9]+")

MemberId = tuple[str, int]
"""(configuration_key, replicate)."""


@dataclass(frozen=True)
class Cohort:
    """Replicates trained together as one stacked model: one Ray Tune trial.

    ``launch`` counts from 1: the first one, then one for each extension. ``phase`` is "confirm" for fresh seeds of a
    setting that was chosen, empty otherwise.
    """

    cohort: str
    members: tuple[MemberId, ...]
    launch: int = 1
    phase: str = ""


@dataclass(frozen=True, kw_only=True)
class Seats:
    """Replicates of one configuration that are to be trained: numbers ``first`` up to, not including, ``stop``."""

    configuration: Configuration
    first: int
    stop: int

    @property
    def members(self) -> tuple[MemberId, ...]:
        """Each replicate's id."""
        return tuple((self.configuration.configuration_key, replicate) for replicate in range(self.first, self.stop))


def cut_cohorts(
    seats: Sequence[Seats],
    *,
    size: int | str | None,
    workers: int,
    max_members: int,
    launch: int = 1,
    phase: str = "",
    taken: int = 0,
) -> tuple[Cohort, ...]:
    """Cohorts for these replicates, the most expensive first.

    ``size``: members of a cohort, or auto: what keeps ``workers`` busy and ends soonest, at most ``max_members``; None:
    one whole configuration each (adaptive search, early stopping). Ids begin with the launch, except in the first, and
    are numbered from ``taken``, the launch's cohorts so far.
    """
    groups = _by_program(seats)
    if not groups:
        return ()
    if size is None or isinstance(size, int):
        parts = _cut(groups, size=size)
    else:
        fit = min(members_that_fit(group[0].configuration.program()) for group in groups)
        parts = _best_cut(groups, workers=workers, max_members=min(max_members, fit))
    ordered = sorted(parts, key=lambda part: -part.seconds)
    width = max(3, len(str(taken + len(ordered) - 1)))
    prefix = "" if launch == 1 else f"l{launch}-"
    return tuple(
        Cohort(f"{prefix}{part.name(taken + i, width)}", part.members, launch=launch, phase=phase)
        for i, part in enumerate(ordered)
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


def _by_program(seats: Sequence[Seats]) -> list[list[Seats]]:
    """Those that may share a cohort: as many replicates, and different in MEMBER_NUMBERS and seeds only."""
    groups: dict[tuple[str, int], list[Seats]] = {}
    for entry in seats:
        own = entry.configuration
        identity = digest([asdict(own.program()), own.budget], length=64)
        groups.setdefault((identity, len(entry.members)), []).append(entry)
    return list(groups.values())


def _best_cut(groups: Sequence[Sequence[Seats]], *, workers: int, max_members: int) -> list[_Part]:
    """The cohort size from MIN_COHORT to ``max_members`` that keeps every worker busy and ends soonest.

    A configuration that fits is split only for workers that would have nothing to do otherwise. Among equals the
    largest cohorts win: they launch fewer kernels for the same replicates.
    """
    sizes = range(max(max_members // MEMBER_MULTIPLE, 1) * MEMBER_MULTIPLE, MIN_COHORT - 1, -MEMBER_MULTIPLE)
    cuts = [(size, _cut(groups, size=size)) for size in sizes or [max_members]]
    busy = [(size, cut) for size, cut in cuts if len(cut) >= workers]
    largest = max(len(group[0].members) for group in groups)
    whole = [cut for size, cut in busy if size >= largest]
    candidates = whole or [cut for _, cut in busy] or [max((cut for _, cut in cuts), key=len)]
    return min(candidates, key=lambda cut: makespan((part.seconds for part in cut), workers=workers))


def _cut(groups: Sequence[Sequence[Seats]], *, size: int | None) -> list[_Part]:
    return [part for group in groups for part in _cut_group(group, size=size)]


def _cut_group(group: Sequence[Seats], *, size: int | None) -> Iterator[_Part]:
    """Whole configurations, as many as fit and evenly spread; only one that does not fit is split."""
    replicates = len(group[0].members)
    if size is not None and replicates > size:
        for seats in group:
            yield from _split(seats, size=size)
        return
    cohorts = math.ceil(len(group) / (1 if size is None else size // replicates))
    for i in range(cohorts):
        chosen = group[i * len(group) // cohorts : (i + 1) * len(group) // cohorts]
        yield _Part(chosen[0].configuration, tuple(member for seats in chosen for member in seats.members))


def _split(seats: Seats, *, size: int) -> Iterator[_Part]:
    """The replicates of one configuration in even parts, in multiples of MEMBER_MULTIPLE where ``size`` allows it."""
    members = seats.members
    even = math.ceil(len(members) / math.ceil(len(members) / size))
    step = min(size, math.ceil(even / MEMBER_MULTIPLE) * MEMBER_MULTIPLE)
    for start in range(0, len(members), step):
        yield _Part(seats.configuration, members[start : start + step])
