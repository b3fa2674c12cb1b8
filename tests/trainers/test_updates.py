"""Every order of updates against closed forms on the Dirac-GAN and against plain modules, and the law of independence.

On the Dirac-GAN, G = theta and D(x) = psi x with real data at 0, every loss pulls z = theta + i psi with the field
v(z) = i f'(0) z near 0, and the Wasserstein loss (f' = 1) everywhere: one step of each order multiplies z by a number
that can be written down.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainers.plain_gan import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES, READS_REAL, PlainGAN, cohort_parameters
from tests.trainers.programs import member, members, program
from trainers import dirac, loop
from trainers.catalogue import UPDATES, gradient_evaluations_per_step, real_minibatches_per_step
from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS, Draws
from trainers.program import Member, Program

torch.set_num_threads(1)

NEW = ("optimistic", "extragradient", "consensus")
SINGLE = ("simultaneous", *NEW)
WEIGHT = {"consensus": {"consensus_weight": 0.6}}


def own(updates: str, **numbers: float) -> dict[str, float]:
    """The numbers of an order of updates, and others."""
    return {**WEIGHT.get(updates, {}), **numbers}


# ---- closed forms: the Dirac-GAN under plain gradient steps, in double precision ----


def dirac_cohort(points: list[tuple[float, float]], *, rates: tuple[float, float], **changes: Any) -> Cohort:
    """One member per point (theta, psi), all at the same two rates (generator's, discriminator's)."""
    numbers = changes.pop("numbers", {})
    of = program(
        target={"name": "dirac"},
        networks={"name": "dirac", "initial": [1.0, 1.0]},
        optimizer="sgd",
        batch_size=4,
        **{"loss": "wasserstein", **changes},
    )
    rated = {"generator_learning_rate": rates[0], "discriminator_learning_rate": rates[1]}
    cohort = Cohort.start(of, members(len(points), of=of, **rated, **numbers), dtype=torch.float64)
    for place, (theta, psi) in enumerate(points):
        cohort.generator.flat[place, 0], cohort.discriminator.flat[place, 0] = theta, psi
    return cohort


def positions(cohort: Cohort) -> np.ndarray:
    """(theta, psi) of every member, [R, 2]."""
    both = torch.stack([cohort.generator.flat[:, 0], cohort.discriminator.flat[:, 0]], dim=1)
    return both[: cohort.size].numpy().copy()


def recurrence(updates: str, *, h: float, k: int, weight: float, steps: int, start: tuple[float, float]) -> list[float]:
    """The Wasserstein Dirac-GAN by hand, as each paper states its rule: L_D = theta psi, L_G = -theta psi."""
    theta, psi = start
    last = (0.0, 0.0)
    for _ in range(steps):
        if updates == "alternating":
            for _ in range(k):
                psi -= h * theta
            theta += h * psi
        elif updates == "simultaneous":
            theta, psi = theta + h * psi, psi - h * theta
        elif updates == "extragradient":
            ahead = theta + h * psi, psi - h * theta
            theta, psi = theta + h * ahead[1], psi - h * ahead[0]
        elif updates == "optimistic":
            now = h * psi, -h * theta
            theta, psi = theta + 2 * now[0] - last[0], psi + 2 * now[1] - last[1]
            last = now
        else:  # |v|^2 / 2 = (theta^2 + psi^2) / 2
            theta, psi = theta + h * (psi - weight * theta), psi - h * (theta + weight * psi)
    return [theta, psi]


@pytest.mark.parametrize("steps", [1, 2, 100])
@pytest.mark.parametrize(("updates", "k"), [("alternating", 1), ("alternating", 3), *((name, 1) for name in SINGLE)])
def test_wasserstein_follows_its_recurrence_to_the_last_digit(updates: str, k: int, steps: int) -> None:
    starts = [(0.7, -0.4), (0.0, 1.0), (-1.3, 0.2)]
    cohort = dirac_cohort(starts, rates=(0.11, 0.11), updates=updates, k=k, numbers=own(updates))
    loop.advance(cohort, steps)
    expected = [recurrence(updates, h=0.11, k=k, weight=0.6, steps=steps, start=start) for start in starts]
    np.testing.assert_allclose(positions(cohort), expected, rtol=1e-12, atol=1e-14)


def multiplier(updates: str, *, a: float, weight: float, h: float) -> complex:
    """What one step of size h multiplies z = theta + i psi by near 0; a = h f'(0)."""
    if updates == "extragradient":  # 1 - i a (1 - i a)
        return complex(1 - a**2, -a)
    if updates == "consensus":  # |v|^2 / 2 = f'(0)^2 |z|^2 / 2
        return complex(1 - weight * a**2 / h, -a)
    if updates == "optimistic":  # m^2 = (1 - 2 i a) m + i a, the root that lasts
        return max(np.roots([1, -complex(1, -2 * a), -1j * a]), key=abs)
    return complex(1, -a)


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])
@pytest.mark.parametrize("updates", SINGLE)
def test_logistic_losses_turn_and_shrink_near_the_equilibrium_as_their_multiplier_says(updates: str, loss: str) -> None:
    h, weight = 0.8, 0.6
    rates = (h, h)
    cohort = dirac_cohort([(1e-6, 0.0)], rates=rates, updates=updates, loss=loss, numbers=own(updates))
    loop.advance(cohort, 60)
    before = complex(*positions(cohort)[0])
    loop.advance(cohort, 61)
    found = complex(*positions(cohort)[0]) / before
    expected = multiplier(updates, a=h / 2, weight=weight, h=h)
    assert found == pytest.approx(expected, rel=1e-8)
    radius = dirac.spectral_radius(
        dirac.Game(loss=loss),
        dirac.Steps(
            generator_rate=h,
            discriminator_rate=h,
            updates=updates,
            consensus_weight=weight if updates == "consensus" else 0.0,
        ),
    )
    assert abs(found) == pytest.approx(radius, rel=1e-8)
    assert (abs(found) > 1) == (updates == "simultaneous"), "all three damp the rotation that simultaneous steps feed"


def test_the_multipliers_are_the_published_spectra() -> None:
    a = 0.4
    assert abs(multiplier("extragradient", a=a, weight=0, h=1)) == pytest.approx(np.hypot(1 - a**2, a))
    # continuous time, h -> 0: (m - 1) / h = -weight / 4 - i / 2 for the logistic losses, f'(0) = 1/2
    rate = (multiplier("consensus", a=0.5e-6, weight=0.6, h=1e-6) - 1) / 1e-6
    assert rate == pytest.approx(complex(-0.6 / 4, -0.5), rel=1e-6)
    flow = np.linalg.eigvals(dirac.jacobian(dirac.Game(loss="minimax"), consensus_weight=0.6))
    assert {complex(round(v.real, 12), round(abs(v.imag), 12)) for v in flow} == {complex(-0.15, 0.5)}


def step_matrix(*, rates: tuple[float, float], **changes: Any) -> np.ndarray:
    """The linear map of one generator step near 0, column by column from two members."""
    cohort = dirac_cohort([(1e-7, 0.0), (0.0, 1e-7)], rates=rates, **changes)
    loop.advance(cohort, 1)
    return np.asarray(positions(cohort).T / 1e-7)


@pytest.mark.parametrize("loss", ["wasserstein", "non_saturating"])
@pytest.mark.parametrize("k", [1, 3])
def test_two_learning_rates_alternating_have_determinant_one_and_the_trace_of_their_product(loss: str, k: int) -> None:
    g, d, slope = 0.3, 0.9, 1.0 if loss == "wasserstein" else 0.5
    found = step_matrix(rates=(g, d), loss=loss, k=k)
    a, b = g * slope, d * slope
    np.testing.assert_allclose(found, [[1 - k * a * b, a], [-k * b, 1]], atol=1e-12)
    assert np.linalg.det(found) == pytest.approx(1)
    assert np.trace(found) == pytest.approx(2 - k * a * b)


@pytest.mark.parametrize("loss", ["wasserstein", "non_saturating"])
@pytest.mark.parametrize("updates", ["simultaneous", "extragradient", "consensus"])
def test_two_learning_rates_give_the_eigenvalues_of_their_geometric_mean(updates: str, loss: str) -> None:
    g, d, slope, weight = 0.3, 0.9, 1.0 if loss == "wasserstein" else 0.5, 0.6
    found = step_matrix(rates=(g, d), loss=loss, updates=updates, numbers=own(updates))
    turn = slope * np.array([[0, g], [-d, 0]])  # eigenvalues +- i slope sqrt(g d)
    expected = np.eye(2) + turn
    if updates == "extragradient":
        expected = np.eye(2) + turn + turn @ turn
    if updates == "consensus":
        expected = expected - weight * slope**2 * np.diag([g, d])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    if updates == "simultaneous":
        frequencies = np.sort(np.linalg.eigvals(found).imag)
        np.testing.assert_allclose(frequencies, [-slope * np.sqrt(g * d), slope * np.sqrt(g * d)], rtol=1e-9)


# ---- an independent implementation: plain modules, torch.optim, the papers' own words ----


class PlainUpdates(PlainGAN):
    """The plain trainer under every order of updates with k = 1."""

    def train(self, steps: int) -> None:
        self.last = [torch.zeros_like(parameter) for parameter in self.weights()]
        for step in range(steps):
            {
                "simultaneous": self.simultaneous,
                "optimistic": self.optimistic,
                "extragradient": self.extragradient,
                "consensus": self.consensus,
            }[self.program.updates](step)

    def weights(self) -> list[nn.Parameter]:
        return [*self.d.parameters(), *self.g.parameters()]

    def minibatches(self, place: int) -> tuple[Draws, int]:
        block, s = divmod(place, BLOCK_STEPS)
        return self._draws(block), s

    def both_gradients(self, place: int) -> None:
        draws, s = self.minibatches(place)
        self.g_gradient(draws, s)
        self.d_gradient(draws, s, 0)

    def clip(self) -> None:
        if self.program.penalty == "weight_clipping":
            for parameter in self.d.parameters():
                parameter.data.clamp_(-self.numbers["clip"], self.numbers["clip"])

    def both_steps(self) -> None:
        self.d_optimizer.step()
        self.g_optimizer.step()

    def put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.weights(), values, strict=True):
            parameter.data.copy_(value)

    def simultaneous(self, step: int) -> None:
        self.both_gradients(step)
        self.both_steps()
        self.clip()

    def optimistic(self, step: int) -> None:
        before = [parameter.data.clone() for parameter in self.weights()]
        self.both_gradients(step)
        self.both_steps()
        taken = [parameter.data - was for parameter, was in zip(self.weights(), before, strict=True)]
        self.put([was + 2 * now - last for was, now, last in zip(before, taken, self.last, strict=True)])
        self.last = taken
        self.clip()

    def extragradient(self, step: int) -> None:
        before = [parameter.data.clone() for parameter in self.weights()]
        self.both_gradients(2 * step)
        self.both_steps()
        self.clip()
        self.both_gradients(2 * step + 1)
        self.put(before)
        self.both_steps()
        self.clip()

    def slope(self, points: Tensor) -> Tensor:
        points = points if points.requires_grad else points.clone().requires_grad_()
        return torch.autograd.grad(self.score(points).sum(), points, create_graph=True)[0].norm(dim=1)

    def punished(self, real: Tensor, fake: Tensor, epsilon: Tensor | None) -> Tensor | float:
        """The penalty as a function of both players: the generator moves the points of R2 and of the interpolates."""
        weight = self.numbers.get("penalty_weight", 0.0)
        if self.program.penalty == "gradient_penalty":
            assert epsilon is not None
            return weight * ((self.slope(epsilon[:, None] * real + (1 - epsilon[:, None]) * fake) - 1) ** 2).mean()
        r1 = (self.slope(real) ** 2).mean() if self.program.penalty in ("r1", "r1_r2") else 0.0
        r2 = (self.slope(fake) ** 2).mean() if self.program.penalty in ("r2", "r1_r2") else 0.0
        return weight / 2 * (r1 + r2)

    def consensus(self, step: int) -> None:
        draws, s = self.minibatches(step)
        z, x, loss = draws.latents[0, s], draws.reals[0, s], self.program.loss
        epsilon = None if draws.epsilons is None else draws.epsilons[0, s, 0]
        fake = self.g(z[0])
        d_loss = DISCRIMINATOR_LOSSES[loss](self.score(x[0]), self.score(fake)) + self.punished(x[0], fake, epsilon)
        compared = self.score(x[1]) if loss in READS_REAL else torch.zeros(len(x[0]), dtype=torch.float64)
        g_loss = GENERATOR_LOSSES[loss](compared, self.score(self.g(z[1])))
        d, g = list(self.d.parameters()), list(self.g.parameters())
        v = [*torch.autograd.grad(d_loss, d, create_graph=True), *torch.autograd.grad(g_loss, g, create_graph=True)]
        energy = sum((part**2).sum() for part in v) / 2
        agreed = torch.autograd.grad(energy, [*d, *g], allow_unused=True)  # type: ignore[arg-type]
        for parameter, part, more in zip(self.weights(), v, agreed, strict=True):
            parameter.grad = part.detach() + self.numbers["consensus_weight"] * (0 if more is None else more)
        self.both_steps()
        self.clip()


PENALISED = [
    ("non_saturating", "none"),
    ("relativistic", "r1_r2"),
    ("wasserstein", "gradient_penalty"),
    ("wasserstein", "weight_clipping"),
    ("least_squares", "r2"),
]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("updates", SINGLE)
def test_cohort_and_plain_modules_agree(updates: str, optimizer: str) -> None:
    for loss, penalty in PENALISED:
        of = program(loss=loss, penalty=penalty, optimizer=optimizer, updates=updates, batch_size=8)
        numbers = {"momentum": 0.6} if optimizer == "sgd" else {}
        numbers |= {"clip": 0.3} if penalty == "weight_clipping" else {}
        who = members(2, of=of, **own(updates, **numbers))
        cohort, plain = Cohort.start(of, who, dtype=torch.float64), PlainUpdates(of, who[1])
        loop.advance(cohort, 10)
        plain.train(10)
        for stacked, plainly in zip(cohort_parameters(cohort, 1), plain.parameters(), strict=True):
            torch.testing.assert_close(stacked, plainly, rtol=1e-6, atol=1e-9)


PARABOLA = """
import torch
from torch import nn

class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.8]))

    def forward(self, z):
        return torch.stack([self.theta, torch.zeros_like(self.theta)], dim=1).expand(len(z), 2)

class Parabola(nn.Module):
    def __init__(self):
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([-0.5]))

    def forward(self, x):
        return self.psi * x.square().sum(1, keepdim=True) / 2

def build(*, latent_dim, sample_shape):
    return Point(), Parabola()
"""


def test_consensus_knows_that_the_generator_moves_the_points_of_a_penalty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parabola_networks.py").write_text(PARABOLA)
    monkeypatch.syspath_prepend(str(tmp_path))
    h, gamma, weight = 0.1, 0.7, 0.6
    of = program(
        networks={"name": "parabola_networks:build", "latent_dim": 1},
        loss="wasserstein",
        penalty="r2",
        optimizer="sgd",
        updates="consensus",
        batch_size=4,
    )
    numbers = {"penalty_weight": gamma, "consensus_weight": weight}
    rates = {"generator_learning_rate": h, "discriminator_learning_rate": h}
    cohort = Cohort.start(of, members(1, of=of, **numbers, **rates), dtype=torch.float64)
    theta, psi = positions(cohort)[0]
    draws, place = cohort.draws()
    real = float(draws.reals[0, place, 0].square().sum(-1).mean()) / 2
    # L_D = psi theta^2 / 2 - psi real + gamma / 2 (psi theta)^2 (grad D = psi x), L_G = -psi theta^2 / 2
    v_psi, v_theta = theta**2 / 2 - real + gamma * psi * theta**2, -psi * theta
    more_psi = v_psi * gamma * theta**2 - v_theta * theta
    more_theta = v_psi * (theta + 2 * gamma * psi * theta) - v_theta * psi
    loop.advance(cohort, 1)
    expected = [theta - h * (v_theta + weight * more_theta), psi - h * (v_psi + weight * more_psi)]
    np.testing.assert_allclose(positions(cohort)[0], expected, rtol=1e-12)


def test_extragradient_counts_adams_steps_twice_and_moves_its_averages_at_both() -> None:
    of = program(updates="extragradient")
    cohort = Cohort.start(of, members(1, of=of))
    counts: list[int] = []
    step = cohort.generator.step

    def counted(may_move: Tensor, *, count: int) -> None:
        counts.append(count)
        step(may_move, count=count)

    cohort.generator.step = counted  # type: ignore[method-assign]
    loop.advance(cohort, 3)
    assert counts == [1, 2, 3, 4, 5, 6]
    assert (cohort.generator_step, cohort.discriminator_steps) == (3, 3)
    assert cohort.samples_seen == 3 * 2 * of.batch_size


def test_consensus_without_weight_is_simultaneous() -> None:
    apart, together = program(updates="simultaneous"), program(updates="consensus")
    a = trained(apart, members(3, of=apart), 10)
    b = trained(together, members(3, of=together, consensus_weight=0.0), 10)
    torch.testing.assert_close(rows(a), rows(b), rtol=1e-4, atol=1e-6)


def test_weights_are_clipped_after_the_step_and_after_the_step_ahead() -> None:
    for updates in NEW:
        of = program(loss="wasserstein", penalty="weight_clipping", updates=updates)
        who = [member(5, of=of, **own(updates, clip=0.01)), member(6, of=of, **own(updates, clip=0.2))]
        cohort = Cohort.start(of, who)
        seen: list[float] = []
        differentiate = cohort.differentiate_generator

        def looked(*, cohort: Cohort = cohort, seen: list[float] = seen, f: Any = differentiate, **given: Any) -> Any:
            seen.append(float(cohort.discriminator.flat[0].abs().max()))
            return f(**given)

        cohort.differentiate_generator = looked  # type: ignore[method-assign]
        loop.advance(cohort, 3)
        assert cohort.discriminator.flat[:2].abs().amax(1).tolist() == pytest.approx([0.01, 0.2])
        assert all(largest <= 0.01 + 1e-7 for largest in seen[1:])
        assert len(seen) == {"optimistic": 3, "extragradient": 6, "consensus": 0}[updates]


# ---- the law of independence ----


def rows(cohort: Cohort) -> Tensor:
    """All that a member is: both players' parameters and the state of their optimizers, [R, ...] of the real ones."""
    tensors = [value.flatten(1) for value in cohort.tensors().values() if value.is_floating_point()]
    return torch.cat(tensors, dim=1)[: cohort.size].clone()


def trained(of: Program, who: list[Member], steps: int) -> Cohort:
    cohort = Cohort.start(of, who)
    loop.advance(cohort, steps)
    return cohort


LAWS = list(itertools.product(NEW, ["none", "gradient_penalty", "r1_r2", "weight_clipping"]))


@pytest.mark.parametrize(("updates", "penalty"), LAWS)
def test_a_member_is_itself_in_any_company_and_after_any_interruption_bit_for_bit(updates: str, penalty: str) -> None:
    of = program(updates=updates, penalty=penalty, batch_size=12, loss="relativistic")
    company = members(11, of=of, **own(updates, generator_average=0.9))
    alone = trained(of, [company[7]], 24)
    together = trained(of, company[::-1], 24)
    assert torch.equal(rows(alone)[0], rows(together)[3])
    for stop in (1, 4, 7, 9):
        half = trained(of, company[::-1], stop)
        resumed = Cohort.restore(of, company[::-1], half.state())
        loop.advance(resumed, 24)
        assert torch.equal(rows(resumed), rows(together)), stop


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("updates", NEW)
def test_a_diverging_member_ends_alone_and_its_neighbours_do_not_notice(updates: str, optimizer: str) -> None:
    of = program(loss="wasserstein", optimizer=optimizer, updates=updates)
    calm = members(4, of=of, **own(updates))
    wild = member(999, of=of, **own(updates), generator_learning_rate=1e30, discriminator_learning_rate=1e30)
    without, beside = trained(of, calm, 30), trained(of, [*calm[:2], wild, *calm[2:]], 30)
    assert beside.alive[:5].tolist() == [True, True, False, True, True]
    assert 1 <= int(beside.death_step[2]) <= 30
    assert torch.equal(rows(beside)[[0, 1, 3, 4]], rows(without))


@pytest.mark.parametrize("updates", NEW)
def test_a_member_that_ended_stays_where_it_was(updates: str) -> None:
    of = program(optimizer="adam", updates=updates)
    cohort = trained(of, members(2, of=of, **own(updates, generator_average=0.5)), 5)
    where = [tensor.clone() for tensor in (cohort.generator.flat, cohort.discriminator.flat)]
    averaged = cohort.averaged
    assert averaged is not None
    before = averaged.clone()
    cohort.end(torch.tensor([True] + [False] * 7), at_step=5)
    loop.advance(cohort, 12)
    for was, player in zip(where, (cohort.generator, cohort.discriminator), strict=True):
        assert torch.equal(player.flat[0], was[0])
        assert not torch.equal(player.flat[1], was[1])
    assert torch.equal(averaged[0], before[0])
    assert not torch.equal(averaged[1], before[1])


def test_a_member_that_ends_at_the_step_ahead_is_put_back_too() -> None:
    of = program(optimizer="sgd", updates="extragradient")
    cohort = trained(of, members(2, of=of), 3)
    where = cohort.generator.flat.clone(), cohort.discriminator.flat.clone()
    real, moments = cohort.differentiate_generator, []

    def poisoned(**given: Any) -> tuple[Tensor, Tensor]:
        loss, norm = real(**given)
        moments.append(len(moments))
        if len(moments) == 2:  # the second gradient of the step
            loss = loss.clone()
            loss[0] = torch.nan
        return loss, norm

    cohort.differentiate_generator = poisoned  # type: ignore[method-assign]
    loop.advance(cohort, 4)
    assert cohort.alive[:2].tolist() == [False, True]
    assert cohort.death_step[:2].tolist() == [4, -1]
    assert torch.equal(cohort.generator.flat[0], where[0][0]), "its generator may not keep the step ahead"
    assert not torch.equal(cohort.generator.flat[1], where[0][1])


# ---- registry and cost ----


def test_the_registry_holds_the_catalogues_orders_of_updates() -> None:
    assert set(loop.UPDATES) == set(UPDATES)


@pytest.mark.parametrize(
    ("updates", "penalty", "gradients", "minibatches"),
    [
        ("alternating", "none", 1 + 3, 3),
        ("alternating", "r1", 1 + 3 * 2, 3),
        ("simultaneous", "none", 2, 1),
        ("optimistic", "r1", 3, 1),
        ("extragradient", "none", 4, 2),
        ("extragradient", "r1", 6, 2),
        ("consensus", "none", 6, 1),
        ("consensus", "r1", 9, 1),
    ],
)
def test_cost_of_a_generator_step(updates: str, penalty: str, gradients: int, minibatches: int) -> None:
    k = 3 if updates == "alternating" else 1
    assert gradient_evaluations_per_step(k=k, penalty=penalty, updates=updates) == gradients
    assert real_minibatches_per_step(k=k, updates=updates) == minibatches
