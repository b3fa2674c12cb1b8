"""Whether samples repeat the training data: are they nearer to training images than to held-out ones?"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.metrics import squared_distances


def memorised_fraction(samples: Tensor, *, training: Tensor, held_out: Tensor) -> Tensor:
    """Share of samples [R, N, d] nearer to ``training`` [M, d] than to ``held_out`` [M, d]: [R] float64, ties half.

    Both halves have the same law and (but for odd ones out) size, so that a generator that knows the law and no image
    scores 0.5, and one that repeats training images 1. It wants many different samples: one that always draws the
    same scores 0 or 1 by chance. The question of Meehan et al. 2020, arXiv:2004.05675, who also
    compare generated, training and held-out samples, by another test.
    """
    # float64: the expanded square loses half its digits, and a repeated image is decided by the last of them
    near, far = (squared_distances(samples.double(), half.double()).amin(dim=-1) for half in (training, held_out))
    return ((near < far).double() + 0.5 * (near == far).double()).mean(dim=-1)


def nothing(dimensions: int) -> Tensor:
    """No images [0, d]: what an endless target has to memorise."""
    return torch.zeros(0, dimensions)
