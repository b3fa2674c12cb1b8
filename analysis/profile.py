"""The stability profile of a study: what the leaderboard and the contrasts do not say, as tables by file name."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pandas as pd

from analysis.cost import cost_table
from analysis.differences import differences_table
from analysis.dirac_cells import is_dirac
from analysis.early_warning import early_warning_table
from analysis.frames import StudyFrames
from analysis.histories import histories
from analysis.horizons import horizons_table
from analysis.importance import importance_table
from analysis.multiverse import PAIR_COLUMNS, VARIANT_COLUMNS, multiverse
from analysis.ranges import certified_table, sensitivity_table, zones_table
from analysis.ranks import quality_table, superiority_table
from analysis.shake import in_study_order, run_shake, shake_medians, shake_table
from analysis.subspaces import edges_table, spaces, subspace_pairs, subspaces_table
from analysis.times import incidence_table, times_table
from analysis.tuned import budget_table, tuned_table
from analysis.variance import icc_table, variance_table

PROFILE_FILES: tuple[str, ...] = (
    "profile",
    "budget",
    "incidence",
    "early_warning",
    "variance",
    "zones",
    "spaces",
    "space_pairs",
    "edges",
    "criteria_variants",
    "criteria_pairs",
    "cells_differences",
    "shake",
    "shake_runs",
    "cost",
    "horizons",
    "importance",
)
"""Tables that the report writes as files of their own; ``superiority`` goes into contrasts.csv."""


def profile_table(frames: StudyFrames, shaken: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per label: tuned success, quality with failures, time to convergence, certified range, seed lottery,
    shake of single runs (``shaken``: from ``run_shake``, where it is known)."""
    times = times_table(frames)
    prices = times_table(frames, "gradient_evaluations").rename(columns=lambda c: c.replace("mean_time", "mean_cost"))
    parts = [
        tuned_table(frames),
        quality_table(frames).drop(columns="runs"),
        times.drop(columns="axis"),
        prices[["loss", "mean_cost", "mean_cost_low", "mean_cost_high"]],
        certified_table(frames),
        sensitivity_table(frames),
        icc_table(frames),
        shake_medians(frames, run_shake(frames) if shaken is None else shaken),
    ]
    return reduce(lambda left, right: left.merge(right, on="loss", how="left"), parts)


def stability_profile(frames: StudyFrames, *, criteria_variants: bool = True) -> dict[str, pd.DataFrame]:
    """Every table of the profile by name; a table that the study cannot fill is empty, never absent.

    ``criteria_variants`` judges every run again under 27 criteria, the one slow part; it is left out where outcomes
    came with a table of runs. A study of the Dirac-GAN has no profile: its runs are judged by their radius, one
    start decides them all, and a theorem says which settings converge. Of settings that an adaptive sampler chose only
    the budget curve can be told.
    """
    frames = frames.explored
    searched = budget_table(frames) if frames.adaptive else None
    important = importance_table(frames) if frames.adaptive and not is_dirac(frames) else None
    if is_dirac(frames) or frames.adaptive:
        frames, criteria_variants = replace(frames, runs=frames.runs.iloc[:0], curves=frames.curves.iloc[:0]), False
    judged_here = criteria_variants and frames.criteria is not None and len(frames.curves) > 0
    empty = {"variants": pd.DataFrame(columns=list(VARIANT_COLUMNS)), "pairs": pd.DataFrame(columns=list(PAIR_COLUMNS))}
    parts, found, incidence = spaces(frames), histories(frames), incidence_table(frames)
    other = multiverse(frames, found) if judged_here else empty
    shaken = run_shake(frames, found)
    shake_runs = in_study_order(shaken, frames.labels())
    return {
        "profile": profile_table(frames, shaken),
        "superiority": superiority_table(frames),
        "budget": budget_table(frames) if searched is None else searched,
        "incidence": incidence,
        "early_warning": early_warning_table(frames),
        "variance": variance_table(frames),
        "zones": zones_table(frames),
        "spaces": subspaces_table(frames, parts),
        "space_pairs": subspace_pairs(frames, parts),
        "edges": edges_table(frames),
        "criteria_variants": other["variants"],
        "criteria_pairs": other["pairs"],
        "cells_differences": differences_table(frames),
        "shake": shake_table(shake_runs),
        "shake_runs": shake_runs,
        "cost": cost_table(frames, incidence),
        "horizons": horizons_table(frames, found),
        "importance": importance_table(frames) if important is None else important,
    }


def with_superiority(contrasts: pd.DataFrame, superiority: pd.DataFrame) -> pd.DataFrame:
    """The contrasts with how often a run of the first ends better than one of the second, as their last columns."""
    names = ["better", "better_low", "better_high", "reading"]
    added = superiority[["loss_a", "loss_b", *names]].rename(columns={"reading": "better_reading"})
    return contrasts.merge(added, on=["loss_a", "loss_b"], how="left")
