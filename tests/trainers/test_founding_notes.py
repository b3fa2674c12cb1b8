"""What the project's founding notes teach, as tests: cross entropy, V(D, G), Algorithm 1, and the notes' errata.

The notes are lecture slides on Goodfellow et al. 2014 and a blog post on GAN losses; docs/gan-losses.md retells them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tests.trainers.programs import RING, member, members, program
from trainers import loop
from trainers.cohort import Cohort
from trainers.conformance import check_loss
from trainers.draws import BLOCK_STEPS, Stream, generator
from trainers.losses import LOSSES, AdversarialLoss, value_function
from trainers.targets import build_target

torch.set_num_threads(1)

Array = NDArray[np.float64]

# ---- 1. cross entropy: the slides' worked example ----

ACTUAL = np.eye(3)[[0, 1, 0, 2]]  # boy, girl, boy, other
MODEL_1 = np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.5, 0.2, 0.3], [0.8, 0.1, 0.1]])
MODEL_2 = np.array([[0.7, 0.1, 0.2], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]])


def cross_entropy(predicted: Array, actual: Array) -> Array:
    """H = sum over samples of -y log2 p, per class, in bits; 0 log 0 is 0, a zero for what happened is infinite."""
    with np.errstate(divide="ignore"):
        surprise = -np.log2(predicted)
    return np.where(actual > 0, actual * np.where(actual > 0, surprise, 0.0), 0.0).sum(axis=0)


def test_cross_entropy_of_the_worked_example() -> None:
    assert cross_entropy(MODEL_1, ACTUAL) == pytest.approx([2.322, 1.322, 3.322], abs=5e-4)
    assert cross_entropy(MODEL_1, ACTUAL).sum() == pytest.approx(6.966, abs=5e-4)
    assert cross_entropy(MODEL_2, ACTUAL).sum() == pytest.approx(2.725, abs=5e-4)


def test_models_of_equal_error_rate_differ_in_cross_entropy() -> None:
    errors = [(model.argmax(axis=1) != ACTUAL.argmax(axis=1)).mean() for model in (MODEL_1, MODEL_2)]
    assert errors == [0.25, 0.25]
    assert cross_entropy(MODEL_2, ACTUAL).sum() < cross_entropy(MODEL_1, ACTUAL).sum()


def test_erratum_a_predicted_zero_is_harmless_where_the_label_is_zero_and_infinite_where_it_is_one() -> None:
    # "it will never be 0 (softmax output)", say the slides; their own model 2 predicts 0.0 for the third sample
    assert (MODEL_2 == 0).sum() == 1
    assert np.isfinite(cross_entropy(MODEL_2, ACTUAL)).all()
    wrong = MODEL_2.copy()
    wrong[2] = [0.0, 0.1, 0.9]
    assert cross_entropy(wrong, ACTUAL).sum() == math.inf


# ---- 2. the binary case: our discriminator loss is (A) plus (B) ----


def binary(predicted: float, label: int) -> float:
    """L(y_hat, y) = -[y log y_hat + (1 - y) log(1 - y_hat)], natural logarithm."""
    return -(label * math.log(predicted) + (1 - label) * math.log(1 - predicted))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize("d_real", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("d_fake", [0.1, 0.5, 0.97])
def test_softplus_form_is_binary_cross_entropy_a_plus_b(d_real: float, d_fake: float) -> None:
    real = torch.tensor([logit(d_real)], dtype=torch.float64)
    fake = torch.tensor([logit(d_fake)], dtype=torch.float64)
    loss = LOSSES["minimax"].discriminator(real_logits=real, fake_logits=fake)
    assert binary(d_real, 1) == pytest.approx(-math.log(d_real))  # (A)
    assert binary(d_fake, 0) == pytest.approx(-math.log(1 - d_fake))  # (B)
    assert loss.item() == pytest.approx(binary(d_real, 1) + binary(d_fake, 0), rel=1e-12)
    assert value_function(real_logits=real, fake_logits=fake).item() == pytest.approx(-loss.item(), rel=1e-12)


def test_discriminator_loss_is_the_slides_cross_entropy_of_a_half_real_half_fake_batch() -> None:
    d_real, d_fake = np.array([0.9, 0.6, 0.3]), np.array([0.2, 0.5, 0.05])
    probability_real = np.concatenate([d_real, d_fake])
    predicted = np.stack([probability_real, 1 - probability_real], axis=1)
    bits = cross_entropy(predicted, np.eye(2)[[0, 0, 0, 1, 1, 1]]).sum()
    loss = LOSSES["minimax"].discriminator(
        real_logits=torch.tensor([logit(p) for p in d_real]), fake_logits=torch.tensor([logit(p) for p in d_fake])
    )
    assert loss.item() == pytest.approx(math.log(2) * bits / 3, rel=1e-6)  # nats per sample of each half


# ---- 3. the value function: V(D*, G) = -log 4 + 2 JSD(p, q) ----


def jsd(log_p: Callable[[Array], Array], log_q: Callable[[Array], Array], x: Array) -> float:
    """Jensen-Shannon divergence in nats of two densities given by their logarithms, by quadrature on the grid ``x``."""
    a, b = log_p(x), log_q(x)
    m = np.logaddexp(a, b) - math.log(2)
    return 0.5 * float(trapezoid(np.exp(a) * (a - m) + np.exp(b) * (b - m), x))


GRID = np.linspace(-40, 40, 200_001)
QUANTILES = (np.arange(40_000) + 0.5) / 40_000


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (1.0, 2.0), (3.0, 0.7), (30.0, 1.0)])
def test_value_at_the_optimal_discriminator_of_two_gaussians(shift: float, scale: float) -> None:
    p, q = norm(0, 1), norm(shift, scale)
    real, fake = p.ppf(QUANTILES), q.ppf(QUANTILES)  # the expectation over equal slices of probability
    at = [torch.tensor(p.logpdf(x) - q.logpdf(x)) for x in (real, fake)]  # D* = p/(p+q), so its logit is log p/q
    value = value_function(real_logits=at[0], fake_logits=at[1]).item()
    divergence = jsd(p.logpdf, q.logpdf, GRID)
    assert value == pytest.approx(-math.log(4) + 2 * divergence, abs=2e-4)
    assert -math.log(4) - 1e-12 <= value <= 1e-12  # indistinguishable, and infinitely easy
    for change in (lambda t: 0.9 * t, lambda t: t + 0.2, lambda t: t - 0.2):
        other = value_function(real_logits=change(at[0]), fake_logits=change(at[1])).item()
        assert other <= value + 1e-9, "no discriminator does better than D*"


LINEAR_FROZEN = """
import torch
from torch import nn

def build(*, latent_dim, sample_shape):
    generator = nn.Linear(2, 2)
    with torch.no_grad():
        generator.weight.copy_(0.5 * torch.eye(2))
        generator.bias.zero_()
    return generator, nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
"""


def test_our_discriminator_trained_alone_finds_the_optimal_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # p: two Gaussians at (-1, 0) and (1, 0), std .5; q = G(z) ~ N(0, .5^2), frozen. They differ along x_0 only.
    (tmp_path / "frozen_gaussian.py").write_text(LINEAR_FROZEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    of = program(
        loss="minimax",
        batch_size=256,
        target={"name": "ring", "modes": 2, "radius": 1.0, "std": 0.5},
        networks={"name": "frozen_gaussian:build", "latent_dim": 2},
    )
    who = [member(7, of=of, generator_learning_rate=0.0, discriminator_learning_rate=0.05)]
    cohort = Cohort.start(of, who)
    loop.advance(cohort, 350)

    def log_p(x: Array) -> Array:
        return np.logaddexp(norm.logpdf(x, -1, 0.5), norm.logpdf(x, 1, 0.5)) - math.log(2)

    def log_q(x: Array) -> Array:
        return norm.logpdf(x, 0, 0.5)

    best = -math.log(4) + 2 * jsd(log_p, log_q, np.linspace(-8, 8, 20_001))
    rng = np.random.default_rng(8)
    real = torch.from_numpy(cohort.target.sample(rng, 60_000))
    fake = torch.from_numpy((0.5 * rng.standard_normal((60_000, 2))).astype(np.float32))
    with torch.no_grad():
        logits = [cohort.discriminate(s.expand(len(cohort.seeds), -1, -1))[0] for s in (real, fake)]
        x = np.linspace(-1.5, 1.5, 13)
        line = torch.tensor(np.stack([x, 0 * x], axis=1), dtype=torch.float32)
        found = cohort.discriminate(line.expand(len(cohort.seeds), -1, -1))[0].numpy()
    value = value_function(real_logits=logits[0], fake_logits=logits[1]).item()
    assert best > -math.log(4) + 0.2, "the two are told apart"
    assert best - 0.03 < value < best + 0.01
    assert np.abs(found - (log_p(x) - log_q(x))).mean() < 0.25


# ---- "until D cannot tell real from fake": necessary, not sufficient ----


def held_out_accuracy(real: Array, fake: Array) -> float:
    """A classifier trained afresh on half of the samples, judged on the other half."""
    x, y = np.concatenate([real, fake]), np.repeat([1, 0], [len(real), len(fake)])
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.array_split(order, 2)
    features = np.concatenate([x, x**2], axis=1)
    return float(LogisticRegression().fit(features[train], y[train]).score(features[test], y[test]))


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_a_fresh_classifier_tells_real_from_fake_exactly_as_well_as_they_differ(shift: float) -> None:
    rng = np.random.default_rng(3)
    real, fake = rng.standard_normal((20_000, 1)), rng.standard_normal((20_000, 1)) + shift
    bayes = norm.cdf(shift / 2)  # 1/2 + half the total variation of two unit Gaussians
    assert held_out_accuracy(real, fake) == pytest.approx(bayes, abs=4 * 0.5 / math.sqrt(20_000))


def test_a_dead_discriminator_shows_one_half_and_minus_log_4_though_samples_are_easily_told_apart() -> None:
    of = program()
    cohort = Cohort.start(of, members(1, of=of))
    cohort.discriminator.flat.zero_()
    rng = np.random.default_rng(4)
    real = torch.from_numpy(cohort.target.sample(rng, 2000)).expand(len(cohort.seeds), -1, -1)
    fake = cohort.generate(torch.from_numpy(rng.standard_normal((len(cohort.seeds), 2000, 4)).astype(np.float32)))
    at = [cohort.discriminate(x).detach()[0] for x in (real, fake)]
    assert all(bool((torch.sigmoid(x) == 0.5).all()) for x in at)
    assert value_function(real_logits=at[0], fake_logits=at[1]).item() == pytest.approx(-math.log(4))
    assert held_out_accuracy(real[0].double().numpy(), fake[0].double().numpy()) > 0.9


# ---- 4. Algorithm 1, written out ----


def forward(weights: list[Array], x: Array, slope: float) -> tuple[Array, Array, Array]:
    """One hidden layer of (leaky) rectifiers: what enters it, what leaves it, the output."""
    hidden = x @ weights[0] + weights[1]
    active = np.where(hidden > 0, hidden, slope * hidden)
    return hidden, active, active @ weights[2] + weights[3]


def backward(weights: list[Array], x: Array, slope: float, d_output: Array) -> tuple[list[Array], Array]:
    """The chain rule by hand: gradients of the weights, and of the input."""
    hidden, active, _ = forward(weights, x, slope)
    d_hidden = (d_output @ weights[2].T) * np.where(hidden > 0, 1.0, slope)
    own = [x.T @ d_hidden, d_hidden.sum(0, keepdims=True), active.T @ d_output, d_output.sum(0, keepdims=True)]
    return own, d_hidden @ weights[0].T


def probability(score: Array) -> Array:
    return 1 / (1 + np.exp(-score))


def test_algorithm_1_step_by_step_with_momentum() -> None:
    k, m, rate_g, rate_d, momentum, iterations = 2, 4, 0.2, 0.3, 0.5, 5
    of = program(
        loss="minimax",
        k=k,
        batch_size=m,
        optimizer="sgd",
        networks={"name": "mlp", "latent_dim": 2, "width": 3, "depth": 1},
    )
    one = member(21, of=of, generator_learning_rate=rate_g, discriminator_learning_rate=rate_d, momentum=momentum)
    cohort = Cohort.start(of, [one], dtype=torch.float64)
    theta_g, theta_d = ([v[0].numpy().copy() for v in p.frozen] for p in (cohort.generator, cohort.discriminator))
    start = [w.copy() for w in theta_g + theta_d]
    speed_g, speed_d = ([np.zeros_like(w) for w in theta] for theta in (theta_g, theta_d))
    noise = generator(21, Stream.LATENT, 0).standard_normal((BLOCK_STEPS, k + 1, m, 2), dtype=np.float32)
    data = build_target(RING).sample(generator(21, Stream.DATA, 0), BLOCK_STEPS * k * m).reshape(-1, k, m, 2)
    z, x = noise.astype(np.float64), data.astype(np.float64)

    for i in range(iterations):  # "for number of training iterations do"
        for j in range(k):  # "for k steps do": fresh noise, fresh data, ascend
            y = forward(theta_g, z[i, j], 0.0)[2]
            d_real = (1 - probability(forward(theta_d, x[i, j], 0.2)[2])) / m  # of mean log D(x)
            d_fake = -probability(forward(theta_d, y, 0.2)[2]) / m  # of mean log(1 - D(G(z)))
            on_real, _ = backward(theta_d, x[i, j], 0.2, d_real)
            on_fake, _ = backward(theta_d, y, 0.2, d_fake)
            for weight, speed, real_part, fake_part in zip(theta_d, speed_d, on_real, on_fake, strict=True):
                speed[:] = momentum * speed + real_part + fake_part
                np.add(weight, rate_d * speed, out=weight)
        y = forward(theta_g, z[i, k], 0.0)[2]  # "fresh noise", descend log(1 - D(G(z)))
        d_score = -probability(forward(theta_d, y, 0.2)[2]) / m
        _, d_y = backward(theta_d, y, 0.2, d_score)
        on_latent, _ = backward(theta_g, z[i, k], 0.0, d_y)
        for weight, speed, gradient in zip(theta_g, speed_g, on_latent, strict=True):
            speed[:] = momentum * speed + gradient
            np.subtract(weight, rate_g * speed, out=weight)

    loop.advance(cohort, iterations)
    found = [v[0].numpy() for p in (cohort.generator, cohort.discriminator) for v in p.frozen]
    assert max(np.abs(w - s).max() for w, s in zip(theta_g + theta_d, start, strict=True)) > 0.05
    for ours, transcript in zip(found, theta_g + theta_d, strict=True):
        np.testing.assert_allclose(ours, transcript, rtol=1e-10, atol=1e-12)


def test_the_first_term_of_the_slides_generator_objective_does_not_move_the_generator() -> None:
    # min over G of [log D(x) + log(1 - D(G(z)))]: the first term has no G in it
    real, fake = torch.tensor([0.3], requires_grad=True), torch.tensor([-0.4], requires_grad=True)
    loss = LOSSES["minimax"].generator(real_logits=real, fake_logits=fake)
    assert torch.autograd.grad(loss, real, allow_unused=True) == (None,)


# ---- 5. errata of the blog text ----

CONFIDENT = [0.001, 0.5]  # D(G(z)) of a confident and of an ignorant discriminator


def generator_value_and_slope(name: str, d_fake: float) -> tuple[float, float]:
    """L_G and its derivative by the logit where D(G(z)) = ``d_fake``."""
    fake = torch.tensor([logit(d_fake)], dtype=torch.float64, requires_grad=True)
    loss = LOSSES[name].generator(real_logits=fake.detach(), fake_logits=fake)
    return loss.item(), torch.autograd.grad(loss, fake)[0].item()


@pytest.mark.parametrize("d_fake", CONFIDENT)
def test_erratum_minimax_and_non_saturating_generators_are_swapped_in_the_blog(d_fake: float) -> None:
    blog = {"minimax": -math.log(d_fake), "non_saturating": math.log(1 - d_fake)}
    assert generator_value_and_slope("non_saturating", d_fake)[0] == pytest.approx(blog["minimax"])
    assert generator_value_and_slope("minimax", d_fake)[0] == pytest.approx(blog["non_saturating"])


def test_erratum_the_one_that_saturates_is_minimax() -> None:
    assert generator_value_and_slope("minimax", 0.001)[1] == pytest.approx(-0.001)
    assert generator_value_and_slope("non_saturating", 0.001)[1] == pytest.approx(-0.999)


def blogs_wasserstein(sign: float) -> AdversarialLoss:
    """L_D = sign (E D(x) - E D(G(z))), L_G = -E D(G(z)), both minimised."""

    def critic(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return sign * (real_logits.mean(-1) - fake_logits.mean(-1))

    def scorer(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean(-1)

    return AdversarialLoss(name="wasserstein", discriminator=critic, generator=scorer)


def test_erratum_the_blogs_wasserstein_critic_minimised_plays_on_the_generators_side() -> None:
    assert "both players pull fake logits in (0, 1) the same way, so there is no adversarial game" in check_loss(
        blogs_wasserstein(+1)
    )
    assert check_loss(blogs_wasserstein(-1)) == []


def test_erratum_a_critics_output_is_no_probability() -> None:
    # D(x) + c has the same Wasserstein loss for every c: only differences of scores mean anything
    real, fake = torch.tensor([0.2, 3.0]), torch.tensor([-1.0, 0.5])
    losses = [LOSSES["wasserstein"].discriminator(real_logits=real + c, fake_logits=fake + c) for c in (0.0, -7.0)]
    torch.testing.assert_close(losses[0], losses[1])
    values = [value_function(real_logits=real + c, fake_logits=fake + c).item() for c in (0.0, -7.0)]
    assert abs(values[0] - values[1]) > 1


@pytest.mark.parametrize(
    ("name", "zero_sum"), [("minimax", True), ("wasserstein", True), ("non_saturating", False), ("hinge", False)]
)
def test_erratum_only_some_pairs_are_zero_sum(name: str, zero_sum: bool) -> None:
    # zero-sum for the generator: what it gains by moving a fake logit, the discriminator loses
    fake = torch.tensor([-1.4, -0.3, 0.8], dtype=torch.float64, requires_grad=True)
    loss = LOSSES[name]
    total = loss.discriminator(real_logits=fake.detach(), fake_logits=fake) + loss.generator(
        real_logits=fake.detach(), fake_logits=fake
    )
    (slope,) = torch.autograd.grad(total, fake)
    assert bool((slope.abs() < 1e-12).all()) == zero_sum
