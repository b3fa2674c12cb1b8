"""``tune_then_confirm``: which configuration of each loss is the best explored one, and the launch that confirms it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from study.checkpoint import newest_checkpoint
from study.configurations import Configuration
from study.extend import with_seeds
from study.folder import StudyFolder, read_json, write_json
from study.objective import Objective
from study.plan import Plan, Room
from study.protocol import CONFIRM, Protocol
from study.reference import read_references
from study.results import rows_of
from study.rungs import was_stopped
from study.values import cohort_value

if TYPE_CHECKING:
    from study.spec import StudySpec


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is confirmed of one loss; ``value`` is its objective, the best of ``candidates`` explored configurations."""

    loss: str
    configuration_key: str
    value: float
    candidates: int


def confirmed(folder: StudyFolder, spec: StudySpec, plan: Plan, room: Room) -> Plan:
    """The plan with fresh seeds of each loss's best configuration, in a launch of their own.

    The choice is written to selection.json, once: whoever comes back to it takes what stands there. Every explored
    replicate must have ended.
    """
    assert spec.protocol is not None
    if not folder.selection_file.exists():
        write_json(
            folder.selection_file, _plain(choose(spec, plan, explored_values(folder, spec, plan)), spec.protocol)
        )
    chosen = [plan.configuration(str(entry["configuration_key"])) for entry in _read(folder)]
    replicates = spec.protocol.confirm_replicates
    made = [with_seeds(spec, entry, entry.replicates + replicates) for entry in chosen]
    launch = plan.launches[-1] + 1
    return plan.grown(made, size=spec.resources.cohort_size, **room, launch=launch, phase=CONFIRM)


def explored_values(folder: StudyFolder, spec: StudySpec, plan: Plan) -> dict[str, float]:
    """configuration_key -> the objective over its explored replicates, which are all there is yet."""
    rows: dict[str, list[pa.Table]] = {}
    stopped: set[str] = set()
    own = plan.of_launch(1)
    for cohort in own.cohorts:
        found = newest_checkpoint(folder.cohort(cohort.cohort)).checkpoint
        assert found is not None, f"{cohort.cohort} has ended and has no checkpoint"
        history = found.history()
        for key in dict.fromkeys(key for key, _ in cohort.members):
            rows.setdefault(key, []).append(rows_of(history, key))
            stopped |= {key} if was_stopped(folder, cohort.cohort) else set()
    references, objective = read_references(folder), Objective.from_plain(spec.search.objective)
    values = {}
    for key, tables in rows.items():
        members = [(key, replicate) for replicate in own.replicates_of(key)]
        value = cohort_value(
            pa.concat_tables(tables),
            members,
            own.by_key,
            criteria=spec.criteria,
            references=references,
            objective=objective,
            censored=key in stopped,
        )
        assert value is not None, f"no replicate of {key} has a result"
        values[key] = value
    return values


def choose(spec: StudySpec, plan: Plan, values: Mapping[str, float]) -> list[Chosen]:
    """Each loss's best configuration, in the losses' order; of equals the one that counts most, then the first."""
    chosen = []
    for loss in dict.fromkeys(entry.loss for entry in plan.configurations):
        own = [entry for entry in plan.configurations if entry.loss == loss]
        shares = _shares(spec, own)
        order = sorted(own, key=lambda entry: (-values[entry.configuration_key], -shares[entry.configuration_key]))
        key = order[0].configuration_key
        chosen.append(Chosen(loss=loss, configuration_key=key, value=values[key], candidates=len(own)))
    return chosen


def _shares(spec: StudySpec, own: Sequence[Configuration]) -> dict[str, float]:
    """How much of the declared space a grid's cell stands for: the width in decades around its learning rate."""
    if spec.search.method != "grid" or any("learning_rate" not in entry.factors for entry in own):
        return {entry.configuration_key: 1.0 for entry in own}
    decades = {entry.configuration_key: round(math.log10(float(entry.factors["learning_rate"])), 9) for entry in own}
    grid = sorted(set(decades.values()))
    places = {place: i for i, place in enumerate(grid)}
    widths = [grid[min(i + 1, len(grid) - 1)] - grid[max(i - 1, 0)] for i in range(len(grid))]
    return {key: round(widths[places[decade]], 6) for key, decade in decades.items()}


def _plain(chosen: Sequence[Chosen], protocol: Protocol) -> dict[str, object]:
    return {
        "schema": 1,
        "protocol": protocol.name,
        "chosen": [
            {
                "loss": entry.loss,
                "configuration_key": entry.configuration_key,
                "value": entry.value,
                "candidates": entry.candidates,
            }
            for entry in chosen
        ],
    }


def _read(folder: StudyFolder) -> list[Mapping[str, Any]]:
    found: Any = read_json(folder.selection_file)
    return list(found["chosen"])
