"""The Dirac-GAN by hand, in numpy: derivatives written out per loss, no torch, nothing of the trainer's."""

from __future__ import annotations

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
