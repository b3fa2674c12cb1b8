"""The verdict on one pair of losses, and how many more seeds would settle it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.arms import Arm, gap, matched
from analysis.estimators import Estimate, Floats, Strata, holm, permutation_p, seeds_for_power
from analysis.weights import Target

CROSSING = "crossing: no single winner, see the map"
IMMATERIAL = "detectable but immaterial"
EQUIVALENT = "equivalent"
UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a verdict is judged by; ``delta`` is the smallest difference that matters, ``pairs`` the family's size."""

    delta: float
    alpha: float
    pairs: int
    target: Target
    pruned: bool

    @property
    def level(self) -> float:
        """Bonferroni level of one simultaneous interval."""
        return self.alpha / self.pairs


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``text`` for people; ``kind`` the same without names, ``winner`` the label that is ahead ("" if none)."""

    text: str
    kind: str
    winner: str = ""


def decide(pair: tuple[str, str], success: tuple[Arm, Arm], unstable: tuple[Arm, Arm], rule: Rule) -> dict[str, object]:
    """Intervals and verdict of one pair, as a row of the contrasts table."""
    joint = gap(*success, rule.target, alpha=rule.level)
    single = gap(*success, rule.target, alpha=rule.alpha)
    ninety = bounded_gap(*success, rule.target, alpha=2 * rule.alpha)
    bounded = bounded_gap(*success, rule.target, alpha=rule.level)
    shaky = bounded_gap(*unstable, rule.target, alpha=rule.level)
    crossing = rule.target == "grid" and crosses(matched(*success), alpha=rule.alpha)
    verdict = judge_pair(pair, success=bounded, ninety=ninety, unstable=shaky, rule=rule, crossing=crossing)
    number, note = extra_seeds(*success, joint=joint, rule=rule) if verdict.kind == UNDETERMINED else (None, "")
    return {
        "difference": joint.value,
        "low": joint.low,
        "high": joint.high,
        "low_95": single.low,
        "high_95": single.high,
        "low_90": ninety.low,
        "high_90": ninety.high,
        "low_worst": bounded.low,
        "high_best": bounded.high,
        "verdict": verdict.text,
        "verdict_kind": verdict.kind,
        "winner": verdict.winner,
        "seeds_needed": number,
        "seeds_note": note,
        "unstable_difference": shaky.value,
        "unstable_low": shaky.low,
        "unstable_high": shaky.high,
        "unstable_verdict": unstable_verdict(pair, shaky),
        "crossing": crossing,
    }


def judge_pair(
    pair: tuple[str, str], *, success: Estimate, ninety: Estimate, unstable: Estimate, rule: Rule, crossing: bool
) -> Verdict:
    """First match: crossing, materially more successful, immaterial, more successful, equivalent, undetermined.

    "More stable" is earned only where the unstable share is lower too, with its interval. ``ninety`` is the
    interval of two one-sided tests at 5 %.
    """
    if rule.pruned or math.isnan(success.value):
        return Verdict(text=UNDETERMINED, kind=UNDETERMINED)
    if crossing:
        return Verdict(text=CROSSING, kind="crossing")
    ahead, behind = pair if success.value >= 0 else pair[::-1]
    low, high = (success.low, success.high) if success.value >= 0 else (-success.high, -success.low)
    calmer = unstable.high < 0 if success.value >= 0 else unstable.low > 0
    word = "stable" if calmer else "successful"
    if low > 0 and high < rule.delta:
        return Verdict(text=f"{IMMATERIAL}: {ahead} is ahead", kind=IMMATERIAL, winner=ahead)
    if low > 0:
        kind = f"materially more {word}" if low >= rule.delta else f"more {word}"
        return Verdict(text=f"{ahead} is {kind} than {behind}", kind=kind, winner=ahead)
    if -rule.delta < ninety.low and ninety.high < rule.delta:
        return Verdict(text=EQUIVALENT, kind=EQUIVALENT)
    return Verdict(text=UNDETERMINED, kind=UNDETERMINED)


def unstable_verdict(pair: tuple[str, str], unstable: Estimate) -> str:
    """Which of the two fails less often, read from the interval of the unstable shares; "" where neither is shown."""
    if unstable.high < 0:
        return f"{pair[0]} fails less often"
    return f"{pair[1]} fails less often" if unstable.low > 0 else ""


def bounded_gap(a: Arm, b: Arm, target: Target, *, alpha: float) -> Estimate:
    """The difference's interval, widened to the worst case of the unused runs on both sides (Manski's bounds)."""
    found = gap(a, b, target, alpha=alpha)
    if a.complete and b.complete:
        return found
    worst = gap(a.filled(0.0), b.filled(1.0), target, alpha=alpha)
    best = gap(a.filled(1.0), b.filled(0.0), target, alpha=alpha)
    return Estimate(value=found.value, low=min(found.low, worst.low), high=max(found.high, best.high))


def crosses(strata: Strata, *, alpha: float) -> bool:
    """Whether matched cells differ in opposite directions, each after Holm over the cells (one exact test a cell)."""
    tests = cell_tests(strata)
    shown = tests.difference[(tests.p_holm <= alpha) & (tests.difference != 0)]
    return bool((shown > 0).any() and (shown < 0).any())


@dataclass(frozen=True, kw_only=True)
class CellTests:
    """Cell by cell [cells]: share of A minus share of B, exact p, and p after Holm; NaN where an arm has no runs."""

    difference: Floats
    p: Floats
    p_holm: Floats


def cell_tests(strata: Strata) -> CellTests:
    """Every matched cell tested by itself: ``cell_p``, and Holm over the cells in which both arms have runs."""
    counts = (strata.successes_a, strata.runs_a, strata.successes_b, strata.runs_b)
    found = np.full((2, len(strata.weights)), math.nan)
    for i in np.flatnonzero((strata.runs_a > 0) & (strata.runs_b > 0) & (strata.weights > 0)):
        a, n_a, b, n_b = (int(column[i]) for column in counts)
        found[:, i] = a / n_a - b / n_b, cell_p(a, n_a, b, n_b)
    return CellTests(difference=found[0], p=found[1], p_holm=np.array(holm(list(found[1]))))


@lru_cache(maxsize=100_000)
def cell_p(successes_a: int, runs_a: int, successes_b: int, runs_b: int) -> float:
    """``permutation_p`` of a single cell, where the weight cancels; the same counts come up again and again."""
    a, n_a, b, n_b = (np.array([count], dtype=np.int64) for count in (successes_a, runs_a, successes_b, runs_b))
    return permutation_p(Strata(weights=np.ones(1), successes_a=a, runs_a=n_a, successes_b=b, runs_b=n_b))


def extra_seeds(a: Arm, b: Arm, *, joint: Estimate, rule: Rule) -> tuple[int | None, str]:
    """More replicates per cell that would find a difference of ``delta`` with power 80 %, or None with the reason."""
    runs = np.concatenate([a.cells.runs, b.cells.runs])
    obstacles = {
        "pruned runs cannot be compared": rule.pruned,
        "no runs to compare": math.isnan(joint.value),
        "settings were drawn: more settings are needed, not more seeds": rule.target == "space",
        "a cell has no runs: complete the grid first": bool((runs == 0).any()),
    }
    for reason, applies in obstacles.items():
        if applies:
            return None, reason
    needed = math.ceil(seeds_for_power(a.cells, b.cells, delta=rule.delta, pairs=rule.pairs, alpha=rule.alpha))
    if needed > runs.min():
        return needed - int(runs.min()), ""
    if not (a.complete and b.complete) and (joint.low > 0 or joint.high < 0):
        return None, "failed runs could turn it around: resume the study"
    return None, "difference near the margin"
