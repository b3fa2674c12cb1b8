"""One replicate trained again, alone: every measurement the study made, and its samples far more often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.errors import BadInput
from study.folder import StudyFolder
from study.plan import Cohort as PlannedCohort
from study.plan import Configuration
from study.reference import read_references
from study.trainable import Watch, open_cohort
from trainers.evaluation import Judge
from trainers.loop import advance
from trainers.measuring import evaluate
from trainers.program import Program, evaluation_steps
from trainers.targets import Target

GRID = 49
"""Points along a side of the square on which a discriminator over the plane is shown."""

ORBIT_FRAMES = 500
"""Frames of a target of one dimension at least: a path that turns is only seen in small steps."""

_REACH, _PATH_REACH = 1.3, 1.1
"""Half the side of that square, in multiples of the real data's half extent."""
_REAL_POINTS = 512
_REAL_IMAGES = 64
_PACE_STEPS = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Samples [n, d] on the fixed latents; ``landscape`` [GRID, GRID]: D(x) over the plane, None elsewhere.

    Row 0 of the landscape is the lowest y. A target of one dimension has one point [1, 2] instead of samples: their
    mean, and the slope of D. A frame at a death shows the last parameters before it.
    """

    generator_step: int
    samples: Floats
    landscape: Floats | None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the frames are seen against: real samples [n, d], mode centres [M, d] if any, and the shown square."""

    sample_shape: tuple[int, ...]
    real: Floats
    centres: NDArray[np.float64] | None
    middle: tuple[float, float]
    reach: float


class Replay:
    """Trains one replicate from its first update, alone, as a padded cohort: on CPU the record's own bits.

    ``train`` does the work; ``frames`` and ``rows`` hold what was seen so far, ``cohort.alive`` whether it lives.
    """

    def __init__(
        self,
        folder: StudyFolder,
        configuration: Configuration,
        replicate: int,
        judge: Judge,
        *,
        frames: int,
        device: str = "cpu",
    ) -> None:
        key = configuration.configuration_key
        alone = PlannedCohort("replay", ((key, replicate),))
        run = open_cohort(
            folder, {key: configuration}, alone, None, device=device, watch=Watch(folder, folder.attempt())
        )
        self.cohort, self._history = run.cohort, run.history
        self._judge = judge
        self.reference = read_references(folder).get(configuration.target_id, judge.reference)
        many = ORBIT_FRAMES if run.cohort.target.sample_shape == (1,) else frames
        self._due = frozenset(frame_steps(configuration.horizon, max(frames, many)))
        self.frames: list[Frame] = []
        self._scene = _scene(run.cohort.target)
        self._grid = self._plane_grid()

    @property
    def rows(self) -> pa.Table:
        """The measurements so far, in the columns of replicates.parquet."""
        return self._history.table().drop_columns(["measured_at_ms"])

    @property
    def scene(self) -> Scene:
        """What the frames are seen against; the square around a path holds all of it so far."""
        if self._scene.sample_shape != (1,):
            return self._scene
        ends = np.abs(np.concatenate([frame.samples for frame in self.frames]))
        farthest = float(ends[np.isfinite(ends)].max(initial=0.0))
        return replace(self._scene, reach=_PATH_REACH * farthest or 1.0)

    @property
    def alive(self) -> bool:
        """Whether the replicate is finite so far."""
        return bool(self.cohort.alive[0])

    def train(self) -> Iterator[int]:
        """Trains to the horizon or the death, yielding the generator step every few updates."""
        program = self.cohort.program
        evaluations = _evaluations_by_step(program)
        for step in sorted(self._due | evaluations.keys()):
            yield from self._advance(step)
            if step in evaluations:
                self._evaluate(evaluations[step])
            if not self.alive:
                self._show_death()
                if step in evaluations:
                    return
            elif step in self._due:
                self._show(step)

    def _advance(self, step: int) -> Iterator[int]:
        while self.cohort.generator_step < step:
            advance(self.cohort, min(step, self.cohort.generator_step + _PACE_STEPS))
            yield self.cohort.generator_step

    def _evaluate(self, index: int) -> None:
        evaluation = evaluate(self.cohort, self._judge, index=index)
        self.cohort.evaluations_done = index + 1
        self._history.append(evaluation, measured_at_ms=0)

    def _show_death(self) -> None:
        step = int(self.cohort.death_step[0])
        if self.frames[-1].generator_step < step:
            self._show(step)

    @torch.no_grad()
    def _show(self, step: int) -> None:
        landscape = None
        if self._grid is not None:
            logits = self.cohort.discriminate(self._grid.expand(len(self.cohort.seeds), -1, -1))[0]
            landscape = logits.float().cpu().numpy().reshape(GRID, GRID)
        samples = self._state() if self._scene.sample_shape == (1,) else self.cohort.samples()[0]
        self.frames.append(
            Frame(generator_step=step, samples=samples.float().cpu().numpy().copy(), landscape=landscape)
        )

    def _state(self) -> Tensor:
        """[1, 2]: the mean sample and D's slope between 0 and 1, which are theta and psi of the Dirac-GAN."""
        ends = torch.tensor([[[0.0], [1.0]]], device=self.cohort.device, dtype=self.cohort.dtype)
        logits = self.cohort.discriminate(ends.expand(len(self.cohort.seeds), -1, -1))[0]
        return torch.stack([self.cohort.samples()[0].mean(), logits[1] - logits[0]])[None]

    def _plane_grid(self) -> Tensor | None:
        """Points [1, GRID^2, 2] of the shown square, x fastest; None unless samples are points in the plane."""
        if self._scene.sample_shape != (2,):
            return None
        line = torch.linspace(-self._scene.reach, self._scene.reach, GRID)
        y, x = torch.meshgrid(line + self._scene.middle[1], line + self._scene.middle[0], indexing="ij")
        return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)[None].to(self.cohort.device, self.cohort.dtype)


def frame_steps(horizon: int, frames: int) -> list[int]:
    """About ``frames`` equally spaced generator steps from 0 to ``horizon``, both included; fewer on a short run."""
    return sorted({round(i * horizon / (frames - 1)) for i in range(frames)})


def require_device(device: str) -> None:
    """Raises BadInput unless ``device`` is cpu, or cuda where torch sees a GPU."""
    if device not in ("cpu", "cuda"):
        raise BadInput(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device is cuda and torch sees no GPU here; leave it out to train on the CPU")


def _evaluations_by_step(program: Program) -> dict[int, int]:
    steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    return {step: index for index, step in enumerate(steps)}


def _scene(target: Target) -> Scene:
    shape, held_out = tuple(target.sample_shape), target.held_out_size
    count = _REAL_POINTS if len(shape) == 1 else _REAL_IMAGES
    real = target.held_out(np.random.default_rng(0), min(count, held_out or count))
    low, high = real.min(axis=0), real.max(axis=0)
    middle = (low + high) / 2 if shape == (2,) else np.zeros(2)
    reach = _REACH * float((high - low).max()) / 2 or 1.0
    centres = getattr(target, "centres", None)
    return Scene(
        sample_shape=shape,
        real=real,
        centres=None if centres is None else np.asarray(centres, dtype=np.float64),
        middle=(float(middle[0]), float(middle[1])),
        reach=reach,
    )
