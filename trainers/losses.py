"""The adversarial losses as pure functions of logits; high logit = more real, mean over the batch, minimised.

Every function takes ``real_logits`` and ``fake_logits`` of equal shape [..., batch] (any leading member axes) and
returns [...]. Stable softplus forms only: an epsilon inside a logarithm would make the non-saturating loss saturate.
Nothing is clamped: where a loss overflows, it is infinite, and the member that meets it ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

from trainers.imported import described, import_object


class LossFunction(Protocol):
    """Logits [..., batch] in, loss [...] out."""

    def __call__(self, *, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The loss to minimise."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Both players' objectives; ``pairs_real_and_fake`` marks generators that also read the real logits.

    Without that mark the generator's loss is given the fake logits in place of the real ones. A loss of your own is one
    of these, named by import path in the study file.
    """

    name: str
    discriminator: LossFunction
    generator: LossFunction
    pairs_real_and_fake: bool = False


Formula = Callable[[Tensor, Tensor], Tensor]
"""A loss as it is written here: (real, fake) logits of one shape."""


def _checked(function: Formula) -> LossFunction:
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


def _relativistic_average_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Each logit against the mean of the other side's (Jolicoeur-Martineau 2018, RaSGAN).

    The paper's L_D is the sum of the two expectations; the half, as in its author's code, keeps the gradient on the
    scale of the paired loss.
    """
    above = real - fake.mean(-1, keepdim=True)
    below = fake - real.mean(-1, keepdim=True)
    return 0.5 * (softplus(-above).mean(-1) + softplus(below).mean(-1))


def _relativistic_average_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss with the roles of real and fake swapped."""
    return _relativistic_average_discriminator(fake, real)


def _kl_conjugate(t: Tensor) -> Tensor:
    """f*(t) = sup_u>=0 (u t - u log u) = exp(t - 1), for every t: the supremum lies at u = exp(t - 1).

    Overflows to infinity beyond t = 89.7 in single precision (709.8 in double), honestly: see the module.
    """
    return torch.exp(t - 1)


def _pearson_conjugate(t: Tensor) -> Tensor:
    """f*(t) = sup_u (u t - (u - 1)^2) = t^2/4 + t, for every t, the supremum at u = 1 + t/2 taken over all real u.

    Over u >= 0, the only ratios there are, it would be -1 below t = -2. We keep the paper's parabola: it agrees
    wherever the optimal T = 2 (p/q - 1) >= -2 lies and is larger below, so the bound on the divergence still holds.
    Below -2 its slope is negative: both players pull T back towards the domain, like least squares beyond its labels.
    """
    return 0.25 * t.square() + t


def _f_gan(conjugate: Callable[[Tensor], Tensor]) -> tuple[Formula, Formula]:
    """L_D = -E T(x) + E f*(T(y)) and L_G = -E f*(T(y)), with T = D since both output activations are g(v) = v.

    Nowozin et al. 2016, table 2. -L_D bounds D_f(P || Q) = E_q f(p/q) from below, with equality at
    T = f'(p/q): 1 + log(p/q) for KL(P || Q), 2 (p/q - 1) for the Pearson divergence E_q (p/q - 1)^2.
    """

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return conjugate(fake).mean(-1) - real.mean(-1)

    def generator(real: Tensor, fake: Tensor) -> Tensor:
        return -conjugate(fake).mean(-1)

    return discriminator, generator


def _loss(
    name: str,
    discriminator: Formula,
    generator: Formula,
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
            _loss(
                "relativistic_average",
                _relativistic_average_discriminator,
                _relativistic_average_generator,
                pairs_real_and_fake=True,
            ),
            _loss("f_gan_kl", *_f_gan(_kl_conjugate)),
            _loss("f_gan_pearson", *_f_gan(_pearson_conjugate)),
        )
    }
)
"""Registry name -> loss; formulas and references are in catalogue.LOSSES."""


def find_loss(name: str) -> AdversarialLoss:
    """The loss of this registry name, or the user's own by import path ``package.module:name``.

    Raises ValueError for an unknown name, what cannot be imported, and what is no AdversarialLoss.
    """
    if ":" not in name:
        if name not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or module:name, got {name!r}")
        return LOSSES[name]
    found = import_object(name, field="loss")
    if not isinstance(found, AdversarialLoss):
        raise ValueError(f"loss must name a trainers.losses.AdversarialLoss, {name} is {described(found)}")
    return found


def value_function(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log sigmoid(D(x)) + E log(1 - sigmoid(D(G(z)))), nats, [..., batch] -> [...].

    Defined for every loss through sigmoid(logit); Goodfellow et al. 2014, equation 1. At D = 1/2 it is -log 4.
    """
    with torch.no_grad():
        return logsigmoid(real_logits).mean(-1) + logsigmoid(-fake_logits).mean(-1)
