"""MNIST and CIFAR-10 as targets, from files that the user named: bytes in, labelled images out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.catalogue_images import IMAGE_SETS, image_shape
from trainers.image_files import DataError, read_files
from trainers.labelled import Bytes, LabelledImages

_IDX_IMAGES_HEADER, _IDX_LABELS_HEADER = 16, 8
_PADDED = 32
"""MNIST's 28x28 get a border of two blank pixels before they are cut into blocks for a side of 16 or 8."""

Half = tuple[Bytes, NDArray[np.int64]]


def mnist(*, folder: str, size: int, contents: str, data: str | None = None) -> LabelledImages:
    """MNIST from its four IDX files, 28x28 or block means of it: trained on 60,000, judged by the 10,000 test images.

    Raises DataError for files that are missing, damaged, or not those that ``data`` (their identity) names.
    """
    return _labelled("mnist", folder, size, contents, data)


def cifar10(*, folder: str, size: int, contents: str, data: str | None = None) -> LabelledImages:
    """CIFAR-10 from its six binary files, 3x32x32 or block means of it: 50,000 to train on, 10,000 held out.

    Raises DataError for files that are missing, damaged, or not those that ``data`` (their identity) names.
    """
    return _labelled("cifar10", folder, size, contents, data)


@lru_cache(maxsize=2)
def _labelled(name: str, folder: str, size: int, contents: str, data: str | None) -> LabelledImages:
    found, identity = read_files(name, Path(folder), contents=contents)
    if data is not None and data != identity:
        raise DataError([f"the files of {name} in {folder} must have the identity {data}, got {identity}"])
    halves = _mnist_halves(found) if name == "mnist" else _cifar10_halves(found)
    (training, training_labels), (held_out, held_out_labels) = halves
    channels, height, width = image_shape({"name": name, "size": size})
    return LabelledImages(
        name=name,
        sample_shape=(height, width) if channels == 1 else (channels, height, width),
        training_images=block_means(training, size),
        training_labels=training_labels,
        held_out_images=block_means(held_out, size),
        held_out_labels=held_out_labels,
        mode_names=IMAGE_SETS[name].class_names,
    )


def _mnist_halves(found: Mapping[str, bytes]) -> tuple[Half, Half]:
    def half(name: str) -> Half:
        pixels = np.frombuffer(found[f"{name}-images-idx3-ubyte"], np.uint8, offset=_IDX_IMAGES_HEADER)
        labels = np.frombuffer(found[f"{name}-labels-idx1-ubyte"], np.uint8, offset=_IDX_LABELS_HEADER)
        return pixels.reshape(-1, 1, 28, 28), labels.astype(np.int64)

    return half("train"), half("t10k")


def _cifar10_halves(found: Mapping[str, bytes]) -> tuple[Half, Half]:
    def half(*names: str) -> Half:
        records = np.frombuffer(b"".join(found[name] for name in names), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)

    training = [name for name in found if name != "test_batch.bin"]
    return half(*training), half("test_batch.bin")


def block_means(images: Bytes, size: int) -> Bytes:
    """Images [n, c, s, s] with a side of ``size``, as flat rows [n, c size size]: means of square blocks, rounded.

    Where 28 is no multiple of ``size`` (16, 8), two blank pixels are put around each image first.
    """
    side = images.shape[-1]
    if side % size:
        border = (_PADDED - side) // 2
        images = np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))
    block = images.shape[-1] // size
    if block == 1:
        return np.ascontiguousarray(images).reshape(len(images), -1)
    blocks = images.reshape(*images.shape[:2], size, block, size, block)
    sums = blocks.sum(axis=(3, 5), dtype=np.uint32)
    means: Bytes = ((sums + block**2 // 2) // block**2).astype(np.uint8)
    return means.reshape(len(images), -1)
