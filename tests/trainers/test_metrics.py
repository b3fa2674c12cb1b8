"""Metrics against closed forms, brute force and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from trainers import metrics


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.from_numpy(rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("reals", [400, 1200])
def test_one_projection_is_scipys_wasserstein_distance(reals: int) -> None:
    fakes, real = 0.7 * normal(2, 400, 1, seed=1) + 0.3, normal(reals, 1, seed=2).abs()
    line = torch.ones(1, 1)
    got = metrics.sliced_wasserstein(
        fakes, projections=line, quantiles=metrics.real_quantiles(real, line, fakes.shape[1])
    )
    expected = [stats.wasserstein_distance(x[:, 0].numpy(), real[:, 0].numpy()) for x in fakes]
    # exact for equal sizes; else the quantile function is read at 400 mid-points
    assert got.tolist() == pytest.approx(expected, rel=1e-6 if reals == 400 else 5e-3)


def test_shift_moves_every_projection_by_its_component() -> None:
    real, shift = normal(300, 3), torch.tensor([0.5, -2.0, 0.25])
    directions = torch.nn.functional.normalize(normal(6, 3, seed=9), dim=1)
    quantiles = metrics.real_quantiles(real, directions, 300)
    got = metrics.sliced_wasserstein((real + shift)[None], projections=directions, quantiles=quantiles)
    assert float(got) == pytest.approx(float((directions @ shift).abs().mean()), rel=1e-5)
    assert float(metrics.sliced_wasserstein(real[None], projections=directions, quantiles=quantiles)) < 1e-6


def test_distance_does_not_mind_the_order_of_samples() -> None:
    real, fakes, line = normal(200, 2), normal(1, 200, 2, seed=8), torch.eye(2)
    quantiles = metrics.real_quantiles(real, line, 200)
    shuffled = fakes[:, torch.from_numpy(rng().permutation(200))]
    a, b = (metrics.sliced_wasserstein(x, projections=line, quantiles=quantiles) for x in (fakes, shuffled))
    assert float(a) == pytest.approx(float(b), rel=1e-6)


def test_samples_go_to_their_nearest_centre_and_are_good_within_the_radius() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 4.0]])
    samples = torch.tensor([[[0.2, 0.0], [5.1, 0.0], [0.0, 3.0], [9.6, 0.3]]])
    assignment = metrics.assign_to_centres(samples, centres=centres, radius=0.5)
    assert assignment.mode.tolist() == [[0, 1, 2, 1]]
    assert assignment.high_quality.tolist() == [[True, False, False, True]]


def test_small_distances_far_from_the_origin_survive_rounding() -> None:
    centres = torch.tensor([[1000.0, float(i)] for i in range(40)])  # above 25 rows cdist would use matmul
    samples = torch.tensor([[[1000.0, i + offset] for i in range(40) for offset in (0.01, 0.03)]])
    assignment = metrics.assign_to_centres(samples, centres=centres, radius=0.02)
    assert assignment.high_quality.tolist() == [[True, False] * 40]


def test_class_assignment_asks_the_distance_to_its_own_class_only() -> None:
    class_reals = (torch.tensor([[0.0, 0.0]]), torch.tensor([[5.0, 0.0], [9.0, 0.0]]))
    samples = torch.tensor([[[0.1, 0.0], [0.1, 0.0], [8.0, 0.0]]])
    logits = torch.tensor([[[2.0, 1.0], [1.0, 2.0], [-1.0, 0.0]]])
    assignment = metrics.assign_to_classes(
        samples, logits=logits, class_reals=class_reals, radii=torch.tensor([0.2, 1.5])
    )
    assert assignment.mode.tolist() == [[0, 1, 1]]
    assert assignment.high_quality.tolist() == [[True, False, True]]


def test_looking_at_one_class_finds_the_nearest_of_all_its_reals() -> None:
    rng = torch.Generator().manual_seed(8)
    class_reals = tuple(torch.randn(count, 64, generator=rng) for count in (9, 30, 4, 17))
    samples = torch.randn(2, 60, 64, generator=rng)
    label = torch.tensor([0] + [1] * 100 + [3] * 19).view(2, 60)  # one of the first class, none of the third
    exact = torch.stack([torch.cdist(samples.double(), reals.double()).amin(-1) for reals in class_reals])
    exact = exact.gather(0, label.unsqueeze(0)).squeeze(0)
    for quantile in (0.2, 0.5, 0.8):
        radius = float(exact.quantile(quantile))
        assignment = metrics.assign_to_classes(
            samples,
            logits=torch.eye(4)[label],
            class_reals=class_reals,
            radii=torch.full((4,), radius),
        )
        assert torch.equal(assignment.mode, label)
        assert torch.equal(assignment.high_quality, exact <= radius)


def test_mode_measurements_of_a_hand_counted_sampler() -> None:
    # 100 samples on 4 equal modes: fair share 25, needed 5; the second has 4, the fourth none of quality
    mode = torch.tensor([[0] * 60 + [1] * 4 + [2] * 5 + [3] * 31])
    good = torch.tensor([[True] * 30 + [False] * 30 + [True] * 9 + [False] * 31])
    weights = torch.full((4,), 0.25, dtype=torch.float64)
    got = metrics.mode_measurements(metrics.Assignment(mode=mode, high_quality=good), weights)
    assert got["mode_coverage"].item() == 0.75
    assert got["modes_covered"].item() == 3
    assert got["high_quality_fraction"].item() == pytest.approx(0.39)
    share = np.array([0.60, 0.04, 0.05, 0.31])
    assert got["mode_kl"].item() == pytest.approx(stats.entropy(share, np.full(4, 0.25)))


def test_fair_share_follows_unequal_target_weights() -> None:
    weights = torch.tensor([0.9, 0.1], dtype=torch.float64)
    counts = torch.tensor([[170.0, 30.0], [19.0, 181.0], [197.0, 3.0]], dtype=torch.float64)
    assert metrics.mode_coverage(counts, weights).tolist() == [1.0, 0.5, 0.5]
    swapped = metrics.mode_kl(counts, weights)[1].item()
    assert swapped == pytest.approx(stats.entropy([0.095, 0.905], [0.9, 0.1]))


@pytest.mark.parametrize("modes", [8, 25, 1000])
def test_collapse_to_one_mode_has_kl_log_k(modes: int) -> None:
    counts = torch.zeros(1, modes, dtype=torch.float64)
    counts[0, modes // 3] = 2500
    weights = torch.full((modes,), 1 / modes, dtype=torch.float64)
    assert metrics.mode_kl(counts, weights).item() == pytest.approx(math.log(modes))
    assert metrics.mode_coverage(counts, weights).item() == pytest.approx(1 / modes)


@pytest.mark.parametrize("modes", [8, 25])
def test_perfect_sampler_has_the_known_floor_of_reverse_kl(modes: int) -> None:
    n, repeats = 2500, 400
    weights = torch.full((modes,), 1 / modes, dtype=torch.float64)
    counts = torch.from_numpy(rng().multinomial(n, np.full(modes, 1 / modes), size=repeats).astype(float))
    floor = (modes - 1) / (2 * n)
    standard_error = math.sqrt(2 * (modes - 1)) / (2 * n) / math.sqrt(repeats)  # 2 N KL is about chi-square, K - 1
    assert float(metrics.mode_kl(counts, weights).mean()) == pytest.approx(floor, abs=4 * standard_error)


def brute_force(fakes: np.ndarray, reals: np.ndarray, k: int) -> dict[str, float]:
    """Naeem et al. 2020, equations 3 to 5 and Kynkaanniemi's recall, with explicit loops."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real_radius = [radius(reals, j) for j in range(len(reals))]
    fake_radius = [radius(fakes, i) for i in range(len(fakes))]
    balls = [[distance(f, r) < real_radius[j] for j, r in enumerate(reals)] for f in fakes]
    recalled = [any(distance(f, r) < fake_radius[i] for i, f in enumerate(fakes)) for r in reals]
    return {
        "knn_precision": sum(any(row) for row in balls) / len(fakes),
        "knn_recall": sum(recalled) / len(reals),
        "knn_density": sum(sum(row) for row in balls) / (k * len(fakes)),
        "knn_coverage": sum(any(row[j] for row in balls) for j in range(len(reals))) / len(reals),
    }


@pytest.mark.parametrize(("k", "dimensions"), [(5, 2), (3, 6)])
def test_neighbour_measurements_equal_explicit_loops(k: int, dimensions: int) -> None:
    reals = normal(45, dimensions)
    fakes = torch.stack([0.6 * normal(30, dimensions, seed=4) + 0.8, normal(30, dimensions, seed=5)])
    radii = metrics.neighbour_radii(reals, neighbours=k)
    got = metrics.neighbour_measurements(fakes, reals=reals, real_radii=radii, neighbours=k)
    for member in range(2):
        expected = brute_force(fakes[member].numpy(), reals.numpy(), k)
        assert {name: value[member].item() for name, value in got.items()} == pytest.approx(expected)
    assert len({round(value[0].item(), 3) for value in got.values()}) == 4  # the four are told apart here


def test_a_point_mass_on_a_real_sample_is_precise_and_covers_next_to_nothing() -> None:
    reals = normal(100, 2)
    fakes = reals[7].expand(1, 50, 2)
    got = metrics.neighbour_measurements(fakes, reals=reals, real_radii=metrics.neighbour_radii(reals))
    assert got["knn_precision"].item() == 1.0
    assert got["knn_recall"].item() == 0.0  # its balls have radius zero, and an edge is outside
    assert got["knn_coverage"].item() < 0.15
