"""The image sets that a user brings as files: which files, how to know them, where people get them (stdlib only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainers.declaration import Entry, Setting

CLASSES = 10
"""Classes of each of these sets: labels 0 to 9."""

HEX_DIGITS_OF_DATA = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file of a set: its name, the bytes it holds when unpacked, and a published checksum of these.

    ``algorithm``: sha256, or md5 where no SHA-256 is published that more than one source agrees on.
    """

    name: str
    size: int
    algorithm: str
    checksum: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """The files of a set in their order, training first, and what the images are.

    ``sizes``: sides that images may be brought to, the own one first; ``packed``: each file may also lie there as
    NAME.gz; ``where``: where people get it.
    """

    files: tuple[DataFile, ...]
    channels: int
    sizes: tuple[int, ...]
    packed: bool
    where: str
    class_names: tuple[str, ...]


_DIGITS = tuple(str(digit) for digit in range(CLASSES))

IMAGE_SETS: Mapping[str, ImageSet] = MappingProxyType(
    {
        "mnist": ImageSet(
            files=(
                DataFile(
                    name="train-images-idx3-ubyte",
                    size=47_040_016,
                    algorithm="sha256",
                    checksum="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                DataFile(
                    name="train-labels-idx1-ubyte",
                    size=60_008,
                    algorithm="sha256",
                    checksum="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                DataFile(
                    name="t10k-images-idx3-ubyte",
                    size=7_840_016,
                    algorithm="sha256",
                    checksum="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                DataFile(
                    name="t10k-labels-idx1-ubyte",
                    size=10_008,
                    algorithm="sha256",
                    checksum="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
            channels=1,
            sizes=(28, 16, 14, 8, 7),
            packed=True,
            where="https://storage.googleapis.com/cvdf-datasets/mnist/ (NAME.gz; first published at yann.lecun.com)",
            class_names=_DIGITS,
        ),
        "cifar10": ImageSet(
            files=tuple(
                DataFile(name=name, size=30_730_000, algorithm="md5", checksum=checksum)
                for name, checksum in (
                    ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
                    ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
                    ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
                    ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
                    ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
                    ("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
                )
            ),
            channels=3,
            sizes=(32, 16, 8),
            packed=False,
            where="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz (its folder cifar-10-batches-bin)",
            class_names=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
        ),
    }
)
"""Target name -> its files."""


def image_shape(target: Mapping[str, object]) -> tuple[int, int, int]:
    """(channels, height, width) of the images of a set, from a study file's target."""
    images = IMAGE_SETS[str(target["name"])]
    side = target.get("size", images.sizes[0])
    assert isinstance(side, int)
    return images.channels, side, side


def _text(value: object) -> object:
    return value if isinstance(value, str) and value.strip() else None


def _contents(value: object) -> object:
    return value if value in ("published", "any") else None


def _digest(value: object) -> object:
    hexadecimal = (
        isinstance(value, str) and len(value) == HEX_DIGITS_OF_DATA and not set(value) - set("0123456789abcdef")
    )
    return value if hexadecimal else None


def _settings(images: ImageSet) -> tuple[Setting, ...]:
    sizes = ", ".join(str(size) for size in images.sizes)

    def read_size(value: object) -> object:
        return value if isinstance(value, int) and not isinstance(value, bool) and value in images.sizes else None

    return (
        Setting(
            name="folder",
            meaning="where the files lie; a relative path is taken from the study file's own folder",
            rule="the path of a folder",
            default=None,
            required=True,
            read=_text,
            schema={"type": "string", "minLength": 1, "description": "where the files lie"},
        ),
        Setting(
            name="size",
            meaning="side of the images in pixels: smaller ones are means of blocks of pixels",
            rule=f"one of {sizes}",
            default=images.sizes[0],
            read=read_size,
            schema={"enum": list(images.sizes), "description": "side of the images, by means of blocks of pixels"},
        ),
        Setting(
            name="contents",
            meaning="published: the files must be the published ones, by checksum; any: any files of this form",
            rule="published or any",
            default="published",
            read=_contents,
            schema={"enum": ["published", "any"], "description": "whether checksums must be the published ones"},
        ),
        Setting(
            name="data",
            meaning="SHA-256 over the files' contents: filled in from the files, or written to insist on them",
            rule=f"{HEX_DIGITS_OF_DATA} hex digits",
            default=None,
            read=_digest,
            schema={"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 over the files' contents"},
        ),
    )


IMAGE_TARGETS = (
    Entry(
        name="mnist",
        summary="MNIST from your own IDX files, scaled to [-1, 1]; its test images are held out.",
        reference="LeCun et al. 1998, Gradient-based learning applied to document recognition",
        settings=_settings(IMAGE_SETS["mnist"]),
        images=True,
    ),
    Entry(
        name="cifar10",
        summary="CIFAR-10 from your own files (the binary version), scaled to [-1, 1]; its test images are held out.",
        reference="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        settings=_settings(IMAGE_SETS["cifar10"]),
        images=True,
    ),
)
