"""Which cells of two studies are the same setting, and each loss's arms over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.arms import Arm
from analysis.compare import arms, unstable_arms
from analysis.frames import StudyFrames
from analysis.weights import Target, inference_target, is_drawn, weights

ALL, COMMON, OWN = "all cells", "common cells", "own cells"
"""What a difference is over: matched cells, all of them or those in both; or each study's own, where none matches."""

Pair = tuple[StudyFrames, StudyFrames]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """One loss in both studies: the arms for success and for unstable, and what they are over."""

    success: tuple[Arm, Arm]
    unstable: tuple[Arm, Arm]
    targets: tuple[Target, Target]
    over: str

    @property
    def in_strata(self) -> bool:
        """Whether cells were matched on fixed grids, so that tests may condition on them."""
        return self.over != OWN and self.targets == ("grid", "grid")


def spanning_factors(pair: Pair) -> list[str]:
    """Factors that take more than one value within a label of either study: what spans the grid."""
    return list(dict.fromkeys(name for frames in pair for name in frames.varying_factors()))


def cell_ids(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """One text per row, equal for matched cells."""
    columns = [[_value(value) for value in table[name]] if name in table else [""] * len(table) for name in names]
    return [
        " ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
        for row in (zip(*columns, strict=True) if columns else [()] * len(table))
    ]


def _value(value: object) -> str:
    if isinstance(value, int | float | np.number):
        return "" if math.isnan(value) else f"{float(value):.12g}"
    return "" if value is None or value is pd.NA else str(value)


def match_cells(pair: Pair, label: str, varying: Sequence[str]) -> Matched:
    """A loss's arms over matched cells: all where the grids agree, else the common ones, else each study's own."""
    ids = [set(cell_ids(own_rows(frames, label), varying)) for frames in pair]
    common = ids[0] & ids[1]
    over = ALL if ids[0] == ids[1] else COMMON if common and not any(map(is_drawn, pair)) else OWN
    used = pair if over != COMMON else tuple(_restricted(frames, label, common, varying) for frames in pair)
    success = [arms(frames)[label] for frames in used]
    unstable = [unstable_arms(frames)[label] for frames in used]
    if over != OWN:
        strata = [_strata(frames, label, varying) for frames in used]
        success = [replace(arm, strata=names) for arm, names in zip(success, strata, strict=True)]
    return Matched(
        success=(success[0], success[1]),
        unstable=(unstable[0], unstable[1]),
        targets=(inference_target(pair[0]), inference_target(pair[1])),
        over=over,
    )


def own_rows(frames: StudyFrames, label: str) -> pd.DataFrame:
    """The runs of one loss."""
    return frames.runs[frames.runs["loss"] == label]


def _restricted(frames: StudyFrames, label: str, cells: set[str], varying: Sequence[str]) -> StudyFrames:
    """The study with nothing but some cells of one loss, so that their weights are those of a grid of their own."""
    own = own_rows(frames, label)
    kept = [cell in cells for cell in cell_ids(own, varying)]
    return replace(frames, runs=own[kept].reset_index(drop=True))


def _strata(frames: StudyFrames, label: str, varying: Sequence[str]) -> tuple[str, ...]:
    """The ids of an arm's cells in its order; a cell that nobody planned matches none."""
    design = weights(frames)
    own = design[design["loss"] == label]
    ids = cell_ids(own, varying)
    return tuple(name if key else f"{name} missing" for name, key in zip(ids, own["configuration_key"], strict=True))
