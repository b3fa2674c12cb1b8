"""What the cohorts of a study were trained with, counted by loss: the tags that the study's writer left on its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

ENVIRONMENT_TAG = "ganstudy.environment"

Counts = dict[str, dict[str, dict[str, int]]]
"""Fact (code, device, processor, python, threads, torch) -> value -> label -> cohorts that were trained with it."""


def environments_of(tags: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The distinct environments that one configuration run names; none where it names none, or not in our words."""
    try:
        told = json.loads(tags.get(ENVIRONMENT_TAG, "[]"))
    except ValueError:
        return []
    entries = told if isinstance(told, list) else []
    return [{str(k): str(v) for k, v in one.items()} for one in entries if isinstance(one, dict)]


def environment_counts(tags: Iterable[Mapping[str, str]], plan: Mapping[str, Any]) -> Counts:
    """Counts of cohorts over the facts; ``tags``: those of every configuration run, of all launches.

    The cohort is the unit: its replicates and settings share one process. One that moved counts under both values.
    """
    label = {str(entry["configuration_key"]): str(entry["loss"]) for entry in plan["configurations"]}
    known: dict[str, list[Mapping[str, str]]] = {}
    for run in tags:
        known.setdefault(run["ganstudy.configuration_key"], []).extend(environments_of(run))
    counts: Counts = {}
    for cohort in plan.get("cohorts", ()):
        keys = dict.fromkeys(str(key) for key, _ in cohort["members"])
        found = {fact_and_value for key in keys for one in known.get(key, ()) for fact_and_value in one.items()}
        for fact, value in found:
            by_label = counts.setdefault(fact, {}).setdefault(value, {})
            for name in dict.fromkeys(label[key] for key in keys if key in label):
                by_label[name] = by_label.get(name, 0) + 1
    return {fact: {v: dict(sorted(c.items())) for v, c in sorted(own.items())} for fact, own in sorted(counts.items())}
