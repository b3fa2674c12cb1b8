"""Outcomes: synthetic families are told apart, and the laws of the taxonomy hold for any series."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.evidence import complete_rows, gather
from study.outcomes import _LABELS, OUTCOMES, Criteria, Outcome, Series, _batch, _decided, _facts, judge

PLANNED = 30
REFERENCE = {
    "d_real": 0.07,
    "d_ref": 1.27,
    "d_far": 1.73,
    "dimensions": 2,
    "quality_ceiling": 0.989,
    "knn_coverage_ceiling": 0.95,
}
T = np.arange(PLANNED + 1) / PLANNED
ONES = np.ones(PLANNED + 1)


def series(
    u: np.ndarray | float,
    *,
    coverage: np.ndarray | float = 1.0,
    quality: np.ndarray | float = 0.95,
    displacement: np.ndarray | float | None = None,
    knn_coverage: np.ndarray | float = np.nan,
    **changes: object,
) -> Series:
    """A finite series from the rescaled distance u, coverage and quality (as a share of the ceiling)."""
    moved = 2.0 * T if displacement is None else displacement
    values = {
        "distance": ONES * (0.07 + 1.2 * np.asarray(u)),
        "mode_coverage": ONES * coverage,
        "high_quality_fraction": ONES * np.asarray(quality) * 0.989,
        "knn_coverage": ONES * knn_coverage,
        "displacement": ONES * moved,
    }
    fields = {
        "generator_step": np.arange(PLANNED + 1) * 100,
        "finite": ONES.astype(bool),
        "values": values,
        "planned_evaluations": PLANNED,
    }
    return Series(**{**fields, **changes})  # type: ignore[arg-type]


def verdict(s: Series, criteria: Criteria | None = None, **reference: float) -> Outcome:
    return judge(s, criteria or Criteria(), {**REFERENCE, **reference})


def label(s: Series, **reference: float) -> str:
    outcome = verdict(s, **reference)
    return f"{outcome.outcome}/{outcome.kind}"


# --- families ---------------------------------------------------------------------------------------


def _learns(rng: np.random.Generator, *, rate: float, floor: float = 0.04) -> np.ndarray:
    return floor + np.exp(-rate * T) + 0.015 * rng.standard_normal(len(T))


def _coverage(rng: np.random.Generator, level: np.ndarray | float) -> np.ndarray:
    """Mode counts of eight that jitter by one now and then, [E]."""
    jitter = rng.integers(-1, 2, size=len(T)) * (rng.random(len(T)) < 0.1)
    return np.clip(np.round(np.asarray(level) * 8 * ONES) + np.minimum(jitter, 0), 1, 8) / 8


def fast(rng: np.random.Generator) -> Series:
    return series(_learns(rng, rate=rng.uniform(10, 30)))


def steady(rng: np.random.Generator) -> Series:
    """Reaches the thresholds shortly before the judged window."""
    return series(_learns(rng, rate=rng.uniform(6, 7), floor=0.03), quality=np.minimum(0.97, 0.3 + 1.2 * T))


def dies(rng: np.random.Generator) -> Series:
    alive = int(rng.integers(1, PLANNED))
    rows = slice(0, alive + 1)
    full = fast(rng)
    finite = np.arange(alive + 1) < alive
    values = {name: np.where(finite, value[rows], np.nan) for name, value in full.values.items()}
    return dataclasses.replace(full, generator_step=full.generator_step[rows], finite=finite, values=values)


def blows_up(rng: np.random.Generator) -> Series:
    return series(_learns(rng, rate=5) + np.exp(np.clip(T - rng.uniform(0.2, 0.5), 0, 1) * 20) - 1, coverage=0.125)


def never_learns(rng: np.random.Generator) -> Series:
    u = rng.uniform(0.95, 1.1) + 0.015 * rng.standard_normal(len(T))
    return series(u, coverage=_coverage(rng, rng.choice([0.25, 1.0])), quality=0.05, displacement=0.01)


def collapses_from_the_start(rng: np.random.Generator) -> Series:
    return series(rng.uniform(0.6, 1.4) + 0.1 * rng.random(len(T)), coverage=_coverage(rng, rng.choice([0.125, 0.25])))


def collapses_late(rng: np.random.Generator) -> Series:
    gone = rng.uniform(0.5, 0.65) < T
    return series(np.where(gone, 0.9, _learns(rng, rate=20)), coverage=_coverage(rng, np.where(gone, 0.25, 1.0)))


def swings(rng: np.random.Generator) -> Series:
    """Distance on a wide cycle of several periods within the late half."""
    wave = np.sin(2 * np.pi * (rng.uniform(5, 8) * T + rng.random()))
    return series(0.4 + rng.uniform(0.25, 0.35) * wave, coverage=_coverage(rng, 0.875))


def goes_in_and_out(rng: np.random.Generator) -> Series:
    """A small cycle about the threshold: good, then not, then good again."""
    wave = np.sin(2 * np.pi * (rng.uniform(5, 6) * T + rng.random()))
    return series(0.1 + 0.08 * wave)


def still_improves(rng: np.random.Generator) -> Series:
    return series(rng.uniform(0.8, 1.0) - rng.uniform(0.4, 0.6) * T + 0.015 * rng.standard_normal(len(T)), quality=0.4)


def settles_short(rng: np.random.Generator) -> Series:
    return series(_learns(rng, rate=25, floor=rng.uniform(0.2, 0.5)), quality=0.6)


def misses_some_modes(rng: np.random.Generator) -> Series:
    u = _learns(rng, rate=25, floor=rng.uniform(0.2, 0.5))
    return series(u, coverage=_coverage(rng, 0.75))


FAMILIES: dict[Callable[[np.random.Generator], Series], str] = {
    fast: "converged/",
    steady: "converged/",
    dies: "diverged/nonfinite",
    blows_up: "diverged/blowup",
    never_learns: "plateau/dead",
    collapses_from_the_start: "collapsed/",
    collapses_late: "collapsed/late",
    swings: "oscillating/",
    goes_in_and_out: "oscillating/",
    still_improves: "under_trained/",
    settles_short: "plateau/quality",
    misses_some_modes: "plateau/partial_collapse",
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_synthetic_families_are_labelled_right(family: Callable[[np.random.Generator], Series]) -> None:
    labels = [label(family(np.random.default_rng([seed, 77]))) for seed in range(60)]
    assert labels.count(FAMILIES[family]) >= 0.95 * len(labels), Counter(labels)


# --- laws --------------------------------------------------------------------------------------------

number = st.one_of(st.floats(-1, 6), st.just(math.nan), st.sampled_from([math.inf, -math.inf, 1e300, 0.1, 0.9, 0.5]))


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    """Any values at all: a random family or junk, with rows missing, dead or absent."""
    if draw(st.booleans()):
        family = draw(st.sampled_from(list(FAMILIES)))
        return family(np.random.default_rng(draw(st.integers(0, 10_000))))
    length = draw(st.integers(1, 14))
    column = st.lists(number, min_size=length, max_size=length).map(np.array)
    names = draw(st.sets(st.sampled_from(["distance", "mode_coverage", "high_quality_fraction", "displacement"])))
    return Series(
        generator_step=np.cumsum(draw(st.lists(st.integers(1, 50), min_size=length, max_size=length))),
        finite=np.array(draw(st.lists(st.sampled_from([True] * 9 + [False]), min_size=length, max_size=length))),
        values={name: draw(column) for name in sorted(names)},
        planned_evaluations=draw(st.integers(0, length + 1)),
        censored=draw(st.booleans()),
    )


def reindexed(s: Series, rows: np.ndarray) -> Series:
    return dataclasses.replace(
        s,
        generator_step=s.generator_step[rows],
        finite=s.finite[rows],
        values={name: value[rows] for name, value in s.values.items()},
    )


@settings(max_examples=120, deadline=None)
@given(any_series(), st.randoms(use_true_random=False))
def test_every_series_has_one_outcome_and_order_duplicates_and_units_do_not_matter(s: Series, random: object) -> None:
    expected = verdict(s)
    assert expected.outcome in OUTCOMES
    assert (expected.margin is None) == (expected.outcome in ("censored", "failed") or expected.kind == "nonfinite")
    assert expected.margin is None or 0 < expected.margin <= 1
    rows = list(range(len(s.generator_step)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert verdict(reindexed(s, np.array(rows))) == expected
    assert verdict(reindexed(s, np.repeat(rows, 2))) == expected
    rescaled = verdict(dataclasses.replace(s, generator_step=s.generator_step * 8))
    event = None if expected.t_event is None else expected.t_event * 8
    assert dataclasses.replace(rescaled, margin=None) == dataclasses.replace(expected, t_event=event, margin=None)


@settings(max_examples=80, deadline=None)
@given(any_series())
def test_a_database_that_turns_infinity_into_a_large_number_changes_nothing(s: Series) -> None:
    stored = {name: np.nan_to_num(v, nan=np.nan, posinf=1.797e308, neginf=-1.797e308) for name, v in s.values.items()}
    assert verdict(dataclasses.replace(s, values=stored)) == verdict(s)


@settings(max_examples=80, deadline=None)
@given(any_series(), st.integers(1, 30))
def test_a_truncated_history_is_never_converged(s: Series, keep: int) -> None:
    whole = min(s.planned_evaluations, len(s.generator_step) - 1)
    short = reindexed(s, np.arange(min(keep, whole)))
    assert verdict(short).outcome != "converged"
    assert verdict(dataclasses.replace(short, censored=False)).outcome in ("failed", "diverged")


@pytest.mark.parametrize("poison", [math.inf, -math.inf, 1e300, 1.797e308])
@pytest.mark.parametrize("name", ["distance", "mode_coverage", "displacement"])
def test_a_number_that_is_none_means_diverged_at_its_step(poison: float, name: str) -> None:
    s = fast(np.random.default_rng(0))
    s.values[name][3] = poison
    assert verdict(s) == Outcome("diverged", "nonfinite", 300, None)


def test_divergence_counts_however_the_process_ended() -> None:
    s = dies(np.random.default_rng(1))
    censored = verdict(dataclasses.replace(s, censored=True))
    assert censored == Outcome("diverged", "nonfinite", int(s.generator_step[-1]), None)


def test_an_absent_measurement_is_not_a_divergence() -> None:
    s = fast(np.random.default_rng(0))
    bare = dataclasses.replace(s, values={"distance": s.values["distance"]})
    assert verdict(bare).outcome == "converged"
    gone = {**s.values, "distance": np.where(T == 0.5, np.nan, s.values["distance"])}
    assert verdict(dataclasses.replace(s, values=gone)).outcome == "failed"


def test_a_stopped_replicate_is_censored_and_an_unfinished_one_failed() -> None:
    part = reindexed(fast(np.random.default_rng(0)), np.arange(20))
    assert verdict(dataclasses.replace(part, censored=True)) == Outcome("censored", "", None, None)
    assert verdict(part) == Outcome("failed", "", None, None)


# --- rules in turn -------------------------------------------------------------------------------------


def test_one_slip_in_the_judged_window_is_allowed_and_two_are_not() -> None:
    bad = np.isin(np.arange(PLANNED + 1), [25])
    assert label(series(np.where(bad, 0.14, 0.05))) == "converged/"
    bad = np.isin(np.arange(PLANNED + 1), [25, 28])
    assert label(series(np.where(bad, 0.14, 0.05))) != "converged/"


def test_hysteresis_forgives_small_excursions_and_counts_large_ones() -> None:
    odd = np.isin(np.arange(PLANNED + 1), [16, 19])  # within H, outside W
    assert label(series(np.where(odd, 0.14, 0.05))) == "converged/"  # .14 < .10 + .05
    assert label(series(np.where(odd, 0.16, 0.05))) == "oscillating/"  # out, in, out, in
    assert label(series(np.where(T == 0.5, 0.16, 0.05))) == "converged/"


def test_each_of_distance_coverage_and_quality_can_forbid_convergence() -> None:
    assert label(series(0.05)) == "converged/"
    assert label(series(0.11)) == "plateau/quality"
    assert label(series(0.05, quality=0.79)) == "plateau/quality"
    assert label(series(0.05, coverage=0.875)) == "plateau/partial_collapse"


def test_beyond_two_dimensions_neighbour_coverage_is_asked_as_well() -> None:
    sparse = np.where(np.arange(PLANNED + 1) % 5 == 0, 1.0, np.nan)  # the ceiling is .95: .76 needed
    assert label(series(0.05, knn_coverage=0.77 * sparse), dimensions=64) == "converged/"
    assert label(series(0.05, knn_coverage=0.75 * sparse), dimensions=64) == "plateau/quality"
    assert label(series(0.05, knn_coverage=0.75 * sparse)) == "converged/"
    assert label(series(0.05), dimensions=64) == "plateau/quality"  # never measured is not passed


def test_a_dead_generator_is_no_collapse_and_a_moving_one_no_dead_one() -> None:
    dead = series(1.0, coverage=0.125, quality=0.9, displacement=0.1 * 1.27 * 0.99)
    assert label(dead) == "plateau/dead"
    assert label(series(1.0, coverage=0.125, quality=0.9, displacement=0.1 * 1.27 * 1.01)) == "collapsed/"
    assert label(series(1.0, coverage=0.125, quality=0.19)) == "collapsed/"  # one repeated non-digit is a collapse
    assert label(series(1.0, coverage=0.75, quality=0.19)) == "plateau/dead"
    assert label(series(2 - T, coverage=0.125, quality=0.19)) == "under_trained/"  # far away, but on its way
    assert label(series(np.where(T == 0.1, 0.7, 1.0), coverage=0.125, quality=0.19)) == "collapsed/"


def test_a_steep_steady_fall_is_no_oscillation() -> None:
    falling = 2.4 - 2.1 * T  # falls by 1.05 within H, four times the amplitude asked of an oscillation
    assert label(series(falling, coverage=0.875)) == "under_trained/"
    assert label(series(falling[::-1], coverage=0.875)) == "plateau/partial_collapse"  # rising is no progress


def test_a_fall_that_outweighs_its_shaking_is_progress_and_one_that_does_not_is_oscillation() -> None:
    shake = 0.2 * (-1.0) ** np.arange(len(T))
    assert label(series(2.0 - 1.6 * T + shake, coverage=0.875)) == "under_trained/"  # falls by .8, shakes by .4
    assert label(series(1.0 - 0.4 * T + shake, coverage=0.875)) == "oscillating/"  # falls by .2


def test_collapse_on_an_outer_mode_is_no_blow_up() -> None:
    assert label(series((1.73 - 0.07) / 1.2, coverage=0.125)) == "collapsed/"
    assert label(series((3.01 * 1.73 - 0.07) / 1.2, coverage=0.125)) == "diverged/blowup"


def test_events_are_where_they_were_put() -> None:
    at = np.arange(PLANNED + 1)
    early_spike = np.where((at >= 12) | (at == 4), 0.05, 0.5)
    assert verdict(series(early_spike)).t_event == 1200  # a first hit is not convergence
    late = series(np.where(at >= 18, 0.9, 0.05), coverage=np.where(at >= 18, 0.25, 1.0))
    assert verdict(late) == dataclasses.replace(verdict(late), outcome="collapsed", kind="late", t_event=1800)
    assert verdict(series(np.where(at >= 7, 9.0, 0.5))).t_event == 700
    assert verdict(series(0.3)).t_event is None


def test_margin_is_the_smallest_relative_change_that_flips() -> None:
    assert verdict(series(0.12)).margin == pytest.approx(0.20, rel=0.02)  # u_converged .10 -> .12
    assert verdict(series(3.3 * 1.73 / 1.2 - 0.07 / 1.2)).margin == pytest.approx(0.10, rel=0.02)  # blowup 3 -> 3.3
    assert verdict(series(0.05, coverage=0.92)).margin == pytest.approx(0.02 / 0.9, rel=0.03)  # .90 -> .92
    near, far = verdict(series(0.102)).margin, verdict(series(0.15)).margin
    assert near is not None
    assert far is not None
    assert near < far


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(FAMILIES)), st.integers(0, 500))
def test_margin_is_what_trying_every_move_alone_finds(
    family: Callable[[np.random.Generator], Series], seed: int
) -> None:
    s = family(np.random.default_rng(seed))
    expected = verdict(s)
    if expected.margin is None:
        return
    coarse = [0.01 * 100 ** (place / 23) for place in range(24)]
    first = next((place for place, change in enumerate(coarse) if _flipped_by(s, change, expected.outcome)), None)
    if first is None:
        assert expected.margin == 1.0
        return
    low = coarse[first - 1] if first else 0.0
    fine = [low + (coarse[first] - low) * part / 16 for part in range(1, 17)]
    assert expected.margin == pytest.approx(next(c for c in fine if _flipped_by(s, c, expected.outcome)), rel=1e-9)


def _flipped_by(s: Series, change: float, outcome: str) -> bool:
    """Whether any threshold moved alone by this share of itself, up or down, gives another outcome."""
    evidence = gather(s, complete_rows(s), Criteria(), REFERENCE)
    for name, value in Criteria().thresholds.items():
        for sign in (-1, 1):
            moved = _batch(Criteria().thresholds | {name: value * (1 + sign * change)})
            place = _decided(evidence, moved, _facts(evidence, moved))[0]
            if _LABELS[place].partition("/")[0] != outcome:
                return True
    return False


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(FAMILIES)), st.integers(0, 500))
def test_no_threshold_moved_by_less_than_the_margin_changes_the_outcome(
    family: Callable[[np.random.Generator], Series], seed: int
) -> None:
    s = family(np.random.default_rng(seed))
    expected = verdict(s)
    if expected.margin is None:
        return
    for name, value in Criteria().thresholds.items():
        for sign in (-1, 1):
            moved = _with_threshold(name, value * (1 + sign * 0.9 * expected.margin))
            assert moved is None or verdict(s, moved).outcome == expected.outcome


def _with_threshold(name: str, value: float) -> Criteria | None:
    """Default criteria with one threshold moved, where that is allowed (counts stay whole)."""
    try:
        return Criteria(**{name: value})  # type: ignore[arg-type]
    except ValueError:
        return None


def test_few_evaluations_are_still_judged() -> None:
    short = reindexed(dataclasses.replace(series(0.05), planned_evaluations=4), np.arange(5))
    assert verdict(short).outcome == "converged"
    assert verdict(reindexed(dataclasses.replace(short, planned_evaluations=0), np.arange(1))).outcome == "converged"


def test_evaluation_zero_is_not_judged() -> None:
    fewest = reindexed(dataclasses.replace(series(np.where(T == 0, 5.0, 0.05)), planned_evaluations=8), np.arange(9))
    assert verdict(fewest).outcome == "converged"


# --- input ---------------------------------------------------------------------------------------------


def test_criteria_defaults_are_the_contracts() -> None:
    assert dataclasses.asdict(Criteria()) == {
        "u_converged": 0.10,
        "coverage_converged": 0.90,
        "quality_converged": 0.80,
        "knn_coverage_converged": 0.80,
        "good_fraction": 0.85,
        "coverage_collapsed": 0.50,
        "collapsed_fraction": 0.90,
        "window_fraction": 0.2,
        "window_min_evaluations": 8,
        "late_fraction": 0.5,
        "hysteresis": 0.05,
        "max_crossings": 2,
        "amplitude": 0.25,
        "trend_p": 0.01,
        "trend_gain": 0.10,
        "blowup": 3.0,
        "dead_u": 0.8,
    }


def test_criteria_hash_depends_on_values_alone() -> None:
    assert Criteria.from_mapping({"blowup": 3, "u_converged": 0.1}).hash == Criteria().hash
    hashes = {dataclasses.replace(Criteria(), **{name: 0.55}).hash for name in ("u_converged", "dead_u", "trend_p")}  # type: ignore[arg-type]
    assert len(hashes | {Criteria().hash}) == 4
    assert len(Criteria().hash) == 16


def test_all_criteria_errors_are_listed_at_once() -> None:
    with pytest.raises(ValueError, match="criteria") as caught:
        Criteria.from_mapping({"u_convergd": 0.1, "max_crossings": 1.5, "good_fraction": 85, "blowup": "3"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "criteria.u_convergd is not a criterion; did you mean 'u_converged'?"
    assert set(lines[1:]) == {
        "criteria.max_crossings must be a whole number >= 0, got 1.5.",
        "criteria.good_fraction must be a number > 0 and <= 1, got 85.",
        "criteria.blowup must be a number >= 0, got '3'.",
    }
    with pytest.raises(ValueError, match=r"coverage_collapsed must be < coverage_converged \(0\.9\), got 0\.95"):
        Criteria(coverage_collapsed=0.95)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("d_ref", 0.07, "d_ref must be > d_real"),
        ("d_far", None, "d_far must be a finite number, got None"),
        ("quality_ceiling", math.nan, "quality_ceiling must be a finite number, got nan"),
    ],
)
def test_an_unusable_reference_is_named(key: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verdict(series(0.05), **{key: value})


def test_series_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="finite must have 31 evaluations, got 30"):
        series(0.05, finite=np.ones(30, dtype=bool))
