"""Labelled images as targets: a training half, a held-out half, and stacks of independent images as channels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def as_floats(images: FloatArray | Bytes) -> FloatArray:
    """Images as float32: bytes are brought to [-1, 1], floats are left as they are."""
    if images.dtype != np.uint8:
        return images.astype(np.float32, copy=False)
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """A finite set of labelled images in two halves: one to train on, one held out to judge against.

    Images are flat rows [M, d]: float32 in [-1, 1], or bytes that stand for it (0 is -1, 255 is 1) and are kept as
    such, a quarter as large; everything that leaves here is float32. Labels are mode indices.
    """

    name: str
    sample_shape: tuple[int, ...]
    training_images: FloatArray | Bytes
    training_labels: NDArray[np.int64]
    held_out_images: FloatArray | Bytes
    held_out_labels: NDArray[np.int64]
    mode_names: tuple[str, ...]
    bounded: bool = True

    @property
    def dimensions(self) -> int:
        """Pixels per image."""
        return int(self.training_images.shape[1])

    @property
    def n_modes(self) -> int:
        """How many classes there are."""
        return len(self.mode_names)

    @property
    def mode_weights(self) -> NDArray[np.float64]:
        """Share of each class in the training half, [n_modes]."""
        counts = np.bincount(self.training_labels, minlength=self.n_modes)
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    @property
    def held_out_size(self) -> int:
        """Images in the held-out half."""
        return len(self.held_out_images)

    @property
    def even_halves(self) -> bool:
        """Whether both halves are of one size, but for an odd one out of each class."""
        return abs(len(self.training_images) - len(self.held_out_images)) <= self.n_modes

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` training images with replacement, [n, dimensions]."""
        return self.training(rng.integers(len(self.training_images), size=n))

    def held_out(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` distinct held-out images, [n, dimensions]; ValueError beyond ``held_out_size``."""
        if n > self.held_out_size:
            raise ValueError(f"held_out: n must be <= {self.held_out_size} for {self.name}, got {n}.")
        return as_floats(self.held_out_images[rng.permutation(self.held_out_size)[:n]])

    def training(self, rows: NDArray[np.int64]) -> FloatArray:
        """Training images by their places, [len(rows), dimensions]."""
        return as_floats(self.training_images[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class StackedImages:
    """``channels`` labelled images, each drawn on its own, as the channels of one image; a mode is their labels.

    The digits 4, 0 and 7 make mode 407. ``held_out`` stacks held-out images only; there are so many different stacks
    that the supply counts as endless.
    """

    name: str
    images: LabelledImages
    channels: int
    bounded: bool = True
    held_out_size: None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return (self.channels, *self.images.sample_shape)

    @property
    def dimensions(self) -> int:
        """Pixels of all channels."""
        return self.channels * self.images.dimensions

    @property
    def n_modes(self) -> int:
        """How many combinations of labels there are."""
        return int(self.images.n_modes**self.channels)

    @property
    def mode_names(self) -> tuple[str, ...]:
        """The channels' labels, one after the other."""
        return tuple("".join(labels) for labels in itertools.product(self.images.mode_names, repeat=self.channels))

    @property
    def mode_weights(self) -> NDArray[np.float64]:
        """Products of the labels' shares in the training half, [n_modes]."""
        shares = np.ones(1)
        for _ in range(self.channels):
            shares = np.outer(shares, self.images.mode_weights).ravel()
        return shares

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` stacks of training images, [n, dimensions]."""
        return self._stack(self.images.training_images, rng, n)

    def held_out(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` stacks of held-out images, [n, dimensions]."""
        return self._stack(self.images.held_out_images, rng, n)

    def _stack(self, images: FloatArray | Bytes, rng: np.random.Generator, n: int) -> FloatArray:
        return as_floats(images[rng.integers(len(images), size=(n, self.channels))].reshape(n, self.dimensions))
