"""Optional measurements of the players: closed forms, columns, cadence, memory, and that they end nobody."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.programs import RING, member, members, program
from trainers import game_jacobian, loop, measuring
from trainers.cadence import groups_due, measures_neighbours
from trainers.cohort import Cohort
from trainers.duality import RATE, STEPS, duality_gap
from trainers.evaluation import Judge, build_judge
from trainers.game_jacobian import jacobian_eigenvalues, parameter_count
from trainers.loop import train
from trainers.measurement import EVERY_MEASUREMENT, GROUPS, MEASUREMENTS, OPTIONAL, columns, groups_on
from trainers.measuring import Evaluation
from trainers.program import Program
from trainers.rotation import angle_between, rotation_memory, rotations
from trainers.spectra import largest_singular_values, layer_gains
from trainers.targets import build_target

torch.set_num_threads(1)

ON_RING = ("duality_gap", "off_mode", "singular_values", "rotation", "frechet", "game_jacobian")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return build_judge(build_target(RING), evaluation_samples=200)


TINY = {"name": "mlp", "latent_dim": 2, "width": 4, "depth": 1}


def ring(**changes: Any) -> Program:
    return program(**{"measurements": ON_RING, "networks": TINY, **changes})


def dirac(theta: float, psi: float, **changes: Any) -> Cohort:
    numbers = {name: changes.pop(name) for name in ("penalty_weight", "noise_std", "clip") if name in changes}
    of = program(
        target={"name": "dirac"}, networks={"name": "dirac", "initial": [theta, psi]}, optimizer="sgd", **changes
    )
    return Cohort.start(of, [member(1, of=of, **numbers)])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# --- the schema ----------------------------------------------------------------------------------------


def test_every_optional_measurement_belongs_to_a_group_and_every_group_has_one() -> None:
    assert {info.group for info in OPTIONAL.values()} == set(GROUPS)
    assert all(info.group == "" for info in MEASUREMENTS.values())
    assert not set(MEASUREMENTS) & set(OPTIONAL)
    assert dict(EVERY_MEASUREMENT) == {**MEASUREMENTS, **OPTIONAL}


def test_columns_are_the_usual_ones_first_whatever_the_order_of_the_groups() -> None:
    assert columns(()) == tuple(MEASUREMENTS)
    got = columns(("rotation", "off_mode"))
    assert got == columns(("off_mode", "rotation"))
    assert got == (*MEASUREMENTS, "mode_kl_off", "generator_rotation", "discriminator_rotation")
    with pytest.raises(ValueError, match=r"groups must be among duality_gap, .*, got frechett"):
        columns(("frechett",))


def test_factors_and_targets_switch_their_own_groups_on() -> None:
    assert groups_on([], factors={"k": 1}, target="ring") == ()
    assert groups_on(["frechet", "duality_gap"], factors={}, target="ring") == ("duality_gap", "frechet")
    assert groups_on([], factors={"generator_average": 0.999}, target="ring") == ("average",)
    assert groups_on(["rotation"], factors={}, target="dirac") == ("rotation", "dirac")


# --- singular values -----------------------------------------------------------------------------------


def test_singular_values_of_diagonal_and_of_random_matrices() -> None:
    diagonal = torch.diag_embed(torch.tensor([[3.0, -7.0, 0.5], [0.0, 0.0, 0.0]]))
    assert largest_singular_values(diagonal).tolist() == [7.0, 0.0]
    tall = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 30, 7))).float()
    want = torch.linalg.svdvals(tall.double())[:, 0]
    for matrices in (tall, tall.mT):
        torch.testing.assert_close(largest_singular_values(matrices), want, rtol=1e-12, atol=0)


def test_a_non_finite_weight_is_its_own_members_trouble_only() -> None:
    weights = torch.eye(3).repeat(3, 1, 1)
    weights[1, 0, 0] = math.nan
    assert largest_singular_values(weights).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "networks",
    [
        {"name": "mlp", "latent_dim": 1, "width": 1, "depth": 2},  # matrices of one row, which look like biases
        {"name": "mlp", "latent_dim": 4, "width": 16, "depth": 2},
    ],
)
def test_singular_values_of_players_look_at_weights_and_not_at_biases(networks: dict[str, object]) -> None:
    of = program(networks=networks)
    cohort = Cohort.start(of, members(3, of=of))
    for player in (cohort.generator, cohort.discriminator):
        for view in player.frozen[1::2]:
            view.fill_(1e6)  # biases
        want = torch.stack([torch.linalg.svdvals(view.double())[:, 0] for view in player.frozen[0::2]], dim=1)
        torch.testing.assert_close(layer_gains(player), want, rtol=1e-9, atol=1e-12)
    from trainers.spectra import singular_values

    got = singular_values(generator=cohort.generator, discriminator=cohort.discriminator)
    gains = layer_gains(cohort.discriminator)
    assert got["discriminator_singular_product"].tolist() == gains.prod(dim=1).tolist()
    assert got["discriminator_singular_value"].tolist() == gains.max(dim=1).values.tolist()
    assert got["generator_singular_value"].tolist() == layer_gains(cohort.generator).max(dim=1).values.tolist()


def test_the_product_bounds_how_far_the_discriminator_stretches() -> None:
    of = program()
    cohort = Cohort.start(of, members(8, of=of))
    points = torch.from_numpy(np.random.default_rng(2).standard_normal((8, 400, 2))).float()
    logits = cohort.discriminate(points)
    apart = (points[:, 1:] - points[:, :-1]).norm(dim=-1)
    steepest = ((logits[:, 1:] - logits[:, :-1]).abs() / apart).amax(dim=1)
    bound = layer_gains(cohort.discriminator).prod(dim=1)
    assert (steepest <= bound).all()
    assert (steepest >= 0.01 * bound).all()


def test_kernels_of_convolutions_count_as_matrices() -> None:
    of = program(target={"name": "digits"}, networks={"name": "conv", "latent_dim": 4, "channels": 2})
    cohort = Cohort.start(of, members(1, of=of))
    for player in (cohort.generator, cohort.discriminator):
        layout = player.network.layout
        assert len(layout.weights) == 3
        kernels = [player.frozen[place] for place in layout.weights]
        assert all(min(kernel.shape[1:]) >= 1 and kernel[0].numel() > 4 for kernel in kernels)
        want = [float(torch.linalg.matrix_norm(kernel[0].double().flatten(1), ord=2)) for kernel in kernels]
        assert layer_gains(player)[0].tolist() == pytest.approx(want)


# --- rotation ------------------------------------------------------------------------------------------


def test_angles_of_known_moves() -> None:
    east = torch.tensor([[2.0, 0.0, 0.0]])
    for other, want in (([5.0, 0, 0], 0), ([0, 1e-3, 0], 90), ([-1.0, 0, 0], 180), ([1.0, 1.0, 0], 45)):
        assert angle_between(east, torch.tensor([other])).item() == pytest.approx(want, abs=1e-12)
    # the arc cosine would say 0
    assert angle_between(east, torch.tensor([[1.0, 1e-10, 0.0]])).item() == pytest.approx(math.degrees(1e-10), rel=1e-6)
    assert angle_between(east, torch.zeros(1, 3)).isnan().all()
    assert angle_between(east, torch.tensor([[math.inf, 0, 0]])).isnan().all()


def walked(path: list[list[float]]) -> list[float]:
    """Rotations that a single player's path of parameters gives, evaluation by evaluation."""
    memory = rotation_memory(members=1, sizes={"generator": 2})
    steps = (torch.tensor([point]) for point in path)
    found = [rotations(memory, players={"generator": step}, index=i) for i, step in enumerate(steps)]
    return [values["generator_rotation"].item() for values in found]


def test_rotation_of_straight_lines_turns_ways_back_and_stops() -> None:
    assert walked([[5, 5], [6, 5], [8, 5]])[2] == 0
    got = walked([[1, 1], [2, 1], [2, 3], [2, 2], [2, 2], [3, 2]])
    assert [math.isnan(angle) for angle in got] == [True, True, False, False, True, True]
    assert got[2:4] == [90.0, 180.0]


def test_rotation_of_a_circle_is_the_arc_of_one_interval() -> None:
    """Simultaneous steps of size h on the bilinear game turn by atan h a step (Dirac-GAN, Wasserstein)."""
    cohort = dirac(
        1e-3,
        0.0,
        loss="wasserstein",
        updates="simultaneous",
        horizon=60,
        evaluations=6,
        measurements=("rotation", "dirac"),
    )
    cohort.numbers["generator_learning_rate"].fill_(0.05)
    cohort.numbers["discriminator_learning_rate"].fill_(0.05)
    judge = build_judge(build_target({"name": "dirac"}), evaluation_samples=200)
    memory_of = {name: value.clone() for name, value in cohort.memory.items()}
    assert set(memory_of) == {
        f"rotation.{p}.{w}" for p in ("generator", "discriminator") for w in ("parameters", "move")
    }
    rows = [e.values for e in train(cohort, judge)]
    for name in ("generator_rotation", "discriminator_rotation"):
        assert [math.isnan(row[name][0]) for row in rows[:3]] == [True, True, False]
        # one number moves: it goes on (0) or comes back (180), once in half a turn
        assert {row[name][0] for row in rows[2:]} <= {0.0, 180.0}


# --- duality gap ---------------------------------------------------------------------------------------


def gap(cohort: Cohort, *, index: int = 0) -> float:
    return duality_gap(cohort, torch.zeros(100, 1), index=index)[0].item()


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "hinge", "wasserstein", "least_squares", "relativistic"])
def test_the_gap_is_nought_at_the_equilibrium(loss: str) -> None:
    assert gap(dirac(0.0, 0.0, loss=loss)) == 0.0


def test_the_gap_off_the_equilibrium_in_closed_form() -> None:
    """Adam moves a number whose gradient keeps its sign by RATE at each step, so by STEPS x RATE in all."""
    far = STEPS * RATE
    # theta 1, psi 0: D's clone learns psi = -far, G's has no gradient
    want = 2 * math.log(2) - (math.log(2) + softplus(-far))
    assert gap(dirac(1.0, 0.0)) == pytest.approx(want, rel=0.02)
    # theta 0, psi 1: D has nothing to tell apart, G's clone moves up by far
    assert gap(dirac(0.0, 1.0)) == pytest.approx(softplus(far) - math.log(2), rel=0.02)
    # both: theta 1, psi .5 in the bilinear game: (1 + far) .5 - (.5 - far) 1
    assert gap(dirac(1.0, 0.5, loss="wasserstein")) == pytest.approx(0.5 * (1 + far) - (0.5 - far), rel=0.02)


def test_the_generators_clone_plays_the_zero_sum_game_whatever_its_own_loss() -> None:
    for loss in ("minimax", "non_saturating"):
        assert gap(dirac(0.3, 0.7, loss=loss)) == pytest.approx(gap(dirac(0.3, 0.7, loss="minimax")), abs=1e-12)


def test_the_discriminators_clone_keeps_its_clipping_and_its_penalty() -> None:
    far = STEPS * RATE
    clipped = dirac(1.0, 0.005, loss="wasserstein", penalty="weight_clipping", clip=0.01)
    assert gap(clipped) == pytest.approx(0.005 * (1 + far) + 0.01, rel=0.02)
    # r1 of weight 100 keeps psi where 50 psi^2 + psi is least, at -.01, which is less than far away
    held = gap(dirac(1.0, 0.0, loss="wasserstein", penalty="r1", penalty_weight=100.0))
    assert 0.005 < held < 0.02
    assert gap(dirac(1.0, 0.0, loss="wasserstein")) == pytest.approx(far, rel=0.02)


SAMPLERS = """
import torch
from torch import nn

class Sampler(nn.Module):
    def __init__(self, modes, centre):
        super().__init__()
        self.modes, self.centre = modes, centre
        self.shift = nn.Parameter(torch.zeros(2))
        self.register_buffer("turn", torch.eye(2))

    def forward(self, z):
        which = (self.modes * (0.5 + 0.5 * torch.erf(z[:, 0] / 2**0.5))).floor().clamp(max=self.modes - 1)
        angle = 2 * torch.pi * which / self.modes
        circle = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
        return self.centre + circle @ self.turn + 0.1 * z[:, 1:3] + self.shift

def build(*, latent_dim, sample_shape, modes, centre):
    first, last = nn.Linear(2, 32), nn.Linear(32, 1)
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    return Sampler(modes, centre), nn.Sequential(first, nn.LeakyReLU(0.2), last)
"""


def test_the_gap_orders_samplers_of_the_ring(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perfect sampler against D = 1/2 is at the equilibrium; half the modes, one mode, and noise far away are not."""
    (tmp_path / "samplers_of_known_fault.py").write_text(SAMPLERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    gaps = {}
    for modes, centre in ((8, 0), (4, 0), (1, 0), (8, 50)):
        networks = {"name": "samplers_of_known_fault:build", "latent_dim": 3, "modes": modes, "centre": centre}
        of = program(networks=networks, batch_size=64)
        cohort = Cohort.start(of, members(8, of=of))
        gaps[modes, centre] = duality_gap(cohort, judge.reals[:1000], index=0).mean().item()
    assert gaps[8, 0] == pytest.approx(0, abs=0.01)
    assert gaps[8, 0] < gaps[4, 0] < gaps[1, 0] < gaps[8, 50]
    assert gaps[1, 0] > 0.1
    # modules of the user's own have a Jacobian too, in double precision, with their buffers
    assert all(value.isfinite().all() for value in jacobian_eigenvalues(cohort).values())


def test_measuring_the_gap_changes_nothing_and_is_a_function_of_seed_and_evaluation(judge: Judge) -> None:
    of = program(penalty="gradient_penalty")
    cohort = Cohort.start(of, members(2, of=of))
    loop.advance(cohort, 5)
    before = {name: value.clone() for name, value in cohort.state().items() if isinstance(value, Tensor)}
    first = duality_gap(cohort, judge.reals, index=1)
    assert all(torch.equal(value, before[name]) for name, value in cohort.state().items() if isinstance(value, Tensor))
    assert torch.equal(duality_gap(cohort, judge.reals, index=1), first)
    assert not torch.equal(duality_gap(cohort, judge.reals, index=2), first)


@pytest.mark.parametrize("penalty", ["dragan", "instance_noise", "r1_r2", "weight_clipping"])
def test_the_gap_is_measured_under_every_kind_of_penalty(judge: Judge, penalty: str) -> None:
    of = program(penalty=penalty, loss="relativistic")
    cohort = Cohort.start(of, members(2, of=of))
    assert duality_gap(cohort, judge.reals, index=0).isfinite().all()


# --- the game's Jacobian -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "real", "imaginary"),
    [
        ({"loss": "minimax"}, 0, 0.5),
        ({"loss": "non_saturating"}, 0, 0.5),
        ({"loss": "relativistic"}, 0, 0.5),
        ({"loss": "wasserstein"}, 0, 1),
        ({"loss": "hinge"}, 0, 1),
        ({"loss": "minimax", "penalty": "r1", "penalty_weight": 0.6}, -0.3, math.sqrt(0.25 - 0.09)),
        ({"loss": "minimax", "penalty": "r2", "penalty_weight": 0.6}, -0.3, math.sqrt(0.25 - 0.09)),
        ({"loss": "minimax", "penalty": "r1_r2", "penalty_weight": 0.3}, -0.3, math.sqrt(0.25 - 0.09)),
        ({"loss": "minimax", "penalty": "r1", "penalty_weight": 2.0}, -1 + math.sqrt(0.75), 0),
    ],
)
def test_eigenvalues_of_the_dirac_gan(changes: dict[str, Any], real: float, imaginary: float) -> None:
    """-gamma/2 +- sqrt(gamma^2/4 - f'(0)^2), Mescheder et al. 2018: f'(0) is 1/2, or 1 for Wasserstein and hinge."""
    got = jacobian_eigenvalues(dirac(0.0, 0.0, **changes))
    assert got["jacobian_real"][0].item() == pytest.approx(real, abs=1e-6)
    assert got["jacobian_imaginary"][0].item() == pytest.approx(imaginary, abs=1e-6)


def test_eigenvalues_under_instance_noise() -> None:
    """-s2/4 +- sqrt(s2^2/16 - 1/4), up to the sampling of the noise."""
    got = jacobian_eigenvalues(dirac(0.0, 0.0, loss="minimax", penalty="instance_noise", noise_std=1.0))
    assert got["jacobian_real"][0].item() == pytest.approx(-0.25, rel=0.15)
    assert got["jacobian_imaginary"][0].item() == pytest.approx(math.sqrt(0.25 - 1 / 16), rel=0.15)


def assert_equals_finite_differences(cohort: Cohort) -> None:
    exact = game_jacobian.game_jacobian(cohort)
    chunk = game_jacobian._in_double(cohort, slice(0, 8))
    columns_of = [view.view(8, -1) for player in (chunk.generator, chunk.discriminator) for view in player.frozen]
    places = [(view, place) for view in columns_of for place in range(view.shape[1])]
    assert exact.shape == (8, len(places), len(places))
    step = 1e-6
    for column, (view, place) in enumerate(places):
        at, sides = view[:, place].clone(), []
        for sign in (1, -1):
            view[:, place] = at + sign * step
            sides.append(game_jacobian._field(chunk).detach())
        view[:, place] = at
        want = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(exact[:, :, column], want, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [("minimax", "none"), ("non_saturating", "r1_r2"), ("relativistic", "dragan"), ("least_squares", "instance_noise")],
)
def test_the_jacobian_equals_finite_differences_of_the_field(loss: str, penalty: str) -> None:
    of = program(loss=loss, penalty=penalty, networks={"name": "mlp", "latent_dim": 2, "width": 2, "depth": 1})
    cohort = Cohort.start(of, members(2, of=of))
    loop.advance(cohort, 3)
    assert_equals_finite_differences(cohort)


SMOOTH = """
from torch import nn

def build(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
"""


@pytest.mark.parametrize("penalty", ["r2", "gradient_penalty"])
def test_the_jacobian_knows_that_penalties_depend_on_where_the_fakes_are(
    penalty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a smooth D: that of a ReLU network has the same slope all around a sample."""
    (tmp_path / "smooth_players.py").write_text(SMOOTH)
    monkeypatch.syspath_prepend(str(tmp_path))
    of = program(loss="wasserstein", penalty=penalty, networks={"name": "smooth_players:build", "latent_dim": 2})
    cohort = Cohort.start(of, members(2, of=of))
    loop.advance(cohort, 3)
    assert_equals_finite_differences(cohort)


def test_parameters_are_counted_without_the_padding() -> None:
    count = parameter_count(networks={"name": "mlp", "latent_dim": 4, "width": 16, "depth": 2}, target=RING)
    assert count == (4 * 16 + 16 + 16 * 16 + 16 + 16 * 2 + 2) + (2 * 16 + 16 + 16 * 16 + 16 + 16 + 1)


def test_a_member_without_finite_parameters_has_no_eigenvalues_and_spares_the_others() -> None:
    of = program(networks={"name": "mlp", "latent_dim": 2, "width": 3, "depth": 1})
    cohort = Cohort.start(of, members(3, of=of))
    want = jacobian_eigenvalues(cohort)
    cohort.generator.flat[1] = math.nan
    got = jacobian_eigenvalues(cohort)
    for name in want:
        assert got[name][:3].isnan().tolist() == [False, True, False]
        assert got[name][[0, 2]].tolist() == want[name][[0, 2]].tolist()


def test_eigenvalues_that_lapack_gives_up_on_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(matrix: Tensor) -> Tensor:
        raise torch.linalg.LinAlgError("The algorithm failed to converge.")

    monkeypatch.setattr(torch.linalg, "eigvals", fails)
    assert jacobian_eigenvalues(dirac(0.0, 0.0))["jacobian_real"].isnan().all()


# --- in the loop ---------------------------------------------------------------------------------------


def same(a: list[Evaluation], b: list[Evaluation]) -> bool:
    return all(
        x.values.keys() == y.values.keys()
        and all(np.array_equal(x.values[name], y.values[name], equal_nan=True) for name in x.values)
        for x, y in zip(a, b, strict=True)
    )


def test_groups_come_when_they_are_due_and_columns_never_change(judge: Judge) -> None:
    of = ring(horizon=24, evaluations=24)
    rows = list(train(Cohort.start(of, members(1, of=of)), judge))
    for evaluation in rows:
        index, values = evaluation.index, evaluation.values
        assert tuple(values) == columns(ON_RING)
        assert evaluation.finite.all()
        present = {name for name in OPTIONAL if name in values and np.isfinite(values[name]).all()}
        assert ("duality_gap" in present) == (index % 5 == 0 or index == 24)
        assert ("discriminator_singular_product" in present) == measures_neighbours(of, index)
        assert ("generator_rotation" in present) == (index >= 2)
        assert {"mode_kl_off", "frechet_distance"} <= present
        assert ("jacobian_real" in present) == (index == 24)
        assert {EVERY_MEASUREMENT[name].group for name in present} <= set(groups_due(of, index))


def test_switching_measurements_on_changes_no_other_number_and_off_leaves_no_column(judge: Judge) -> None:
    on, off = ring(k=2, penalty="gradient_penalty"), ring(k=2, penalty="gradient_penalty", measurements=())
    with_them = list(train(Cohort.start(on, members(3, of=on)), judge))
    without = list(train(Cohort.start(off, members(3, of=off)), judge))
    assert all(tuple(e.values) == tuple(MEASUREMENTS) for e in without)
    for a, b in zip(with_them, without, strict=True):
        assert all(np.array_equal(a.values[name], b.values[name], equal_nan=True) for name in MEASUREMENTS)


def test_stopping_anywhere_and_restoring_gives_the_same_diagnoses_bit_for_bit(judge: Judge) -> None:
    of = ring(horizon=40, evaluations=8)
    who = members(3, of=of)
    whole = list(train(Cohort.start(of, who), judge))
    cohort, pieces, stops = Cohort.start(of, who), [], 0
    while cohort.evaluations_done < len(whole):
        asked = iter([False, True] * 100)
        pieces += list(train(cohort, judge, should_stop=lambda asked=asked: next(asked)))
        stops += 1
        cohort = Cohort.restore(of, who, cohort.state())
    assert stops > 4
    assert same(pieces, whole)
    assert np.isfinite(whole[-1].values["generator_rotation"]).all()


def test_diagnoses_are_the_same_alone_and_in_company(judge: Judge) -> None:
    of = ring(penalty="r1")
    who = members(11, of=of)
    alone = list(train(Cohort.start(of, [who[9]]), judge))
    company = list(train(Cohort.start(of, who), judge))
    for one, many in zip(alone, company, strict=True):
        for name in columns(ON_RING):
            assert np.array_equal(one.values[name], many.values[name][9:10], equal_nan=True), name


def test_a_dead_member_has_no_diagnosis_and_the_living_keep_theirs(judge: Judge) -> None:
    of = ring(loss="wasserstein", optimizer="sgd")
    wild = member(999, of=of, generator_learning_rate=1e4, discriminator_learning_rate=1e4)
    calm = member(7, of=of)
    together = list(train(Cohort.start(of, [wild, calm]), judge))
    alone = list(train(Cohort.start(of, [calm]), judge))
    assert together[-1].finite.tolist() == [False, True]
    for a, b in zip(together, alone, strict=True):
        assert all(np.array_equal(a.values[name][1:], b.values[name], equal_nan=True) for name in b.values)
        assert all(np.isnan(a.values[name][0]) for name in a.values if not a.finite[0])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e301])
def test_a_diagnosis_that_is_no_finite_number_ends_nobody(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    of = ring()
    cohort = Cohort.start(of, members(3, of=of))

    def broken(cohort: Cohort, reals: Tensor, *, index: int) -> dict[str, Tensor]:
        return {"duality_gap": torch.full((len(cohort.seeds),), number, dtype=torch.float64)}

    monkeypatch.setattr(measuring, "diagnose", broken)
    evaluations = list(train(cohort, judge))
    assert all(evaluation.finite.all() and (evaluation.death_step == -1).all() for evaluation in evaluations)
    assert all(np.isnan(evaluation.values["duality_gap"]).all() for evaluation in evaluations)
    assert all(np.isfinite(evaluation.values["distance"]).all() for evaluation in evaluations)
