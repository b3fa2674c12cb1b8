"""The precision of the matrix products of training: float32, TF32 on a GPU, or bfloat16 as torch.autocast has it.

Parameters, optimizer state, losses, penalties and every evaluation stay float32 whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from trainers.catalogue import BFLOAT16, FLOAT32, TF32

__all__ = ["BFLOAT16", "FLOAT32", "TF32", "is_rounded", "require", "rounded", "switched", "unrounded"]

_FIRST_WITH_TF32 = (8, 0)
"""Compute capability of the first GPUs whose matrix units have TF32."""


def require(precision: str, device: torch.device) -> None:
    """RuntimeError where ``device`` has no products of this precision, and would take float32 without a word."""
    if precision != TF32:
        return
    if device.type != "cuda":
        raise RuntimeError(f"precision: tf32 needs a CUDA device, got {device.type}; write float32 or bfloat16")
    if torch.cuda.get_device_capability(device) < _FIRST_WITH_TF32:
        raise RuntimeError(
            f"precision: tf32 needs a GPU of compute capability 8.0 or more, got {torch.cuda.get_device_name(device)}"
        )


@contextmanager
def switched(precision: str, device: torch.device) -> Iterator[None]:
    """Sets torch's switch for TF32 products on a GPU, and puts it back; RuntimeError as ``require`` has it.

    The switch is the process's: it holds for forward and backward passes, and for steps that are recorded meanwhile.
    """
    require(precision, device)
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, precision == TF32
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def rounded(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around a network's forward pass: what it multiplies is rounded to bfloat16, where that is the precision.

    The backward passes follow by themselves, since they differentiate what was done; torch advises against running them
    inside, where a GPU's own thread would not know the type. No weight is kept rounded from call to call, because a
    recorded step would go on reading the copy it was recorded with.
    """
    if precision != BFLOAT16:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def is_rounded(tensor: Tensor) -> bool:
    """Whether products on this tensor's device are being rounded to bfloat16."""
    return torch.is_autocast_enabled(tensor.device.type)


def unrounded(tensor: Tensor) -> AbstractContextManager[object]:
    """Inside ``rounded``, around what must be multiplied in full; its inputs are cast by the caller."""
    return torch.autocast(tensor.device.type, enabled=False) if is_rounded(tensor) else nullcontext()
