"""Outcomes of the Dirac-GAN: named games end as their theory says, and the rule keeps the laws of every outcome."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from study.outcomes import Criteria, Outcome, Series, judge
from study.outcomes_dirac import MEANINGS, THRESHOLDS
from tests.trainers.dirac_recurrence import trajectory

REFERENCE = {"rule": "radius", "dimensions": 1, "modes": 0}
EVALUATIONS = 60
FAR = (0.98, 1.0)  # radius 1.4
ONE = (1.0, 1.0)


def series_of(path: np.ndarray, *, steps: int) -> Series:
    """What the judge would have reported of a path at 0, 1/60, ..., 1 of the steps; a path cut short has died."""
    at = [round(i * steps / EVALUATIONS) for i in range(EVALUATIONS + 1)]
    alive = [step for step in at if step < len(path)]
    rows = path[alive]
    values = {"distance": np.hypot(*rows.T), "generator_parameter": rows[:, 0], "discriminator_parameter": rows[:, 1]}
    finite = np.ones(len(alive), dtype=bool)
    if len(alive) < len(at):
        alive, finite = [*alive, len(path)], np.append(finite, False)
        values = {name: np.append(value, np.nan) for name, value in values.items()}
    return Series(generator_step=np.array(alive), finite=finite, values=values, planned_evaluations=EVALUATIONS)


def ended(loss: str, *, steps: int = 3000, **game: Any) -> Outcome:
    path = trajectory(loss, steps=steps, **{"rate": 0.1, "start": FAR, **game})
    return judge(series_of(path, steps=steps), Criteria(), REFERENCE)


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "minimax alternating circles for ever": ({"loss": "minimax"}, "oscillating"),
    "minimax simultaneous spirals out": ({"loss": "minimax", "simultaneous": True}, "not converged"),
    "non-saturating simultaneous, limit cycle": ({"loss": "non_saturating", "simultaneous": True}, "oscillating"),
    "non-saturating alternating, sublinear decay": ({"loss": "non_saturating"}, "oscillating"),
    "wasserstein simultaneous blows up": ({"loss": "wasserstein", "simultaneous": True}, "diverged"),
    "wasserstein alternating orbits": ({"loss": "wasserstein"}, "oscillating"),
    "wasserstein clipped at .01": (
        {"loss": "wasserstein", "clip": 0.01, "rate": 5e-3, "start": (0.05, 0.05), "steps": 9000},
        "oscillating",
    ),
    "wasserstein clipped at .1": ({"loss": "wasserstein", "clip": 0.1}, "oscillating"),
    "gradient penalty 10 rests at (+-20, 0)": (
        {"loss": "wasserstein", "one_centred": 10.0, "rate": 0.01, "steps": 20_000},
        "plateau",
    ),
    "gradient penalty .1 cycles": ({"loss": "wasserstein", "one_centred": 0.1, "rate": 0.01}, "oscillating"),
    "least squares rests off the data": ({"loss": "least_squares", "start": ONE}, "plateau"),
    "R1 .1 contracts": ({"loss": "non_saturating", "gamma": 0.1}, "converged"),
    "R1 1 contracts": ({"loss": "non_saturating", "gamma": 1.0}, "converged"),
    "R1 1 contracts simultaneously": ({"loss": "minimax", "gamma": 1.0, "simultaneous": True}, "converged"),
    "alternating beyond h = 4 diverges": (
        {"loss": "minimax", "rate": 4.4, "start": (1e-3, 0.0), "steps": 60},
        "diverged",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_games_end_as_theory_says(name: str) -> None:
    game, expected = NAMED[name]
    outcome = ended(**game).outcome
    assert outcome != "converged" if expected == "not converged" else outcome == expected


def test_the_named_games_are_where_the_papers_say() -> None:
    """The hand-written recurrences themselves, so that the outcomes above are those of the right games."""
    cycle = trajectory("non_saturating", rate=0.1, steps=4000, start=FAR, simultaneous=True)
    assert np.hypot(*cycle[-500:].T).mean() == pytest.approx(np.sqrt(0.2), rel=0.03)
    decay = np.hypot(*trajectory("non_saturating", rate=0.1, steps=20_000, start=FAR)[-1])
    assert decay == pytest.approx(np.sqrt(8 / (0.1 * 20_000)), rel=0.05)
    orbit = np.hypot(*trajectory("minimax", rate=0.1, steps=5000, start=ONE).T)
    assert (orbit.min(), orbit.max()) == (pytest.approx(1.38, abs=0.02), pytest.approx(1.42, abs=0.02))
    rest = trajectory("least_squares", rate=0.1, steps=5000, start=ONE)[-1]
    assert np.hypot(*rest) == pytest.approx(1.32, abs=0.03)
    assert abs(rest[1]) < 1e-6
    spurious = trajectory("wasserstein", rate=0.01, steps=20_000, start=FAR, one_centred=10.0)[-1]
    assert abs(spurious[0]) == pytest.approx(20, abs=0.2)
    clipped = trajectory("wasserstein", rate=5e-3, steps=9000, start=(0.05, 0.05), clip=0.01)
    assert np.hypot(*clipped[-500:].T).max() < 0.02


def path(radius: np.ndarray, *, turns: float = 0.0) -> Series:
    angle = 0.3 + turns * np.linspace(0, 2 * np.pi, len(radius))
    return series_of(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), steps=len(radius) - 1)


def verdict(series: Series) -> Outcome:
    return judge(series, Criteria(), REFERENCE)


N = 600


@pytest.mark.parametrize(
    ("per_quarter", "turns", "expected"),
    [
        (0.49, 40, "converged"),
        (0.55, 40, "oscillating"),
        (0.55, 0, "oscillating"),  # theta still moves by more than a tenth of the radius: the rule asks no more
        (0.95, 0, "plateau"),
        (1.0, 40, "oscillating"),
        (1.4, 40, "oscillating"),
        (1.0, 0, "plateau"),
        (1.6, 40, "diverged"),
        (1.6, 0, "diverged"),
    ],
)
def test_thresholds_hold_the_last_quarter_against_the_third(per_quarter: float, turns: float, expected: str) -> None:
    radius = 1e-3 * per_quarter ** (4 * np.arange(N + 1) / N)
    assert verdict(path(radius, turns=turns)).outcome == expected


def test_the_scale_does_not_matter_and_the_floor_of_single_precision_is_the_equilibrium() -> None:
    decay = 0.3 ** (4 * np.arange(N + 1) / N)
    assert [verdict(path(scale * decay)).outcome for scale in (1e-30, 1.0, 1e20)] == ["converged"] * 3
    floor = np.maximum(1e-3 * 1e-6 ** (4 * np.arange(N + 1) / N), 1e-14)  # arrived, and stays where rounding leaves it
    assert verdict(path(floor)).outcome == "converged"
    assert verdict(path(np.zeros(N + 1))).outcome == "converged"
    restless = np.where(np.arange(N + 1) > 0.75 * N, 4e-44, 1e-44)  # the least numbers there are, four steps apart
    assert verdict(path(np.r_[1e-3, restless[1:]], turns=40)).outcome == "converged"
    assert verdict(path(np.append(1e-3, np.full(N, 1e-11)))).outcome != "converged"


def test_a_bounded_wanderer_has_not_converged_whatever_its_last_quarter_does() -> None:
    """Unstable and held by its nonlinear part: its largest radii differ by chance, far from where it began."""
    wandering = trajectory("minimax", rate=3.2169316912147643, gamma=0.01, k=2, steps=1200, start=(8e-4, 6e-4))
    assert np.hypot(*wandering[50:].T).min() > 0.3
    radius = np.r_[1e-3, np.where(np.arange(N) < 0.75 * N, 10.0, 4.0)]
    assert verdict(path(radius, turns=40)).outcome == "oscillating"
    assert verdict(path(np.r_[20.0, radius[1:]], turns=40)).outcome == "converged"


def test_kinds_events_and_margins() -> None:
    shrinking = verdict(path(0.25 ** (4 * np.arange(N + 1) / N)))
    assert (shrinking.outcome, shrinking.kind, shrinking.t_event) == ("converged", "", 80)  # .25^(4 x 80/600) < .5
    assert shrinking.margin == pytest.approx(0.5, abs=0.02)  # threshold .5 against .25 to the quarter
    growing = verdict(path(3.0 ** (4 * np.arange(N + 1) / N)))
    assert (growing.outcome, growing.kind) == ("diverged", "blowup")
    assert growing.t_event == 60  # 3^(4 x 60/600) = 1.55 is the first evaluation beyond 1.5
    assert growing.margin == pytest.approx(1.0)
    resting = verdict(path(np.ones(N + 1)))
    assert (resting.outcome, resting.kind, resting.t_event) == ("plateau", "rest", None)
    assert resting.margin == pytest.approx(1 / 3)  # 1.5 down to 1


def test_a_death_diverged_and_a_truncated_history_never_converged() -> None:
    assert ended("wasserstein", rate=2.2, start=(1e-3, 0.0), steps=600).kind == "nonfinite"
    whole = path(0.1 ** (4 * np.arange(N + 1) / N))
    cut = dataclasses.replace(
        whole,
        generator_step=whole.generator_step[:-1],
        finite=whole.finite[:-1],
        values={name: value[:-1] for name, value in whole.values.items()},
    )
    assert (verdict(whole).outcome, verdict(cut).outcome) == ("converged", "failed")


def test_order_repetition_and_units_of_the_steps_change_nothing() -> None:
    whole = path(0.4 ** (4 * np.arange(N + 1) / N), turns=9)
    order = np.r_[np.random.default_rng(3).permutation(EVALUATIONS + 1), 5, 7]
    mixed = dataclasses.replace(
        whole,
        generator_step=whole.generator_step[order],
        finite=whole.finite[order],
        values={name: value[order] for name, value in whole.values.items()},
    )
    assert verdict(mixed) == verdict(whole)
    slower = verdict(dataclasses.replace(whole, generator_step=whole.generator_step * 7))
    assert (slower.outcome, slower.margin) == (verdict(whole).outcome, verdict(whole).margin)


def test_criteria_do_not_reach_the_rule_and_every_threshold_is_explained() -> None:
    whole = path(0.4 ** (4 * np.arange(N + 1) / N))
    assert judge(whole, Criteria(u_converged=1e-9, good_fraction=1.0), REFERENCE) == verdict(whole)
    assert set(MEANINGS) == set(THRESHOLDS)
