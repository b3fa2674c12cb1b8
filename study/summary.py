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
    finite = rows["finite"].to_numpy()
    reached, places = np.unique(rows["evaluation"].to_numpy(), return_inverse=True)
    living = np.bincount(places[finite], minlength=len(reached))
    dead = np.cumsum(np.bincount(places[~finite], minlength=len(reached)))
    measured_at = np.zeros(len(reached), dtype=np.int64)
    np.maximum.at(measured_at, places, rows["measured_at_ms"].to_numpy())
    quantiles = _quantiles(rows, finite, places, dead=dead)
    points: list[Point] = []
    for place, index in enumerate(reached):
        step = steps[int(index)]
        if step in skip or (points and points[-1].generator_step == step):
            continue
        metrics = {name: value for name, values in quantiles.items() if (value := values[place]) is not None}
        metrics["finite_fraction"] = int(living[place]) / int(living[place] + dead[place])
        points.append(Point(generator_step=step, measured_at_ms=int(measured_at[place]), metrics=metrics))
    return points


def worst_rank_quantiles(
    values: NDArray[np.float64], *, worst: NDArray[np.intp], direction: Literal["lower", "higher"]
) -> dict[str, list[float | None]]:
    """Linearly interpolated quantiles of each row of ``values`` [E, R], absent where NaN, by the names in TENTHS.

    Another ``worst[e]`` replicates rank behind all that were measured in row e. None where the quantile is theirs,
    or where nothing was measured.
    """
    ranked = np.sort(values, axis=1)  # what is NaN comes last
    measured = (~np.isnan(values)).sum(axis=1)
    found: dict[str, list[float | None]] = {}
    for label, tenths in TENTHS.items():
        places, rest = np.divmod((measured + worst - 1) * tenths, 10)
        below = places if direction == "lower" else places - worst
        above = below + (rest > 0)
        alive = (below >= 0) & (above < measured)
        low, high = (np.take_along_axis(ranked, np.where(alive, at, 0)[:, None], axis=1)[:, 0] for at in (below, above))
        quantile = low + (high - low) * (rest / 10)
        found[label] = [number if lives else None for number, lives in zip(quantile.tolist(), alive, strict=True)]
    return found


def outcome_fractions(outcomes: Iterable[str]) -> dict[str, float]:
    """Share of each outcome among the judged replicates, and the judged ones' share of all; no shares of nothing."""
    counts = Counter(outcomes)
    judged = {name: counts[name] for name in OUTCOMES if name not in NOT_JUDGED}
    total = sum(judged.values())
    fractions = {f"outcome/{name}_fraction": count / total for name, count in judged.items()} if total else {}
    return fractions | {"judged_fraction": total / counts.total()}


def _quantiles(
    rows: pa.Table, finite: NDArray[np.bool_], places: NDArray[np.intp], *, dead: NDArray[np.intp]
) -> dict[str, list[float | None]]:
    """Metric -> its value at each evaluation reached, by measurement and quantile."""
    order = np.argsort(places[finite], kind="stable")
    row = places[finite][order]
    living = np.bincount(row, minlength=len(dead))
    column = np.arange(len(row)) - (np.cumsum(living) - living)[row]
    found: dict[str, list[float | None]] = {}
    for name in (name for name in rows.column_names if name in EVERY_MEASUREMENT):
        values = np.full((len(dead), max(1, living.max(initial=0))), np.nan)
        values[row, column] = rows[name].to_numpy()[finite][order]
        values[np.isinf(values)] = np.nan
        measured = (~np.isnan(values)).sum(axis=1)
        direction = EVERY_MEASUREMENT[name].direction
        # a living replicate without the number its peers have produced a non-finite one: as bad as dead
        worst = np.zeros_like(dead) if direction is None else dead + living - measured
        ranked = worst_rank_quantiles(values, worst=worst, direction=direction or "lower")
        found |= {f"{name}/{label}": numbers for label, numbers in ranked.items()}
    return found
