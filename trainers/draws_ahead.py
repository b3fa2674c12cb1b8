"""The next block of draws made by threads while a GPU trains on this one: the same numbers, ready when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields

import torch
from torch import Tensor

from trainers.draws import Draws, DrawShape, draw_block
from trainers.targets import Target


class DrawsAhead:
    """Blocks of draws [R, ...] on the CPU, pinned where there is a GPU to copy to; members are split over threads.

    Draws are a pure function of (seed, stream, block), so that neither threads nor the order of asking can matter.
    ``threads``: torch's number, the cores of a trial, unless given.
    """

    def __init__(self, seeds: Sequence[int], *, shape: DrawShape, target: Target, threads: int | None = None) -> None:
        self._shape, self._target = shape, target
        workers = max(1, min(threads or torch.get_num_threads(), len(seeds)))
        self._parts = [seeds[i * len(seeds) // workers : (i + 1) * len(seeds) // workers] for i in range(workers)]
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="draws")
        self._begun: dict[int, list[Future[Draws]]] = {}

    def __call__(self, block: int) -> Draws:
        """The draws of ``block``; the next one is begun."""
        for wanted in (block, block + 1):
            if wanted not in self._begun:
                self._begun[wanted] = [self._pool.submit(self._draw, part, wanted) for part in self._parts]
        parts = [future.result() for future in self._begun.pop(block)]
        self._begun = {block + 1: self._begun[block + 1]}
        return Draws(*(_joined([getattr(part, field.name) for part in parts]) for field in fields(Draws)))  # type: ignore[arg-type]

    def _draw(self, seeds: Sequence[int], block: int) -> Draws:
        return draw_block(seeds, block=block, shape=self._shape, target=self._target)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """One tensor [R, ...] of the threads' parts."""
    tensors = [part for part in parts if part is not None]
    if not tensors:
        return None
    joined = torch.cat(tensors)
    return joined.pin_memory() if torch.cuda.is_available() else joined
