"""The compiled kernels: what torch computes, the law of independence, and where they stay out of the way."""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.programs import member, program
from trainers import loop, native, native_game
from trainers.cohort import Cohort
from trainers.losses import LOSSES
from trainers.optimizers import OPTIMIZERS
from trainers.penalties import PENALTIES
from trainers.program import Program

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


def start(of: Program, count: int = 3, *, change: Callable[[Cohort], object] = id, exact: bool = False) -> Cohort:
    """A cohort that nothing but the kernels differentiates; ``exact``: torch does, in double precision."""
    weight = PENALTIES[of.penalty].weight_name
    who = [member(i, of=of, **({weight: 0.4 + 0.3 * i} if weight else {})) for i in range(count)]
    cohort = Cohort.start(of, who, dtype=torch.float64 if exact else torch.float32)
    if not exact:
        cohort.discriminator_objective = cohort.generator_objective = None  # type: ignore[assignment,method-assign]
    change(cohort)
    return cohort


def assert_agree(of: Program, *, change: Callable[[Cohort], object] = id) -> None:
    exact = gradients(start(of, change=change, exact=True))
    for got, expected in zip(gradients(start(of, change=change)), exact, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_losses_and_norms_are_those_of_double_precision(loss: str, penalty: str) -> None:
    assert_agree(program(loss=loss, penalty=penalty, **ODD))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("target", ["ring", "digits"])
def test_images_and_other_depths_agree_too(target: str, depth: int) -> None:
    networks = {"name": "mlp", "latent_dim": 3, "width": 20, "depth": depth}
    assert_agree(program(target={"name": target}, networks=networks, batch_size=24))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", ["non_saturating", "relativistic", "relativistic_average"])
def test_bounded_generators_agree_under_every_penalty(loss: str, penalty: str) -> None:
    assert_agree(program(loss=loss, penalty=penalty, target={"name": "digits"}, **ODD))


@pytest.mark.parametrize("factor", [1e-3, 4.0, 12.0])
def test_bounded_generators_agree_near_zero_and_in_saturation(factor: float) -> None:
    def scale(cohort: Cohort) -> None:
        for view in cohort.generator.frozen[-2:]:
            view.mul_(factor)

    assert_agree(program(target={"name": "digits"}, **ODD), change=scale)


@pytest.mark.parametrize("loss", ["relativistic", "relativistic_average"])
def test_losses_of_logits_far_apart_agree(loss: str) -> None:
    def scale(cohort: Cohort) -> None:
        cohort.discriminator.frozen[-2].mul_(300.0)

    assert_agree(program(loss=loss, **ODD), change=scale)


def test_the_logistic_loss_is_right_to_a_few_units_of_the_last_place(tmp_path: Path) -> None:
    header = native.SOURCE.with_name("native_losses.h")
    source = f'#include "{header}"\nvoid all(long n, const float *x, float *y) {{ for (long i = 0; i < n; i++) '
    (tmp_path / "losses.c").write_text(source + "y[i] = softplus(x[i]); }", encoding="utf-8")
    built = tmp_path / "losses.so"
    command = [shutil.which("cc") or "gcc", *native.FLAGS, "-o", str(built), str(tmp_path / "losses.c"), "-lm"]
    subprocess.run(command, check=True)
    special = np.array([0.0, -0.0, 1e-30, -1e-30, 80, -80, 3e38, -3e38, np.inf, -np.inf, np.nan])
    x = np.concatenate([np.linspace(-88, 88, 1_000_001), np.linspace(-1, 1, 1_000_001), special]).astype(np.float32)
    y = np.empty_like(x)
    ctypes.CDLL(str(built)).all(ctypes.c_long(len(x)), *(ctypes.c_void_p(one.ctypes.data) for one in (x, y)))
    exact = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x.astype(np.float64))))
    assert np.array_equal(np.isfinite(y), np.isfinite(exact))
    assert np.array_equal(np.isnan(y), np.isnan(exact))
    normal = np.isfinite(exact) & (exact >= 2.0**-126)
    units = np.abs(y[normal] - exact[normal]) / np.spacing(exact[normal].astype(np.float32))
    assert units.max() < 3, x[normal][units.argmax()]


@pytest.mark.parametrize("target", ["ring", "digits"])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_no_number_is_none_for_its_member_alone(loss: str, value: float, player: str, target: str) -> None:
    of = program(loss=loss, target={"name": target}, **ODD)

    def spoil(cohort: Cohort) -> None:
        getattr(cohort, player).frozen[0][1, 0, 0] = value

    well = gradients(start(of))
    by_torch, by_kernel = gradients(start(of, change=spoil, exact=True)), gradients(start(of, change=spoil))
    for place in (0, 3):  # a member ends by its loss or by its norm
        ends = [~(found[place].isfinite() & found[place + 1].isfinite())[:3] for found in (by_torch, by_kernel)]
        assert ends[0].tolist() == ends[1].tolist()
        assert ends[1].tolist() == [False, math.isnan(value) or bool(ends[0][1]), False]
    for got, expected in zip(by_kernel, well, strict=True):
        assert torch.equal(got[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("target", ["ring", "digits"])
@pytest.mark.parametrize("count", [1, 255, 600])
def test_outputs_are_torchs_and_a_samples_own_wherever_it_lies(count: int, target: str) -> None:
    cohort = start(program(target={"name": target}, **ODD))
    latents = torch.randn(len(cohort.seeds), 700, 5, generator=torch.Generator().manual_seed(2))[:, 50 : 50 + count]
    got = cohort.generate(latents)
    torch.testing.assert_close(got, cohort.generator.network(cohort.generator.leaves, latents), rtol=1e-5, atol=1e-6)
    assert torch.equal(got[:, count // 3 :], cohort.generate(latents[:, count // 3 :].contiguous()))
    shared = latents[:1].expand(len(latents), -1, -1)
    assert torch.equal(cohort.generate(shared), cohort.generate(shared.contiguous()))
    native.use("torch")
    torch.testing.assert_close(got, cohort.generate(latents), rtol=1e-5, atol=1e-6)


ALIKE = [
    *itertools.product(["non_saturating"], ["none", "r1", "gradient_penalty"], ["ring"]),
    ("relativistic", "r1_r2", "digits"),
    ("relativistic_average", "instance_noise", "ring"),
]


@pytest.mark.parametrize("updates", ["alternating", "simultaneous", "extragradient", "consensus"])
@pytest.mark.parametrize(("loss", "penalty", "target"), ALIKE)
def test_members_train_alike_alone_in_company_and_interrupted(
    loss: str, penalty: str, target: str, updates: str
) -> None:
    # consensus is torch's alone, and there members of an odd width differ in the last bit
    width = {"networks": ODD["networks"] | {"width": 40}} if updates == "consensus" else {}
    of = program(loss=loss, penalty=penalty, target={"name": target}, updates=updates, **{**ODD, **width})
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
    assert set(native_game.LOSS_NUMBERS) == set(LOSSES)
    assert set(native_game.PENALTY_NUMBERS) == set(PENALTIES)


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
