"""The cells of a loss's page: for each its replicates' endings, curves, last samples and commands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.dirac_cells import is_dirac
from analysis.figures import PARTIAL_INK, segment_look
from analysis.figures_cells import cell_of
from analysis.figures_style import OUTCOMES, PARTIAL
from analysis.frames import StudyFrames
from analysis.loss_curves import Curves
from analysis.loss_facts import setting_text
from analysis.loss_samples import (
    MOST_PICTURED,
    Key,
    Picture,
    Plane,
    last_samples,
    orbit_pictures,
    picture,
    plane_of,
)
from analysis.report_examples import replay_command
from analysis.wording import number_text, percent_range, rate_text, shown

MOST_CURVES = 40
"""Replicates of one cell whose curves are drawn: the first ones, whatever became of them."""
MOST_LISTED = 4000
"""Beyond so many runs of a loss its cells list as many replicates as they draw; runs.csv holds them all."""

RUN_COLUMNS = ("configuration_key", "replicate", "seed", "outcome", "kind", "t_event", "margin")

Row = Mapping[Any, Any]
NO_ROWS: NDArray[np.intp] = np.zeros(0, dtype=np.intp)


@dataclass(frozen=True, kw_only=True)
class LossCells:
    """One loss: ``cells`` are its rows of the phase diagrams' table, numbered as there; ``runs`` its runs by cell."""

    frames: StudyFrames
    cells: pd.DataFrame
    runs: pd.DataFrame
    curves: Curves


def cell_numbers(frames: StudyFrames, cells: pd.DataFrame) -> NDArray[np.int64]:
    """For every run the number of its cell: its row in the phase diagrams' table."""
    names = ["loss", "k", "learning_rate"]
    numbered = cells[names].assign(number=np.arange(len(cells)))
    found = cell_of(frames.runs)[names].merge(numbered, on=names, how="left")["number"]
    return found.to_numpy(dtype=np.int64)


def counted_cells(cells: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The cells with one column per outcome and ``partial_collapse``: how many of their runs ended so."""
    kinds = runs["kind"].fillna("") if "kind" in runs else pd.Series("", runs.index)
    flags = {name: runs["outcome"] == name for name in OUTCOMES if name != "converged"}
    flags[PARTIAL] = (runs["outcome"] == "plateau") & (kinds == PARTIAL)
    counts = pd.DataFrame(flags).astype(np.int64).groupby(runs["cell"].to_numpy()).sum()
    return cells.join(counts.reindex(cells.index, fill_value=0))


def cell_table(cells: pd.DataFrame, runs: pd.DataFrame, zones: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per cell: how its runs ended, with kinds, and the zone of its learning rate where one is known."""
    known = {(_id(z["k"]), _id(z["learning_rate"])): z["zone"].replace("_", " ") for z in zones.to_dict("records")}
    by_cell = dict(iter(runs.groupby("cell")))
    return [
        {
            "number": number,
            "k": number_text(row["k"]),
            "rate": rate_text(row["learning_rate"]),
            "setting": setting_text(row),
            "share": f"{int(row['converged'])}/{int(row['judged'])}",
            "order": -1.0 if math.isnan(row["share"]) else row["share"],
            "range": "" if math.isnan(row["share"]) else percent_range(row["low"], row["high"]),
            "undecided": bool(row["undecided"]),
            "zone": known.get((_id(row["k"]), _id(row["learning_rate"])), ""),
            "endings": endings_text(own) if (own := by_cell.get(number)) is not None else "",
            "stack": stack(row),
        }
        for number, row in zip(cells.index, cells.to_dict("records"), strict=True)
    ]


def endings_text(runs: pd.DataFrame) -> str:
    """How the runs of a cell ended, in report order: 3 converged, 2 plateau (partial collapse)."""
    kinds = runs["kind"] if "kind" in runs else [""] * len(runs)
    count = Counter((str(o), k if isinstance(k, str) else "") for o, k in zip(runs["outcome"], kinds, strict=True))
    order = list(OUTCOMES)
    ranked = sorted(count, key=lambda found: (order.index(found[0]), -count[found], found[1]))
    told = (f"{count[o, k]} {OUTCOMES[o].word}" + (f" ({_kind(k)})" if k else "") for o, k in ranked)
    return ", ".join(text.replace(" ", "\u00a0") for text in told)


def _kind(kind: str) -> str:
    return shown(kind).replace("_", " ")


def _id(value: float) -> str:
    return f"{value:.12g}"


def stack(row: Row) -> list[dict[str, Any]]:
    """Segments of a cell's outcome bar in per cent of its planned runs, partial collapses apart."""
    counts = {name: int(row[name]) for name in OUTCOMES}
    counts["plateau"] -= int(row[PARTIAL])
    ordered = [(name, counts[name]) for name in OUTCOMES]
    ordered.insert(list(OUTCOMES).index("plateau") + 1, (PARTIAL, int(row[PARTIAL])))
    whole, start, segments = max(int(row["planned"]), 1), 0, []
    for name, count in ordered:
        if count:
            colour, _, word = segment_look(name)
            at, width = round(100 * start / whole, 2), round(100 * count / whole, 2)
            title = f"{count} {word}"
            segments.append({"x": at, "width": width, "colour": colour, "hatch": name == PARTIAL, "title": title})
            start += count
    return segments


def cell_blocks(loss: LossCells) -> Iterator[dict[str, Any]]:
    """For every cell, in the table's order, its charts, its replicates, and their last samples."""
    listed = math.inf if len(loss.runs) <= MOST_LISTED else MOST_CURVES
    by_cell = dict(iter(loss.runs.groupby("cell")))
    replayable = bool(loss.frames.plan.get("cohorts"))
    horizon = loss.curves.horizon(loss.runs) if loss.curves.panels else 1.0
    pictures, plane = _pictures(loss, by_cell, horizon)
    for number, row in zip(loss.cells.index, loss.cells.to_dict("records"), strict=True):
        own = by_cell.get(number, loss.runs.iloc[:0])
        runs = _replicates(loss, own.iloc[: int(min(listed, len(own)))], pictures, horizon, replayable=replayable)
        yield {
            "number": number,
            "setting": setting_text(row),
            "share": f"{int(row['converged'])} of {int(row['judged'])} converged",
            "range": "" if math.isnan(row["share"]) else percent_range(row["low"], row["high"]),
            "judged": int(row["judged"]),
            "undecided": bool(row["undecided"]),
            "endings": endings_text(own),
            "stack": stack(row),
            "runs": runs,
            "drawn": [run for run in runs if run["paths"]],
            "pictured": [run for run in runs if run["picture"] is not None],
            "planned": len(own),
            "horizon": f"{horizon:,.0f}",
            "plane": plane,
            "replayable": replayable,
        }


def _pictures(loss: LossCells, by_cell: Mapping[Any, pd.DataFrame], horizon: float) -> tuple[dict[Key, Picture], Plane]:
    """A picture for each of the first replicates of every cell; none where nothing of the study was recorded."""
    plane = Plane(limit=1.0, centres=None)
    first = [own.iloc[:MOST_PICTURED] for own in by_cell.values()]
    if not loss.curves.panels or not first:
        return {}, plane
    chosen = pd.concat(first)
    keys = [(str(k), int(r)) for k, r in zip(chosen["configuration_key"], chosen["replicate"], strict=True)]
    if is_dirac(loss.frames):
        drawn, limit = orbit_pictures(loss.frames, {key: loss.curves.rows(*key) for key in keys})
        return drawn, Plane(limit=limit, centres=None)
    samples = last_samples(loss.frames, chosen)
    if not samples:
        return {}, plane
    plane = plane_of(loss.frames, samples.values())
    return {key: picture(samples.get(key), plane, horizon=horizon) for key in keys}, plane


def _replicates(
    loss: LossCells, own: pd.DataFrame, pictures: Mapping[Key, Picture], horizon: float, *, replayable: bool
) -> list[dict[str, Any]]:
    settings = _other_factors(loss.frames, own)
    rows = []
    for place, run in enumerate(own[[name for name in RUN_COLUMNS if name in own]].to_dict("records")):
        key = (str(run["configuration_key"]), int(run["replicate"]))
        at = loss.curves.rows(*key) if loss.curves.panels and place < MOST_CURVES else NO_ROWS
        panels = loss.curves.panels if len(at) else ()
        told = described(run, settings.get(key[0], ""))
        rows.append(
            told
            | {
                "paths": [loss.curves.path(panel, at, horizon=horizon) for panel in panels],
                "deaths": [loss.curves.death(panel, at, horizon=horizon) for panel in panels],
                "picture": pictures.get(key) if place < MOST_PICTURED else None,
                "command": replay_command(loss.frames.study, run) if replayable else "",
            }
        )
    return rows


def _other_factors(frames: StudyFrames, own: pd.DataFrame) -> dict[str, str]:
    """Configuration -> the factors in which the configurations of one cell differ; empty where there is only one."""
    each = own.drop_duplicates("configuration_key")
    if len(each) < 2:
        return {}
    names = [name for name in frames.factors() if name in each and each[name].nunique(dropna=False) > 1]
    return {
        str(row["configuration_key"]): ", ".join(f"{shown(n).replace('_', ' ')} {_factor(n, row[n])}" for n in names)
        for row in each.to_dict("records")
    }


def _factor(name: str, value: Any) -> str:
    return rate_text(value) if name.endswith("learning_rate") else number_text(value)


def described(run: Row, setting: str) -> dict[str, Any]:
    """One replicate in words: number, outcome, kind, event, margin, seed; ``title`` says all of it in a line."""
    look = OUTCOMES.get(str(run["outcome"]))
    word = look.word if look else shown(run["outcome"])
    kind = _kind(run["kind"]) if isinstance(run.get("kind"), str) else ""
    partial = str(run["outcome"]) == "plateau" and run.get("kind") == PARTIAL
    event, margin = _number(run.get("t_event")), _number(run.get("margin"))
    seed = _seed(run.get("seed"))
    name = ", ".join(part for part in (f"replicate {int(run['replicate'])}", setting) if part)
    known = [
        f"seed {seed}" if seed else "",
        f"event at step {event:,.0f}" if math.isfinite(event) else "",
        f"margin {margin_text(margin)}" if math.isfinite(margin) else "",
    ]
    ending = f"{word} ({kind})" if kind else word
    return {
        "replicate": int(run["replicate"]),
        "setting": setting,
        "key": shown(run["configuration_key"]),
        "word": word,
        "kind": kind,
        "colour": look.colour if look else "#ffffff",
        "partial": partial,
        "ink": PARTIAL_INK if partial else look.colour if look else "#000000",
        "seed": seed,
        "event": f"{event:,.0f}" if math.isfinite(event) else "",
        "event_order": event if math.isfinite(event) else "",
        "margin": margin_text(margin) if math.isfinite(margin) else "",
        "title": f"{name}: {', '.join([ending, *(part for part in known if part)])}",
    }


def margin_text(margin: float) -> str:
    """The smallest relative change of a threshold that gives another outcome."""
    return "under 0.001" if margin < 0.001 else f"{margin:.2g}"


def _number(value: Any) -> float:
    return float(value) if _known(value) else math.nan


def _seed(value: Any) -> str:
    """A seed in full: it is an integer of up to 64 bits, which no float holds."""
    return str(int(value)) if _known(value) else ""


def _known(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not math.isnan(value)
