"""What a study will cost: generator steps exactly, time roughly, from the networks' sizes (standard library only)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
EVALUATION_S, EVALUATION_S_PER_DIMENSION = 3.1e-3, 1.1e-4
"""Judging one replicate once, nearest neighbours at every fifth time: 3.3 ms on the ring, 8 to 12 ms on digits."""
STARTUP_S = 12.0
"""Ray, MLflow and the references, and sending the last results."""
MEMBER_MULTIPLE = 8
"""The member axis is padded to this multiple."""

_DIMENSIONS = {"digits": 64}
_PLANAR = 2
_ASSUMED = {"latent_dim": 16, "width": 64, "depth": 2}


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


def parameter_count(networks: Mapping[str, object], target: Mapping[str, object]) -> int:
    """Weights of both players of an MLP; networks of the user's own are taken to be of the default size."""
    latent, width, depth = (_size(networks, name) for name in ("latent_dim", "width", "depth"))
    samples = dimensions(target)
    hidden = (depth - 1) * (width + 1) * width
    generator = (latent + 1) * width + hidden + (width + 1) * samples
    discriminator = (samples + 1) * width + hidden + width + 1
    return generator + discriminator


def unit_count(networks: Mapping[str, object], target: Mapping[str, object]) -> int:
    """Units of both players of an MLP, without their inputs."""
    return 2 * _size(networks, "depth") * _size(networks, "width") + dimensions(target) + 1


def dimensions(target: Mapping[str, object]) -> int:
    """Numbers in one flat sample."""
    return _DIMENSIONS.get(str(target["name"]), _PLANAR)


def _size(networks: Mapping[str, object], name: str) -> int:
    value = networks.get(name)
    return value if isinstance(value, int) else _ASSUMED[name]


def cohort_seconds(program: Program, members: int) -> float:
    """Rough time one CPU worker needs for a cohort: arithmetic of the padded members, kernel launches, evaluations."""
    padded = -(-members // MEMBER_MULTIPLE) * MEMBER_MULTIPLE
    gradients = program.horizon * gradient_evaluations_per_step(k=program.k, penalty=program.penalty)
    flops = 6 * parameter_count(program.networks, program.target) * program.batch_size
    units = unit_count(program.networks, program.target) * program.batch_size
    gradient_s = OVERHEAD_S + padded * (flops / FLOPS_PER_WORKER + units * ACTIVATION_S)
    judging_s = members * (EVALUATION_S + EVALUATION_S_PER_DIMENSION * dimensions(program.target))
    return gradients * gradient_s + (program.evaluations + 1) * judging_s


def makespan(seconds: Iterable[float], *, workers: int) -> float:
    """When the last of ``workers`` is done if each takes the longest job left whenever it is free."""
    busy = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + job)
    return max(busy)
