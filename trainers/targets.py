"""What a GAN learns: targets one can draw fresh real samples from, with declared modes (a point mass has none)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainers import catalogue
from trainers.image_sets import cifar10, mnist
from trainers.labelled import FloatArray, LabelledImages, StackedImages
from trainers.point_mass import PointMass

SPLIT_SEED = 1797
"""Seed of the one split of finite data into a training half and a held-out half: the same in every study."""


class Target(Protocol):
    """A distribution to learn; samples are flat float32 rows of ``dimensions`` numbers.

    ``bounded``: samples lie in [-1, 1], so the generator ends in a tanh. ``mode_weights`` are each mode's share.
    """

    @property
    def name(self) -> str:
        """Registry name."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample before flattening, e.g. (8, 8)."""

    @property
    def dimensions(self) -> int:
        """Numbers per sample."""

    @property
    def bounded(self) -> bool:
        """Whether every sample lies in [-1, 1]."""

    @property
    def mode_names(self) -> tuple[str, ...]:
        """One name per mode."""

    @property
    def mode_weights(self) -> NDArray[np.float64]:
        """Share of each mode in the training distribution, [n_modes], summing to 1."""

    @property
    def n_modes(self) -> int:
        """How many modes the target declares; 0 for one that is not judged by modes."""

    @property
    def held_out_size(self) -> int | None:
        """Distinct held-out samples there are; None where the supply is endless."""

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` training samples, [n, dimensions] (finite data: with replacement)."""

    def held_out(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` real samples to judge against, [n, dimensions] (finite data: distinct images never trained on)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianMixture:
    """Equally weighted round Gaussians with known centres [n_modes, dimensions]; ``std`` is a standard deviation."""

    name: str
    centres: NDArray[np.float64]
    std: float
    mode_names: tuple[str, ...]
    bounded: bool = False
    held_out_size: None = None

    @property
    def dimensions(self) -> int:
        """Numbers per sample."""
        return int(self.centres.shape[1])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample: a point."""
        return (self.dimensions,)

    @property
    def n_modes(self) -> int:
        """How many Gaussians there are."""
        return len(self.centres)

    @property
    def mode_weights(self) -> NDArray[np.float64]:
        """Equal shares, [n_modes]."""
        return np.full(self.n_modes, 1.0 / self.n_modes)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` points, [n, dimensions]."""
        mode = rng.integers(self.n_modes, size=n)
        noise = rng.standard_normal((n, self.dimensions))
        return (self.centres.take(mode, axis=0) + self.std * noise).astype(np.float32)

    def held_out(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` fresh points: the supply is endless, so real is real."""
        return self.sample(rng, n)


def ring(*, modes: int, radius: float, std: float) -> GaussianMixture:
    """Equal Gaussians on a circle: mode i at angle 2 pi i / modes (the end point is not a second first mode, T9)."""
    angle = 2.0 * np.pi * np.arange(modes) / modes
    centres = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    names = tuple(f"{360.0 * i / modes:g} deg" for i in range(modes))
    return GaussianMixture(name="ring", centres=centres, std=std, mode_names=names)


def grid(*, side: int, spacing: float, std: float) -> GaussianMixture:
    """Equal Gaussians on a ``side`` x ``side`` square grid centred at the origin."""
    axis = spacing * (np.arange(side) - (side - 1) / 2.0)
    centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    names = tuple(f"({x:g}, {y:g})" for x, y in centres)
    return GaussianMixture(name="grid", centres=centres, std=std, mode_names=names)


def digits() -> LabelledImages:
    """The 1,797 handwritten digits of scikit-learn, 8x8, 17 grey levels scaled to [-1, 1], each class halved.

    ImportError where scikit-learn is missing.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only this target needs scikit-learn

    data = load_digits()
    images = (data.data / 8.0 - 1.0).astype(np.float32)
    labels = data.target.astype(np.int64)
    training, held_out = stratified_halves(labels, np.random.default_rng(SPLIT_SEED))
    return LabelledImages(
        name="digits",
        sample_shape=(8, 8),
        training_images=images[training],
        training_labels=labels[training],
        held_out_images=images[held_out],
        held_out_labels=labels[held_out],
        mode_names=tuple(str(digit) for digit in range(10)),
    )


def stacked_digits() -> StackedImages:
    """Three digits as the channels of one 3x8x8 image: 1,000 modes. ImportError where scikit-learn is missing."""
    return StackedImages(name="stacked_digits", images=digits(), channels=3)


def stratified_halves(
    labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split row indices in two disjoint, sorted halves that hold each class equally (the first gets odd ones out)."""
    first, second = [], []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        middle = (len(rows) + 1) // 2
        first.append(rows[:middle])
        second.append(rows[middle:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


TARGETS: Mapping[str, Callable[..., Target]] = MappingProxyType(
    {
        "ring": ring,
        "grid": grid,
        "digits": digits,
        "stacked_digits": stacked_digits,
        "mnist": mnist,
        "cifar10": cifar10,
        "dirac": PointMass,
    }
)
"""Target name -> its constructor; parameters, ranges and defaults are in ``catalogue.TARGETS``."""


def build_target(mapping: Mapping[str, object]) -> Target:
    """Build a target from ``{"name": ..., parameter: value, ...}``, defaults filled in.

    Raises ValueError that names an unknown target or parameter, or a value out of its range.
    """
    given = dict(mapping)
    name = given.pop("name", None)
    if not isinstance(name, str) or name not in TARGETS:
        raise ValueError(f"target.name must be one of {', '.join(TARGETS)}, got {name!r}.{_nearest(name, TARGETS)}")
    entry = catalogue.TARGETS[name]
    parameters, settings = {p.name: p for p in entry.parameters}, {s.name: s for s in entry.settings}
    for key, value in given.items():
        if key in settings:
            if settings[key].read(value) is None:
                raise ValueError(f"target.{key} must be {settings[key].rule}, got {value!r}.")
        elif key not in parameters:
            raise ValueError(f"target.{key} is no parameter of {name}.{_nearest(key, {**parameters, **settings})}")
        elif not parameters[key].allows(value):
            raise ValueError(f"target.{key} must be {parameters[key].rule}, got {value!r}.")
    missing = [setting.name for setting in entry.settings if setting.required and setting.name not in given]
    if missing:
        raise ValueError(f"target.{missing[0]} is required: {settings[missing[0]].rule}.")
    return TARGETS[name](**{**entry.defaults, **{s.name: s.default for s in entry.settings}, **given})


def _nearest(name: object, known: Mapping[str, object]) -> str:
    matches = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    return f" Did you mean {matches[0]!r}?" if matches else ""
