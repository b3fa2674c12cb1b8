"""A frozen plan that grows: what was planned stays, what is new is what a plan with all of it would hold."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from study.configurations import Configuration
from study.plan import Plan, make_plan, replicate_seed
from study.spec import StudySpec
from tests.conftest import TINY


def plan_of(**changes: Any) -> Plan:
    return make_plan(StudySpec.from_dict({**TINY, **changes}), workers=2)


def more_seeds(entry: Configuration, replicates: int) -> Configuration:
    seeds = tuple(replicate_seed(TINY["seed"], entry.configuration_key, r) for r in range(replicates))
    return replace(entry, replicates=replicates, seeds=seeds)


@pytest.fixture(scope="module")
def grown() -> Plan:
    """Three replicates, then two more of each of four configurations, then seven of one that was chosen."""
    first = plan_of()
    second = first.grown([more_seeds(entry, 5) for entry in first.configurations], size=8, launch=2)
    return second.grown([more_seeds(second.configurations[0], 12)], size=32, launch=3, phase="confirm")


def test_what_was_planned_stays_byte_for_byte(grown: Plan) -> None:
    first = plan_of()
    assert json.dumps(grown.until(1).to_json()) == json.dumps(first.to_json())
    assert "launch" not in json.dumps(first.to_json())
    assert "phase" not in json.dumps(first.to_json())
    assert grown.cohorts[: len(first.cohorts)] == first.cohorts
    assert Plan.from_json(json.loads(json.dumps(grown.to_json()))) == grown


def test_new_replicates_are_those_of_a_plan_that_had_them_from_the_start(grown: Plan) -> None:
    five = plan_of(replicates=5)
    assert grown.until(2).configurations == five.configurations
    assert {m for c in grown.until(2).cohorts for m in c.members} == {m for c in five.cohorts for m in c.members}


def test_every_replicate_is_in_one_cohort_of_a_unique_name(grown: Plan) -> None:
    members = [member for cohort in grown.cohorts for member in cohort.members]
    planned = {(e.configuration_key, r) for e in grown.configurations for r in range(e.replicates)}
    assert len(members) == len(set(members)) == grown.replicates == 4 * 5 + 7
    assert set(members) == planned
    names = [cohort.cohort for cohort in grown.cohorts]
    assert len(set(names)) == len(names)
    assert {name.partition("-")[0] for cohort in grown.cohorts if cohort.launch == 2 for name in [cohort.cohort]} == {
        "l2"
    }


def test_a_launch_has_its_own_replicates_only(grown: Plan) -> None:
    key = grown.configurations[0].configuration_key
    assert grown.launches == (1, 2, 3)
    assert [grown.of_launch(n).replicates_of(key) for n in (1, 2, 3)] == [(0, 1, 2), (3, 4), tuple(range(5, 12))]
    assert set(grown.phases) == {(key, r) for r in range(5, 12)}
    assert [entry.configuration_key for entry in grown.of_launch(3).configurations] == [key]


def test_nothing_planned_may_change(grown: Plan) -> None:
    entry = grown.configurations[1]
    with pytest.raises(ValueError, match="planned already, and otherwise"):
        grown.grown([replace(entry, horizon=entry.horizon + 1)], launch=4)
    with pytest.raises(ValueError, match="other seeds than planned"):
        grown.grown([replace(entry, seeds=(1, *entry.seeds[1:], 2), replicates=entry.replicates + 1)], launch=4)
