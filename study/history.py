"""The growing record of one cohort: a row per living replicate and evaluation, one last row per death, samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pyarrow import compute

from trainers.catalogue import real_minibatches_per_step
from trainers.measurement import COUNTERS, EVERY_MEASUREMENT, columns

if TYPE_CHECKING:
    from study.outcomes import Criteria, Outcome, Series
    from study.plan import Configuration
    from trainers.measuring import Evaluation

Member = tuple[str, int, int]
"""configuration_key, replicate, seed."""

# Fixed before the first row: the columns never depend on who reported first (T14)
_IDENTITY = [("configuration_key", pa.string()), ("replicate", pa.int64()), ("seed", pa.int64())]
_POSITION = [("evaluation", pa.int64()), *((name, pa.int64()) for name in COUNTERS), ("finite", pa.bool_())]


def history_schema(groups: Collection[str] = ()) -> pa.Schema:
    """One row per replicate and evaluation; a replicate that died ends with finite=false and null measurements.

    ``groups``: the optional measurements that are on.
    """
    return pa.schema([*_IDENTITY, *_POSITION, ("measured_at_ms", pa.int64()), *_values(groups)])


def replicates_schema(groups: Collection[str] = ()) -> pa.Schema:
    """The published form: the same rows without the clock, so that one study gives the same bytes anywhere."""
    return pa.schema([*_IDENTITY, *_POSITION, *_values(groups)])


def _values(groups: Collection[str]) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.float64()) for name in columns(groups)]


HISTORY_SCHEMA, REPLICATES_SCHEMA = history_schema(), replicates_schema()
"""Of a study that switches no optional measurement on."""

SAMPLES_SCHEMA = pa.schema(
    [
        ("configuration_key", pa.string()),
        ("replicate", pa.int64()),
        ("generator_step", pa.int64()),
        ("sample", pa.int64()),
        ("x", pa.list_(pa.float32())),
    ]
)
"""One row per kept sample; ``x`` is the flat sample."""


class History:
    """Rows of one cohort in the order they were measured; ``table`` sorts them by member, then evaluation.

    A member is appended at every evaluation while it lives and once more, without measurements, when it died.
    ``groups``: the optional measurements that are on; ``k``, ``batch_size`` and ``updates`` say what a dead member
    had spent.
    """

    def __init__(
        self,
        members: Sequence[Member],
        k: int,
        batch_size: int,
        groups: Collection[str] = (),
        updates: str = "alternating",
    ) -> None:
        if len(set(members)) != len(members):
            raise ValueError("members must be distinct")
        self._members = tuple(members)
        self._k = k
        self._samples_per_step = batch_size * real_minibatches_per_step(k=k, updates=updates)
        self._keys = pa.array(dict.fromkeys(key for key, _, _ in members), type=pa.string())
        self._schema = history_schema(groups)
        self._measurements = columns(groups)
        self._rows = self._schema.empty_table()
        self._samples = SAMPLES_SCHEMA.empty_table()
        self._dead = np.zeros(len(members), dtype=np.bool_)
        self._last = -1

    @classmethod
    def restore(
        cls,
        members: Sequence[Member],
        k: int,
        batch_size: int,
        history: pa.Table,
        samples: pa.Table,
        groups: Collection[str] = (),
        updates: str = "alternating",
    ) -> History:
        """The history that a checkpoint holds, ready for the next evaluation.

        Raises ValueError when the tables have other columns or other members than this cohort.
        """
        restored = cls(members, k, batch_size, groups, updates)
        _require_schema(history, restored._schema, name="history")
        _require_schema(samples, SAMPLES_SCHEMA, name="samples")
        restored._rows, restored._samples = history, samples
        restored._last = max(history["evaluation"].to_pylist(), default=-1)
        places = {member: place for place, member in enumerate(restored._members)}
        dead = history.filter(compute.invert(history["finite"]))
        for member in _identities(history):
            if member not in places:
                raise ValueError(f"history holds {member}, which is no member of this cohort")
        for member in _identities(dead):
            restored._dead[places[member]] = True
        return restored

    def append(self, evaluation: Evaluation, *, measured_at_ms: int) -> None:
        """Adds one evaluation of all members: a row for each living one, the death row of each newly dead one.

        A value that is not finite becomes null, never a number. Raises ValueError when the evaluation does not
        follow the last one or covers another number of members.
        """
        alive = np.asarray(evaluation.finite, dtype=np.bool_)
        if alive.shape != self._dead.shape:
            raise ValueError(f"evaluation must cover {len(self._dead)} members, got shape {alive.shape}")
        if evaluation.index <= self._last:
            raise ValueError(f"evaluation must come after {self._last}, got {evaluation.index}")
        living = np.flatnonzero(alive & ~self._dead)
        dying = np.flatnonzero(~alive & ~self._dead)
        rows = [self._living_rows(evaluation, living), self._death_rows(evaluation, dying)]
        rows = [part.append_column("measured_at_ms", _constant(measured_at_ms, len(part))) for part in rows]
        self._rows = pa.concat_tables([self._rows, *(part.select(self._schema.names) for part in rows)])
        if evaluation.samples is not None:
            new = self._sample_rows(evaluation.samples, living, generator_step=evaluation.generator_step)
            self._samples = pa.concat_tables([self._samples, new])
        self._dead[dying] = True
        self._last = evaluation.index

    def table(self) -> pa.Table:
        """Every row so far, by configuration (in the order of the members), replicate, evaluation."""
        return self._sorted(self._rows, then="evaluation")

    def samples_table(self) -> pa.Table:
        """Every kept sample so far in SAMPLES_SCHEMA, by configuration, replicate, generator step, sample."""
        return self._sorted(self._samples, then="generator_step")

    def _living_rows(self, evaluation: Evaluation, places: NDArray[np.intp]) -> pa.Table:
        steps = (evaluation.generator_step, evaluation.discriminator_steps, evaluation.samples_seen)
        row = self._identity(places) | {"evaluation": _constant(evaluation.index, len(places))}
        row |= {name: _constant(step, len(places)) for name, step in zip(COUNTERS, steps, strict=True)}
        row |= {"finite": pa.array(np.ones(len(places), dtype=np.bool_))}
        unmeasured = np.full(len(self._members), np.nan)
        values = {name: _numbers(evaluation.values.get(name, unmeasured)[places]) for name in self._measurements}
        return pa.table(row | values)

    def _death_rows(self, evaluation: Evaluation, places: NDArray[np.intp]) -> pa.Table:
        steps = np.asarray(evaluation.death_step, dtype=np.int64)[places]
        if (steps < 0).any():
            raise ValueError(f"a dead member must name its death_step, got {steps.tolist()}")
        counters = (steps, steps * self._k, steps * self._samples_per_step)
        row = self._identity(places) | {"evaluation": _constant(evaluation.index, len(places))}
        row |= {name: pa.array(values) for name, values in zip(COUNTERS, counters, strict=True)}
        row |= {"finite": pa.array(np.zeros(len(places), dtype=np.bool_))}
        return pa.table(row | {name: pa.nulls(len(places), pa.float64()) for name in self._measurements})

    def _sample_rows(self, samples: NDArray[np.float32], places: NDArray[np.intp], *, generator_step: int) -> pa.Table:
        kept = np.asarray(samples, dtype=np.float32)[places]
        members, count, dimensions = kept.shape
        offsets = np.arange(members * count + 1, dtype=np.int32) * dimensions
        rows = self._identity(np.repeat(places, count))
        rows |= {"generator_step": _constant(generator_step, members * count)}
        rows |= {"sample": pa.array(np.tile(np.arange(count, dtype=np.int64), members))}
        rows |= {"x": pa.ListArray.from_arrays(pa.array(offsets), _numbers(kept.reshape(-1)))}
        return pa.table(rows).select(SAMPLES_SCHEMA.names)

    def _identity(self, places: NDArray[np.intp]) -> dict[str, pa.Array]:
        chosen = [self._members[place] for place in places]
        return {
            name: pa.array([member[part] for member in chosen], type=kind)
            for part, (name, kind) in enumerate(_IDENTITY)
        }

    def _sorted(self, table: pa.Table, *, then: str) -> pa.Table:
        keys = compute.index_in(table["configuration_key"], value_set=self._keys).to_numpy()
        return table.take(np.lexsort((table[then].to_numpy(), table["replicate"].to_numpy(), keys))).combine_chunks()


def series_of(table: pa.Table, key: str, replicate: int, *, planned_evaluations: int, censored: bool = False) -> Series:
    """One replicate's rows as study.outcomes judges them; a null measurement becomes NaN, i.e. absent."""
    mine = compute.and_(compute.equal(table["configuration_key"], key), compute.equal(table["replicate"], replicate))
    rows = table.filter(mine)
    return _series(_columns(rows), np.arange(len(rows)), planned=planned_evaluations, censored=censored)


def judge_members(
    history: pa.Table,
    members: Collection[tuple[str, int]],
    configurations: Mapping[str, Configuration],
    *,
    criteria: Criteria,
    references: Mapping[str, Mapping[str, Any]],
    censored: bool = False,
) -> dict[tuple[str, int], Outcome]:
    """How each (configuration_key, replicate) ended, from a cohort's rows; one without all its rows has failed.

    ``references``: target id -> reference numbers. ``censored``: the scheduler stopped the cohort before its horizon.
    """
    from study.outcomes import judge

    columns, places = _columns(history), _places(history)
    none = np.empty(0, dtype=np.intp)
    reference = {key: references[configurations[key].target_id] for key in {key for key, _ in members}}
    judged = {}
    for key, replicate in members:
        evaluations = int(configurations[key].budget["evaluations"])
        series = _series(columns, places.get((key, replicate), none), planned=evaluations, censored=censored)
        judged[key, replicate] = judge(series, criteria, reference[key])
    return judged


def _columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """What a series is made of; a null measurement becomes NaN, i.e. absent."""
    asked = ("generator_step", "finite", *(name for name in table.column_names if name in EVERY_MEASUREMENT))
    return {name: table[name].to_numpy() for name in asked}


def _places(table: pa.Table) -> dict[tuple[str, int], NDArray[np.intp]]:
    """The rows of each (configuration_key, replicate), in the table's order: looked for once, not once for each."""
    keys = table["configuration_key"].combine_chunks().dictionary_encode()
    codes, replicates, names = keys.indices.to_numpy(), table["replicate"].to_numpy(), keys.dictionary.to_pylist()
    order = np.lexsort((replicates, codes))
    codes, replicates = codes[order], replicates[order]
    begins = np.flatnonzero((codes[1:] != codes[:-1]) | (replicates[1:] != replicates[:-1])) + 1
    return {
        (names[codes[begin]], int(replicates[begin])): rows
        for begin, rows in zip((0, *begins), np.split(order, begins), strict=True)
        if len(rows)
    }


def _series(columns: Mapping[str, NDArray[Any]], rows: NDArray[np.intp], *, planned: int, censored: bool) -> Series:
    from study.outcomes import Series

    found = {name: column[rows] for name, column in columns.items()}
    return Series(
        generator_step=found.pop("generator_step"),
        finite=found.pop("finite"),
        values=found,
        planned_evaluations=planned,
        censored=censored,
    )


def _identities(table: pa.Table) -> set[Member]:
    return set(zip(*(table[name].to_pylist() for name, _ in _IDENTITY), strict=True))


def _constant(value: int, length: int) -> pa.Array:
    return pa.array(np.full(length, value, dtype=np.int64))


def _numbers(values: ArrayLike) -> pa.Array:
    """NaN and infinities become null: an event, not a number."""
    numbers = np.asarray(values)
    return pa.array(numbers, mask=~np.isfinite(numbers))


def _require_schema(table: pa.Table, schema: pa.Schema, *, name: str) -> None:
    if not table.schema.equals(schema):
        raise ValueError(f"{name} must have the columns {schema.names}, got {table.schema.names}")
