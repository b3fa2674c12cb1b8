"""Networks as a user writes them, named by import path in the tests of stacked modules."""

from __future__ import annotations

import math

from torch import nn


def players(*, latent_dim: int, sample_shape: tuple[int, ...], channels: int) -> tuple[nn.Module, nn.Module]:
    """A generator with batch normalisation (no running averages) and a convolutional discriminator of 8x8 images."""
    generator = nn.Sequential(
        nn.Linear(latent_dim, 16),
        nn.BatchNorm1d(16, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(16, math.prod(sample_shape)),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, sample_shape[0])),
        nn.Conv2d(1, channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(16 * channels, 1),
    )
    return generator, discriminator


def tracking(*, latent_dim: int, sample_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """A generator whose running averages all members would share."""
    generator = nn.Sequential(nn.Linear(latent_dim, math.prod(sample_shape)), nn.BatchNorm1d(math.prod(sample_shape)))
    return generator, nn.Linear(math.prod(sample_shape), 1)
