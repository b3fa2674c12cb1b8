"""Stacked convolutional networks after DCGAN, for small images (Radford et al. 2016, arXiv:1511.06434).

Convolutions are products with image patches (unfold, fold), so that they meet the same stacked matrix kernels as the
fully connected networks: one call for all members, and on CPU bit for bit the same in any company.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import fold, leaky_relu, unfold

from trainers.layers import Affine
from trainers.stacked import initial_row, layout_of

_PATCH: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1}
"""Halves or doubles an image's sides."""

_PATCH_AREA = 16
_NEGATIVE_SLOPE = 0.2


def image_shape(sample_shape: tuple[int, ...], *, stages: int) -> tuple[int, int, int]:
    """(channels, height, width) of samples (h, w) or (c, h, w); ValueError unless both sides halve ``stages`` times."""
    shape = (1, *sample_shape) if len(sample_shape) == 2 else sample_shape
    if len(shape) != 3 or shape[1] % 2**stages or shape[2] % 2**stages:
        raise ValueError(
            "networks.name: conv needs images (h, w) or (c, h, w) whose sides are multiples of "
            f"{2**stages}, got samples of shape {sample_shape}"
        )
    return shape[0], shape[1], shape[2]


class StackedConvGenerator:
    """Latents to images in [-1, 1]: each of ``stages`` doubles the sides; it ends with c channels, then the image.

    With two stages 2c channels at a quarter of the size, c at half of it. ReLU in between and tanh at the end;
    ``normalised``: batch normalisation of every hidden channel.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        *,
        latent_dim: int,
        channels: int,
        normalised: bool,
        init_std: float,
        stages: int = 2,
    ) -> None:
        colours, height, width = image_shape(sample_shape, stages=stages)
        self._start, self.init_std = (height >> stages, width >> stages), init_std
        area = self._start[0] * self._start[1]
        widths = [channels << stage for stage in reversed(range(stages))]
        self._project = Affine(rows=latent_dim, columns=area * widths[0], channels=widths[0], normalised=normalised)
        self._grow = [
            Affine(rows=wide, columns=narrow * _PATCH_AREA, channels=narrow, normalised=normalised)
            for wide, narrow in itertools.pairwise(widths)
        ]
        self._paint = Affine(rows=channels, columns=colours * _PATCH_AREA, channels=colours)
        self._layers = [self._project, *self._grow, self._paint]
        self.layout = layout_of(self._layers)

    def initial(self, seed: int, player: int) -> np.ndarray:
        """One member's initial row [P]; see ``Affine.initial``."""
        return initial_row(self._layers, self.layout, seed=seed, player=player, std=self.init_std)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Latents [R, batch, L] -> flat images [R, batch, c h w]."""
        members, batch = inputs.shape[:2]
        following, (height, width) = iter(parameters), self._start
        # between layers: one row per pixel, one column per channel
        pixels = self._project(inputs, following, spread=partial(_as_pixels, channels=self._project.channels))
        for layer in (*self._grow, self._paint):
            pixels = layer(torch.relu(pixels), following, spread=partial(_double, size=(height, width)))
            height, width = 2 * height, 2 * width
        images = pixels.view(members, batch, -1, self._paint.channels).transpose(2, 3)
        return torch.tanh(images.reshape(members, batch, -1))


class StackedConvDiscriminator:
    """Images to one logit: each of ``stages`` halves the sides and doubles the channels, from c on; leaky ReLU (0.2).

    Then one product. No batch normalisation: penalties want the gradient of each sample's own logit. ``spectral``:
    every weight, as a matrix of patches by channels, divided by its largest singular value.
    """

    def __init__(
        self, sample_shape: tuple[int, ...], *, channels: int, spectral: bool, init_std: float, stages: int = 2
    ) -> None:
        self._shape, self.init_std = image_shape(sample_shape, stages=stages), init_std
        colours, height, width = self._shape
        widths = [colours, *(channels << stage for stage in range(stages))]
        area = (height >> stages) * (width >> stages)
        self._shrink = [
            Affine(rows=narrow * _PATCH_AREA, columns=wide, channels=wide, spectral=spectral)
            for narrow, wide in itertools.pairwise(widths)
        ]
        self._verdict = Affine(rows=area * widths[-1], columns=1, channels=1, spectral=spectral)
        self._layers = [*self._shrink, self._verdict]
        self.layout = layout_of(self._layers)

    def initial(self, seed: int, player: int) -> np.ndarray:
        """One member's initial row [P]; see ``Affine.initial``."""
        return initial_row(self._layers, self.layout, seed=seed, player=player, std=self.init_std)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Flat images [R, batch, c h w] -> logits [R, batch, 1]."""
        members, batch = inputs.shape[:2]
        _, height, width = self._shape
        following = iter(parameters)
        first, *rest = self._shrink
        images = inputs.reshape(members * batch, *self._shape)
        pixels = _activated(first(_patches(images, members), following))
        for layer in rest:
            height, width = height // 2, width // 2
            images = pixels.view(members * batch, height * width, -1).transpose(1, 2)
            images = images.reshape(members * batch, -1, height, width)
            pixels = _activated(layer(_patches(images, members), following))
        return self._verdict(pixels.view(members, batch, -1), following)


def _as_pixels(products: Tensor, *, channels: int) -> Tensor:
    """[R, batch, pixels x channels] -> [R, batch x pixels, channels]."""
    return products.view(products.shape[0], -1, channels)


def _double(products: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Adds up overlapping patches: [R, batch h w, C x 16] -> [R, batch 2h 2w, C], as ConvTranspose2d(4, 2, 1)."""
    members, _, columns = products.shape
    height, width = size
    patches = products.view(-1, height * width, columns).transpose(1, 2)
    images = fold(patches, output_size=(2 * height, 2 * width), **_PATCH)
    return images.flatten(2).transpose(1, 2).reshape(members, -1, images.shape[1])


def _patches(images: Tensor, members: int) -> Tensor:
    """Patches of images [R batch, C, h, w] as rows: [R, batch h/2 w/2, C x 16], as Conv2d(4, 2, 1) sees them."""
    columns = unfold(images, **_PATCH)
    return columns.transpose(1, 2).reshape(members, -1, columns.shape[1])


def _activated(hidden: Tensor) -> Tensor:
    return leaky_relu(hidden, _NEGATIVE_SLOPE, inplace=True)
