"""Every registered loss and penalty conforms, and equals its closed form with all its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainers.conformance import check_loss, check_penalty
from trainers.losses import LOSSES
from trainers.penalties import PENALTIES, Penalty

Array = NDArray[np.float64]
Pulls = tuple[float, float, Array, Array, Array, Array]


@pytest.mark.parametrize("name", LOSSES)
def test_every_registered_loss_conforms(name: str) -> None:
    assert check_loss(LOSSES[name]) == []


@pytest.mark.parametrize("name", PENALTIES)
def test_every_registered_penalty_conforms(name: str) -> None:
    assert check_penalty(PENALTIES[name]) == []


# ---- closed forms on whole batches: values and all four gradients, from the papers, in numpy ----


def log1pexp(t: Array) -> Array:
    return np.logaddexp(0, t)


def sigmoid(t: Array) -> Array:
    return np.exp(-np.logaddexp(0, -t))


def logistic(x: Array, y: Array) -> tuple[float, Array, Array]:
    """The discriminator's part of minimax and non-saturating: value, slope per real, slope per fake."""
    return log1pexp(-x).mean() + log1pexp(y).mean(), -sigmoid(-x) / len(x), sigmoid(y) / len(y)


def averaged(x: Array, y: Array) -> tuple[float, Array, Array]:
    """[sp(-(x - mean y)) + sp(y - mean x)] / 2: each sample also moves the mean the other side is held against."""
    above, below = sigmoid(y.mean() - x), sigmoid(y - x.mean())
    value = (log1pexp(y.mean() - x).mean() + log1pexp(y - x.mean()).mean()) / 2
    n = len(x)
    return value, -(above + below.mean()) / (2 * n), (above.mean() + below) / (2 * n)


def conjugate(value: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Callable[[Array, Array], Pulls]:
    def pulls(x: Array, y: Array) -> Pulls:
        n, none = len(x), 0 * x
        return -x.mean() + value(y).mean(), -value(y).mean(), none - 1 / n, slope(y) / n, none, -slope(y) / n

    return pulls


def _averaged_both(x: Array, y: Array) -> Pulls:
    loss_d, d_real, d_fake = averaged(x, y)
    loss_g, g_fake, g_real = averaged(y, x)
    return loss_d, loss_g, d_real, d_fake, g_real, g_fake


CLOSED_FORMS: dict[str, Callable[[Array, Array], Pulls]] = {
    # (L_D, L_G, dL_D/dreal, dL_D/dfake, dL_G/dreal, dL_G/dfake) of real logits x and fake logits y
    "minimax": lambda x, y: (
        logistic(x, y)[0],
        -log1pexp(y).mean(),
        *logistic(x, y)[1:],
        0 * x,
        -sigmoid(y) / len(y),
    ),
    "non_saturating": lambda x, y: (
        logistic(x, y)[0],
        log1pexp(-y).mean(),
        *logistic(x, y)[1:],
        0 * x,
        -sigmoid(-y) / len(y),
    ),
    "wasserstein": lambda x, y: (
        y.mean() - x.mean(),
        -y.mean(),
        0 * x - 1 / len(x),
        0 * y + 1 / len(y),
        0 * x,
        0 * y - 1 / len(y),
    ),
    "least_squares": lambda x, y: (
        ((x - 1) ** 2).mean() / 2 + (y**2).mean() / 2,
        ((y - 1) ** 2).mean() / 2,
        (x - 1) / len(x),
        y / len(y),
        0 * x,
        (y - 1) / len(y),
    ),
    "hinge": lambda x, y: (
        np.maximum(1 - x, 0).mean() + np.maximum(1 + y, 0).mean(),
        -y.mean(),
        -1.0 * (x < 1) / len(x),
        (y > -1) / len(y),
        0 * x,
        0 * y - 1 / len(y),
    ),
    "relativistic": lambda x, y: (
        log1pexp(y - x).mean(),
        log1pexp(x - y).mean(),
        -sigmoid(y - x) / len(x),
        sigmoid(y - x) / len(y),
        sigmoid(x - y) / len(x),
        -sigmoid(x - y) / len(y),
    ),
    "relativistic_average": _averaged_both,
    "f_gan_kl": conjugate(lambda t: np.exp(t - 1), lambda t: np.exp(t - 1)),
    "f_gan_pearson": conjugate(lambda t: t**2 / 4 + t, lambda t: t / 2 + 1),
}

MODERATE = np.array([-3.0, -0.9, -0.2, 0.1, 0.6, 1.7, 4.0])
EXTREME = np.array([-80.0, -30.0, -12.0, 0.3, 12.0, 30.0, 80.0])


def test_there_is_a_closed_form_of_every_loss() -> None:
    assert set(CLOSED_FORMS) == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("x", "y"), [(MODERATE, MODERATE[::-1] / 2 + 0.05), (EXTREME, EXTREME[::-1]), (MODERATE, EXTREME)]
)
def test_losses_and_all_their_gradients_equal_the_closed_forms_on_a_batch(name: str, x: Array, y: Array) -> None:
    real, fake = torch.tensor(x.copy(), requires_grad=True), torch.tensor(y.copy(), requires_grad=True)
    loss_d = LOSSES[name].discriminator(real_logits=real, fake_logits=fake)
    loss_g = LOSSES[name].generator(real_logits=real, fake_logits=fake)
    found = [
        loss_d,
        loss_g,
        *torch.autograd.grad(loss_d, [real, fake], allow_unused=True, materialize_grads=True),
        *torch.autograd.grad(loss_g, [real, fake], allow_unused=True, materialize_grads=True),
    ]
    for got, expected in zip(found, CLOSED_FORMS[name](x, y), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10, atol=1e-14)


def test_only_the_conjugate_of_kl_overflows_and_it_does_so_to_infinity() -> None:
    real, fake = torch.zeros(1), torch.tensor([95.0])
    for name, loss in LOSSES.items():
        for player in (loss.discriminator, loss.generator):
            value = player(real_logits=real, fake_logits=fake)
            assert not torch.isnan(value)
            assert bool(torch.isinf(value)) == (name == "f_gan_kl"), name


SLOPE = torch.tensor([[0.6, 0.8], [3.0, -4.0]], dtype=torch.float64)
SLOPE_CLOSED_FORMS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    # D(x) = a.x with |a| = n: (term, d term / dn) for weight w; the gradient in a points along a
    "gradient_penalty": lambda w, n: (w * (n - 1) ** 2, 2 * w * (n - 1)),
    "dragan": lambda w, n: (w * (n - 1) ** 2, 2 * w * (n - 1)),
    "r1": lambda w, n: (w / 2 * n**2, w * n),
    "r2": lambda w, n: (w / 2 * n**2, w * n),
    "r1_r2": lambda w, n: (w * n**2, 2 * w * n),
}
TERMS = [name for name, penalty in PENALTIES.items() if penalty.term is not None]


def linear_critic_law(penalty: Penalty, closed_form: Callable[[float, float], tuple[float, float]], batch: int) -> None:
    """Critics of slope 1 and 5, weights 4 and 10: term and gradient have their closed form at any batch size."""
    rng = torch.Generator().manual_seed(batch)
    shape = (2, batch, 2)
    real, fake, noise = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(3))
    epsilon, weight = torch.rand(2, batch, generator=rng, dtype=torch.float64), [4.0, 10.0]
    slope = SLOPE.clone().requires_grad_()
    assert penalty.term is not None
    value = penalty.term(
        lambda x: (x * slope[:, None, :]).sum(-1),
        real=real,
        fake=fake,
        weight=torch.tensor(weight, dtype=torch.float64),
        epsilon=epsilon,
        noise=noise,
    )
    (gradient,) = torch.autograd.grad(value.sum(), slope)
    for member, norm in enumerate((1.0, 5.0)):
        term, along = closed_form(weight[member], norm)
        assert value[member].item() == pytest.approx(term, rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(gradient[member], along * SLOPE[member] / norm, rtol=1e-10, atol=1e-10)


def test_there_is_a_closed_form_of_every_penalty_term() -> None:
    assert set(SLOPE_CLOSED_FORMS) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_penalties_of_a_linear_critic_equal_the_closed_form_at_any_batch_size(name: str, batch: int) -> None:
    linear_critic_law(PENALTIES[name], SLOPE_CLOSED_FORMS[name], batch)
