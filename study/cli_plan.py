"""What ``plan`` says: how much a study asks for, before anything runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.cost import cohort_seconds
from study.progress import duration

if TYPE_CHECKING:
    from study.plan import Configuration, Plan
    from study.spec import StudySpec


def plan_json(spec: StudySpec, plan: Plan, *, workers: int, chosen: bool = True) -> dict[str, object]:
    """The plan as plain data, for ``--json``; seconds are wall time.

    ``chosen``: whether its configurations are those that will run; a search chooses them later, and has no plan yet.
    """
    confirm = {"confirm": confirm_cost(spec, plan, workers=workers)} if spec.protocol is not None else {}
    return {
        "study": plan.study,
        "spec_hash": plan.spec_hash,
        "criteria_hash": plan.criteria_hash,
        "configurations": len(plan.configurations),
        "replicates": plan.replicates,
        "cohorts": len(plan.cohorts),
        "estimate": asdict(plan.estimate(workers=workers, kernels=spec.resources.kernels)),
        **confirm,
        "plan": plan.to_json() if chosen else None,
    }


def print_plan(spec: StudySpec, plan: Plan, console: Console, *, workers: int) -> None:
    """For people: one row per loss and k, then what all of it takes."""
    estimate = plan.estimate(workers=workers, kernels=spec.resources.kernels)
    console.print(Text(plan.study, style="bold"))
    if spec.question:
        console.print(Text(spec.question, style="bright_black"), soft_wrap=True)
    console.print()
    console.print(_cells(plan))
    console.print()
    sizes = [len(entry.members) for entry in plan.cohorts]
    widest = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    facts = {
        "configurations": f"{len(plan.configurations):,}{_searched(spec)}",
        "replicates": f"{plan.replicates:,}",
        "cohorts": f"{len(plan.cohorts):,} of {widest} replicates (one Ray Tune trial each)",
        "generator steps": f"{estimate.generator_steps:,} of cohorts, {estimate.replicate_steps:,} of replicates",
        "estimated time": f"about {duration(estimate.wall_s)} with {workers} at once (a rough guess)",
    }
    if spec.protocol is not None:
        cost: Any = confirm_cost(spec, plan, workers=workers)
        facts["then confirmed"] = (
            f"the best of each of {cost['losses']} losses with {spec.protocol.confirm_replicates} fresh seeds: "
            f"{cost['replicates']:,} replicates, about {duration(cost['estimate']['wall_s'])} more at most"
        )
    for name, fact in facts.items():
        console.print(Text.assemble((f"{name:<17}", "bold"), fact), soft_wrap=True)


def confirm_cost(spec: StudySpec, plan: Plan, *, workers: int) -> dict[str, object]:
    """What the second phase takes at most: of each loss the dearest configuration, since nobody knows yet the best."""
    assert spec.protocol is not None
    replicates, kernels = spec.protocol.confirm_replicates, spec.resources.kernels

    def seconds(entry: Configuration) -> float:
        return cohort_seconds(entry.program(), replicates, kernels=kernels)

    dearest: dict[str, Configuration] = {}
    for entry in plan.configurations:
        held = dearest.get(entry.loss)
        if held is None or seconds(entry) > seconds(held):
            dearest[entry.loss] = entry
    seeds = tuple(range(replicates))
    made = [replace(entry, replicates=replicates, seeds=seeds) for entry in dearest.values()]
    size = spec.resources.cohort_size
    own = replace(plan, configurations=(), cohorts=(), declared=None).grown(made, size=size, workers=workers)
    estimate = own.estimate(workers=workers, kernels=kernels)
    return {"losses": len(made), "replicates": own.replicates, "estimate": asdict(estimate)}


def _searched(spec: StudySpec) -> str:
    if spec.search.method != "optuna":
        return ""
    return f", chosen by {spec.search.sampler} while it runs (k and cost as if drawn at random)"


def _cells(plan: Plan) -> Table:
    configurations: Counter[tuple[str, str, str, int]] = Counter()
    for entry in plan.configurations:
        penalty = "" if entry.penalty == "none" else entry.penalty
        configurations[entry.loss, entry.adversarial_loss, penalty, int(entry.factors["k"])] += 1
    replicates = plan.configurations[0].replicates
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("loss", "adversarial loss", "penalty", "k", "configurations", "replicates"):
        right = title in ("k", "configurations", "replicates")
        table.add_column(title, no_wrap=True, overflow="fold", justify="right" if right else "left")
    for (loss, adversarial_loss, penalty, k), count in configurations.items():
        table.add_row(
            Text(loss, style="cyan"), adversarial_loss, penalty, str(k), str(count), f"{count} x {replicates}"
        )
    return table
