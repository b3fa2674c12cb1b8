"""A large study on disk without any training: curves of known shapes in checkpoints, as trials would leave them.

5 losses x 2 k x 10 learning rates: 100 configurations. Replicates converge, are slow, oscillate, collapse or die.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from study.plan import Plan
    from study.spec import StudySpec
    from trainers.program import Program

STUDY, BEGAN_MS = "report-size", 1_700_000_000_000
EVALUATIONS, HORIZON, SAMPLES = 100, 3000, 256
REFERENCE = {
    "d_real": 0.05,
    "d_ref": 1.3,
    "d_far": 2.6,
    "sigma_u": 0.005,
    "quality_ceiling": 0.989,
    "coverage_ceiling": 1.0,
    "knn_coverage_ceiling": 0.95,
    "knn_precision_ceiling": 0.95,
    "dimensions": 2,
    "modes": 8,
    "evaluation_samples": 2500,
    "distance_samples": 1000,
    "seed": 1,
}
CONFIGURATIONS = 100
SHAPES = ("converging", "slow", "oscillating", "collapsing", "dying")


@dataclass
class Measured:
    """One evaluation of a cohort, as the trainer yields it."""

    index: int
    generator_step: int
    discriminator_steps: int
    samples_seen: int
    finite: np.ndarray
    death_step: np.ndarray
    values: dict[str, np.ndarray]
    samples: np.ndarray | None


def spec_of(*, replicates: int, cohort_size: int | str = "auto", evaluations: int = EVALUATIONS) -> StudySpec:
    """100 configurations of so many replicates each; ``evaluations`` after the one at step 0."""
    from study.spec import StudySpec

    return StudySpec.from_dict(
        {
            "study": STUDY,
            "question": "How long does the report of a large study take?",
            "target": {"name": "ring"},
            "scientific": {"loss": ["minimax", "non_saturating", "hinge", "wgan_gp", "ns_r1"], "k": [1, 2]},
            "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "points": 10, "scale": "log"}},
            "replicates": replicates,
            "budget": {
                "unit": "generator_steps",
                "value": HORIZON,
                "evaluations": evaluations,
                "evaluation_samples": 2500,
            },
            "resources": {"cohort_size": cohort_size},
        }
    )


def train_all(root: Path, plan: Plan) -> None:
    """The complete checkpoint of every cohort below ``root``/cohorts, without waiting for the disk."""
    sync, os.fsync = os.fsync, lambda descriptor: None  # only while the stage is set
    try:
        for number, cohort in enumerate(plan.cohorts):
            train(root, plan, cohort.cohort, rng=np.random.default_rng(number))
    finally:
        os.fsync = sync


def train(root: Path, plan: Plan, name: str, *, rng: np.random.Generator) -> None:
    """The complete checkpoint of one cohort."""
    from study.checkpoint import write_checkpoint
    from study.history import History

    members = [(key, r, plan.configuration(key).seeds[r]) for key, r in plan.by_cohort[name].members]
    program = plan.configuration(members[0][0]).program()
    history = History(members, program.k, program.batch_size)
    rates = np.array([float(plan.configuration(key).factors["learning_rate"]) for key, _, _ in members])
    shapes = drawn_shapes(rates, rng)
    for evaluation in measurements(shapes, program, rng=rng):
        history.append(evaluation, measured_at_ms=BEGAN_MS + 1000 * evaluation.index)  # type: ignore[arg-type]
    write_checkpoint(
        root / "cohorts" / name,
        generator_step=HORIZON,
        evaluations_done=program.evaluations + 1,
        complete=True,
        state={"step": HORIZON},
        history=history.table(),
        samples=history.samples_table(),
        attempt=1,
    )


def drawn_shapes(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slow at low learning rates, violent at high ones, a lottery between."""
    position = np.log10(rates / 1e-4) / 3
    weights = np.stack(
        [
            np.exp(-((position - 0.4) ** 2) / 0.05),
            np.exp(-5 * position),
            0.4 * position,
            0.6 * position,
            position**3,
        ],
        axis=1,
    )
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return np.argmax(cumulative > rng.random((len(rates), 1)), axis=1)


def measurements(shapes: np.ndarray, program: Program, *, rng: np.random.Generator) -> Iterator[Measured]:
    """Every evaluation of a cohort whose members follow ``shapes``; the dying are dead from half of the horizon on."""
    from trainers.measurement import MEASUREMENTS
    from trainers.program import evaluation_steps, sample_evaluations

    count = program.evaluations
    steps, kept = evaluation_steps(horizon=HORIZON, evaluations=count), sample_evaluations(count)
    death = count // 2 + rng.integers(0, 20, len(shapes))
    for index, step in enumerate(steps):
        t = index / count
        u = np.array(
            [1.2 * np.exp(-9 * t), 1.2 - 0.6 * t, 0.4 + 0.35 * np.sin(20 * t), 0.5 + 0.7 * np.exp(-9 * t), 0.5]
        )
        distance = REFERENCE["d_real"] + (REFERENCE["d_ref"] - REFERENCE["d_real"]) * u[shapes]
        coverage = np.array([1.0, 1.0, 1.0, 0.25, 0.75])[shapes]
        finite = (np.array(SHAPES)[shapes] != "dying") | (index < death)
        values = {
            name: 0.5 + 0.2 * t + rng.normal(0, 0.01, len(shapes))
            for name, info in MEASUREMENTS.items()
            if not info.sparse or index % 5 == 0 or index > 0.8 * count
        }
        values["distance"] = distance + rng.normal(0, 0.01, len(shapes))
        values["mode_coverage"] = coverage
        values["high_quality_fraction"] = np.clip(0.95 - 0.9 * u[shapes] + rng.normal(0, 0.01, len(shapes)), 0, 1)
        yield Measured(
            index=index,
            generator_step=step,
            discriminator_steps=program.k * step,
            samples_seen=program.k * step * program.batch_size,
            finite=finite,
            death_step=np.where(finite, -1, step - 7),
            values=values,
            samples=rng.normal(size=(len(shapes), SAMPLES, 2)).astype(np.float32) if index in kept else None,
        )
