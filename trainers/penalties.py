"""The penalties on the discriminator: a term of its loss, noise on its inputs, or a projection of its weights.

Penalties and losses are independent factors of a study. Norms are per sample, never over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from trainers.imported import described, import_object

Discriminator = Callable[[Tensor], Tensor]
"""Samples [R, batch, d] -> logits [R, batch]."""


class PenaltyTerm(Protocol):
    """Added to L_D: samples [R, batch, d] and weight [R] -> [R].

    ``epsilon`` [R, batch], uniform in [0, 1), and ``noise`` [R, batch, d], standard normal, are given to penalties
    that ask for them. A term takes its chance from there only, so that a member depends on its own seed alone.
    """

    def __call__(
        self,
        discriminator: Discriminator,
        *,
        real: Tensor,
        fake: Tensor,
        weight: Tensor,
        epsilon: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        """The term to add."""
        ...


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A ``term`` of L_D, noise on D's inputs (``noises_inputs``), or ``clips_weights`` after each step of D.

    ``weight_name`` names its number; that of a term is penalty_weight. A penalty of your own is one of these with a
    term, named by import path in the study file. Raises ValueError for a term whose number has another name.
    """

    name: str
    term: PenaltyTerm | None = None
    weight_name: str | None = "penalty_weight"
    needs_epsilon: bool = False
    needs_noise: bool = False
    noises_inputs: bool = False
    clips_weights: bool = False

    def __post_init__(self) -> None:
        if (self.term is not None) != (self.weight_name == "penalty_weight"):
            raise ValueError(
                f"weight_name of {self.name} must be 'penalty_weight' exactly when it has a term, "
                f"got {self.weight_name!r} and {'a term' if self.term else 'no term'}"
            )


def squared_gradient_norm(discriminator: Discriminator, samples: Tensor) -> Tensor:
    """|grad_x D(x)|^2 per sample: samples [R, batch, d] -> [R, batch], differentiable in D's parameters.

    Samples that depend on G's parameters keep doing so, for updates that differentiate the whole game (consensus).
    """
    points = samples if samples.requires_grad else samples.detach().requires_grad_()
    logits = discriminator(points)
    (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return gradient.square().flatten(2).sum(-1)


def gradient_norm(discriminator: Discriminator, samples: Tensor) -> Tensor:
    """|grad_x D(x)| per sample, [R, batch, d] -> [R, batch]; where it is 0, so is its own gradient."""
    squared = squared_gradient_norm(discriminator, samples)
    # The square root has no gradient at 0; a dead D must yield a finite penalty (1) and a zero gradient.
    return torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)


def _gradient_penalty(
    discriminator: Discriminator,
    *,
    real: Tensor,
    fake: Tensor,
    weight: Tensor,
    epsilon: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """weight E (|grad D(xh)| - 1)^2 at xh = e x + (1 - e) y, one e per sample (Gulrajani et al. 2017, eq. 3)."""
    if epsilon is None:
        raise ValueError("gradient_penalty needs epsilon, one uniform number per sample")
    mix = epsilon.unsqueeze(-1)
    norm = gradient_norm(discriminator, mix * real + (1 - mix) * fake)
    return weight * (norm - 1).square().mean(-1)


def _dragan(
    discriminator: Discriminator,
    *,
    real: Tensor,
    fake: Tensor,
    weight: Tensor,
    epsilon: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """weight E (|grad D(x + d)| - 1)^2 around real samples, d ~ N(0, (s/2)^2) (Kodali et al. 2017).

    s is the standard deviation of all numbers of the member's real minibatch. The paper's d is normal of a variance
    left open; its authors' code draws d uniform in [0, s/2), which moves every point up and to the right, and scales
    it by one further uniform number per sample; other codes centre it, or scale each coordinate. We take the paper's
    law and the code's scale: symmetric, and no number to tune when the data are scaled.
    """
    if noise is None:
        raise ValueError("dragan needs noise, standard normal numbers of the samples' shape")
    scale = real.flatten(1).std(1, correction=0).view(-1, 1, 1)
    norm = gradient_norm(discriminator, real + 0.5 * scale * noise)
    return weight * (norm - 1).square().mean(-1)


def _r1(
    discriminator: Discriminator,
    *,
    real: Tensor,
    fake: Tensor,
    weight: Tensor,
    epsilon: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """weight/2 E |grad D(x)|^2 on real samples (Mescheder et al. 2018, eq. 9)."""
    return 0.5 * weight * squared_gradient_norm(discriminator, real).mean(-1)


def _r2(
    discriminator: Discriminator,
    *,
    real: Tensor,
    fake: Tensor,
    weight: Tensor,
    epsilon: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """weight/2 E |grad D(G(z))|^2 on fake samples (Mescheder et al. 2018, eq. 10)."""
    return 0.5 * weight * squared_gradient_norm(discriminator, fake).mean(-1)


def _r1_r2(
    discriminator: Discriminator,
    *,
    real: Tensor,
    fake: Tensor,
    weight: Tensor,
    epsilon: Tensor | None,
    noise: Tensor | None,
) -> Tensor:
    """The sum of R1 and R2 under one weight, in one pass over both batches."""
    squared = squared_gradient_norm(discriminator, torch.cat([real, fake], dim=1))
    # mean over 2 x batch samples is half of R1's mean plus R2's mean, which cancels the one half
    return weight * squared.mean(-1)


PENALTIES: Mapping[str, Penalty] = MappingProxyType(
    {
        penalty.name: penalty
        for penalty in (
            Penalty(name="none", weight_name=None),
            Penalty(name="weight_clipping", weight_name="clip", clips_weights=True),
            Penalty(name="gradient_penalty", term=_gradient_penalty, needs_epsilon=True),
            Penalty(name="r1", term=_r1),
            Penalty(name="r2", term=_r2),
            Penalty(name="r1_r2", term=_r1_r2),
            Penalty(name="dragan", term=_dragan, needs_noise=True),
            Penalty(name="instance_noise", weight_name="noise_std", noises_inputs=True),
        )
    }
)
"""Registry name -> penalty; formulas and references are in catalogue.PENALTIES."""


def find_penalty(name: str) -> Penalty:
    """The penalty of this registry name, or the user's own by import path ``package.module:name``.

    Raises ValueError for an unknown name, what cannot be imported, and what is no Penalty with a term.
    """
    if ":" not in name:
        if name not in PENALTIES:
            raise ValueError(f"penalty must be one of {', '.join(PENALTIES)}, or module:name, got {name!r}")
        return PENALTIES[name]
    found = import_object(name, field="penalty")
    if not isinstance(found, Penalty):
        raise ValueError(f"penalty must name a trainers.penalties.Penalty, {name} is {described(found)}")
    if found.term is None or found.clips_weights or found.noises_inputs:
        raise ValueError(f"a penalty of your own must be a term of L_D and nothing else, {name} is not")
    return found
