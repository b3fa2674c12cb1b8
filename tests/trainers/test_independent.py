"""Two implementations, one trajectory; and the law of independence, for every loss and penalty."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.plain_gan import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES, PlainGAN, cohort_parameters
from tests.trainers.programs import member, members, program
from trainers import loop
from trainers.catalogue import LOSSES, OPTIMIZERS, PENALTIES
from trainers.cohort import Cohort
from trainers.program import Member, Program

torch.set_num_threads(1)

TINY = {"networks": {"name": "mlp", "latent_dim": 2, "width": 5, "depth": 1}, "batch_size": 8}
SCHEDULES: list[dict[str, Any]] = [{"k": 1}, {"k": 2}, {"k": 5}, {"k": 1, "updates": "simultaneous"}]
NUMBERS = {"momentum": 0.6, "penalty_weight": 0.7, "clip": 0.2, "noise_std": 0.3}
STEPS = 20
PAIRS = list(itertools.product(LOSSES, PENALTIES))

# Every loss with every penalty under every schedule, the optimizers in turn: a third of all combinations, chosen so
# that any three of loss, penalty, schedule and optimizer still meet in every way (the test below counts them).
MATRIX: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {
    (loss, penalty): [
        (list(OPTIMIZERS)[(i + j + turn) % len(OPTIMIZERS)], schedule) for turn, schedule in enumerate(SCHEDULES)
    ]
    for (i, loss), (j, penalty) in itertools.product(enumerate(LOSSES), enumerate(PENALTIES))
}


def numbered(of: Program, count: int) -> list[Member]:
    """Members whose numbers are far from 0, 1 and each other, so that none can be forgotten unnoticed."""
    used = {name: value for name, value in NUMBERS.items() if name in members(1, of=of)[0].numbers}
    return [
        member(
            300 + i,
            of=of,
            generator_learning_rate=0.004 * (i + 1),
            discriminator_learning_rate=0.007 * (i + 1),
            **{name: value / (i + 1) for name, value in used.items()},
        )
        for i in range(count)
    ]


def difference(of: Program) -> str | None:
    """How the second member of a cohort of two differs from its plain twin after 20 steps; None when it does not."""
    who = numbered(of, 2)
    cohort, plain = Cohort.start(of, who, dtype=torch.float64), PlainGAN(of, who[1])
    before = [tensor.clone() for tensor in plain.parameters()]
    loop.advance(cohort, STEPS)
    plain.train(STEPS)
    if not any(bool((a - b).abs().max() > 1e-4) for a, b in zip(before, plain.parameters(), strict=True)):
        return "the plain implementation did not move"
    for stacked, own in zip(cohort_parameters(cohort, 1), plain.parameters(), strict=True):
        if not torch.allclose(stacked, own, rtol=1e-7, atol=1e-9):
            return f"off by {(stacked - own).abs().max().item():.1e}"
    return None


def test_the_plain_implementation_knows_every_loss() -> None:
    assert set(DISCRIMINATOR_LOSSES) == set(GENERATOR_LOSSES) == set(LOSSES)


def test_any_three_of_loss_penalty_schedule_and_optimizer_meet_in_every_way() -> None:
    cells = [
        (loss, penalty, optimizer, str(schedule))
        for (loss, penalty), row in MATRIX.items()
        for optimizer, schedule in row
    ]
    levels = [len(LOSSES), len(PENALTIES), len(OPTIMIZERS), len(SCHEDULES)]
    for three in itertools.combinations(range(4), 3):
        met = {tuple(cell[factor] for factor in three) for cell in cells}
        assert len(met) == math.prod(levels[factor] for factor in three)


@pytest.mark.parametrize(("loss", "penalty"), PAIRS)
def test_cohort_and_plain_implementation_agree_after_twenty_steps(loss: str, penalty: str) -> None:
    found = {
        (optimizer, *schedule.values()): difference(
            program(loss=loss, penalty=penalty, optimizer=optimizer, **schedule, **TINY)
        )
        for optimizer, schedule in MATRIX[loss, penalty]
    }
    assert {which: how for which, how in found.items() if how} == {}


# ---- the law of independence: on the CPU a member's trajectory is its own, bit for bit ----


def rows(cohort: Cohort) -> Tensor:
    """Both players' parameters [R, P] of the real members."""
    return torch.cat([cohort.generator.flat, cohort.discriminator.flat], dim=1)[: cohort.size].clone()


def trained(of: Program, who: list[Member], steps: int = STEPS) -> Cohort:
    cohort = Cohort.start(of, who)
    loop.advance(cohort, steps)
    return cohort


@pytest.mark.parametrize(("loss", "penalty"), PAIRS)
def test_a_member_is_itself_in_any_company_order_and_after_an_interruption(loss: str, penalty: str) -> None:
    of = program(loss=loss, penalty=penalty, k=2, batch_size=12)
    company = numbered(of, 9)
    wild = member(999, of=of, generator_learning_rate=1e30, discriminator_learning_rate=1e30)
    crowd = [*company[4:], wild, *company[:4]]

    together = trained(of, crowd)
    alone = trained(of, [company[6]])
    half = trained(of, company[::-1], 9)
    resumed = Cohort.restore(of, company[::-1], half.state())
    loop.advance(resumed, STEPS)

    order = [6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert torch.equal(rows(alone)[0], rows(together)[order][6])
    assert torch.equal(rows(resumed).flip(0), rows(together)[order])
    # a member may end by itself (exp overflows at the highest rate), but then at the same step in any company
    assert torch.equal(resumed.death_step[:9].flip(0), together.death_step[order])
    assert (together.death_step[order] == -1).sum() > 6
    if penalty != "weight_clipping":  # clipping brings even 1e30 back into the box
        assert 1 <= int(together.death_step[5]) <= STEPS
