"""Success over two factors at once: the learning rate, and the penalty weight or k, with every evaluated setting."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.compare import by_success, cells_table
from analysis.estimators import Floats
from analysis.figures_cells import rate_factor
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.weights import is_drawn

LANDSCAPE_COLUMNS: tuple[str, ...] = ("loss", "rate", "factor", "value", "settings", "judged", "converged", "share")

SCOTT = 1 / math.sqrt(12)
"""Standard deviation of a uniform axis of length 1; Scott's width in two dimensions is this times n^(-1/6)."""


def landscape_table(frames: StudyFrames, losses: pd.DataFrame) -> pd.DataFrame:
    """Counts at every point that was evaluated, columns LANDSCAPE_COLUMNS, losses in the page's order.

    ``factor`` is the label's penalty parameter where it varies, else k where settings were drawn (a grid over k is
    what the phase diagrams show). Settings that differ in other factors are pooled.
    """
    frames = frames.explored
    rate = rate_factor(frames.runs)
    if rate is None or frames.runs[rate].nunique() < 2:
        return pd.DataFrame(columns=list(LANDSCAPE_COLUMNS))
    cells = cells_table(frames)
    cells = cells[cells[rate].notna() & (cells["configuration_key"] != "")]
    parts = [
        _points(own, rate, factor)
        for label in by_success(losses)
        if (factor := _second(own := cells[cells["loss"] == label], drawn=is_drawn(frames)))
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(LANDSCAPE_COLUMNS))


def _second(cells: pd.DataFrame, *, drawn: bool) -> str:
    """The factor on the second axis; "" where there is none to show."""
    names = [*sorted(n for n in PENALTY_PARAMETERS if n in cells), *(["k"] if drawn else [])]
    return next((name for name in names if cells[name].nunique() > 1), "")


def _points(cells: pd.DataFrame, rate: str, factor: str) -> pd.DataFrame:
    groups = cells.assign(rate=cells[rate].astype(float), value=cells[factor].astype(float)).groupby(["rate", "value"])
    table = groups.agg(settings=("used", "size"), judged=("used", "sum"), converged=("converged", "sum")).reset_index()
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table["converged"] / table["judged"].where(table["judged"] > 0)
    return table.assign(loss=cells["loss"].iloc[0], factor=factor, share=share)[list(LANDSCAPE_COLUMNS)]


def smoothed(points: Floats, shares: Floats, runs: Floats, at: Floats) -> Floats:
    """Kernel mean of ``shares`` [n] at the places ``at`` [m, 2] of the unit square; NaN far from every point.

    ``points`` [n, 2] in the unit square, weighted by ``runs`` [n]; Gaussian kernel of Scott's width. Far is more than
    two widths from the nearest point. Nadaraya 1964; Watson 1964; Scott 1992.
    """
    width = SCOTT * len(points) ** (-1 / 6)
    squares = ((at[:, None, :] - points[None, :, :]) ** 2).sum(axis=2) / width**2
    mass = runs * np.exp(-squares / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (mass * shares).sum(axis=1) / mass.sum(axis=1)
    return np.where(squares.min(axis=1) <= 4, found, math.nan)


def selected_places(tuned: pd.DataFrame, table: pd.DataFrame) -> Mapping[str, tuple[float, float]]:
    """Label -> (rate, value) of its confirmed setting on the two axes of ``landscape_table``."""
    factors = dict(zip(table["loss"], table["factor"], strict=True))
    rate = "learning_rate" if "learning_rate" in tuned and tuned["learning_rate"].notna().any() else None
    return {
        str(row["loss"]): (float(row[rate]), float(row[factors[row["loss"]]]))
        for row in tuned.to_dict("records")
        if rate and row["loss"] in factors and factors[row["loss"]] in row
    }
