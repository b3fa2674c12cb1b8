"""Algorithm 1 of Goodfellow et al. 2014, and the other orders of updates, as a generator of measurements.

To stop is not to ask for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from torch import Tensor

from trainers.captured import recorded
from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS, Draws
from trainers.evaluation import Judge
from trainers.measuring import Evaluation
from trainers.parts import Parts
from trainers.program import evaluation_steps

Gradient = tuple[Tensor, Tensor]
"""What a player's gradient, kept by the player, tells: the loss [R] and the gradient's norm [R]."""


def train(
    cohort: Cohort, judge: Judge, *, should_stop: Callable[[], bool] | None = None, at_once: int | None = None
) -> Iterator[Evaluation]:
    """Train to the horizon, yielding evaluation 0 before the first update and one at each evaluation step after.

    A restored cohort goes on where it stopped. ``should_stop`` is asked every few updates; once true, the iterator
    ends with the cohort between two updates, ready to be saved. ``at_once``: members trained at a time (see Parts).
    """
    program, parts = cohort.program, Parts(cohort, at_once=at_once)
    schedule = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    for index in range(cohort.evaluations_done, len(schedule)):
        while cohort.generator_step < schedule[index]:
            if should_stop is not None and should_stop():
                parts.hand_over()
                return
            until = (cohort.generator_step // BLOCK_STEPS + 1) * BLOCK_STEPS
            parts.advance(min(until, schedule[index]), by=advance)
        evaluation = parts.evaluate(judge, index=index)
        cohort.evaluations_done = index + 1
        yield evaluation


def advance(cohort: Cohort, step: int) -> None:
    """Generator updates up to ``step``; a cohort whose members all ended has nothing left to update."""
    if not bool(cohort.alive[: cohort.size].any()):
        cohort.generator_step = step
        return
    one_step = recorded(cohort, generator_step)
    while cohort.generator_step < step:
        draws, place = cohort.draws()
        one_step(cohort, draws, place)
        cohort.generator_step += 1


def generator_step(cohort: Cohort, draws: Draws, place: int) -> None:
    """One step of Algorithm 1, or of another order of updates, on the minibatches at ``place`` of a block."""
    with cohort.training():
        UPDATES[cohort.program.updates](cohort, draws, place)
    cohort.average_generator()


def _alternating(cohort: Cohort, draws: Draws, s: int) -> None:
    """Algorithm 1: k times {fresh noise, fresh data, discriminator step}, then {fresh noise, generator step}."""
    k = cohort.program.k
    for j in range(k):
        loss, norm = cohort.differentiate_discriminator(
            latents=draws.latents[:, s, j],
            real=draws.reals[:, s, j],
            noise=draws.noise(s, j),
        )
        cohort.update_discriminator(loss, norm, count=cohort.discriminator_steps + j + 1)
    loss, norm = cohort.differentiate_generator(
        latents=draws.latents[:, s, k], real=_paired(cohort, draws, s), noise=draws.noise(s, k)
    )
    cohort.update_generator(loss, norm, count=cohort.generator_step + 1)


def _simultaneous(cohort: Cohort, draws: Draws, s: int) -> None:
    """Both gradients at the same point, then both updates (k = 1); optimistic ones differ in the optimizer alone."""
    _update(cohort, *_differentiate(cohort, draws, s), count=cohort.generator_step + 1)


def _extragradient(cohort: Cohort, draws: Draws, s: int) -> None:
    """Gidel et al. 2019, Algorithm 4: a step ahead, fresh minibatches there, then the step from where it began.

    The optimizer's averages move at both steps, which it counts 1, 2, 3, ...; weights are clipped after both. Members
    that end on the way are put back too.
    """
    origin, count = cohort.positions(), 2 * cohort.generator_step
    _update(cohort, *_differentiate(cohort, draws, s), count=count + 1)
    ahead = _differentiate(cohort, draws, s + 1)
    cohort.return_to(origin)
    _update(cohort, *ahead, count=count + 2)


def _consensus(cohort: Cohort, draws: Draws, s: int) -> None:
    """Mescheder et al. 2017, Algorithm 2, on the minibatches of simultaneous updates (k = 1)."""
    gradients = cohort.differentiate_consensus(
        latents=draws.latents[:, s],
        real=draws.reals[:, s, 0],
        paired=_paired(cohort, draws, s),
        noises=(draws.noise(s, 0), draws.noise(s, 1)),
    )
    _update(cohort, *gradients, count=cohort.generator_step + 1)


def _differentiate(cohort: Cohort, draws: Draws, s: int) -> tuple[Gradient, Gradient]:
    """D's and G's gradients at the same point (k = 1)."""
    generator = cohort.differentiate_generator(
        latents=draws.latents[:, s, 1], real=_paired(cohort, draws, s), noise=draws.noise(s, 1)
    )
    discriminator = cohort.differentiate_discriminator(
        latents=draws.latents[:, s, 0], real=draws.reals[:, s, 0], noise=draws.noise(s, 0)
    )
    return discriminator, generator


def _update(cohort: Cohort, discriminator: Gradient, generator: Gradient, *, count: int) -> None:
    """Both updates, after both gradients; ``count`` numbers the optimizers' steps from 1."""
    cohort.update_discriminator(*discriminator, count=count)
    cohort.update_generator(*generator, count=count)


def _paired(cohort: Cohort, draws: Draws, s: int) -> Tensor | None:
    """The real minibatch that a paired loss shows to G, after the k of D."""
    return draws.reals[:, s, cohort.program.k] if cohort.loss.pairs_real_and_fake else None


UPDATES: Mapping[str, Callable[[Cohort, Draws, int], None]] = MappingProxyType(
    {
        "alternating": _alternating,
        "simultaneous": _simultaneous,
        "optimistic": _simultaneous,
        "extragradient": _extragradient,
        "consensus": _consensus,
    }
)
"""Registry name -> one generator step; formulas and references are in catalogue.UPDATES."""
