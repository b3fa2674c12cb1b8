"""Targets: declared modes are real, std is a standard deviation, halves are disjoint."""

from __future__ import annotations

import numpy as np
import pytest

from trainers import catalogue
from trainers.targets import (
    SPLIT_SEED,
    TARGETS,
    build_target,
    digits,
    grid,
    ring,
    stacked_digits,
    stratified_halves,
)


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_registry_and_catalogue_name_the_same_targets() -> None:
    assert set(TARGETS) == set(catalogue.TARGETS)


@pytest.mark.parametrize("modes", [7, 8])
def test_ring_has_as_many_distinct_modes_as_declared(modes: int) -> None:
    target = ring(modes=modes, radius=2.0, std=0.1)
    gaps = np.linalg.norm(target.centres[:, None] - target.centres[None], axis=-1) + 1e9 * np.eye(modes)
    # neighbouring corners of a regular polygon: 2 r sin(pi / n), far apart in units of std (T9)
    assert gaps.min() == pytest.approx(4.0 * np.sin(np.pi / modes))
    assert gaps.min() > 6 * target.std
    assert target.n_modes == len(target.mode_names) == len(set(target.mode_names)) == modes


def test_ring_samples_have_the_declared_standard_deviation_and_equal_weights() -> None:
    target = ring(modes=3, radius=2.0, std=0.3)
    x = target.sample(rng(), 60_000)
    nearest = np.linalg.norm(x[:, None] - target.centres[None], axis=-1).argmin(axis=1)
    residual = x - target.centres[nearest]
    assert x.dtype == np.float32
    assert residual.std(axis=0) == pytest.approx([0.3, 0.3], rel=0.02)  # a variance would give .55 (T10)
    assert np.bincount(nearest) / len(x) == pytest.approx(target.mode_weights, abs=0.01)


def test_grid_is_the_published_grid() -> None:
    target = grid(side=5, spacing=2.0, std=0.05)
    published = {(float(a), float(b)) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}
    assert {(float(a), float(b)) for a, b in target.centres} == published
    assert len(set(target.mode_names)) == 25
    even = grid(side=2, spacing=3.0, std=0.1)
    assert sorted(set(even.centres[:, 0])) == [-1.5, 1.5]


def test_digits_are_scaled_to_tanh_range_and_split_in_disjoint_stratified_halves() -> None:
    from sklearn.datasets import load_digits

    target, raw = digits(), load_digits()
    everything = np.concatenate([target.training_images, target.held_out_images])
    assert everything.shape == (1797, 64)
    assert everything.min() == -1.0
    assert everything.max() == 1.0
    # the two halves together are the data set, each row once
    assert np.array_equal(np.unique(everything, axis=0), np.unique(raw.data / 8 - 1, axis=0).astype(np.float32))
    counts = np.bincount(raw.target)
    assert np.array_equal(np.bincount(target.training_labels), (counts + 1) // 2)
    assert np.array_equal(np.bincount(target.held_out_labels), counts // 2)
    # labels stayed with their images
    scaled = (raw.data / 8 - 1).astype(np.float32)
    by_image = {image.tobytes(): label for image, label in zip(scaled, raw.target, strict=True)}
    held_out = zip(target.held_out_images, target.held_out_labels, strict=True)
    assert all(by_image[image.tobytes()] == label for image, label in held_out)


def test_digits_samples_come_from_their_own_half() -> None:
    target = digits()
    training = {image.tobytes() for image in target.training_images}
    held_out = {image.tobytes() for image in target.held_out_images}
    assert {x.tobytes() for x in target.sample(rng(), 3000)} <= training
    everything = target.held_out(rng(), target.held_out_size)
    assert {x.tobytes() for x in everything} == held_out
    assert training.isdisjoint(held_out)
    with pytest.raises(ValueError, match=r"n must be <= 896.*got 897"):
        target.held_out(rng(), target.held_out_size + 1)


def test_halves_are_disjoint_and_the_odd_one_goes_to_training() -> None:
    labels = np.array([4, 4, 4, 9, 9])
    first, second = stratified_halves(labels, rng(SPLIT_SEED))
    assert sorted([*first, *second]) == [0, 1, 2, 3, 4]
    assert sorted(labels[first]) == [4, 4, 9]
    assert sorted(labels[second]) == [4, 9]


def test_stacked_digits_are_three_independent_digits_of_one_half() -> None:
    target, single = stacked_digits(), digits()
    assert (target.sample_shape, target.dimensions, target.n_modes) == ((3, 8, 8), 192, 1000)
    for draw, images in ((target.sample, single.training_images), (target.held_out, single.held_out_images)):
        known = {image.tobytes(): i for i, image in enumerate(images)}
        stacks = draw(rng(), 4000).reshape(-1, 3, 64)
        places = np.array([[known[channel.tobytes()] for channel in stack] for stack in stacks])
        # channels are drawn apart: repeats within a stack are as rare as chance has them, and places do not correlate
        assert (places[:, 0] == places[:, 1]).mean() < 0.01
        assert np.abs(np.corrcoef(places.T) - np.eye(3)).max() < 0.06
        assert len(np.unique(places[:, 2])) > 0.9 * len(images)
    assert {x.tobytes() for x in target.held_out(rng(), 500)}.isdisjoint(
        {x.tobytes() for x in target.sample(rng(), 500)}
    )


def test_modes_of_stacked_digits_are_numbered_with_the_first_channel_slowest() -> None:
    target, single = stacked_digits(), digits()
    assert target.mode_names[407] == "407"
    assert len(set(target.mode_names)) == 1000
    share = single.mode_weights
    table = share[:, None, None] * share[None, :, None] * share[None, None, :]
    np.testing.assert_allclose(target.mode_weights.reshape(10, 10, 10), table)
    assert len(set(np.round(share, 6))) > 1  # so that another order would show


@pytest.mark.parametrize(
    "mapping",
    [{"name": "ring", "modes": 5}, {"name": "grid", "side": 3}, {"name": "digits"}, {"name": "stacked_digits"}],
)
def test_same_generator_same_bytes(mapping: dict[str, object]) -> None:
    target = build_target(mapping)
    for draw in (target.sample, target.held_out):
        assert draw(rng(1), 50).tobytes() == draw(rng(1), 50).tobytes()
        assert draw(rng(1), 50).tobytes() != draw(rng(2), 50).tobytes()
    assert target.sample(rng(1), 50).shape == (50, target.dimensions)
    assert target.dimensions == np.prod(target.sample_shape)


def test_defaults_are_the_catalogues() -> None:
    target = build_target({"name": "ring"})
    assert target.n_modes == 8
    assert np.linalg.norm(target.sample(rng(), 5000).mean(axis=0)) < 0.2


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "rign"}, r"target\.name must be one of ring, grid, digits.*, got 'rign'\. Did you mean 'ring'"),
        ({}, r"got None"),
        ({"name": "ring", "mods": 8}, r"target\.mods is no parameter of ring\. Did you mean 'modes'"),
        ({"name": "ring", "std": -0.1}, r"target\.std must be a number > 0, got -0\.1"),
        ({"name": "grid", "side": 2.5}, r"target\.side must be a whole number"),
    ],
)
def test_bad_targets_are_refused_by_name(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_target(mapping)
