"""Samples over time: images as dark ink on white paper, points and mode centres for the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures_style import FAINT, INK, SOFT, place

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""When samples are kept, as shares of the budget."""
GUTTER = -0.75
SAMPLES_LEFT = 418.0
"""Where the samples of an example begin, in CSS pixels."""
_SMALL, _LARGE, _GAP = 82.0, 180.0, 16.0


def draw_samples(
    figure: Figure,
    top: float,
    shots: Mapping[float, np.ndarray],
    centres: np.ndarray | None,
    limit: float,
) -> None:
    """Small panels at 0, 25, 50 and 75 % of the budget and a large one at its end, ``top`` pixels down the figure."""
    left, right, below = SAMPLES_LEFT, SAMPLES_LEFT + _SMALL + _GAP, top + _SMALL + _GAP
    corners = [(left, top), (right, top), (left, below), (right, below), (right + _SMALL + _GAP, top)]
    for share, (x, y) in zip(SHARES, corners, strict=True):
        size = _LARGE if share == 1 else _SMALL
        axes = place(figure, left=x, top=y, width=size, height=size)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(FAINT)
        points = shots.get(share)
        if points is None or not np.isfinite(points).any():
            axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes, fontsize=7.5, color=SOFT)
        elif is_image(points.shape[1]):
            side = 7 if size == _LARGE else 3  # an image is about as large in every panel
            axes.imshow(tiles(points, side=side), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        else:
            _draw_plane(axes, points, centres, limit, large=size == _LARGE)
        axes.set_title(
            "100 % of the budget" if share == 1 else f"{100 * share:.0f} %",
            fontsize=6.8,
            color=SOFT,
            loc="left",
            pad=1.5,
        )


def is_image(dimensions: int) -> bool:
    """Whether a flat sample is drawn as a square image, grey or of three colours."""
    return _image_layout(dimensions) is not None


def _image_layout(dimensions: int) -> tuple[int, int] | None:
    """Channels (1 or 3) and side of the square images that have so many numbers; None when there are none."""
    for channels in (1, 3):
        edge = math.isqrt(dimensions // channels)
        if edge >= 4 and channels * edge**2 == dimensions:
            return channels, edge
    return None


def tiles(points: np.ndarray, *, side: int) -> np.ndarray:
    """The first side x side images of [n, d] as one picture: -1 is paper, 1 is ink, a light line between them.

    Images of three colours make a picture [h, w, 3] from 0 (dark) to 1 (bright).
    """
    layout = _image_layout(points.shape[1])
    assert layout is not None, f"samples of {points.shape[1]} numbers are no square images"
    channels, edge = layout
    size = side * (edge + 1) - 1
    picture = np.full((channels, size, size), GUTTER if channels == 1 else -GUTTER)
    for i, image in enumerate(points[: side * side]):
        y, x = (i // side) * (edge + 1), (i % side) * (edge + 1)
        square = np.nan_to_num(image, nan=-1.0).clip(-1, 1).reshape(channels, edge, edge)
        picture[:, y : y + edge, x : x + edge] = square
    return picture[0] if channels == 1 else np.moveaxis((picture + 1) / 2, 0, -1)


def _draw_plane(axes: Axes, points: np.ndarray, centres: np.ndarray | None, limit: float, *, large: bool) -> None:
    if centres is not None:
        axes.plot(centres[:, 0], centres[:, 1], "+", color="#d55e00", markersize=6 if large else 4, markeredgewidth=0.9)
    flat = np.pad(points, ((0, 0), (0, 1)))[:, :2] if points.shape[1] == 1 else points[:, :2]
    inside = np.isfinite(flat).all(axis=1) & (np.abs(flat) <= limit).all(axis=1)
    size = 3.4 if large else 2.2
    axes.plot(flat[inside, 0], flat[inside, 1], ".", color="#0b5c8a", markersize=size, alpha=0.55, markeredgewidth=0)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    if (~inside).any():
        text = f"{int((~inside).sum())}/{len(flat)} outside"
        axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.2, color=INK)


def plane_limit(samples: Mapping[str, Mapping[float, np.ndarray]], centres: np.ndarray | None) -> float:
    """Half the side of the drawn square: a half more than the outermost mode, else what holds 98 % of the samples."""
    if centres is not None and len(centres):
        return 1.5 * float(np.abs(centres).max() or 1.0)
    ends = [np.abs(points[np.isfinite(points)]) for shots in samples.values() for points in shots.values()]
    values = np.concatenate(ends) if ends else np.zeros(0)
    return float(np.quantile(values, 0.98)) * 1.3 or 1.0 if len(values) else 1.0


def snapshots(samples: pd.DataFrame, example: Mapping[Any, Any]) -> dict[float, np.ndarray]:
    """Kept samples of one example by share of its horizon (0 to 1 in quarters), each [n, d], to four decimals."""
    if samples.empty:
        return {}
    same = samples["configuration_key"] == example["configuration_key"]
    own = samples[same & (samples["replicate"] == example["replicate"])]
    shots: dict[float, np.ndarray] = {}
    for step, rows in own.groupby("generator_step"):
        share = min(SHARES, key=lambda s: abs(s * float(str(example["horizon"])) - float(str(step))))
        ordered = rows.sort_values("sample", kind="stable")["x"]
        shots[share] = np.round(np.stack([np.asarray(x, dtype=float) for x in ordered]), 4)
    return shots


def _number(mapping: Mapping[str, object], name: str, default: float) -> float:
    return float(str(mapping.get(name, default)))


def mode_centres(target: Mapping[str, object]) -> np.ndarray | None:
    """Centres [M, 2] of the ring's or the grid's modes; None for other targets."""
    if target.get("name") == "ring":
        angles = 2 * np.pi * np.arange(int(_number(target, "modes", 8))) / int(_number(target, "modes", 8))
        return _number(target, "radius", 2.0) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if target.get("name") == "grid":
        side = int(_number(target, "side", 5))
        line = (np.arange(side) - (side - 1) / 2) * _number(target, "spacing", 2.0)
        return np.stack([part.ravel() for part in np.meshgrid(line, line)], axis=1)
    return None
