"""Example runs of the Dirac-GAN: the radius over the steps, and the path of (theta, psi)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.figures_style import FAINT, GRID, INK, OUTCOMES, SOFT, WIDTH, new_figure, place, style
from analysis.wording import number_text, rate_text, shown

ORBIT_COLUMNS = ("which", "configuration_key", "replicate", "generator_step", "radius", "theta", "psi")
_ROW = 222.0


def orbit_table(examples: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The measured radius, theta and psi of the examples (columns ORBIT_COLUMNS); rows of dead runs are left out."""
    parts = []
    for example in examples.to_dict("records"):
        same = (curves["configuration_key"] == example["configuration_key"]) & (
            curves["replicate"] == example["replicate"]
        )
        own = curves[same & curves["finite"].astype(bool)].sort_values("generator_step", kind="stable")
        table = own[["generator_step", "distance", "generator_parameter", "discriminator_parameter"]]
        table = table.set_axis(["generator_step", "radius", "theta", "psi"], axis=1)
        parts.append(table.assign(**{name: example[name] for name in ("which", "configuration_key", "replicate")}))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(ORBIT_COLUMNS))
    return found[list(ORBIT_COLUMNS)]


def orbit_figure(examples: pd.DataFrame, orbits: pd.DataFrame) -> Figure:
    """One row per example (with its ``horizon``): radius on a log scale, the two quarters that are compared; path."""
    with style():
        figure = new_figure(height=_ROW * len(examples))
        for i, example in enumerate(examples.to_dict("records")):
            own, top = orbits[orbits["which"] == example["which"]], i * _ROW
            colour = OUTCOMES[str(example["outcome"])].colour
            _title(figure, top, example)
            left = place(figure, left=58, top=top + 36, width=430, height=138)
            _radius(left, own, horizon=float(str(example["horizon"])), colour=colour)
            right = place(figure, left=580, top=top + 36, width=150, height=150)
            _path(right, own, colour=colour)
    return figure


def _title(figure: Figure, top: float, example: Mapping[Any, Any]) -> None:
    middle = 1 - (top + 16) / (figure.get_size_inches()[1] * 96)
    look = OUTCOMES[str(example["outcome"])]
    kind = f" ({shown(example['kind'])})" if example["kind"] else ""
    margin = example["margin"]
    known = isinstance(margin, float) and math.isfinite(margin)
    stated = f"{example['which']} {margin:.2g}" if known else str(example["which"])
    weight = example.get("penalty_weight")
    gamma = f", gamma = {number_text(weight)}" if isinstance(weight, float) and weight > 0 else ""
    order = "" if example.get("updates") in (None, "alternating") else f", {shown(example['updates'])}"
    setting = (
        f"{shown(example['loss'])}{gamma}, k = {number_text(example['k'])}{order}, "
        f"lr = {rate_text(float(str(example['learning_rate'])))}, replicate {example['replicate']}"
    )
    figure.text(10 / WIDTH, middle, "■", color=look.colour, fontsize=10, va="center")
    figure.text(28 / WIDTH, middle, f"{look.word}{kind}", weight="bold", fontsize=9, va="center", color=INK)
    figure.text(190 / WIDTH, middle, f"{stated} · {setting}", fontsize=8, va="center", color=SOFT)


def _radius(axes: Axes, own: pd.DataFrame, *, horizon: float, colour: str) -> None:
    for start, shade in ((0.5, "#f3f5f7"), (0.75, "#e8ecef")):
        axes.axvspan(start * horizon, (start + 0.25) * horizon, color=shade, linewidth=0, zorder=0)
    seen = own[own["radius"] > 0]
    if len(seen):
        axes.semilogy(seen["generator_step"], seen["radius"], color=colour, linewidth=1.6)
        axes.yaxis.set_major_formatter(lambda value, _: rate_text(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(0, horizon)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("generator steps", fontsize=7.5, loc="left", labelpad=2)
    axes.set_title("radius", loc="left", fontsize=7.5, color=SOFT, pad=3)


def _path(axes: Axes, own: pd.DataFrame, *, colour: str) -> None:
    theta, psi = own["theta"].to_numpy(float), own["psi"].to_numpy(float)
    limit = 1.1 * float(np.max(np.abs([*theta, *psi]), initial=1e-30))
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.plot(theta, psi, color=colour, linewidth=0.7, alpha=0.6)
    axes.plot(theta, psi, ".", color=colour, markersize=3.5)
    axes.plot(theta[:1], psi[:1], "o", color=INK, markersize=4)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_xticks([0], ["0"], fontsize=7)
    axes.set_yticks([0], ["0"], fontsize=7)
    axes.set_title(f"(θ, ψ), within ±{limit:.2g}; start black", loc="left", fontsize=7.5, color=SOFT, pad=3)
