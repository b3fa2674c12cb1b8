"""The stability profile of a study: what the leaderboard and the contrasts do not say, as tables by file name."""

from __future__ import annotations

from functools import reduce

import pandas as pd

from analysis.frames import StudyFrames
from analysis.multiverse import multiverse
from analysis.ranges import certified_table, sensitivity_table, zones_table
from analysis.ranks import quality_table, superiority_table
from analysis.subspaces import edges_table, subspace_pairs, subspaces_table
from analysis.times import incidence_table, times_table
from analysis.tuned import budget_table, tuned_table
from analysis.variance import icc_table, variance_table


def profile_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per label: tuned success, quality with failures, time to convergence, certified range, seed lottery."""
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
    ]
    return reduce(lambda left, right: left.merge(right, on="loss", how="left"), parts)


def stability_profile(frames: StudyFrames, *, criteria_variants: bool = True) -> dict[str, pd.DataFrame]:
    """Every table of the profile by name; a table that the study cannot fill is empty, never absent.

    ``criteria_variants`` judges every run again under 27 criteria, the one slow part; it is left out where outcomes
    came with a table of runs.
    """
    judged_here = criteria_variants and frames.criteria is not None and len(frames.curves) > 0
    other = multiverse(frames) if judged_here else {"variants": pd.DataFrame(), "pairs": pd.DataFrame()}
    return {
        "profile": profile_table(frames),
        "superiority": superiority_table(frames),
        "budget": budget_table(frames),
        "incidence": incidence_table(frames),
        "variance": variance_table(frames),
        "zones": zones_table(frames),
        "spaces": subspaces_table(frames),
        "space_pairs": subspace_pairs(frames),
        "edges": edges_table(frames),
        "criteria_variants": other["variants"],
        "criteria_pairs": other["pairs"],
    }
