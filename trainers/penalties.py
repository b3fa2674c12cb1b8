"""The penalties on the discriminator: a term of its loss, or a projection of its weights after the step.

Penalties and losses are independent factors of a study. Norms are per sample, never over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""Samples [R, batch, d] -> logits [R, batch]."""


class PenaltyTerm(Protocol):
    """Added to L_D: samples [R, batch, d], weight [R], epsilon [R, batch] uniform in [0, 1) -> [R]."""

    def __call__(
        self, discriminator: Discriminator, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor | None
    ) -> Tensor:
        """The term to add."""
        ...


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A term of L_D (``weight_name`` names its number), or ``clips_weights`` after each discriminator step."""

    name: str
    term: PenaltyTerm | None = None
    weight_name: str | None = None
    needs_epsilon: bool = False
    clips_weights: bool = False


def squared_gradient_norm(discriminator: Discriminator, samples: Tensor) -> Tensor:
    """|grad_x D(x)|^2 per sample: samples [R, batch, d] -> [R, batch], differentiable in D's parameters."""
    points = samples.detach().requires_grad_()
    logits = discriminator(points)
    (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return gradient.square().flatten(2).sum(-1)


def _gradient_penalty(
    discriminator: Discriminator, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor | None
) -> Tensor:
    """weight E (|grad D(xh)| - 1)^2 at xh = e x + (1 - e) y, one e per sample (Gulrajani et al. 2017, eq. 3)."""
    if epsilon is None:
        raise ValueError("gradient_penalty needs epsilon, one uniform number per sample")
    mix = epsilon.unsqueeze(-1)
    squared = squared_gradient_norm(discriminator, mix * real + (1 - mix) * fake)
    # The square root has no gradient at 0; a dead D must yield a finite penalty (1) and a zero gradient.
    norm = torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)
    return weight * (norm - 1).square().mean(-1)


def _r1(discriminator: Discriminator, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor | None) -> Tensor:
    """weight/2 E |grad D(x)|^2 on real samples (Mescheder et al. 2018, eq. 9)."""
    return 0.5 * weight * squared_gradient_norm(discriminator, real).mean(-1)


def _r2(discriminator: Discriminator, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor | None) -> Tensor:
    """weight/2 E |grad D(G(z))|^2 on fake samples (Mescheder et al. 2018, eq. 10)."""
    return 0.5 * weight * squared_gradient_norm(discriminator, fake).mean(-1)


def _r1_r2(
    discriminator: Discriminator, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor | None
) -> Tensor:
    """The sum of R1 and R2 under one weight, in one pass over both batches."""
    squared = squared_gradient_norm(discriminator, torch.cat([real, fake], dim=1))
    # mean over 2 x batch samples is half of R1's mean plus R2's mean, which cancels the one half
    return weight * squared.mean(-1)


PENALTIES: Mapping[str, Penalty] = MappingProxyType(
    {
        penalty.name: penalty
        for penalty in (
            Penalty(name="none"),
            Penalty(name="weight_clipping", weight_name="clip", clips_weights=True),
            Penalty(name="gradient_penalty", term=_gradient_penalty, weight_name="penalty_weight", needs_epsilon=True),
            Penalty(name="r1", term=_r1, weight_name="penalty_weight"),
            Penalty(name="r2", term=_r2, weight_name="penalty_weight"),
            Penalty(name="r1_r2", term=_r1_r2, weight_name="penalty_weight"),
        )
    }
)
"""Registry name -> penalty; formulas and references are in catalogue.PENALTIES."""
