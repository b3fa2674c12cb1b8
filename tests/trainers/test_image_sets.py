"""MNIST and CIFAR-10 from files: what is read, what is refused, and that cohorts train on them as on everything."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.image_files import write_cifar10, write_mnist
from tests.trainers.programs import members, program
from trainers import loop
from trainers.catalogue_images import IMAGE_SETS
from trainers.cohort import Cohort
from trainers.evaluation import build_judge
from trainers.image_files import DataError, read_files
from trainers.image_sets import block_means
from trainers.targets import build_target

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("mnist"), per_class=12)


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cifar10(tmp_path_factory.mktemp("cifar"), per_class=10)


def target_of(name: str, folder: Path, **options: object) -> dict[str, object]:
    return {"name": name, "folder": str(folder), "contents": "any", **options}


# ---- what is read ----


def test_an_mnist_image_is_the_bytes_of_its_file_from_minus_one_to_one(mnist: Path) -> None:
    target = build_target(target_of("mnist", mnist))
    pixels = np.frombuffer((mnist / IMAGES).read_bytes()[16:], np.uint8).reshape(-1, 784)
    assert target.sample_shape == (28, 28)
    assert np.allclose(target.training(np.arange(5)), pixels[:5] / 127.5 - 1, atol=1e-6)
    assert target.training_labels[:11].tolist() == [*range(10), 0]
    drawn = target.sample(np.random.default_rng(0), 50)
    assert drawn.dtype == np.float32
    assert -1 <= drawn.min() < -0.9 < 0.4 < drawn.max() <= 1


def test_test_images_are_held_out(mnist: Path) -> None:
    target = build_target(target_of("mnist", mnist))
    held = np.frombuffer((mnist / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 784)
    drawn = target.held_out(np.random.default_rng(0), target.held_out_size)
    assert {row.tobytes() for row in np.rint((drawn + 1) * 127.5).astype(np.uint8)} == {row.tobytes() for row in held}


def test_a_cifar_image_is_three_planes_after_its_label(cifar10: Path) -> None:
    target = build_target(target_of("cifar10", cifar10))
    record = np.frombuffer((cifar10 / "data_batch_2.bin").read_bytes(), np.uint8).reshape(-1, 3073)[3]
    assert target.sample_shape == (3, 32, 32)
    assert len(target.training_images) == 5 * 100
    assert target.training_labels[103] == record[0] == 3
    assert np.array_equal(np.rint((target.training(np.array([103]))[0] + 1) * 127.5), record[1:])
    assert target.mode_names[3] == "cat"


@pytest.mark.parametrize(("side", "size"), [(28, 14), (28, 16), (32, 8), (28, 28)])
def test_smaller_images_are_means_of_blocks(side: int, size: int) -> None:
    image = np.zeros((1, 2, side, side), np.uint8)
    image[0, 1, side // 2 :, : side // 2] = 200  # the lower left quarter of the second channel
    small = block_means(image, size).reshape(2, size, size)
    assert small[0].max() == 0
    assert small[1, : size // 2].max() == small[1, :, size // 2 :].max() == 0
    border = 32 / 28 if size == 16 else 1.0  # 28 is no multiple of 16: two blank pixels on each side
    assert small[1].mean() * border**2 == pytest.approx(50, rel=0.01)


def test_what_was_packed_has_the_same_identity_and_another_image_another(tmp_path: Path, mnist: Path) -> None:
    packed = write_mnist(tmp_path / "packed", per_class=12, packed=True)
    other = write_mnist(tmp_path / "other", per_class=12, seed=2)
    plain = read_files("mnist", mnist, contents="any")[1]
    assert read_files("mnist", packed, contents="any")[1] == plain
    assert read_files("mnist", other, contents="any")[1] != plain
    with pytest.raises(DataError, match=f"must have the identity {plain}, got "):
        build_target(target_of("mnist", other, data=plain))


# ---- what is refused ----


def damaged(folder: Path, change: Callable[[Path], object]) -> list[str]:
    write_mnist(folder, per_class=12)
    change(folder)
    with pytest.raises(DataError) as caught:
        read_files("mnist", folder, contents="any")
    return caught.value.problems


def rewrite(name: str, change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        change(content)
        (folder / name).write_bytes(content)

    return apply


def put(place: int | slice, value: object) -> Callable[[bytearray], object]:
    return lambda content: content.__setitem__(place, value)  # type: ignore[index]


def pack_badly(folder: Path) -> None:
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / LABELS).unlink(), f"{LABELS}: is missing"),
        (pack_badly, f"{IMAGES}: Not a gzipped file"),
        (rewrite(IMAGES, put(3, 1)), f"{IMAGES}: must begin with the IDX magic number 2051, got 2049"),
        (rewrite(IMAGES, put(slice(-9, None), b"")), f"{IMAGES}: must hold 94,096 bytes for 120 items"),
        (rewrite(IMAGES, put(15, 27)), f"{IMAGES}: images must be 28x28, got 28x27"),
        (rewrite(LABELS, put(8, 10)), f"{LABELS}: labels must be 0 to 9, got 10"),
        (rewrite(LABELS, put(slice(8, 128), bytes(120))), f"{LABELS}: must hold at least 10 images of each class"),
        (rewrite(LABELS, bytearray.clear), f"{LABELS}: must begin with 8 bytes of IDX header, got 0 bytes"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    problems = damaged(tmp_path, change)
    assert problems[0].startswith(message)
    assert len(problems) == 2
    assert str(tmp_path) in problems[1]
    assert "https://" in problems[1]


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, per_class=12, packed=True)
    whole = (tmp_path / f"{IMAGES}.gz").read_bytes()
    (tmp_path / f"{IMAGES}.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{IMAGES}: Compressed file ended"):
        read_files("mnist", tmp_path, contents="any")


def test_every_missing_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_files("cifar10", tmp_path / "nowhere")
    assert [line.partition(":")[0] for line in caught.value.problems[:6]] == [
        *(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
    ]


def test_half_a_record_of_cifar_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, per_class=10)
    file = tmp_path / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_4.bin: must hold whole records of 3073 bytes, got 307,299 bytes"):
        read_files("cifar10", tmp_path, contents="any")


def test_files_of_the_form_of_mnist_are_not_mnist(tmp_path: Path, mnist: Path) -> None:
    """Right sizes and wrong content, as Fashion-MNIST has them, and a set of another size: the checksum decides."""
    with pytest.raises(DataError, match="must hold 47,040,016 bytes, got 94,096: cut short, or another file"):
        read_files("mnist", mnist)
    labels = IMAGE_SETS["mnist"].files[3]
    (tmp_path / f"{labels.name}.gz").write_bytes(gzip.compress(bytes(labels.size)))
    with pytest.raises(DataError, match=rf"{labels.name}: its sha256 must be the published ff7bcfd4"):
        read_files("mnist", tmp_path)


def test_checksums_have_the_length_of_their_algorithm() -> None:
    lengths = {"sha256": 64, "md5": 32}
    for images in IMAGE_SETS.values():
        checksums = [file.checksum for file in images.files]
        assert len(set(checksums)) == len(checksums)
        assert all(len(file.checksum) == lengths[file.algorithm] for file in images.files)


# ---- cohorts and judges ----


@pytest.mark.parametrize(
    ("name", "networks", "penalty"),
    [
        ("mnist", {"channels": 2}, "gradient_penalty"),
        ("cifar10", {"channels": 2, "stages": 3}, "r1_r2"),
    ],
)
def test_image_cohorts_keep_the_law_of_independence_under_double_backward(
    name: str, networks: dict[str, object], penalty: str, request: pytest.FixtureRequest
) -> None:
    of = program(
        networks={"name": "conv", "latent_dim": 4, **networks},
        target=target_of(name, request.getfixturevalue(name)),
        penalty=penalty,
        k=2,
        batch_size=8,
    )
    who = members(3, of=of)
    company, alone = Cohort.start(of, who), Cohort.start(of, [who[2]])
    for cohort in (company, alone):
        loop.advance(cohort, 3)
    assert company.discriminator_steps == 6
    assert bool(company.alive.all())
    for player in ("generator", "discriminator"):
        assert torch.equal(getattr(company, player).flat[2], getattr(alone, player).flat[0])


def test_the_judge_of_files_knows_classes_from_noise(mnist: Path) -> None:
    target = build_target(target_of("mnist", mnist, size=7))
    judge = build_judge(target, evaluation_samples=100)
    assert float(judge.reference["classifier_accuracy"]) > 0.95
    real = torch.from_numpy(target.sample(np.random.default_rng(3), 100))
    one_class = torch.from_numpy(target.training(np.flatnonzero(target.training_labels == 4)))
    noise = torch.from_numpy(np.random.default_rng(4).uniform(-1, 1, (100, 49)).astype(np.float32))
    measured = judge.measure(torch.stack([real, one_class.repeat(9, 1)[:100], noise]), nearest_neighbours=True)
    assert measured["mode_coverage"].tolist()[:2] == [1.0, 0.1]
    assert measured["modes_covered"].tolist()[1:] == [1.0, 0.0]
    assert measured["high_quality_fraction"][0] > 0.8
    assert measured["high_quality_fraction"][2] == 0
    assert measured["knn_coverage"][0] > 0.8
    assert measured["knn_coverage"][1] < 0.3
