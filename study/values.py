"""From a cohort's rows to the numbers that searches and rungs compare (study.objective holds the rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from study.history import judge_members, series_of
from study.objective import QUALITY, Objective, configuration_value, rung_value

if TYPE_CHECKING:
    from study.cohorts import MemberId
    from study.configurations import Configuration
    from study.outcomes import Criteria, Series


def cohort_value(
    history: pa.Table,
    members: Sequence[MemberId],
    configurations: Mapping[str, Configuration],
    *,
    criteria: Criteria,
    references: Mapping[str, Mapping[str, Any]],
    objective: Objective,
    censored: bool,
) -> float | None:
    """The value of a cohort that holds one configuration; None where none of its replicates could be judged."""
    judged = judge_members(
        history, members, configurations, criteria=criteria, references=references, censored=censored
    )
    outcomes = [judged[member] for member in members]
    if all(outcome.outcome == "failed" for outcome in outcomes):
        return None
    asked = objective.measurement or QUALITY
    finals = [_last(series, asked) for series in _series(history, members, configurations)]
    return configuration_value(objective, outcomes, finals)


def value_at_rung(
    history: pa.Table,
    members: Sequence[MemberId],
    configurations: Mapping[str, Configuration],
    *,
    criteria: Criteria,
    references: Mapping[str, Mapping[str, Any]],
) -> float:
    """The value of a cohort that holds one configuration, from all that it has measured so far."""
    reference = references[configurations[members[0][0]].target_id]
    return rung_value(_series(history, members, configurations), criteria, reference)


def _series(
    history: pa.Table, members: Sequence[MemberId], configurations: Mapping[str, Configuration]
) -> list[Series]:
    return [
        series_of(history, key, replicate, planned_evaluations=int(configurations[key].budget["evaluations"]))
        for key, replicate in members
    ]


def _last(series: Series, measurement: str) -> dict[str, float]:
    """The last value there is: some are measured at every fifth evaluation only."""
    values = np.asarray(series.values.get(measurement, ()), dtype=np.float64)
    measured = values[~np.isnan(values)]
    return {measurement: float(measured[-1])} if len(measured) else {}
