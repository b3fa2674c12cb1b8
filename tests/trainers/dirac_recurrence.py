"""The Dirac-GAN by hand, in numpy: derivatives written out per loss, no torch, nothing of the trainer's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


# (dL_D/d fake logit, -dL_G/d fake logit) as functions of the fake logit t; the real logit is always 0
SLOPES_AT: Mapping[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "minimax": (sigmoid, sigmoid),
    "non_saturating": (sigmoid, lambda t: sigmoid(-t)),
    "relativistic": (sigmoid, lambda t: sigmoid(-t)),
    "wasserstein": (lambda t: 1.0, lambda t: 1.0),
    "least_squares": (lambda t: t, lambda t: 1 - t),
    "hinge": (lambda t: 1.0 if t > -1 else 0.0, lambda t: 1.0),
}


def trajectory(
    loss: str,
    *,
    rate: float,
    steps: int,
    start: tuple[float, float],
    gamma: float = 0.0,
    k: int = 1,
    simultaneous: bool = False,
    clip: float = math.inf,
    one_centred: float = 0.0,
) -> np.ndarray:
    """(theta, psi) after 0, 1, ..., ``steps`` generator steps, [steps + 1, 2]; stops where it leaves 1e30.

    ``gamma``: R1 (gamma/2 psi^2); ``one_centred``: lambda (|psi| - 1)^2.
    """
    discriminator, generator = SLOPES_AT[loss]
    theta, psi = start
    path = [(theta, psi)]
    for _ in range(steps):
        pull = generator(psi * theta) * psi
        for _ in range(k):
            penalty = gamma * psi + 2 * one_centred * (abs(psi) - 1) * float(np.sign(psi))
            psi = min(max(psi - rate * (discriminator(psi * theta) * theta + penalty), -clip), clip)
        theta += rate * (pull if simultaneous else generator(psi * theta) * psi)
        path.append((theta, psi))
        if not max(abs(theta), abs(psi)) < 1e30:
            break
    return np.array(path)


def stable_weights(
    loss: str, *, damping: float, rate: float, simultaneous: bool = False, k: int = 1
) -> tuple[tuple[float, float], ...]:
    """Open intervals of penalty_weight > 0 in which the linear game converges, ascending; empty where none does.

    ``damping`` is the penalty's per unit of weight. The edges are roots of Jury's conditions; which side of an edge is
    stable, the eigenvalues of one step say. Beyond rate f'(0) sqrt(k) = 2 an even k needs a least weight.
    """
    discriminator, generator = (slope(0.0) for slope in SLOPES_AT[loss])
    if discriminator * generator <= 0:
        return ()
    edges = sorted({0.0, *_crossings(rate**2 * discriminator * generator, simultaneous=simultaneous, k=k)})
    stable = []
    for low, high in itertools.pairwise(edges):
        step = _linear_step(discriminator, generator, rate=rate, damping=(low + high) / 2, k=k, both=simultaneous)
        if np.abs(np.linalg.eigvals(step)).max() < 1:
            stable.append((low / (rate * damping), high / (rate * damping)))
    return tuple(stable)


def _linear_step(
    discriminator: float, generator: float, *, rate: float, damping: float, k: int, both: bool
) -> np.ndarray:
    """One generator step on (theta, psi); ``both``: the players move at once."""
    first = np.array([[1.0, 0.0], [-rate * discriminator, 1.0 - damping]])
    second = np.array([[1.0, rate * generator], [0.0, 1.0]])
    return first + second - np.eye(2) if both else second @ np.linalg.matrix_power(first, k)


def _crossings(pull: float, *, simultaneous: bool, k: int) -> list[float]:
    """Dampings of one step at which stability may begin or end."""
    if simultaneous:
        return [pull, 2 + pull / 2]
    # 2 r^k - pull r^(k-1) - ... - pull r + (2 - pull), highest power first
    coefficients = np.full(k + 1, -pull)
    coefficients[0] = 2.0
    coefficients[-1] += 2.0
    roots = np.roots(coefficients)
    return [*(1 - float(root.real) for root in roots if abs(root.imag) < 1e-9 and -1 < root.real < 1), 2.0]
