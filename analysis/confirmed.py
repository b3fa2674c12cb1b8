"""Tuned success: how often the setting that a search selected ends well under fresh seeds, and loss against loss.

The replicates that selected a setting say nothing about it: a maximum of noisy shares promises too much. Here only
replicates that no selection has seen count, so every number is conditional on the chosen settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.arms import UNSTABLE, Arm, event
from analysis.commands import declared_range
from analysis.compare import ALPHA, CONTRAST_COLUMNS, DELTA, ENDINGS
from analysis.estimators import Floats, holm, wilson
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.tuned import LOTTERY_RUNS, failure_in, tuned_success_of
from analysis.verdicts import Rule, decide

TUNED_FILES: tuple[str, ...] = ("tuned", "tuned_contrasts", "tuned_space")
"""Tables that the report of a study with a confirming phase has beside those of every study."""

NUMBERS: tuple[str, ...] = (
    "tuned",
    "tuned_low",
    "tuned_high",
    "unstable",
    "unstable_low",
    "unstable_high",
    "failure_in_five",
    "failure_in_five_low",
    "failure_in_five_high",
    "tuned_worst",
    "tuned_best",
    "runs_planned",
    "runs_used",
    "runs_failed",
    *ENDINGS,
    "partial_collapse",
    "explored",
    "explored_naive",
    "explored_runs",
    "settings",
)
"""Columns of tuned.csv behind the setting's own: shares, intervals, counts, and what the search itself promised."""

TUNED_CONTRASTS: tuple[str, ...] = tuple(n for n in CONTRAST_COLUMNS if n not in ("crossing", "target"))

SPACE_COLUMNS: tuple[str, ...] = ("loss", "factor", "value", "low", "high", "levels", "position", "edge")

NEAR_EDGE = 0.05
"""Of a drawn range, in its logarithm: nearer to an end than this counts as at the edge."""


def tuned_tables(frames: StudyFrames) -> dict[str, pd.DataFrame]:
    """The tables of TUNED_FILES; none where no setting was confirmed."""
    if not len(frames.confirmed):
        return {}
    return {
        "tuned": confirmed_table(frames),
        "tuned_contrasts": tuned_contrasts(frames),
        "tuned_space": tuned_space(frames),
    }


def confirmed_labels(frames: StudyFrames) -> list[str]:
    """Labels of which a setting was confirmed, in the study's order."""
    held = set(frames.confirmed["loss"].astype(str))
    return [label for label in frames.labels() if label in held]


def confirmed_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label: its selected setting and how its fresh replicates ended, with Wilson's 95 % interval.

    ``tuned_worst`` and ``tuned_best`` count runs that were lost as failures and as successes (Manski). ``explored``
    is the search's own cross-fitted success of the best setting, ``explored_naive`` the share seen at the selected
    setting, which selection inflates. Conditional on the chosen setting: choosing again may choose another.
    """
    names = setting_names(frames)
    rows = [_confirmed_row(frames, label, names) for label in confirmed_labels(frames)]
    return pd.DataFrame(rows, columns=["loss", "configuration_key", *names, *NUMBERS])


def setting_names(frames: StudyFrames) -> list[str]:
    """k, learning rates and every other factor that the search varied within a label."""
    first = [n for n in ("k", "learning_rate") if n in frames.runs]
    return [*first, *(n for n in frames.explored.varying_factors() if n not in first)]


def _confirmed_row(frames: StudyFrames, label: str, names: Sequence[str]) -> dict[str, Any]:
    fresh, explored = frames.confirmed, frames.explored.runs
    own = fresh[fresh["loss"] == label]
    key = own["configuration_key"].iloc[0]
    success, unstable = event(own, ["converged"]), event(own, UNSTABLE, kinds=["partial_collapse"])
    used = int((~np.isnan(success)).sum())
    tuned, tuned_low, tuned_high = _share(success)
    shaky, shaky_low, shaky_high = _share(unstable)
    partly = (own["outcome"] == "plateau") & (own["kind"] == "partial_collapse")
    before = event(explored[(explored["loss"] == label) & (explored["configuration_key"] == key)], ["converged"])
    return {
        "loss": label,
        "configuration_key": key,
        **{name: own[name].iloc[0] for name in names},
        **{"tuned": tuned, "tuned_low": tuned_low, "tuned_high": tuned_high},
        **{"unstable": shaky, "unstable_low": shaky_low, "unstable_high": shaky_high},
        "failure_in_five": failure_in(LOTTERY_RUNS, tuned),
        "failure_in_five_low": failure_in(LOTTERY_RUNS, tuned_high),
        "failure_in_five_high": failure_in(LOTTERY_RUNS, tuned_low),
        "tuned_worst": float(np.nan_to_num(success, nan=0.0).mean()),
        "tuned_best": float(np.nan_to_num(success, nan=1.0).mean()),
        **{"runs_planned": len(own), "runs_used": used, "runs_failed": len(own) - used},
        **{name: int((own["outcome"] == name).sum()) for name in ENDINGS},
        "partial_collapse": int(partly.sum()),
        "explored": tuned_success_of(frames.explored, label),
        "explored_naive": _share(before)[0],
        "explored_runs": int((~np.isnan(before)).sum()),
        "settings": int(explored.loc[explored["loss"] == label, "configuration_key"].nunique()),
    }


def _share(values: Floats) -> tuple[float, float, float]:
    """Share of 1 among the known ``values`` with Wilson's 95 % interval; NaN in (0, 1) where none is known."""
    known = values[~np.isnan(values)]
    share = float(known.mean()) if len(known) else math.nan
    return share, *wilson(share, len(known))


def with_tuned(losses: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """losses.csv with tuned success from fresh seeds as its last columns."""
    named = {"unstable": "tuned_unstable", "runs_used": "tuned_runs"}
    added = tuned[["loss", "tuned", "tuned_low", "tuned_high", *named]].rename(columns=named)
    return losses.merge(added, on="loss", how="left").astype({"tuned_runs": "Int64"})


def tuned_contrasts(frames: StudyFrames, *, delta: float = DELTA, alpha: float = ALPHA) -> pd.DataFrame:
    """Every pair of confirmed labels: difference of tuned success, intervals, Fisher's exact test, Holm, the verdict.

    Newcombe's hybrid score interval (1998, method 10); ``low`` and ``high`` simultaneous over the pairs (Bonferroni);
    the verdict allows for lost runs at their worst. All of it is about the two settings that were selected.
    """
    labels = confirmed_labels(frames)
    pairs = list(itertools.combinations(labels, 2))
    arms = {label: _arms(frames, label) for label in labels}
    p_values = [fisher_p(arms[a].success, arms[b].success) for a, b in pairs]
    rule = Rule(delta=delta, alpha=alpha, pairs=max(1, len(pairs)), target="grid", pruned=False)
    rows = []
    for (a, b), p, p_holm in zip(pairs, p_values, holm(p_values), strict=True):
        both = arms[a], arms[b]
        decided = decide((a, b), (both[0].success, both[1].success), (both[0].unstable, both[1].unstable), rule)
        rows.append({"loss_a": a, "loss_b": b, **decided, "p_exact": p, "p_holm": p_holm})
    return pd.DataFrame(rows, columns=list(TUNED_CONTRASTS)).astype({"seeds_needed": "Int64"})


@dataclass(frozen=True, kw_only=True)
class _Both:
    """The selected setting of one label as a single cell, for each of the two events."""

    success: Arm
    unstable: Arm


def _arms(frames: StudyFrames, label: str) -> _Both:
    own = frames.confirmed[frames.confirmed["loss"] == label].sort_values("replicate", kind="stable")
    return _Both(
        success=_cell(event(own, ["converged"])),
        unstable=_cell(event(own, UNSTABLE, kinds=["partial_collapse"])),
    )


def _cell(values: Floats) -> Arm:
    planned = np.ones((1, len(values)), dtype=bool)
    return Arm(weights=np.ones(1), strata=("selected",), values=values[None, :], planned=planned)


def fisher_p(a: Arm, b: Arm) -> float:
    """Fisher's exact two-sided p of two single cells; NaN where one has no run."""
    counts = [(int(cells.successes[0]), int(cells.runs[0])) for cells in (a.cells, b.cells)]
    if not all(runs for _, runs in counts):
        return math.nan
    return float(stats.fisher_exact([[s, runs - s] for s, runs in counts]).pvalue)


def tuned_space(frames: StudyFrames) -> pd.DataFrame:
    """Where the selected setting of each label sits in every numeric factor that was searched, columns SPACE_COLUMNS.

    ``position`` runs from 0 (lowest) to 1 (highest), in the logarithm for rates and weights. ``edge``: "low" or
    "high" where it is the outermost level, or within NEAR_EDGE of the end of a drawn range; else "".
    """
    rows = [row for label in confirmed_labels(frames) for row in _places(frames, label)]
    return pd.DataFrame(rows, columns=list(SPACE_COLUMNS))


def _places(frames: StudyFrames, label: str) -> list[dict[str, Any]]:
    tried = frames.explored.runs[frames.explored.runs["loss"] == label]
    chosen = frames.confirmed[frames.confirmed["loss"] == label].iloc[0]
    rows = []
    for name in frames.explored.factors():
        if not pd.api.types.is_numeric_dtype(tried[name]) or pd.isna(chosen[name]):
            continue
        levels = np.unique(tried[name].dropna().to_numpy(dtype=float))
        if len(levels) > 1:
            rows.append({"loss": label, **_place(frames, name, float(chosen[name]), levels)})
    return rows


def _place(frames: StudyFrames, name: str, value: float, levels: Floats) -> dict[str, Any]:
    low, high = declared_range(frames, name, levels)
    logarithmic = low > 0 and (name in PENALTY_PARAMETERS or name.endswith("learning_rate"))
    scale = np.log10 if logarithmic else np.asarray
    ends = float(scale(low)), float(scale(high))
    position = (float(scale(value)) - ends[0]) / (ends[1] - ends[0])
    drawn = len(levels) > _MOST_LEVELS or (low, high) != (levels[0], levels[-1])
    margin = NEAR_EDGE if drawn and name != "k" else 1e-9
    edge = "low" if position <= margin else "high" if position >= 1 - margin else ""
    return {
        "factor": name,
        "value": value,
        "low": low,
        "high": high,
        "levels": len(levels),
        "position": position,
        "edge": edge,
    }


_MOST_LEVELS = 14  # more distinct values were drawn, not crossed
