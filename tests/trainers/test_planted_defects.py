"""Defects of well-known code, planted one by one: the conformance check must catch each and name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.test_conformance import SLOPE_CLOSED_FORMS, linear_critic_law
from trainers.conformance import check_loss, check_penalty
from trainers.losses import AdversarialLoss
from trainers.penalties import Penalty, squared_gradient_norm

# ---- losses ----


def loss_of(
    d: Callable[[Tensor, Tensor], Tensor], g: Callable[[Tensor, Tensor], Tensor], **changes: Any
) -> AdversarialLoss:
    return AdversarialLoss(
        name=changes.pop("name", "planted"),
        discriminator=lambda *, real_logits, fake_logits: d(real_logits, fake_logits),
        generator=lambda *, real_logits, fake_logits: g(real_logits, fake_logits),
        **changes,
    )


sp, logit_to_p = nn.functional.softplus, torch.sigmoid


def bce(real: Tensor, fake: Tensor) -> Tensor:
    return sp(-real).mean(-1) + sp(fake).mean(-1)


def non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    return sp(-fake).mean(-1)


def squares(p: Tensor, target: float) -> Tensor:
    return 0.5 * (p - target).square().mean(-1)


def half_detached(real: Tensor, fake: Tensor) -> Tensor:
    return sp(fake - real.mean(-1, keepdim=True).detach()).mean(-1) + sp(-real).mean(-1)


PLANTED_LOSSES: dict[str, tuple[AdversarialLoss, str]] = {
    "non-saturating sold as minimax": (
        loss_of(bce, non_saturating, name="minimax"),
        "it is 'non_saturating' under another name",
    ),
    "two names for one loss": (loss_of(bce, non_saturating, name="vanilla"), "it is 'non_saturating' under another"),
    "epsilon inside the generator's logarithm": (
        loss_of(bce, lambda r, f: -(logit_to_p(f) + 1e-8).log().mean(-1)),
        "generator: its gradient is dead at fake logits of -80",
    ),
    "epsilon inside the discriminator's logarithms": (
        loss_of(
            lambda r, f: -((logit_to_p(r) + 1e-8).log() + (1 - logit_to_p(f) + 1e-8).log()).mean(-1), non_saturating
        ),
        "discriminator: at a real logit of -80, its worst error, its gradient is only",
    ),
    "logarithm of a sigmoid": (
        loss_of(lambda r, f: -(logit_to_p(r).log() + (1 - logit_to_p(f)).log()).mean(-1), non_saturating),
        "discriminator: its value or gradient is not finite at a real logit of",
    ),
    "sum instead of mean": (loss_of(lambda r, f: sp(-r).sum(-1) + sp(f).sum(-1), non_saturating), "never the sum"),
    "generator's sum instead of mean": (loss_of(bce, lambda r, f: -f.sum(-1)), "generator: the same batch twice"),
    "a critic whose low score means real": (
        loss_of(lambda r, f: r.mean(-1) - f.mean(-1), lambda r, f: f.mean(-1)),
        "discriminator: it must raise real logits",
    ),
    "critic and generator pull the same way": (
        loss_of(lambda r, f: r.mean(-1) - f.mean(-1), lambda r, f: -f.mean(-1)),
        "both players pull fake logits in (0, 1) the same way",
    ),
    "real and fake swapped": (loss_of(lambda r, f: bce(f, r), non_saturating), "it must lower fake logits"),
    "generator that maximises the discriminator's success": (
        loss_of(bce, lambda r, f: sp(f).mean(-1)),
        "generator: it must raise fake logits",
    ),
    "least squares with the real target -1": (
        loss_of(lambda r, f: squares(r, -1) + squares(f, 0), lambda r, f: squares(f, 1)),
        "discriminator: it must raise real logits",
    ),
    "least squares on sigmoid outputs": (
        loss_of(
            lambda r, f: squares(logit_to_p(r), 1) + squares(logit_to_p(f), 0), lambda r, f: squares(logit_to_p(f), 1)
        ),
        "at a fake logit of 80, its worst error, its gradient is only",
    ),
    "mean over the members too": (
        loss_of(lambda r, f: bce(r, f).mean() + 0 * r.mean(-1), non_saturating),
        "a member's loss depends on the other members",
    ),
    "one number for all members": (loss_of(lambda r, f: bce(r, f).mean(), non_saturating), "got ()"),
    "batch axis first": (loss_of(lambda r, f: bce(r.mT, f.mT), non_saturating), "must give a loss [2, 3]"),
    "a detached mean": (
        loss_of(half_detached, lambda r, f: -f.mean(-1) + 0 * r.mean(-1)),
        "its gradient for a real logit is",
    ),
    "reads real logits unasked": (loss_of(bce, lambda r, f: sp(r - f).mean(-1)), "declare pairs_real_and_fake=True"),
    "asks for real logits it never reads": (
        loss_of(bce, lambda r, f: (f - 2).square().mean(-1), pairs_real_and_fake=True),
        "only costs real samples",
    ),
    "adjacent samples mixed": (
        loss_of(lambda r, f: bce(r, f) + (f[..., 0] - f[..., -1]), non_saturating),
        "in another order changes the loss",
    ),
    "single precision inside": (loss_of(lambda r, f: bce(r.float(), f), lambda r, f: -f.float().mean(-1)), "float64"),
    "logits changed in place": (
        loss_of(bce, lambda r, f: -f.copy_(f.clamp(-1, 1)).mean(-1)),
        "it changes the logits it is given",
    ),
    "code that fails": (loss_of(bce, lambda r, f: f.no_such_method()), "raised AttributeError when asked whether"),
}


@pytest.mark.parametrize("defect", PLANTED_LOSSES)
def test_a_planted_defect_of_a_loss_is_caught_and_named(defect: str) -> None:
    loss, sentence = PLANTED_LOSSES[defect]
    assert any(sentence in problem for problem in check_loss(loss)), check_loss(loss)


def test_positional_arguments_of_a_loss_are_caught() -> None:
    loss = AdversarialLoss(
        name="planted",
        discriminator=lambda fake_logits, real_logits: bce(real_logits, fake_logits),
        generator=lambda *, fake: -fake.mean(-1),  # type: ignore[misc, arg-type]
    )
    assert check_loss(loss) == [
        "discriminator: (fake_logits, real_logits) must be keyword-only (`*` before them): positions get swapped",
        "generator: it takes (fake), not (real_logits, fake_logits)",
    ]


def test_a_sound_loss_of_ones_own_conforms() -> None:
    # Nowozin et al. 2016, reverse KL: g(v) = -exp(-v), f*(t) = -1 - log(-t); in v, L_D = E exp(-x) + E (y - 1)
    reverse_kl = loss_of(lambda r, f: (-r).exp().mean(-1) + f.mean(-1) - 1, lambda r, f: 1 - f.mean(-1))
    assert check_loss(reverse_kl) == []


# ---- penalties ----


def gradients(critic: Callable[[Tensor], Tensor], points: Tensor, *, keep: bool = True) -> Tensor:
    points = points.detach().requires_grad_()
    return torch.autograd.grad(critic(points).sum(), points, create_graph=keep)[0]


def penalty_of(term: Callable[..., Tensor], **changes: Any) -> Penalty:
    return Penalty(name="planted", term=term, **changes)


def mixed(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    return epsilon[..., None] * real + (1 - epsilon[..., None]) * fake


def whole_batch(critic: Any, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor, noise: None) -> Tensor:
    return weight * (gradients(critic, mixed(real, fake, epsilon)).flatten(1).norm(dim=1) - 1).square()


def batch_root_mean_square(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * (squared_gradient_norm(critic, real).mean(-1).sqrt() - 1).square()


def batch_axis(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * (gradients(critic, real).norm(dim=1) - 1).square().mean(-1)


def member_axis(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * (gradients(critic, real).norm(dim=0) - 1).square().mean()


def one_epsilon(critic: Any, *, real: Tensor, fake: Tensor, weight: Tensor, epsilon: Tensor, noise: None) -> Tensor:
    return weight * squared_gradient_norm(critic, mixed(real, fake, epsilon[:, :1])).mean(-1)


def no_graph(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * gradients(critic, real, keep=False).square().sum(-1).mean(-1)


def half_graph(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    slope = gradients(critic, real)
    return weight * (slope * slope.detach()).sum(-1).mean(-1)


def bare_root(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * (squared_gradient_norm(critic, real).sqrt() - 1).square().mean(-1)


def mean_square(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * gradients(critic, real).square().mean(-1).mean(-1)


def batch_sum(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * squared_gradient_norm(critic, real).sum(-1)


def fixed_weight(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return 10 * squared_gradient_norm(critic, real).mean(-1) + 0 * weight


def own_dice(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * squared_gradient_norm(critic, real + torch.rand_like(real)).mean(-1)


def scaled_in_place(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * squared_gradient_norm(critic, real.mul_(0.5)).mean(-1)


def unread(critic: Any, *, real: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return weight * squared_gradient_norm(critic, real).mean(-1)


PLANTED_PENALTIES: dict[str, tuple[Penalty, str]] = {
    "norm over the whole batch": (penalty_of(whole_batch, needs_epsilon=True), "norm of each sample's own gradient"),
    "root mean square over the batch": (penalty_of(batch_root_mean_square), "each sample's own, never the batch's"),
    "norm along the batch": (penalty_of(batch_axis), "the same batch twice changes the term"),
    "norm along the members": (penalty_of(member_axis), "a member's term depends on the other members"),
    "one epsilon per batch": (penalty_of(one_epsilon, needs_epsilon=True), "never one per batch"),
    "no graph of the inner gradient": (penalty_of(no_graph), "create_graph=True"),
    "half the graph": (penalty_of(half_graph), "its gradient in the critic's parameters is"),
    "bare square root": (penalty_of(bare_root), "at a constant critic its value or gradient is not finite"),
    "mean over the coordinates": (penalty_of(mean_square), "a norm sums the squares over the coordinates"),
    "sum over the batch": (penalty_of(batch_sum), "the same batch twice changes the term"),
    "weight ignored": (penalty_of(fixed_weight), "weights of 0 and 3 times as much"),
    "dice of its own": (penalty_of(own_dice), "asked twice it gives two values"),
    "samples changed in place": (penalty_of(scaled_in_place), "it changes real"),
    "asks for noise it never reads": (penalty_of(unread, needs_noise=True), "the noise of samples [0, 1, 2, 3] of 4"),
    "two kinds at once": (penalty_of(unread, clips_weights=True), "it must be one of"),
    "clipping under another number": (
        Penalty(name="planted", weight_name="noise_std", clips_weights=True),
        "weight_name must be 'clip'",
    ),
    "positional arguments": (
        penalty_of(lambda critic, real, fake, weight, epsilon, noise: weight),
        "must be keyword-only",
    ),
}


@pytest.mark.parametrize("defect", PLANTED_PENALTIES)
def test_a_planted_defect_of_a_penalty_is_caught_and_named(defect: str) -> None:
    penalty, sentence = PLANTED_PENALTIES[defect]
    assert any(sentence in problem for problem in check_penalty(penalty)), check_penalty(penalty)


def test_a_sound_penalty_of_ones_own_conforms() -> None:
    # the drift term of progressive GANs (Karras et al. 2018) reads logits rather than slopes
    assert check_penalty(penalty_of(lambda critic, *, real, weight, **_: weight * critic(real).square().mean(-1))) == []
    assert check_penalty(penalty_of(unread)) == []


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_r1_without_its_one_half_is_caught(batch: int) -> None:
    whole = penalty_of(unread)
    assert check_penalty(whole) == [], "no general rule can know the paper's constant: the closed form must"
    with pytest.raises(AssertionError):
        linear_critic_law(whole, SLOPE_CLOSED_FORMS["r1"], batch)
