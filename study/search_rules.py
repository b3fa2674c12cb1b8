"""What a study file may say under search and scheduler, and what goes with its space, its budget and its target."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from study.design import Design
from study.entries import LossEntry
from study.factors import Range
from study.objective import AGGREGATES, SUCCESS
from study.outcomes import Criteria
from study.problems import Problems
from study.sections import Budget, Scheduler, Search
from trainers.measurement import EVERY_MEASUREMENT, columns, groups_on

GRACE_FRACTION, REDUCTION_FACTOR, SAMPLER = 0.1, 3.0, "tpe"

_NUMERIC = {"cmaes": 2, "qmc": 1}
"""Samplers that place points in a box, and how many ranges that box needs; they draw lists at random."""
_POINT_MASS = frozenset({"distance"})
"""All that has a better and a worse on the Dirac-GAN: its samples say nothing that its parameters do not."""
_OBJECTIVE = ("search", "objective")


def check_search(search: Search, problems: Problems) -> None:
    """Each search method takes its own keys, and only those."""
    if search.method != "grid" and search.configurations is None:
        rule = f"required with method {search.method}: how many per loss entry"
        problems.add(("search", "configurations"), rule)
    if search.method == "grid" and search.configurations is not None:
        problems.add(
            ("search", "configurations"), "is for method random; a grid has its own size", search.configurations
        )
    if search.method != "optuna":
        for key in ("sampler", "objective"):
            if getattr(search, key) is not None:
                problems.add(("search", key), "is for method optuna", getattr(search, key))


def check_scheduler(scheduler: Scheduler, problems: Problems) -> None:
    """Each scheduler takes its own keys, and only those."""
    if scheduler.name != "asha":
        for key in ("grace_fraction", "reduction_factor"):
            if getattr(scheduler, key) is not None:
                problems.add(("scheduler", key), "is for the scheduler asha", getattr(scheduler, key))


def check_objective(search: Search, design: Design, groups: Collection[str], problems: Problems) -> None:
    """The objective is success, or something that this study measures and that has a better and a worse."""
    given = search.objective
    if search.method != "optuna" or given is None or given == SUCCESS:
        return
    if not isinstance(given, Mapping):
        rule = f"must be {SUCCESS}, or {{measurement: distance, aggregate: {' | '.join(AGGREGATES)}}}"
        problems.add(_OBJECTIVE, rule, given)
        return
    for key in given:
        if key not in ("measurement", "aggregate"):
            problems.unknown_key((*_OBJECTIVE, key), ("measurement", "aggregate"))
    if given.get("aggregate", AGGREGATES[0]) not in AGGREGATES:
        problems.unknown_name((*_OBJECTIVE, "aggregate"), "aggregate", given["aggregate"], AGGREGATES)
    if "measurement" not in given:
        problems.add((*_OBJECTIVE, "measurement"), f"required: the measurement to tune, or write objective: {SUCCESS}")
    else:
        _check_measurement(given["measurement"], design, groups, problems)


def check_space(search: Search, design: Design, problems: Problems) -> None:
    """The sampler can do the space, and every yardstick can be made before the first trial."""
    if search.method != "optuna":
        return
    for name in design.target_factors:
        rule = "varies the target; its yardsticks are made before the first trial: use method grid or random for it"
        problems.add(("search", "method"), f"{rule} ({name})", search.method)
    sampler = search.sampler or SAMPLER
    for entry in design.entries:
        ranges, needed = _ranges(design, entry), _NUMERIC.get(sampler, 0)
        if len(ranges) < needed:
            held = ", ".join(ranges) or "none"
            problems.add(
                ("search", "sampler"),
                f"{sampler} places points in a box and draws what is listed at random: it needs {needed} "
                f"range{'s' if needed > 1 else ''} in effect for every setting, {entry.label!r} has {len(ranges)} "
                f"({held}); use tpe, gp or random",
                sampler,
            )


def check_rungs(scheduler: Scheduler, budget: Budget, criteria: Criteria, problems: Problems) -> None:
    """There is a rung before the horizon, and each has a whole window of evaluations behind it to be judged by."""
    if scheduler.name != "asha":
        return
    window = criteria.window_min_evaluations
    rungs = rung_evaluations(scheduler, budget.evaluations)
    grace = GRACE_FRACTION if scheduler.grace_fraction is None else scheduler.grace_fraction
    if not rungs:
        problems.add(
            ("scheduler", "grace_fraction"),
            f"leaves no rung before the horizon: the first must come before evaluation {budget.evaluations}",
            grace,
        )
    elif rungs[0] < window:
        fraction = math.ceil(1000 * window / budget.evaluations) / 1000
        offer = f"grace_fraction: {fraction:g}, or " if fraction < 1 else ""
        problems.add(
            ("scheduler", "grace_fraction"),
            f"puts the first rung at evaluation {rungs[0]} of {budget.evaluations}, before the {window} that a "
            f"replicate is judged by (criteria.window_min_evaluations); write {offer}"
            f"budget.evaluations: {math.ceil(window / grace - 1e-9)} or more",
            grace,
        )


def rung_evaluations(scheduler: Scheduler, evaluations: int) -> tuple[int, ...]:
    """Numbers of the evaluations at which configurations are compared, ascending, all before the horizon.

    The first comes at grace_fraction of the budget, each other reduction_factor times as late.
    """
    if scheduler.name != "asha":
        return ()
    grace = GRACE_FRACTION if scheduler.grace_fraction is None else scheduler.grace_fraction
    factor = REDUCTION_FACTOR if scheduler.reduction_factor is None else scheduler.reduction_factor
    place, rungs = float(first_rung(grace, evaluations)), []
    while place < evaluations and math.ceil(place - 1e-9) < evaluations:
        rungs.append(math.ceil(place - 1e-9))
        place *= factor
    return tuple(dict.fromkeys(rungs))


def first_rung(grace_fraction: float, evaluations: int) -> int:
    """The evaluation at which a configuration may be stopped for the first time."""
    return max(1, math.ceil(grace_fraction * evaluations - 1e-9))


def filled(search: Search, scheduler: Scheduler) -> dict[str, object]:
    """The sections with the defaults of an adaptive search and of early stopping; empty where there is neither."""
    sections: dict[str, object] = {}
    if search.method == "optuna":
        objective = search.objective
        if isinstance(objective, Mapping):
            objective = {"measurement": objective["measurement"], "aggregate": objective.get("aggregate", "median")}
        defaults = {"sampler": search.sampler or SAMPLER, "objective": objective or SUCCESS}
        sections["search"] = search.model_dump(exclude_none=True) | defaults
    if scheduler.name == "asha":
        numbers = {"grace_fraction": GRACE_FRACTION, "reduction_factor": REDUCTION_FACTOR}
        sections["scheduler"] = numbers | scheduler.model_dump(exclude_none=True)
    return sections


def _check_measurement(name: object, design: Design, groups: Collection[str], problems: Problems) -> None:
    target = str(design.target["name"])
    factors = {**design.fixed, **design.varied}
    measured = columns(groups_on(groups, factors=factors, target=target))
    offered = [one for one in measured if EVERY_MEASUREMENT[one].direction]
    if target == "dirac":
        offered = [one for one in offered if one in _POINT_MASS]
    if name in offered:
        return
    path = (*_OBJECTIVE, "measurement")
    info = EVERY_MEASUREMENT.get(name) if isinstance(name, str) else None
    if info is None:
        problems.unknown_name(path, "measurement", name, offered)
    elif info.direction is None:
        problems.add(path, f"has no better and worse; tune one of {', '.join(offered)}", name)
    elif info.name in measured:
        problems.add(path, f"is not measured on {target}; tune one of {', '.join(offered)}", name)
    else:
        problems.add(path, f"is measured only with {_switch(info.group)}; or tune one of {', '.join(offered)}", name)


def _switch(group: str) -> str:
    return "a generator_average" if group == "average" else f"measurements: [{group}]"


def _ranges(design: Design, entry: LossEntry) -> list[str]:
    """Factors of the entry that are ranges and in effect whatever optimizer and order of updates is chosen."""
    effective = [set(design.names(optimizer, updates)) for optimizer in design.optimizers for updates in design.updates]
    always = set.intersection(*effective)
    own = [name for name, values in entry.parameters.items() if isinstance(values, Range)]
    return [name for name, values in design.varied.items() if isinstance(values, Range) and name in always] + own
