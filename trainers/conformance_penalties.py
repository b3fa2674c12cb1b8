"""The rules of a penalty; each yields a sentence about what is broken, and nothing when it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from trainers.conformance_losses import keywords, spread
from trainers.penalties import Discriminator, Penalty

MEMBERS, BATCH, DIMENSIONS = 2, 4, 3


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a term is given beside the critic: samples [R, B, d], weight [R], its share of chance or None."""

    real: Tensor
    fake: Tensor
    weight: Tensor
    epsilon: Tensor | None
    noise: Tensor | None

    def batches(self, change: Callable[[Tensor], Tensor]) -> Given:
        """Every batch [R, B, ...] changed in the same way."""
        epsilon, noise = (None if x is None else change(x) for x in (self.epsilon, self.noise))
        return replace(self, real=change(self.real), fake=change(self.fake), epsilon=epsilon, noise=noise)

    def only(self, member: int) -> Given:
        """One member's part."""
        rows = slice(member, member + 1)
        return replace(self.batches(lambda x: x[rows]), weight=self.weight[rows])


def _given(penalty: Penalty, *, dtype: torch.dtype = torch.float64, dimensions: int = DIMENSIONS) -> Given:
    shape = (MEMBERS, BATCH, dimensions)
    return Given(
        real=spread(*shape, dtype=dtype),
        fake=spread(*shape, phase=0.3, dtype=dtype),
        weight=torch.tensor([1.5, 2.5], dtype=dtype),
        epsilon=spread(*shape[:2], low=0.05, high=0.95, phase=0.6, dtype=dtype) if penalty.needs_epsilon else None,
        noise=spread(*shape, low=-0.5, high=0.5, phase=0.9, dtype=dtype) if penalty.needs_noise else None,
    )


def _weights(*, dtype: torch.dtype = torch.float64, dead: bool = False) -> list[Tensor]:
    """Parameters of the critics of both members: [R, d, h], [R, 1, h], [R, h, 1]; a dead one is constant."""
    shapes = ((MEMBERS, DIMENSIONS, 3), (MEMBERS, 1, 3), (MEMBERS, 3, 1))
    weights = [spread(*shape, phase=0.2 * i, dtype=dtype) for i, shape in enumerate(shapes)]
    return [(0 * w if dead else w).requires_grad_() for w in weights]


def _critic(weights: list[Tensor]) -> Discriminator:
    """A smooth critic with another slope at every point."""
    first, bias, second = weights
    return lambda x: (torch.tanh(x @ first + bias) @ second).squeeze(-1)


def _linear(slope: Tensor) -> Discriminator:
    """D(x) = s w.x with |w| = 1 and s = ``slope[0]`` where x_0 < 0, ``slope[1]`` elsewhere; further axes ignored."""
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=slope.dtype)
    return lambda x: torch.where(x[..., 0] < 0, slope[0], slope[1]) * (x[..., :3] @ direction)


def _term(penalty: Penalty, critic: Discriminator, given: Given) -> Tensor:
    if penalty.term is None:
        raise ValueError(f"{penalty.name} has no term")
    return penalty.term(critic, **{f.name: getattr(given, f.name) for f in fields(given)})


def _declaration(penalty: Penalty) -> Iterator[str]:
    """It is a term of L_D, a clipping of weights, noise on D's inputs or nothing, under its number's name."""
    kinds = [penalty.term is not None, penalty.clips_weights, penalty.noises_inputs]
    if sum(kinds) > 1:
        yield "it must be one of a term, clips_weights and noises_inputs, so that a study can tell them apart"
    expected = dict(zip(("penalty_weight", "clip", "noise_std"), kinds, strict=True))
    wanted = next((name for name, is_it in expected.items() if is_it), None)
    if penalty.weight_name != wanted:
        yield f"weight_name must be {wanted!r}, got {penalty.weight_name!r}"
    if penalty.term is None and (penalty.needs_epsilon or penalty.needs_noise):
        yield "needs_epsilon and needs_noise are for terms"


def _signature(penalty: Penalty) -> Iterator[str]:
    """The critic comes first, all else is given by name."""
    given = tuple(f.name for f in fields(Given))
    yield from keywords(penalty.term, given, positional=1)


def _shape(penalty: Penalty) -> Iterator[str]:
    """Samples [R, batch, d] give one number per member, [R], in the same precision, and are left as they were."""
    for dtype in (torch.float32, torch.float64):
        given = _given(penalty, dtype=dtype)
        before = {f.name: None if (x := getattr(given, f.name)) is None else x.clone() for f in fields(given)}
        value = _term(penalty, _critic(_weights(dtype=dtype)), given)
        if not isinstance(value, Tensor) or value.shape != (MEMBERS,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            yield f"samples [2, 4, 3] must give a term [2], one number for each member, got {got}"
            return
        if value.dtype != dtype:
            yield f"samples of {dtype} must give a term of {dtype}, got {value.dtype}"
        for name, x in before.items():
            if x is not None and not torch.equal(x, getattr(given, name)):
                yield f"it changes {name}, which the loss still needs"


def _same_draws(penalty: Penalty) -> Iterator[str]:
    """The same inputs give the same term."""
    given, critic = _given(penalty), _critic(_weights())
    if not torch.equal(_term(penalty, critic, given), _term(penalty, critic, given)):
        yield "asked twice it gives two values: take chance from epsilon or noise only, or no run can be repeated"


def _mean(penalty: Penalty) -> Iterator[str]:
    """A batch repeated twice has the same term."""
    given, critic = _given(penalty), _critic(_weights())
    once, twice = (
        _term(penalty, critic, given),
        _term(penalty, critic, given.batches(lambda x: torch.cat([x, x], dim=1))),
    )
    if not torch.allclose(once, twice, rtol=1e-9):
        yield (
            f"the same batch twice changes the term from {once[0]:.4g} to {twice[0]:.4g}: take the norm of each "
            "sample's own gradient (the last axis), then the mean over the batch"
        )


def _order(penalty: Penalty) -> Iterator[str]:
    """Samples in another order have the same term."""
    given, critic = _given(penalty), _critic(_weights())
    forward, backward = _term(penalty, critic, given), _term(penalty, critic, given.batches(lambda x: x.flip(1)))
    if not torch.allclose(forward, backward, rtol=1e-9):
        yield f"the same batch in another order changes the term from {forward[0]:.6g} to {backward[0]:.6g}"


def _per_sample(penalty: Penalty) -> Iterator[str]:
    """The term of a batch is the mean of its samples' terms: norms are per sample."""
    near = _given(penalty)
    far = replace(near, real=near.real + 10, fake=near.fake + 10)
    near = replace(near, real=near.real - 10, fake=near.fake - 10)
    both = near.batches(lambda x: torch.cat([x, x], dim=1))
    both = replace(both, real=torch.cat([near.real, far.real], dim=1), fake=torch.cat([near.fake, far.fake], dim=1))
    # a linear critic on each side, so that it does not matter where on a side a point lies
    critic = _linear(torch.tensor([0.4, 2.0], dtype=torch.float64, requires_grad=True))
    separate = (_term(penalty, critic, near) + _term(penalty, critic, far)) / 2
    together = _term(penalty, critic, both)
    if not torch.allclose(together, separate, rtol=1e-9):
        yield (
            f"samples of slope 0.4 and 2 have the term {together[0]:.4g} together and {separate[0]:.4g} on average: "
            "the norm is each sample's own, never the batch's"
        )


def _euclidean(penalty: Penalty) -> Iterator[str]:
    """A coordinate that the critic ignores changes nothing."""
    critic = _linear(torch.tensor([1.7, 1.7], dtype=torch.float64, requires_grad=True))
    narrow, wide = _given(penalty, dimensions=DIMENSIONS), _given(penalty, dimensions=DIMENSIONS + 2)
    moved = replace(narrow, real=narrow.real + 0.25, fake=narrow.fake - 0.25)
    before, after, elsewhere = (_term(penalty, critic, given) for given in (narrow, wide, moved))
    if not torch.allclose(before, elsewhere, rtol=1e-9):
        return  # it reads logits, not slopes alone: other coordinates also mean other samples here
    if not torch.allclose(before, after, rtol=1e-9):
        yield (
            f"two coordinates that the critic ignores change the term from {before[0]:.4g} to {after[0]:.4g}: "
            "a norm sums the squares over the coordinates, it is no mean"
        )


def _members(penalty: Penalty) -> Iterator[str]:
    """Each member's term and gradient are those it has alone."""
    weights, given = _weights(), _given(penalty)
    together = _term(penalty, _critic(weights), given)
    gradients = torch.autograd.grad(together.sum(), weights, allow_unused=True, materialize_grads=True)
    for member in range(MEMBERS):
        own = [w.detach()[member : member + 1].clone().requires_grad_() for w in weights]
        alone = _term(penalty, _critic(own), given.only(member))
        pulls = torch.autograd.grad(alone.sum(), own, allow_unused=True, materialize_grads=True)
        same = torch.isclose(together[member], alone[0], rtol=1e-9) and all(
            torch.allclose(g[member], p[0], rtol=1e-9) for g, p in zip(gradients, pulls, strict=True)
        )
        if not same:
            yield "a member's term depends on the other members: keep the first axis apart"
            return


def _weight(penalty: Penalty) -> Iterator[str]:
    """The term is proportional to the weight, and weight 0 is no penalty."""
    given, weights = _given(penalty), _weights()
    once = _term(penalty, _critic(weights), given)
    scaled = _term(penalty, _critic(weights), replace(given, weight=given.weight * torch.tensor([0.0, 3.0])))
    if not torch.allclose(scaled, once * torch.tensor([0.0, 3.0]), rtol=1e-9):
        yield f"weights of 0 and 3 times as much must give terms of 0 and 3 times, got {(scaled / once).tolist()}"
    gradients = torch.autograd.grad(scaled[0], weights, allow_unused=True, materialize_grads=True)
    if any(bool((g[0] != 0).any()) for g in gradients):
        yield "at weight 0 it still pulls on the critic"


def _own_chance(penalty: Penalty) -> Iterator[str]:
    """Every sample has an epsilon (or a noise) of its own."""
    given, critic = _given(penalty), _critic(_weights())
    before = _term(penalty, critic, given)
    for name in ("epsilon", "noise"):
        drawn = getattr(given, name)
        if drawn is None:
            continue
        idle = []
        for sample in range(BATCH):
            moved = drawn.clone()
            moved[:, sample] = 0.5 * moved[:, sample]
            if torch.allclose(_term(penalty, critic, replace(given, **{name: moved})), before, rtol=1e-12):
                idle.append(sample)
        if idle:
            yield (
                f"the {name} of samples {idle} of {BATCH} changes nothing: one for each sample, never one per batch "
                f"(and needs_{name}=False for a term that uses none)"
            )


def _teaches(penalty: Penalty) -> Iterator[str]:
    """Its gradient reaches the critic."""
    if not _term(penalty, _critic(_weights()), _given(penalty)).requires_grad:
        yield "it sends no gradient to the critic: the inner gradient needs create_graph=True"


def _gradient(penalty: Penalty) -> Iterator[str]:
    """Its gradient in the critic's parameters is that of its value, by central differences."""
    given, weights, h = _given(penalty), _weights(), 1e-5
    value = _term(penalty, _critic(weights), given)
    gradients = torch.autograd.grad(value.sum(), weights, allow_unused=True, materialize_grads=True)
    for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        direction = spread(*weight.shape, phase=0.5)
        ends = []
        for sign in (1, -1):
            moved = [w.detach().clone().requires_grad_() for w in weights]
            moved[index] = (weight.detach() + sign * h * direction).requires_grad_()
            ends.append(_term(penalty, _critic(moved), given).sum().item())
        slope, claimed = (ends[0] - ends[1]) / (2 * h), (gradient * direction).sum().item()
        if abs(slope - claimed) > 1e-5 * (1 + abs(slope)):
            yield (
                f"its gradient in the critic's parameters is {claimed:.6g} along a line where its value has the "
                f"slope {slope:.6g}: detached?"
            )
            return


def _dead(penalty: Penalty) -> Iterator[str]:
    """At a constant critic the term and its gradient are finite."""
    weights = _weights(dead=True)
    value = _term(penalty, _critic(weights), _given(penalty))
    gradients = torch.autograd.grad(value.sum(), weights, allow_unused=True, materialize_grads=True)
    if not torch.isfinite(value).all() or not all(bool(torch.isfinite(g).all()) for g in gradients):
        yield "at a constant critic its value or gradient is not finite: the square root has no gradient at 0"


def mixing(discriminator: Discriminator, members: int, dimensions: int) -> Iterator[str]:
    """A sample's logit depends on that sample and member alone."""
    samples = spread(members, BATCH, dimensions, dtype=torch.float32)
    beside, elsewhere = samples.clone(), samples.clone()
    beside[:, 1:] = 1 - 2 * beside[:, 1:]
    elsewhere[1:] = 1 - 2 * elsewhere[1:]
    with torch.no_grad():
        logits = discriminator(samples)
        if logits.shape != (members, BATCH):
            got = tuple(logits.shape)
            yield f"samples [{members}, {BATCH}, {dimensions}] must give logits [{members}, {BATCH}], got {got}"
            return
        rounding = 1e-4 * logits.abs().max()
        if (discriminator(beside)[:, 0] - logits[:, 0]).abs().max() > rounding:
            yield (
                "a sample's logit changes with the rest of its batch (batch normalisation?): a per-sample gradient "
                "penalty means nothing for such a critic"
            )
        if (discriminator(elsewhere)[0] - logits[0]).abs().max() > rounding:
            yield "a member's logits change with the samples of other members"


FORM = (_declaration,)
"""Rules of every penalty."""

TERM_FORM = (*FORM, _signature, _shape, _teaches)
"""Rules of a term, each of which must hold before the next can be asked, and all of them before RULES."""

RULES = (_same_draws, _mean, _order, _per_sample, _euclidean, _members, _weight, _own_chance, _gradient, _dead)
