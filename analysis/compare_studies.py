"""Two studies against each other, loss by loss: another target, changed code, more steps. What moved, and how surely?

Shares and verdicts mean what they mean in the report; every difference is the second study minus the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import Arm, matched, share
from analysis.compare import (
    ALPHA,
    DELTA,
    arms,
    cells_table,
    contrasts_table,
    losses_table,
    unstable_arms,
    warnings_list,
)
from analysis.estimators import Estimate, difference, holm, permutation_p
from analysis.frames import StudyFrames
from analysis.verdicts import UNDETERMINED, Rule, crosses, extra_seeds, judge_pair, unstable_verdict
from analysis.weights import Target, inference_target, is_drawn, weights
from analysis.wording import counted, listed, number_text, points, rate_text, shown

ALL, COMMON, OWN = "all cells", "common cells", "own cells"
"""What a difference is over: matched cells, all of them or those in both; or each study's own, where none matches."""

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

Pair = tuple[StudyFrames, StudyFrames]


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
    table = _table(pair, labels, delta=delta, alpha=alpha, blocked=bool(blocked))
    return Comparison(
        first=first.study,
        second=second.study,
        headline=_headline(first.study, second.study, table, blocked),
        table=table,
        only_first=tuple(label for label in first.labels() if label not in labels),
        only_second=tuple(label for label in second.labels() if label not in labels),
        grids=tuple(_grids(pair, labels)),
        remarks=tuple(_remarks(pair)),
        blocked=blocked,
    )


# --- the table --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Matched:
    """One loss in both studies: the arms for success and for unstable, and what they are over."""

    success: tuple[Arm, Arm]
    unstable: tuple[Arm, Arm]
    targets: tuple[Target, Target]
    over: str

    @property
    def in_strata(self) -> bool:
        return self.over != OWN and self.targets == ("grid", "grid")


def _table(pair: Pair, labels: Sequence[str], *, delta: float, alpha: float, blocked: bool) -> pd.DataFrame:
    varying = _varying(pair)
    found = [_matched(pair, label, varying) for label in labels]
    p_values = [permutation_p(matched(*reversed(one.success))) if one.in_strata else math.nan for one in found]
    rows = []
    for label, one, p, p_holm in zip(labels, found, p_values, holm(p_values), strict=True):
        pruned = any("censored" in set(f.runs.loc[f.runs["loss"] == label, "outcome"]) for f in pair)
        rule = Rule(delta=delta, alpha=alpha, pairs=len(labels), target=_target(one.targets), pruned=pruned)
        told = _row(label, (pair[0].study, pair[1].study), one, rule)
        if blocked:
            told |= {"verdict": BLOCKED, "verdict_kind": BLOCKED, "winner": "", "seeds_needed": None, "seeds_note": ""}
        rows.append({**told, "p_exact": p, "p_holm": p_holm})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seeds_needed": "Int64"})


def _row(label: str, names: tuple[str, str], one: _Matched, rule: Rule) -> dict[str, object]:
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


# --- cells ------------------------------------------------------------------------------------------------


def _varying(pair: Pair) -> list[str]:
    """Factors that take more than one value within a label of either study: what spans the grid."""
    return list(dict.fromkeys(name for frames in pair for name in frames.varying_factors()))


def _cell_ids(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """One text per row, equal for matched cells."""
    columns = [[_value(value) for value in table[name]] if name in table else [""] * len(table) for name in names]
    return [
        " ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
        for row in (zip(*columns, strict=True) if columns else [()] * len(table))
    ]


def _value(value: object) -> str:
    if isinstance(value, int | float | np.number):
        return "" if math.isnan(value) else f"{float(value):.12g}"
    return "" if value is None or value is pd.NA else str(value)


def _matched(pair: Pair, label: str, varying: Sequence[str]) -> _Matched:
    """A loss's arms over matched cells: all where the grids agree, else the common ones, else each study's own."""
    ids = [set(_cell_ids(_own(frames, label), varying)) for frames in pair]
    common = ids[0] & ids[1]
    over = ALL if ids[0] == ids[1] else COMMON if common and not any(map(is_drawn, pair)) else OWN
    used = pair if over != COMMON else tuple(_restricted(frames, label, common, varying) for frames in pair)
    success = [arms(frames)[label] for frames in used]
    unstable = [unstable_arms(frames)[label] for frames in used]
    if over != OWN:
        strata = [_strata(frames, label, varying) for frames in used]
        success = [replace(arm, strata=names) for arm, names in zip(success, strata, strict=True)]
    return _Matched(
        success=(success[0], success[1]),
        unstable=(unstable[0], unstable[1]),
        targets=(inference_target(pair[0]), inference_target(pair[1])),
        over=over,
    )


def _own(frames: StudyFrames, label: str) -> pd.DataFrame:
    return frames.runs[frames.runs["loss"] == label]


def _restricted(frames: StudyFrames, label: str, cells: set[str], varying: Sequence[str]) -> StudyFrames:
    """The study with nothing but some cells of one loss, so that their weights are those of a grid of their own."""
    own = _own(frames, label)
    kept = [cell in cells for cell in _cell_ids(own, varying)]
    return replace(frames, runs=own[kept].reset_index(drop=True))


def _strata(frames: StudyFrames, label: str, varying: Sequence[str]) -> tuple[str, ...]:
    """The ids of an arm's cells in its order; a cell that nobody planned matches none."""
    design = weights(frames)
    own = design[design["loss"] == label]
    ids = _cell_ids(own, varying)
    return tuple(name if key else f"{name} missing" for name, key in zip(ids, own["configuration_key"], strict=True))


# --- words ------------------------------------------------------------------------------------------------


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


def _headline(first: str, second: str, table: pd.DataFrame, blocked: Sequence[str]) -> str:
    """A few plain sentences: what is shown about each loss, and what is open."""
    if blocked:
        return f"Blocked, so no verdict: {'; '.join(blocked)}."
    rows = table.to_dict("records")
    over = "with a 95 % interval" if len(rows) == 1 else f"with 95 % intervals over all {len(rows)} losses"
    shown_ones = [_shown(row) for row in rows if row["winner"]]
    parts = [f"{listed(shown_ones)}; {over}, {second} minus {first}"] if shown_ones else []
    for kind, words in {
        "equivalent": "equivalent in both studies",
        "crossing": "better in some cells and worse in others",
    }.items():
        names = [str(row["loss"]) for row in rows if row["verdict_kind"] == kind]
        parts += [f"{listed(names)} {'is' if len(names) == 1 else 'are'} {words}"] if names else []
    undetermined = [f"{row['loss']} ({_settle(row)})" for row in rows if row["verdict_kind"] == UNDETERMINED]
    parts += [f"Undetermined: {listed(undetermined)}"] if undetermined else []
    return ". ".join(part[:1].upper() + part[1:] if part.startswith("undetermined") else part for part in parts) + "."


def _shown(row: Mapping[Any, Any]) -> str:
    size = f"{points(row['difference'])} points, {points(row['low'])} to {points(row['high'])}"
    kind = str(row["verdict_kind"])
    told = "detectably but immaterially ahead" if "immaterial" in kind else kind
    return f"{row['loss']} is {told} in {row['winner']} ({size})"


def _settle(row: Mapping[Any, Any]) -> str:
    if not pd.isna(row["seeds_needed"]):
        return f"about {counted(int(row['seeds_needed']), 'more seed')} per setting in each study"
    return str(row["seeds_note"])


def _grids(pair: Pair, labels: Sequence[str]) -> list[str]:
    """How the grids differ: values of each factor, then cells of each loss; nothing where they agree."""
    varying, lines = _varying(pair), []
    for name in varying:
        values = [_levels(frames, labels, name) for frames in pair]
        if values[0] != values[1]:
            lines.append(
                f"{name}: {_span(name, values[0])} in {pair[0].study}, {_span(name, values[1])} in {pair[1].study}"
            )
    for label in labels:
        ids = [set(_cell_ids(_own(frames, label), varying)) for frames in pair]
        if ids[0] != ids[1]:
            common = len(ids[0] & ids[1])
            lines.append(
                f"{label}: {counted(common, 'cell')} in common, {len(ids[0]) - common} only in {pair[0].study}, "
                f"{len(ids[1]) - common} only in {pair[1].study}"
            )
    return lines


def _levels(frames: StudyFrames, labels: Sequence[str], name: str) -> list[Any]:
    if name not in frames.runs:
        return []
    values = frames.runs.loc[frames.runs["loss"].isin(list(labels)), name].dropna().unique()
    return sorted(
        {float(f"{v:.12g}") if not isinstance(v, str) else v for v in values}, key=lambda v: (str(type(v)), v)
    )


def _span(name: str, values: Sequence[Any]) -> str:
    if not values:
        return "none"
    told = [rate_text(v) if "learning_rate" in name else number_text(v) for v in values]
    return f"{{{', '.join(told)}}}" if len(told) <= 4 else f"{told[0]} to {told[-1]} ({len(told)} values)"


def _remarks(pair: Pair) -> list[str]:
    """Runs that both studies have, criteria that differ, and designs whose intervals mean different things."""
    first, second = pair
    remarks = []
    if same := _same_runs(pair):
        total = min(len(first.runs), len(second.runs))
        remarks.append(
            f"{counted(same, 'run')} of {total} have the same configuration and seed in both studies: there only code, "
            "libraries or the machine can make a difference, and the intervals, which take the runs as independent, "
            "are wider than they need be"
        )
    criteria = [frames.criteria for frames in pair]
    if criteria[0] != criteria[1]:
        remarks.append("the outcomes were judged by different criteria: success is not the same thing in both studies")
    targets = [inference_target(frames) for frames in pair]
    if targets[0] != targets[1]:
        remarks.append(
            f"the designs differ: intervals are for {targets[0]} in {first.study}, {targets[1]} in {second.study}"
        )
    return remarks


def _same_runs(pair: Pair) -> int:
    keys = ["configuration_key", "seed"]
    if any(not set(keys) <= set(frames.runs) for frames in pair):
        return 0
    parts = [frames.runs[keys].dropna().astype({"configuration_key": str}) for frames in pair]
    return len(parts[0].merge(parts[1], on=keys))
