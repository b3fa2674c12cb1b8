"""A replay against the record: every number compared bit for bit, and the first that differs named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.wording import counted
from trainers.measurement import EVERY_MEASUREMENT

POSITION: tuple[str, ...] = ("seed", "finite", "generator_step", "discriminator_steps", "samples_seen")
"""Compared before the measurements of the same evaluation: who it is, whether it lives, how far it is."""

EARLY_STEPS = 20
"""Where kernels or libraries differ, floating-point tolerance is promised this far."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number that is not the recorded one; None where one side has no such row or no such number."""

    evaluation: int
    generator_step: int
    name: str
    recorded: float | None
    replayed: float | None

    @property
    def absolute(self) -> float | None:
        """|replayed - recorded|, None unless both are numbers."""
        if self.recorded is None or self.replayed is None:
            return None
        return abs(self.replayed - self.recorded)

    @property
    def relative(self) -> float | None:
        """The same as a share of the larger of the two; 0 for two zeros of different sign."""
        if self.absolute is None or self.recorded is None or self.replayed is None:
            return None
        return self.absolute / (max(abs(self.recorded), abs(self.replayed)) or 1.0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``numbers`` compared over ``evaluations`` of the ``recorded`` ones; ``differences``: every one that differs.

    ``early``: largest relative difference over the first EARLY_STEPS generator steps, None with no evaluation there.
    """

    recorded: int
    evaluations: int
    numbers: int
    differences: tuple[Difference, ...]
    early: float | None

    @property
    def identical(self) -> bool:
        """Whether there is a record and the replay is equal to it bit for bit."""
        return self.recorded > 0 and not self.differences

    @property
    def first(self) -> Difference | None:
        """Where the replay leaves the record."""
        return self.differences[0] if self.differences else None

    def first_of_each(self) -> list[Difference]:
        """The first difference of every measurement, in the order of time."""
        firsts: dict[str, Difference] = {}
        for difference in self.differences:
            firsts.setdefault(difference.name, difference)
        return list(firsts.values())


def compare(record: pd.DataFrame, replayed: pd.DataFrame) -> Comparison:
    """Compare a replicate's rows (columns of replicates.parquet), evaluation by evaluation, as far as the record goes.

    Two missing numbers are equal; so are no two numbers with different bits. An evaluation that only one side has
    is a difference named ``evaluation``. Columns that one side does not know at all are not compared.
    """
    if record.empty:
        return Comparison(recorded=0, evaluations=0, numbers=0, differences=(), early=None)
    ours, theirs = (table.set_index("evaluation").sort_index() for table in (replayed, record))
    names = [name for name in (*POSITION, *EVERY_MEASUREMENT) if name in ours and name in theirs]
    shared = theirs.index.intersection(ours.index)
    found = [
        *_missing(ours, theirs),
        *(difference for name in names for difference in _unequal(name, ours.loc[shared], theirs.loc[shared])),
    ]
    order = {"evaluation": -1, **{name: place for place, name in enumerate(names)}}
    found.sort(key=lambda difference: (difference.evaluation, order[difference.name]))
    return Comparison(
        recorded=len(theirs),
        evaluations=len(shared),
        numbers=len(shared) * len(names),
        differences=tuple(found),
        early=_early(ours, theirs, found),
    )


def _missing(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[Difference]:
    """Evaluations up to the record's last one that only one side has."""
    for table, other, is_record in ((theirs, ours, True), (ours, theirs, False)):
        for evaluation in table.index.difference(other.index):
            if evaluation <= theirs.index.max():
                step = int(table.loc[evaluation, "generator_step"])
                recorded, replayed = (1.0, None) if is_record else (None, 1.0)
                yield Difference(
                    evaluation=int(evaluation),
                    generator_step=step,
                    name="evaluation",
                    recorded=recorded,
                    replayed=replayed,
                )


def _unequal(name: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[Difference]:
    whole = name in POSITION  # a seed has 63 bits: as floats two of them may look alike
    kind = np.int64 if whole else np.float64
    a, b = (np.ascontiguousarray(table[name].to_numpy(dtype=kind)) for table in (theirs, ours))
    same = a.view(np.int64) == b.view(np.int64)
    if not whole:
        same |= np.isnan(a) & np.isnan(b)
    steps = theirs["generator_step"].to_numpy()
    for i in map(int, np.flatnonzero(~same)):
        yield Difference(
            evaluation=int(theirs.index[i]),
            generator_step=int(steps[i]),
            name=name,
            recorded=_number(a[i]),
            replayed=_number(b[i]),
        )


def _number(value: np.float64 | np.int64) -> float | None:
    return None if math.isnan(value) else float(value)


def _early(ours: pd.DataFrame, theirs: pd.DataFrame, found: list[Difference]) -> float | None:
    steps = theirs.loc[theirs.index.intersection(ours.index), "generator_step"]
    if not ((steps > 0) & (steps <= EARLY_STEPS)).any():
        return None
    sizes = [math.inf if d.relative is None else d.relative for d in found if d.generator_step <= EARLY_STEPS]
    return max(sizes, default=0.0)


def verdict(comparison: Comparison) -> str:
    """The comparison in a sentence or two."""
    first = comparison.first
    if not comparison.recorded:
        return "Nothing of this replicate is recorded yet, so there is nothing to compare it with."
    compared = f"{counted(comparison.evaluations, 'evaluation')}, {comparison.numbers:,} numbers"
    if first is None:
        return f"Equal to the record, bit for bit: {compared}."
    others = len(comparison.differences)
    return (
        f"Leaves the record at step {first.generator_step:,} (evaluation {first.evaluation}): {_said(first)}. "
        f"{'It is the only difference' if others == 1 else f'{others:,} numbers differ'} among {compared}."
    )


def _said(first: Difference) -> str:
    name = first.name.replace("_", " ")
    if first.name == "evaluation":
        return "only the record has it" if first.replayed is None else "only the replay has it"
    if first.name == "finite":
        return "the record died there and the replay lives" if first.replayed else "the replay died there"
    if first.name in POSITION:
        return f"{name} is {first.replayed:.0f} where {first.recorded:.0f} is recorded"
    if first.absolute is None:
        recorded, replayed = ("no number" if v is None else f"{v:.9g}" for v in (first.recorded, first.replayed))
        return f"{name} is {replayed} where {recorded} is recorded"
    size = f"{first.absolute:.2g}" + (f", {100 * first.relative:.2g} %" if first.relative else "")
    return f"{name} is {first.replayed:.9g} where {first.recorded:.9g} is recorded (off by {size})"
