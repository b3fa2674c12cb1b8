"""Commands that would answer what is still open: more seeds, more learning rates, another kind of study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.estimators import Floats
from analysis.frames import StudyFrames
from analysis.wording import mapping, rate_text


def _study(frames: StudyFrames) -> str:
    """The study's name for a command line; "" where the runs came from a table, which no command extends."""
    return shlex.quote(frames.study) if frames.plan.get("configurations") else ""


def _unstopped(frames: StudyFrames) -> bool:
    """Whether no scheduler stopped settings: more seeds or cells would be compared with fewer steps of others."""
    return str(mapping(frames.spec.get("scheduler")).get("name", "none")) == "none"


def seeds_command(frames: StudyFrames, more: int) -> str:
    """``ganstudy extend STUDY --replicates TOTAL``: ``more`` replicates for every setting beside those planned.

    "" where no command would add them: the runs came from a table, or the search ended when a setting was confirmed.
    """
    name, runs = _study(frames), frames.explored.runs
    if not name or not len(runs) or frames.spec.get("protocol") or not _unstopped(frames):
        return ""
    planned = int(runs.groupby(["loss", "configuration_key"])["replicate"].size().max())
    return f"ganstudy extend {name} --replicates {planned + more}"


def fresh_command(frames: StudyFrames, more: int) -> str:
    """``ganstudy extend STUDY --replicates TOTAL`` of a study with a protocol: TOTAL fresh seeds of each confirmed
    setting, ``more`` beside those planned."""
    name, fresh = _study(frames), frames.confirmed
    if not name or not len(fresh) or not frames.spec.get("protocol"):
        return ""
    planned = int(fresh.groupby(["loss", "configuration_key"])["replicate"].size().max())
    return f"ganstudy extend {name} --replicates {planned + more}"


def most_seeds(contrasts: pd.DataFrame) -> int:
    """The largest number of seeds that any pair needs; 0 where none is known."""
    needed = contrasts["seeds_needed"].dropna()
    return int(needed.max()) if len(needed) else 0


def widening(frames: StudyFrames, ends: Sequence[str]) -> str:
    """What looks beyond the named ends (low, high) of the learning rates, as a clause; "" where that is not known.

    A finished grid is extended by one more step of its own spacing; where settings were drawn, stopped or confirmed a
    wider search is a new study, and the clause says which learning rates it has.
    """
    runs, name = frames.explored.runs, _study(frames)
    rates = sorted(set(runs["learning_rate"].dropna().astype(float))) if "learning_rate" in runs else []
    if len(rates) < 2 or not ends or not name:
        return ""
    method = mapping(frames.spec.get("search")).get("method", "grid")
    if method != "grid":
        low, high = declared_range(frames, "learning_rate", np.array(rates))
        wider = low / 10 if "low" in ends else low, high * 10 if "high" in ends else high
        line = f"learning_rate: {{low: {rate_text(wider[0])}, high: {rate_text(wider[1])}, scale: log}}"
        return f"a new study with `{line}` would tell"
    beyond = [_next(rates, end) for end in ends]
    if frames.spec.get("protocol") or not _unstopped(frames):
        listed = ", ".join(map(rate_text, sorted([*rates, *beyond])))
        return f"a new study with `learning_rate: [{listed}]` would tell"
    return f"`ganstudy extend {name} --learning-rates {','.join(map(rate_text, beyond))}` widens it"


def _next(rates: Sequence[float], end: str) -> float:
    """One more step of the grid's own spacing beyond an end."""
    outer, inner = (rates[0], rates[1]) if end == "low" else (rates[-1], rates[-2])
    return float(f"{outer * outer / inner:.2g}")


def declared_range(frames: StudyFrames, name: str, levels: Floats) -> tuple[float, float]:
    """The range that the study file declares for a factor; where it lists values, their ends (``levels`` ascending)."""
    for section in ("nuisance", "scientific"):
        found = mapping(mapping(frames.spec.get(section)).get(name))
        if {"low", "high"} <= found.keys():
            low, high = float(found["low"]), float(found["high"])
            if low <= levels[0] and levels[-1] <= high:
                return low, high
    return float(levels[0]), float(levels[-1])


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
