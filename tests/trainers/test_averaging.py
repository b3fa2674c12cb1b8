"""The averaged generator: its formula, what it leaves alone, and what is measured of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.programs import RING, members, program
from trainers import loop
from trainers.cohort import Cohort
from trainers.draws import Stream, normal
from trainers.evaluation import Judge, build_judge
from trainers.measurement import AVERAGED, MEASUREMENTS, columns
from trainers.measuring import Evaluation, measures_neighbours
from trainers.memory import memory_tensors
from trainers.program import Member, Program
from trainers.targets import build_target

torch.set_num_threads(1)

DECAYS = (0.0, 0.5, 0.99)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return build_judge(build_target(RING), evaluation_samples=1000)


def averaging(of: Program) -> list[Member]:
    """One member per decay, otherwise equal: the same seed, the same rates."""
    return [members(1, of=of, generator_average=decay)[0] for decay in DECAYS]


def averages(cohort: Cohort) -> Tensor:
    assert cohort.averaged is not None
    return cohort.averaged[: cohort.size]


@pytest.mark.parametrize("updates", ["alternating", "extragradient"])
def test_the_average_is_the_one_written_by_hand_over_the_recorded_parameters(updates: str) -> None:
    of = program(updates=updates)
    cohort = Cohort.start(of, averaging(of), dtype=torch.float64)
    recorded = [cohort.generator.flat[:3].clone()]
    assert torch.equal(averages(cohort), recorded[0]), "a_0 = w_0"
    for step in range(1, 13):
        loop.advance(cohort, step)
        recorded.append(cohort.generator.flat[:3].clone())
    for place, decay in enumerate(DECAYS):
        # unrolled: decay^t w_0 + (1 - decay) sum over s of decay^(t - s) w_s, weights that sum to one
        weights = [decay**12, *((1 - decay) * decay ** (12 - s) for s in range(1, 13))]
        assert sum(weights) == pytest.approx(1)
        expected = sum(weight * parameters[place] for weight, parameters in zip(weights, recorded, strict=True))
        torch.testing.assert_close(averages(cohort)[place], expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(averages(cohort)[0], recorded[-1][0]), "decay 0 is the raw generator"


def test_averaging_changes_nothing_about_training() -> None:
    of = program()
    cohort, without = Cohort.start(of, averaging(of)), Cohort.start(of, members(1, of=of))
    for one in (cohort, without):
        loop.advance(one, 20)
    assert without.averaged is None
    for place in range(3):
        assert torch.equal(cohort.generator.flat[place], without.generator.flat[0])
        assert torch.equal(cohort.discriminator.flat[place], without.discriminator.flat[0])


def test_a_checkpoint_holds_the_average_bit_for_bit() -> None:
    of = program()
    cohort = Cohort.start(of, averaging(of))
    loop.advance(cohort, 7)
    resumed = Cohort.restore(of, averaging(of), cohort.state())
    for one in (cohort, resumed):
        loop.advance(one, 20)
    assert torch.equal(averages(cohort), averages(resumed))
    assert not torch.equal(averages(cohort)[1], averages(cohort)[2])


def test_a_generator_that_became_infinite_leaves_its_neighbours_averages_alone() -> None:
    of = program(loss="wasserstein", optimizer="sgd")
    calm = averaging(of)
    wild = members(
        1, of=of, first=999, generator_average=0.9, generator_learning_rate=1e30, discriminator_learning_rate=1e30
    )
    beside, without = Cohort.start(of, [*calm[:2], *wild, calm[2]]), Cohort.start(of, calm)
    for one in (beside, without):
        loop.advance(one, 20)
    assert beside.alive[:4].tolist() == [True, True, False, True]
    assert torch.equal(averages(beside)[[0, 1, 3]], averages(without))


def evaluated(of: Program, who: list[Member], judge: Judge) -> tuple[Cohort, list[Evaluation]]:
    cohort = Cohort.start(of, who)
    return cohort, list(loop.train(cohort, judge))


def test_the_average_is_measured_beside_the_raw_one_on_the_same_latents(judge: Judge) -> None:
    of = program(evaluation_samples=1000, measurements=("average",), horizon=30, evaluations=3)
    cohort, evaluations = evaluated(of, averaging(of), judge)
    for evaluation in evaluations:
        assert tuple(evaluation.values) == columns(("average",))
        for name in AVERAGED:  # decay 0: the raw generator, measured twice
            raw, averaged = evaluation.values[name], evaluation.values[f"average_{name}"]
            assert np.array_equal(raw[:1], averaged[:1], equal_nan=True), name
    first, last = evaluations[0].values, evaluations[-1].values
    assert np.array_equal(first["average_distance"], first["distance"]), "a_0 = w_0"
    assert last["distance"][1] == last["distance"][2] != last["average_distance"][2]

    # by hand: the network with the averaged parameters on the latents of the last evaluation
    latents = normal(cohort.seeds, Stream.EVALUATION, 2 * 3, (1000, 4))
    fakes = cohort.generator.network(cohort.generator.network.layout.views(averages(cohort)), latents[:3])
    measured = judge.measure(fakes, nearest_neighbours=measures_neighbours(of, 3))
    for name, value in measured.items():
        np.testing.assert_allclose(last[f"average_{name}"], value.numpy(), rtol=1e-5, atol=1e-9)


def test_what_is_measured_of_the_raw_generator_does_not_know_of_the_average(judge: Judge) -> None:
    plain = program(evaluation_samples=1000, horizon=20, evaluations=2)
    of = program(evaluation_samples=1000, horizon=20, evaluations=2, measurements=("average",))
    _, without = evaluated(plain, members(2, of=plain), judge)
    _, beside = evaluated(of, members(2, of=of, generator_average=0.9), judge)
    for one, other in zip(without, beside, strict=True):
        assert tuple(one.values) == tuple(MEASUREMENTS)
        for name in MEASUREMENTS:
            assert np.array_equal(one.values[name], other.values[name], equal_nan=True), name
        assert np.array_equal(one.finite, other.finite)


def test_an_average_that_cannot_be_measured_ends_nobody(judge: Judge) -> None:
    of = program(evaluation_samples=1000, horizon=4, evaluations=2, measurements=("average",))
    cohort = Cohort.start(of, members(2, of=of, generator_average=0.9))
    assert cohort.averaged is not None
    cohort.averaged[0] = torch.inf
    last = list(loop.train(cohort, judge))[-1]
    assert last.finite.tolist() == [True, True]
    assert np.isnan(last.values["average_distance"][0])
    assert np.isfinite(last.values["average_distance"][1])
    assert np.isfinite(last.values["distance"]).all()


def test_generating_from_an_average_that_is_not_kept_is_refused() -> None:
    of = program()
    with pytest.raises(ValueError, match="generator_average"):
        Cohort.start(of, members(1, of=of)).generate_averaged(torch.zeros(8, 1, 4))


def test_a_cohorts_memory_is_what_its_measurements_ask_for_and_is_kept() -> None:
    of = program()
    assert memory_tensors((), members=8, generator_size=32, discriminator_size=32) == {}
    cohort = Cohort.start(of, members(2, of=of))
    assert cohort.memory == {}
    cohort.memory["remembered"] = torch.arange(8.0).unsqueeze(1).repeat(1, 3)
    state = cohort.state()
    assert torch.equal(state["memory.remembered"], torch.tensor([[0.0] * 3, [1.0] * 3]))  # type: ignore[arg-type]
