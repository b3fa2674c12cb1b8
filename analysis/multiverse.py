"""How much hangs on the criteria: every replicate judged again under a grid of them, every verdict drawn again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from analysis.arms import Arm
from analysis.compare import ALPHA, DELTA, arms, unstable_arms
from analysis.estimators import weighted_share
from analysis.frames import StudyFrames
from analysis.histories import Histories, histories
from analysis.horizons import judged_under
from analysis.verdicts import Rule, decide
from analysis.weights import inference_target, weights
from study.outcomes import WINDOW_KEYS, Criteria

FACTORS = (0.5, 1.0, 1.5)
SMALLEST_SHORTFALL = 0.05
"""A study that asks converged runs for every mode is loosened by this share of them."""

GAP = 0.05
"""Two coverages that would meet are kept this far apart: collapsed must stay below converged."""

VARIED = ("u_converged", "coverage_converged", "coverage_collapsed")

ROBUST = 0.9
"""Share of the variants in which a statement must hold to be called robust."""

VARIANT_COLUMNS: tuple[str, ...] = ("variant", *VARIED, "own", "leader", "changed")
PAIR_COLUMNS: tuple[str, ...] = (
    "variant",
    "loss_a",
    "loss_b",
    "difference",
    "verdict_kind",
    "winner",
    "agrees",
    "same",
)


def variants(criteria: Criteria) -> list[Criteria]:
    """The 27 criteria of the grid, the study's own in the middle (index 13); clipped to what criteria allow.

    u_converged and coverage_collapsed times .5, 1, 1.5; the modes that a converged run may lack times .5, 1, 2
    (coverage_converged .9 -> .95, .9, .8). Where the coverages would meet, collapsed stays GAP below converged.
    """
    lacking = 1 - criteria.coverage_converged
    loosest = max(1 - 2 * max(lacking, SMALLEST_SHORTFALL / 2), criteria.coverage_converged / 2)
    most = [1 - 0.5 * lacking, criteria.coverage_converged, loosest]
    found = []
    for near, high, low in itertools.product(FACTORS, most, FACTORS):
        few = criteria.coverage_collapsed * low
        clipped = few if few < high else max(high - GAP, high / 2)
        u = criteria.u_converged * near
        found.append(replace(criteria, u_converged=u, coverage_converged=high, coverage_collapsed=clipped))
    return found


def rejudged(
    frames: StudyFrames, criteria: Sequence[Criteria], found: Sequence[Histories] | None = None
) -> list[StudyFrames]:
    """The study as it would stand under each of ``criteria``: outcomes judged again from the kept curves.

    ``criteria`` may differ in their thresholds, not in the windows; ``found``: from ``histories``. Runs that were lost
    or pruned stay so, as do those that a rule without criteria judged; kinds of plateau follow the new outcome.
    ValueError: the outcomes came with a table of runs, so there are no curves to judge; or the windows differ.
    """
    if frames.criteria is None or not len(frames.curves):
        raise ValueError("outcomes can only be judged again where the study's curves and criteria are known")
    if len({tuple(getattr(one, key) for key in WINDOW_KEYS) for one in criteria}) > 1:
        raise ValueError(f"criteria judged together must agree in {', '.join(WINDOW_KEYS)}.")
    held = frames.runs["outcome"].to_numpy(dtype=object), frames.runs["kind"].to_numpy(dtype=object)
    outcomes, kinds = ([column.copy() for _ in criteria] for column in held)
    for h in histories(frames) if found is None else found:
        for i, (outcome, kind) in enumerate(judged_under(h, criteria)):
            outcomes[i][h.rows], kinds[i][h.rows] = outcome, kind
    return [
        replace(
            frames,
            runs=frames.runs.assign(outcome=outcomes[i], kind=kinds[i]),
            provenance={**frames.provenance, "criteria": asdict(one), "criteria_hash": one.hash},
        )
        for i, one in enumerate(criteria)
    ]


def multiverse(frames: StudyFrames, found: Sequence[Histories] | None = None) -> dict[str, pd.DataFrame]:
    """``variants`` (one row per criteria: its values, the leading label, the share of runs that changed outcome) and
    ``pairs`` (one row per criteria and pair: the verdict, and whether it agrees with that of the study's own).

    ``agrees``: the same winner, or no winner in both; ``same``: the same verdict word for word. ``found``: from
    ``histories``. Raises as ``rejudged`` does.
    """
    if frames.criteria is None:
        raise ValueError("outcomes can only be judged again where the study's curves and criteria are known")
    grid, design = variants(frames.criteria), weights(frames)
    base = {(row["loss_a"], row["loss_b"]): row for row in verdicts(frames, arms(frames, design=design), design=design)}
    rows, pairs = [], []
    for i, (one, judged) in enumerate(zip(grid, rejudged(frames, grid, found), strict=True)):
        changed = (judged.runs["outcome"] != frames.runs["outcome"]).mean() if len(frames.runs) else math.nan
        success = arms(judged, design=design)
        settings = {name: getattr(one, name) for name in VARIED}
        own = {"own": one == frames.criteria, "leader": leader(success), "changed": changed}
        rows.append({"variant": i, **settings, **own})
        for pair in verdicts(judged, success, design=design):
            held = base[(pair["loss_a"], pair["loss_b"])]
            agrees, same = pair["winner"] == held["winner"], pair["verdict_kind"] == held["verdict_kind"]
            pairs.append({"variant": i, **pair, "agrees": agrees, "same": agrees and same})
    return {
        "variants": pd.DataFrame(rows, columns=list(VARIANT_COLUMNS)),
        "pairs": pd.DataFrame(pairs, columns=list(PAIR_COLUMNS)),
    }


def verdicts(
    frames: StudyFrames, success: Mapping[str, Arm], *, design: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Every pair's verdict as in ``contrasts_table``, without its p-values, which no verdict needs.

    ``success``: the arms of the labels, from ``arms``; ``design``: the study's ``weights`` where they are known.
    """
    target, shaky = inference_target(frames), unstable_arms(frames, design=design)
    pairs = list(itertools.combinations(frames.labels(), 2))
    pruned = set(frames.runs.loc[frames.runs["outcome"] == "censored", "loss"])
    found = []
    for a, b in pairs:
        rule = Rule(delta=DELTA, alpha=ALPHA, pairs=len(pairs), target=target, pruned=bool({a, b} & pruned))
        found.append({"loss_a": a, "loss_b": b, **decide((a, b), (success[a], success[b]), (shaky[a], shaky[b]), rule)})
    return found


def leader(success: Mapping[str, Arm]) -> str:
    """The label of the highest success; "" where two share it or none is known."""
    shares = {label: weighted_share(arm.cells).value for label, arm in success.items()}
    best = max((value for value in shares.values() if not math.isnan(value)), default=math.nan)
    first = [label for label, value in shares.items() if value >= best - 1e-12]
    return first[0] if len(first) == 1 else ""
