"""The duality gap: how much either player still gains by moving while the other one stands still."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.draws import Noise, Stream, generator
from trainers.game import StackedGame
from trainers.optimizers import OPTIMIZERS
from trainers.player import Player

STEPS = 50
"""Updates of each clone."""

RATE, BETA1, BETA2 = 1e-3, 0.5, 0.999
"""Of the clones' Adam, the same in every study: with the study's own rates a slow player would seem content."""


def duality_gap(game: StackedGame, reals: Tensor, *, index: int) -> Tensor:
    """max over u' of L_D(u', v) - min over v' of L_D(u, v') at the players (u, v) as they are: [R] float64.

    Both extremes are approached by a clone that takes STEPS updates of Adam on minibatches of its own (training data,
    streams of evaluation ``index``) and are measured on held-out ``reals`` [n, d] and as many fresh fakes. The game
    is the zero-sum game of the study's own L_D without its penalty, since the worst opponent in one game says nothing
    about another; so gaps of different losses do not compare. The discriminator's clone keeps the penalty (and the
    clipping, and the instance noise) it is trained with, for these bound what it may become.
    At an equilibrium the gap is 0, elsewhere positive; as an estimate it may lie slightly below 0. Where the game is
    unbounded, or a clone blows up, it is not finite. In units of L_D: twice the paper's for the logistic losses,
    whose M has a factor 1/2. Nothing of ``game`` changes.
    Source: Grnarova et al. 2019, arXiv:1811.05512, equations 2 to 4.
    """
    draws = _Draws(game, index)
    against_d = _train(_with_clone(game, "generator"), draws, _improve_generator)
    against_g = _train(_with_clone(game, "discriminator"), draws, _improve_discriminator)
    batch = draws.minibatch(reals.to(game.device, game.dtype))
    with torch.no_grad():
        return _adversarial_loss(against_d, batch).double() - _adversarial_loss(against_g, batch).double()


@dataclass(frozen=True)
class _Minibatch:
    latents: Tensor
    real: Tensor
    noise: Noise


class _Draws:
    """Minibatches from one generator per member, one after the other."""

    def __init__(self, game: StackedGame, index: int) -> None:
        self._game = game
        self._rngs = [generator(seed, Stream.DUALITY_GAP, index) for seed in game.seeds]

    def minibatch(self, reals: Tensor | None = None) -> _Minibatch:
        """Fresh training data and latents; or the given reals [n, d], the same for all, with as many latents."""
        game = self._game
        if reals is None:
            size = game.program.batch_size
            real = self._stacked(lambda rng: game.target.sample(rng, size))
        else:
            size, real = len(reals), reals.expand(len(self._rngs), -1, -1)
        latents = self._normal(size, game.networks.latent_dim)
        penalty, shape = game.penalty, (size, game.target.dimensions)
        noise = Noise(
            epsilon=self._stacked(lambda rng: rng.random(size, dtype=np.float32)) if penalty.needs_epsilon else None,
            penalty=self._normal(*shape) if penalty.needs_noise else None,
            real=self._normal(*shape) if penalty.noises_inputs else None,
            fake=self._normal(*shape) if penalty.noises_inputs else None,
        )
        return _Minibatch(latents, real, noise)

    def _normal(self, *shape: int) -> Tensor:
        return self._stacked(lambda rng: rng.standard_normal(shape, dtype=np.float32))

    def _stacked(self, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        drawn = torch.from_numpy(np.stack([draw(rng) for rng in self._rngs]))
        return drawn.to(self._game.device, self._game.dtype)


def _with_clone(game: StackedGame, name: str) -> StackedGame:
    """The game with one player replaced by a clone that has an optimizer of its own."""
    player: Player = getattr(game, name)
    column = torch.ones_like(player.flat[:, :1])
    clone = Player(
        player.network,
        player.flat.clone(),
        optimizer=OPTIMIZERS["adam"],
        rate=RATE * column,
        numbers={"beta1": BETA1 * column, "beta2": BETA2 * column},
    )
    changed = copy.copy(game)
    setattr(changed, name, clone)
    return changed


def _train(game: StackedGame, draws: _Draws, improve: Callable[[StackedGame, _Minibatch, int], None]) -> StackedGame:
    for count in range(1, STEPS + 1):
        improve(game, draws.minibatch(), count)
    return game


def _improve_discriminator(game: StackedGame, batch: _Minibatch, count: int) -> None:
    """One step of D's clone down its own objective, penalty included."""
    game.differentiate_discriminator(latents=batch.latents, real=batch.real, noise=batch.noise)
    everyone = _everyone(game)
    game.discriminator.step(everyone, count=count)
    if game.penalty.clips_weights:
        game.discriminator.clip(game.numbers["clip"], everyone)


def _improve_generator(game: StackedGame, batch: _Minibatch, count: int) -> None:
    """One step of G's clone up L_D: the zero-sum opponent, whatever L_G the study trains."""
    game.generator.differentiate(-_adversarial_loss(game, batch))
    game.generator.step(_everyone(game), count=count)


def _everyone(game: StackedGame) -> Tensor:
    return torch.ones(len(game.seeds), dtype=torch.bool, device=game.device)


def _adversarial_loss(game: StackedGame, batch: _Minibatch) -> Tensor:
    """L_D without its penalty, [R]."""
    fake = game.noised(game.generator.network(game.generator.leaves, batch.latents), batch.noise.fake)
    real = game.noised(batch.real, batch.noise.real)
    return game.loss.discriminator(real_logits=game.discriminate(real), fake_logits=game.discriminate(fake))
