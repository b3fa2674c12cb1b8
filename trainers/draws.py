"""Random draws as a pure function of (replicate seed, stream, index): nothing to save, nothing to share.

A replicate's numbers for a step do not depend on its cohort, on concurrency, nor on interruptions, because each
block of steps has a generator of its own. Drawn on the CPU, so that every device trains on the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from trainers.targets import Target

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


def generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """The generator of one replicate's stream at ``index`` (a block of steps, an evaluation, a player)."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(int(stream), index))))


@dataclass(frozen=True, kw_only=True)
class DrawShape:
    """Minibatches per generator step: ``latents`` and ``reals`` of ``batch_size``; epsilons for penalties."""

    batch_size: int
    latent_dim: int
    latents: int
    reals: int
    epsilons: int


@dataclass(frozen=True)
class Draws:
    """One block: latents [R, S, latents, B, L], reals [R, S, reals, B, d], epsilons [R, S, epsilons, B] or None."""

    latents: Tensor
    reals: Tensor
    epsilons: Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> Draws:
        """The same numbers on a device, in a precision."""
        epsilons = None if self.epsilons is None else self.epsilons.to(device, dtype)
        return Draws(self.latents.to(device, dtype), self.reals.to(device, dtype), epsilons)


def draw_block(seeds: Sequence[int], *, block: int, shape: DrawShape, target: Target) -> Draws:
    """The float32 draws, on the CPU, of generator steps block x BLOCK_STEPS onwards, for every member."""
    members, batch = len(seeds), shape.batch_size
    latents = np.empty((members, BLOCK_STEPS, shape.latents, batch, shape.latent_dim), np.float32)
    reals = np.empty((members, BLOCK_STEPS, shape.reals, batch, target.dimensions), np.float32)
    epsilons = np.empty((members, BLOCK_STEPS, shape.epsilons, batch), np.float32) if shape.epsilons else None
    for member, seed in enumerate(seeds):
        generator(seed, Stream.LATENT, block).standard_normal(out=latents[member], dtype=np.float32)
        data = generator(seed, Stream.DATA, block)
        reals[member] = target.sample(data, BLOCK_STEPS * shape.reals * batch).reshape(reals.shape[1:])
        if epsilons is not None:
            generator(seed, Stream.PENALTY, block).random(out=epsilons[member], dtype=np.float32)
    return Draws(
        torch.from_numpy(latents),
        torch.from_numpy(reals),
        None if epsilons is None else torch.from_numpy(epsilons),
    )


def normal(seeds: Sequence[int], stream: Stream, index: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals [R, *shape] on the CPU, each member from its own generator."""
    out = np.empty((len(seeds), *shape), np.float32)
    for member, seed in enumerate(seeds):
        generator(seed, stream, index).standard_normal(out=out[member], dtype=np.float32)
    return torch.from_numpy(out)
