"""Algorithm 1 of Goodfellow et al. 2014 as a generator of measurements: to stop is not to ask for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS, Draws
from trainers.evaluation import Judge
from trainers.measuring import Evaluation, evaluate
from trainers.program import evaluation_steps


def train(cohort: Cohort, judge: Judge, *, should_stop: Callable[[], bool] | None = None) -> Iterator[Evaluation]:
    """Train to the horizon, yielding evaluation 0 before the first update and one at each evaluation step after.

    A restored cohort goes on where it stopped. ``should_stop`` is asked every few updates; once true, the iterator
    ends with the cohort between two updates, ready to be saved.
    """
    program = cohort.program
    schedule = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    for index in range(cohort.evaluations_done, len(schedule)):
        while cohort.generator_step < schedule[index]:
            if should_stop is not None and should_stop():
                return
            until = (cohort.generator_step // BLOCK_STEPS + 1) * BLOCK_STEPS
            advance(cohort, min(until, schedule[index]))
        evaluation = evaluate(cohort, judge, index=index)
        cohort.evaluations_done = index + 1
        yield evaluation


def advance(cohort: Cohort, step: int) -> None:
    """Generator updates up to ``step``; a cohort whose members all ended has nothing left to update."""
    if not bool(cohort.alive[: cohort.size].any()):
        cohort.generator_step = step
    update = _simultaneous if cohort.program.updates == "simultaneous" else _alternating
    while cohort.generator_step < step:
        draws, place = cohort.draws()
        update(cohort, draws, place)
        cohort.generator_step += 1


def _alternating(cohort: Cohort, draws: Draws, s: int) -> None:
    """Algorithm 1: k times {fresh noise, fresh data, discriminator step}, then {fresh noise, generator step}."""
    k = cohort.program.k
    for j in range(k):
        loss, norm = cohort.differentiate_discriminator(
            latents=draws.latents[:, s, j],
            real=draws.reals[:, s, j],
            epsilon=None if draws.epsilons is None else draws.epsilons[:, s, j],
        )
        cohort.update_discriminator(loss, norm, count=cohort.discriminator_steps + j + 1)
    paired = draws.reals[:, s, k] if cohort.loss.pairs_real_and_fake else None
    loss, norm = cohort.differentiate_generator(latents=draws.latents[:, s, k], real=paired)
    cohort.update_generator(loss, norm, count=cohort.generator_step + 1)


def _simultaneous(cohort: Cohort, draws: Draws, s: int) -> None:
    """Both gradients at the same point, then both updates (k = 1)."""
    paired = draws.reals[:, s, 1] if cohort.loss.pairs_real_and_fake else None
    generator = cohort.differentiate_generator(latents=draws.latents[:, s, 1], real=paired)
    discriminator = cohort.differentiate_discriminator(
        latents=draws.latents[:, s, 0],
        real=draws.reals[:, s, 0],
        epsilon=None if draws.epsilons is None else draws.epsilons[:, s, 0],
    )
    cohort.update_discriminator(*discriminator, count=cohort.generator_step + 1)
    cohort.update_generator(*generator, count=cohort.generator_step + 1)
