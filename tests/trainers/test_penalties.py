"""Penalties against closed forms: per-sample norms, R1's one half, interpolates, clipping after the step."""

from __future__ import annotations

import pytest
import torch

from trainers import catalogue
from trainers.penalties import PENALTIES, squared_gradient_norm


def linear(weights: torch.Tensor):
    """D(x) = w . x for each member: |grad D| = |w| everywhere."""
    return lambda x: (x * weights[:, None, :]).sum(-1)


def quadratic(x: torch.Tensor) -> torch.Tensor:
    """D(x) = |x|^2 / 2: grad D(x) = x."""
    return 0.5 * x.square().sum(-1)


def test_registry_and_catalogue_agree_on_names_and_numbers() -> None:
    assert set(PENALTIES) == set(catalogue.PENALTIES)
    for name, penalty in PENALTIES.items():
        declared = [p.name for p in catalogue.PENALTIES[name].parameters]
        assert declared == ([penalty.weight_name] if penalty.weight_name else [])
        assert catalogue.PENALTIES[name].penalised == (penalty.term is not None)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_gradient_penalty_of_a_linear_critic_does_not_depend_on_the_batch(batch: int) -> None:
    unit, steep = torch.tensor([0.6, 0.8]), torch.tensor([3.0, 4.0])
    discriminator = linear(torch.stack([unit, steep]))
    rng = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, batch, 2, generator=rng), torch.randn(2, batch, 2, generator=rng)
    term = PENALTIES["gradient_penalty"].term
    value = term(
        discriminator,
        real=real,
        fake=fake,
        weight=torch.tensor([10.0, 10.0]),
        epsilon=torch.rand(2, batch, generator=rng),
    )
    assert value.tolist() == pytest.approx([0.0, 10 * (5 - 1) ** 2], abs=1e-5)


def test_gradient_penalty_sits_on_the_interpolates_with_one_epsilon_per_sample() -> None:
    real, fake = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    epsilon = torch.tensor([[0.25, 0.5]])
    value = PENALTIES["gradient_penalty"].term(
        quadratic, real=real, fake=fake, weight=torch.tensor([3.0]), epsilon=epsilon
    )
    norms = [0.25 * 2.0, 0.5 * 4.0 + 0.5 * 1.0]
    assert value.item() == pytest.approx(3 * sum((n - 1) ** 2 for n in norms) / 2)


def test_gradient_penalty_of_a_dead_discriminator_is_finite_with_finite_gradient() -> None:
    slope = torch.zeros(1, 2, requires_grad=True)
    value = PENALTIES["gradient_penalty"].term(
        lambda x: (x * slope[:, None, :]).sum(-1),
        real=torch.ones(1, 3, 2),
        fake=torch.zeros(1, 3, 2),
        weight=torch.tensor([10.0]),
        epsilon=torch.full((1, 3), 0.5),
    )
    (gradient,) = torch.autograd.grad(value.sum(), slope)
    assert value.item() == pytest.approx(10.0)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r1", 0.5 * 4.0 * (25 + 1) / 2),
        ("r2", 0.5 * 4.0 * (4 + 9) / 2),
        ("r1_r2", 0.5 * 4.0 * ((25 + 1) + (4 + 9)) / 2),
    ],
)
def test_zero_centred_penalties_carry_the_papers_one_half(name: str, expected: float) -> None:
    real, fake = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]), torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    value = PENALTIES[name].term(quadratic, real=real, fake=fake, weight=torch.tensor([4.0]), epsilon=None)
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n, p in PENALTIES.items() if p.term is not None])
def test_each_member_has_its_own_weight_and_weight_zero_is_no_penalty(name: str) -> None:
    rng = torch.Generator().manual_seed(2)
    real, fake = torch.randn(2, 5, 3, generator=rng), torch.randn(2, 5, 3, generator=rng)
    epsilon = torch.rand(2, 5, generator=rng)
    discriminator = linear(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    value = PENALTIES[name].term(discriminator, real=real, fake=fake, weight=torch.tensor([0.0, 2.0]), epsilon=epsilon)
    single = PENALTIES[name].term(discriminator, real=real, fake=fake, weight=torch.tensor([1.0, 1.0]), epsilon=epsilon)
    assert value[0].item() == 0
    assert value[1].item() == pytest.approx(2 * single[1].item(), rel=1e-5)


def test_squared_gradient_norm_is_per_sample_and_differentiable() -> None:
    points = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    weights = torch.tensor([[1.0, -2.0]], requires_grad=True)
    squared = squared_gradient_norm(linear(weights), points)
    assert squared.tolist() == [[5.0, 5.0]]
    (gradient,) = torch.autograd.grad(squared.sum(), weights)
    assert gradient.tolist() == [[4.0, -8.0]]
    assert squared_gradient_norm(quadratic, points)[0].tolist() == pytest.approx([25.0, 4.0])
