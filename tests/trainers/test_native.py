"""The compiled kernels: what torch computes, the law of independence, and where they stay out of the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.trainers.programs import member, program
from trainers import loop, native, native_game
from trainers.cohort import Cohort
from trainers.losses import LOSSES
from trainers.optimizers import OPTIMIZERS
from trainers.penalties import PENALTIES

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")

ODD: dict[str, Any] = {"networks": {"name": "mlp", "latent_dim": 5, "width": 35, "depth": 2}, "batch_size": 40}


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    native.use("native")
    yield
    native.use("torch")


def gradients(cohort: Cohort) -> list[torch.Tensor]:
    draws, place = cohort.draws()
    found = []
    for player in (cohort.discriminator, cohort.generator):
        minibatch: dict[str, Any] = {"latents": draws.latents[:, place, 0], "real": draws.reals[:, place, 0]}
        minibatch["noise"] = draws.noise(place, 0)
        differentiate = (
            cohort.differentiate_discriminator if player is cohort.discriminator else cohort.differentiate_generator
        )
        found += [*differentiate(**minibatch), player.gradient.clone()]
    return found


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_losses_and_norms_are_those_of_double_precision(loss: str, penalty: str) -> None:
    of = program(loss=loss, penalty=penalty, **ODD)
    who = [member(i, of=of) for i in range(3)]
    exact = gradients(Cohort.start(of, who, dtype=torch.float64))
    for got, expected in zip(gradients(Cohort.start(of, who)), exact, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("target", ["ring", "digits"])
def test_images_and_other_depths_agree_too(target: str, depth: int) -> None:
    networks = {"name": "mlp", "latent_dim": 3, "width": 20, "depth": depth}
    of = program(target={"name": target}, networks=networks, batch_size=24)
    exact = gradients(Cohort.start(of, [member(1, of=of)], dtype=torch.float64))
    for got, expected in zip(gradients(Cohort.start(of, [member(1, of=of)])), exact, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("updates", ["alternating", "simultaneous", "extragradient", "consensus"])
@pytest.mark.parametrize("penalty", ["none", "r1", "gradient_penalty"])
def test_members_train_alike_alone_in_company_and_interrupted(penalty: str, updates: str) -> None:
    # consensus is torch's alone, and there members of an odd width differ in the last bit
    width = {"networks": ODD["networks"] | {"width": 40}} if updates == "consensus" else {}
    of = program(penalty=penalty, updates=updates, **{**ODD, **width})
    more = {"consensus_weight": 0.3} if updates == "consensus" else {}
    who = [member(i, of=of, **more) for i in range(11)]
    together = Cohort.start(of, who)
    loop.advance(together, 20)
    alone = Cohort.start(of, who[9:10])
    loop.advance(alone, 7)
    alone = Cohort.restore(of, who[9:10], alone.state())
    loop.advance(alone, 20)
    for name, tensor in alone.state().items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(tensor[0], together.state()[name][9]), name


def test_a_member_that_diverges_ends_and_leaves_the_others_alone() -> None:
    of = program(loss="f_gan_kl", **ODD)
    calm, wild = member(1, of=of), member(2, of=of, discriminator_learning_rate=1e6, generator_learning_rate=1e6)
    together, alone = Cohort.start(of, [wild, calm]), Cohort.start(of, [calm])
    for cohort in (together, alone):
        loop.advance(cohort, 12)
    assert together.alive[:2].tolist() == [False, True]
    assert torch.equal(together.generator.flat[1], alone.generator.flat[0])
    torch_like = Cohort.start(of, [wild])
    native.use("torch")
    loop.advance(torch_like, 12)
    assert together.death_step[0] == torch_like.death_step[0]


def test_adam_is_adam() -> None:
    rng = torch.Generator().manual_seed(3)
    start, rate = torch.randn(8, 96, generator=rng), torch.rand(8, 1, generator=rng) * 0.1
    numbers = {"beta1": torch.rand(8, 1, generator=rng) * 0.9, "beta2": 0.99 + torch.rand(8, 1, generator=rng) * 0.0099}
    by_kernel, exact = start.clone(), start.double()
    states = [OPTIMIZERS["adam"].new_state(one) for one in (by_kernel, exact)]
    for step in range(1, 30):
        gradient = torch.randn(8, 96, generator=rng)
        for one, state in ((by_kernel, states[0]), (exact, states[1])):
            kind = {name: number.to(one.dtype) for name, number in numbers.items()}
            OPTIMIZERS["adam"].update(
                one, gradient.to(one.dtype), state, rate=rate.to(one.dtype), numbers=kind, step=step
            )
    torch.testing.assert_close(by_kernel.double(), exact, rtol=1e-5, atol=1e-5)


def test_what_is_compiled_as_a_whole_is_known_by_its_formula() -> None:
    assert set(native_game.LOSS_NUMBERS) == {name for name, loss in LOSSES.items() if not loss.pairs_real_and_fake}


def test_no_compiler_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    native.build.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RuntimeError, match="need a C compiler"):
        native.use("native")
    assert native.label() != "torch", "what was in use stays in use"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="kernels must be one of torch, native, got 'mkl'"):
        native.use("mkl")
