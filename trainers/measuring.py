"""One evaluation of a cohort: every measurement of every member, from the parameters as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.averaging import of_average
from trainers.cadence import groups_due, measures_neighbours
from trainers.cohort import Cohort
from trainers.diagnoses import diagnose
from trainers.draws import Stream, generator, normal
from trainers.evaluation import Judge
from trainers.losses import value_function
from trainers.measurement import MEASUREMENTS, columns
from trainers.program import sample_evaluations

CHUNK_SAMPLES = 500
"""Samples generated in one pass: bounds the memory of the hidden layers, and fits the cache."""

HUGE = 1e300
"""From here on a number is no number: SQL stores turn infinity into 1.797e308."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What every real member reports at one evaluation.

    ``values``: measurement name -> float64 [R], NaN where it is not measured now or the member has ended;
    ``finite`` [R]: alive after this evaluation; ``death_step`` int64 [R]: generator step of the first non-finite
    number, -1 while alive; ``samples`` float32 [R, n, d] on fixed latents, at some evaluations only.
    """

    index: int
    generator_step: int
    discriminator_steps: int
    samples_seen: int
    values: dict[str, np.ndarray]
    finite: np.ndarray
    death_step: np.ndarray
    samples: np.ndarray | None


def evaluate(cohort: Cohort, judge: Judge, *, index: int) -> Evaluation:
    """Measure every member; one whose measurements are not finite ends at this step, optional ones apart.

    The optional groups of the program are diagnoses: where one is not finite, it is absent and its member lives on.
    """
    program = cohort.program
    fakes = _fakes(cohort, index)
    fixed = cohort.samples()
    measured = _scores(cohort, judge, fakes) | _gradient_norms(cohort, index)
    measured["displacement"] = (fixed - cohort.initial_samples).square().sum(-1).sqrt().mean(-1)
    measured = {name: value[: cohort.size] for name, value in measured.items()}
    due = measures_neighbours(program, index)
    groups = groups_due(program, index)
    # the padding is not judged
    measured |= judge.measure(fakes[: cohort.size], nearest_neighbours=due, groups=groups)
    measured |= judge.measure_parameters(
        generator=cohort.generator.flat[: cohort.size], discriminator=cohort.discriminator.flat[: cohort.size]
    )
    judged = [value for name, value in measured.items() if name in MEASUREMENTS]
    finite = torch.stack([torch.isfinite(value) for value in judged]).all(0)
    cohort.end(~finite, at_step=cohort.generator_step)
    measured |= diagnose(cohort, judge.reals[: program.evaluation_samples], index=index)
    if "average" in program.measurements:  # beside the raw one: what is not finite here ends nobody
        measured |= _of_average(cohort, judge, index)
    return Evaluation(
        index=index,
        generator_step=cohort.generator_step,
        discriminator_steps=cohort.discriminator_steps,
        samples_seen=cohort.samples_seen,
        values=_tidy(cohort, measured),
        finite=_numpy(cohort, cohort.alive),
        death_step=_numpy(cohort, cohort.death_step),
        samples=_numpy(cohort, fixed) if index in sample_evaluations(program.evaluations) else None,
    )


def _of_average(cohort: Cohort, judge: Judge, index: int) -> dict[str, Tensor]:
    """The averaged generators measured on the latents, and with the discriminators, of the raw ones."""
    fakes = _fakes(cohort, index, averaged=True)[: cohort.size]
    assert cohort.averaged is not None
    measured = judge.measure(fakes, nearest_neighbours=measures_neighbours(cohort.program, index))
    measured |= judge.measure_parameters(
        generator=cohort.averaged[: cohort.size], discriminator=cohort.discriminator.flat[: cohort.size]
    )
    return of_average(measured)


def _fakes(cohort: Cohort, index: int, *, averaged: bool = False) -> Tensor:
    """Fresh samples [R, evaluation_samples, d] for this evaluation, from the members' evaluation streams."""
    generate = cohort.generate_averaged if averaged else cohort.generate
    count = cohort.program.evaluation_samples
    latents = normal(cohort.seeds, Stream.EVALUATION, 2 * index, (count, cohort.networks.latent_dim))
    chunks = [generate(chunk.to(cohort.device, cohort.dtype)) for chunk in torch.split(latents, CHUNK_SAMPLES, dim=1)]
    return torch.cat(chunks, dim=1)


@torch.no_grad()
def _scores(cohort: Cohort, judge: Judge, fakes: Tensor) -> dict[str, Tensor]:
    """Losses, value function, mean sigmoid(D) and accuracies on held-out reals and as many fakes."""
    count = min(judge.reals.shape[0], fakes.shape[1])
    real = judge.reals[:count].to(cohort.device, cohort.dtype).expand(len(cohort.seeds), -1, -1)
    logits = {"real_logits": cohort.discriminate(real), "fake_logits": cohort.discriminate(fakes[:, :count])}
    real_logits, fake_logits = logits["real_logits"], logits["fake_logits"]
    return {
        "discriminator_loss": cohort.loss.discriminator(**logits),
        "generator_loss": cohort.loss.generator(**logits),
        "value_function": value_function(**logits),
        "mean_sigmoid_real": real_logits.sigmoid().mean(-1),
        "mean_sigmoid_fake": fake_logits.sigmoid().mean(-1),
        "accuracy_real": (real_logits > 0).float().mean(-1),
        "accuracy_fake": (fake_logits < 0).float().mean(-1),
    }


def _gradient_norms(cohort: Cohort, index: int) -> dict[str, Tensor]:
    """Both players' gradient norms on a minibatch of the evaluation streams; nothing is updated."""
    batch, latent_dim = cohort.program.batch_size, cohort.networks.latent_dim
    latents = normal(cohort.seeds, Stream.EVALUATION, 2 * index + 1, (2, batch, latent_dim))
    latents = latents.to(cohort.device, cohort.dtype)
    reals, epsilons = [], []
    for seed in cohort.seeds:
        rng = generator(seed, Stream.EVALUATION_DATA, index)
        reals.append(cohort.target.sample(rng, batch))
        epsilons.append(rng.random(batch, dtype=np.float32))
    real = torch.from_numpy(np.stack(reals)).to(cohort.device, cohort.dtype)
    epsilon = torch.from_numpy(np.stack(epsilons)).to(cohort.device, cohort.dtype)
    noise = cohort.evaluation_noise(index, epsilon=epsilon)
    _, discriminator_norm = cohort.differentiate_discriminator(latents=latents[:, 0], real=real, noise=noise)
    _, generator_norm = cohort.differentiate_generator(latents=latents[:, 1], real=real, noise=noise)
    return {"discriminator_gradient_norm": discriminator_norm, "generator_gradient_norm": generator_norm}


def _tidy(cohort: Cohort, measured: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Every measurement of the schema as float64 [R]; NaN for what was not measured and for members that ended.

    And for an optional measurement that is no finite number, which an always measured one of a living member is.
    """
    ended = ~_numpy(cohort, cohort.alive)
    values = {}
    for name in columns(cohort.program.measurements):
        value = np.full(cohort.size, np.nan)
        if name in measured:
            value = _numpy(cohort, measured[name]).astype(np.float64)
        if name not in MEASUREMENTS:
            value[~(np.abs(value) < HUGE)] = np.nan
        value[ended] = np.nan
        values[name] = value
    return values


def _numpy(cohort: Cohort, tensor: Tensor) -> np.ndarray:
    return tensor[: cohort.size].detach().cpu().numpy().copy()
