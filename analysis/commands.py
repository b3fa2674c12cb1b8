"""Commands that would answer what is still open: more seeds, more learning rates, another kind of study."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.frames import StudyFrames
from analysis.wording import rate_text


def _study(frames: StudyFrames) -> str:
    """The study's name for a command line; "" where the runs came from a table, which no command extends."""
    return shlex.quote(frames.study) if frames.plan.get("configurations") else ""


def seeds_command(frames: StudyFrames, more: int) -> str:
    """``ganstudy extend STUDY --replicates TOTAL``: ``more`` replicates for every setting beside those planned."""
    name, runs = _study(frames), frames.explored.runs
    if not name or not len(runs):
        return ""
    planned = int(runs.groupby(["loss", "configuration_key"])["replicate"].size().max())
    return f"ganstudy extend {name} --replicates {planned + more}"


def most_seeds(contrasts: pd.DataFrame) -> int:
    """The largest number of seeds that any pair needs; 0 where none is known."""
    needed = contrasts["seeds_needed"].dropna()
    return int(needed.max()) if len(needed) else 0


def rates_command(frames: StudyFrames, rates: Sequence[float]) -> str:
    """``ganstudy extend STUDY --learning-rates 1e-5,3e-2``."""
    name = _study(frames)
    return f"ganstudy extend {name} --learning-rates {','.join(map(rate_text, rates))}" if name and rates else ""


def rates_beyond(frames: StudyFrames, ends: Sequence[str]) -> list[float]:
    """The next learning rate beyond each named end (low, high) of a grid: one more step of its own spacing.

    None where settings were drawn, or the players have rates of their own.
    """
    runs = frames.explored.runs
    search = frames.spec.get("search")
    gridded = not (isinstance(search, dict) and search.get("method", "grid") != "grid")
    if "learning_rate" not in runs or not gridded:
        return []
    rates = sorted(set(runs["learning_rate"].dropna().astype(float)))
    if len(rates) < 2:
        return []
    steps = {"low": (rates[0], rates[1]), "high": (rates[-1], rates[-2])}
    beyond = [outer * outer / inner for end, (outer, inner) in steps.items() if end in ends]
    return [float(f"{rate:.2g}") for rate in beyond if math.isfinite(rate) and rate > 0]


def open_ends(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """The ends of the learning rates (low, high) that the success of some loss reaches at its best k.

    ``tables`` holds ``losses`` and the profile's ``edges``; without those no end is known.
    """
    losses, edges = tables["losses"], tables.get("edges", pd.DataFrame())
    best = losses.loc[losses["lr_decades_lower_bound"].astype(bool), ["loss", "lr_decades_k"]]
    if not len(edges) or not len(best):
        return []
    told = edges.merge(best, on="loss")
    at_best = (told["k"] == told["lr_decades_k"]) | (told["k"].isna() & told["lr_decades_k"].isna())
    found = set(told.loc[at_best & told["open"].astype(bool), "edge"])
    return [end for end in ("low", "high") if end in found]
