"""Penalties against closed forms: per-sample norms, R1's one half, interpolates, noise; and what chance gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.programs import RING, member, members, program
from trainers import catalogue, loop
from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS, DrawShape, Stream, draw_block, generator
from trainers.evaluation import Judge, build_judge
from trainers.loop import train
from trainers.penalties import PENALTIES, Penalty, find_penalty, squared_gradient_norm
from trainers.targets import build_target

torch.set_num_threads(1)


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
        noise=None,
    )
    assert value.tolist() == pytest.approx([0.0, 10 * (5 - 1) ** 2], abs=1e-5)


def test_gradient_penalty_sits_on_the_interpolates_with_one_epsilon_per_sample() -> None:
    real, fake = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    epsilon = torch.tensor([[0.25, 0.5]])
    value = PENALTIES["gradient_penalty"].term(
        quadratic, real=real, fake=fake, weight=torch.tensor([3.0]), epsilon=epsilon, noise=None
    )
    norms = [0.25 * 2.0, 0.5 * 4.0 + 0.5 * 1.0]
    assert value.item() == pytest.approx(3 * sum((n - 1) ** 2 for n in norms) / 2)


@pytest.mark.parametrize("name", ["gradient_penalty", "dragan"])
def test_one_centred_penalties_of_a_dead_discriminator_are_finite_with_finite_gradient(name: str) -> None:
    slope = torch.zeros(1, 2, requires_grad=True)
    value = PENALTIES[name].term(
        lambda x: (x * slope[:, None, :]).sum(-1),
        real=torch.ones(1, 3, 2),
        fake=torch.zeros(1, 3, 2),
        weight=torch.tensor([10.0]),
        epsilon=torch.full((1, 3), 0.5),
        noise=torch.ones(1, 3, 2),
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
    value = PENALTIES[name].term(quadratic, real=real, fake=fake, weight=torch.tensor([4.0]), epsilon=None, noise=None)
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n, p in PENALTIES.items() if p.term is not None])
def test_each_member_has_its_own_weight_and_weight_zero_is_no_penalty(name: str) -> None:
    rng = torch.Generator().manual_seed(2)
    real, fake = torch.randn(2, 5, 3, generator=rng), torch.randn(2, 5, 3, generator=rng)
    chance = {"epsilon": torch.rand(2, 5, generator=rng), "noise": torch.randn(2, 5, 3, generator=rng)}
    discriminator = linear(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    value = PENALTIES[name].term(discriminator, real=real, fake=fake, weight=torch.tensor([0.0, 2.0]), **chance)
    single = PENALTIES[name].term(discriminator, real=real, fake=fake, weight=torch.tensor([1.0, 1.0]), **chance)
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


def test_a_gradient_norm_keeps_the_dependence_of_its_points_on_the_generator() -> None:
    """For updates that differentiate the whole game: d/dy |grad D(y)|^2 at D = |y|^2/2 is 2 y."""
    fake = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(squared_gradient_norm(quadratic, 1.0 * fake).sum(), fake)
    assert gradient.tolist() == [[[6.0, 8.0]]]


# ---- dragan ----


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_dragan_of_a_linear_critic_does_not_depend_on_the_batch_or_the_noise(batch: int) -> None:
    discriminator = linear(torch.tensor([[0.6, 0.8], [3.0, 4.0]]))
    rng = torch.Generator().manual_seed(1)
    value = PENALTIES["dragan"].term(
        discriminator,
        real=torch.randn(2, batch, 2, generator=rng),
        fake=torch.full((2, batch, 2), torch.nan),  # never looked at
        weight=torch.tensor([10.0, 10.0]),
        epsilon=None,
        noise=torch.randn(2, batch, 2, generator=rng),
    )
    assert value.tolist() == pytest.approx([0.0, 10 * (5 - 1) ** 2], abs=1e-4)


def test_dragan_sits_at_real_points_moved_by_half_the_minibatchs_deviation_of_each_member() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(2, 6, 2)) * np.array([1.0, 9.0])[:, None, None] + 2
    noise = rng.normal(size=(2, 6, 2))
    expected = []
    for x, n, weight in zip(real, noise, (10.0, 0.5), strict=True):
        points = x + np.std(x) / 2 * n  # of all numbers of the minibatch, as a population
        expected.append(weight * np.mean((np.linalg.norm(points, axis=1) - 1) ** 2))
    value = PENALTIES["dragan"].term(
        quadratic,
        real=torch.from_numpy(real),
        fake=torch.from_numpy(real[:, ::-1] - 3.0),
        weight=torch.tensor([10.0, 0.5]),
        epsilon=None,
        noise=torch.from_numpy(noise),
    )
    assert value.tolist() == pytest.approx(expected, rel=1e-9)


# ---- instance noise ----


def test_instance_noise_equals_a_hand_written_step() -> None:
    """One D and one G step of a paired loss, k = 1, plain SGD, each with its own noise on every input of D."""
    of = program(loss="relativistic", penalty="instance_noise", optimizer="sgd", batch_size=8)
    who = member(5, of=of, noise_std=0.7, momentum=0.0, generator_learning_rate=0.3, discriminator_learning_rate=0.2)
    cohort = Cohort.start(of, [who], dtype=torch.float64)
    g, d = (plain(player.frozen, slope) for player, slope in ((cohort.generator, 0.0), (cohort.discriminator, 0.2)))
    z = torch.from_numpy(generator(5, Stream.LATENT, 0).standard_normal((BLOCK_STEPS, 2, 8, 4), np.float32)).double()
    x = torch.from_numpy(build_target(RING).sample(generator(5, Stream.DATA, 0), BLOCK_STEPS * 2 * 8))
    x = x.reshape(BLOCK_STEPS, 2, 8, 2).double()
    n, m = (
        torch.from_numpy(generator(5, stream, 0).standard_normal((BLOCK_STEPS, 2, 8, 2), np.float32)).double()
        for stream in (Stream.REAL_NOISE, Stream.FAKE_NOISE)
    )
    sp = nn.functional.softplus
    loss_d = sp(d(g(z[0, 0]).detach() + 0.7 * m[0, 0]) - d(x[0, 0] + 0.7 * n[0, 0])).mean()
    descend(loss_d, d, rate=0.2)
    loss_g = sp(d(x[0, 1] + 0.7 * n[0, 1]) - d(g(z[0, 1]) + 0.7 * m[0, 1])).mean()
    descend(loss_g, g, rate=0.3)
    loop.advance(cohort, 1)
    for player, module in ((cohort.generator, g), (cohort.discriminator, d)):
        for view, value in zip(player.frozen, module.parameters(), strict=True):
            stacked = view[0].T if value.ndim == 2 else view[0, 0]
            torch.testing.assert_close(stacked, value.data, rtol=1e-9, atol=1e-12)


def plain(views: list[torch.Tensor], slope: float) -> nn.Sequential:
    """The first member's network as a plain module."""
    layers: list[nn.Module] = []
    for weight, bias in zip(views[::2], views[1::2], strict=True):
        layer = nn.Linear(*weight.shape[1:]).double()
        layer.weight.data, layer.bias.data = weight[0].T.clone(), bias[0, 0].clone()
        layers += [layer, nn.LeakyReLU(slope)]
    return nn.Sequential(*layers[:-1])


def descend(loss: torch.Tensor, module: nn.Module, *, rate: float) -> None:
    for parameter, gradient in zip(
        module.parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True
    ):
        parameter.data -= rate * gradient


def test_instance_noise_without_its_draws_is_refused_rather_than_left_out() -> None:
    of = program(penalty="instance_noise")
    cohort = Cohort.start(of, members(1, of=of))
    with pytest.raises(ValueError, match="instance_noise needs standard normal numbers"):
        cohort.differentiate_generator(latents=torch.zeros(len(cohort.seeds), 32, 4), real=None)


# ---- what chance gives to penalties ----

SHAPE = DrawShape(batch_size=8, latent_dim=4, latents=3, reals=3)
NOISY = DrawShape(
    batch_size=8, latent_dim=4, latents=3, reals=3, epsilons=2, penalty_noises=2, real_noises=3, fake_noises=3
)


def test_each_noise_has_a_stream_of_its_own_and_moves_no_other_draw() -> None:
    target = build_target(RING)
    without = draw_block([7, 8], block=3, shape=SHAPE, target=target)
    drawn = draw_block([7, 8], block=3, shape=NOISY, target=target)
    assert torch.equal(without.latents, drawn.latents)
    assert torch.equal(without.reals, drawn.reals)
    epsilons = generator(8, Stream.PENALTY, 3).random((BLOCK_STEPS, 2, 8), np.float32)
    assert np.array_equal(drawn.epsilons[1].numpy(), epsilons), "as it was before there was other noise"
    noises = {
        Stream.PENALTY_NOISE: (drawn.penalty_noise, 2),
        Stream.REAL_NOISE: (drawn.real_noise, 3),
        Stream.FAKE_NOISE: (drawn.fake_noise, 3),
    }
    for stream, (noise, count) in noises.items():
        expected = generator(8, stream, 3).standard_normal((BLOCK_STEPS, count, 8, 2), np.float32)
        assert np.array_equal(noise[1].numpy(), expected), stream
    every = torch.stack([noise[:, :, :2].flatten() for noise, _ in noises.values()])
    assert (torch.corrcoef(every) - torch.eye(3)).abs().max() < 0.2, "512 pairs: 0.2 is more than four deviations"


def test_stream_numbers_are_only_ever_added() -> None:
    names = "INITIALISATION DATA LATENT PENALTY EVALUATION EVALUATION_DATA FIXED_LATENT PENALTY_NOISE REAL_NOISE "
    names += "FAKE_NOISE EVALUATION_PENALTY_NOISE EVALUATION_REAL_NOISE EVALUATION_FAKE_NOISE"
    assert {name: Stream[name].value for name in names.split()} == {name: i for i, name in enumerate(names.split())}
    assert len({stream.value for stream in Stream}) == len(Stream.__members__), "no number has two names"


def test_the_generators_gradient_takes_the_last_minibatch_of_noise_and_no_penalty() -> None:
    drawn = draw_block([7], block=0, shape=NOISY, target=build_target(RING))
    noise = drawn.noise(5, 2)
    assert noise.epsilon is None
    assert noise.penalty is None
    assert torch.equal(noise.fake, drawn.fake_noise[:, 5, 2])
    assert torch.equal(noise.real, drawn.real_noise[:, 5, 2])
    assert torch.equal(drawn.noise(5, 1).epsilon, drawn.epsilons[:, 5, 1])
    unpaired = draw_block([7], block=0, shape=DrawShape(**{**vars(NOISY), "real_noises": 2}), target=build_target(RING))
    assert unpaired.noise(5, 2).real is None


@pytest.fixture(scope="module")
def judge() -> Judge:
    return build_judge(build_target(RING), evaluation_samples=200)


@pytest.mark.parametrize("penalty", ["dragan", "instance_noise"])
def test_noise_at_evaluations_is_each_members_own_and_does_not_touch_training(penalty: str, judge: Judge) -> None:
    of = program(penalty=penalty, horizon=6, evaluations=3)
    company = members(5, of=of, **({"noise_std": 0.5} if penalty == "instance_noise" else {}))
    together, alone = Cohort.start(of, company), Cohort.start(of, [company[3]])
    unobserved = Cohort.start(of, company)
    for many, one in zip(train(together, judge), train(alone, judge), strict=True):
        for name in ("discriminator_gradient_norm", "generator_gradient_norm"):
            assert np.isfinite(many.values[name]).all()
            assert many.values[name][3] == one.values[name][0], "bit for bit"
    loop.advance(unobserved, 6)
    assert torch.equal(unobserved.discriminator.flat, together.discriminator.flat)


def test_measured_gradients_are_those_of_the_noisy_game(judge: Judge) -> None:
    """At the same parameters and minibatch, the noise must show in both players' gradients."""
    of = program(penalty="instance_noise")
    norms = {}
    for std in (1e-9, 1.0):
        cohort = Cohort.start(of, members(1, of=of, noise_std=std))
        norms[std] = next(iter(train(cohort, judge))).values
    for name in ("discriminator_gradient_norm", "generator_gradient_norm"):
        assert abs(norms[1.0][name][0] / norms[1e-9][name][0] - 1) > 1e-3, name


# ---- penalties by name ----


def half(discriminator, *, real, fake, weight, epsilon, noise):  # type: ignore[no-untyped-def]
    return weight * discriminator(real).square().mean(-1)


MINE = Penalty(name="mine", term=half)
CLIPS = Penalty(name="clips", weight_name="clip", clips_weights=True)
NOTHING = Penalty(name="nothing", weight_name=None)
BOTH = Penalty(name="both", term=half, clips_weights=True)


def test_penalties_are_found_by_registry_name_and_by_import_path() -> None:
    assert find_penalty("r1") is PENALTIES["r1"]
    assert find_penalty(f"{__name__}:MINE") is MINE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("r3", "penalty must be one of none, .* got 'r3'"),
        (f"{__name__}:ABSENT", "penalty must be importable as module:name"),
        (f"{__name__}:half", "penalty must name a trainers.penalties.Penalty, .*:half is a function"),
        (f"{__name__}:Penalty", "is a class"),
        (f"{__name__}:CLIPS", "must be a term of L_D and nothing else"),
        (f"{__name__}:NOTHING", "must be a term of L_D and nothing else"),
        (f"{__name__}:BOTH", "must be a term of L_D and nothing else"),
    ],
)
def test_what_is_no_penalty_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find_penalty(name)


@pytest.mark.parametrize(("term", "weight_name"), [(half, "clip"), (half, None), (None, "penalty_weight")])
def test_a_term_has_a_penalty_weight_and_nothing_else_has(term: object, weight_name: str | None) -> None:
    with pytest.raises(ValueError, match="weight_name of odd must be 'penalty_weight' exactly when it has a term"):
        Penalty(name="odd", term=term, weight_name=weight_name)  # type: ignore[arg-type]
