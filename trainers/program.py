"""What a cohort trains: the program all its members share, and the numbers of each member."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Program:
    """Everything the members of one cohort have in common.

    ``target`` and ``networks`` are the study file's mappings with defaults filled in (``name`` and parameters).
    ``horizon`` counts generator steps; ``evaluations`` follow evaluation 0, which precedes training.
    ``measurements`` are the optional groups that are on (``MeasurementInfo.group``). ``precision`` is that of the
    matrix products of training (precision.py).
    """

    loss: str
    penalty: str
    k: int
    batch_size: int
    optimizer: str
    updates: str
    target: Mapping[str, object]
    networks: Mapping[str, object]
    horizon: int
    evaluations: int
    evaluation_samples: int
    measurements: tuple[str, ...] = ()
    precision: str = "float32"

    @property
    def has_own_code(self) -> bool:
        """Whether its loss, penalty or networks are the user's own (``package.module:function``)."""
        return any(":" in name for name in (self.loss, self.penalty, str(self.networks["name"])))


@dataclass(frozen=True, kw_only=True)
class Member:
    """One replicate of a cohort: its seed (63 bits) and its own value of each of catalogue.MEMBER_NUMBERS it uses."""

    seed: int
    numbers: Mapping[str, float]


def evaluation_steps(*, horizon: int, evaluations: int) -> list[int]:
    """Generator steps of evaluations 0, 1, ..., ``evaluations``: round(i x horizon / evaluations)."""
    return [round(i * horizon / evaluations) for i in range(evaluations + 1)]


SAMPLE_FRACTIONS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the horizon at which samples on fixed latents are kept."""


def sample_evaluations(evaluations: int) -> list[int]:
    """Indices of the evaluations nearest to SAMPLE_FRACTIONS of the horizon, ascending and distinct."""
    return sorted({round(fraction * evaluations) for fraction in SAMPLE_FRACTIONS})
