"""Small programs and members that the trainer's tests share."""

from __future__ import annotations

from typing import Any

from trainers.catalogue import OPTIMIZERS, PENALTIES
from trainers.program import Member, Program

RING = {"name": "ring", "modes": 8, "radius": 2.0, "std": 0.1}
SMALL_MLP = {"name": "mlp", "latent_dim": 4, "width": 16, "depth": 2}


def program(**changes: Any) -> Program:
    """A small program on the ring; ``changes`` replace its fields."""
    fields: dict[str, Any] = {
        "loss": "non_saturating",
        "penalty": "none",
        "k": 1,
        "batch_size": 32,
        "optimizer": "adam",
        "updates": "alternating",
        "target": RING,
        "networks": SMALL_MLP,
        "horizon": 40,
        "evaluations": 4,
        "evaluation_samples": 200,
    }
    return Program(**{**fields, **changes})


def member(seed: int, *, of: Program, **numbers: float) -> Member:
    """A member with every number its program uses; learning rates differ between members by default."""
    values = {
        "generator_learning_rate": 1e-3 * (1 + seed % 3),
        "discriminator_learning_rate": 2e-3 * (1 + seed % 2),
        **{name: float(default or 0) for name, default in OPTIMIZERS[of.optimizer].defaults.items()},
        **{name: float(default or 1.5) for name, default in PENALTIES[of.penalty].defaults.items()},
    }
    return Member(seed=seed, numbers={**values, **numbers})


def members(count: int, *, of: Program, first: int = 100, **numbers: float) -> list[Member]:
    """``count`` members with consecutive seeds."""
    return [member(first + i, of=of, **numbers) for i in range(count)]
