"""Metrics of generated samples as pure stages, samples -> features -> statistics -> number, over a leading member axis.

Nothing here reduces over members, and every function wants finite samples; ``evaluation.py`` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FAIR_SHARE_NEEDED = 0.2
"""A mode counts as covered from this share of its fair share of all samples on."""

NEIGHBOURS = 5
"""k of the nearest-neighbour measurements (Naeem et al. 2020)."""

PRODUCT_ROWS = 16
"""Rows of a product from which on a row's sums are added up alike, however many there are."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which mode each sample falls to, [R, N] int64, and whether it is close to it, [R, N] bool."""

    mode: Tensor
    high_quality: Tensor


# --- sliced Wasserstein-1 -----------------------------------------------------------------------


def sorted_projections(samples: Tensor, projections: Tensor) -> Tensor:
    """Project samples [R, N, d] on unit vectors [P, d] and sort each projection: [R, P, N]."""
    projected = torch.matmul(projections, samples.transpose(1, 2))
    if projected.device.type == "cpu":  # numpy sorts float32 with SIMD: 0.2 ms where torch takes 5 (128 x 1,000)
        return torch.from_numpy(np.sort(projected.numpy(), axis=-1))
    return torch.sort(projected, dim=-1).values


def real_quantiles(reals: Tensor, projections: Tensor, n: int) -> Tensor:
    """Quantiles (i + 1/2) / n of real samples [M, d] under projections [P, d]: [P, n] float32.

    Between order statistics the quantile function is linear (Hazen); with M = n it returns the sorted sample itself.
    """
    levels = (np.arange(n) + 0.5) / n
    projected = torch.matmul(projections.double(), reals.double().T).numpy()
    quantiles = np.quantile(projected, levels, axis=1, method="hazen").T
    return torch.from_numpy(quantiles.astype(np.float32))


def sliced_wasserstein(samples: Tensor, *, projections: Tensor, quantiles: Tensor) -> Tensor:
    """Mean over projections [P, d] of W1 between samples [R, N, d] and real quantiles [P, N]: [R] float64."""
    gap = (sorted_projections(samples, projections) - quantiles).abs_()
    return gap.mean(dim=(1, 2), dtype=torch.float64)


# --- modes --------------------------------------------------------------------------------------


def assign_to_centres(samples: Tensor, *, centres: Tensor, radius: float) -> Assignment:
    """Assign samples [R, N, d] to the nearest of centres [K, d]; high quality = within ``radius`` of it."""
    # the matrix-multiplication form of cdist would lose the small distances to rounding
    distances = torch.cdist(samples, centres, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, mode = distances.min(dim=-1)
    return Assignment(mode=mode, high_quality=nearest <= radius)


def assign_to_classes(samples: Tensor, *, logits: Tensor, class_reals: tuple[Tensor, ...], radii: Tensor) -> Assignment:
    """Assign samples [R, N, d] to the most probable class of logits [R, N, K].

    High quality = no farther from the nearest real sample of that class (``class_reals``: K tensors [M_k, d])
    than ``radii`` [K].
    """
    mode = logits.argmax(dim=-1)
    if samples.device.type == "cpu":
        nearest = _nearest_of_own_class(samples.flatten(0, -2), mode.flatten(), class_reals).view_as(mode)
    else:
        each = torch.stack([squared_distances(samples, reals).amin(dim=-1) for reals in class_reals], dim=-1)
        nearest = each.gather(-1, mode.unsqueeze(-1)).squeeze(-1)
    return Assignment(mode=mode, high_quality=nearest.sqrt() <= radii[mode])


def _nearest_of_own_class(samples: Tensor, label: Tensor, class_reals: tuple[Tensor, ...]) -> Tensor:
    """Squared distance of samples [N, d] to the nearest real of their class [N]: others' distances are not looked at.

    Products of fewer than five rows round differently: rows are added up to PRODUCT_ROWS, and thrown away.
    """
    nearest = samples.new_empty(len(samples))
    for k, reals in enumerate(class_reals):
        rows = (label == k).nonzero().squeeze(1)
        enough = torch.cat([rows, rows[:1].expand(max(PRODUCT_ROWS - len(rows), 0))]) if len(rows) else rows
        nearest[rows] = squared_distances(samples[enough], reals).amin(dim=-1)[: len(rows)]
    return nearest


def mode_counts(mode: Tensor, n_modes: int, *, where: Tensor | None = None) -> Tensor:
    """Samples per mode: [R, K] float64 from modes [R, N], counting only those ``where`` is true."""
    counted = mode if where is None else torch.where(where, mode, n_modes)
    if mode.device.type == "cpu":
        rows = [np.bincount(row, minlength=n_modes + 1)[:n_modes] for row in counted.flatten(0, -2).numpy()]
        return torch.from_numpy(np.stack(rows)).double().view(*mode.shape[:-1], n_modes)
    # sorting, not scatter_add: that one is not deterministic on CUDA
    edges = torch.arange(n_modes + 1, device=mode.device).expand(*mode.shape[:-1], -1).contiguous()
    return torch.searchsorted(counted.sort(dim=-1).values, edges).diff(dim=-1).double()


def mode_coverage(counts: Tensor, weights: Tensor) -> Tensor:
    """Share of modes that hold >= 20 % of their fair share: [R] from counts [R, K] and target weights [K]."""
    fair = weights * counts.sum(dim=-1, keepdim=True)
    # the tolerance keeps 62.5 x .2 = 12.5 and 20 x 1 = 20 on the right side of rounding
    return (counts >= FAIR_SHARE_NEEDED * fair - 1e-9).double().mean(dim=-1)


def mode_kl(counts: Tensor, weights: Tensor) -> Tensor:
    """KL(generated histogram || target weights) in nats, with 0 log 0 = 0: [R] ("reverse KL" of PacGAN)."""
    share = counts / counts.sum(dim=-1, keepdim=True)
    return (torch.xlogy(share, share) - torch.xlogy(share, weights)).sum(dim=-1).clamp_min(0.0)


def mode_kl_off(assignment: Assignment, weights: Tensor, *, off_mode: float) -> Tensor:
    """KL(generated || real) over K modes and one bin for samples on none, in nats: [R] float64.

    A sample is on its mode where it is of high quality. ``off_mode`` > 0 is the share of real data that is not
    (e^-4.5 for round Gaussians in the plane), so that a perfect sampler of N samples scores about K / (2 N), and one
    that misses every mode -ln(off_mode). Each mode's real share is its weight [K] of the rest.
    """
    counts = mode_counts(assignment.mode, len(weights), where=assignment.high_quality)
    off = assignment.mode.shape[-1] - counts.sum(dim=-1, keepdim=True)
    real = torch.cat([weights * (1.0 - off_mode), weights.new_tensor([off_mode])])
    return mode_kl(torch.cat([counts, off], dim=-1), real)


def mode_measurements(assignment: Assignment, weights: Tensor) -> dict[str, Tensor]:
    """The four mode measurements, each [R] float64, against target weights [K]."""
    counts = mode_counts(assignment.mode, len(weights))
    good_counts = mode_counts(assignment.mode, len(weights), where=assignment.high_quality)
    return {
        "mode_coverage": mode_coverage(counts, weights),
        "modes_covered": (good_counts >= 1).double().sum(dim=-1),
        "high_quality_fraction": assignment.high_quality.double().mean(dim=-1),
        "mode_kl": mode_kl(counts, weights),
    }


# --- nearest neighbours -------------------------------------------------------------------------


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances [..., N, M] of rows of a [..., N, d] and b [M, d] or [..., M, d]."""
    cross = torch.matmul(a, b.transpose(-1, -2))
    return (cross.mul_(-2.0).add_(a.square().sum(-1).unsqueeze(-1)).add_(b.square().sum(-1).unsqueeze(-2))).clamp_min_(
        0
    )


def neighbour_radii(points: Tensor, *, neighbours: int = NEIGHBOURS) -> Tensor:
    """Squared distance of each point [..., N, d] to its k-th nearest other point: [..., N] float64."""
    distances = squared_distances(points.double(), points.double())
    # a point's distance to itself is zero by definition: rounding must not let it pass for a neighbour
    distances.diagonal(dim1=-2, dim2=-1).zero_()
    return distances.topk(neighbours + 1, dim=-1, largest=False).values[..., -1]


def neighbour_measurements(
    fakes: Tensor, *, reals: Tensor, real_radii: Tensor, neighbours: int = NEIGHBOURS
) -> dict[str, Tensor]:
    """Precision, recall, density and coverage of fakes [R, N, d] against reals [M, d], each [R] float64.

    ``real_radii`` [M] are ``neighbour_radii(reals)``. A ball's edge is outside it.
    Source: Naeem et al. 2020, arXiv:2002.09797.
    """
    # float64: the expanded square loses half its digits, and ties with a radius decide counts
    distances = squared_distances(fakes.double(), reals.double())
    inside_real = distances < real_radii
    inside_fake = distances < neighbour_radii(fakes, neighbours=neighbours).unsqueeze(-1)
    balls_met = _count(inside_real, dim=-1)
    return {
        "knn_precision": (balls_met > 0).double().mean(dim=-1),
        "knn_recall": (_count(inside_fake, dim=-2) > 0).double().mean(dim=-1),
        "knn_density": balls_met.double().mean(dim=-1) / neighbours,
        "knn_coverage": (_count(inside_real, dim=-2) > 0).double().mean(dim=-1),
    }


def _count(mask: Tensor, *, dim: int) -> Tensor:
    if mask.device.type == "cpu":  # numpy adds up truths in a fifth of the time that torch takes
        return torch.from_numpy(mask.numpy().sum(axis=dim, dtype=np.int32))
    return mask.sum(dim=dim)
