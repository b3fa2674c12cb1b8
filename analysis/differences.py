"""Where two losses differ: the difference of success in every setting that both have."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import pandas as pd

from analysis.arms import matched
from analysis.compare import arms
from analysis.estimators import Estimate, Strata, difference, wilson
from analysis.figures_cells import cell_of
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.verdicts import cell_tests
from analysis.weights import inference_target, weights

FIRST_COLUMNS: tuple[str, ...] = ("loss_a", "loss_b", "k", "learning_rate")
LAST_COLUMNS: tuple[str, ...] = (
    "runs_a",
    "share_a",
    "runs_b",
    "share_b",
    "difference",
    "low",
    "high",
    "p_exact",
    "p_holm",
)
"""The other factors that span the matched settings stand between the two."""

MAP_COLUMNS: tuple[str, ...] = ("loss_a", "loss_b", "k", "learning_rate", "settings", "difference", "shown")


def differences_table(frames: StudyFrames) -> pd.DataFrame:
    """Every pair of labels in every setting that both have: A minus B, each setting by itself, uncertainty over seeds.

    Settings are matched as in the contrasts (other penalty weights of one setting are pooled). ``low`` and ``high``:
    95 %, Newcombe 1998, method 10, not simultaneous; ``p_exact``: Fisher's exact test, two-sided by the distance
    from what is expected; ``p_holm``: over the settings of the pair, the test of the crossing verdict. Where settings
    share seeds the runs are paired, and neither is given. NaN where a loss has no judged run.
    """
    design, built = weights(frames), arms(frames)
    factors = _settings(frames, design)
    paired = inference_target(frames) == "sweeps"
    parts = []
    for a, b in itertools.combinations(frames.labels(), 2):
        held = set(built[b].strata)
        names = [name for name in dict.fromkeys(built[a].strata) if name in held]
        numbers = _pair(matched(built[a], built[b]), paired=paired)
        own = factors.loc[names].reset_index(drop=True)
        parts.append(pd.concat([pd.DataFrame({"loss_a": a, "loss_b": b}, index=own.index), own, numbers], axis=1))
    columns = ["loss_a", "loss_b", *factors.columns, *LAST_COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _settings(frames: StudyFrames, design: pd.DataFrame) -> pd.DataFrame:
    """stratum -> k, learning rate and the other factors that tell settings apart, but for those of a penalty."""
    shared = [name for name in frames.varying_factors() if name not in PENALTY_PARAMETERS]
    names = ["k", "learning_rate", *sorted(name for name in shared if name not in FIRST_COLUMNS)]
    return design.drop_duplicates("stratum").set_index("stratum")[names]


def _pair(strata: Strata, *, paired: bool) -> pd.DataFrame:
    tests = cell_tests(strata)
    counts = list(zip(strata.successes_a, strata.runs_a, strata.successes_b, strata.runs_b, strict=True))
    limits = [_limits(*(int(count) for count in row)) for row in counts]
    with np.errstate(invalid="ignore"):
        shares = {"share_a": strata.successes_a / strata.runs_a, "share_b": strata.successes_b / strata.runs_b}
    told = math.nan if paired else 1.0
    return pd.DataFrame(
        {
            "runs_a": strata.runs_a,
            "share_a": shares["share_a"],
            "runs_b": strata.runs_b,
            "share_b": shares["share_b"],
            "difference": tests.difference,
            "low": [told * e.low for e in limits],
            "high": [told * e.high for e in limits],
            "p_exact": told * tests.p,
            "p_holm": told * tests.p_holm,
        }
    )


@lru_cache(maxsize=100_000)
def _limits(successes_a: int, runs_a: int, successes_b: int, runs_b: int) -> Estimate:
    """A minus B of one setting; the same counts come up again and again."""
    return difference(_share(successes_a, runs_a), _share(successes_b, runs_b))


def _share(successes: int, runs: int) -> Estimate:
    value = successes / runs if runs else math.nan
    low, high = wilson(value, runs)
    return Estimate(value=value, low=low, high=high)


def difference_map(frames: StudyFrames, table: pd.DataFrame, leader: str, *, alpha: float = 0.05) -> pd.DataFrame:
    """The ``leader`` minus each other label over k and learning rate, in the cells of the phase diagrams.

    Settings of one cell that differ in other factors are averaged; ``shown``: -1 or 1 where one of them differs in
    that direction after Holm, 2 where some do in both, else 0.
    """
    own = table[(table["loss_a"] == leader) | (table["loss_b"] == leader)].reset_index(drop=True)
    sign = np.where(own["loss_a"] == leader, 1.0, -1.0)
    own = own.assign(rival=own["loss_b"].where(own["loss_a"] == leader, own["loss_a"]))
    own = own.assign(difference=sign * own["difference"].astype(float), learning_rate=_rates(frames, own))
    own = own.assign(beyond=np.where(own["p_holm"].astype(float) <= alpha, np.sign(own["difference"]), 0.0))
    rows = []
    for (rival, k, rate), cell in own.groupby(["rival", "k", "learning_rate"], dropna=False, sort=True):
        directions = set(cell["beyond"]) - {0.0}
        shown = 2 if len(directions) == 2 else int(max(directions, default=0))
        rows.append((leader, rival, k, rate, len(cell), float(cell["difference"].mean()), shown))
    return pd.DataFrame(rows, columns=list(MAP_COLUMNS))


def _rates(frames: StudyFrames, table: pd.DataFrame) -> pd.Series:
    """The learning rate of each row as the phase diagrams gather it."""
    name = "learning_rate" if table["learning_rate"].notna().any() else "generator_learning_rate"
    if name not in table or name not in frames.runs:
        return table["learning_rate"]
    gathered = cell_of(frames.runs)["learning_rate"].to_numpy()
    place = dict(zip(frames.runs[name].astype(float), gathered, strict=True))
    return table[name].astype(float).map(place)
