"""The Dirac-GAN's target and networks as the study file names them (standard library only)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainers.declaration import Entry, Setting

NAME = "dirac"
"""Of the target and of its networks: neither exists without the other."""

DEFAULT_INITIAL: Mapping[str, float] = {"radius": 1e-3}
"""Near enough for the linear theory to hold: from radius 1.4 some settings do not do what it says."""

_REFERENCE = "Mescheder et al. 2018, arXiv:1801.04406, section 2"


def read_initial(value: object) -> object:
    """``[theta, psi]`` or ``{"radius": r}`` with floats; None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"radius"}:
        radius = _finite(value["radius"])
        return {"radius": radius} if radius is not None and radius > 0 else None
    if isinstance(value, list | tuple) and len(value) == 2:
        numbers = [_finite(number) for number in value]
        return None if None in numbers else numbers
    return None


def _finite(value: object) -> float | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) + 0.0 if fine and isinstance(value, int | float) else None  # -0.0 is 0.0


INITIAL = Setting(
    name="initial",
    meaning="where training starts",
    rule="[theta, psi], or {radius: r} with r > 0 for an angle drawn from each replicate's seed",
    default=dict(DEFAULT_INITIAL),
    read=read_initial,
    schema={
        "anyOf": [
            {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["radius"],
                "properties": {"radius": {"type": "number", "exclusiveMinimum": 0}},
            },
        ],
        "description": "[theta, psi] to start from, or {radius: r} at an angle drawn from the seed",
    },
)

DIRAC_TARGET = Entry(
    name=NAME,
    summary="All real data at 0, on a line: with its networks the Dirac-GAN, whose solution is known.",
    reference=_REFERENCE,
)
DIRAC_NETWORKS = Entry(
    name=NAME,
    summary="One number each: G(z) = theta, D(x) = psi x.",
    reference=_REFERENCE,
    settings=(INITIAL,),
)
