"""The Dirac-GAN: closed forms against numeric linear algebra, and the real trainer against both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.outcomes import Criteria, Series, judge
from tests.trainers.dirac_recurrence import SLOPES_AT, stable_weights, trajectory
from trainers.cohort import Cohort
from trainers.dirac import (
    DAMPING,
    SLOPES,
    Game,
    Steps,
    converges,
    equal_steps,
    jacobian,
    spectral_radius,
    stability_map,
    steps_needed,
    update_matrix,
)
from trainers.dirac_game import initial_point
from trainers.evaluation import Judge, build_judge
from trainers.loop import train
from trainers.losses import LOSSES
from trainers.measuring import Evaluation
from trainers.networks import build_networks
from trainers.program import Member, Program
from trainers.targets import build_target

torch.set_num_threads(1)

ONE = [1.0, 1.0]
SEED = 77


def program(**changes: Any) -> Program:
    fields: dict[str, Any] = {
        "loss": "non_saturating",
        "penalty": "none",
        "k": 1,
        "batch_size": 4,
        "optimizer": "sgd",
        "updates": "alternating",
        "target": {"name": "dirac"},
        "networks": {"name": "dirac", "initial": ONE},
        "horizon": 60,
        "evaluations": 20,
        "evaluation_samples": 32,
        "measurements": ("dirac",),
    }
    return Program(**{**fields, **changes})


def member(rate: float, seed: int = SEED, **numbers: float) -> Member:
    rates = {"generator_learning_rate": rate, "discriminator_learning_rate": rate, "momentum": 0.0}
    return Member(seed=seed, numbers={**rates, **numbers})


def dirac_judge() -> Judge:
    return build_judge(build_target({"name": "dirac"}), evaluation_samples=32)


def trained(of: Program, members: Iterable[Member], *, dtype: torch.dtype = torch.float64) -> list[Evaluation]:
    return list(train(Cohort.start(of, list(members), dtype=dtype), dirac_judge()))


def path(evaluations: list[Evaluation], place: int = 0) -> np.ndarray:
    names = ("generator_parameter", "discriminator_parameter")
    return np.array([[e.values[name][place] for name in names] for e in evaluations])


# --- slopes and continuous time ---------------------------------------------------------------------


def fake_loss(name: str, player: str, logit: float) -> float:
    """The loss of one player at fake logits ``logit`` and real logits 0, both of a batch."""
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    return float(getattr(LOSSES[name], player)(real_logits=zeros, fake_logits=zeros + logit))


@pytest.mark.parametrize("name", LOSSES)
def test_slopes_are_the_derivatives_of_the_registered_losses(name: str) -> None:
    step = 1e-6
    slope = {
        p: (fake_loss(name, p, step) - fake_loss(name, p, -step)) / (2 * step) for p in ("discriminator", "generator")
    }
    assert slope["discriminator"] == pytest.approx(SLOPES[name].discriminator, abs=1e-9)
    assert -slope["generator"] == pytest.approx(SLOPES[name].generator, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_curvature_is_what_noise_at_the_discriminators_inputs_feels(name: str) -> None:
    """The second derivative in psi of L_D at psi = 0, real and fake samples being standard normal noise around 0."""
    rng = np.random.default_rng(5)
    real, fake = (torch.from_numpy(rng.standard_normal((1, 400_000))) for _ in range(2))
    real, fake = (torch.cat([noise, -noise], dim=1) for noise in (real, fake))  # the first derivative vanishes
    step = 1e-3
    at = {
        psi: float(LOSSES[name].discriminator(real_logits=psi * real, fake_logits=psi * fake))
        for psi in (-step, 0, step)
    }
    assert (at[step] - 2 * at[0] + at[-step]) / step**2 == pytest.approx(SLOPES[name].curvature, rel=0.01, abs=1e-6)


E = 1 / math.e
TABLE = [  # the paper's table, and what follows from it for the other losses
    (Game(loss="minimax"), 0, [0.5j, -0.5j]),
    (Game(loss="non_saturating"), 0, [0.5j, -0.5j]),
    (Game(loss="relativistic"), 0, [0.5j, -0.5j]),
    (Game(loss="wasserstein"), 0, [1j, -1j]),
    (Game(loss="hinge"), 0, [1j, -1j]),
    (Game(loss="least_squares"), 0, [0, 0]),
    (Game(loss="f_gan_kl"), 0, [E * 1j, -E * 1j]),
    (Game(loss="minimax", penalty="r1", penalty_weight=0.6), 0, [-0.3 + 0.4j, -0.3 - 0.4j]),
    (Game(loss="minimax", penalty="r2", penalty_weight=1.25), 0, [-0.25, -1.0]),
    (Game(loss="minimax", penalty="r1_r2", penalty_weight=0.3), 0, [-0.3 + 0.4j, -0.3 - 0.4j]),
    (Game(loss="wasserstein", penalty="r1", penalty_weight=1.2), 0, [-0.6 + 0.8j, -0.6 - 0.8j]),
    (Game(loss="minimax", penalty="instance_noise", penalty_weight=math.sqrt(1.2)), 0, [-0.3 + 0.4j, -0.3 - 0.4j]),
    (Game(loss="minimax"), 2.0, [-0.5 + 0.5j, -0.5 - 0.5j]),
]


@pytest.mark.parametrize(("game", "consensus", "expected"), TABLE)
def test_jacobian_eigenvalues_are_the_papers(game: Game, consensus: float, expected: list[complex]) -> None:
    found = sorted(np.linalg.eigvals(jacobian(game, consensus_weight=consensus)), key=lambda z: (z.imag, z.real))
    assert found == pytest.approx(sorted(map(complex, expected), key=lambda z: (z.imag, z.real)))


# --- discrete time: exact conditions against numeric spectral radii ---------------------------------


@pytest.mark.parametrize("loss", ["minimax", "wasserstein", "f_gan_kl"])
@pytest.mark.parametrize(("updates", "k"), [("simultaneous", 1), *(("alternating", k) for k in (1, 2, 3, 5, 8))])
def test_exact_conditions_agree_with_spectral_radii_on_a_dense_grid(loss: str, updates: str, k: int) -> None:
    rates, weights = np.geomspace(1e-3, 10, 60), np.geomspace(1e-3, 100, 60)
    margin = stability_map(loss, "r1", rates=rates, weights=weights, updates=updates, k=k)
    games = [Game(loss=loss, penalty="r1", penalty_weight=float(w)) for w in weights]
    matrices = [[update_matrix(g, equal_steps(float(h), updates=updates, k=k)) for h in rates] for g in games]
    radius = np.abs(np.linalg.eigvals(np.array(matrices))).max(axis=-1)
    clear = np.abs(radius - 1) > 1e-9
    assert clear.mean() > 0.99
    np.testing.assert_array_equal((margin > 0)[clear], (radius < 1)[clear])
    assert 0.05 < (margin > 0).mean() < 0.95


def test_separate_learning_rates_enter_as_the_theory_says() -> None:
    rng = np.random.default_rng(8)
    for _ in range(400):
        hg, hd, gamma = np.exp(rng.uniform(-5, 2, 3)).tolist()
        game = Game(loss="non_saturating", penalty="r1_r2", penalty_weight=gamma)
        for updates, k in (("alternating", 1), ("alternating", 3), ("simultaneous", 1)):
            steps = Steps(generator_rate=hg, discriminator_rate=hd, updates=updates, k=k)
            assert converges(game, steps) == (spectral_radius(game, steps) < 1)


def test_without_a_penalty_nothing_converges_and_the_edge_of_the_circle_is_where_the_paper_has_it() -> None:
    for loss, k, edge in (("minimax", 1, 4), ("minimax", 5, 1.789), ("wasserstein", 5, 0.894), ("wasserstein", 1, 2)):
        for rate in (0.01, edge * 0.999, edge * 1.001, 7.0):
            assert not converges(Game(loss=loss), equal_steps(rate, k=k))
            radius = spectral_radius(Game(loss=loss), equal_steps(rate, k=k))
            assert radius == pytest.approx(1, abs=1e-6) if rate < edge else radius > 1.0001
    for rate in (0.01, 1.0):
        radius = spectral_radius(Game(loss="wasserstein"), equal_steps(rate, updates="simultaneous"))
        assert radius == pytest.approx(math.sqrt(1 + rate**2))


def test_least_squares_and_one_centred_penalties_never_converge() -> None:
    for rate, weight in itertools.product((0.01, 0.3, 1.0), (0.1, 1.0)):
        assert not converges(Game(loss="least_squares", penalty="r1", penalty_weight=weight), equal_steps(rate))
        for penalty in ("gradient_penalty", "dragan", "weight_clipping"):
            game = Game(loss="wasserstein", penalty=penalty, penalty_weight=weight)
            assert not converges(game, equal_steps(rate))


def test_alternating_r1_contracts_by_the_root_of_the_determinant_and_best_at_the_stated_weight() -> None:
    for h in (0.05, 0.2, 0.5):
        game = Game(loss="minimax", penalty="r1", penalty_weight=0.4)
        assert spectral_radius(game, equal_steps(h)) == pytest.approx(math.sqrt(1 - 0.4 * h))
        best = Game(loss="minimax", penalty="r1", penalty_weight=0.5 * (2 - 0.5 * h))
        assert spectral_radius(best, equal_steps(h)) == pytest.approx(1 - 0.5 * h, abs=1e-7)
        for other in (0.9, 1.1):
            game = Game(loss="minimax", penalty="r1", penalty_weight=other * best.penalty_weight)
            assert spectral_radius(game, equal_steps(h)) > 1 - 0.5 * h + 1e-3
    assert spectral_radius(Game(loss="minimax", penalty="r1", penalty_weight=0.5), equal_steps(2.0)) < 1e-7


def test_stable_weights_are_cut_exactly_where_the_spectral_radius_is_one() -> None:
    seen = set()
    orders = [("simultaneous", 1), *(("alternating", k) for k in (1, 2, 3, 5))]
    for (updates, k), h, penalty in itertools.product(orders, (0.1, 0.9, 1.95, 2.7, 3.5), ("r1", "r1_r2")):
        steps = equal_steps(h, updates=updates, k=k)
        intervals = stable_weights(
            "minimax", damping=DAMPING[penalty], rate=h, simultaneous=updates == "simultaneous", k=k
        )
        seen.add(len(intervals))
        for low, high in intervals:
            inside = Game(loss="minimax", penalty=penalty, penalty_weight=(low + high) / 2)
            assert converges(inside, steps)
            assert spectral_radius(inside, steps) < 1
            for edge in {low, high} - {0.0}:
                on = Game(loss="minimax", penalty=penalty, penalty_weight=edge)
                assert spectral_radius(on, steps) == pytest.approx(1, abs=1e-6)
        dense = np.linspace(1e-3, 5 / h, 2001)
        stable = stability_map("minimax", penalty, rates=[h], weights=dense, updates=updates, k=k)[:, 0] > 0
        inside_some = [any(low < w < high for low, high in intervals) for w in dense]
        np.testing.assert_array_equal(stable, inside_some)
    assert seen == {0, 1, 2}  # with k = 2 near h = 2.75 the stable weights fall in two
    assert stable_weights("least_squares", damping=1, rate=0.1) == ()


def test_steps_needed_shrink_the_distance_by_e_to_the_fourth() -> None:
    game, steps = Game(loss="minimax", penalty="r1", penalty_weight=0.3), equal_steps(0.1, k=2)
    long = 50  # over many turns the eccentricity of the spiral does not count
    power = np.linalg.matrix_power(update_matrix(game, steps), round(long * steps_needed(game, steps)))
    assert np.log(np.linalg.norm(power, 2)) / long == pytest.approx(-4, abs=0.02)
    assert steps_needed(Game(loss="minimax"), steps) == math.inf


# --- the game as the trainer plays it ---------------------------------------------------------------


GAMES: list[dict[str, Any]] = [
    *({"loss": loss, "k": k} for loss in SLOPES_AT for k in (1, 3)),
    *({"loss": loss, "updates": "simultaneous"} for loss in SLOPES_AT),
    {"loss": "minimax", "penalty": "r1", "k": 2},
    {"loss": "wasserstein", "penalty": "r2"},
    {"loss": "relativistic", "penalty": "r1", "updates": "simultaneous"},
    {"loss": "wasserstein", "penalty": "gradient_penalty"},
    {"loss": "wasserstein", "penalty": "weight_clipping", "k": 2},
]


@pytest.mark.parametrize("game", GAMES, ids=lambda g: "-".join(str(v) for v in g.values()))
def test_the_trainer_walks_the_hand_written_path(game: dict[str, Any]) -> None:
    of = program(networks={"name": "dirac", "initial": [0.9, -1.1]}, **game)
    numbers = {
        "r1": {"penalty_weight": 0.7},
        "r2": {"penalty_weight": 0.7},
        "gradient_penalty": {"penalty_weight": 0.7},
    }
    own = {**numbers, "weight_clipping": {"clip": 0.4}}.get(of.penalty, {})
    expected = trajectory(
        of.loss,
        rate=0.13,
        steps=60,
        start=(0.9, -1.1),
        k=of.k,
        simultaneous=of.updates == "simultaneous",
        gamma=own.get("penalty_weight", 0.0) if of.penalty in ("r1", "r2") else 0.0,
        one_centred=own.get("penalty_weight", 0.0) if of.penalty == "gradient_penalty" else 0.0,
        clip=own.get("clip", math.inf),
    )
    # initial points and member numbers are single precision: that, and no more, is the difference
    np.testing.assert_allclose(path(trained(of, [member(0.13, **own)])), expected[::3], rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("penalty", ["none", "r1"])
@pytest.mark.parametrize("loss", ["minimax", "wasserstein", "relativistic"])
@pytest.mark.parametrize("updates", ["alternating", "simultaneous", "optimistic", "extragradient", "consensus"])
def test_near_the_equilibrium_every_order_of_updates_is_its_matrix(updates: str, loss: str, penalty: str) -> None:
    of = program(
        loss=loss,
        penalty=penalty,
        updates=updates,
        horizon=40,
        evaluations=40,
        networks={"name": "dirac", "initial": [3e-5, -4e-5]},
    )
    own = ({"penalty_weight": 0.6} if penalty == "r1" else {}) | (
        {"consensus_weight": 0.8} if updates == "consensus" else {}
    )
    rates = {"generator_learning_rate": 0.25, "discriminator_learning_rate": 0.125}
    found = path(trained(of, [member(0.1, **rates, **own)]))
    steps = Steps(
        generator_rate=0.25,
        discriminator_rate=0.125,
        updates=updates,
        consensus_weight=own.get("consensus_weight", 0.0),
    )
    matrix = update_matrix(Game(loss=loss, penalty=penalty, penalty_weight=own.get("penalty_weight", 0.0)), steps)
    state = np.zeros(len(matrix))  # optimistic: nothing was before the first step
    state[:2] = found[0]
    for place in found[1:]:
        state = matrix @ state
        np.testing.assert_allclose(state[:2], place, rtol=1e-5, atol=1e-10)


def test_r1_r2_is_r1_at_twice_the_weight() -> None:
    both = trained(program(penalty="r1_r2"), [member(0.1, penalty_weight=0.25)])
    once = trained(program(penalty="r1"), [member(0.1, penalty_weight=0.5)])
    np.testing.assert_allclose(path(both), path(once), rtol=1e-12)


def test_wasserstein_simultaneous_grows_by_its_exact_factor() -> None:
    evaluations = trained(program(loss="wasserstein", updates="simultaneous"), [member(0.125)])
    radius = np.array([e.values["distance"][0] for e in evaluations])
    np.testing.assert_allclose(radius, math.sqrt(2) * (1 + 0.125**2) ** (np.arange(0, 61, 3) / 2), rtol=1e-7)


def test_both_players_share_one_angle_drawn_from_each_members_seed() -> None:
    of = program(networks={"name": "dirac", "initial": {"radius": 1e-3}})
    first = trained(of, [member(0.1, seed=seed) for seed in range(40)])[0].values
    theta, psi = first["generator_parameter"], first["discriminator_parameter"]
    np.testing.assert_allclose(np.hypot(theta, psi), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(first["distance"], 1e-3, rtol=1e-6)
    angles = np.arctan2(psi, theta)
    assert len(np.unique(angles)) == 40
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() >= 4  # every quadrant
    assert initial_point({"radius": 1e-3}, 7) == initial_point({"radius": 1e-3}, 7)
    assert initial_point([0.5, -2.0], 7) == (0.5, -2.0)


def test_a_member_is_bitwise_the_same_in_any_company() -> None:
    of = program(penalty="r1", k=2, networks={"name": "dirac", "initial": {"radius": 1.0}})
    who = [member(0.05 * (1 + i), seed=i, penalty_weight=0.1 * (1 + i)) for i in range(11)]
    alone = trained(of, [who[9]], dtype=torch.float32)
    company = trained(of, who, dtype=torch.float32)
    for one, many in zip(alone, company, strict=True):
        for name, values in one.values.items():
            assert np.array_equal(values, many.values[name][9:10], equal_nan=True), name


def test_the_judge_measures_parameters_and_no_modes_and_survives_its_file(tmp_path: Path) -> None:
    made = dirac_judge()
    assert made.reference["rule"] == "radius"
    assert "d_real" not in made.reference
    made.save(tmp_path / "judge.pt")
    loaded = Judge.load(tmp_path / "judge.pt")
    assert loaded.reference == made.reference
    generator, discriminator = torch.tensor([[3.0, 9.0], [3e-30, 0.0]]), torch.tensor([[-4.0, 9.0], [4e-30, 0.0]])
    found = loaded.measure_parameters(generator=generator, discriminator=discriminator)
    assert found["distance"].tolist() == pytest.approx([5.0, 5e-30], rel=1e-6, abs=0)  # float32 squares are 0
    assert loaded.measure(torch.zeros(2, 32, 1), nearest_neighbours=True) == {}
    last = trained(program(), [member(0.1)])[-1].values
    assert np.isfinite(last["distance"]).all()
    assert np.isnan([last[name] for name in ("mode_coverage", "mode_kl", "knn_coverage")]).all()


def test_target_and_networks_come_together_only() -> None:
    dirac, ring = build_target({"name": "dirac"}), build_target({"name": "ring"})
    with pytest.raises(ValueError, match="need the target dirac, got ring"):
        build_networks({"name": "dirac", "initial": ONE}, ring)
    with pytest.raises(ValueError, match="needs the networks dirac, got mlp"):
        build_networks({"name": "mlp", "latent_dim": 4, "width": 8, "depth": 1}, dirac)


# --- the oracle: hundreds of settings through the real loop -----------------------------------------

HORIZON = 1200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "penalty", "updates", "k"),
    [
        ("non_saturating", "r1", "alternating", 1),
        ("minimax", "r1", "alternating", 2),
        ("wasserstein", "r1_r2", "alternating", 5),
        ("relativistic", "r1", "simultaneous", 1),
    ],
)
def test_hundreds_of_settings_converge_exactly_inside_the_boundary(
    loss: str, penalty: str, updates: str, k: int
) -> None:
    cells = list(itertools.product(np.geomspace(0.03, 6, 18).tolist(), [0.0, *np.geomspace(0.01, 40, 13).tolist()]))
    of = program(
        loss=loss,
        penalty=penalty,
        updates=updates,
        k=k,
        horizon=HORIZON,
        evaluations=48,
        networks={"name": "dirac", "initial": {"radius": 1e-3}},
    )
    members = [member(h, seed=i, penalty_weight=gamma) for i, (h, gamma) in enumerate(cells)]
    evaluations = trained(of, members, dtype=torch.float32)
    told = [outcome(evaluations, place) for place in range(len(cells))]
    compared, wrong = 0, []
    for (h, gamma), ending in zip(cells, told, strict=True):
        game = Game(loss=loss, penalty=penalty, penalty_weight=gamma)
        steps = equal_steps(h, updates=updates, k=k)
        if converges(game, steps) and steps_needed(game, steps) > HORIZON:
            continue
        compared += 1
        if converges(game, steps) != (ending == "converged"):
            wrong.append((h, gamma, ending, spectral_radius(game, steps)))
    assert wrong == []
    assert compared > 200
    assert 0.1 < np.mean([ending == "converged" for ending in told]) < 0.9


def outcome(evaluations: list[Evaluation], place: int) -> str:
    """How one member ended, by the outcomes that a study uses."""
    rows = [e for e in evaluations if e.finite[place]]
    names = ("distance", "generator_parameter", "discriminator_parameter")
    dead = len(rows) < len(evaluations)
    steps = [e.generator_step for e in rows] + [HORIZON] * dead
    values = {name: np.array([e.values[name][place] for e in rows] + [np.nan] * dead) for name in names}
    series = Series(
        generator_step=np.array(steps),
        finite=np.array([True] * len(rows) + [False] * dead),
        values=values,
        planned_evaluations=len(evaluations) - 1,
    )
    return judge(series, Criteria(), dirac_judge().reference).outcome


def test_damping_is_known_for_every_penalty_that_the_oracle_speaks_of() -> None:
    assert {"none", "r1", "r2", "r1_r2"} <= set(DAMPING)
