"""Random draws as a pure function of (replicate seed, stream, index): nothing to save, nothing to share.

A replicate's numbers for a step do not depend on its cohort, on concurrency, nor on interruptions, because each
block of steps has a generator of its own. Drawn on the CPU, so that every device trains on the same numbers, by numpy
or, where compiled kernels are in use, by them: bit for bit the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from trainers import native
from trainers.targets import GaussianMixture, Target

BLOCK_STEPS = 8
"""Generator steps whose draws are made at once; blocks are aligned at multiples of it."""


class Stream(IntEnum):
    """Separate streams of one replicate; numbers are part of the results, only ever added."""

    INITIALISATION = 0
    DATA = 1
    LATENT = 2
    PENALTY = 3
    EVALUATION = 4
    EVALUATION_DATA = 5
    FIXED_LATENT = 6
    PENALTY_NOISE = 7
    REAL_NOISE = 8
    FAKE_NOISE = 9
    EVALUATION_PENALTY_NOISE = 10
    EVALUATION_REAL_NOISE = 11
    EVALUATION_FAKE_NOISE = 12
    DUALITY_GAP = 13
    GAME_JACOBIAN = 14


def generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """The generator of one replicate's stream at ``index`` (a block of steps, an evaluation, a player)."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(int(stream), index))))


@dataclass(frozen=True, kw_only=True)
class DrawShape:
    """Minibatches per generator step: ``latents`` and ``reals`` of ``batch_size``, and what the penalty asks for.

    ``epsilons``: uniform numbers, one per sample; the noises: standard normal numbers of the samples' shape.
    """

    batch_size: int
    latent_dim: int
    latents: int
    reals: int
    epsilons: int = 0
    penalty_noises: int = 0
    real_noises: int = 0
    fake_noises: int = 0


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What one gradient of either player takes from chance beside data and latents; None where it takes nothing.

    ``epsilon`` [R, B] is uniform in [0, 1); ``penalty`` (at the points of a penalty), ``real`` and ``fake`` (added to
    D's inputs) are standard normal [R, B, d].
    """

    epsilon: Tensor | None = None
    penalty: Tensor | None = None
    real: Tensor | None = None
    fake: Tensor | None = None


NO_NOISE = Noise()


@dataclass(frozen=True)
class Draws:
    """One block: latents [R, S, latents, B, L], reals [R, S, reals, B, d], epsilons [R, S, epsilons, B] or None.

    The noises are [R, S, count, B, d] or None: ``real_noise`` has a minibatch for each of ``reals``, ``fake_noise``
    for each of ``latents``, ``penalty_noise`` for each discriminator step.
    """

    latents: Tensor
    reals: Tensor
    epsilons: Tensor | None = None
    penalty_noise: Tensor | None = None
    real_noise: Tensor | None = None
    fake_noise: Tensor | None = None

    def noise(self, step: int, minibatch: int) -> Noise:
        """For the gradient on minibatch ``minibatch`` of the block's ``step``: 0 to k - 1 are D's, k is G's."""
        return Noise(
            epsilon=_at(self.epsilons, step, minibatch),
            penalty=_at(self.penalty_noise, step, minibatch),
            real=_at(self.real_noise, step, minibatch),
            fake=_at(self.fake_noise, step, minibatch),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Draws:
        """The same numbers on a device, in a precision."""
        noises = (self.epsilons, self.penalty_noise, self.real_noise, self.fake_noise)
        moved = [None if drawn is None else drawn.to(device, dtype, non_blocking=True) for drawn in noises]
        latents, reals = (drawn.to(device, dtype, non_blocking=True) for drawn in (self.latents, self.reals))
        return Draws(latents, reals, *moved)


def _at(drawn: Tensor | None, step: int, minibatch: int) -> Tensor | None:
    """One minibatch of a block; None where nothing is drawn for it (G has no penalty of its own)."""
    return drawn[:, step, minibatch] if drawn is not None and minibatch < drawn.shape[2] else None


def draw_block(seeds: Sequence[int], *, block: int, shape: DrawShape, target: Target) -> Draws:
    """The float32 draws, on the CPU, of generator steps block x BLOCK_STEPS onwards, for every member."""
    batch = shape.batch_size

    def noise(stream: Stream, count: int) -> Tensor | None:
        return normal(seeds, stream, block, (BLOCK_STEPS, count, batch, target.dimensions)) if count else None

    return Draws(
        normal(seeds, Stream.LATENT, block, (BLOCK_STEPS, shape.latents, batch, shape.latent_dim)),
        real(seeds, block, (BLOCK_STEPS, shape.reals, batch, target.dimensions), target),
        uniform(seeds, Stream.PENALTY, block, (BLOCK_STEPS, shape.epsilons, batch)) if shape.epsilons else None,
        penalty_noise=noise(Stream.PENALTY_NOISE, shape.penalty_noises),
        real_noise=noise(Stream.REAL_NOISE, shape.real_noises),
        fake_noise=noise(Stream.FAKE_NOISE, shape.fake_noises),
    )


def real(seeds: Sequence[int], block: int, shape: tuple[int, ...], target: Target) -> Tensor:
    """The target's samples [R, *shape] on the CPU, each member from its own generator of the data."""
    out = np.empty((len(seeds), *shape), np.float32)
    if isinstance(target, GaussianMixture) and (kernels := native.drawing(seeds, block)):
        kernels.mixture(seeds, Stream.DATA, block, out, centres=target.centres, std=target.std)
        return torch.from_numpy(out)
    for member, seed in enumerate(seeds):
        drawn = target.sample(generator(seed, Stream.DATA, block), out[member].size // target.dimensions)
        out[member] = drawn.reshape(shape)
    return torch.from_numpy(out)


def normal(seeds: Sequence[int], stream: Stream, index: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals [R, *shape] on the CPU, each member from its own generator."""
    out = np.empty((len(seeds), *shape), np.float32)
    if kernels := native.drawing(seeds, index):
        kernels.normals(seeds, stream, index, out)
        return torch.from_numpy(out)
    for member, seed in enumerate(seeds):
        generator(seed, stream, index).standard_normal(out=out[member], dtype=np.float32)
    return torch.from_numpy(out)


def uniform(seeds: Sequence[int], stream: Stream, index: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers [R, *shape] uniform in [0, 1) on the CPU, each member from its own generator."""
    out = np.empty((len(seeds), *shape), np.float32)
    if kernels := native.drawing(seeds, index):
        kernels.uniforms(seeds, stream, index, out)
        return torch.from_numpy(out)
    for member, seed in enumerate(seeds):
        generator(seed, stream, index).random(out=out[member], dtype=np.float32)
    return torch.from_numpy(out)
