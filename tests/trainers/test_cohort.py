"""The cohort's state, its deaths, and the law of independence (the independent implementation: test_independent)."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from torch import Tensor

from tests.trainers.programs import member, members, program
from trainers import loop, native
from trainers.cohort import Cohort, padded_size
from trainers.program import Member, Program

torch.set_num_threads(1)

needs_compiler = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")


def rows(cohort: Cohort) -> Tensor:
    """Both players' parameters [R, P] of the real members."""
    return torch.cat([cohort.generator.flat, cohort.discriminator.flat], dim=1)[: cohort.size].clone()


def trained(of: Program, who: list[Member], steps: int) -> Cohort:
    cohort = Cohort.start(of, who)
    loop.advance(cohort, steps)
    return cohort


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2", "r1_r2", "dragan"])
def test_a_penalty_of_weight_zero_is_no_penalty(penalty: str) -> None:
    # its double backward gives strided gradients: an optimizer that ignored strides would go astray here
    of, without = program(penalty=penalty), program()
    penalised = trained(of, members(2, of=of, penalty_weight=0.0), 5)
    torch.testing.assert_close(rows(penalised), rows(trained(without, members(2, of=without), 5)))


# ---- the law of independence: bit for bit on CPU ----


@pytest.mark.parametrize("penalty", ["none", "gradient_penalty", "weight_clipping"])
@pytest.mark.parametrize("batch_size", [32, 25])
def test_a_member_is_the_same_alone_in_company_and_at_any_position(penalty: str, batch_size: int) -> None:
    of = program(penalty=penalty, batch_size=batch_size, k=2)
    company = members(19, of=of)
    alone = rows(trained(of, [company[11]], 64))[0]
    in_company = rows(trained(of, company, 64))
    reversed_order = rows(trained(of, company[::-1], 64))
    assert torch.equal(alone, in_company[11])
    assert torch.equal(in_company, reversed_order.flip(0))


@pytest.mark.parametrize("width", [3, 5, 9, 35])
@pytest.mark.parametrize(
    ("penalty", "updates", "k"), [("none", "alternating", 2), ("r1_r2", "alternating", 1), ("none", "consensus", 1)]
)
def test_a_width_of_any_number_keeps_the_law(width: int, penalty: str, updates: str, k: int) -> None:
    # gradients of odd widths begin at other places of a cache line for each member, and kernels round by that
    networks = {"name": "mlp", "latent_dim": 2, "width": width, "depth": 2}
    of = program(penalty=penalty, updates=updates, k=k, networks=networks)
    weights = {"consensus_weight": 0.5} if updates == "consensus" else {}
    company = members(19, of=of, **weights)
    in_company = rows(trained(of, company, 24))
    assert torch.equal(rows(trained(of, [company[11]], 24))[0], in_company[11])
    assert torch.equal(rows(trained(of, company[::-1], 24)).flip(0), in_company)


@pytest.mark.parametrize("stop", [1, 7, 8, 13])
def test_interruption_at_any_update_changes_no_bit(stop: int) -> None:
    of = program(loss="relativistic", penalty="r1_r2", k=2)
    who = members(3, of=of)
    interrupted = trained(of, who, stop)
    resumed = Cohort.restore(of, who, interrupted.state())
    loop.advance(resumed, 30)
    assert resumed.generator_step == 30
    assert torch.equal(rows(resumed), rows(trained(of, who, 30)))


def test_state_is_plain_and_loads_without_pickled_code(tmp_path) -> None:  # type: ignore[no-untyped-def]
    of = program()
    cohort = trained(of, members(2, of=of), 5)
    torch.save(cohort.state(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(rows(Cohort.restore(of, cohort.members, loaded)), rows(cohort))


def test_a_diverging_member_ends_alone_and_its_neighbours_do_not_notice() -> None:
    of = program(loss="wasserstein", optimizer="sgd")
    calm = members(4, of=of)
    wild = member(999, of=of, generator_learning_rate=1e4, discriminator_learning_rate=1e4)
    without = trained(of, calm, 40)
    beside = trained(of, [*calm[:2], wild, *calm[2:]], 40)
    alive = beside.alive[:5].tolist()
    assert alive == [True, True, False, True, True]
    assert torch.equal(rows(beside)[[0, 1, 3, 4]], rows(without))
    assert 1 <= int(beside.death_step[2]) <= 40
    assert beside.death_step[:2].tolist() == [-1, -1]


@pytest.mark.parametrize("kernels", ["torch", pytest.param("native", marks=needs_compiler)])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("values", [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf], [3e38, 3e38], [0.0]])
def test_who_ends_is_who_has_a_non_finite_loss_or_norm_whoever_else_does(
    values: list[float], player: str, kernels: str
) -> None:
    of = program()
    native.use(kernels)
    try:
        for place in (0, 3, 10):
            for other in (0, 1):
                cohort = Cohort.start(of, members(11, of=of))
                found = [torch.linspace(-2.0, 3.0, 16), torch.linspace(0.0, 5.0, 16)]
                for i, value in enumerate(values):
                    found[(other + i) % 2][place + 2 * i] = value
                expected = torch.isfinite(found[0]) & torch.isfinite(found[1])
                getattr(cohort, f"update_{player}")(*found, count=1)
                assert torch.equal(cohort.alive, expected)
                assert torch.equal(cohort.death_step, torch.where(expected, -1, 1))
    finally:
        native.use("torch")


def test_a_dead_member_stops_being_updated() -> None:
    of = program(loss="wasserstein", optimizer="sgd", penalty="weight_clipping")
    cohort = trained(of, members(2, of=of, clip=0.1), 5)
    before = rows(cohort)
    cohort.end(torch.tensor([True] + [False] * 7), at_step=5)
    loop.advance(cohort, 12)
    assert torch.equal(rows(cohort)[0], before[0])
    assert not torch.equal(rows(cohort)[1], before[1])


@pytest.mark.parametrize(("members_", "batch_size", "expected"), [(1, 128, 8), (9, 128, 16), (8, 2, 16), (8, 25, 32)])
def test_padding_fills_vector_lanes(members_: int, batch_size: int, expected: int) -> None:
    size = padded_size(members_, batch_size=batch_size)
    assert size == expected
    assert size % 8 == 0
    assert size * batch_size % 32 == 0


# ---- Algorithm 1 ----


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_discriminator_is_updated_k_times_per_generator_update(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    of = program(k=k)
    cohort = Cohort.start(of, members(1, of=of))
    calls: list[tuple[str, int]] = []
    for name in ("generator", "discriminator"):
        player = getattr(cohort, name)

        def counted(may_move: Tensor, *, count: int, name: str = name, step=player.step) -> None:  # type: ignore[no-untyped-def]
            calls.append((name, count))
            step(may_move, count=count)

        monkeypatch.setattr(player, "step", counted)
    loop.advance(cohort, 4)
    one = [("discriminator", 0)] * k + [("generator", 0)]
    assert [name for name, _ in calls] == [name for name, _ in one * 4]
    assert [c for name, c in calls if name == "discriminator"] == list(range(1, 4 * k + 1))
    assert [c for name, c in calls if name == "generator"] == [1, 2, 3, 4]
    assert cohort.discriminator_steps == k * cohort.generator_step == 4 * k


def test_simultaneous_updates_use_both_gradients_at_the_same_point() -> None:
    of = program(updates="simultaneous", optimizer="sgd")
    who = members(1, of=of)
    start, after = Cohort.start(of, who), trained(of, who, 1)
    draws, place = start.draws()
    start.differentiate_generator(latents=draws.latents[:, place, 1], real=None)
    expected = start.generator.flat - who[0].numbers["generator_learning_rate"] * start.generator.gradient
    torch.testing.assert_close(after.generator.flat, expected)
    alternating = trained(program(optimizer="sgd"), who, 1)
    assert not torch.equal(alternating.generator.flat, after.generator.flat)


def test_clipping_acts_on_weights_after_the_step() -> None:
    of = program(loss="wasserstein", penalty="weight_clipping")
    who = [member(5, of=of, clip=0.01), member(6, of=of, clip=0.2)]
    cohort = trained(of, who, 3)
    limits = cohort.discriminator.flat[:2].abs().amax(1).tolist()
    assert limits == pytest.approx([0.01, 0.2])
    assert cohort.generator.flat.abs().amax() > 0.2


def test_members_of_one_cohort_train_at_their_own_learning_rates() -> None:
    of = program(optimizer="sgd")
    slow = member(5, of=of, generator_learning_rate=1e-2, discriminator_learning_rate=0.0)
    fast = member(5, of=of, generator_learning_rate=1e-1, discriminator_learning_rate=0.0)
    start = Cohort.start(of, [slow, fast])
    moved = trained(of, [slow, fast], 1).generator.flat[:2] - start.generator.flat[:2]
    torch.testing.assert_close(moved[1], 10 * moved[0], rtol=1e-3, atol=1e-6)
