"""A target's reference numbers: what real data, a point mass and noise in the measurement score under its judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainers.labelled import LabelledImages
from trainers.targets import Target

if TYPE_CHECKING:
    from trainers.evaluation import Judge

Reference = Mapping[str, float | int | str]

REPEATS = 100
"""Fresh real samples behind d_real and the mode ceilings, and re-evaluations behind sigma_u."""

NEIGHBOUR_REPEATS = 20
FAR_POINTS = 256

SHRINKAGE = 0.1
"""The frozen sampler of sigma_u is real data shrunk by this much towards its mean: it stands at u of about .1."""


def reference_numbers(judge: Judge, target: Target, *, real_mean: Tensor, rng: np.random.Generator) -> dict[str, float]:
    """Measure the reference numbers of ``target`` with its own judge, exactly as a generator would be measured.

    d_real: 95th percentile of the distance of fresh real samples (finite data: the training half drawn with
    replacement, against the held-out half); d_ref, d_far: distance of a point mass at the real mean [d], and the
    largest one over 256 real points; sigma_u: standard deviation of u when one frozen sampler (real data shrunk by
    10 % towards ``real_mean``) is evaluated again and again; ceilings: mean over real samples.
    """
    real, shrunk = _fresh_scores(judge, target, real_mean=real_mean, rng=rng)
    d_real = float(real["distance"].quantile(0.95))
    d_ref = float(judge.distance(_point_masses(judge, real_mean[None])))
    far_points = torch.from_numpy(target.held_out(rng, min(FAR_POINTS, target.held_out_size or FAR_POINTS)))
    neighbours = _neighbour_ceilings(judge, target, rng)
    return {
        "d_real": d_real,
        "d_ref": d_ref,
        "d_far": float(judge.distance(_point_masses(judge, far_points)).max()),
        "sigma_u": float(shrunk.std()) / (d_ref - d_real),
        "quality_ceiling": float(real["high_quality_fraction"].mean()),
        "coverage_ceiling": float(real["mode_coverage"].mean()),
        **neighbours,
    }


def _fresh_scores(
    judge: Judge, target: Target, *, real_mean: Tensor, rng: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Measurements of REPEATS real samples, and the distances of as many from the shrunk real sampler."""
    n = int(judge.reference["evaluation_samples"])
    real, shrunk = [], []
    for _ in range(REPEATS):
        real.append(judge.measure(torch.from_numpy(target.sample(rng, n))[None], nearest_neighbours=False))
        again = torch.from_numpy(target.sample(rng, n))[None]
        shrunk.append(judge.distance(torch.lerp(again, real_mean, SHRINKAGE)))
    return {name: torch.cat([scores[name] for scores in real]) for name in real[0]}, torch.cat(shrunk)


def _neighbour_ceilings(judge: Judge, target: Target, rng: np.random.Generator) -> dict[str, float]:
    """Mean nearest-neighbour precision and coverage of real samples without repeated images."""
    n = judge.distance_samples
    scores = [
        judge.measure(torch.from_numpy(_distinct(target, rng, n))[None], nearest_neighbours=True)
        for _ in range(NEIGHBOUR_REPEATS)
    ]
    return {
        f"{name}_ceiling": float(torch.cat([score[name] for score in scores]).mean())
        for name in ("knn_precision", "knn_coverage")
    }


def _distinct(target: Target, rng: np.random.Generator, n: int) -> np.ndarray:
    """Training samples [n, d] that begin with distinct ones: a generator does not draw an image twice."""
    if not isinstance(target, LabelledImages):
        return target.sample(rng, n)
    order = rng.permutation(len(target.training_images))
    return target.training(np.resize(order, n))


def _point_masses(judge: Judge, points: Tensor) -> Tensor:
    """All samples at one point, for each of points [R, d]: [R, n, d] without copying."""
    return points[:, None, :].expand(-1, judge.distance_samples, -1)
