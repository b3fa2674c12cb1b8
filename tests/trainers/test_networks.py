"""Stacked networks against plain torch.nn modules, member by member; spectral norms against LAPACK; independence."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainers.module_networks import players
from tests.trainers.programs import RING, members, program
from trainers import catalogue, loop
from trainers.cohort import Cohort
from trainers.labelled import LabelledImages
from trainers.layers import leading_singular_vectors, spectrally_normalised
from trainers.networks import DISCRIMINATOR, GENERATOR, Networks, build_networks
from trainers.penalties import squared_gradient_norm
from trainers.program import Program
from trainers.targets import build_target

MEMBERS, BATCH = 3, 10


def blank_images(shape: tuple[int, ...]) -> LabelledImages:
    """A target of images of this shape that holds none of them: enough to build networks for."""
    images, labels = np.zeros((0, math.prod(shape)), np.uint8), np.zeros(0, np.int64)
    return LabelledImages(
        name="blank",
        sample_shape=shape,
        training_images=images,
        training_labels=labels,
        held_out_images=images,
        held_out_labels=labels,
        mode_names=("none",),
    )


PLANE = build_target(RING)
DIGITS = build_target({"name": "digits"})
COLOUR = build_target({"name": "stacked_digits"})

GREY_28 = blank_images((28, 28))
COLOUR_32 = blank_images((3, 32, 32))

Plain = Callable[[list[Tensor], Tensor], Tensor]


def stacked(networks: Networks, index: int) -> list[Tensor]:
    """Float64 parameters of the members of one player."""
    network = networks.generator if index == GENERATOR else networks.discriminator
    rows = np.stack([network.initial(seed, index) for seed in range(MEMBERS)])
    # scales, shifts and biases away from their first values, so that each of them matters
    noise = np.random.default_rng(7).normal(0, 0.1, rows.shape)
    flat = torch.from_numpy(rows.astype(np.float64) + noise)
    return [view.detach().requires_grad_() for view in network.layout.views(flat)]


def inputs_of(size: int) -> Tensor:
    return torch.randn(MEMBERS, BATCH, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


# ---- plain implementations of one member: what the paper's reader would write with torch.nn ----


def plain_mlp(parameters: list[Tensor], x: Tensor, *, slope: float, normalised: bool, bounded: bool) -> Tensor:
    rest: Iterator[Tensor] = iter(parameters)
    per_layer = 3 if normalised else 2
    for _ in range((len(parameters) - 2) // per_layer):
        weight = next(rest)
        if normalised:
            norm = nn.BatchNorm1d(weight.shape[1], affine=False, track_running_stats=False).double().train()
            x = norm(x @ weight) * next(rest)[0] + next(rest)[0]
        else:
            x = nn.functional.linear(x, weight.T, next(rest)[0])
        x = nn.functional.leaky_relu(x, slope)
    x = nn.functional.linear(x, next(rest).T, next(rest)[0])
    return x.tanh() if bounded else x


def plain_maxout(parameters: list[Tensor], x: Tensor, *, pieces: int) -> Tensor:
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    for weight, bias in hidden:
        z = x @ weight + bias[0]
        units = z.shape[1] // pieces
        x = functools.reduce(torch.maximum, [z[:, p * units : (p + 1) * units] for p in range(pieces)])
    return x @ last[0] + last[1][0]


def plain_conv_generator(
    parameters: list[Tensor], z: Tensor, *, channels: int, normalised: bool, start: int = 2, stages: int = 2
) -> Tensor:
    """ConvTranspose2d with the weights [in, out, 4, 4] that torch has, the projection as one on a 1x1 image."""
    rest: Iterator[Tensor] = iter(parameters)

    def after(images: Tensor) -> Tensor:
        if normalised:
            return nn.functional.batch_norm(
                images, None, None, weight=next(rest)[0], bias=next(rest)[0], training=True
            ).relu()
        return (images + next(rest).view(1, -1, 1, 1)).relu()

    wide = channels * 2 ** (stages - 1)
    weight = next(rest)  # [latent, start x start pixels, channels]
    project = weight.view(z.shape[1], start, start, wide).permute(0, 3, 1, 2)
    images = after(nn.functional.conv_transpose2d(z[:, :, None, None], project))
    for _ in range(stages - 1):
        kernel = next(rest).view(wide, wide // 2, 4, 4)
        images = after(nn.functional.conv_transpose2d(images, kernel, stride=2, padding=1))
        wide //= 2
    last, bias = next(rest), next(rest)
    images = nn.functional.conv_transpose2d(images, last.view(channels, -1, 4, 4), bias.flatten(), stride=2, padding=1)
    return images.tanh().flatten(1)


def plain_conv_discriminator(
    parameters: list[Tensor], x: Tensor, *, channels: int, colours: int, side: int = 8
) -> Tensor:
    *hidden, (w_last, b_last) = zip(parameters[::2], parameters[1::2], strict=True)
    x, wide = x.view(-1, colours, side, side), channels
    for weight, bias in hidden:
        kernel = weight.T.reshape(wide, -1, 4, 4)
        x = nn.functional.leaky_relu(nn.functional.conv2d(x, kernel, bias.flatten(), stride=2, padding=1), 0.2)
        wide *= 2
    return x.permute(0, 2, 3, 1).flatten(1) @ w_last + b_last[0]


MLP = {"name": "mlp", "latent_dim": 3, "width": 7, "depth": 2}
PACGAN = {
    "name": "pacgan", "generator_width": 9, "generator_depth": 3, "discriminator_width": 6, "discriminator_depth": 2,
    "maxout_pieces": 4,
}  # fmt: skip
CONV = {"name": "conv", "latent_dim": 5, "channels": 3}

GENERATORS: list[tuple[dict[str, object], object, Plain]] = [
    (MLP, PLANE, functools.partial(plain_mlp, slope=0.0, normalised=False, bounded=False)),
    (
        {**MLP, "batch_norm": "generator"},
        DIGITS,
        functools.partial(plain_mlp, slope=0.0, normalised=True, bounded=True),
    ),
    (PACGAN, PLANE, functools.partial(plain_mlp, slope=0.0, normalised=True, bounded=False)),
    (CONV, DIGITS, functools.partial(plain_conv_generator, channels=3, normalised=True)),
    ({**CONV, "batch_norm": "none"}, COLOUR, functools.partial(plain_conv_generator, channels=3, normalised=False)),
    (CONV, GREY_28, functools.partial(plain_conv_generator, channels=3, normalised=True, start=7)),
    (
        {**CONV, "stages": 3},
        COLOUR_32,
        functools.partial(plain_conv_generator, channels=3, normalised=True, start=4, stages=3),
    ),
]
DISCRIMINATORS: list[tuple[dict[str, object], object, Plain]] = [
    (MLP, PLANE, functools.partial(plain_mlp, slope=0.2, normalised=False, bounded=False)),
    (
        {**MLP, "negative_slope": 0.0},
        PLANE,
        functools.partial(plain_mlp, slope=0.0, normalised=False, bounded=False),
    ),
    (PACGAN, PLANE, functools.partial(plain_maxout, pieces=4)),
    (CONV, DIGITS, functools.partial(plain_conv_discriminator, channels=3, colours=1)),
    (CONV, COLOUR, functools.partial(plain_conv_discriminator, channels=3, colours=3)),
    (CONV, GREY_28, functools.partial(plain_conv_discriminator, channels=3, colours=1, side=28)),
    ({**CONV, "stages": 3}, COLOUR_32, functools.partial(plain_conv_discriminator, channels=3, colours=3, side=32)),
]


@pytest.mark.parametrize(("mapping", "target", "plain"), GENERATORS, ids=lambda v: str(getattr(v, "name", "")))
def test_a_stacked_generator_is_its_members_plain_modules(mapping, target, plain) -> None:  # type: ignore[no-untyped-def]
    networks = build_networks(mapping, target)
    views = stacked(networks, GENERATOR)
    latents = inputs_of(networks.latent_dim)
    outputs = networks.generator(views, latents)
    direction = torch.randn(outputs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    gradients = torch.autograd.grad((outputs * direction).sum(), views)
    for r in range(MEMBERS):
        own = [view[r].detach().clone().requires_grad_() for view in views]
        expected = plain(own, latents[r])
        torch.testing.assert_close(outputs[r], expected, rtol=1e-9, atol=1e-11)
        expected_gradients = torch.autograd.grad((expected * direction[r]).sum(), own)
        for mine, theirs in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(mine[r], theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("mapping", "target", "plain"), DISCRIMINATORS, ids=lambda v: str(getattr(v, "name", "")))
def test_a_stacked_discriminator_and_its_double_backward_are_those_of_plain_modules(mapping, target, plain) -> None:  # type: ignore[no-untyped-def]
    networks = build_networks(mapping, target)
    views = stacked(networks, DISCRIMINATOR)
    samples = inputs_of(target.dimensions)
    outputs = networks.discriminator(views, samples)
    penalty = squared_gradient_norm(lambda points: networks.discriminator(views, points).squeeze(-1), samples)
    assert penalty.shape == (MEMBERS, BATCH)
    gradients = torch.autograd.grad((penalty.sum() + outputs.square().sum()), views, allow_unused=True)
    for r in range(MEMBERS):
        own = [view[r].detach().clone().requires_grad_() for view in views]
        points = samples[r].clone().requires_grad_()
        logits = plain(own, points)
        torch.testing.assert_close(outputs[r], logits, rtol=1e-9, atol=1e-11)
        (slope,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
        torch.testing.assert_close(penalty[r], slope.square().sum(1), rtol=1e-8, atol=1e-11)
        total = slope.square().sum() + logits.square().sum()
        for mine, theirs in zip(gradients, torch.autograd.grad(total, own, allow_unused=True), strict=True):
            torch.testing.assert_close(mine[r], theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("mapping", [{**MLP, "batch_norm": "generator"}, PACGAN])
def test_a_gradient_penalty_on_the_generators_own_gradient_can_be_taken(mapping: dict[str, object]) -> None:
    # second derivatives of batch normalisation, as consensus updates need them, against finite differences
    networks = build_networks(mapping, PLANE)
    views = stacked(networks, GENERATOR)
    latents = inputs_of(networks.latent_dim)

    def gradient_norm(first: Tensor) -> Tensor:
        outputs = networks.generator([first, *views[1:]], latents)
        (gradient,) = torch.autograd.grad(outputs.pow(3).sum(), first, create_graph=True)
        return gradient.square().sum()

    (exact,) = torch.autograd.grad(gradient_norm(views[0]), views[0])
    direction = torch.randn(views[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    step = 1e-6
    slope = (gradient_norm(views[0] + step * direction) - gradient_norm(views[0] - step * direction)) / (2 * step)
    assert float((exact * direction).sum().detach()) == pytest.approx(float(slope.detach()), rel=1e-5)


# ---- batch normalisation ----


def test_a_batch_is_normalised_member_by_member() -> None:
    networks = build_networks(PACGAN, PLANE)
    views = stacked(networks, GENERATOR)
    latents = inputs_of(networks.latent_dim)
    other = latents.clone()
    other[2] = 40 * other[2] + 9
    before, after = networks.generator(views, latents), networks.generator(views, other)
    assert torch.equal(before[:2], after[:2])
    # within a member the samples do share statistics: without running averages that is so in evaluation too
    other = latents.clone()
    other[0, -1] += 3
    assert not torch.allclose(networks.generator(views, other)[0, 0], before[0, 0], atol=1e-3)


def test_a_discriminator_judges_each_sample_on_its_own() -> None:
    for mapping, target, _ in [*DISCRIMINATORS, ({**CONV, "spectral_norm": "discriminator"}, DIGITS, None)]:
        networks = build_networks(mapping, target)  # type: ignore[arg-type]
        views = stacked(networks, DISCRIMINATOR)
        samples = inputs_of(target.dimensions)  # type: ignore[attr-defined]
        other = samples.clone()
        other[:, 1:] += 1
        outputs = networks.discriminator(views, samples)[:, 0]
        torch.testing.assert_close(networks.discriminator(views, other)[:, 0], outputs, rtol=1e-12, atol=1e-12)


# ---- spectral normalisation ----


def matrices() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(11)

    def normal(*shape: int) -> Tensor:
        return torch.randn(4, *shape, generator=rng)

    return {
        "square": normal(64, 64),
        "wide": normal(2, 128),
        "tall": normal(300, 48),
        "column": normal(64, 1),
        "rank one": normal(80, 1) @ normal(1, 60),
        "equal values": torch.linalg.qr(normal(40, 40)).Q * 3,
        "two leading values": torch.linalg.qr(normal(50, 50)).Q * torch.tensor([2.0, 1.999, *[0.1] * 48]),
        "tiny": 1e-15 * normal(30, 30),
        "huge": 1e15 * normal(30, 30),
    }


@pytest.mark.parametrize("name", matrices())
def test_the_largest_singular_value_of_an_effective_weight_is_one(name: str) -> None:
    weight = matrices()[name]
    norms = torch.linalg.matrix_norm(spectrally_normalised(weight), ord=2)
    assert norms.min() > 1 - 1e-5  # never above the largest value, so never divided by too much
    assert norms.max() < 1.02
    left, right = leading_singular_vectors(weight)
    torch.testing.assert_close(left.norm(dim=1), torch.ones(4, 1), rtol=1e-5, atol=0)
    torch.testing.assert_close(right.norm(dim=1), torch.ones(4, 1), rtol=1e-5, atol=0)


def test_a_zero_weight_stays_zero_and_a_non_finite_one_is_an_event_of_its_member_only() -> None:
    weight = matrices()["square"].clone()
    weight[0] = 0
    weight[1, 3, 3] = math.nan
    normalised = spectrally_normalised(weight)
    assert torch.equal(normalised[0], torch.zeros(64, 64))
    assert normalised[1].isnan().any()
    assert torch.linalg.matrix_norm(normalised[2:], ord=2).max() < 1.02


def test_singular_vectors_are_constants_in_the_gradient() -> None:
    # Miyato et al. 2018, eq. 12 for one weight: dL/dW = (G - <G, W / s> u v^T) / s with G = dL/d(W / s)
    weight = matrices()["square"].double().requires_grad_()
    chosen = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    normalised = spectrally_normalised(weight)
    (gradient,) = torch.autograd.grad((normalised * chosen).sum(), weight)
    left, right = leading_singular_vectors(weight.detach())
    value = left.mT @ weight.detach() @ right
    inner = (chosen * normalised.detach()).sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(gradient, (chosen - inner * left @ right.mT) / value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("mapping", "target"), [(MLP, PLANE), (CONV, DIGITS), (CONV, COLOUR)])
def test_a_spectrally_normalised_discriminator_is_the_plain_one_with_effective_weights(mapping, target) -> None:  # type: ignore[no-untyped-def]
    constrained = build_networks({**mapping, "spectral_norm": "discriminator"}, target)
    free = build_networks(mapping, target)
    views = stacked(free, DISCRIMINATOR)
    samples = inputs_of(target.dimensions)
    # every second parameter is a weight; LAPACK's own norm, exact here because the smaller sides are below 16
    effective = [
        view / torch.linalg.matrix_norm(view.detach(), ord=2, keepdim=True) if i % 2 == 0 else view
        for i, view in enumerate(views)
    ]
    torch.testing.assert_close(
        constrained.discriminator(views, samples), free.discriminator(effective, samples), rtol=1e-6, atol=1e-9
    )
    assert constrained.discriminator.layout == free.discriminator.layout


def test_a_trained_spectrally_normalised_mlp_is_lipschitz() -> None:
    mapping = {"name": "mlp", "latent_dim": 4, "width": 48, "depth": 2, "spectral_norm": "discriminator"}
    of = program(networks=mapping, loss="hinge")
    cohort = Cohort.start(of, members(2, of=of))
    loop.advance(cohort, 60)
    weights = cohort.discriminator.frozen[::2]
    assert max(float(torch.linalg.matrix_norm(w, ord=2).max()) for w in weights) > 1.1  # the raw ones are free
    for weight in weights:
        assert torch.linalg.matrix_norm(spectrally_normalised(weight), ord=2).max() < 1.02
    points = torch.randn(len(cohort.seeds), 200, 2, generator=torch.Generator().manual_seed(1)) * 3
    assert squared_gradient_norm(cohort.discriminate, points).max() < 1.02**6


# ---- initialisation ----


def test_normal_initialisation_has_its_standard_deviation_and_zero_biases() -> None:
    networks = build_networks({"name": "pacgan", "init_std": 0.05}, PLANE)
    for index, network in enumerate((networks.generator, networks.discriminator)):
        views = network.layout.views(torch.from_numpy(network.initial(4, index))[None])
        weights = [view for view in views if view.shape[1] > 1]
        assert [float(w.std()) for w in weights] == pytest.approx([0.05] * len(weights), rel=0.1)
        large = max(weights, key=Tensor.numel).flatten().double()
        assert float(large.std()) == pytest.approx(0.05, rel=0.01)
        assert float((large / 0.05).pow(4).mean()) == pytest.approx(3.0, rel=0.05)  # a uniform one has 1.8
        others = [view for view in views if view.shape[1] == 1]
        assert {float(value) for view in others for value in view.flatten()} <= {0.0, 1.0}
    generator = networks.generator
    views = generator.layout.views(torch.from_numpy(generator.initial(4, GENERATOR))[None])
    assert all(torch.equal(scale, torch.ones(1, 1, 400)) for scale in views[1:-2:3])


def test_published_networks_have_the_published_sizes() -> None:
    networks = build_networks({"name": "pacgan"}, PLANE)
    generator = [2 * 400, *[400 * 400] * 3, 400 * 2]
    assert networks.latent_dim == 2
    assert sum(map(math.prod, networks.generator.layout.shapes)) == sum(generator) + 4 * 2 * 400 + 2
    maxout = [(2 + 1) * 1000, (200 + 1) * 1000, (200 + 1) * 1000, 200 + 1]
    assert sum(map(math.prod, networks.discriminator.layout.shapes)) == sum(maxout)


def test_an_absent_option_is_its_default() -> None:
    spelt_out = {**MLP, "negative_slope": 0.2, "batch_norm": "none", "spectral_norm": "none", "init_std": 0.0}
    for index in (GENERATOR, DISCRIMINATOR):
        rows = [
            (n.generator if index == GENERATOR else n.discriminator).initial(9, index)
            for n in (build_networks(MLP, PLANE), build_networks(spelt_out, PLANE))
        ]
        assert np.array_equal(*rows)


def test_conv_wants_images_with_sides_that_halve_twice() -> None:
    with pytest.raises(ValueError, match=r"multiples of 4, got samples of shape \(2,\)"):
        build_networks(CONV, PLANE)
    with pytest.raises(ValueError, match=r"multiples of 8, got samples of shape \(28, 28\)"):
        build_networks({**CONV, "stages": 3}, GREY_28)


def test_every_parameter_of_the_catalogue_is_one_of_the_builders() -> None:
    for name, entry in catalogue.NETWORKS.items():
        target = DIGITS if entry.images else PLANE
        if name != "dirac":
            assert build_networks({"name": name, **entry.defaults}, target).latent_dim == entry.defaults["latent_dim"]


# ---- the law of independence: bit for bit on CPU ----

SMALL_CONV = {"name": "conv", "latent_dim": 4, "channels": 6}
SMALL_PACGAN = {**PACGAN, "latent_dim": 4, "generator_width": 24, "discriminator_width": 12}

INDEPENDENT = [
    program(networks={**MLP, "width": 16, "batch_norm": "generator"}, penalty="r1", k=2),
    program(networks={**MLP, "width": 16, "spectral_norm": "discriminator"}, loss="hinge"),
    program(networks={**MLP, "width": 16, "spectral_norm": "discriminator"}, penalty="gradient_penalty"),
    program(networks=SMALL_PACGAN, penalty="none", batch_size=25),
    program(networks=SMALL_PACGAN, penalty="r1_r2"),
    program(networks=SMALL_CONV, target={"name": "digits"}, penalty="none"),
    program(networks=SMALL_CONV, target={"name": "digits"}, penalty="r1"),
    program(
        networks={**SMALL_CONV, "spectral_norm": "discriminator", "batch_norm": "none"},
        target={"name": "stacked_digits"},
        loss="relativistic",
        penalty="gradient_penalty",
    ),
]


def rows(cohort: Cohort) -> Tensor:
    return torch.cat([cohort.generator.flat, cohort.discriminator.flat], dim=1)[: cohort.size].clone()


def trained(of: Program, who: list, steps: int) -> Cohort:  # type: ignore[type-arg]
    cohort = Cohort.start(of, who)
    loop.advance(cohort, steps)
    return cohort


@pytest.mark.parametrize("of", INDEPENDENT, ids=lambda of: f"{of.networks['name']}-{of.penalty}-{of.batch_size}")
def test_a_member_is_the_same_alone_in_company_and_at_any_position(of: Program) -> None:
    company = members(11, of=of)
    steps = 16
    alone = trained(of, [company[9]], steps)
    in_company = trained(of, company, steps)
    reversed_order = rows(trained(of, company[::-1], steps))
    assert bool(in_company.alive.all())
    assert not torch.equal(rows(alone)[0], rows(Cohort.start(of, [company[9]]))[0])
    assert torch.equal(rows(alone)[0], rows(in_company)[9])
    assert torch.equal(rows(in_company), reversed_order.flip(0))
    assert torch.equal(alone.samples()[0], in_company.samples()[9])


@pytest.mark.parametrize("of", [INDEPENDENT[0], INDEPENDENT[1], INDEPENDENT[6]], ids=lambda of: of.networks["name"])
def test_interruption_changes_no_bit(of: Program) -> None:
    who = members(2, of=of)
    resumed = Cohort.restore(of, who, trained(of, who, 7).state())
    loop.advance(resumed, 15)
    assert torch.equal(rows(resumed), rows(trained(of, who, 15)))


# ---- modules of the user's own, by torch.func: their kernels are not ours, so the law holds to rounding ----

OWN = {"name": "tests.trainers.module_networks:players", "latent_dim": 4, "channels": 3}


def test_a_users_modules_train_alike_alone_and_in_company_to_rounding() -> None:
    of = program(networks=OWN, target={"name": "digits"}, penalty="r1")
    company = members(5, of=of)
    alone, together = (Cohort.start(of, who, dtype=torch.float64) for who in ([company[3]], company))
    for cohort in (alone, together):
        loop.advance(cohort, 20)
    torch.testing.assert_close(rows(alone)[0], rows(together)[3], rtol=1e-7, atol=1e-10)
    assert not torch.allclose(rows(together)[2], rows(together)[3], atol=1e-3)


def test_a_stacked_module_is_its_members_modules() -> None:
    networks = build_networks(OWN, DIGITS)
    views = stacked(networks, GENERATOR)
    latents = inputs_of(4)
    outputs = networks.generator(views, latents)
    module, _ = players(latent_dim=4, sample_shape=(8, 8), channels=3)
    for r in range(MEMBERS):
        for parameter, view in zip(module.double().train().parameters(), views, strict=True):
            parameter.data = view[r].detach()
        torch.testing.assert_close(outputs[r], module(latents[r]), rtol=1e-9, atol=1e-12)


def test_running_averages_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not track running statistics, got buffers \['1.running_mean'"):
        build_networks({"name": "tests.trainers.module_networks:tracking"}, DIGITS)
