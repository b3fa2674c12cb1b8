"""Closed forms and laws that every registered loss must keep; most are defects seen in well-known code."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from statistics import NormalDist

import pytest
import torch

from tests.trainers.programs import member, members, program
from trainers import catalogue, loop
from trainers.cohort import Cohort
from trainers.losses import LOSSES, AdversarialLoss, find_loss, value_function

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
    "relativistic_average": (  # of one pair the averages are the pair itself; see below for more
        lambda r, f: 0.5 * (log1pexp(-(r - f)) + log1pexp(f - r)),
        lambda r, f: 0.5 * (log1pexp(-(f - r)) + log1pexp(r - f)),
        lambda r, f: sigmoid(f - r),
        lambda r, f: -sigmoid(r - f),
    ),
    "f_gan_kl": (
        lambda r, f: -r + math.exp(f - 1),
        lambda r, f: -math.exp(f - 1),
        lambda r, f: math.exp(f - 1),
        lambda r, f: -math.exp(f - 1),
    ),
    "f_gan_pearson": (
        lambda r, f: -r + f * f / 4 + f,
        lambda r, f: -(f * f / 4 + f),
        lambda r, f: f / 2 + 1,
        lambda r, f: -(f / 2 + 1),
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
        ("relativistic_average", math.log(2), math.log(2)),
        ("f_gan_kl", math.exp(-1), -math.exp(-1)),
        ("f_gan_pearson", 0.0, 0.0),
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


# ---- relativistic average: every sample against the mean of the other side ----


def test_relativistic_average_of_an_asymmetric_batch_by_hand() -> None:
    real, fake = [0.9, -0.4, 3.0], [-1.0, 2.5, 0.1]
    mean_real, mean_fake = sum(real) / 3, sum(fake) / 3
    loss_d = 0.5 * (sum(log1pexp(-(r - mean_fake)) for r in real) + sum(log1pexp(f - mean_real) for f in fake)) / 3
    loss_g = 0.5 * (sum(log1pexp(-(f - mean_real)) for f in fake) + sum(log1pexp(r - mean_fake) for r in real)) / 3
    pull = sum(sigmoid(-(r - mean_fake)) for r in real) / 3  # through the mean of the fakes, shared by all of them
    slopes = [0.5 * (sigmoid(f - mean_real) + pull) / 3 for f in fake]
    r, f = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    loss = LOSSES["relativistic_average"]
    assert loss.discriminator(real_logits=r, fake_logits=f).item() == pytest.approx(loss_d, rel=1e-12)
    assert loss.generator(real_logits=r, fake_logits=f).item() == pytest.approx(loss_g, rel=1e-12)
    found = gradients("relativistic_average", "discriminator", r, f)[1]
    assert found.tolist() == pytest.approx(slopes, rel=1e-12)


def test_relativistic_losses_do_not_see_a_constant_added_to_the_critic() -> None:
    real, fake = torch.tensor([0.9, -0.4, 3.0]), torch.tensor([-1.0, 2.5, 0.1])
    for name in ("relativistic", "relativistic_average"):
        for player in ("discriminator", "generator"):
            loss = getattr(LOSSES[name], player)
            torch.testing.assert_close(
                loss(real_logits=real + 7, fake_logits=fake + 7), loss(real_logits=real, fake_logits=fake)
            )


# ---- f-GAN: the conjugate is a supremum, the optimum is the divergence, everything else stays below it ----

F_DIVERGENCES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    # name: (f(u), f'(u)) of D_f(P || Q) = E_q f(p/q); nothing of the conjugate is written here
    "f_gan_kl": (lambda u: torch.xlogy(u, u), lambda u: 1 + u.log()),
    "f_gan_pearson": (lambda u: (u - 1).square(), lambda u: 2 * (u - 1)),
}
F_GANS = sorted(F_DIVERGENCES)


@pytest.mark.parametrize("name", F_GANS)
@pytest.mark.parametrize("t", [-1.9, -0.3, 0.0, 0.7, 2.5])
def test_the_fake_term_is_the_convex_conjugate(name: str, t: float) -> None:
    f, _ = F_DIVERGENCES[name]
    u = torch.linspace(0, 20, 2_000_001, dtype=torch.float64)
    supremum = (u * t - f(u)).max().item()
    conjugate = LOSSES[name].discriminator(
        real_logits=torch.zeros(1, dtype=torch.float64), fake_logits=torch.tensor([t], dtype=torch.float64)
    )
    assert conjugate.item() == pytest.approx(supremum, abs=1e-9)


def test_below_its_domain_the_pearson_conjugate_is_the_papers_parabola_which_keeps_the_bound() -> None:
    """Over u >= 0 the supremum would be -1 there: ours is larger, so that -L_D never exceeds the divergence."""
    t = torch.tensor([-2.0, -3.0, -10.0], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    values = [LOSSES["f_gan_pearson"].discriminator(real_logits=zero, fake_logits=one.reshape(1)).item() for one in t]
    assert values == pytest.approx([-1.0, -0.75, 15.0])
    assert all(value >= -1 for value in values)


def bound(name: str, t_real: torch.Tensor, t_fake: torch.Tensor) -> float:
    return -LOSSES[name].discriminator(real_logits=t_real, fake_logits=t_fake).item()


@pytest.mark.parametrize("name", F_GANS)
def test_at_the_optimal_critic_minus_l_d_is_the_divergence_of_two_discrete_densities(name: str) -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    f, slope = F_DIVERGENCES[name]
    divergence = (q * f(p / q)).sum().item()
    by_hand = {"f_gan_kl": (p * (p / q).log()).sum().item(), "f_gan_pearson": ((p - q) ** 2 / q).sum().item()}
    assert divergence == pytest.approx(by_hand[name])
    optimum = slope(p / q)
    real, fake = (10 * p).round().long(), (10 * q).round().long()  # ten samples of each: expectations are exact
    assert bound(name, optimum.repeat_interleave(real), optimum.repeat_interleave(fake)) == pytest.approx(divergence)
    for point in range(4):
        for step in (-0.2, 0.2):
            other = optimum.clone()
            other[point] += step
            assert bound(name, other.repeat_interleave(real), other.repeat_interleave(fake)) < divergence - 1e-4


@pytest.mark.parametrize("name", F_GANS)
def test_at_the_optimal_critic_minus_l_d_is_the_divergence_of_two_gaussians(name: str) -> None:
    p, q = NormalDist(0.6, 0.8), NormalDist(-0.1, 1.3)
    n = 40_000  # the quantiles of equally likely slices: expectations without chance, good to 1e-4
    x, y = (torch.tensor([law.inv_cdf((i + 0.5) / n) for i in range(n)], dtype=torch.float64) for law in (p, q))

    def ratio(points: torch.Tensor) -> torch.Tensor:
        log_p, log_q = (-0.5 * ((points - law.mean) / law.stdev) ** 2 - math.log(law.stdev) for law in (p, q))
        return (log_p - log_q).exp()

    vp, vq, gap = p.variance, q.variance, (p.mean - q.mean) ** 2
    closed_forms = {
        "f_gan_kl": 0.5 * (math.log(vq / vp) + (vp + gap) / vq - 1),
        # E_q (p/q)^2 - 1 for v_p < 2 v_q
        "f_gan_pearson": vq / math.sqrt(vp * (2 * vq - vp)) * math.exp(gap / (2 * vq - vp)) - 1,
    }
    slope = F_DIVERGENCES[name][1]
    assert bound(name, slope(ratio(x)), slope(ratio(y))) == pytest.approx(closed_forms[name], abs=2e-3)


def test_f_gan_kl_overflows_honestly_and_ends_only_the_member_it_happens_to() -> None:
    loss = LOSSES["f_gan_kl"]
    high = torch.tensor([[100.0], [1.0]])
    assert loss.discriminator(real_logits=torch.zeros(2, 1), fake_logits=high).tolist() == [math.inf, 1.0]
    assert loss.generator(real_logits=torch.zeros(2, 1), fake_logits=high).tolist() == [-math.inf, -1.0]
    of = program(loss="f_gan_kl", optimizer="sgd")
    calm = members(2, of=of)
    wild = member(999, of=of, generator_learning_rate=1e4, discriminator_learning_rate=1e4)
    beside, without = Cohort.start(of, [calm[0], wild, calm[1]]), Cohort.start(of, calm)
    for cohort in (beside, without):
        loop.advance(cohort, 20)
    assert beside.alive[:3].tolist() == [True, False, True]
    assert torch.equal(beside.generator.flat[[0, 2]], without.generator.flat[:2])


# ---- losses by name ----

MINE = AdversarialLoss(name="mine", discriminator=LOSSES["hinge"].discriminator, generator=LOSSES["minimax"].generator)


def test_losses_are_found_by_registry_name_and_by_import_path() -> None:
    assert find_loss("hinge") is LOSSES["hinge"]
    assert find_loss(f"{__name__}:MINE") is MINE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hindge", "loss must be one of minimax, .* got 'hindge'"),
        (f"{__name__}:ABSENT", "loss must be importable as module:name"),
        ("no_such_module_x:loss", "loss must be importable as module:name"),
        (f"{__name__}:sigmoid", "loss must name a trainers.losses.AdversarialLoss, .*:sigmoid is a function"),
    ],
)
def test_what_is_no_loss_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find_loss(name)
