"""Laws of a trainer and of a target, as functions that assert: run on ours, and on planted defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.programs import member, program
from trainers import loop
from trainers.cohort import Cohort
from trainers.player import Player
from trainers.targets import Target

TINY: dict[str, Any] = {"networks": {"name": "mlp", "latent_dim": 2, "width": 6, "depth": 1}, "batch_size": 8}


class Recorded:
    """A network that notes the inputs it is given."""

    def __init__(self, network: Any) -> None:
        self.layout, self._network = network.layout, network
        self.inputs: list[Tensor] = []

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        self.inputs.append(inputs.detach().clone())
        output: Tensor = self._network(parameters, inputs)
        return output


def generator_runs_once_per_gradient(kind: type[Cohort], *, k: int, loss: str = "non_saturating") -> None:
    """Algorithm 1: per step k minibatches of noise for D and one for G, each fresh, each through G once."""
    of, steps = program(loss=loss, k=k, **TINY), 3
    cohort = kind.start(of, [member(1, of=of)])
    recorded = Recorded(cohort.generator.network)
    cohort.generator.network = recorded  # type: ignore[assignment]
    loop.advance(cohort, steps)
    assert len(recorded.inputs) == steps * (k + 1)
    minibatches = {inputs[0].numpy().tobytes() for inputs in recorded.inputs}
    assert len(minibatches) == steps * (k + 1), "a minibatch of noise was used twice"


def first_movement(optimizer: str, numbers: dict[str, float]) -> Callable[[float, Tensor], Tensor]:
    """How far an optimizer's first update moves a parameter of gradient g at learning rate r, from its paper."""
    return {
        "sgd": lambda rate, g: -rate * g,
        "adam": lambda rate, g: -rate * g / (g.abs() + 1e-8),
        "rmsprop": lambda rate, g: -rate * g / ((1 - numbers["beta2"]) ** 0.5 * g.abs() + 1e-8),
    }[optimizer]


def learning_rates_reach_the_optimizer(kind: type[Cohort], *, optimizer: str) -> None:
    """Every member's two players move, in their first update, as far as their own learning rates say."""
    of = program(optimizer=optimizer, **TINY)
    rates = [(1e-4, 3e-2), (2e-3, 5e-5), (4e-2, 7e-3)]
    who = [member(i, of=of, generator_learning_rate=g, discriminator_learning_rate=d) for i, (g, d) in enumerate(rates)]
    cohort = kind.start(of, who, dtype=torch.float64)
    players: tuple[Player, Player] = (cohort.generator, cohort.discriminator)
    before = [player.flat.clone() for player in players]
    loop.advance(cohort, 1)
    for i, own in enumerate(rates):
        for player, start, rate in zip(players, before, own, strict=True):
            moved = player.flat[i] - start[i]
            expected = first_movement(optimizer, dict(who[i].numbers))(rate, player.gradient[i])
            assert expected.abs().max() > 0
            torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-12)


def clipping_acts_on_weights_after_the_step(kind: type[Cohort]) -> None:
    """One discriminator step with clipping is the step without it, its result clamped, each member to its own limit."""
    with_clip, without = (program(loss="wasserstein", penalty=p, **TINY) for p in ("weight_clipping", "none"))
    limits = [0.02, 0.3]
    rate = {"discriminator_learning_rate": 0.05}
    clipped = kind.start(with_clip, [member(i, of=with_clip, clip=c, **rate) for i, c in enumerate(limits)])
    free = kind.start(without, [member(i, of=without, **rate) for i in range(2)])
    for cohort in (clipped, free):
        loop.advance(cohort, 1)
    for i, limit in enumerate(limits):
        stepped = free.discriminator.flat[i]
        assert stepped.abs().max() > limit, "the test must reach the limit"
        assert torch.equal(clipped.discriminator.flat[i], stepped.clamp(-limit, limit))
    loop.advance(clipped, 10)
    assert clipped.discriminator.flat[:2].abs().amax(1).tolist() == pytest.approx(limits)
    assert clipped.generator.flat[0].abs().max() > limits[0], "the generator is not clipped"


def modes_are_distinct(target: Target, *, declared: int, gap: float) -> None:
    """As many modes as declared, the nearest two ``gap`` apart, all of them in the samples, in equal shares."""
    samples = target.sample(np.random.default_rng(1), 400 * declared)
    centres = np.asarray(target.centres)  # type: ignore[attr-defined]
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    assert target.n_modes == len(centres) == declared
    assert distances[~np.eye(declared, dtype=bool)].min() == pytest.approx(gap)
    nearest = np.linalg.norm(samples[:, None] - centres[None], axis=-1).argmin(axis=1)
    assert np.bincount(nearest, minlength=declared) / len(samples) == pytest.approx(1 / declared, abs=0.02)


def std_is_a_standard_deviation(target: Target, *, declared: float) -> None:
    """Around its nearest mode every coordinate has the declared standard deviation, which is no variance."""
    samples = target.sample(np.random.default_rng(2), 20_000)
    centres = np.asarray(target.centres)  # type: ignore[attr-defined]
    residual = samples - centres[np.linalg.norm(samples[:, None] - centres[None], axis=-1).argmin(axis=1)]
    assert residual.std(axis=0) == pytest.approx(declared, rel=0.03)
