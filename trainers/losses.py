"""The adversarial losses as pure functions of logits; high logit = more real, mean over the batch, minimised.

Every function takes ``real_logits`` and ``fake_logits`` of equal shape [..., batch] (any leading member axes) and
returns [...]. Stable softplus forms only: an epsilon inside a logarithm would make the non-saturating loss saturate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus


class LossFunction(Protocol):
    """Logits [..., batch] in, loss [...] out."""

    def __call__(self, *, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The loss to minimise."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Both players' objectives; ``pairs_real_and_fake`` marks generators that also read the real logits."""

    name: str
    discriminator: LossFunction
    generator: LossFunction
    pairs_real_and_fake: bool = False


def _checked(function: Callable[[Tensor, Tensor], Tensor]) -> LossFunction:
    """Refuse logits of different shapes: silent broadcasting is the classic loss bug."""

    def loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        if real_logits.shape != fake_logits.shape:
            raise ValueError(
                "real_logits and fake_logits must have the same shape [..., batch], "
                f"got {tuple(real_logits.shape)} and {tuple(fake_logits.shape)}"
            )
        return function(real_logits, fake_logits)

    return loss


def _logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean(-1) + softplus(fake).mean(-1)


def _saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    return -softplus(fake).mean(-1)


def _non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-fake).mean(-1)


def _critic(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean(-1) - real.mean(-1)


def _score_generator(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean(-1)


def _least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * ((real - 1).square().mean(-1) + fake.square().mean(-1))


def _least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (fake - 1).square().mean(-1)


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean(-1) + relu(1 + fake).mean(-1)


def _relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(fake - real).mean(-1)


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(real - fake).mean(-1)


def _loss(
    name: str,
    discriminator: Callable[[Tensor, Tensor], Tensor],
    generator: Callable[[Tensor, Tensor], Tensor],
    *,
    pairs_real_and_fake: bool = False,
) -> AdversarialLoss:
    return AdversarialLoss(
        name=name,
        discriminator=_checked(discriminator),
        generator=_checked(generator),
        pairs_real_and_fake=pairs_real_and_fake,
    )


LOSSES: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        loss.name: loss
        for loss in (
            _loss("minimax", _logistic_discriminator, _saturating_generator),
            _loss("non_saturating", _logistic_discriminator, _non_saturating_generator),
            _loss("wasserstein", _critic, _score_generator),
            _loss("least_squares", _least_squares_discriminator, _least_squares_generator),
            _loss("hinge", _hinge_discriminator, _score_generator),
            _loss("relativistic", _relativistic_discriminator, _relativistic_generator, pairs_real_and_fake=True),
        )
    }
)
"""Registry name -> loss; formulas and references are in catalogue.LOSSES."""


def value_function(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log sigmoid(D(x)) + E log(1 - sigmoid(D(G(z)))), nats, [..., batch] -> [...].

    Defined for every loss through sigmoid(logit); Goodfellow et al. 2014, equation 1. At D = 1/2 it is -log 4.
    """
    with torch.no_grad():
        return logsigmoid(real_logits).mean(-1) + logsigmoid(-fake_logits).mean(-1)
