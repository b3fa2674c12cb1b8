"""The judge of 1,000 modes: its assignment against one image at a time, what real data score, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers import metrics
from trainers import modes as modes_module
from trainers.evaluation import Judge, build_judge
from trainers.modes import ClassModes, StackedModes, build_modes
from trainers.targets import StackedImages, digits, stacked_digits


@pytest.fixture(scope="module")
def target() -> StackedImages:
    return stacked_digits()


@pytest.fixture(scope="module")
def fitted(target: StackedImages) -> tuple[StackedModes, dict[str, float]]:
    modes, fit = build_modes(target, seed=3)
    assert isinstance(modes, StackedModes)
    return modes, fit


def real(target: StackedImages, n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(target.held_out(np.random.default_rng(seed), n))


def test_every_channel_is_judged_as_the_digit_it_is(
    target: StackedImages, fitted: tuple[StackedModes, dict[str, float]]
) -> None:
    modes, fit = fitted
    single, alone = build_modes(digits(), seed=3)
    assert isinstance(single, ClassModes)
    assert fit == alone
    samples = real(target, 300).view(2, 150, 192).clone()
    samples[1, :40] += 0.4 * torch.randn(40, 192, generator=torch.Generator().manual_seed(1))
    found = modes.assign(samples)
    # one image at a time, with the judge of single digits and the wider radii
    wide = ClassModes(**{**{name: getattr(single, name) for name in single.__dataclass_fields__}, "radii": modes.radii})
    channels = [wide.assign(samples.view(2, 150, 3, 64)[:, :, c]) for c in range(3)]
    assert torch.equal(found.mode, 100 * channels[0].mode + 10 * channels[1].mode + channels[2].mode)
    together = channels[0].high_quality & channels[1].high_quality & channels[2].high_quality
    assert torch.equal(found.high_quality, together)
    assert 0 < together.double().mean() < 1
    assert bool((modes.radii > single.radii).all())


def test_labels_of_real_stacks_are_found(target: StackedImages, fitted: tuple[StackedModes, dict[str, float]]) -> None:
    images = digits()
    rng = np.random.default_rng(4)
    chosen = rng.integers(len(images.held_out_images), size=(900, 3))
    labels = images.held_out_labels[chosen] @ np.array([100, 10, 1])
    stacks = torch.from_numpy(images.held_out_images[chosen].reshape(1, 900, 192))
    agreement = float((fitted[0].assign(stacks).mode[0].numpy() == labels).mean())
    accuracy = fitted[1]["classifier_accuracy"]
    assert agreement == pytest.approx(accuracy**3, abs=0.05)
    assert accuracy > 0.9


def test_the_assignment_does_not_depend_on_how_it_is_cut(
    target: StackedImages, fitted: tuple[StackedModes, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = real(target, 400).view(1, 400, 192)
    whole = fitted[0].assign(samples)
    largest = []
    distances = metrics.squared_distances
    monkeypatch.setattr(
        metrics, "squared_distances", lambda a, b: largest.append(a.shape[0] * b.shape[0]) or distances(a, b)
    )
    monkeypatch.setattr(modes_module, "IMAGES_AT_ONCE", 16)
    cut = fitted[0].assign(samples)
    assert max(largest) <= 16 * int(fitted[0].class_sizes.max())
    assert torch.equal(cut.mode, whole.mode)
    assert torch.equal(cut.high_quality, whole.high_quality)


@pytest.mark.parametrize("n_modes", [3, 1000])
def test_counts_of_modes_are_those_of_numpy(n_modes: int) -> None:
    rng = np.random.default_rng(2)
    mode = rng.integers(n_modes, size=(4, 700))
    where = rng.random((4, 700)) < 0.3
    where[3] = False
    for kept in (None, where):
        counts = metrics.mode_counts(
            torch.from_numpy(mode), n_modes, where=None if kept is None else torch.from_numpy(kept)
        )
        chosen = [row if kept is None else row[kept[r]] for r, row in enumerate(mode)]
        assert np.array_equal(counts.numpy(), [np.bincount(row, minlength=n_modes) for row in chosen])
        assert counts.dtype == torch.float64


@pytest.mark.slow
def test_real_data_cover_all_modes_and_one_digit_does_not(target: StackedImages, tmp_path) -> None:  # type: ignore[no-untyped-def]
    judge = build_judge(target, evaluation_samples=20_000)
    reference = judge.reference
    assert reference["modes"] == 1000
    assert reference["coverage_ceiling"] > 0.95  # type: ignore[operator]
    assert 0.85 < reference["quality_ceiling"] <= 1  # type: ignore[operator]
    samples = real(target, 20_000, seed=9)[None]
    measured = judge.measure(samples, nearest_neighbours=True)
    assert measured["modes_covered"] > 900
    assert measured["mode_kl"] < 0.2
    one = samples[:, :1].expand(-1, 20_000, -1)
    collapsed = judge.measure(one, nearest_neighbours=False)
    assert collapsed["mode_coverage"] == pytest.approx(0.001)
    assert collapsed["modes_covered"] <= 1
    assert collapsed["mode_kl"] > 6
    judge.save(tmp_path / "judge.pt")
    again = Judge.load(tmp_path / "judge.pt")
    assert isinstance(again.modes, StackedModes)
    for name, value in again.measure(samples, nearest_neighbours=True).items():
        assert torch.equal(value, measured[name])
