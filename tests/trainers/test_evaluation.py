"""The judge: reference numbers against closed forms, samplers it must not be fooled by, independence of members."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.evaluation import Judge, build_judge
from trainers.targets import GaussianMixture, LabelledImages, Target, build_target

N = 2500  # as many as the judge of the ring is built for


def rng(seed: int = 11) -> np.random.Generator:
    return np.random.default_rng(seed)


def fresh(target: Target, members: int, n: int = N) -> torch.Tensor:
    return torch.from_numpy(np.stack([target.sample(rng(100 + i), n) for i in range(members)]))


def measured(judge: Judge, samples: torch.Tensor | np.ndarray) -> dict[str, float]:
    """Every measurement of one sampler's samples [N, d]."""
    values = judge.measure(torch.as_tensor(samples).float()[None], nearest_neighbours=True)
    return {name: value.item() for name, value in values.items()}


def u(judge: Judge, distance: float) -> float:
    d_real, d_ref = float(judge.reference["d_real"]), float(judge.reference["d_ref"])
    return (distance - d_real) / (d_ref - d_real)


# --- reference numbers -----------------------------------------------------------------------------


def test_ring_reference_agrees_with_closed_forms(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    reference = ring_judge.reference
    # E |<p, x>| over directions is (2 / pi) E |x|; |x| = sqrt((2 + .1 a)^2 + (.1 b)^2)
    mean_norm = np.linalg.norm(ring_target.sample(rng(), 200_000), axis=1).mean()
    assert reference["d_ref"] == pytest.approx(2 / math.pi * mean_norm, rel=0.005)
    assert reference["quality_ceiling"] == pytest.approx(1 - math.exp(-4.5), abs=0.001)
    assert reference["coverage_ceiling"] == 1.0
    assert (reference["dimensions"], reference["modes"], reference["evaluation_samples"]) == (2, 8, N)
    # no point of the ring is farther from all others than the two diameters of the circle allow
    assert float(reference["d_ref"]) < float(reference["d_far"]) < 2 / math.pi * (2.5 + mean_norm)


def test_d_far_is_what_the_farthest_real_point_scores(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    points = torch.from_numpy(ring_target.sample(rng(), 100))
    distances = ring_judge.distance(points[:, None].expand(-1, N, -1))
    assert float(distances.max()) == pytest.approx(float(ring_judge.reference["d_far"]), rel=0.05)
    assert float(distances.min()) > float(ring_judge.reference["d_ref"])


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_d_real_is_the_95th_percentile_of_fresh_real_samples(name: str, request: pytest.FixtureRequest) -> None:
    judge, target = request.getfixturevalue(f"{name}_judge"), request.getfixturevalue(f"{name}_target")
    below = (judge.distance(fresh(target, 120, 1000)) <= judge.reference["d_real"]).double().mean()
    assert 0.86 <= float(below) <= 0.999


def test_sigma_u_is_the_spread_of_u_at_a_frozen_sampler(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    scores = [u(ring_judge, d) for d in ring_judge.distance(0.9 * fresh(ring_target, 100, 1000)).tolist()]
    assert np.mean(scores) == pytest.approx(0.08, abs=0.04)  # it stands near the threshold that it guards
    assert np.std(scores, ddof=1) == pytest.approx(float(ring_judge.reference["sigma_u"]), rel=0.3)
    assert float(ring_judge.reference["sigma_u"]) <= 0.10 / 3


def test_digits_reference(digits_judge: Judge) -> None:
    reference = digits_judge.reference
    assert float(reference["classifier_accuracy"]) > 0.95
    assert 0.92 < float(reference["quality_ceiling"]) < 0.96  # .95 by definition, less what the classifier confuses
    assert 0.9 < float(reference["knn_coverage_ceiling"]) < 1
    assert float(reference["d_real"]) < float(reference["d_ref"]) < float(reference["d_far"])


def test_a_judge_is_a_function_of_target_and_seed_and_touches_no_global_generator() -> None:
    def build(**changes: int) -> Judge:
        return build_judge(build_target({"name": "ring", "modes": 5}), **{"evaluation_samples": 600, **changes})

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    one = build()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    torch.manual_seed(123)
    assert build().reference == one.reference
    assert build(seed=1).reference["d_real"] != one.reference["d_real"]
    assert one.reference["distance_samples"] == 600


@pytest.mark.parametrize("threads", [1, 2])
def test_a_judge_does_not_depend_on_how_many_threads_build_it(
    digits_target: LabelledImages, digits_judge: Judge, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        built = build_judge(digits_target, evaluation_samples=1000)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for field in dataclasses.fields(built.modes):
        value = getattr(built.modes, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(digits_judge.modes, field.name)), field.name
    assert built.reference == digits_judge.reference


def test_a_target_without_modes_is_refused() -> None:
    class Unknown:
        name, dimensions, n_modes, held_out_size = "unknown", 2, 1, 10
        mode_weights = np.ones(1)

        def held_out(self, generator: np.random.Generator, n: int) -> np.ndarray:
            return generator.standard_normal((n, 2)).astype(np.float32)

    with pytest.raises(TypeError, match=r"'unknown' must be a GaussianMixture or LabelledImages, got Unknown"):
        build_judge(Unknown(), evaluation_samples=100)  # type: ignore[arg-type]


# --- samplers of known quality ----------------------------------------------------------------------


def test_perfect_ring_sampler(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    got = measured(ring_judge, ring_target.sample(rng(), 50_000)[:N])
    assert got["high_quality_fraction"] == pytest.approx(0.98889, abs=0.008)
    assert (got["mode_coverage"], got["modes_covered"]) == (1.0, 8.0)
    assert got["mode_kl"] < 0.006  # floor .0014
    assert u(ring_judge, got["distance"]) < 0.05
    assert got["knn_coverage"] > 0.9


def test_sampler_collapsed_to_one_mode(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    got = measured(ring_judge, ring_target.centres[3] + 0.1 * rng().standard_normal((N, 2)))
    assert got["mode_kl"] == pytest.approx(math.log(8))
    assert (got["mode_coverage"], got["modes_covered"]) == (0.125, 1.0)
    assert got["high_quality_fraction"] == pytest.approx(0.98889, abs=0.008)  # quality alone sees nothing wrong
    assert u(ring_judge, got["distance"]) > 0.8


def test_half_covering_sampler(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    centres = ring_target.centres[rng().choice([0, 2, 4, 6], size=N)]
    got = measured(ring_judge, centres + 0.1 * rng(1).standard_normal((N, 2)))
    assert (got["mode_coverage"], got["modes_covered"]) == (0.5, 4.0)
    assert got["mode_kl"] == pytest.approx(math.log(2), abs=0.01)


def test_noise_sampler_has_no_high_quality_sample_and_finite_numbers(ring_judge: Judge) -> None:
    got = measured(ring_judge, 50.0 + rng().standard_normal((N, 2)))
    assert (got["high_quality_fraction"], got["modes_covered"]) == (0.0, 0.0)
    assert got["mode_coverage"] == 0.125  # all mass on the one mode nearest to it
    assert all(math.isfinite(value) for value in got.values())
    assert got["distance"] > 3 * float(ring_judge.reference["d_far"])


def test_distance_is_fooled_on_images_where_neighbour_coverage_is_not(
    digits_judge: Judge, digits_target: LabelledImages
) -> None:
    images = digits_target.training_images
    gaussian = rng().multivariate_normal(images.mean(axis=0), np.cov(images.T), size=1000)
    memorised = rng(1).permutation(np.repeat(images[rng().choice(len(images), 100, replace=False)], 10, axis=0))
    real = measured(digits_judge, digits_target.sample(rng(), 1000))
    ceiling = float(digits_judge.reference["knn_coverage_ceiling"])
    for fake in (gaussian, memorised):
        got = measured(digits_judge, fake)
        assert u(digits_judge, got["distance"]) < 0.15
        assert got["mode_coverage"] == 1.0
        assert got["knn_coverage"] < 0.8 * ceiling
    assert real["knn_coverage"] > 0.9 * ceiling
    assert measured(digits_judge, gaussian)["high_quality_fraction"] < 0.6 * real["high_quality_fraction"]


# --- members are independent --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_a_members_numbers_are_bitwise_the_same_in_any_company(name: str, request: pytest.FixtureRequest) -> None:
    judge, target = request.getfixturevalue(f"{name}_judge"), request.getfixturevalue(f"{name}_target")
    n = int(judge.reference["evaluation_samples"])
    mine, others = fresh(target, 1, n) * 0.97, fresh(target, 24, n).flip(0) * 1.3
    alone = judge.measure(mine.expand(8, -1, -1).contiguous(), nearest_neighbours=True)
    for size, place in ((1, 0), (3, 1), (8, 5), (16, 0), (16, 11), (24, 23)):
        company = others[:size].clone()
        company[place] = mine[0]
        got = judge.measure(company, nearest_neighbours=True)
        assert {key: value[place].item() for key, value in got.items()} == {k: v[0].item() for k, v in alone.items()}
        assert got["distance"].dtype == torch.float64
        assert got["distance"].shape == (size,)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_non_finite_sample_ends_its_own_member_only(
    ring_judge: Judge, ring_target: GaussianMixture, poison: float
) -> None:
    healthy = fresh(ring_target, 3)
    broken = healthy.clone()
    broken[1, 2400, 0] = poison  # beyond the samples that the distance uses
    expected = ring_judge.measure(healthy, nearest_neighbours=True)
    got = ring_judge.measure(broken, nearest_neighbours=True)
    for name, value in got.items():
        assert value[1].isnan()
        assert value[[0, 2]].tolist() == expected[name][[0, 2]].tolist()


def test_huge_finite_samples_score_finite_and_far(ring_judge: Judge) -> None:
    got = measured(ring_judge, np.full((N, 2), 3e38, dtype=np.float32))
    assert all(math.isfinite(value) for value in got.values())
    assert got["distance"] > 1e6


def test_measuring_leaves_the_samples_alone(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    samples = fresh(ring_target, 2)
    before = samples.clone()
    ring_judge.measure(samples, nearest_neighbours=True)
    assert torch.equal(samples, before)


def test_neighbours_are_measured_only_when_asked_and_samples_must_suffice(ring_judge: Judge) -> None:
    assert "knn_recall" not in ring_judge.measure(torch.zeros(1, N, 2), nearest_neighbours=False)
    with pytest.raises(ValueError, match=r"\[R, >= 1000, d\], got \[1, 999, 2\]"):
        ring_judge.measure(torch.zeros(1, 999, 2), nearest_neighbours=False)


# --- storage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_saved_judges_come_back_bit_for_bit(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    judge, target = request.getfixturevalue(f"{name}_judge"), request.getfixturevalue(f"{name}_target")
    judge.save(tmp_path / "judge.pt")
    again = Judge.load(tmp_path / "judge.pt")
    assert again.reference == judge.reference
    for field in dataclasses.fields(Judge):
        value = getattr(judge, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(again, field.name), value)
    samples = fresh(target, 2)
    expected, got = (j.measure(samples, nearest_neighbours=True) for j in (judge, again))
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_another_schema_is_refused(ring_judge: Judge, tmp_path: Path) -> None:
    ring_judge.save(tmp_path / "judge.pt")
    stored = torch.load(tmp_path / "judge.pt", weights_only=True)
    torch.save({**stored, "schema": 99}, tmp_path / "judge.pt")
    with pytest.raises(ValueError, match="schema must be 2, got 99"):
        Judge.load(tmp_path / "judge.pt")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_measures_what_cpu_measures(ring_judge: Judge, ring_target: GaussianMixture) -> None:
    samples = fresh(ring_target, 9)
    expected = ring_judge.measure(samples, nearest_neighbours=True)
    got = ring_judge.to("cuda").measure(samples.cuda(), nearest_neighbours=True)
    for name, value in expected.items():
        assert got[name].cpu().tolist() == pytest.approx(value.tolist(), rel=1e-3, abs=2e-3)
