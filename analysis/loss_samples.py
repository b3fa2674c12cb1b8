"""The last samples of single replicates as small pictures: points in the plane, image tiles, Dirac-GAN paths."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures_samples import is_image, mode_centres, tiles
from analysis.frames import StudyFrames
from analysis.replay_pictures import png
from analysis.wording import mapping

MOST_PICTURED = 12
"""Replicates of one cell whose samples are shown: the first ones, whatever became of them."""
SIDE = 200
"""Of a picture of the plane, in its own units."""
TILES = 4
MOST_POINTS = 256

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Last:
    """The newest kept samples [n, d] of one replicate."""

    generator_step: int
    points: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """``kind``: plane (``data`` is SVG path data), images (``data`` is a PNG's address) or none."""

    kind: str
    data: str = ""
    generator_step: int = 0
    early: bool = False
    count: int = 0
    outside: int = 0

    @property
    def remark(self) -> str:
        """What the picture does not show by itself: how many points lie outside, and whether the run ended early."""
        early = f"at step {self.generator_step:,}" if self.early else ""
        outside = f"{self.outside} of {self.count} outside" if self.outside else ""
        return ", ".join(part for part in (early, outside) if part)


def last_samples(frames: StudyFrames, runs: pd.DataFrame) -> dict[Key, Last]:
    """The newest kept samples of these replicates, one configuration after the other."""
    found: dict[Key, Last] = {}
    groups = runs.groupby("configuration_key", sort=False)["replicate"]
    wanted = {str(key): [int(replicate) for replicate in own] for key, own in groups}
    for key, kept in zip(wanted, frames.last_samples(wanted), strict=True):
        if not len(kept):
            continue
        rows = kept.sort_values(["replicate", "sample"], kind="stable")
        points, steps = np.stack(rows["x"].tolist()).astype(np.float64), rows["generator_step"].to_numpy()
        replicates, first = np.unique(rows["replicate"].to_numpy(), return_index=True)
        for replicate, start, end in zip(replicates, first, [*first[1:], len(rows)], strict=True):
            last = Last(generator_step=int(steps[start]), points=points[start : min(end, start + MOST_POINTS)])
            found[key, int(replicate)] = last
    return found


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The square in which samples are drawn: ``limit`` each way from the origin; ``centres`` of the modes [M, 2]."""

    limit: float
    centres: NDArray[np.float64] | None

    def places(self, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
        """Distinct places of the points [n, d] in whole units, and how many lie outside or are not finite."""
        flat = np.pad(points, ((0, 0), (0, 1)))[:, :2] if points.shape[1] == 1 else points[:, :2]
        inside = np.isfinite(flat).all(axis=1) & (np.abs(flat) <= self.limit).all(axis=1)
        placed = SIDE / 2 * (1 + flat[inside] / self.limit * np.array([1, -1]))
        return np.unique(np.rint(placed).astype(np.int64), axis=0), int((~inside).sum())

    @property
    def crosses(self) -> str:
        """SVG path data of the modes' centres; empty where there are none."""
        if self.centres is None:
            return ""
        return "".join(f"M{x - 5} {y}h10M{x} {y - 5}v10" for x, y in self.places(self.centres)[0].tolist())


def plane_of(frames: StudyFrames, samples: Iterable[Last]) -> Plane:
    """A half more than the outermost mode, else what holds 98 % of these samples and a little more."""
    centres = mode_centres(mapping(frames.spec.get("target")))
    if centres is not None and len(centres):
        return Plane(limit=1.5 * float(np.abs(centres).max() or 1.0), centres=centres)
    ends = [np.abs(last.points[np.isfinite(last.points)]) for last in samples]
    values = np.concatenate(ends) if ends else np.zeros(0)
    return Plane(limit=(float(np.quantile(values, 0.98)) * 1.3 or 1.0) if len(values) else 1.0, centres=None)


def picture(last: Last | None, plane: Plane, *, horizon: float) -> Picture:
    """What is shown of one replicate's last samples, in a study whose runs go on to ``horizon``."""
    if last is None or not np.isfinite(last.points).any():
        return Picture(kind="none")
    step = last.generator_step
    facts: dict[str, Any] = {"generator_step": step, "early": step < horizon, "count": len(last.points)}
    if is_image(last.points.shape[1]):
        return Picture(kind="images", data=_tiles_address(last.points), **facts)
    if last.points.shape[1] > 2:
        return Picture(kind="none")
    places, outside = plane.places(last.points)
    return Picture(kind="plane", data=dots(places.tolist()), outside=outside, **facts)


def dots(places: Sequence[Sequence[int]]) -> str:
    """SVG path data that a round pen makes one dot each of."""
    return "".join(f"M{x} {y}h0" for x, y in places)


def _tiles_address(points: NDArray[np.float64]) -> str:
    side = min(TILES, math.isqrt(len(points)))
    drawn = tiles(points[: side * side], side=side)
    grey = drawn.ndim == 2
    shades = np.rint((1 - drawn) * 127.5 if grey else drawn * 255).astype(np.uint8)
    pixels = np.repeat(shades[..., None], 3, axis=-1) if grey else shades
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def orbit_pictures(frames: StudyFrames, rows: Mapping[Key, NDArray[np.intp]]) -> tuple[dict[Key, Picture], float]:
    """The path of (theta, psi) of each of these replicates of the Dirac-GAN, all in one square, and half its side."""
    names = ["generator_parameter", "discriminator_parameter"]
    if any(name not in frames.curves for name in names):
        return {}, 1.0
    both = frames.curves[names].to_numpy(dtype=np.float64, na_value=math.nan)
    paths = {key: own[np.isfinite(own).all(axis=1)] for key, at in rows.items() if len(own := both[at])}
    reach = [float(np.abs(path).max()) for path in paths.values() if len(path)]
    limit = 1.1 * max([1e-30, *(min(r, 100 * min(reach)) for r in reach)])
    return {key: _orbit(path, limit) for key, path in paths.items() if len(path)}, limit


def _orbit(path: NDArray[np.float64], limit: float) -> Picture:
    inside = path[(np.abs(path) <= limit).all(axis=1)]
    placed = np.rint(SIDE / 2 * (1 + inside / limit * np.array([1, -1]))).astype(np.int64).tolist()
    steps = [place for i, place in enumerate(placed) if not i or place != placed[i - 1]]
    line = "M" + "L".join(f"{x} {y}" for x, y in steps) if steps else ""
    return Picture(kind="orbit", data=line + "h0" * (len(steps) == 1), count=len(path), outside=len(path) - len(inside))
