"""The cohort against an independent implementation, and the law of independence."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.programs import member, members, program
from trainers import loop
from trainers.catalogue import LOSSES, OPTIMIZERS, PENALTIES
from trainers.cohort import Cohort, padded_size
from trainers.draws import BLOCK_STEPS, Stream, generator
from trainers.program import Member, Program

torch.set_num_threads(1)


def rows(cohort: Cohort) -> Tensor:
    """Both players' parameters [R, P] of the real members."""
    return torch.cat([cohort.generator.flat, cohort.discriminator.flat], dim=1)[: cohort.size].clone()


def trained(of: Program, who: list[Member], steps: int) -> Cohort:
    cohort = Cohort.start(of, who)
    loop.advance(cohort, steps)
    return cohort


# ---- an independent implementation: plain modules, torch.optim, autograd, one replicate at a time ----


class PlainGAN:
    """One replicate written as a paper's reader would, from the same draws as the cohort's member."""

    def __init__(self, of: Program, who: Member) -> None:
        self.program, self.member = of, who
        twin = Cohort.start(of, [who], dtype=torch.float64)
        self.target = twin.target
        self.g = self.module(twin.networks.generator.sizes, nn.ReLU())
        self.d = self.module(twin.networks.discriminator.sizes, nn.LeakyReLU(0.2))
        self.copy(twin.generator.frozen, self.g)
        self.copy(twin.discriminator.frozen, self.d)
        self.g_optimizer = self.optimizer(self.g, who.numbers["generator_learning_rate"])
        self.d_optimizer = self.optimizer(self.d, who.numbers["discriminator_learning_rate"])

    @staticmethod
    def module(sizes: tuple[int, ...], activation: nn.Module) -> nn.Sequential:
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), activation]
        return nn.Sequential(*layers[:-1]).double()

    @staticmethod
    def copy(views: list[Tensor], module: nn.Sequential) -> None:
        linears = [layer for layer in module if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(linears):
            layer.weight.data = views[2 * i][0].T.clone()
            layer.bias.data = views[2 * i + 1][0, 0].clone()

    def optimizer(self, module: nn.Module, rate: float) -> torch.optim.Optimizer:
        n = self.member.numbers
        if self.program.optimizer == "sgd":
            return torch.optim.SGD(module.parameters(), lr=rate, momentum=n["momentum"])
        if self.program.optimizer == "adam":
            return torch.optim.Adam(module.parameters(), lr=rate, betas=(n["beta1"], n["beta2"]))
        return torch.optim.RMSprop(module.parameters(), lr=rate, alpha=n["beta2"])

    def block(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        p, seed = self.program, self.member.seed
        paired = int(p.loss == "relativistic")
        z = torch.from_numpy(
            generator(seed, Stream.LATENT, index).standard_normal(
                (BLOCK_STEPS, p.k + 1, p.batch_size, 4), dtype="float32"
            )
        )
        x = torch.from_numpy(
            self.target.sample(generator(seed, Stream.DATA, index), BLOCK_STEPS * (p.k + paired) * p.batch_size)
        ).reshape(BLOCK_STEPS, p.k + paired, p.batch_size, -1)
        e = torch.from_numpy(
            generator(seed, Stream.PENALTY, index).random((BLOCK_STEPS, p.k, p.batch_size), dtype="float32")
        )
        return z.double(), x.double(), e.double()

    def losses(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        sp = nn.functional.softplus
        logistic = sp(-real).mean() + sp(fake).mean()
        return {
            "minimax": (logistic, -sp(fake).mean()),
            "non_saturating": (logistic, sp(-fake).mean()),
            "wasserstein": (fake.mean() - real.mean(), -fake.mean()),
            "least_squares": (0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(), 0.5 * ((fake - 1) ** 2).mean()),
            "hinge": ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(), -fake.mean()),
            "relativistic": (sp(fake - real).mean(), sp(real - fake).mean()),
        }[self.program.loss]

    def slope(self, points: Tensor) -> Tensor:
        points = points.detach().requires_grad_()
        return torch.autograd.grad(self.d(points).sum(), points, create_graph=True)[0]

    def penalty(self, real: Tensor, fake: Tensor, e: Tensor) -> Tensor | float:
        name, weight = self.program.penalty, self.member.numbers.get("penalty_weight", 0.0)
        if name == "gradient_penalty":
            mixed = e[:, None] * real + (1 - e[:, None]) * fake
            return weight * ((self.slope(mixed).norm(dim=1) - 1) ** 2).mean()
        r1 = (self.slope(real) ** 2).sum(1).mean() if name in ("r1", "r1_r2") else 0.0
        r2 = (self.slope(fake) ** 2).sum(1).mean() if name in ("r2", "r1_r2") else 0.0
        return weight / 2 * (r1 + r2)

    def train(self, steps: int) -> None:
        for step in range(steps):
            block, s = divmod(step, BLOCK_STEPS)
            z, x, e = self.block(block)
            for j in range(self.program.k):
                fake = self.g(z[s, j]).detach()
                loss, _ = self.losses(self.d(x[s, j])[:, 0], self.d(fake)[:, 0])
                self.d_optimizer.zero_grad()
                (loss + self.penalty(x[s, j], fake, e[s, j])).backward()
                self.d_optimizer.step()
                if self.program.penalty == "weight_clipping":
                    for p in self.d.parameters():
                        p.data.clamp_(-self.member.numbers["clip"], self.member.numbers["clip"])
            real = x[s, -1]
            _, loss = self.losses(self.d(real)[:, 0], self.d(self.g(z[s, -1]))[:, 0])
            self.g_optimizer.zero_grad()
            loss.backward()
            self.g_optimizer.step()


COMBINATIONS = [
    *[(loss, penalty, "adam", 1) for loss in LOSSES for penalty in PENALTIES],
    *[("non_saturating", "r1", optimizer, k) for optimizer in OPTIMIZERS for k in (1, 2, 3)],
    *[("relativistic", "none", optimizer, 2) for optimizer in OPTIMIZERS],
]


@pytest.mark.parametrize(("loss", "penalty", "optimizer", "k"), COMBINATIONS)
def test_cohort_reproduces_a_plain_implementation(loss: str, penalty: str, optimizer: str, k: int) -> None:
    of = program(loss=loss, penalty=penalty, optimizer=optimizer, k=k)
    who = members(3, of=of, **({"clip": 0.05} if penalty == "weight_clipping" else {}))
    # in double precision: a bias whose gradient nearly cancels would turn float32 rounding into Adam steps
    cohort = Cohort.start(of, who, dtype=torch.float64)
    loop.advance(cohort, 20)
    for position, one in enumerate(who):
        plain = PlainGAN(of, one)
        plain.train(20)
        for views, module in ((cohort.generator.frozen, plain.g), (cohort.discriminator.frozen, plain.d)):
            linears = [layer for layer in module if isinstance(layer, nn.Linear)]
            for i, layer in enumerate(linears):
                torch.testing.assert_close(views[2 * i][position].T, layer.weight.data, rtol=1e-6, atol=1e-9)
                torch.testing.assert_close(views[2 * i + 1][position, 0], layer.bias.data, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2", "r1_r2"])
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
    expected = start.generator.flat - who[0].numbers["generator_learning_rate"] * start.generator._gradient
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
