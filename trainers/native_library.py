"""The compiled functions of ``native.c`` as Python calls them: tensors in, tensors out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.ziggurat import tables

BLOCK = 256
"""Samples that ``outputs`` takes through a network at once, as native.c has it."""


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

    def normals(self, seeds: Sequence[int], stream: int, index: int, out: NDArray[np.float32]) -> None:
        """Fills ``out`` [R, ...] with numpy's standard normals of SFC64(SeedSequence(seed, (stream, index)))."""
        count = ctypes.c_long(out[0].size)
        self._draw("ganstudy_normals", seeds, stream, index, out, count, *map(_of, tables(np.float32)))

    def uniforms(self, seeds: Sequence[int], stream: int, index: int, out: NDArray[np.float32]) -> None:
        """Fills ``out`` [R, ...] with that generator's numbers uniform in [0, 1)."""
        self._draw("ganstudy_uniforms", seeds, stream, index, out, ctypes.c_long(out[0].size))

    def mixture(
        self,
        seeds: Sequence[int],
        stream: int,
        index: int,
        out: NDArray[np.float32],
        *,
        centres: NDArray[np.float64],
        std: float,
    ) -> None:
        """Fills ``out`` [R, ..., d] with GaussianMixture.sample's points around ``centres`` [modes, d]."""
        modes, dimensions = centres.shape
        assert out.shape[-1] == dimensions
        assert modes < 2**24, "native_draws.h keeps a mode's number where its point will be"
        counts = (ctypes.c_long(n) for n in (out[0].size // dimensions, modes, dimensions))
        what = (_of(np.ascontiguousarray(centres, np.float64)), ctypes.c_double(std), *map(_of, tables(np.float64)))
        self._draw("ganstudy_mixture", seeds, stream, index, out, *counts, *what)

    def _draw(
        self, function: str, seeds: Sequence[int], stream: int, index: int, out: NDArray[np.float32], *more: object
    ) -> None:
        words = np.array(seeds, dtype=np.uint64)
        assert out.shape[0] == len(words)
        assert out.flags.c_contiguous
        numbers = (ctypes.c_uint32(stream), ctypes.c_uint32(index))
        self._functions[function](ctypes.c_long(len(words)), _of(words), *numbers, *more, _of(out))

    def _ld(self, batch: int) -> int:
        return int(self._functions.ganstudy_ld(ctypes.c_long(batch)))


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


def _of(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
