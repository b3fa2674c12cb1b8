"""Example replicates: which ones are shown, their curves, and their samples over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures_samples import SAMPLES_LEFT, draw_samples, plane_limit
from analysis.figures_style import GRID, INK, OUTCOMES, SOFT, WIDTH, new_figure, place, style
from analysis.wording import number_text, rate_text, shown

EXAMPLE_COLUMNS = ("outcome", "which", "margin", "kind", "loss", "k", "learning_rate", "replicate", "configuration_key")
TYPICAL, CLOSEST = "median margin", "smallest margin"
TOP, BOTTOM = 1.75, -0.05
"""Ends of the curves' axis; larger distances are drawn at the edge and said in words."""
_LABEL_GAP = 0.125
"""Least distance of two curves' names, on that axis."""
CURVES = (
    ("u", "#1d2329", "-", "distance u"),
    ("mode_coverage", "#0b5c8a", "-", "modes m"),
    ("quality", "#8a5fb0", "--", "quality q"),
    ("nn_coverage", "#b4642d", (0, (3, 1, 1, 1)), "neighbours"),
)
QUANTITIES: tuple[str, ...] = tuple(name for name, *_ in CURVES)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What turns measurements into the judged quantities, and the thresholds they are judged by (NaN: unknown)."""

    d_real: float
    d_ref: float
    quality_ceiling: float
    nn_ceiling: float
    thresholds: Mapping[str, float]
    with_neighbours: bool


def choose_examples(runs: pd.DataFrame) -> pd.DataFrame:
    """Per outcome the replicate of median margin and the one of smallest margin (columns EXAMPLE_COLUMNS).

    The smallest margin is the label closest to another one: the case a reader should doubt first. Ties go to the
    earlier row, an unknown margin ranks last, the lower of two middle ones is the median; failed runs trained nothing.
    """
    rows = []
    for outcome in OUTCOMES:
        group = runs[runs["outcome"] == outcome]
        if group.empty or outcome == "failed":
            continue
        margins = (
            pd.to_numeric(group["margin"], errors="coerce") if "margin" in group else pd.Series(math.nan, group.index)
        )
        ranked = margins.sort_values(kind="stable", na_position="last")
        known = max(int(ranked.notna().sum()), 1)
        typical, closest = ranked.index[(known - 1) // 2], ranked.index[0]
        picks = [(TYPICAL, typical), (CLOSEST, closest)] if typical != closest else [(CLOSEST, closest)]
        rows += [_example(outcome, which, margins[place_], group.loc[place_]) for which, place_ in picks]
    return pd.DataFrame(rows, columns=list(EXAMPLE_COLUMNS))


def _example(outcome: str, which: str, margin: float, run: pd.Series) -> tuple[object, ...]:
    rate = next(
        (run[n] for n in ("learning_rate", "generator_learning_rate") if n in run and pd.notna(run[n])), math.nan
    )
    values = (
        run.get("kind", ""),
        run["loss"],
        run.get("k", math.nan),
        rate,
        run["replicate"],
        run["configuration_key"],
    )
    return (outcome, which, margin, *values)


def example_curves(examples: pd.DataFrame, curves: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The judged quantities of the examples over generator steps (u, mode_coverage, quality, nn_coverage)."""
    parts = []
    for example in examples.to_dict("records"):
        own = curves
        if len(curves):
            same = curves["configuration_key"] == example["configuration_key"]
            own = curves[same & (curves["replicate"] == example["replicate"])]
        parts.append(_judged_quantities(example, own, scale))
    names = ["outcome", "which", "configuration_key", "replicate", "generator_step", "finite", *QUANTITIES]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _judged_quantities(example: Mapping[Any, Any], own: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    def column(name: str) -> pd.Series:
        found = own[name] if name in own else pd.Series(math.nan, own.index)
        return pd.to_numeric(found, errors="coerce").astype(float)

    table = pd.DataFrame({"generator_step": column("generator_step"), "finite": own.get("finite", True)})
    for name in ("replicate", "configuration_key", "which", "outcome"):
        table.insert(0, name, example[name])
    table["u"] = (column("distance") - scale.d_real) / (scale.d_ref - scale.d_real)
    table["mode_coverage"] = column("mode_coverage")
    table["quality"] = column("high_quality_fraction") / scale.quality_ceiling
    table["nn_coverage"] = column("knn_coverage") / scale.nn_ceiling if scale.with_neighbours else math.nan
    return table.sort_values("generator_step", kind="stable").reset_index(drop=True)


def example_figure(
    examples: pd.DataFrame,
    curves: pd.DataFrame,
    samples: Mapping[str, Mapping[float, np.ndarray]],
    *,
    scale: Scale,
    centres: np.ndarray | None,
) -> Figure:
    """One outcome's examples (with their ``horizon``): judged curves, samples over time.

    ``samples``: which -> share of the budget -> [n, d]; ``centres``: the target's modes [M, 2] where it has any in
    the plane. Images (d a square from 16 on) are drawn as tiles, everything else as points in the plane.
    """
    row, top = 240.0, 0.0
    with style():
        figure = new_figure(height=top + row * len(examples))
        limit = plane_limit(samples, centres)
        for i, example in enumerate(examples.to_dict("records")):
            y = top + i * row
            _example_title(figure, y, example)
            axes = place(figure, left=34, top=y + 36, width=300, height=158)
            own = curves[curves["which"] == example["which"]]
            _draw_curves(axes, own, scale, horizon=float(str(example["horizon"])))
            draw_samples(figure, y + 36, samples.get(str(example["which"]), {}), centres, limit)
    return figure


def _example_title(figure: Figure, y: float, example: Mapping[Any, Any]) -> None:
    height = figure.get_size_inches()[1] * 96
    look = OUTCOMES[str(example["outcome"])]
    kind = f" ({shown(example['kind'])})" if example["kind"] else ""
    margin = example["margin"]
    known = isinstance(margin, float) and math.isfinite(margin)
    size = "under 0.001" if known and margin < 0.001 else f"{margin:.2g}" if known else ""
    stated = f"{example['which']} {size}".strip()
    middle = 1 - (y + 15) / height
    figure.text(10 / WIDTH, middle, "■", color=look.colour, fontsize=10, va="center")
    figure.text(28 / WIDTH, middle, f"{look.word}{kind}", weight="bold", fontsize=9, va="center", color=INK)
    figure.text(334 / WIDTH, middle, stated, fontsize=8, va="center", ha="right", color=SOFT)
    rate = rate_text(float(str(example["learning_rate"])))
    k, loss = number_text(example["k"]), shown(example["loss"], limit=34)
    facts = f"{loss} · k = {k} · lr = {rate} · replicate {example['replicate']}"
    figure.text(SAMPLES_LEFT / WIDTH, middle, facts, fontsize=8, va="center", color=INK)


def _draw_curves(axes: Axes, own: pd.DataFrame, scale: Scale, *, horizon: float) -> None:
    ends = []
    for name, colour, dash, word in CURVES:
        points = own[["generator_step", name]].dropna()
        if points.empty:
            continue
        heights = points[name].clip(BOTTOM, TOP)
        axes.plot(points["generator_step"], heights, color=colour, linestyle=dash, linewidth=1.4)
        ends.append((float(heights.iloc[-1]), word, colour))
        threshold = scale.thresholds.get(name, math.nan)
        if math.isfinite(threshold):
            axes.axhline(threshold, color=colour, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
    _name_curves(axes, ends)
    steps = [float(step) for step in own["generator_step"].dropna()]
    axes.set_xlim(0, max([1.0, *steps, *([horizon] if math.isfinite(horizon) else [])]))
    axes.set_ylim(BOTTOM, TOP)
    axes.set_yticks([0, 0.5, 1, 1.5], ["0", "½", "1", "1½"], fontsize=7.5)
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("generator steps", fontsize=7.5, loc="left", labelpad=2)
    _curve_remarks(axes, own)


def _name_curves(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Each curve's name beside its end, moved apart where ends meet."""
    ordered = sorted(ends)
    for height, (_, word, colour) in zip(apart([end for end, *_ in ordered]), ordered, strict=True):
        axes.annotate(
            word,
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=colour,
            annotation_clip=False,
        )


def apart(heights: Sequence[float]) -> list[float]:
    """Ascending heights moved up to keep their distance, then down again where that left the axis."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + _LABEL_GAP) if moved else height)
    highest = TOP
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], highest)
        highest = moved[i] - _LABEL_GAP
    return moved


def _curve_remarks(axes: Axes, own: pd.DataFrame) -> None:
    remarks = []
    largest = own["u"].max() if len(own) else math.nan
    if math.isfinite(largest) and largest > TOP:
        remarks.append(f"u reaches {largest:.3g}")
    dead = own[~own["finite"].astype(bool)] if len(own) else own
    if len(dead):
        step = float(dead["generator_step"].iloc[-1])
        axes.axvline(step, color=OUTCOMES["diverged"].colour, linewidth=1.2)
        remarks.append(f"non-finite at step {step:.0f}")
    if not len(own):
        remarks.append("no measurements")
    if remarks:
        axes.text(
            0.99, 0.97, ", ".join(remarks), transform=axes.transAxes, ha="right", va="top", fontsize=7.2, color=INK
        )
