"""Early stopping without training: decisions against a plain oracle, written first, once per cohort, across drivers."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from study.early_stopping import RUNG, VALUE, RungScheduler
from study.errors import WorkFailed
from study.folder import StudyFolder
from study.rungs import Rungs, read_rungs, was_stopped, write_rungs

RUNGS, EVALUATIONS, FACTOR = (8, 24), 40, 3


def scheduler(folder: StudyFolder, *cohorts: str) -> RungScheduler:
    return RungScheduler(folder, cohorts, first=RUNGS[0], evaluations=EVALUATIONS, reduction_factor=FACTOR)


def told(made: RungScheduler, cohort: str, value: float, *, rung: int = 8, alive: int = 3, trial: str = "") -> bool:
    """Whether the cohort is stopped."""
    who = SimpleNamespace(trial_id=trial or f"trial-of-{cohort}", config={"cohort": cohort})
    decision = made.on_trial_result(None, who, {RUNG: float(rung), VALUE: value, "alive": float(alive)})
    assert decision in (TrialScheduler.STOP, TrialScheduler.CONTINUE)
    return bool(decision == TrialScheduler.STOP)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "pruned")


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(0, 2), min_size=1, max_size=12))
def test_a_cohort_stops_below_the_best_third_of_those_before_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = StudyFolder(tmp_path_factory.mktemp("home"), "pruned")
    made = scheduler(folder)
    for i, value in enumerate(values):
        before = values[:i]
        expected = bool(before) and value < np.percentile(before, 100 * (1 - 1 / FACTOR))
        assert told(made, f"c{i}", value) == expected
        assert was_stopped(folder, f"c{i}") == expected  # on the disk by now


def test_a_retry_and_a_resume_neither_count_twice_nor_decide_anew(folder: StudyFolder) -> None:
    first = scheduler(folder)
    decisions = {name: told(first, name, value) for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.95))}
    assert decisions == {"a": False, "b": True, "c": False}
    again = scheduler(folder, *decisions)  # another driver
    for name, decision in decisions.items():
        assert told(again, name, 0.0, trial="another") == decision  # whatever it says now
        assert len(read_rungs(folder, name).values) == 1
    untouched = scheduler(StudyFolder(folder.home, "other"))
    for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.95)):
        told(untouched, name, value)
    for name, value in (("d", 0.6), ("e", 0.92), ("f", 0.3)):
        assert told(again, name, value) == told(untouched, name, value)


def test_later_rungs_compare_those_who_got_there(folder: StudyFolder) -> None:
    made = scheduler(folder)
    for name, value in (("a", 0.2), ("b", 0.3), ("c", 0.4)):
        assert not told(made, name, value)
    assert not told(made, "a", 0.5, rung=24)
    assert told(made, "b", 0.4, rung=24)
    assert read_rungs(folder, "b") == Rungs(values={8: 0.3, 24: 0.4}, stopped=24)


def test_the_dead_are_compared_with_and_end_by_themselves(folder: StudyFolder) -> None:
    made = scheduler(folder)
    assert not told(made, "alive", 0.5)
    assert not told(made, "dead", 0.0, alive=0)
    assert not was_stopped(folder, "dead")
    assert read_rungs(folder, "dead").values == {8: 0.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_never_passes_a_rung(folder: StudyFolder, value: float) -> None:
    made = scheduler(folder)
    with pytest.raises(ValueError, match=r"c0: a rung's value must be finite"):
        told(made, "c0", value)
    assert read_rungs(folder, "c0") == Rungs()


def test_other_reports_change_nothing(folder: StudyFolder) -> None:
    who = SimpleNamespace(trial_id="t", config={"cohort": "c0"})
    result = {"generator_step": 4.0, "alive": 3.0}
    assert scheduler(folder).on_trial_result(None, who, result) == TrialScheduler.CONTINUE
    assert not folder.rungs_file("c0").exists()


def test_a_damaged_record_is_named(folder: StudyFolder) -> None:
    write_rungs(folder, "c0", Rungs(values={8: 0.5}, stopped=8))
    folder.rungs_file("c0").write_text('{"rungs": [8]}')
    with pytest.raises(WorkFailed, match=r"rungs.json is damaged"):
        was_stopped(folder, "c0")
