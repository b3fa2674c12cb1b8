"""Training without the dead and in parts: the same numbers, bit for bit, from less arithmetic or less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.programs import RING, member, members, program
from trainers import loop, parts
from trainers.cohort import Cohort, padded_size
from trainers.evaluation import Judge, build_judge
from trainers.loop import train
from trainers.measuring import Evaluation
from trainers.parts import Parts
from trainers.program import Member, Program
from trainers.targets import build_target

torch.set_num_threads(1)

SAMPLES = 300
GAMES: list[dict[str, Any]] = [
    {},
    {"penalty": "r1", "k": 2},
    {"loss": "relativistic", "penalty": "instance_noise"},
    {"updates": "extragradient", "measurements": ("rotation",)},
    {"optimizer": "rmsprop", "penalty": "weight_clipping", "batch_size": 24},
]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return build_judge(build_target(RING), evaluation_samples=SAMPLES)


def game(**changes: Any) -> Program:
    return program(evaluation_samples=SAMPLES, **{"horizon": 24, "evaluations": 6, **changes})


def mortal(of: Program, *, calm: int, wild: int, **numbers: float) -> list[Member]:
    """Members of whom ``wild`` die soon, spread among the others."""
    rates = {"generator_learning_rate": 1e25, "discriminator_learning_rate": 1e25}
    crowd = members(calm, of=of, **numbers) + [member(500 + i, of=of, **{**numbers, **rates}) for i in range(wild)]
    return [crowd[(7 * i) % len(crowd)] for i in range(len(crowd))]


def finished(cohort: Cohort, judge: Judge, **how: Any) -> tuple[Cohort, list[Evaluation]]:
    return cohort, list(train(cohort, judge, **how))


def assert_same(one: tuple[Cohort, list[Evaluation]], other: tuple[Cohort, list[Evaluation]]) -> None:
    """Equal states, measurements, deaths, and samples of the living, bit for bit."""
    assert_same_state(one[0], other[0])
    for a, b in zip(one[1], other[1], strict=True):
        counters = [(e.index, e.generator_step, e.discriminator_steps, e.samples_seen) for e in (a, b)]
        assert counters[0] == counters[1]
        assert a.finite.tolist() == b.finite.tolist()
        assert a.death_step.tolist() == b.death_step.tolist()
        assert a.values.keys() == b.values.keys()
        for name, value in a.values.items():
            assert np.array_equal(value, b.values[name], equal_nan=True), (a.index, name)
        assert (a.samples is None) == (b.samples is None)
        if a.samples is not None and b.samples is not None:
            assert np.array_equal(a.samples[a.finite], b.samples[b.finite])


def assert_same_state(one: Cohort, other: Cohort) -> None:
    """Everything but what an optimizer remembers of the dead, which nobody reads: it decays, or rests."""
    states, living = (one.state(), other.state()), one.alive[: one.size]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        of_living = "." in name
        a, b = ((x[living] if of_living else x) for x in (tensor, states[1][name]))
        assert np.array_equal(a, b, equal_nan=True), name


def whole(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Where nothing is ever worth cutting, everybody trains together to the end, as before there were parts."""
    monkeypatch.setattr(parts, "WORTH_CUTTING", -1.0)
    return monkeypatch


@pytest.mark.parametrize("at_once", [8, 16, 11])
@pytest.mark.parametrize("changes", GAMES)
def test_parts_train_as_the_whole(judge: Judge, changes: dict[str, Any], at_once: int) -> None:
    of = game(**changes)
    who = members(21, of=of)
    together, apart = (
        finished(Cohort.start(of, who), judge),
        finished(Cohort.start(of, who), judge, at_once=at_once),
    )
    assert_same(together, apart)


@pytest.mark.parametrize("changes", GAMES)
def test_the_living_do_not_notice_that_the_dead_left(
    judge: Judge, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = game(**changes)
    who = mortal(of, calm=9, wild=22)
    without = finished(Cohort.start(of, who), judge)
    assert without[0].alive[: without[0].size].sum() == 9
    with whole(monkeypatch).context():
        assert_same(finished(Cohort.start(of, who), judge), without)


def test_the_averaged_generators_go_along(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    of = game(measurements=("average",))
    who = mortal(of, calm=3, wild=21, generator_average=0.9)
    without = finished(Cohort.start(of, who), judge, at_once=9)
    with whole(monkeypatch).context():
        assert_same(finished(Cohort.start(of, who), judge), without)


def test_the_arithmetic_shrinks_with_the_living_and_nobody_is_lost(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, rows, trained = game(), [], []
    who = mortal(of, calm=9, wild=22)
    cohort = Cohort.start(of, who)

    def noted(part: Cohort, step: int) -> None:
        rows.append(len(part.seeds))
        trained.append(part.seeds[: part.size])
        loop_advance(part, step)

    loop_advance = loop.advance
    monkeypatch.setattr(loop, "advance", noted)
    last = list(train(cohort, judge))[-1]
    living = [one.seed for one, finite in zip(who, last.finite, strict=True) if finite]
    assert rows[0] == padded_size(31, batch_size=of.batch_size) == 32
    assert rows[-1] == padded_size(9, batch_size=of.batch_size) == 16
    assert trained[-1] == living


@pytest.mark.parametrize(
    ("size", "at_once", "sizes"), [(21, 8, [7, 7, 7]), (21, 11, [11, 10]), (21, 21, [21]), (5, 2, [2, 2, 1])]
)
def test_no_more_train_at_once_than_may_and_only_their_minibatches_are_kept(
    size: int, at_once: int, sizes: list[int]
) -> None:
    of = game()
    cohort, trained = Cohort.start(of, members(size, of=of)), []
    in_turn = Parts(cohort, at_once=at_once)

    def noted(part: Cohort, step: int) -> None:
        assert all(earlier._block is None for earlier in trained)
        loop.advance(part, step)
        trained.append(part)

    in_turn.advance(3, by=noted)
    assert [part.size for part in trained] == sizes
    assert cohort._block is None or trained == [cohort]
    assert cohort.generator_step == 3


def test_a_cohort_without_the_living_makes_no_step(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    of = game()
    cohort = Cohort.start(of, mortal(of, calm=0, wild=5))
    counted: list[int] = []
    monkeypatch.setattr(loop, "generator_step", counting(loop.generator_step, counted))
    evaluations = list(train(cohort, judge))
    assert [e.generator_step for e in evaluations] == [0, 4, 8, 12, 16, 20, 24]
    assert cohort.generator_step == 24
    assert len(counted) < 8
    assert not evaluations[-1].finite.any()
    assert (evaluations[-1].death_step > 0).all()
    assert all(np.isnan(value).all() for value in evaluations[-1].values.values())


def counting(step: Any, counted: list[int]) -> Any:
    def counts(cohort: Cohort, *rest: Any) -> None:
        counted.append(cohort.generator_step)
        step(cohort, *rest)

    return counts


def test_stopping_and_restoring_changes_no_bit_though_the_dead_leave_at_other_times(judge: Judge) -> None:
    of = game(horizon=40, evaluations=4, measurements=("rotation",))
    who = mortal(of, calm=9, wild=22)
    uninterrupted = finished(Cohort.start(of, who), judge)
    cohort, pieces, stops = Cohort.start(of, who), [], 0
    while cohort.evaluations_done <= of.evaluations:
        asked = iter([False, True] * 100)
        pieces += list(train(cohort, judge, should_stop=lambda asked=asked: next(asked), at_once=16))
        cohort, stops = Cohort.restore(of, who, cohort.state()), stops + 1
    assert stops > 4
    assert_same(uninterrupted, (cohort, pieces))


def test_the_state_is_whole_after_every_evaluation(judge: Judge) -> None:
    of = game()
    who = mortal(of, calm=9, wild=22)
    plain, apart = Cohort.start(of, who), Cohort.start(of, who)
    for _ in zip(train(plain, judge), train(apart, judge, at_once=8), strict=True):
        assert_same_state(plain, apart)


def test_the_dead_stay_beside_code_of_the_users_own() -> None:
    of = game()
    who = mortal(of, calm=2, wild=20)
    for name, rows in (("non_saturating", 8), ("my.package:loss", 24)):
        cohort = Cohort.start(of, who)
        cohort.program = game(loss=name)
        cohort.alive[:] = torch.tensor(
            [one.numbers["generator_learning_rate"] < 1 for one in cohort.members] + [True] * 2
        )
        assert Parts(cohort).rows == rows
