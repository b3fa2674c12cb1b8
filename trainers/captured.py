"""A generator step recorded once and replayed: on a GPU, one CUDA graph in place of hundreds of launches.

What a step reads from outside lies in buffers that do not move: its minibatches and the number of the step. The
recorded operations are those of the ordinary step, so that results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from trainers.catalogue_updates import MINIBATCH_ROUNDS
from trainers.cohort import Cohort
from trainers.draws import Draws

Step = Callable[[Cohort, Draws, int], None]
"""A whole generator step of a cohort on the minibatches at one place of a block."""

WARM_UP = 3
"""Steps before recording, in which libraries choose kernels and take their workspaces."""


class StaticStep:
    """A step that reads minibatches and its number from buffers of its own; ``record`` makes a CUDA graph of it."""

    def __init__(self, cohort: Cohort, step: Step, draws: Draws) -> None:
        self._cohort, self._step = cohort, step
        self._rounds = MINIBATCH_ROUNDS[cohort.program.updates]
        self._draws = Draws(*(None if one is None else one[:, : self._rounds].clone() for one in _tensors(draws)))  # type: ignore[arg-type]
        self._number = torch.zeros((), dtype=torch.int64, device=cohort.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, cohort: Cohort, draws: Draws, place: int) -> None:
        """The step on the minibatches at ``place``."""
        for static, given in zip(_tensors(self._draws), _tensors(draws), strict=True):
            if static is not None and given is not None:
                static.copy_(given[:, place : place + self._rounds], non_blocking=True)
        self._number.fill_(cohort.generator_step)
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()

    def record(self, *, beside: StaticStep | None = None) -> None:
        """Record the step, leaving the cohort as it was; ``beside`` shares its memory, as it never runs meanwhile."""
        before = {name: tensor.clone() for name, tensor in self._cohort.tensors().items()}
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._run()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.empty_cache()  # what the steps before left behind is of no use to a recording
        graph = torch.cuda.CUDAGraph()
        pool = None if beside is None or beside._graph is None else beside._graph.pool()
        with torch.cuda.graph(graph, pool=pool):
            self._run()
        for name, tensor in self._cohort.tensors().items():
            tensor.copy_(before[name])
        self._graph = graph

    def _run(self) -> None:
        """The step, with a number that is read when it runs and not when it is recorded."""
        number = self._cohort.generator_step
        self._cohort.generator_step = self._number  # type: ignore[assignment]
        try:
            self._step(self._cohort, self._draws, 0)
        finally:
            self._cohort.generator_step = number


def recorded(cohort: Cohort, step: Step) -> Step:
    """The step to use: recorded, once for each cohort, where it trains on a GPU and all of its code is known.

    Users' own losses, penalties and networks may look at values, which a recording cannot follow.
    """
    if cohort.device.type != "cuda" or cohort.program.has_own_code:
        return step
    if cohort.static_step is None:
        draws, _ = cohort.draws()
        static = StaticStep(cohort, step, draws)
        neighbour = None if cohort.records_beside is None else cohort.records_beside.static_step
        static.record(beside=neighbour if isinstance(neighbour, StaticStep) else None)
        cohort.static_step = static
    return cohort.static_step


def _tensors(draws: Draws) -> list[Tensor | None]:
    return [getattr(draws, field.name) for field in fields(draws)]
