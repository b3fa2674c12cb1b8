"""The first step of every program that runs code of the user's own, tried before a study begins."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from study.canonical import digest
from study.configurations import Configuration
from study.problems import FieldPath, Problems
from study.user_code import is_import_path
from trainers.cohort import Cohort
from trainers.conformance import check_discriminator
from trainers.draws import Draws
from trainers.imported import described
from trainers.precision import BFLOAT16, FLOAT32
from trainers.program import Member, Program

PLAYERS = ("discriminator", "generator")

_RTOL, _ATOL = 1e-4, 1e-6
"""What rounding may do to a member beside another neighbour; a member that is mixed with it moves by far more."""


def dry_run(made: Sequence[Configuration]) -> None:
    """Tries what the user's own networks, losses and penalties do on the first step of each program, on the CPU.

    One replicate of each; k, budget and the values of factors make no difference. Raises SpecError with the entry, the
    rule and what was got instead: an exception, a wrong shape, mixed members, a number that is not finite at step 0.
    Whether a loss is a sensible one is not asked here: see trainers.conformance.
    """
    problems = Problems()
    places = {label: i for i, label in enumerate(dict.fromkeys(entry.loss for entry in made))}
    programs: dict[str, Configuration] = {}
    for entry in made:
        parts = [entry.adversarial_loss, entry.penalty, entry.networks, entry.target, _here(entry.program())]
        programs.setdefault(digest(parts, length=64), entry)
    for entry in programs.values():
        own = _own_parts(entry, places[entry.loss])
        try:
            if own:
                _rehearse(entry.program(), entry.member(0), own=tuple(own))
        except _Fault as fault:
            path, name = own[fault.part]
            problems.add(path, f"{name} (loss {entry.loss!r}): {fault.rule}")
    problems.raise_if_any()


def _own_parts(entry: Configuration, place: int) -> dict[str, tuple[FieldPath, str]]:
    """Where the study file names code of the user's own, and what: by networks, loss, penalty."""
    named: dict[str, tuple[FieldPath, object]] = {
        "networks": (("networks", "name"), entry.networks["name"]),
        "loss": (("scientific", "loss", place, "name"), entry.adversarial_loss),
        "penalty": (("scientific", "loss", place, "penalty"), entry.penalty),
    }
    return {part: (path, str(name)) for part, (path, name) in named.items() if is_import_path(name)}


class _Fault(Exception):  # noqa: N818
    """The user's own ``part`` breaks ``rule``."""

    def __init__(self, part: str, rule: str) -> None:
        super().__init__(rule)
        self.part, self.rule = part, rule


@contextlib.contextmanager
def _blaming(own: Sequence[str], *parts: str, doing: str) -> Iterator[None]:
    """What is raised inside is a fault of the first of ``parts`` that is the user's own; else it stays an exception."""
    part = next((part for part in parts if part in own), "")
    try:
        yield
    except _Fault:
        raise
    except Exception as error:  # the user's code may fail in any way
        if not part:
            raise
        raise _Fault(part, f"{doing} raised {type(error).__name__}: {error}") from error


def _here(program: Program) -> str:
    """The precision of a rehearsal: the program's, but on the CPU there is no TF32."""
    return program.precision if program.precision == BFLOAT16 else FLOAT32


def _rehearse(program: Program, member: Member, *, own: Sequence[str]) -> None:
    """One D and one G differentiation of one member, part by part; raises _Fault with the first that fails."""
    once: dict[str, Any] = {"k": 1, "updates": "alternating", "horizon": 1, "evaluations": 1, "measurements": ()}
    short = replace(program, **once, precision=_here(program))
    with _blaming(own, "networks", "loss", "penalty", doing="building it"):
        cohort = Cohort.start(short, [member])
    draws, _ = cohort.draws()
    with _blaming(own, "networks", doing="its first forward pass"):
        cohort.discriminate(cohort.initial_samples)  # another number of samples than a minibatch
        real, fake = draws.reals[:, 0, 0], cohort.generate(draws.latents[:, 0, 0])
        logits = {"real_logits": cohort.discriminate(real), "fake_logits": cohort.discriminate(fake)}
    if "networks" in own:
        for what, numbers in (("the generator's samples", fake), *logits.items()):
            _require_finite(numbers, part="networks", what=what)
        if cohort.penalty.term is not None:
            _check_critic(cohort)
    if "loss" in own:
        with _blaming(own, "loss", doing="its first call"):
            _check_loss(cohort, **logits)
    if "penalty" in own:
        with _blaming(own, "penalty", doing="its first call"):
            _check_penalty(cohort, draws, real=real, fake=fake)
    with cohort.training():
        _check_steps(cohort, draws, own=own)


def _check_critic(cohort: Cohort) -> None:
    """Under a per-sample penalty no sample may change another's logit, as batch normalisation does."""
    members, dimensions = len(cohort.seeds), cohort.target.dimensions
    broken = check_discriminator(cohort.discriminate, members=members, dimensions=dimensions)
    if broken:
        raise _Fault("networks", f"the discriminator: {broken[0]}")


def _check_loss(cohort: Cohort, *, real_logits: Tensor, fake_logits: Tensor) -> None:
    """Shape, gradient, finiteness and independence of members of both players' losses."""
    for player in PLAYERS:
        function = getattr(cohort.loss, player)

        def value(real: Tensor, fake: Tensor, function: Callable[..., object] = function) -> object:
            return function(real_logits=real, fake_logits=fake)

        what = f"the {player}'s loss"
        real, fake = (logits.detach().requires_grad_() for logits in (real_logits, fake_logits))
        _check_term(value, real, fake, part="loss", what=what, rule="for logits [R, batch]")
        if player == "generator" and not cohort.loss.pairs_real_and_fake:
            moved = value(real_logits + 1, fake_logits)
            if not torch.equal(_tensor(moved), _tensor(value(real_logits, fake_logits))):
                rule = "reads real logits, so its AdversarialLoss must say pairs_real_and_fake=True"
                raise _Fault("loss", f"{what} {rule} (without it, it is given fake logits in their place)")


def _check_penalty(cohort: Cohort, draws: Draws, *, real: Tensor, fake: Tensor) -> None:
    """Shape, gradient, finiteness, independence of members and the weight of a term."""
    noise, term = draws.noise(0, 0), cohort.penalty.term
    assert term is not None, "find_penalty lets no other of the user's pass"
    ones = torch.ones(len(real), device=cohort.device, dtype=cohort.dtype)

    def value(real: Tensor, fake: Tensor, weight: Tensor = ones) -> object:
        return term(
            lambda points: cohort.discriminate(points, learn=True),
            real=real,
            fake=fake,
            weight=weight,
            epsilon=noise.epsilon,
            noise=noise.penalty,
        )

    _check_term(value, real, fake, part="penalty", what="its term", rule="for samples [R, batch, d]")
    without = _tensor(value(real, fake, torch.zeros_like(ones)))
    if bool((without != 0).any()):
        raise _Fault("penalty", f"its term must be 0 at weight 0 (got {without[0].item():g}): multiply by weight")


def _check_term(
    value: Callable[[Tensor, Tensor], object], real: Tensor, fake: Tensor, *, part: str, what: str, rule: str
) -> None:
    """``value`` is one differentiable, finite number for each member, from that member's arguments alone."""
    members = len(real)
    first = value(real, fake)
    if not isinstance(first, Tensor) or first.shape != (members,):
        got = f"shape {list(first.shape)}" if isinstance(first, Tensor) else described(first)
        expected = f"a tensor of shape [R], one number for each member, {rule}"
        raise _Fault(part, f"{what} must be {expected} (got {got} for R = {members} and a batch of {real.shape[1]})")
    if not first.requires_grad:
        raise _Fault(part, f"{what} must be differentiable (got a tensor without gradient: detached, or made anew)")
    _require_finite(first, part=part, what=what)
    real, fake, first = real.detach(), fake.detach(), first.detach()
    if not torch.equal(_tensor(value(real, fake)), first):
        raise _Fault(part, f"{what} must be the same for the same arguments (two calls gave different numbers)")
    other = [_with_other_first_member(samples) for samples in (real, fake)]
    if not torch.allclose(_tensor(value(other[0], other[1]))[1:], first[1:], rtol=_RTOL, atol=_ATOL):
        raise _Fault(part, f"{what} must not mix members: the first one's arguments changed the others' numbers")


def _with_other_first_member(samples: Tensor) -> Tensor:
    changed = samples.clone()
    changed[0] = 3 * changed[0] + 5
    return changed


def _check_steps(cohort: Cohort, draws: Draws, *, own: Sequence[str]) -> None:
    """Both players' gradients, as the loop takes them."""
    with _blaming(own, "penalty", "networks", "loss", doing="the discriminator's first gradient"):
        loss, norm = cohort.differentiate_discriminator(
            latents=draws.latents[:, 0, 0], real=draws.reals[:, 0, 0], noise=draws.noise(0, 0)
        )
    _require_step(loss, norm, part=_first(own, "penalty", "networks", "loss"), player="discriminator")
    paired = draws.reals[:, 0, 1] if cohort.loss.pairs_real_and_fake else None
    with _blaming(own, "loss", "networks", "penalty", doing="the generator's first gradient"):
        loss, norm = cohort.differentiate_generator(
            latents=draws.latents[:, 0, 1], real=paired, noise=draws.noise(0, 1)
        )
    _require_step(loss, norm, part=_first(own, "loss", "networks", "penalty"), player="generator")


def _first(own: Sequence[str], *parts: str) -> str:
    return next(part for part in parts if part in own)


def _require_step(loss: Tensor, norm: Tensor, *, part: str, player: str) -> None:
    _require_finite(loss, part=part, what=f"the {player}'s first loss")
    _require_finite(norm, part=part, what=f"the norm of the {player}'s first gradient")


def _require_finite(numbers: Tensor, *, part: str, what: str) -> None:
    bad = numbers[~torch.isfinite(numbers)]
    if len(bad):
        raise _Fault(part, f"{what} must be finite at step 0 (got {bad[0].item():g})")


def _tensor(value: object) -> Tensor:
    """A value whose first call gave a tensor."""
    assert isinstance(value, Tensor), f"a tensor at the first call, now {described(value)}"
    return value.detach()
