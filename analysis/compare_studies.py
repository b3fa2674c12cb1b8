"""Two studies against each other, loss by loss: another target, changed code, more steps. What moved, and how surely?

Shares and verdicts mean what they mean in the report; every difference is the second study minus the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.arms import Arm, matched, share
from analysis.compare import (
    ALPHA,
    DELTA,
    cells_table,
    contrasts_table,
    losses_table,
    warnings_list,
)
from analysis.compare_cells import Matched, Pair, match_cells, spanning_factors
from analysis.compare_words import grids_of, headline_of, remarks_of
from analysis.estimators import Estimate, difference, holm, permutation_p
from analysis.frames import StudyFrames
from analysis.verdicts import UNDETERMINED, Rule, crosses, extra_seeds, judge_pair, unstable_verdict
from analysis.weights import Target
from analysis.wording import listed, shown

BLOCKED = "blocked"

COLUMNS: tuple[str, ...] = (
    "loss",
    "study_a",
    "study_b",
    "success_a",
    "success_a_low",
    "success_a_high",
    "success_b",
    "success_b_low",
    "success_b_high",
    "difference",
    "low",
    "high",
    "low_95",
    "high_95",
    "low_worst",
    "high_best",
    "p_exact",
    "p_holm",
    "verdict",
    "verdict_kind",
    "winner",
    "seeds_needed",
    "seeds_note",
    "unstable_a",
    "unstable_b",
    "unstable_difference",
    "unstable_low",
    "unstable_high",
    "unstable_verdict",
    "crossing",
    "over",
    "cells",
    "runs_a",
    "runs_b",
)


class ComparisonError(ValueError):
    """The two studies cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was found. ``grids`` say how the cells differ, ``remarks`` what else a reader must know."""

    first: str
    second: str
    headline: str
    table: pd.DataFrame
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    grids: tuple[str, ...]
    remarks: tuple[str, ...]
    blocked: tuple[str, ...]


def compare_studies(
    first: StudyFrames, second: StudyFrames, *, delta: float = DELTA, alpha: float = ALPHA
) -> Comparison:
    """Every loss that both studies have: its success and unstable share in each, the differences, a verdict.

    Replicates of two studies are independent, so the differences are MOVER's on the shares' own intervals; ``low`` and
    ``high`` hold over all the losses at once (Bonferroni). Cells are matched on the factors that vary in either study:
    a factor that is constant in each is no part of the grid, however it differs. ComparisonError: no loss in common.
    """
    pair = (first, second)
    labels = [label for label in first.labels() if label in second.labels()]
    if not labels:
        named = [listed([shown(label) for label in frames.labels()]) or "none" for frames in pair]
        raise ComparisonError(f"no loss in common: {first.study} has {named[0]}; {second.study} has {named[1]}")
    blocked = tuple(line for frames in pair for line in _blocking(frames))
    table = changes_table(pair, labels, delta=delta, alpha=alpha, blocked=bool(blocked))
    return Comparison(
        first=first.study,
        second=second.study,
        headline=headline_of(first.study, second.study, table, blocked),
        table=table,
        only_first=tuple(label for label in first.labels() if label not in labels),
        only_second=tuple(label for label in second.labels() if label not in labels),
        grids=tuple(grids_of(pair, labels)),
        remarks=tuple(remarks_of(pair)),
        blocked=blocked,
    )


# --- the table --------------------------------------------------------------------------------------------


def changes_table(
    pair: Pair, labels: Sequence[str], *, delta: float, alpha: float, family: int | None = None, blocked: bool = False
) -> pd.DataFrame:
    """One row per loss with columns COLUMNS; ``family``: differences that ``low`` and ``high`` cover, these by default.

    ``blocked``: without verdicts.
    """
    varying = spanning_factors(pair)
    found = [match_cells(pair, label, varying) for label in labels]
    p_values = [permutation_p(matched(*reversed(one.success))) if one.in_strata else math.nan for one in found]
    rows = []
    for label, one, p, p_holm in zip(labels, found, p_values, holm(p_values), strict=True):
        pruned = any("censored" in set(f.runs.loc[f.runs["loss"] == label, "outcome"]) for f in pair)
        rule = Rule(delta=delta, alpha=alpha, pairs=family or len(labels), target=_target(one.targets), pruned=pruned)
        told = _row(label, (pair[0].study, pair[1].study), one, rule)
        if blocked:
            told |= {"verdict": BLOCKED, "verdict_kind": BLOCKED, "winner": "", "seeds_needed": None, "seeds_note": ""}
        rows.append({**told, "p_exact": p, "p_holm": p_holm})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seeds_needed": "Int64"})


def _row(label: str, names: tuple[str, str], one: Matched, rule: Rule) -> dict[str, object]:
    """Shares, differences and verdict of one loss."""
    joint, single = (_change(one.success, one.targets, alpha=a) for a in (rule.level, rule.alpha))
    bounded, ninety = (_bounded(one.success, one.targets, alpha=a) for a in (rule.level, 2 * rule.alpha))
    shaky = _bounded(one.unstable, one.targets, alpha=rule.level)
    crossing = one.in_strata and crosses(matched(*reversed(one.success)), alpha=rule.alpha)
    later_first = names[::-1]
    verdict = judge_pair(later_first, success=bounded, ninety=ninety, unstable=shaky, rule=rule, crossing=crossing)
    number, note = extra_seeds(*one.success, joint=joint, rule=rule) if verdict.kind == UNDETERMINED else (None, "")
    shares = [share(arm, target) for arm, target in zip(one.success, one.targets, strict=True)]
    unstable = [share(arm, target) for arm, target in zip(one.unstable, one.targets, strict=True)]
    return {
        "loss": label,
        "study_a": names[0],
        "study_b": names[1],
        **_interval("success_a", shares[0]),
        **_interval("success_b", shares[1]),
        "difference": joint.value,
        "low": joint.low,
        "high": joint.high,
        "low_95": single.low,
        "high_95": single.high,
        "low_worst": bounded.low,
        "high_best": bounded.high,
        "verdict": verdict.text,
        "verdict_kind": verdict.kind,
        "winner": verdict.winner,
        "seeds_needed": number,
        "seeds_note": note,
        "unstable_a": unstable[0].value,
        "unstable_b": unstable[1].value,
        "unstable_difference": shaky.value,
        "unstable_low": shaky.low,
        "unstable_high": shaky.high,
        "unstable_verdict": unstable_verdict(later_first, shaky),
        "crossing": crossing,
        "over": one.over,
        "cells": len(one.success[0].strata),
        "runs_a": int(one.success[0].cells.runs.sum()),
        "runs_b": int(one.success[1].cells.runs.sum()),
    }


def _interval(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _change(pair: tuple[Arm, Arm], targets: tuple[Target, Target], *, alpha: float) -> Estimate:
    """Second minus first; never paired, since replicate r of one study has nothing to do with r of the other."""
    before, after = (share(arm, target, alpha=alpha) for arm, target in zip(pair, targets, strict=True))
    return difference(after, before)


def _bounded(pair: tuple[Arm, Arm], targets: tuple[Target, Target], *, alpha: float) -> Estimate:
    """The same, widened to the worst case of the runs that are missing in either study (Manski's bounds)."""
    found = _change(pair, targets, alpha=alpha)
    if all(arm.complete for arm in pair):
        return found
    before, after = pair
    worst = _change((before.filled(1.0), after.filled(0.0)), targets, alpha=alpha)
    best = _change((before.filled(0.0), after.filled(1.0)), targets, alpha=alpha)
    return Estimate(value=found.value, low=min(found.low, worst.low), high=max(found.high, best.high))


def _target(targets: tuple[Target, Target]) -> Target:
    return "space" if "space" in targets else targets[0]


def _blocking(frames: StudyFrames) -> list[str]:
    """What blocks a study's own report blocks this comparison too."""
    tables = {
        "runs": frames.runs,
        "cells": cells_table(frames),
        "losses": losses_table(frames),
        "contrasts": contrasts_table(frames),
    }
    found = warnings_list(frames, tables)
    return [f"{frames.study}: {warning['title']}" for warning in found if warning["blocks"]]
