"""Finds, checks and reads the files of an image set: no pickle, no download (standard library only)."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from trainers.catalogue_images import CLASSES, IMAGE_SETS, DataFile, ImageSet

_IDX_IMAGES, _IDX_LABELS = 0x00000803, 0x00000801
_IDX_SIDE = 28
_CIFAR_PIXELS = 3 * 32 * 32
_CIFAR_RECORD = 1 + _CIFAR_PIXELS

FEWEST_OF_A_CLASS = 10
"""Images of each class that each half needs at least: a judge compares within classes."""


class DataError(ValueError):
    """Files that are missing, damaged, or not what they should be: ``problems`` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_files(name: str, folder: Path, *, contents: str = "published") -> tuple[dict[str, bytes], str]:
    """File name -> its unpacked bytes, and the set's identity: 64 hex digits over the contents, packed or not.

    ``contents``: ``published`` wants the published checksums, ``any`` the form only. Raises DataError with every
    file that is missing or wrong, where it is expected and where people get it.
    """
    images = IMAGE_SETS[name]
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for file in images.files:
        try:
            found[file.name] = _checked(folder, file, images, published=contents == "published")
        except (OSError, EOFError, zlib.error, ValueError) as error:
            problems.append(f"{file.name}: {error}")
    if not problems:
        problems += _CHECKS[name](found)
    if problems:
        form = " (as it is or as NAME.gz)" if images.packed else ""
        raise DataError(
            [
                *problems,
                f"the {len(images.files)} files of {name} are expected in {folder}{form}; "
                f"people get them from {images.where}",
            ]
        )
    return found, identity(found)


def identity(found: Mapping[str, bytes]) -> str:
    """SHA-256 over names and SHA-256 of all files, in their order: 64 hex digits that no path enters."""
    whole = hashlib.sha256()
    for name, content in found.items():
        whole.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def _checked(folder: Path, file: DataFile, images: ImageSet, *, published: bool) -> bytes:
    content = _unpacked(folder, file.name, packed=images.packed)
    if not published:
        return content
    if len(content) != file.size:
        raise ValueError(f"must hold {file.size:,} bytes, got {len(content):,}: cut short, or another file")
    got = hashlib.new(file.algorithm, content, usedforsecurity=False).hexdigest()
    if got != file.checksum:
        raise ValueError(
            f"its {file.algorithm} must be the published {file.checksum[:16]}..., got {got[:16]}...: damaged, or "
            "another set of the same form (for that, write contents: any)"
        )
    return content


def _unpacked(folder: Path, name: str, *, packed: bool) -> bytes:
    plain, zipped = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return plain.read_bytes()
    if packed and zipped.is_file():
        with gzip.open(zipped) as stream:
            return stream.read()
    raise ValueError("is missing")


def _mnist_problems(found: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the form of IDX files: magic numbers, counts, sizes and labels."""
    problems = []
    for half in ("train", "t10k"):
        images, labels = f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte"
        problems += [
            *_idx_problem(images, found[images], _IDX_IMAGES),
            *_idx_problem(labels, found[labels], _IDX_LABELS),
        ]
        if problems:
            continue
        pictures, names = (struct.unpack(">I", found[name][4:8])[0] for name in (images, labels))
        if pictures != names:
            problems.append(f"{labels}: must hold a label for each of {pictures:,} images, got {names:,}")
        problems += _label_problems(labels, found[labels][8:])
    return problems


def _idx_problem(name: str, content: bytes, magic: int) -> list[str]:
    words = 4 if magic == _IDX_IMAGES else 2
    if len(content) < 4 * words:
        return [f"{name}: must begin with {4 * words} bytes of IDX header, got {len(content)} bytes"]
    got, count, *sides = struct.unpack(f">{words}I", content[: 4 * words])
    if got != magic:
        return [f"{name}: must begin with the IDX magic number {magic}, got {got}"]
    if any(side != _IDX_SIDE for side in sides):
        return [f"{name}: images must be {_IDX_SIDE}x{_IDX_SIDE}, got {'x'.join(map(str, sides))}"]
    size = 4 * words + count * (_IDX_SIDE**2 if sides else 1)
    if len(content) != size:
        return [f"{name}: must hold {size:,} bytes for {count:,} items, got {len(content):,}"]
    return []


def _cifar10_problems(found: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the form of CIFAR-10's binary files: whole records, and labels."""
    problems = []
    for name, content in found.items():
        if not content or len(content) % _CIFAR_RECORD:
            problems.append(f"{name}: must hold whole records of {_CIFAR_RECORD} bytes, got {len(content):,} bytes")
    if not problems:
        training = b"".join(content[::_CIFAR_RECORD] for name, content in found.items() if name != "test_batch.bin")
        problems += _label_problems("data_batch_*.bin", training)
        problems += _label_problems("test_batch.bin", found["test_batch.bin"][::_CIFAR_RECORD])
    return problems


def _label_problems(name: str, labels: bytes) -> list[str]:
    if labels and max(labels) >= CLASSES:
        return [f"{name}: labels must be 0 to {CLASSES - 1}, got {max(labels)}"]
    rare = [str(label) for label in range(CLASSES) if labels.count(label) < FEWEST_OF_A_CLASS]
    if rare:
        return [f"{name}: must hold at least {FEWEST_OF_A_CLASS} images of each class, has fewer of {', '.join(rare)}"]
    return []


_CHECKS: Mapping[str, Callable[[Mapping[str, bytes]], list[str]]] = MappingProxyType(
    {"mnist": _mnist_problems, "cifar10": _cifar10_problems}
)
