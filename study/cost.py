"""What a study will cost: generator steps exactly, time roughly, from the networks' sizes (standard library only)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainers.catalogue import gradient_evaluations_per_step
from trainers.program import Program

FLOPS_PER_WORKER = 2e10
"""Arithmetic of one CPU core in small stacked matrix products; whole estimates are good to a factor of about three."""
OVERHEAD_S = 1e-3
"""Launching the kernels of one gradient evaluation of a cohort, whatever its size."""
EVALUATION_S = 2e-6
"""Judging one generated sample of one replicate."""
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
    samples = _DIMENSIONS.get(str(target["name"]), _PLANAR)
    hidden = (depth - 1) * (width + 1) * width
    generator = (latent + 1) * width + hidden + (width + 1) * samples
    discriminator = (samples + 1) * width + hidden + width + 1
    return generator + discriminator


def _size(networks: Mapping[str, object], name: str) -> int:
    value = networks.get(name)
    return value if isinstance(value, int) else _ASSUMED[name]


def cohort_seconds(program: Program, members: int) -> float:
    """Rough time one worker needs for a cohort: arithmetic of the padded members, kernel launches, evaluations."""
    padded = -(-members // MEMBER_MULTIPLE) * MEMBER_MULTIPLE
    gradients = program.horizon * gradient_evaluations_per_step(k=program.k, penalty=program.penalty)
    flops = 6 * parameter_count(program.networks, program.target) * program.batch_size
    judged = (program.evaluations + 1) * program.evaluation_samples * members
    return gradients * (OVERHEAD_S + padded * flops / FLOPS_PER_WORKER) + judged * EVALUATION_S


def makespan(seconds: Iterable[float], *, workers: int) -> float:
    """When the last of ``workers`` is done if each takes the longest job left whenever it is free."""
    busy = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + job)
    return max(busy)
