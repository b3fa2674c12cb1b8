"""Frechet Inception distance: samples -> bytes -> Inception's features -> moments -> a number."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.frechet import matrix_root, moments
from trainers.inception import Extractor

AT_ONCE = 100
"""Images that pass the network together: bounds the memory."""


def as_bytes(samples: Tensor, sample_shape: tuple[int, ...]) -> Tensor:
    """Flat images [N, d] in [-1, 1] as bytes [N, 3, h, w]; a grey one in all three channels."""
    channels, height, width = (1, *sample_shape) if len(sample_shape) == 2 else sample_shape
    images = ((samples.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).view(-1, channels, height, width)
    return images.expand(-1, 3, -1, -1) if channels == 1 else images


def features_of(samples: Tensor, sample_shape: tuple[int, ...], extractor: Extractor) -> Tensor:
    """Features [R, N, F] of flat images [R, N, d]."""
    rows = [
        torch.cat([extractor(as_bytes(part, sample_shape)) for part in torch.split(member, AT_ONCE)])
        for member in samples
    ]
    return torch.stack(rows)


def real_moments(reals: Tensor, sample_shape: tuple[int, ...], extractor: Extractor) -> tuple[Tensor, Tensor]:
    """Mean [F] and root of the covariance [F, F] of real images' [M, d] features, float64."""
    mean, covariance = moments(features_of(reals[None], sample_shape, extractor)[0])
    return mean, matrix_root(covariance)
