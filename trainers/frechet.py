"""Frechet distance between Gaussians fitted to features of generated and of real samples, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [..., F] and covariance (divisor N) [..., F, F] of features [..., N, F], float64."""
    values = features.double()
    mean = values.mean(dim=-2)
    centred = values - mean.unsqueeze(-2)
    return mean, centred.mT @ centred / values.shape[-2]


def matrix_root(covariance: Tensor) -> Tensor:
    """The symmetric square root [..., F, F] of covariances; what rounding made negative counts as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT
    return root


def frechet_distance(features: Tensor, *, real_mean: Tensor, real_root: Tensor) -> Tensor:
    """|m - m_r|^2 + tr(C + C_r - 2 (C_r^1/2 C C_r^1/2)^1/2) of features [R, N, F], N > 0: [R] float64.

    ``real_mean`` [F] and ``real_root`` [F, F] (``matrix_root`` of the covariance) are the real data's. The product in
    the middle is symmetric, so that an eigenvalue problem of symmetric matrices does what a general matrix root
    would; both have the same trace. With N samples a perfect sampler does not reach 0.
    Source: Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    mean, covariance = moments(features)
    roots = torch.linalg.eigvalsh(real_root @ covariance @ real_root).clamp_min(0).sqrt().sum(dim=-1)
    spread = covariance.diagonal(dim1=-2, dim2=-1).sum(dim=-1) + real_root.square().sum()
    distance: Tensor = (mean - real_mean).square().sum(dim=-1) + spread - 2 * roots
    return distance.clamp_min(0)
