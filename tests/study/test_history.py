from __future__ import annotations

import io
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from study.history import HISTORY_SCHEMA, REPLICATES_SCHEMA, SAMPLES_SCHEMA, History, judge_members, series_of
from study.outcomes import Criteria, judge
from trainers.measurement import MEASUREMENTS

# keys out of alphabetical order, replicates out of numerical order, neither contiguous
MEMBERS = [("ff", 2, 2**63 - 1), ("aa", 0, 11), ("ff", 0, 12), ("aa", 1, 13)]
K, BATCH = 3, 5


@dataclass
class Fake:
    """An evaluation as trainers.measuring yields it, without training anything."""

    index: int
    finite: np.ndarray
    death_step: np.ndarray
    samples: np.ndarray | None = None
    values: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def generator_step(self) -> int:
        return 100 * self.index

    @property
    def discriminator_steps(self) -> int:
        return K * self.generator_step

    @property
    def samples_seen(self) -> int:
        return BATCH * self.discriminator_steps


def evaluation(index: int, *, deaths: dict[int, int] | None = None, samples: bool = False) -> Fake:
    """``deaths``: member -> step. Values encode (measurement, evaluation, member), so that any mix-up shows."""
    deaths = deaths or {}
    finite = np.array([member not in deaths for member in range(4)])
    values = {
        name: np.array([1000 * place + 10 * index + member for member in range(4)], dtype=np.float64)
        for place, name in enumerate(MEASUREMENTS)
    }
    for member in deaths:
        for column in values.values():
            column[member] = np.nan
    steps = np.array([deaths.get(member, -1) for member in range(4)])
    drawn = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2) + index if samples else None
    return Fake(index=index, finite=finite, death_step=steps, samples=drawn, values=values)


def filled(*, up_to: int = 4) -> History:
    history = History(MEMBERS, K, BATCH)
    for index in range(up_to):
        deaths = {2: 137} if index >= 2 else {}
        history.append(evaluation(index, deaths=deaths, samples=index in (0, 3)), measured_at_ms=5000 + index)
    return history


def test_each_living_member_has_a_row_per_evaluation_and_a_dead_one_exactly_one_more() -> None:
    table = filled().table()
    columns = ("configuration_key", "replicate", "evaluation")
    rows = [tuple(row[name] for name in columns) for row in table.to_pylist()]
    assert rows == [
        ("ff", 0, 0), ("ff", 0, 1), ("ff", 0, 2),
        ("ff", 2, 0), ("ff", 2, 1), ("ff", 2, 2), ("ff", 2, 3),
        ("aa", 0, 0), ("aa", 0, 1), ("aa", 0, 2), ("aa", 0, 3),
        ("aa", 1, 0), ("aa", 1, 1), ("aa", 1, 2), ("aa", 1, 3),
    ]  # fmt: skip


def test_the_death_row_carries_the_death_step_in_all_three_counters_and_no_measurement() -> None:
    death = filled().table().to_pylist()[2]
    assert death["finite"] is False
    assert (death["generator_step"], death["discriminator_steps"], death["samples_seen"]) == (137, 411, 2055)
    assert death["measured_at_ms"] == 5002
    assert death["seed"] == 12
    assert {death[name] for name in MEASUREMENTS} == {None}


def test_values_and_seeds_stay_with_their_member_and_evaluation() -> None:
    for row in filled().table().to_pylist():
        member = MEMBERS.index((row["configuration_key"], row["replicate"], row["seed"]))
        if row["finite"]:
            got = [row[name] for name in MEASUREMENTS]
            assert got == [1000 * place + 10 * row["evaluation"] + member for place in range(len(MEASUREMENTS))]
            assert row["discriminator_steps"] == K * row["generator_step"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_value_becomes_null_never_a_number(value: float) -> None:
    history = History(MEMBERS, K, BATCH)
    one = evaluation(0)
    one.values["distance"][1] = value
    history.append(one, measured_at_ms=1)
    column = history.table()["distance"]
    assert column.null_count == 1
    assert np.isfinite(column.drop_null().to_numpy()).all()


def test_the_first_row_does_not_choose_the_columns() -> None:
    """A cohort dead at step 0 has every column, of the type that living cohorts have."""
    history = History(MEMBERS, K, BATCH)
    history.append(evaluation(0, deaths=dict.fromkeys(range(4), 0)), measured_at_ms=1)
    assert history.table().schema.equals(HISTORY_SCHEMA)
    assert len(history.table()) == 4
    assert filled(up_to=0).table().schema.equals(HISTORY_SCHEMA)
    assert [*REPLICATES_SCHEMA.names] == [name for name in HISTORY_SCHEMA.names if name != "measured_at_ms"]


def test_a_measurement_absent_from_an_evaluation_is_null() -> None:
    history = History(MEMBERS, K, BATCH)
    one = evaluation(0)
    del one.values["knn_recall"]
    history.append(one, measured_at_ms=1)
    assert history.table()["knn_recall"].null_count == 4


def test_samples_are_kept_of_the_living_only_in_order() -> None:
    table = filled().samples_table()
    assert table.schema.equals(SAMPLES_SCHEMA)
    counts: dict[tuple[int, int], int] = {}
    for row in table.to_pylist():
        member = [one[:2] for one in MEMBERS].index((row["configuration_key"], row["replicate"]))
        index = row["generator_step"] // 100
        assert row["x"] == [index + 6 * member + 2 * row["sample"] + axis for axis in range(2)]
        counts[member, index] = counts.get((member, index), 0) + 1
    assert counts == {(0, 0): 3, (1, 0): 3, (2, 0): 3, (3, 0): 3, (0, 3): 3, (1, 3): 3, (3, 3): 3}
    assert table["sample"].to_pylist()[:3] == [0, 1, 2]


def reread(table: pa.Table) -> pa.Table:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return parquet.read_table(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_history_interrupted_at_any_evaluation_equals_the_uninterrupted_one(cut: int) -> None:
    """Restored before, at and after the death: the death row is neither lost nor written twice."""
    before = filled(up_to=cut)
    history = History.restore(MEMBERS, K, BATCH, reread(before.table()), reread(before.samples_table()))
    for index in range(cut, 4):
        deaths = {2: 137} if index >= 2 else {}
        history.append(evaluation(index, deaths=deaths, samples=index in (0, 3)), measured_at_ms=5000 + index)
    assert history.table().equals(filled().table())
    assert history.samples_table().equals(filled().samples_table())


def test_restore_refuses_rows_of_another_cohort_and_other_columns() -> None:
    history = filled()
    with pytest.raises(ValueError, match="no member of this cohort"):
        History.restore(MEMBERS[:3], K, BATCH, history.table(), history.samples_table())
    with pytest.raises(ValueError, match="samples must have the columns"):
        History.restore(MEMBERS, K, BATCH, history.table(), history.table())


def test_an_evaluation_comes_once_and_in_order() -> None:
    history = filled(up_to=2)
    with pytest.raises(ValueError, match="must come after 1, got 1"):
        history.append(evaluation(1), measured_at_ms=1)
    with pytest.raises(ValueError, match="death_step"):
        history.append(evaluation(2, deaths={0: -1}), measured_at_ms=1)


def test_series_of_gives_one_replicate_with_absent_values_as_nan() -> None:
    series = series_of(filled().table(), "ff", 0, planned_evaluations=9)
    assert series.generator_step.tolist() == [0, 100, 137]
    assert series.finite.tolist() == [True, True, False]
    assert series.planned_evaluations == 9
    assert series.values["distance"][:2].tolist() == [2.0, 12.0]
    assert np.isnan(series.values["distance"][2])


def test_members_are_judged_by_their_own_rows_wherever_these_lie() -> None:
    table = filled().table()
    ring = {"d_real": 0.1, "d_ref": 30.0, "d_far": 90.0, "dimensions": 2}
    references = {"ring": ring, "far": ring | {"d_far": 1.0}}
    references = {key: one | {"quality_ceiling": 1.0, "knn_coverage_ceiling": 1.0} for key, one in references.items()}
    targets, planned = {"ff": "ring", "aa": "far"}, 3
    configurations: Any = {
        key: SimpleNamespace(budget={"evaluations": planned}, target_id=target) for key, target in targets.items()
    }
    asked = [*[member[:2] for member in MEMBERS], (MEMBERS[0][0], 99)]
    orders = [np.random.default_rng(seed).permutation(len(table)) for seed in range(6)]
    for rows in (table, *(table.take(order) for order in orders), table.slice(0, 0)):
        judged = judge_members(rows, asked, configurations, criteria=Criteria(), references=references)
        assert judged == {
            (key, number): judge(
                series_of(rows, key, number, planned_evaluations=planned), Criteria(), references[targets[key]]
            )
            for key, number in asked
        }
        seen = [judged[member].outcome for member in asked]
        assert seen == (["plateau", "diverged", "diverged", "diverged", "failed"] if len(rows) else ["failed"] * 5)
