"""The Dirac-GAN in closed form: the exact oracle that the trainer is held to (standard library and numpy only).

Mescheder et al. 2018, arXiv:1801.04406: real data are a point at 0, the generator is a point theta, the discriminator
is D(x) = psi x. Near the equilibrium (0, 0) every registered loss is told by two slopes, a generator's and a
discriminator's, and every penalty by one damping: with learning rates hG, hD the game steps as

    theta <- theta + hG g psi        psi <- psi - hD (d theta + damping psi)

The paper's f'(0) is g = d. High scores mean real, as everywhere in this project, where the paper's f(psi theta)
means fake: psi is mirrored, the spectra are the same. All statements are about this linear part: they hold near the
equilibrium, and far from it the nonlinear game may do something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Slopes:
    """A loss at D = 0: ``generator`` = -dL_G/dD(G(z)), ``discriminator`` = dL_D/dD(G(z)), both in the fake logit.

    ``curvature``: second derivatives of L_D in the real and the fake logit, added: what instance noise turns into
    damping.
    """

    generator: float
    discriminator: float
    curvature: float


_LOGISTIC = Slopes(0.5, 0.5, 0.5)

SLOPES: Mapping[str, Slopes] = MappingProxyType(
    {
        "minimax": _LOGISTIC,
        "non_saturating": _LOGISTIC,
        "relativistic": _LOGISTIC,
        # each logit meets the other side's mean, whose noise averages out: half the curvature of pairs
        "relativistic_average": Slopes(0.5, 0.5, 0.25),
        "wasserstein": Slopes(1.0, 1.0, 0.0),
        "hinge": Slopes(1.0, 1.0, 0.0),  # inside its margin
        # D has no pull at its own label 0: every (theta, 0) is a fixed point
        "least_squares": Slopes(1.0, 0.0, 2.0),
        "f_gan_kl": Slopes(math.exp(-1), math.exp(-1), math.exp(-1)),
        "f_gan_pearson": Slopes(1.0, 1.0, 0.5),
    }
)
"""Registry name -> slopes; a test differentiates the losses themselves."""

DAMPING: Mapping[str, float] = MappingProxyType(
    {"none": 0.0, "weight_clipping": 0.0, "r1": 1.0, "r2": 1.0, "r1_r2": 2.0}
)
"""Penalty -> damping per penalty_weight: |grad D|^2 = psi^2 everywhere, and the clip is not met near 0."""

REPELLING = frozenset({"gradient_penalty", "dragan"})
"""One-centred penalties pull |psi| to 1: not smooth at 0, and no fixed step converges."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """A loss with a penalty; ``penalty_weight`` is gamma (instance noise: the standard deviation of the noise)."""

    loss: str
    penalty: str = "none"
    penalty_weight: float = 0.0

    @property
    def slopes(self) -> Slopes:
        """The loss at D = 0; KeyError for a loss whose slopes are not known."""
        return SLOPES[self.loss]

    @property
    def pull(self) -> float:
        """g d, the paper's f'(0)^2: the squared frequency of the undamped rotation."""
        return self.slopes.generator * self.slopes.discriminator

    @property
    def damping(self) -> float:
        """What multiplies -psi in the discriminator's gradient; ValueError for a penalty that is not smooth at 0."""
        if self.penalty == "instance_noise":
            return self.slopes.curvature * self.penalty_weight**2
        if self.penalty not in DAMPING:
            raise ValueError(f"penalty must be one of {', '.join(DAMPING)}, instance_noise, got {self.penalty!r}")
        return DAMPING[self.penalty] * self.penalty_weight


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Plain gradient steps: rates of both players, the order of updates, k discriminator steps per generator step."""

    generator_rate: float
    discriminator_rate: float
    updates: str = "alternating"
    k: int = 1
    consensus_weight: float = 0.0


def equal_steps(rate: float, *, updates: str = "alternating", k: int = 1) -> Steps:
    """Steps with one rate for both players."""
    return Steps(generator_rate=rate, discriminator_rate=rate, updates=updates, k=k)


# --- continuous time -------------------------------------------------------------------------------


def jacobian(game: Game, *, consensus_weight: float = 0.0) -> Floats:
    """The gradient flow's Jacobian at the equilibrium, [2, 2] over (theta, psi).

    Consensus optimisation (Mescheder et al. 2017, arXiv:1705.10461) adds the gradient of weight/2 |v|^2.
    """
    slopes = game.slopes
    flow = np.array([[0.0, slopes.generator], [-slopes.discriminator, -game.damping]])
    return np.asarray(flow - consensus_weight * flow.T @ flow)


# --- discrete time ---------------------------------------------------------------------------------


def update_matrix(game: Game, steps: Steps) -> Floats:
    """One generator step of the linear game: [2, 2] over (theta, psi), optimistic [4, 4] over now and before."""
    if steps.updates == "alternating":
        return _alternating(game, steps)
    if steps.k != 1:
        raise ValueError(f"k must be 1 with {steps.updates} updates, got {steps.k}")
    rates = np.diag([steps.generator_rate, steps.discriminator_rate])
    move = rates @ jacobian(game, consensus_weight=steps.consensus_weight)
    one = np.eye(2)
    if steps.updates in ("simultaneous", "consensus"):
        return np.asarray(one + move)
    if steps.updates == "extragradient":  # the step taken from where a first one leads
        return np.asarray(one + move + move @ move)
    if steps.updates == "optimistic":  # w + 2 move w - move w_before
        return np.block([[one + 2 * move, -move], [one, np.zeros((2, 2))]])
    raise ValueError(f"updates must be a known order of updates, got {steps.updates!r}")


def _alternating(game: Game, steps: Steps) -> Floats:
    """k discriminator steps, then the generator's at the new discriminator."""
    hg, hd, slopes = steps.generator_rate, steps.discriminator_rate, game.slopes
    discriminator = np.array([[1.0, 0.0], [-hd * slopes.discriminator, 1.0 - hd * game.damping]])
    generator = np.array([[1.0, hg * slopes.generator], [0.0, 1.0]])
    return np.asarray(generator @ np.linalg.matrix_power(discriminator, steps.k))


def spectral_radius(game: Game, steps: Steps) -> float:
    """Largest modulus of an eigenvalue of the update matrix: the factor by which a step shrinks the distance."""
    return float(np.abs(np.linalg.eigvals(update_matrix(game, steps))).max())


def stability_margin(*, pull: ArrayLike, damping: ArrayLike, updates: str, k: int = 1) -> Floats:
    """Positive exactly where the linear game converges; 0 on the boundary. Broadcasts.

    ``pull`` = hG hD g d = (h f'(0))^2 and ``damping`` = hD times the game's are those of one step; with r = 1 - damping

    simultaneous    pull < damping < 2 + pull / 2
    alternating     |r| < 1 and 0 < pull (1 + r + ... + r^(k-1)) < 2 (1 + r^k)

    (Jury's conditions on the trace and determinant of the update matrix). ValueError for other orders of updates.
    """
    c, x = np.asarray(pull, dtype=np.float64), np.asarray(damping, dtype=np.float64)
    if updates == "simultaneous":
        return np.asarray(np.minimum.reduce(np.broadcast_arrays(c, x - c, 2 + c / 2 - x)))
    if updates != "alternating":
        raise ValueError(f"updates must be alternating or simultaneous, got {updates!r}")
    r = 1 - x
    turned = c * sum(r**i for i in range(k))
    return np.asarray(np.minimum.reduce(np.broadcast_arrays(turned, x, 2 - x, 2 * (1 + r**k) - turned)))


def converges(game: Game, steps: Steps) -> bool:
    """Whether the game converges to the equilibrium from nearby: the spectral radius is below 1, decided exactly.

    Without damping alternating updates are marginal and simultaneous ones diverge: neither converges. Orders of
    updates without a closed condition are decided by their spectral radius.
    """
    if game.penalty in REPELLING:
        return False
    if steps.updates not in ("alternating", "simultaneous"):
        return spectral_radius(game, steps) < 1
    pull = steps.generator_rate * steps.discriminator_rate * game.pull
    damping = steps.discriminator_rate * game.damping
    return bool(stability_margin(pull=pull, damping=damping, updates=steps.updates, k=steps.k) > 0)


def steps_needed(game: Game, steps: Steps) -> float:
    """Generator steps in which the distance shrinks e^4-fold, 4 / -ln(spectral radius); infinite without convergence.

    A run of fewer steps cannot show that it converges: in each quarter it shrinks by less than e.
    """
    if not converges(game, steps):
        return math.inf
    radius = spectral_radius(game, steps)
    return 0.0 if radius == 0 else 4 / -math.log(radius) if radius < 1 else math.inf


def stability_map(
    loss: str, penalty: str, *, rates: ArrayLike, weights: ArrayLike, updates: str = "alternating", k: int = 1
) -> Floats:
    """Positive exactly where the game converges, 0 on the boundary: [weights, rates], both players at one rate."""
    rate, weight = np.asarray(rates, dtype=np.float64), np.asarray(weights, dtype=np.float64)[:, None]
    if updates in ("alternating", "simultaneous"):
        pull, damping = rate**2 * Game(loss=loss).pull, rate * DAMPING[penalty] * weight
        return stability_margin(pull=pull, damping=damping, updates=updates, k=k)
    matrices = [
        [
            update_matrix(Game(loss=loss, penalty=penalty, penalty_weight=w), equal_steps(h, updates=updates, k=k))
            for h in rate.tolist()
        ]
        for w in weight[:, 0].tolist()
    ]
    return np.asarray(1 - np.abs(np.linalg.eigvals(np.array(matrices))).max(axis=-1))
