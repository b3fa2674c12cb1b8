"""The precision of training's matrix products: what is rounded, what never is, and what keeps the laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.programs import members, program
from trainers import catalogue, loop, native, precision
from trainers.captured import StaticStep
from trainers.cohort import Cohort
from trainers.evaluation import build_judge
from trainers.layers import Affine, narrow_affine, spectrally_normalised
from trainers.measuring import evaluate
from trainers.program import Program
from trainers.targets import build_target

torch.set_num_threads(1)

ROUNDOFF = 2.0**-8
"""Of bfloat16: seven stored bits of the fraction, to nearest."""

CPU = torch.device("cpu")
DIGITS: dict[str, Any] = {"target": {"name": "digits"}, "batch_size": 16}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"networks": {"name": "mlp", "latent_dim": 16, "width": 64, "depth": 2}, "batch_size": 128},
    "odd widths": {"networks": {"name": "mlp", "latent_dim": 5, "width": 30, "depth": 2}, "batch_size": 24},
    "bounded": {**DIGITS, "networks": {"name": "mlp", "latent_dim": 8, "width": 32, "depth": 2}},
    "normalised": {
        "networks": {
            "name": "mlp", "latent_dim": 4, "width": 16, "depth": 2,
            "batch_norm": "generator", "spectral_norm": "discriminator",
        }
    },
    "pacgan": {
        "networks": {
            "name": "pacgan", "latent_dim": 4, "generator_width": 16, "generator_depth": 2,
            "discriminator_width": 12, "discriminator_depth": 2, "maxout_pieces": 3,
        }
    },
    "conv": {
        **DIGITS,
        "networks": {
            "name": "conv", "latent_dim": 8, "channels": 4,
            "batch_norm": "generator", "spectral_norm": "discriminator",
        },
    },
    "the user's own": {
        **DIGITS,
        "networks": {"name": "tests.trainers.module_networks:players", "latent_dim": 8, "channels": 4},
    },
}  # fmt: skip


def rounded(**changes: Any) -> Program:
    return program(precision="bfloat16", **changes)


def started(of: Program, count: int = 4) -> Cohort:
    return Cohort.start(of, members(count, of=of))


def trained(of: Program, steps: int, *, count: int = 4) -> Cohort:
    cohort = started(of, count)
    loop.advance(cohort, steps)
    return cohort


def gradients(of: Program, *, training: bool = True) -> dict[str, Tensor]:
    """Both players' losses and gradients at the initial parameters, on the first minibatches."""
    cohort = started(of)
    draws, place = cohort.draws()
    found = {}
    with cohort.training() if training else torch.enable_grad():
        found["loss_d"], _ = cohort.differentiate_discriminator(
            latents=draws.latents[:, place, 0], real=draws.reals[:, place, 0], noise=draws.noise(place, 0)
        )
        found["loss_g"], _ = cohort.differentiate_generator(
            latents=draws.latents[:, place, 1], real=loop._paired(cohort, draws, place), noise=draws.noise(place, 1)
        )
    found |= {"discriminator": cohort.discriminator.gradient, "generator": cohort.generator.gradient}
    return found


def distance(one: Tensor, other: Tensor) -> float:
    """Relative, in the Euclidean norm over everything."""
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))


def assert_same(one: Cohort, other: Cohort) -> None:
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name


# ---- what is rounded ----


@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("penalty", [name for name in catalogue.PENALTIES if name != "weight_clipping"])
def test_gradients_are_those_of_float32_within_the_roundoff_of_bfloat16(networks: str, penalty: str) -> None:
    exact, coarse = (gradients(make(penalty=penalty, **NETWORKS[networks])) for make in (program, rounded))
    for name, want in exact.items():
        assert coarse[name].dtype == torch.float32
        # some ten roundings in a row; where a sample of a small batch crosses a kink (maxout), it costs more
        assert distance(coarse[name], want) < 32 * ROUNDOFF, name
    for player in ("discriminator", "generator"):
        assert distance(coarse[player], exact[player]) > ROUNDOFF / 16, "products must be rounded"


@pytest.mark.parametrize("loss", catalogue.LOSSES)
def test_every_loss_trains_in_bfloat16(loss: str) -> None:
    cohort = trained(rounded(loss=loss), 8)
    assert bool(cohort.alive.all())
    assert {tensor.dtype for tensor in cohort.tensors().values()} <= {torch.float32, torch.bool, torch.int64}


@pytest.mark.parametrize("updates", catalogue.UPDATES)
def test_every_order_of_updates_rounds_its_products(updates: str) -> None:
    of = rounded(updates=updates, penalty="r1")
    who = members(3, of=of, **({"consensus_weight": 0.5} if updates == "consensus" else {}))
    coarse, exact = (Cohort.start(one, who) for one in (of, replace(of, precision="float32")))
    for cohort in (coarse, exact):
        loop.advance(cohort, 1)
    assert not torch.equal(coarse.generator.flat, exact.generator.flat)
    assert not torch.equal(coarse.discriminator.flat, exact.discriminator.flat)
    torch.testing.assert_close(coarse.generator.flat, exact.generator.flat, rtol=0, atol=0.05)


def test_one_product_is_that_of_rounded_numbers() -> None:
    a, b = torch.randn(2, 8, 16), torch.randn(2, 16, 32)
    with precision.rounded("bfloat16", CPU):
        got = torch.bmm(a, b)
    want = (a.bfloat16().double() @ b.bfloat16().double()).bfloat16()
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), want.double(), rtol=ROUNDOFF, atol=1e-6)


def test_few_columns_and_singular_values_are_never_rounded() -> None:
    inputs, weight, bias = torch.randn(2, 8, 16), torch.randn(2, 16, 2), torch.randn(2, 1, 2)
    plain = narrow_affine(inputs, weight, bias), spectrally_normalised(weight)
    with precision.rounded("bfloat16", CPU):
        inside = narrow_affine(inputs, weight, bias), spectrally_normalised(weight)
    for one, other in zip(inside, plain, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_batches_are_normalised_in_full() -> None:
    layer = Affine(rows=16, columns=32, channels=32, normalised=True)
    parameters = [torch.randn(2, 16, 32), torch.ones(2, 1, 32), torch.zeros(2, 1, 32)]
    with precision.rounded("bfloat16", CPU):
        outputs = layer(torch.randn(2, 64, 16) + 3, iter(parameters))
    assert outputs.dtype == torch.float32
    assert float(outputs.mean(dim=1).abs().max()) < 1e-5
    assert float((outputs.std(dim=1, correction=0) - 1).abs().max()) < 1e-5


def test_samples_of_bounded_networks_are_no_coarse_grid() -> None:
    cohort = started(rounded(**NETWORKS["bounded"]))
    with cohort.training():
        samples = cohort.generate(torch.randn(len(cohort.seeds), 200, 8))
    assert samples.dtype == torch.float32
    assert not torch.equal(samples, samples.bfloat16().float())


# ---- what is not ----


@pytest.mark.parametrize("networks", NETWORKS)
def test_float32_that_is_asked_for_is_float32_to_the_last_bit(networks: str) -> None:
    of = program(penalty="gradient_penalty", **NETWORKS[networks])
    assert_same(trained(of, 5), trained(replace(of, precision="float32"), 5))
    assert replace(of, precision="float32") == of


@pytest.mark.parametrize("networks", NETWORKS)
def test_an_evaluation_is_that_of_float32_at_the_same_parameters(networks: str) -> None:
    of = rounded(**NETWORKS[networks], penalty="gradient_penalty", evaluation_samples=64)
    coarse = trained(of, 3)
    exact = Cohort.restore(replace(of, precision="float32"), coarse.members, coarse.state())
    target = build_target(of.target)
    judge = build_judge(target, evaluation_samples=64)
    one, other = (evaluate(cohort, judge, index=1) for cohort in (coarse, exact))
    assert one.values.keys() == other.values.keys()
    for name, values in one.values.items():
        assert np.array_equal(values, other.values[name], equal_nan=True), name
    assert np.isfinite(one.values["discriminator_gradient_norm"]).all()


def test_gradients_outside_training_are_float32() -> None:
    for name, tensor in gradients(rounded(), training=False).items():
        assert torch.equal(tensor, gradients(program())[name]), name


def test_training_ends_with_an_exception_too() -> None:
    cohort = started(rounded())
    with pytest.raises(KeyError), cohort.training():
        raise KeyError
    latents = torch.randn(len(cohort.seeds), 8, 4)
    assert torch.equal(cohort.generate(latents), started(program()).generate(latents))


# ---- the laws hold ----


@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("penalty", ["none", "r1"])
def test_a_member_is_the_same_alone_and_in_company(networks: str, penalty: str) -> None:
    of = rounded(penalty=penalty, **NETWORKS[networks])
    who = members(19, of=of)
    company, alone = Cohort.start(of, who), Cohort.start(of, [who[13]])
    for cohort in (company, alone):
        loop.advance(cohort, 25)
    for name, tensor in alone.tensors().items():
        assert torch.equal(tensor[0], company.tensors()[name][13]), name


def test_interrupted_is_uninterrupted() -> None:
    of = rounded(penalty="dragan")
    whole, part = trained(of, 20), trained(of, 9)
    resumed = Cohort.restore(of, part.members, part.state())
    loop.advance(resumed, 20)
    assert all(torch.equal(value[:4], resumed.tensors()[name][:4]) for name, value in whole.tensors().items())


def test_a_static_step_trains_as_the_ordinary_one() -> None:
    of = rounded(penalty="gradient_penalty")
    ordinary, static = started(of), started(of)
    step = StaticStep(static, loop.generator_step, static.draws()[0])
    loop.advance(ordinary, 7)
    while static.generator_step < 7:
        step(static, *static.draws())
        static.generator_step += 1
    assert_same(ordinary, static)


def test_compiled_kernels_leave_bfloat16_to_torch() -> None:
    of = rounded()
    by_torch = trained(replace(of, optimizer="sgd"), 6)
    try:
        native.use("native")
    except RuntimeError as problem:
        pytest.skip(str(problem))
    try:
        beside = trained(replace(of, optimizer="sgd"), 6)
    finally:
        native.use("torch")
    assert_same(by_torch, beside)


# ---- TF32 ----


def test_tf32_is_refused_where_there_is_none() -> None:
    cohort = started(program(precision="tf32"))
    with pytest.raises(RuntimeError, match="precision: tf32 needs a CUDA device, got cpu; write float32 or bfloat16"):
        loop.advance(cohort, 1)
    assert cohort.generator_step == 0


def test_the_catalogue_and_the_code_name_the_same_precisions() -> None:
    assert catalogue.FACTORS["precision"].choices == (precision.FLOAT32, precision.TF32, precision.BFLOAT16)
    assert catalogue.FACTORS["precision"].default is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_switch_of_tf32_is_set_for_training_and_put_back() -> None:
    matmul, device = torch.backends.cuda.matmul, torch.device("cuda")
    for before in (False, True):
        matmul.allow_tf32 = before
        try:
            for name in catalogue.FACTORS["precision"].choices:
                with precision.switched(name, device):
                    assert matmul.allow_tf32 == (name == "tf32")
                assert matmul.allow_tf32 == before
        finally:
            matmul.allow_tf32 = False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "roundoff"), [("tf32", 2.0**-11), ("bfloat16", ROUNDOFF)])
def test_on_a_gpu_one_step_is_near_that_of_float32(name: str, roundoff: float) -> None:
    of = program(penalty="r1", optimizer="sgd", **NETWORKS["mlp"])
    exact, coarse = (
        Cohort.start(one, members(4, of=of), device="cuda") for one in (of, replace(of, precision=name))
    )  # fmt: skip
    for cohort in (exact, coarse):
        loop.generator_step(cohort, *cohort.draws())
    moved = distance(coarse.discriminator.gradient, exact.discriminator.gradient)
    assert 0 < moved < 20 * roundoff


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["tf32", "bfloat16"])
def test_on_a_gpu_a_recorded_step_trains_as_the_ordinary_one(name: str) -> None:
    of = program(penalty="r1", precision=name)
    recorded, ordinary = (Cohort.start(of, members(3, of=of), device="cuda") for _ in range(2))
    loop.advance(recorded, 20)
    assert recorded.static_step is not None
    while ordinary.generator_step < 20:
        loop.generator_step(ordinary, *ordinary.draws())
        ordinary.generator_step += 1
    for key, tensor in ordinary.tensors().items():
        torch.testing.assert_close(tensor, recorded.tensors()[key], msg=key)
