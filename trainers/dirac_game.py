"""The Dirac-GAN as the trainer plays it: two players of one parameter each, and the judge that looks at these.

G(z) = theta whatever z is, D(x) = psi x, real data at 0 (Mescheder et al. 2018, arXiv:1801.04406). The closed forms
are in dirac.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.draws import Stream, generator
from trainers.stacked import Layout

LATENT_DIM = 1
"""The generator does not read its latents, but Algorithm 1 draws them."""

RULE = "radius"
"""How outcomes of this game are judged, as reference.json names it: by the parameters' distance to the equilibrium."""


def initial_point(initial: object, seed: int) -> tuple[float, float]:
    """(theta, psi) to start from: ``[theta, psi]`` as given, or ``{"radius": r}`` at the angle drawn for ``seed``.

    ValueError for anything else.
    """
    if isinstance(initial, Mapping) and set(initial) == {"radius"}:
        angle = generator(seed, Stream.INITIALISATION).uniform(0, 2 * math.pi)  # one draw, shared by both players
        radius = float(initial["radius"])
        return radius * math.cos(angle), radius * math.sin(angle)
    if isinstance(initial, Sequence) and not isinstance(initial, str) and len(initial) == 2:
        theta, psi = (float(number) for number in initial)
        return theta, psi
    raise ValueError(f"networks.initial must be [theta, psi] or {{radius: r}}, got {initial!r}")


class _OneNumber:
    """A player whose only parameter is number ``player`` of the initial point."""

    def __init__(self, start: object) -> None:
        self.layout, self._start = Layout(((1, 1),)), start

    def initial(self, seed: int, player: int) -> np.ndarray:
        """One member's initial row [P]."""
        return self.layout.pack([np.array(initial_point(self._start, seed)[player])])


class Point(_OneNumber):
    """The generator: theta for every latent."""

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, L] -> [R, batch, 1]."""
        return parameters[0].expand(-1, inputs.shape[1], -1)


class Line(_OneNumber):
    """The discriminator: psi x, without bias."""

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, 1] -> [R, batch, 1]."""
        return parameters[0] * inputs


@dataclass(frozen=True)
class Equilibrium:
    """What a judge has in place of modes where the solution is known: theta = psi = 0."""

    def measure(self, *, generator: Tensor, discriminator: Tensor) -> dict[str, Tensor]:
        """Flat parameters [R, P] of both players -> their distance to the equilibrium and themselves, each [R] float64.

        In double: below 1e-19 the square of a float32 is 0.
        """
        theta, psi = generator[:, 0].double(), discriminator[:, 0].double()
        return {
            "distance": torch.sqrt(theta.square() + psi.square()),
            "generator_parameter": theta,
            "discriminator_parameter": psi,
        }
