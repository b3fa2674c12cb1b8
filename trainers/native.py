"""Compiled kernels for networks, Adam and draws, built on the spot from ``native*.[ch]``: fast, and asked for.

They add up in another order than torch does, so that numbers differ in their last bits, and with them whole
trajectories; draws are the same. A process uses them only after ``use("native")``, and what it trained says so
(``label``).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.native_library import Game, Given, Library, Network

__all__ = ["KERNELS", "Game", "Given", "Library", "Network", "build", "drawing", "label", "serving", "use"]

SOURCE = Path(__file__).with_name("native.c")
HEADERS = ("native_draws.h", "native_layers.h", "native_losses.h")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11", "-shared", "-fPIC")
KERNELS = ("torch", "native")
TOLERANCE = 1e-4

_in_use: list[Library] = []
_drawing: list[Library] = []


def use(kernels: str) -> None:
    """Train this process's cohorts with these of KERNELS from now on.

    ValueError for an unknown name; RuntimeError where ``native`` cannot be built, or does not agree with torch.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels must be one of {', '.join(KERNELS)}, got {kernels!r}")
    library, draws = _loaded(build()) if kernels == "native" else (None, False)
    _in_use[:] = [library] if library else []
    _drawing[:] = [library] if library and draws else []


def serving(*tensors: Tensor) -> Library | None:
    """The compiled kernels, where they are in use and serve these tensors: float32 on the CPU."""
    if not _in_use or any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
        return None
    return _in_use[0]


def drawing(seeds: Sequence[int], index: int) -> Library | None:
    """The compiled kernels, where they are in use and draw for these seeds what numpy would."""
    known = bool(_drawing) and index < 2**32 and min(seeds) >= 0 and max(seeds) < 2**64
    return _drawing[0] if known else None


def label() -> str:
    """Names what computes here: torch, or native and a digest of source, compiler and processor."""
    return _in_use[0].label if _in_use else "torch"


@lru_cache(maxsize=1)
def build() -> Path:
    """The shared library, compiled unless this source, compiler and processor already gave one.

    It lies in $XDG_CACHE_HOME/ganstudy (~/.cache/ganstudy). RuntimeError without a C compiler, with what it said.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("kernels native need a C compiler (on Debian: apt install gcc), found none")
    version = _said([compiler, "--version"])
    sources = [path.read_text(encoding="utf-8") for path in (SOURCE, *map(SOURCE.with_name, HEADERS))]
    facts = (*sources, " ".join(FLAGS), version, platform.machine(), _processor_flags())
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganstudy"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{digest}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fresh = Path(folder) / path.name
            _said([compiler, *FLAGS, "-o", str(fresh), str(SOURCE), "-lm"])
            fresh.replace(path)  # whole or not at all: several processes may build at once
    return path


def _said(command: list[str]) -> str:
    """What a command printed; RuntimeError with its complaint where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"kernels native: `{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _processor_flags() -> str:
    """What the processor can do: the compiler writes for this one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


@lru_cache(maxsize=1)
def _loaded(path: Path) -> tuple[Library, bool]:
    """The library, checked, and whether it may draw."""
    library = _checked(path)
    return library, draws_as_numpy(library)


def _checked(path: Path) -> Library:
    """The library, once a small network's outputs and gradients agree with torch's; RuntimeError where they do not."""
    found, sizes, slope = Library(path), (3, 40, 9, 2), 0.2
    rng = torch.Generator().manual_seed(1)
    lengths = [(fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes)]
    rows = torch.randn(2, sum(lengths), generator=rng).mul_(0.3).requires_grad_()
    inputs = torch.randn(2, 35, 3, generator=rng).requires_grad_()
    of_outputs = torch.randn(2, 35, 2, generator=rng)
    hidden = inputs
    for layer, ((fan_in, fan_out), part) in enumerate(
        zip(pairwise(sizes), torch.split(rows, lengths, dim=1), strict=True)
    ):
        weight, bias = torch.split(part, [fan_in * fan_out, fan_out], dim=1)
        hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.view(2, fan_in, fan_out))
        hidden = torch.nn.functional.leaky_relu(hidden, slope) if layer < len(lengths) - 1 else hidden
    expected = (hidden, *torch.autograd.grad(hidden, (rows, inputs), of_outputs), hidden.tanh())
    outputs, kept = found.forward(sizes, slope, rows.detach(), inputs.detach())
    bounded = found.outputs(Network(sizes, slope, rows.detach(), bounded=True), inputs.detach())
    got = (outputs, torch.zeros_like(rows), torch.empty_like(inputs), bounded)
    found.backward(sizes, slope, rows.detach(), kept, of_outputs, parameters=got[1], inputs=got[2])
    if not all(torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE) for a, b in zip(got, expected, strict=True)):
        raise RuntimeError(f"kernels native: {path} does not compute what torch computes; use kernels torch")
    return found


def draws_as_numpy(library: Library) -> bool:
    """Whether it draws this numpy's bits, tails included.

    Another numpy may come to other numbers from the same seeds; they are part of the results, so it would be asked.
    """
    seeds, key, count = (3, 2**40 + 1), (2, 7), 30_000
    centres, std = np.array([[-1.0, 2.0], [3.0, 0.1], [0.3, -7.0]]), 0.7
    drawn = np.empty((6, count), np.float32)
    library.normals(seeds, *key, drawn[:2])
    library.uniforms(seeds, *key, drawn[2:4])
    library.mixture(seeds, *key, drawn[4:].reshape(2, -1, 2), centres=centres, std=std)
    expected = np.empty_like(drawn)
    for row, seed in enumerate(seeds):
        by_normal, by_uniform, by_mixture = (
            np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key))) for _ in range(3)
        )
        by_normal.standard_normal(out=expected[row], dtype=np.float32)
        by_uniform.random(out=expected[2 + row], dtype=np.float32)
        mode = by_mixture.integers(len(centres), size=count // 2)
        expected[4 + row] = (centres[mode] + std * by_mixture.standard_normal((count // 2, 2))).ravel()
    return np.array_equal(drawn.view(np.uint32), expected.view(np.uint32))
