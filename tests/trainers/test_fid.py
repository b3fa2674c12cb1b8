"""FID with a stand-in for Inception's features, and every way in which Inception can be missing."""

from __future__ import annotations

import builtins
import hashlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.image_files import write_cifar10, write_mnist
from trainers import inception
from trainers.evaluation import Judge, build_judge
from trainers.fid import as_bytes, features_of
from trainers.inception import ExtractorError, require_inception
from trainers.targets import build_target


def quarters(images: Tensor) -> Tensor:
    """Four features [n, 4] of images [n, 3, h, w]: a mean, and three corners, in units of the bytes."""
    assert images.dtype == torch.uint8
    assert images.shape[1] == 3
    values = images.double()
    return torch.stack([values.mean((1, 2, 3)), values[:, 0, 5, 5], values[:, 1, 5, 12], values[:, 2, 12, 5]], dim=1)


def closed_form(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al.'s equation 6 by the general matrix root: eigenvalues of the product, which is not symmetric."""
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), np.cov(x.T, bias=True)) for x in (a, b))
    roots = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder = write_cifar10(tmp_path_factory.mktemp("cifar"), per_class=10)
    target = build_target({"name": "cifar10", "folder": str(folder), "contents": "any", "size": 16})
    return build_judge(target, evaluation_samples=60, groups=("fid",), extractor=quarters)


def test_fid_is_the_closed_form_on_the_features_of_bytes(judge: Judge, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    samples = torch.from_numpy(rng.uniform(-1, 1, (2, 60, 3 * 16 * 16)).astype(np.float32))
    measured = judge.measure(samples, nearest_neighbours=False, groups=("fid",))["fid"]
    reals = quarters(as_bytes(_held_out(judge), (3, 16, 16))).numpy()
    for r in range(2):
        fakes = quarters(as_bytes(samples[r], (3, 16, 16))).numpy()
        assert float(measured[r]) == pytest.approx(closed_form(fakes, reals), rel=1e-6)
    judge.save(tmp_path / "judge.pt")
    loaded = Judge.load(tmp_path / "judge.pt")
    assert torch.equal(loaded.fid_root, judge.fid_root)
    again = _with(loaded).measure(samples, nearest_neighbours=False, groups=("fid",))["fid"]
    assert torch.equal(again, measured)


def _held_out(judge: Judge) -> Tensor:
    """All held-out images: they are the judge's reals here, of which it keeps up to 1,000."""
    return judge.reals


def _with(judge: Judge) -> Judge:
    from dataclasses import replace

    return replace(judge, extractor=quarters)


def test_real_images_score_lower_than_noise(judge: Judge) -> None:
    real = judge.reals[:60]
    noise = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, real.shape).astype(np.float32))
    good, bad = judge.measure(torch.stack([real, noise]), nearest_neighbours=False, groups=("fid",))["fid"].tolist()
    assert good < bad / 10


def test_without_the_group_nothing_asks_for_inception(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path, per_class=10)
    target = build_target({"name": "mnist", "folder": str(folder), "contents": "any", "size": 7})
    judge = build_judge(target, evaluation_samples=50)
    assert "fid" not in judge.measure(judge.reals[None, :50], nearest_neighbours=False)
    assert len(judge.fid_mean) == 0


def test_bytes_are_the_nearest_levels_and_grey_is_in_all_channels() -> None:
    samples = torch.tensor([[-1.0, 1.0, 0.0, 2.0]])
    images = as_bytes(samples, (2, 2))
    assert images.tolist() == [[[[0, 255], [128, 255]]] * 3]
    features = features_of(samples[None].expand(1, 205, 4), (2, 2), lambda images: images.double().flatten(1))
    assert features.shape == (1, 205, 12)


# ---- where Inception cannot be had ----


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder of downloads, and nothing remembered."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(inception.VARIABLE, raising=False)
    inception.weights_file.cache_clear()
    inception.inception.cache_clear()
    yield
    inception.weights_file.cache_clear()
    inception.inception.cache_clear()


class StandIn:
    """Takes the place of torch-fidelity's network: what it is given is what it returns."""

    def __init__(self, name: str, features: list[str], *, feature_extractor_weights_path: str) -> None:
        assert features == ["2048"]
        self.path = feature_extractor_weights_path

    def to(self, device: object) -> None:
        self.device = device

    def __call__(self, images: Tensor) -> tuple[Tensor]:
        return (images.float().flatten(1)[:, :2],)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch-fidelity as if it were there."""
    module: Any = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = StandIn
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named"), RuntimeError("torchvision::nms is missing")])
def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A torchvision that was built for another torch raises a RuntimeError while it is imported."""
    plain = builtins.__import__

    def refusing(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("torch_fidelity"):
            raise error
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ExtractorError, match=r"pip install 'ganstudy\[fid\]'.*" + type(error).__name__):
        require_inception()


@pytest.mark.usefixtures("installed")
def test_missing_weights_say_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExtractorError) as caught:
        require_inception()
    for part in (inception.URL, str(tmp_path / "torch" / "hub" / "checkpoints"), inception.VARIABLE):
        assert part in str(caught.value)
    monkeypatch.setenv(inception.VARIABLE, str(tmp_path / "elsewhere.pth"))
    with pytest.raises(ExtractorError, match=r"elsewhere.pth \(named by GANSTUDY_INCEPTION\) is missing"):
        require_inception()


@pytest.mark.usefixtures("installed")
def test_weights_that_are_not_the_published_ones_are_never_unpickled(tmp_path: Path) -> None:
    place = tmp_path / "torch" / "hub" / "checkpoints" / inception.NAMES[1]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not weights")
    with pytest.raises(ExtractorError, match=r"must have SHA-256 6726825d0af5.* 95,628,359 bytes, got .* and 11"):
        inception.inception()


@pytest.mark.usefixtures("installed")
def test_weights_named_by_the_variable_are_what_the_network_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(b"the published weights")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setenv(inception.VARIABLE, str(file))
    require_inception()
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    assert inception.inception()(images).tolist() == [[0.0, 1.0], [12.0, 13.0]]
