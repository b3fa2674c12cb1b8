"""Closed forms and laws that every registered loss must keep; most are defects seen in well-known code."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from trainers import catalogue
from trainers.losses import LOSSES, value_function

NAMES = sorted(LOSSES)
EXTREME = [-80.0, -30.0, -3.0, -0.25, 0.0, 0.7, 4.0, 30.0, 80.0]


def gradients(name: str, player: str, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    loss = getattr(LOSSES[name], player)(real_logits=real, fake_logits=fake)
    grads = torch.autograd.grad(loss.sum(), [real, fake], allow_unused=True, materialize_grads=True)
    return grads[0], grads[1]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log1pexp(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


CLOSED_FORMS = {
    # name: (L_D(r, f), L_G(r, f), dL_D/df, dL_G/df) of one real and one fake logit, written from the papers
    "minimax": (
        lambda r, f: log1pexp(-r) + log1pexp(f),
        lambda r, f: -log1pexp(f),
        lambda r, f: sigmoid(f),
        lambda r, f: -sigmoid(f),
    ),
    "non_saturating": (
        lambda r, f: log1pexp(-r) + log1pexp(f),
        lambda r, f: log1pexp(-f),
        lambda r, f: sigmoid(f),
        lambda r, f: -sigmoid(-f),
    ),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f, lambda r, f: 1.0, lambda r, f: -1.0),
    "least_squares": (
        lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2,
        lambda r, f: 0.5 * (f - 1) ** 2,
        lambda r, f: f,
        lambda r, f: f - 1,
    ),
    "hinge": (
        lambda r, f: max(1 - r, 0.0) + max(1 + f, 0.0),
        lambda r, f: -f,
        lambda r, f: 1.0 if f > -1 else 0.0,
        lambda r, f: -1.0,
    ),
    "relativistic": (
        lambda r, f: log1pexp(-(r - f)),
        lambda r, f: log1pexp(-(f - r)),
        lambda r, f: sigmoid(f - r),
        lambda r, f: -sigmoid(r - f),
    ),
}


def test_registry_and_catalogue_have_the_same_losses() -> None:
    assert set(LOSSES) == set(catalogue.LOSSES) == set(CLOSED_FORMS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("real", [-30.0, -0.4, 0.9, 30.0])
@pytest.mark.parametrize("fake", EXTREME)
def test_values_and_gradients_equal_the_closed_form_at_moderate_and_extreme_logits(
    name: str, real: float, fake: float
) -> None:
    loss_d, loss_g, slope_d, slope_g = CLOSED_FORMS[name]
    r, f = torch.tensor([real], dtype=torch.float64), torch.tensor([fake], dtype=torch.float64)
    loss = LOSSES[name]
    assert loss.discriminator(real_logits=r, fake_logits=f).item() == pytest.approx(
        loss_d(real, fake), rel=1e-9, abs=1e-12
    )
    assert loss.generator(real_logits=r, fake_logits=f).item() == pytest.approx(loss_g(real, fake), rel=1e-9, abs=1e-12)
    assert gradients(name, "discriminator", r, f)[1].item() == pytest.approx(slope_d(real, fake), rel=1e-9, abs=1e-15)
    assert gradients(name, "generator", r, f)[1].item() == pytest.approx(slope_g(real, fake), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "loss_d", "loss_g"),
    [
        ("minimax", 2 * math.log(2), -math.log(2)),
        ("non_saturating", 2 * math.log(2), math.log(2)),
        ("hinge", 2.0, 0.0),
        ("least_squares", 0.5, 0.5),
        ("relativistic", math.log(2), math.log(2)),
        ("wasserstein", 0.0, 0.0),
    ],
)
def test_published_values_where_the_discriminator_knows_nothing(name: str, loss_d: float, loss_g: float) -> None:
    zero = torch.zeros(3, 5)
    loss = LOSSES[name]
    assert loss.discriminator(real_logits=zero, fake_logits=zero).tolist() == pytest.approx([loss_d] * 3)
    assert loss.generator(real_logits=zero, fake_logits=zero).tolist() == pytest.approx([loss_g] * 3)


def test_minimax_saturates_where_non_saturating_does_not() -> None:
    confident = torch.tensor([-10.0], dtype=torch.float64)
    zero = torch.zeros_like(confident)
    assert gradients("minimax", "generator", zero, confident)[1].item() == pytest.approx(-4.5398e-5, rel=1e-4)
    assert gradients("non_saturating", "generator", zero, confident)[1].item() == pytest.approx(-0.9999546, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fake", [0.05, 0.5, 0.95])
def test_players_pull_fake_logits_in_opposite_directions(name: str, fake: float) -> None:
    real, logit = torch.tensor([0.3]), torch.tensor([fake])
    down = gradients(name, "discriminator", real, logit)[1].item()
    up = gradients(name, "generator", real, logit)[1].item()
    assert down > 0 > up, "the discriminator lowers fake logits, the generator raises them (high = real)"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_mean_over_the_batch_and_any_leading_axes(name: str, player: str) -> None:
    rng = torch.Generator().manual_seed(3)
    real, fake = torch.randn(2, 4, 6, generator=rng), torch.randn(2, 4, 6, generator=rng)
    loss = getattr(LOSSES[name], player)
    once = loss(real_logits=real, fake_logits=fake)
    twice = loss(real_logits=torch.cat([real, real], -1), fake_logits=torch.cat([fake, fake], -1))
    assert once.shape == (2, 4)
    torch.testing.assert_close(once, twice)
    torch.testing.assert_close(once[1, 2], loss(real_logits=real[1, 2], fake_logits=fake[1, 2]))


def test_no_two_losses_are_the_same_pair_of_gradients() -> None:
    rng = torch.Generator().manual_seed(4)
    real, fake = 2 * torch.randn(64, generator=rng), 2 * torch.randn(64, generator=rng)
    prints = {
        name: torch.cat([*gradients(name, "discriminator", real, fake), gradients(name, "generator", real, fake)[1]])
        for name in NAMES
    }
    for a in NAMES:
        for b in NAMES:
            if a < b:
                assert (prints[a] - prints[b]).abs().max() > 1e-4, f"{a} and {b} are one loss under two names"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_arguments_are_keyword_only_and_shapes_are_checked(name: str, player: str) -> None:
    loss = getattr(LOSSES[name], player)
    kinds = {p.name: p.kind for p in inspect.signature(loss).parameters.values()}
    assert kinds == {"real_logits": inspect.Parameter.KEYWORD_ONLY, "fake_logits": inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(ValueError, match="same shape"):
        loss(real_logits=torch.zeros(2, 3), fake_logits=torch.zeros(2, 1))


@pytest.mark.parametrize("name", NAMES)
def test_generator_reads_real_logits_exactly_where_it_says_so(name: str) -> None:
    rng = torch.Generator().manual_seed(5)
    real, fake = torch.randn(8, generator=rng), torch.randn(8, generator=rng)
    depends = bool(gradients(name, "generator", real, fake)[0].abs().max() > 0)
    assert depends == LOSSES[name].pairs_real_and_fake


def test_value_function_at_the_optimal_discriminator_is_minus_log_4_plus_2_jsd() -> None:
    # Two densities on four points; D* = p / (p + q) as logit log p/q, expectations by exact enumeration.
    p, q = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    logit = (p / q).log()
    counts_real, counts_fake = (10 * p).round().long(), (10 * q).round().long()
    value = value_function(
        real_logits=logit.repeat_interleave(counts_real), fake_logits=logit.repeat_interleave(counts_fake)
    )
    m = (p + q) / 2
    jsd = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    assert value.item() == pytest.approx(-math.log(4) + 2 * jsd.item(), abs=1e-6)
