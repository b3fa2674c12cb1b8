"""The declared design: which cells a loss is judged on, and how much each one counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from analysis.estimators import trapezoid
from analysis.frames import PENALTY_PARAMETERS, StudyFrames

Target = Literal["grid", "space", "sweeps"]
"""What an interval is for: this grid (cells fixed), a new setting of the space, or this grid under shared seeds."""

DRAWN_METHODS = ("random", "optuna")


def weights(frames: StudyFrames) -> pd.DataFrame:
    """Cells with their weight, by label in the study's order: loss, configuration_key, stratum, factors, weight.

    Weights sum to 1 within a label: trapezoid in log10 learning rate, uniform over k and every other factor that
    varies (one learning rate: uniform over the rest; drawn settings and separate learning rates for the two players:
    equal). ``stratum`` is equal for the matched cells of two labels; factors of a penalty do not enter it.
    A declared cell that nobody planned keeps its weight, with an empty configuration_key.
    """
    varying = frames.varying_factors()
    cells = _cells(frames, varying)
    drawn = is_drawn(frames)
    grid = _levels(cells)
    parts = []
    for label in frames.labels():
        own = cells[cells["loss"] == label]
        parts.append(_equal(own) if drawn else _gridded(label, own, grid))
    table = pd.concat(parts, ignore_index=True) if parts else cells.assign(weight=pd.Series(dtype="float64"))
    return table.drop(columns=["others", "rate"])


def is_drawn(frames: StudyFrames) -> bool:
    """Whether the settings were drawn from a space rather than crossed: by the spec, else by how full the grid is."""
    search = frames.spec.get("search")
    if isinstance(search, Mapping):
        return search.get("method") in DRAWN_METHODS
    cells = _cells(frames, frames.varying_factors())
    ks, rates = _levels(cells)
    full = len(ks) * len(rates) * max(1, len(frames.labels()))
    pairs = len(cells[["loss", "k", "rate"]].drop_duplicates())
    return full > 0 and len(rates) > 3 and pairs < full / 2


def inference_target(frames: StudyFrames) -> Target:
    """Which interval the design earns: ``sweeps`` where replicate r has one seed in every cell, across cells."""
    if is_drawn(frames):
        return "space"
    return "sweeps" if seeds_are_shared(frames.runs) else "grid"


def seeds_are_shared(runs: pd.DataFrame) -> bool:
    """Whether some seed trains more than one configuration (absent seeds are taken as independent)."""
    if "seed" not in runs or not len(runs):
        return False
    known = runs[runs["seed"].notna()]
    return bool((known.groupby("seed")["configuration_key"].nunique() > 1).any())


def _cells(frames: StudyFrames, varying: Iterable[str]) -> pd.DataFrame:
    """One row per label and configuration, with ``rate`` (12 digits), ``others`` and ``stratum``."""
    factors = frames.factors()
    cells = frames.runs[["loss", "configuration_key", *factors]].drop_duplicates(["loss", "configuration_key"])
    cells = cells.reset_index(drop=True)
    for name in ("k", "learning_rate"):
        if name not in cells:
            cells[name] = math.nan
    cells["rate"] = [float(f"{v:.12g}") for v in cells["learning_rate"].astype(float)]
    other = sorted(name for name in varying if name not in ("k", "learning_rate"))
    shared = [name for name in other if name not in PENALTY_PARAMETERS]
    cells["others"] = _text(cells, other)
    cells["stratum"] = _text(cells, ["k", "rate", *shared])
    return cells.sort_values(["k", "rate", "others", "configuration_key"], kind="stable", ignore_index=True)


def _text(cells: pd.DataFrame, names: list[str]) -> list[str]:
    """``name=value`` of each row; absent values are left out, numbers are written with 12 digits."""
    columns = [[f"{name}={_value(v)}" if not pd.isna(v) else "" for v in cells[name]] for name in names]
    return [" ".join(filter(None, row)) for row in zip(*columns, strict=True)] if columns else [""] * len(cells)


def _value(value: object) -> str:
    return f"{float(value):.12g}" if isinstance(value, int | float | np.number) else str(value)


def _levels(cells: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Distinct k and learning rates of the whole study, ascending (NaN where the study has none)."""
    return tuple(sorted(set(cells[name].astype(float).dropna())) or [math.nan] for name in ("k", "rate"))  # type: ignore[return-value]


def _equal(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.assign(weight=1.0 / max(1, len(cells)))


def _gridded(label: str, cells: pd.DataFrame, grid: tuple[list[float], list[float]]) -> pd.DataFrame:
    """The label's own settings of the other factors crossed with the study's k and learning rates."""
    ks, rates = grid
    others = sorted(set(cells["others"]))
    rate_weights = dict(zip(rates, rate_shares(rates), strict=True))
    share = 1.0 / (len(ks) * len(others))
    held = {_cell_id(*row) for row in cells[["k", "rate", "others"]].itertuples(index=False)}
    unplanned = [
        {"loss": label, "configuration_key": "", "k": k, "learning_rate": rate, "rate": rate, "others": other}
        | {"stratum": f"k={_value(k)} rate={_value(rate)} missing"}
        for k, rate, other in itertools.product(ks, rates, others)
        if _cell_id(k, rate, other) not in held
    ]
    table = pd.concat([cells, pd.DataFrame(unplanned)], ignore_index=True) if unplanned else cells
    counts = table.groupby(["k", "rate", "others"], dropna=False)["loss"].transform("size")
    rate_share = [rate_weights.get(rate, 1.0) for rate in table["rate"]]
    table = table.assign(weight=np.array(rate_share) * share / counts)
    return table.sort_values(["k", "rate", "others", "configuration_key"], kind="stable", ignore_index=True)


def _cell_id(k: float, rate: float, others: str) -> str:
    return f"{_value(k)}|{_value(rate)}|{others}"  # NaN, unequal to itself, becomes text that is equal


def rate_shares(rates: list[float]) -> list[float]:
    """Weights of ascending learning rates, summing to 1: trapezoid in log10, or 1 for a single rate."""
    if len(rates) == 1:
        return [1.0]
    shares = trapezoid(np.log10(np.array(rates)))
    return [float(v) for v in shares / shares.sum()]
