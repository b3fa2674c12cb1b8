"""What MLflow's curves show of one configuration: quantiles over its replicates, and the shares of its outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from study.outcomes import OUTCOMES
from trainers.measurement import EVERY_MEASUREMENT

TENTHS: dict[str, int] = {"q10": 1, "median": 5, "q90": 9}
"""Logged quantiles, in tenths: exact, where 0.1 x 70 would already reach into the next replicate."""

NOT_JUDGED = ("censored", "failed")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation of a configuration: metric name -> number, always finite."""

    generator_step: int
    measured_at_ms: int
    metrics: dict[str, float]


def curve(rows: pa.Table, *, steps: Sequence[int], skip: Collection[int] = ()) -> list[Point]:
    """Points of one configuration's history rows, ascending; ``steps[i]`` is the generator step of evaluation i.

    A dead replicate ranks worst from its death on; the last point is the evaluation that the last one did not
    survive. Steps in ``skip`` are left out. ``finite_fraction`` closes each point: where it is, the rest is.
    """
    evaluation, finite = rows["evaluation"].to_numpy(), rows["finite"].to_numpy()
    measured_at = rows["measured_at_ms"].to_numpy()
    values = {name: rows[name].to_numpy() for name in rows.column_names if name in EVERY_MEASUREMENT}
    points: list[Point] = []
    for index in np.unique(evaluation):
        step = steps[int(index)]
        if step in skip or (points and points[-1].generator_step == step):
            continue
        now = evaluation == index
        living = now & finite
        dead = int((~finite & (evaluation <= index)).sum())
        metrics: dict[str, float] = {}
        for name in values:
            metrics |= _quantiles(name, values[name][living], dead=dead)
        metrics["finite_fraction"] = int(living.sum()) / (int(living.sum()) + dead)
        points.append(
            Point(generator_step=step, measured_at_ms=int(measured_at[now].max()), metrics=metrics),
        )
    return points


def worst_rank_quantile(
    values: NDArray[np.float64], *, dead: int, tenths: int, direction: Literal["lower", "higher"]
) -> float | None:
    """Linearly interpolated quantile of ``values`` and ``dead`` replicates that rank worst; None where it is dead."""
    worst = np.inf if direction == "lower" else -np.inf
    ranked = np.sort(np.concatenate([values, np.full(dead, worst)]))
    place, rest = divmod((len(ranked) - 1) * tenths, 10)
    below = ranked[place]
    above = ranked[place + 1] if rest else below
    if not (np.isfinite(below) and np.isfinite(above)):
        return None
    return float(below + (above - below) * (rest / 10))


def outcome_fractions(outcomes: Iterable[str]) -> dict[str, float]:
    """Share of each outcome among the judged replicates, and the judged ones' share of all; no shares of nothing."""
    counts = Counter(outcomes)
    judged = {name: counts[name] for name in OUTCOMES if name not in NOT_JUDGED}
    total = sum(judged.values())
    fractions = {f"outcome/{name}_fraction": count / total for name, count in judged.items()} if total else {}
    return fractions | {"judged_fraction": total / counts.total()}


def _quantiles(name: str, values: NDArray[np.float64], *, dead: int) -> dict[str, float]:
    measured = values[np.isfinite(values)]
    if not len(measured):
        return {}
    direction = EVERY_MEASUREMENT[name].direction
    # a living replicate without the number its peers have produced a non-finite one: as bad as dead
    worst = 0 if direction is None else dead + len(values) - len(measured)
    found = {
        label: worst_rank_quantile(measured, dead=worst, tenths=tenths, direction=direction or "lower")
        for label, tenths in TENTHS.items()
    }
    return {f"{name}/{label}": value for label, value in found.items() if value is not None}
