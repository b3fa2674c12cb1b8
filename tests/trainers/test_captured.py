"""The step that a GPU replays, run on the CPU: buffers that do not move give the ordinary step's numbers."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from tests.trainers.programs import members, program
from trainers import loop
from trainers.captured import StaticStep
from trainers.catalogue_updates import MINIBATCH_ROUNDS
from trainers.cohort import Cohort
from trainers.draws import Draws, draw_block
from trainers.draws_ahead import DrawsAhead


@pytest.mark.parametrize("updates", MINIBATCH_ROUNDS)
@pytest.mark.parametrize("penalty", ["none", "gradient_penalty", "weight_clipping", "instance_noise"])
def test_a_static_step_trains_as_the_ordinary_one(penalty: str, updates: str) -> None:
    of = program(penalty=penalty, updates=updates, k=2 if updates == "alternating" else 1)
    more = {"consensus_weight": 0.5} if updates == "consensus" else {}
    ordinary, static = (Cohort.start(of, members(3, of=of, **more)) for _ in range(2))
    static.static_step = StaticStep(static, loop.generator_step, static.draws()[0])
    loop.advance(ordinary, 11)
    while static.generator_step < 11:
        static.static_step(static, *static.draws())
        static.generator_step += 1
    for name, tensor in ordinary.tensors().items():
        assert torch.equal(tensor, static.tensors()[name]), name


def test_a_death_in_a_static_step_has_its_number() -> None:
    of = program(loss="f_gan_kl")
    rates = {"generator_learning_rate": 1e6, "discriminator_learning_rate": 1e6}
    ordinary, static = (Cohort.start(of, members(2, of=of, **rates)) for _ in range(2))
    loop.advance(ordinary, 12)
    step = StaticStep(static, loop.generator_step, static.draws()[0])
    while static.generator_step < 12:
        step(static, *static.draws())
        static.generator_step += 1
    assert 0 < int(ordinary.death_step[0]) < 12
    assert torch.equal(ordinary.death_step, static.death_step)


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_draws_made_ahead_by_threads_are_the_same(threads: int) -> None:
    cohort = Cohort.start(program(penalty="instance_noise"), members(7, of=program(penalty="instance_noise")))
    ahead = DrawsAhead(cohort.seeds, shape=cohort._shape, target=cohort.target, threads=threads)
    for block in (0, 1, 5, 4):
        expected = draw_block(cohort.seeds, block=block, shape=cohort._shape, target=cohort.target)
        got = ahead(block)
        for field in fields(Draws):
            one, other = getattr(expected, field.name), getattr(got, field.name)
            assert (one is None and other is None) or torch.equal(one, other), field.name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_step_trains_as_the_ordinary_one() -> None:
    of = program(penalty="r1")
    recorded, ordinary = (Cohort.start(of, members(3, of=of), device="cuda") for _ in range(2))
    loop.advance(recorded, 20)
    assert recorded.static_step is not None
    while ordinary.generator_step < 20:
        loop.generator_step(ordinary, *ordinary.draws())
        ordinary.generator_step += 1
    for name, tensor in ordinary.tensors().items():
        torch.testing.assert_close(tensor, recorded.tensors()[name], msg=name)
