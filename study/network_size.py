"""How large a study's networks are, from its file alone: what the cost estimate multiplies (standard library only)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from trainers.catalogue_images import IMAGE_SETS, image_shape
from trainers.catalogue_models import CONV_STAGES

_SHAPES = {"digits": (1, 8, 8), "stacked_digits": (3, 8, 8), "dirac": (1, 1, 1)}
_PLANE = (1, 1, 2)
_ASSUMED = {"latent_dim": 16, "width": 64, "depth": 2, "stages": CONV_STAGES}
_PATCH_AREA = 16
_NORMALISED = 5
"""Batch normalisation passes over its activations about this many times more often."""
_PATCHED = 3
"""Patches are cut out, turned and put back."""


def dimensions(target: Mapping[str, object]) -> int:
    """Numbers in one flat sample."""
    return math.prod(sample_shape(target))


def sample_shape(target: Mapping[str, object]) -> tuple[int, int, int]:
    """(channels, height, width) of one sample; a point in the plane is (1, 1, 2)."""
    name = str(target["name"])
    return image_shape(target) if name in IMAGE_SETS else _SHAPES.get(name, _PLANE)


def parameter_count(networks: Mapping[str, object], target: Mapping[str, object]) -> int:
    """Products of weights with one sample, in both players: the weights and biases, but for convolutions.

    A convolution's weights meet every pixel. Networks of the user's own are taken to be an MLP of the default size.
    """
    if networks.get("name") == "conv":
        return sum(rows * columns * pixels for rows, columns, pixels in _convolutions(networks, target))
    return sum(_dense(sizes, pieces=pieces) for sizes, pieces in _players(networks, target))


def unit_count(networks: Mapping[str, object], target: Mapping[str, object]) -> int:
    """Activations that one sample passes through, in both players, without the inputs."""
    if networks.get("name") == "conv":
        return sum(_PATCHED * (rows + columns) * pixels for rows, columns, pixels in _convolutions(networks, target))
    units = sum(sum(sizes[1:-1]) * pieces + sizes[-1] for sizes, pieces in _players(networks, target))
    return units + _normalised_units(networks) * _NORMALISED


def _normalised_units(networks: Mapping[str, object]) -> int:
    if networks.get("name") == "pacgan":
        return _size(networks, "generator_depth") * _size(networks, "generator_width")
    if networks.get("batch_norm") == "generator":
        return _size(networks, "depth") * _size(networks, "width")
    return 0


def _players(networks: Mapping[str, object], target: Mapping[str, object]) -> list[tuple[list[int], int]]:
    """Layer sizes and maxout pieces of generator and discriminator, fully connected."""
    latent, samples = _size(networks, "latent_dim"), dimensions(target)
    if networks.get("name") == "dirac":  # one number each
        return [([0, 1], 1), ([0, 1], 1)]
    if networks.get("name") == "pacgan":
        generator = [_size(networks, "generator_width")] * _size(networks, "generator_depth")
        discriminator = [_size(networks, "discriminator_width")] * _size(networks, "discriminator_depth")
        return [([latent, *generator, samples], 1), ([samples, *discriminator, 1], _size(networks, "maxout_pieces"))]
    hidden = [_size(networks, "width")] * _size(networks, "depth")
    return [([latent, *hidden, samples], 1), ([samples, *hidden, 1], 1)]


def _dense(sizes: Sequence[int], *, pieces: int) -> int:
    *hidden, (last_in, last_out) = itertools.pairwise(sizes)
    return sum((fan_in + 1) * units * pieces for fan_in, units in hidden) + (last_in + 1) * last_out


def _convolutions(networks: Mapping[str, object], target: Mapping[str, object]) -> list[tuple[int, int, int]]:
    """Rows and columns of each weight, and how many pixels (or patches) of one sample it meets."""
    colours, height, width = sample_shape(target)
    latent, narrow, stages = (_size(networks, name) for name in ("latent_dim", "channels", "stages"))
    widths = [colours, *(narrow << stage for stage in range(stages))]
    pixels = [height * width >> 2 * stage for stage in range(1, stages + 1)]
    inner = list(zip(itertools.pairwise(widths), pixels, strict=True))
    generator = [(wide, few * _PATCH_AREA, patches) for (few, wide), patches in reversed(inner)]
    discriminator = [(few * _PATCH_AREA, wide, patches) for (few, wide), patches in inner]
    ends = [(latent, pixels[-1] * widths[-1], 1), (pixels[-1] * widths[-1], 1, 1)]
    return [*generator, *discriminator, *ends]


def _size(networks: Mapping[str, object], name: str) -> int:
    value = networks.get(name)
    return value if isinstance(value, int) else _ASSUMED.get(name, 1)
