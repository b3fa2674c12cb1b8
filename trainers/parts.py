"""A cohort trained in parts: without its dead members, and no more members at once than the memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from trainers.cohort import Cohort, State, padded_size
from trainers.evaluation import Judge
from trainers.measurement import columns
from trainers.measuring import Evaluation, evaluate
from trainers.program import sample_evaluations

WORTH_CUTTING = 0.75
"""Parts are cut anew once the living need at most this share of the rows in use: a new part costs its set-up."""


class Parts:
    """The living members of a cohort as cohorts of their own, in which the steps are made one part after the other.

    On the CPU a member's numbers are bit for bit the same in any of them, since each is padded as a cohort is; on a
    GPU they agree as cohorts of different sizes do. A cohort that needs no cutting is its own only part, and so is one
    of the user's own networks, losses or penalties, whose kernels may round by company: its dead stay.

    ``at_once``: members trained at a time, all unless given.
    """

    def __init__(self, whole: Cohort, *, at_once: int | None = None) -> None:
        self._whole, self._at_once = whole, max(1, whole.size if at_once is None else at_once)
        self._parts: list[Cohort] = [whole]
        self._places: list[torch.Tensor] = [torch.arange(whole.size)]
        self._cut()

    @property
    def rows(self) -> int:
        """Members that take part in the arithmetic, padding included."""
        return sum(len(part.seeds) for part in self._parts)

    def advance(self, step: int, *, by: Callable[[Cohort, int], None]) -> None:
        """Generator updates of every part up to ``step``, made by ``by``."""
        for part in self._parts:
            by(part, step)
            if len(self._parts) > 1:
                part.release_draws()
        self._whole.generator_step = step

    def evaluate(self, judge: Judge, *, index: int) -> Evaluation:
        """The whole cohort's evaluation; members that ended before have no numbers. The dead then leave the parts."""
        whole = self._whole
        found = [evaluate(part, judge, index=index) for part in self._parts]
        evaluation = found[0] if self._parts == [whole] else self._joined(found, index=index)
        self.hand_over()
        self._cut()
        return evaluation

    def hand_over(self) -> None:
        """Bring the cohort's own tensors to where its parts are."""
        for part, places in self._shares():
            tensors = self._whole.tensors()
            for name, tensor in part.tensors().items():
                tensors[name][places] = tensor[: part.size]

    def _shares(self) -> list[tuple[Cohort, torch.Tensor]]:
        pairs = zip(self._parts, self._places, strict=True)
        return [(part, places) for part, places in pairs if part is not self._whole]

    def _cut(self) -> None:
        """New parts where clearly fewer rows serve the living, or where those in use hold too many members."""
        whole, before = self._whole, self._parts
        staying = torch.ones(whole.size, dtype=torch.bool) if whole.program.has_own_code else whole.alive[: whole.size]
        chunks = self._chunks(torch.nonzero(staying).flatten().cpu())
        rows = sum(padded_size(len(chunk), batch_size=whole.program.batch_size) for chunk in chunks)
        if rows > WORTH_CUTTING * self.rows and all(part.size <= self._at_once for part in before):
            return
        for part in before:  # a recording holds its cohort, and would keep the GPU's memory until both are collected
            part.release_draws()
            part.static_step = None
        self._places, self._parts = chunks, [self._part(chunk) for chunk in chunks]
        for part in self._parts[1:]:
            part.records_beside = self._parts[0]

    def _chunks(self, places: torch.Tensor) -> list[torch.Tensor]:
        """As few as hold at most ``at_once`` each, and evenly filled."""
        count = math.ceil(len(places) / self._at_once)
        return list(torch.tensor_split(places, count)) if count else []

    def _part(self, places: torch.Tensor) -> Cohort:
        whole = self._whole
        state: State = {name: tensor[places] for name, tensor in whole.tensors().items()}
        state |= {"generator_step": whole.generator_step, "evaluations_done": whole.evaluations_done}
        members = [whole.members[place] for place in places.tolist()]
        return Cohort.restore(whole.program, members, state, device=whole.device, dtype=whole.dtype)

    def _joined(self, found: list[Evaluation], *, index: int) -> Evaluation:
        """One evaluation of all members from those of the parts."""
        whole = self._whole
        values = {name: np.full(whole.size, np.nan) for name in columns(whole.program.measurements)}
        finite = np.zeros(whole.size, dtype=np.bool_)
        death_step = whole.death_step[: whole.size].cpu().numpy().copy()
        kept = index in sample_evaluations(whole.program.evaluations)
        samples = np.full(whole.initial_samples[: whole.size].shape, np.nan, dtype=np.float32) if kept else None
        for places, part in zip(self._places, found, strict=True):
            rows = places.numpy()
            for name, value in part.values.items():
                values[name][rows] = value
            finite[rows], death_step[rows] = part.finite, part.death_step
            if samples is not None and part.samples is not None:
                samples[rows] = part.samples
        return Evaluation(
            index=index,
            generator_step=whole.generator_step,
            discriminator_steps=whole.discriminator_steps,
            samples_seen=whole.samples_seen,
            values=values,
            finite=finite,
            death_step=death_step,
            samples=samples,
        )
