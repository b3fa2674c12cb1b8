"""Compiled kernels for fully connected networks and Adam, built on the spot from ``native*.[ch]``: fast, and asked for.

They add up in another order than torch does, so that numbers differ in their last bits, and with them whole
trajectories. A process uses them only after ``use("native")``, and what it trained says so (``label``).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("native.c")
HEADERS = ("native_layers.h", "native_losses.h")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11", "-shared", "-fPIC")
KERNELS = ("torch", "native")
TOLERANCE = 1e-4
BLOCK = 256
"""Samples that ``outputs`` takes through a network at once, as native.c has it."""

_in_use: list[Library] = []


@dataclass(frozen=True)
class Network:
    """A plain network's layers, the slope of its hidden activations, and its members' parameters [R, P].

    ``bounded``: tanh at the end (a generator's alone).
    """

    sizes: tuple[int, ...]
    slope: float
    parameters: Tensor
    bounded: bool = False


@dataclass(frozen=True)
class Game:
    """The numbers of a loss and of a penalty in ``native.c``, and both players."""

    loss: int
    penalty: int
    generator: Network
    discriminator: Network


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one gradient is taken on: minibatches [R, batch, .], of which members may lie apart.

    ``weight`` [R] is the penalty's, where it has a term; ``chance`` ([R, batch] uniform, or [R, batch, d] normal) what
    its points take. Instance noise: ``noise_std`` [R], and normal numbers [R, batch, d] for each side that D sees.
    """

    latents: Tensor
    real: Tensor | None
    weight: Tensor | None = None
    chance: Tensor | None = None
    noise_std: Tensor | None = None
    real_noise: Tensor | None = None
    fake_noise: Tensor | None = None


class _Penalty(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("weight", ctypes.c_void_p), ("noise_std", ctypes.c_void_p))


class _Given(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("row", ctypes.c_long))


class _Structure(ctypes.Structure):
    _fields_ = (
        ("depth", ctypes.c_long),
        ("sizes", ctypes.POINTER(ctypes.c_long)),
        ("slope", ctypes.c_float),
        ("bounded", ctypes.c_int),
        ("parameters", ctypes.c_void_p),
        ("row", ctypes.c_long),
    )


class Library:
    """The compiled functions; every tensor is float32, contiguous and on the CPU."""

    def __init__(self, path: Path) -> None:
        self.label = f"native-{path.stem}"
        self._functions = ctypes.CDLL(str(path))
        self._functions.ganstudy_ld.restype = ctypes.c_long

    def outputs(self, network: Network, inputs: Tensor) -> Tensor:
        """Outputs [R, n, out] of inputs [R, n, in], of which members may lie apart; nothing is kept for gradients."""
        members, count, sizes = inputs.shape[0], inputs.shape[1], network.sizes
        outputs = inputs.new_empty(members, count, sizes[-1])
        scratch = inputs.new_empty(sum(sizes) * self._ld(BLOCK))
        self._functions.ganstudy_outputs(
            *(ctypes.c_long(n) for n in (members, count)),
            *_structures(network),
            _at(inputs),
            ctypes.c_long(inputs.stride(0)),
            *(_at(tensor) for tensor in (outputs, scratch)),
        )
        return outputs

    def forward(self, sizes: Sequence[int], slope: float, first: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [R, batch, out] of inputs [R, batch, in], and what ``backward`` needs.

        ``first`` is the first parameter, a view of its members' rows; hidden layers end in a leaky ReLU.
        """
        members, batch, ld = inputs.shape[0], inputs.shape[1], self._ld(inputs.shape[1])
        kept, outputs = inputs.new_empty(members, sum(sizes[:-1]), ld), inputs.new_empty(members, batch, sizes[-1])
        scratch = inputs.new_empty(sizes[-1] * ld)
        self._functions.ganstudy_forward(
            *(ctypes.c_long(n) for n in (members, batch, len(sizes) - 1)),
            _longs(tuple(sizes)),
            ctypes.c_float(slope),
            _at(first),
            ctypes.c_long(first.stride(0)),
            _at(inputs),
            ctypes.c_long(batch * sizes[0]),
            *(_at(tensor) for tensor in (kept, outputs, scratch)),
        )
        return outputs, kept

    def backward(
        self,
        sizes: Sequence[int],
        slope: float,
        first: Tensor,
        kept: Tensor,
        of_outputs: Tensor,
        *,
        parameters: Tensor | None,
        inputs: Tensor | None,
    ) -> None:
        """Fills gradients of the parameters [R, P] and of the inputs [R, batch, in], where a tensor is given."""
        members, batch, widest = of_outputs.shape[0], of_outputs.shape[1], max(sizes) + 16
        ld = self._ld(batch)
        scratch = of_outputs.new_empty(3 * widest * ld + widest * widest)
        self._functions.ganstudy_backward(
            *(ctypes.c_long(n) for n in (members, batch, len(sizes) - 1)),
            _longs(tuple(sizes)),
            ctypes.c_float(slope),
            _at(first),
            ctypes.c_long(first.stride(0)),
            *(_at(tensor) for tensor in (kept, of_outputs, parameters, inputs, scratch)),
            ctypes.c_long(widest),
        )

    def discriminator(self, game: Game, given: Given, *, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Fills D's gradient [R, P] of L_D; returns loss [R] and norm [R]."""
        batch = given.latents.shape[1]
        return self._differentiate("ganstudy_discriminator", game, given, gradient, ld=self._ld(2 * batch))

    def generator(self, game: Game, given: Given, *, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Fills G's gradient [R, P] of L_G; returns loss [R] and norm [R]. Paired losses read ``given.real``."""
        batch = given.latents.shape[1]
        return self._differentiate("ganstudy_generator", game, given, gradient, ld=self._ld(batch))

    def _differentiate(
        self, function: str, game: Game, given: Given, gradient: Tensor, *, ld: int
    ) -> tuple[Tensor, Tensor]:
        latents = given.latents
        found = [latents.new_empty(latents.shape[0]) for _ in range(2)]
        self._functions[function](
            *(ctypes.c_long(n) for n in latents.shape[:2]),
            ctypes.c_int(game.loss),
            (_Penalty * 1)(_Penalty(game.penalty, _at(given.weight), _at(given.noise_std))),
            *_structures(game.generator, game.discriminator),
            _minibatches(given.latents, given.real, given.chance, given.real_noise, given.fake_noise),
            *(_at(tensor) for tensor in (gradient, *found)),
            *self._room(game, ld, like=latents),
        )
        return found[0], found[1]

    def _room(self, game: Game, ld: int, *, like: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_long]:
        """Scratch for one member: both networks' activations, gradients, and what a penalty needs beside them."""
        sizes = (*game.generator.sizes, *game.discriminator.sizes)
        widest = max(sizes) + 16
        self._scratch = like.new_empty((2 * sum(sizes) + 8 * widest) * ld + 3 * widest * widest)
        return _at(self._scratch), ctypes.c_long(widest)

    def adam(
        self,
        parameters: Tensor,
        gradient: Tensor,
        moments: tuple[Tensor, Tensor],
        numbers: tuple[Tensor, Tensor, Tensor],
        *,
        epsilon: float,
        step: int,
    ) -> None:
        """One update in place of tensors [R, P]; ``numbers`` are beta1, beta2 and the rate, each [R, 1]."""
        members, row = parameters.shape
        self._functions.ganstudy_adam(
            ctypes.c_long(members),
            ctypes.c_long(row),
            *(_at(tensor) for tensor in (parameters, gradient, *moments, *numbers)),
            ctypes.c_double(epsilon),
            ctypes.c_long(step),
        )

    def _ld(self, batch: int) -> int:
        return int(self._functions.ganstudy_ld(ctypes.c_long(batch)))


def use(kernels: str) -> None:
    """Train this process's cohorts with these of KERNELS from now on.

    ValueError for an unknown name; RuntimeError where ``native`` cannot be built, or does not agree with torch.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels must be one of {', '.join(KERNELS)}, got {kernels!r}")
    _in_use[:] = [_checked(build())] if kernels == "native" else []


def serving(*tensors: Tensor) -> Library | None:
    """The compiled kernels, where they are in use and serve these tensors: float32 on the CPU."""
    if not _in_use or any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
        return None
    return _in_use[0]


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


@lru_cache(maxsize=64)
def _longs(numbers: tuple[int, ...]) -> ctypes.Array[ctypes.c_long]:
    return (ctypes.c_long * len(numbers))(*numbers)


def _structures(*networks: Network) -> list[ctypes.Array[_Structure]]:
    """Pointers to the networks as C reads them."""
    return [
        (_Structure * 1)(
            _Structure(
                len(one.sizes) - 1,
                _longs(one.sizes),
                one.slope,
                one.bounded,
                one.parameters.data_ptr(),
                one.parameters.stride(0),
            )
        )
        for one in networks
    ]


def _minibatches(*tensors: Tensor | None) -> ctypes.Array[_Given]:
    """Where minibatches [R, batch, .] begin and how far the members' lie apart; each lies in one piece, or is none."""
    rows = (_Given(_at(one), 0 if one is None else one.stride(0)) for one in tensors)
    return (_Given * len(tensors))(*rows)


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
