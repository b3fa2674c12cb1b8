"""From recorded rows to frames: one row per planned replicate, its outcome judged from its own series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.frames import CONFIRM
from study.outcomes import Criteria, Series, judge
from trainers.measurement import EVERY_MEASUREMENT, MEASUREMENTS, columns

NON_FINITE = 1e300
"""From here on a number is not one: SQL stores turn infinity into 1.797e308."""

CURVE_COLUMNS: tuple[str, ...] = (
    "configuration_key",
    "replicate",
    "seed",
    "evaluation",
    "generator_step",
    "discriminator_steps",
    "samples_seen",
    "finite",
    *MEASUREMENTS,
)
"""Of a study that switches no optional measurement on; theirs follow."""

RUN_COLUMNS: tuple[str, ...] = ("configuration_key", "loss", "adversarial_loss", "penalty", "replicate", "seed")


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What outcomes are judged by: criteria, reference numbers per target, and whether a scheduler may stop runs.

    ``lost``: keys of configurations that the machine broke off, which no scheduler stopped.
    """

    criteria: Criteria
    references: Mapping[str, Mapping[str, Any]]
    may_prune: bool
    lost: frozenset[str] = frozenset()

    def may_have_stopped(self, configuration_key: str) -> bool:
        """Whether a replicate that was cut short may owe it to the scheduler."""
        return self.may_prune and configuration_key not in self.lost


def merge_plans(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One plan from those of several launches, oldest first: a later one adds configurations and replicates."""
    merged: dict[str, Any] = dict(plans[-1])
    configurations: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in (entry for plan in plans for entry in plan["configurations"]):
        identity = (str(entry["loss"]), str(entry["configuration_key"]))
        held = configurations.get(identity)
        if held is None or int(entry["replicates"]) >= int(held["replicates"]):
            configurations[identity] = entry
    merged["configurations"] = list(configurations.values())
    cohorts = [cohort for plan in plans for cohort in plan.get("cohorts", ())]
    merged["cohorts"] = list({str(cohort["cohort"]): cohort for cohort in cohorts}.values())  # a later plan holds all
    return merged


def measured(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all that any configuration of the plan measures: known before the first row (T14)."""
    return columns({str(group) for entry in plan["configurations"] for group in entry.get("measurements", ())})


def clean_curves(parts: Sequence[pd.DataFrame], plan: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, object]]:
    """All rows in the plan's order, each evaluation once, huge numbers as events; and how often both were needed.

    A value that is infinite or at least 1e300 becomes NaN and marks its row as not finite; an optional measurement
    is a diagnosis, which only becomes NaN. ``differing_duplicates`` counts evaluations that were recorded again with
    other numbers in the same ``environment`` (a column of the parts; absent: all in one).
    """
    names = measured(plan)
    kept = [*CURVE_COLUMNS, *(name for name in names if name not in MEASUREMENTS)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=kept)
    for name in names:
        if name not in table:
            table[name] = math.nan
    values = table[list(names)].astype(np.float64).to_numpy(copy=True)
    huge = np.abs(values) >= NON_FINITE
    values[huge] = math.nan
    table = table.assign(**dict(zip(names, values.T, strict=True)))
    ended = huge[:, [name in MEASUREMENTS for name in names]].any(axis=1)
    table["finite"] = table["finite"].astype(bool).to_numpy() & ~ended
    identity = ["configuration_key", "replicate", "generator_step", "evaluation"]
    order = {str(c["configuration_key"]): i for i, c in enumerate(plan["configurations"])}
    table = table[table["configuration_key"].isin(list(order))]
    rank = table["configuration_key"].map(order).to_numpy(dtype=np.int64)
    table = table.assign(_rank=rank).sort_values(["_rank", *identity[1:]], kind="stable")
    once = table.drop_duplicates(identity, keep="last")
    counts: dict[str, object] = {"clipped_values": int(huge.sum()), "duplicate_rows": len(table) - len(once)}
    return once[kept].reset_index(drop=True), counts | _differing(table, names)


def _differing(table: pd.DataFrame, names: Sequence[str]) -> dict[str, object]:
    """How many evaluations have rows of one environment that differ, and in which configurations; empty if none."""
    evaluation = ["_rank", "replicate", "evaluation"]
    repeated = table[table.duplicated(evaluation, keep=False)]
    if not len(repeated):
        return {}
    place = [*evaluation, *(["environment"] if "environment" in repeated else [])]
    distinct = repeated.drop_duplicates([*place, "generator_step", "finite", *names])  # here NaN equals NaN
    differing = distinct[distinct.duplicated(place)].drop_duplicates(evaluation)
    if not len(differing):
        return {}
    keys = list(dict.fromkeys(str(key) for key in differing["configuration_key"]))
    return {"differing_duplicates": len(differing), "differing_configurations": keys}


def build_runs(plan: Mapping[str, Any], curves: pd.DataFrame, judging: Judging) -> pd.DataFrame:
    """One row per planned replicate, in the plan's order: identity, factors, outcome, kind, t_event, margin, finals.

    Where the plan has phases, ``phase`` too. No scheduler stops a replicate that confirms: cut short, it failed.
    """
    series, phases = _series(curves), confirming(plan)
    never_stopped = replace(judging, may_prune=False)
    rows = []
    for entry, replicate in planned(plan):
        place = (str(entry["configuration_key"]), replicate)
        fresh = phases is not None and place in phases
        ended = _result(series.get(place), entry, never_stopped if fresh else judging)
        rows.append(_identity(entry, replicate) | {"phase": CONFIRM if fresh else ""} | ended)
    finals = [f"final_{name}" for name in measured(plan)]
    factors = sorted({name for entry in plan["configurations"] for name in entry["factors"]} - {"k", "learning_rate"})
    identity = [*RUN_COLUMNS[:4], "k", "learning_rate", *factors, *RUN_COLUMNS[4:]]
    phase = ["phase"] if phases is not None else []
    table = pd.DataFrame(rows, columns=[*identity, *phase, "outcome", "kind", "t_event", "margin", *finals])
    floats = dict.fromkeys([*finals, "margin", "t_event", "learning_rate"], "float64")
    return table.astype({**floats, "replicate": "int64"})


def confirming(plan: Mapping[str, Any]) -> frozenset[tuple[str, int]] | None:
    """(configuration_key, replicate) of every replicate that confirms a selected setting; None without phases."""
    phased = [cohort for cohort in plan.get("cohorts", ()) if cohort.get("phase")]
    if not phased:
        return None
    members = (member for cohort in phased if cohort["phase"] == CONFIRM for member in cohort["members"])
    return frozenset((str(key), int(replicate)) for key, replicate in members)


def planned(plan: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every (configuration, replicate) of the plan, in its order."""
    for entry in plan["configurations"]:
        for replicate in range(int(entry["replicates"])):
            yield entry, replicate


def _identity(entry: Mapping[str, Any], replicate: int) -> dict[str, Any]:
    names = {name: entry[name] for name in RUN_COLUMNS[:4]}
    return {**names, **entry["factors"], "replicate": replicate, "seed": int(entry["seeds"][replicate])}


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """One replicate's rows as plain arrays [E]: pandas would take longer to cut a large study up than to judge it."""

    generator_step: NDArray[np.int64]
    finite: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.float64]]


def _series(curves: pd.DataFrame) -> dict[tuple[str, int], _Recorded]:
    """The rows of every (configuration_key, replicate) that has some, in their order."""
    names = [name for name in EVERY_MEASUREMENT if name in curves]
    steps, finite = curves["generator_step"].to_numpy(dtype=np.int64), curves["finite"].to_numpy(dtype=bool)
    table = curves[names].to_numpy(dtype=np.float64)
    grouped = curves.groupby(["configuration_key", "replicate"], sort=False).indices
    found = {}
    for (key, replicate), places in cast("Mapping[tuple[str, int], NDArray[np.intp]]", grouped).items():
        own = np.ascontiguousarray(table[places].T)
        values = dict(zip(names, own, strict=True))
        found[str(key), int(replicate)] = _Recorded(generator_step=steps[places], finite=finite[places], values=values)
    return found


def _result(rows: _Recorded | None, entry: Mapping[str, Any], judging: Judging) -> dict[str, Any]:
    if rows is None:
        return {"outcome": "failed", "kind": "missing", "t_event": math.nan, "margin": math.nan}
    evaluations = int(entry["budget"]["evaluations"])
    short = bool(rows.finite.all()) and len(rows.finite) < evaluations + 1
    series = Series(
        generator_step=rows.generator_step,
        finite=rows.finite,
        values=rows.values,
        planned_evaluations=evaluations,
        censored=short and judging.may_have_stopped(str(entry["configuration_key"])),
    )
    ended = judge(series, judging.criteria, judging.references[str(entry["target_id"])])
    return {
        "outcome": ended.outcome,
        "kind": ended.kind,
        "t_event": math.nan if ended.t_event is None else float(ended.t_event),
        "margin": math.nan if ended.margin is None else ended.margin,
        **_finals(rows, complete=ended.outcome not in ("failed", "censored")),
    }


def _finals(rows: _Recorded, *, complete: bool) -> dict[str, float]:
    """The last row's measurements: NaN for a death and for a series that was cut short, which has no end."""
    return {f"final_{name}": float(own[-1]) if complete else math.nan for name, own in rows.values.items()}
