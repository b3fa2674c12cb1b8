"""What a study will cost: generator steps exactly, time roughly, from the networks' sizes (standard library only)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from study.network_size import dimensions, parameter_count, unit_count
from trainers.catalogue import gradient_evaluations_per_step
from trainers.program import Program

# Measured on one core of a two-core machine (AVX-512, torch 2.13, one thread), good to a third on others like it:
# ring (width 64, batch 128) 2,300 to 2,600 replicate-steps/s, digits (width 128, batch 64, latent 32) 1,300 to 1,400;
# 8 members of the ring 13 % slower than 24; k = 2 costs 1.4 to 1.5 times k = 1, R1 1.4 to 1.5 times no penalty.
FLOPS_PER_WORKER = 8.5e10
"""Arithmetic of one CPU core in stacked matrix products."""
ACTIVATION_S = 3.5e-9
"""Everything that passes over the activations: one unit for one sample, forward and backward."""
OVERHEAD_S = 2e-4
"""Launching the kernels of one gradient evaluation of a cohort, whatever its size."""
NATIVE_FLOPS_PER_WORKER, NATIVE_ACTIVATION_S, NATIVE_OVERHEAD_S = 1.08e11, 6e-10, 8e-5
"""The same of the compiled kernels: ring 5,300 to 5,700 replicate-steps/s, with width 32 over 12,000, digits 2,100."""
NATIVE_PENALTY = 0.55
"""A penalty, in gradient evaluations: torch needs a whole one, the compiled kernels one pass back and one ahead."""
EVALUATION_S, EVALUATION_S_PER_DIMENSION = 3.1e-3, 1.1e-4
"""Judging one replicate once, nearest neighbours at every fifth time: 3.3 ms on the ring, 8 to 12 ms on digits."""
PARAMETERS_S = 2e-4
"""The same where parameters are judged and samples are not (the Dirac-GAN)."""
STARTUP_S = 12.0
"""Ray, MLflow and the references, and sending the last results."""
MEMBER_MULTIPLE = 8
"""The member axis is padded to this multiple."""
EVALUATION_BYTES = 2**28
"""Room for the samples and latents of one evaluation of a cohort of automatic size; twice as much while it is made."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Cost of a plan on ``workers`` parallel workers.

    ``generator_steps`` counts stacked updates (over cohorts), ``replicate_steps`` generator steps times replicates;
    both are exact when no replicate dies. ``wall_s`` is rough.
    """

    generator_steps: int
    replicate_steps: int
    wall_s: float
    workers: int


def cohort_seconds(program: Program, members: int, *, kernels: str | None = None) -> float:
    """Rough time one CPU worker needs for a cohort: arithmetic of the padded members, kernel launches, evaluations.

    ``kernels`` as in a study's resources. How cohorts are cut must not depend on them: they may change on resume.
    """
    padded = -(-members // MEMBER_MULTIPLE) * MEMBER_MULTIPLE
    flops = 6 * parameter_count(program.networks, program.target) * program.batch_size
    units = unit_count(program.networks, program.target) * program.batch_size
    rate, activation_s, overhead_s, penalty = FLOPS_PER_WORKER, ACTIVATION_S, OVERHEAD_S, 1.0
    if kernels == "native" and compiled_as_a_whole(program):
        rate, activation_s, overhead_s = NATIVE_FLOPS_PER_WORKER, NATIVE_ACTIVATION_S, NATIVE_OVERHEAD_S
        penalty = NATIVE_PENALTY
    gradient_s = overhead_s + padded * (flops / rate + units * activation_s)
    gradients = program.horizon * _gradients_per_step(program, penalty=penalty)
    return gradients * gradient_s + (program.evaluations + 1) * members * _judging_seconds(program)


def _gradients_per_step(program: Program, *, penalty: float) -> float:
    """Gradient evaluations, of which one for the penalty costs ``penalty``."""

    def of(name: str) -> int:
        return gradient_evaluations_per_step(k=program.k, penalty=name, updates=program.updates)

    return of("none") + penalty * (of(program.penalty) - of("none"))


def compiled_as_a_whole(program: Program) -> bool:
    """Whether the compiled kernels play this game from minibatch to gradient, as ``trainers.native_game`` decides it.

    Others they serve in parts or not at all, at torch's pace or little better.
    """
    networks = program.networks
    plain = networks["name"] == "mlp" and not any(
        networks.get(name, "none") != "none" for name in ("batch_norm", "spectral_norm")
    )
    own = ":" in program.loss or ":" in program.penalty
    return plain and not own and program.updates != "consensus"


def _judging_seconds(program: Program) -> float:
    if program.target["name"] == "dirac":
        return PARAMETERS_S
    return EVALUATION_S + EVALUATION_S_PER_DIMENSION * dimensions(program.target)


def members_that_fit(program: Program) -> int:
    """Members whose evaluation keeps to EVALUATION_BYTES, at least MEMBER_MULTIPLE: matters for 1,000 modes."""
    latent_dim = program.networks.get("latent_dim", 0)
    numbers = dimensions(program.target) + (latent_dim if isinstance(latent_dim, int) else 0)
    fit = EVALUATION_BYTES // (4 * program.evaluation_samples * numbers)
    return max(fit // MEMBER_MULTIPLE, 1) * MEMBER_MULTIPLE


def makespan(seconds: Iterable[float], *, workers: int) -> float:
    """When the last of ``workers`` is done if each takes the longest job left whenever it is free."""
    busy = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + job)
    return max(busy)
