"""The trainer and the targets keep their laws, and each law catches the defect it was written for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.laws import (
    clipping_acts_on_weights_after_the_step,
    generator_runs_once_per_gradient,
    learning_rates_reach_the_optimizer,
    modes_are_distinct,
    std_is_a_standard_deviation,
)
from trainers import catalogue
from trainers.cohort import Cohort
from trainers.targets import GaussianMixture, build_target

torch.set_num_threads(1)


# ---- the generator runs once per gradient ----


class RunsTheGeneratorTwice(Cohort):
    """One fake batch for the loss, another for nothing: slow, and a subtle bug once they are mixed up."""

    def differentiate_discriminator(self, *, latents: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        self.generate(latents)
        return super().differentiate_discriminator(latents=latents, **rest)


class ReusesItsNoise(Cohort):
    """The generator's step on the noise of the discriminator's: cheaper, and not Algorithm 1."""

    def differentiate_discriminator(self, *, latents: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        self.last = latents
        return super().differentiate_discriminator(latents=latents, **rest)

    def differentiate_generator(self, *, latents: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
        return super().differentiate_generator(latents=self.last, **rest)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("loss", catalogue.LOSSES)
def test_generator_runs_once_per_gradient_on_fresh_noise(loss: str, k: int) -> None:
    generator_runs_once_per_gradient(Cohort, k=k, loss=loss)


@pytest.mark.parametrize("defect", [RunsTheGeneratorTwice, ReusesItsNoise])
def test_a_generator_run_twice_and_noise_used_twice_are_caught(defect: type[Cohort]) -> None:
    with pytest.raises(AssertionError):
        generator_runs_once_per_gradient(defect, k=2)


# ---- effective learning rates are the given ones ----


class ForgetsItsLearningRates(Cohort):
    """Rates are sampled, logged, and never reach the optimizers."""

    def _player(self, *arguments: Any) -> Any:
        player = super()._player(*arguments)
        player._rate = torch.full_like(player._rate, 1e-3)
        return player


class SharesOneLearningRate(Cohort):
    """Both players train at the generator's rate."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.discriminator._rate = self.generator._rate


@pytest.mark.parametrize("optimizer", catalogue.OPTIMIZERS)
def test_effective_learning_rates_are_the_given_ones(optimizer: str) -> None:
    learning_rates_reach_the_optimizer(Cohort, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", catalogue.OPTIMIZERS)
@pytest.mark.parametrize("defect", [ForgetsItsLearningRates, SharesOneLearningRate])
def test_learning_rates_that_never_reach_the_optimizer_are_caught(defect: type[Cohort], optimizer: str) -> None:
    with pytest.raises(AssertionError):
        learning_rates_reach_the_optimizer(defect, optimizer=optimizer)


# ---- clipping ----


class ClipsGradients(Cohort):
    """Clips the discriminator's gradient and leaves its weights alone."""

    def update_discriminator(self, *arguments: Any, **keywords: Any) -> None:
        if not self.penalty.clips_weights:
            return super().update_discriminator(*arguments, **keywords)
        limit, player = self.numbers["clip"], self.discriminator
        player.gradient.copy_(torch.clamp(player.gradient, -limit, limit))
        player.clip = lambda *_: None  # type: ignore[method-assign]
        return super().update_discriminator(*arguments, **keywords)


class ClipsBeforeTheStep(Cohort):
    """Clips the weights, then steps out of the box again."""

    def update_discriminator(self, *arguments: Any, **keywords: Any) -> None:
        if self.penalty.clips_weights:
            clip = type(self.discriminator).clip
            clip(self.discriminator, self.numbers["clip"], self.alive)
            self.discriminator.clip = lambda *_: None  # type: ignore[method-assign]
        super().update_discriminator(*arguments, **keywords)


def test_clipping_acts_on_weights_after_the_step() -> None:
    clipping_acts_on_weights_after_the_step(Cohort)


@pytest.mark.parametrize("defect", [ClipsGradients, ClipsBeforeTheStep])
def test_clipping_of_gradients_or_at_the_wrong_moment_is_caught(defect: type[Cohort]) -> None:
    with pytest.raises(AssertionError):
        clipping_acts_on_weights_after_the_step(defect)


# ---- targets ----


def planted_ring(*, modes: int, inclusive: bool, scale: float) -> GaussianMixture:
    angle = np.linspace(0, 2 * np.pi, modes, endpoint=inclusive)
    centres = 2.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return GaussianMixture(name="ring", centres=centres, std=scale, mode_names=tuple(map(str, range(modes))))


RING_GAP, RING_STD = 4 * np.sin(np.pi / 8), 0.1


def test_the_ring_has_its_modes_and_its_standard_deviation() -> None:
    for ring in (build_target({"name": "ring"}), planted_ring(modes=8, inclusive=False, scale=RING_STD)):
        modes_are_distinct(ring, declared=8, gap=RING_GAP)
        std_is_a_standard_deviation(ring, declared=RING_STD)


def test_the_grid_has_its_modes_and_its_standard_deviation() -> None:
    grid = build_target({"name": "grid"})
    modes_are_distinct(grid, declared=25, gap=2.0)
    std_is_a_standard_deviation(grid, declared=0.05)


def test_a_ring_of_eight_with_seven_modes_is_caught() -> None:
    with pytest.raises(AssertionError):
        modes_are_distinct(planted_ring(modes=8, inclusive=True, scale=RING_STD), declared=8, gap=RING_GAP)


@pytest.mark.parametrize("wrong", [RING_STD**2, RING_STD**0.5])
def test_a_variance_in_place_of_the_standard_deviation_is_caught(wrong: float) -> None:
    with pytest.raises(AssertionError):
        std_is_a_standard_deviation(planted_ring(modes=8, inclusive=False, scale=wrong), declared=RING_STD)
