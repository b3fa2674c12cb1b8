"""Small files of the form of MNIST and CIFAR-10, with classes that differ: made here, so that nothing is downloaded."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def pictures(rng: np.random.Generator, labels: Bytes, *, channels: int, side: int) -> Bytes:
    """Images [n, channels, side, side]: a bright square whose place is the label's, on a dark noisy ground."""
    images = rng.integers(0, 40, size=(len(labels), channels, side, side))
    cell = side // 4
    for image, label in zip(images, labels, strict=True):
        y, x = divmod(int(label), 4)
        image[:, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] += int(rng.integers(160, 215))
    return images.astype(np.uint8)


def _labels(per_class: int) -> Bytes:
    return np.tile(np.arange(10, dtype=np.uint8), per_class)


def write_mnist(folder: Path, *, per_class: int = 20, packed: bool = False, seed: int = 1) -> Path:
    """The four IDX files with ``per_class`` images of each class in each half."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for half in ("train", "t10k"):
        labels = _labels(per_class)
        images = pictures(rng, labels, channels=1, side=28)
        contents = {
            f"{half}-images-idx3-ubyte": struct.pack(">4I", 2051, len(labels), 28, 28) + images.tobytes(),
            f"{half}-labels-idx1-ubyte": struct.pack(">2I", 2049, len(labels)) + labels.tobytes(),
        }
        for name, content in contents.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def write_cifar10(folder: Path, *, per_class: int = 20, seed: int = 1) -> Path:
    """The six binary files, each with ``per_class`` images of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        labels = _labels(per_class)
        images = pictures(rng, labels, channels=3, side=32)
        records = np.concatenate([labels[:, None], images.reshape(len(labels), -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    return folder
