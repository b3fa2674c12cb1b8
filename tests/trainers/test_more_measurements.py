"""Optional measurements of samples: closed forms, and four samplers whose faults are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from trainers.evaluation import Judge, build_judge
from trainers.frechet import frechet_distance, matrix_root, moments
from trainers.measurement import GROUPS
from trainers.memorisation import memorised_fraction
from trainers.metrics import Assignment, mode_kl_off
from trainers.targets import GaussianMixture, LabelledImages, grid, ring

torch.set_num_threads(1)

N = 2500  # as many as the judge of the ring is built for
ALL = tuple(name for name in GROUPS if name != "fid")  # fid needs weights from elsewhere: test_fid.py


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def measured(judge: Judge, samples: np.ndarray) -> dict[str, float]:
    """The optional measurements of one sampler's samples [N, d]."""
    groups = [name for name in ALL if name != "memorisation" or len(judge.training_images)]
    got = judge.measure(torch.from_numpy(samples).float()[None], nearest_neighbours=False, groups=groups)
    usual = judge.measure(torch.from_numpy(samples).float()[None], nearest_neighbours=False)
    assert {name: got[name].item() for name in usual} == {name: value.item() for name, value in usual.items()}
    return {name: value.item() for name, value in got.items() if name not in usual}


# --- KL over modes and an off-mode bin -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "modes"), [(ring(modes=8, radius=2.0, std=0.1), 8), (grid(side=5, spacing=2.0, std=0.05), 25)]
)
def test_a_perfect_sampler_scores_its_bias_of_k_over_two_n(target: GaussianMixture, modes: int) -> None:
    """2 N KL is chi-square with as many degrees of freedom as there are modes (one bin more, one constraint)."""
    judge = build_judge(target, evaluation_samples=N)
    samples = torch.from_numpy(np.stack([target.sample(rng(i), N) for i in range(60)]))
    scores = judge.measure(samples, nearest_neighbours=False, groups=["off_mode"])["mode_kl_off"]
    assert float(scores.mean()) == pytest.approx(modes / (2 * N), rel=0.2)


def test_off_mode_kl_of_known_faults(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    on = 1 - math.exp(-4.5)
    jitter = 0.1 * rng(1).standard_normal((N, 2))
    one_mode = measured(ring_judge, ring_target.centres[3] + jitter)["mode_kl_off"]
    half = measured(ring_judge, ring_target.centres[rng().choice([0, 2, 4, 6], size=N)] + jitter)["mode_kl_off"]
    noise = measured(ring_judge, 50.0 + rng().standard_normal((N, 2)))["mode_kl_off"]
    assert one_mode == pytest.approx(on * math.log(8), abs=0.03)
    assert half == pytest.approx(on * math.log(2), abs=0.03)
    assert noise == pytest.approx(4.5, abs=0.06)  # -ln e^-4.5: it pays for every sample that is on no mode
    spread = ring_target.sample(rng(2), N)
    spread[: N // 2] = 50.0 + rng(3).standard_normal((N // 2, 2))
    # all 25 modes may be hit while half of the mass is on none: mode_kl hardly sees it
    assert measured(ring_judge, spread)["mode_kl_off"] == pytest.approx(
        0.5 * math.log(0.5 / (1 - on)) - 0.5 * math.log(2), abs=0.1
    )


def test_off_mode_kl_of_hand_counted_samples_with_unequal_weights() -> None:
    mode = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 0]])
    good = torch.tensor([[True, True, False, True, True, True, True, False]])
    got = mode_kl_off(Assignment(mode=mode, high_quality=good), torch.tensor([0.75, 0.25]).double(), off_mode=0.2)
    shares, real = [2 / 8, 4 / 8, 2 / 8], [0.75 * 0.8, 0.25 * 0.8, 0.2]
    assert got.item() == pytest.approx(sum(p * math.log(p / q) for p, q in zip(shares, real, strict=True)))


def test_off_mode_kl_on_digits_orders_the_samplers(digits_judge: Judge, digits_target: LabelledImages) -> None:
    images, labels = digits_target.training_images, digits_target.training_labels
    perfect = measured(digits_judge, digits_target.sample(rng(), 1000))["mode_kl_off"]
    half = measured(digits_judge, images[rng().choice(np.flatnonzero(labels < 5), 1000)])["mode_kl_off"]
    one = measured(digits_judge, images[rng().choice(np.flatnonzero(labels == 7), 1000)])["mode_kl_off"]
    noise = measured(digits_judge, rng().uniform(-1, 1, (1000, 64)))["mode_kl_off"]
    assert perfect < 0.02  # floor 10 / (2 x 1000) = .005
    assert half == pytest.approx(math.log(2) * 0.95, abs=0.05)
    assert one == pytest.approx(math.log(10) * 0.95, abs=0.1)
    assert noise == pytest.approx(-math.log(1 - float(digits_judge.reference["quality_ceiling"])), rel=0.02)


# --- Frechet distance ----------------------------------------------------------------------------------


def exact(mean: np.ndarray, covariance: np.ndarray, *, n: int, seed: int) -> torch.Tensor:
    """Samples [n, d] whose own mean and covariance (divisor n) are exactly these."""
    raw = rng(seed).standard_normal((n, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(raw.T @ raw / n)).T
    return torch.from_numpy(white @ np.linalg.cholesky(covariance).T + mean)


def between(a: torch.Tensor, b: torch.Tensor) -> float:
    mean, covariance = moments(b)
    return frechet_distance(a[None], real_mean=mean, real_root=matrix_root(covariance)).item()


def test_frechet_distance_of_gaussians_with_common_axes() -> None:
    """|m_1 - m_2|^2 + sum (s_1 - s_2)^2 of the standard deviations along the axes."""
    a = exact(np.array([1.0, 0.0, -2.0]), np.diag([4.0, 1.0, 0.25]), n=50, seed=1)
    b = exact(np.array([0.0, 3.0, -2.0]), np.diag([1.0, 9.0, 0.25]), n=70, seed=2)
    assert between(a, b) == pytest.approx(1 + 9 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert between(b, a) == pytest.approx(between(a, b))
    assert between(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_of_any_gaussians_equals_scipys_matrix_root() -> None:
    for seed in range(5):
        factors = rng(seed).standard_normal((2, 6, 6))
        first, second = (factor @ factor.T + 0.01 * np.eye(6) for factor in factors)
        means = rng(seed + 10).standard_normal((2, 6))
        cross = np.real(scipy.linalg.sqrtm(first @ second))
        want = np.sum((means[0] - means[1]) ** 2) + np.trace(first + second - 2 * cross)
        got = between(exact(means[0], first, n=40, seed=seed), exact(means[1], second, n=60, seed=seed + 1))
        assert got == pytest.approx(float(want), rel=1e-9)


def test_frechet_distance_of_known_samplers_in_the_plane(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    """Coordinates of the ring: mean 0 and variance 2^2/2 + .1^2 = 2.01 each."""
    jitter = 0.1 * rng(1).standard_normal((N, 2))
    perfect = measured(ring_judge, ring_target.sample(rng(), N))["frechet_distance"]
    one = measured(ring_judge, ring_target.centres[3] + jitter)["frechet_distance"]
    noise = measured(ring_judge, 50.0 + rng().standard_normal((N, 2)))["frechet_distance"]
    assert perfect < 0.01
    assert one == pytest.approx(4 + 2 * (math.sqrt(2.01) - 0.1) ** 2, rel=0.02)
    assert noise == pytest.approx(2 * 50**2 + 2 * (math.sqrt(2.01) - 1) ** 2, rel=0.01)
    # two moments are all it sees: every second mode of the ring has those of the ring
    half = measured(ring_judge, ring_target.centres[rng().choice([0, 2, 4, 6], size=N)] + jitter)
    assert half["frechet_distance"] < 0.02
    assert half["mode_kl_off"] > 0.6


def test_frechet_distance_on_features_of_digits_sees_what_moments_of_pixels_cannot(
    digits_judge: Judge, digits_target: LabelledImages
) -> None:
    images, labels = digits_target.training_images, digits_target.training_labels
    perfect = measured(digits_judge, digits_target.sample(rng(), 1000))["frechet_distance"]
    half = measured(digits_judge, images[rng().choice(np.flatnonzero(labels < 5), 1000)])["frechet_distance"]
    one = measured(digits_judge, images[rng().choice(np.flatnonzero(labels == 7), 1000)])["frechet_distance"]
    gaussian = rng().multivariate_normal(images.mean(axis=0), np.cov(images.T), size=1000)
    noise = measured(digits_judge, rng().uniform(-1, 1, (1000, 64)))["frechet_distance"]
    assert 0 < perfect < measured(digits_judge, gaussian)["frechet_distance"] / 2
    assert 10 * perfect < half < one < noise


def test_the_real_moments_are_those_of_all_held_out_data(ring_judge: Judge, digits_judge: Judge) -> None:
    assert digits_judge.feature_mean.shape == (64,)
    assert digits_judge.feature_root.shape == (64, 64)
    assert ring_judge.feature_mean.tolist() == pytest.approx([0, 0], abs=0.03)
    assert (ring_judge.feature_root @ ring_judge.feature_root).diagonal().tolist() == pytest.approx(
        [2.01, 2.01], rel=0.02
    )


# --- memorisation --------------------------------------------------------------------------------------


def test_memorised_fraction_of_copies_and_of_strangers(digits_judge: Judge, digits_target: LabelledImages) -> None:
    training, held_out = digits_target.training_images, digits_target.held_out_images
    copies = training[rng().choice(len(training), 1000)]
    blurred = copies + 0.05 * rng(1).standard_normal(copies.shape)
    assert measured(digits_judge, copies)["memorised_fraction"] == 1.0
    assert measured(digits_judge, blurred)["memorised_fraction"] == 1.0
    strangers = held_out[rng().choice(len(held_out), 1000)]
    assert measured(digits_judge, strangers)["memorised_fraction"] == 0.0
    gaussian = rng().multivariate_normal(training.mean(axis=0), np.cov(training.T), size=1000)
    assert measured(digits_judge, gaussian)["memorised_fraction"] == pytest.approx(0.5, abs=0.08)
    half = copies.copy()
    half[:500] = strangers[:500]
    assert measured(digits_judge, half)["memorised_fraction"] == 0.5
    # why it has no direction: a collapse is all or nothing
    assert measured(digits_judge, np.repeat(strangers[:1], 1000, axis=0))["memorised_fraction"] == 0.0


def test_memorised_fraction_counts_ties_as_half() -> None:
    training, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[2.0], [20.0]])
    samples = torch.tensor([[[0.5], [1.0], [1.5], [9.0]]])
    got = memorised_fraction(samples, training=training, held_out=held_out)
    assert got.tolist() == [(1 + 0.5 + 0 + 1) / 4]


def test_the_halves_of_the_judge_are_the_targets_and_nothing_where_data_are_endless(
    digits_judge: Judge, digits_target: LabelledImages, ring_judge: Judge
) -> None:
    assert torch.equal(digits_judge.training_images, torch.from_numpy(digits_target.training_images))
    assert torch.equal(digits_judge.held_out_images, torch.from_numpy(digits_target.held_out_images))
    assert ring_judge.training_images.shape == (0, 2)


# --- members -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_optional_measurements_are_the_same_in_any_company_and_after_storage(
    name: str, request: pytest.FixtureRequest, tmp_path: str
) -> None:
    judge, target = request.getfixturevalue(f"{name}_judge"), request.getfixturevalue(f"{name}_target")
    groups = ["off_mode", "frechet", *(["memorisation"] if name == "digits" else [])]
    n = int(judge.reference["evaluation_samples"])
    samples = torch.from_numpy(np.stack([target.sample(rng(i), n) for i in range(9)])) * 0.98
    samples[4, 7, 1] = math.nan
    judge.save(f"{tmp_path}/judge.pt")
    together = Judge.load(f"{tmp_path}/judge.pt").measure(samples, nearest_neighbours=False, groups=groups)
    for place in (0, 8):
        alone = judge.measure(samples[place : place + 1], nearest_neighbours=False, groups=groups)
        assert {key: value.item() for key, value in alone.items()} == {k: v[place].item() for k, v in together.items()}
    assert all(value[4].isnan() and value.isnan().sum() == 1 for value in together.values())
    assert {"mode_kl_off", "frechet_distance"} < together.keys()
