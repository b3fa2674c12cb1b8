"""Algorithm 1 as a generator of measurements: schedule, counters, interruption, deaths, independence of evaluations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.programs import RING, member, members, program
from trainers.cohort import Cohort
from trainers.evaluation import Judge, build_judge
from trainers.loop import train
from trainers.measurement import MEASUREMENTS
from trainers.measuring import Evaluation, measures_neighbours
from trainers.program import Program, evaluation_steps, sample_evaluations
from trainers.targets import build_target

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return build_judge(build_target(RING), evaluation_samples=1000)


def ring(**changes: Any) -> Program:
    return program(evaluation_samples=1000, **changes)


def same(a: list[Evaluation], b: list[Evaluation]) -> bool:
    return all(
        np.array_equal(x.values[name], y.values[name], equal_nan=True)
        for x, y in zip(a, b, strict=True)
        for name in MEASUREMENTS
    )


def test_evaluations_come_at_their_steps_with_all_three_counters(judge: Judge) -> None:
    of = ring(k=3, horizon=10, evaluations=4)
    evaluations = list(train(Cohort.start(of, members(2, of=of)), judge))
    assert [e.generator_step for e in evaluations] == [0, 2, 5, 8, 10] == evaluation_steps(horizon=10, evaluations=4)
    assert [e.discriminator_steps for e in evaluations] == [0, 6, 15, 24, 30]
    assert [e.samples_seen for e in evaluations] == [0, 192, 480, 768, 960]
    assert all(set(e.values) == set(MEASUREMENTS) for e in evaluations)
    assert all(e.values["distance"].shape == (2,) for e in evaluations)


def test_every_dense_measurement_is_finite_at_every_evaluation_and_sparse_ones_when_due(judge: Judge) -> None:
    of = ring(horizon=24, evaluations=24)
    for evaluation in train(Cohort.start(of, members(1, of=of)), judge):
        due = measures_neighbours(of, evaluation.index)
        assert due == (evaluation.index % 5 == 0 or evaluation.index > 16)
        for name, info in MEASUREMENTS.items():
            assert np.isfinite(evaluation.values[name]).all() == (due or not info.sparse), name


def test_samples_on_fixed_latents_are_kept_at_quarters_and_start_undisplaced(judge: Judge) -> None:
    of = ring(horizon=40, evaluations=20)
    evaluations = list(train(Cohort.start(of, members(2, of=of)), judge))
    kept = [e.index for e in evaluations if e.samples is not None]
    assert kept == [0, 5, 10, 15, 20] == sample_evaluations(20)
    first, last = evaluations[0], evaluations[-1]
    assert first.samples is not None
    assert last.samples is not None
    assert last.samples.shape == (2, 256, 2)
    assert first.values["displacement"].tolist() == [0, 0]
    moved = np.linalg.norm(last.samples - first.samples, axis=-1).mean(-1)
    np.testing.assert_allclose(last.values["displacement"], moved, rtol=1e-5)


def test_stopping_anywhere_and_restoring_gives_the_same_measurements_bit_for_bit(judge: Judge) -> None:
    of = ring(k=2, penalty="gradient_penalty")
    who = members(3, of=of)
    whole = list(train(Cohort.start(of, who), judge))
    cohort, pieces, stops = Cohort.start(of, who), [], 0
    while cohort.evaluations_done < len(whole):
        asked = iter([False, True] * 100)
        pieces += list(train(cohort, judge, should_stop=lambda asked=asked: next(asked)))
        stops += 1
        cohort = Cohort.restore(of, who, cohort.state())
    assert stops > 4
    assert [e.index for e in pieces] == [e.index for e in whole]
    assert same(pieces, whole)


def test_measurements_are_the_same_alone_and_in_company(judge: Judge) -> None:
    of = ring()
    who = members(11, of=of)
    alone = list(train(Cohort.start(of, [who[9]]), judge))
    company = list(train(Cohort.start(of, who), judge))
    for one, many in zip(alone, company, strict=True):
        for name in MEASUREMENTS:
            assert np.array_equal(one.values[name], many.values[name][9:10], equal_nan=True), name


def test_a_death_is_recorded_once_and_keeps_the_neighbours_history(judge: Judge) -> None:
    of = ring(loss="wasserstein", optimizer="sgd")
    wild = member(999, of=of, generator_learning_rate=1e4, discriminator_learning_rate=1e4)
    calm = member(7, of=of)
    with_wild = list(train(Cohort.start(of, [wild, calm]), judge))
    alone = list(train(Cohort.start(of, [calm]), judge))
    last = with_wild[-1]
    assert last.finite.tolist() == [False, True]
    death = int(last.death_step[0])
    assert 1 <= death <= of.horizon
    for evaluation in with_wild:
        dead = evaluation.generator_step >= death
        assert bool(evaluation.finite[0]) != dead
        assert all(np.isnan(evaluation.values[name][0]) for name in MEASUREMENTS if dead)
    assert all(
        np.array_equal(a.values[n][1:], b.values[n], equal_nan=True)
        for a, b in zip(with_wild, alone, strict=True)
        for n in MEASUREMENTS
    )


def test_a_cohort_whose_members_all_ended_comes_to_its_end(judge: Judge) -> None:
    of = ring(loss="wasserstein", optimizer="sgd", horizon=4000, evaluations=4)
    wild = members(2, of=of, generator_learning_rate=1e6, discriminator_learning_rate=1e6)
    evaluations = list(train(Cohort.start(of, wild), judge))
    assert [e.generator_step for e in evaluations] == [0, 1000, 2000, 3000, 4000]
    assert not evaluations[-1].finite.any()


def test_training_on_the_ring_lowers_the_distance(judge: Judge) -> None:
    wider = {"name": "mlp", "latent_dim": 4, "width": 32, "depth": 2}
    of = ring(horizon=800, evaluations=4, penalty="r1", networks=wider)
    rates = {"generator_learning_rate": 3e-3, "discriminator_learning_rate": 3e-3, "penalty_weight": 0.1}
    evaluations = list(train(Cohort.start(of, members(4, of=of, **rates)), judge))
    assert evaluations[-1].values["distance"].mean() < 0.6 * evaluations[0].values["distance"].mean()


USER_NETWORKS = """
from torch import nn

def build(*, latent_dim, sample_shape, hidden):
    generator = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    discriminator = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return generator, discriminator

def running(*, latent_dim, sample_shape):
    return nn.Sequential(nn.Linear(latent_dim, 2), nn.BatchNorm1d(2)), nn.Linear(2, 1)

def two_outputs(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Linear(2, 2)
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_networks.py").write_text(USER_NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_networks", None)
    return "my_networks"


@pytest.mark.parametrize("penalty", ["none", "gradient_penalty"])
def test_user_modules_train_stacked_each_member_on_its_own(user_module: str, penalty: str, judge: Judge) -> None:
    of = ring(networks={"name": f"{user_module}:build", "latent_dim": 3, "hidden": 12}, penalty=penalty)
    who = members(3, of=of)
    together = list(train(Cohort.start(of, who), judge))[-1]
    alone = list(train(Cohort.start(of, [who[2]]), judge))[-1]
    np.testing.assert_allclose(together.values["distance"][2:], alone.values["distance"], rtol=1e-3)
    assert len(set(together.values["distance"])) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{m}:nothing", "must be importable"),
        ("no_such_module:build", "must be importable"),
        ("{m}:running", "running statistics"),
        ("{m}:two_outputs", "must return 1 numbers per sample"),
    ],
)
def test_unusable_user_modules_are_refused_with_the_reason(
    user_module: str, path: str, message: str, judge: Judge
) -> None:
    of = ring(networks={"name": path.format(m=user_module), "latent_dim": 3})
    with pytest.raises(ValueError, match=message):
        list(train(Cohort.start(of, members(1, of=of)), judge))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_gpu_follows_the_cpu_over_the_first_twenty_steps(judge: Judge, tmp_path: Path) -> None:
    of = ring(horizon=20, evaluations=2)
    who = members(4, of=of)
    judge.save(tmp_path / "judge.pt")
    on_gpu = list(train(Cohort.start(of, who, device="cuda"), Judge.load(tmp_path / "judge.pt", device="cuda")))[-1]
    on_cpu = list(train(Cohort.start(of, who), judge))[-1]
    for name in ("distance", "generator_loss", "discriminator_loss"):
        np.testing.assert_allclose(on_gpu.values[name], on_cpu.values[name], rtol=1e-3, atol=1e-4)
