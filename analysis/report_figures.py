"""The report's figures with their captions and the tables they are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.compare import DELTA, ENDINGS, by_success
from analysis.dirac_cells import is_dirac, oracle_table
from analysis.drawn import Drawn
from analysis.figures import forest, outcome_bars, outcome_table
from analysis.figures_cells import phase_table, rate_factor
from analysis.figures_dirac import boundary_figure
from analysis.figures_phase import phase_diagrams
from analysis.figures_response import response_figure
from analysis.frames import StudyFrames
from analysis.refusals import ADAPTIVE, PRUNED, refusal
from analysis.report_dirac import boundary_caption
from analysis.report_examples import examples_of, orbits_of
from analysis.report_text import DIFFERENCES, INTERVALS, TARGETS, phase_words, weights_words

Tables = Mapping[str, pd.DataFrame]


def draw_all(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """Every figure of the report, in its order; each is drawn when it is asked for, so that one is held at a time."""
    losses, target = tables["losses"], _target(tables["losses"])
    if is_dirac(frames):
        yield _boundary(frames)
    refused = refusal(frames, losses)
    yield _outcomes(frames, counted_shares(tables["cells"], losses) if refused else losses, target, refused)
    cells = phase_table(frames.runs, by_success(losses))
    rate_name = (rate_factor(frames.runs) or "learning_rate").replace("_", " ")
    yield _phases(cells, rate_name)
    yield _response(cells, losses, rate_name)
    if not refused:
        yield _pairwise(frames, tables["contrasts"], target)
    yield from (orbits_of(frames) if is_dirac(frames) else examples_of(frames))


def _boundary(frames: StudyFrames) -> Drawn:
    cells = oracle_table(frames)
    return Drawn(
        name="dirac_boundary",
        figure=boundary_figure(cells),
        tables={"dirac_boundary": cells},
        alt="Measured outcomes over learning rate and penalty weight, with the exact boundary of stability",
        caption=boundary_caption(frames, cells),
    )


def _target(losses: pd.DataFrame) -> str:
    return str(losses["target"].iloc[0]) if len(losses) else "grid"


def _outcomes(frames: StudyFrames, losses: pd.DataFrame, target: str, refused: str) -> Drawn:
    shares = outcome_table(losses.set_index("loss").loc[by_success(losses)].reset_index())
    used, planned = int(losses["runs_used"].sum()), int(losses["runs_planned"].sum())
    counts = f"n = {used} judged of {planned} planned runs."
    weighted = (
        f"How runs end, as weighted shares ({weights_words(frames, target)}). The whisker under a bar is the 95 % "
        f"interval of the converged share ({INTERVALS[target]}). "
    )
    return Drawn(
        name="outcome_bars",
        figure=outcome_bars(shares),
        tables={"outcome_bars": shares},
        alt="Stacked bars of outcome shares, one per loss",
        caption=ENDED[refused] + counts if refused else weighted + counts + f" Inference target: {TARGETS[target]}.",
    )


ENDED = {
    ADAPTIVE: (
        "How the runs of the search ended, each counting once: what an adaptive sampler tried, which says nothing "
        "about the space. "
    ),
    PRUNED: (
        "How the runs that nobody stopped ended, each counting once: which ones were stopped depends on how they did, "
        "so this says nothing about the space. "
    ),
}


def counted_shares(cells: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """``losses`` with the share of each ending among the runs that were judged, every run counting once."""
    used = cells.groupby("loss", sort=False)["used"].sum().reindex(losses["loss"]).to_numpy(dtype=float)
    names = [*ENDINGS, "partial_collapse"]
    counts = cells.groupby("loss", sort=False)[names].sum().reindex(losses["loss"])
    limits = {"success_low": math.nan, "success_high": math.nan}
    with np.errstate(invalid="ignore", divide="ignore"):
        return losses.assign(**limits, **{name: counts[name].to_numpy(dtype=float) / used for name in names})


def _phases(cells: pd.DataFrame, rate_name: str) -> Drawn:
    figure, hotspots = phase_diagrams(cells, rate_name=rate_name)
    return Drawn(
        name="phase_diagrams",
        figure=figure,
        tables={"phase_diagrams": cells},
        hotspots=hotspots,
        alt="Phase diagrams of the share of converged runs over learning rate and k, one panel per loss",
        caption=(
            "Where each loss works. Fill: share of judged runs that converged, written as converged/judged; below it "
            "the commonest other ending (slow = under-trained, partial = partial collapse). Hatched: the cell's 95 % "
            "Wilson interval holds one half, so the seeds do not say which way a run usually goes; "
            f"{phase_words(cells)}. "
            "Inference target: each cell by itself, uncertainty over seeds."
        ),
    )


def _response(cells: pd.DataFrame, losses: pd.DataFrame, rate_name: str) -> Drawn:
    return Drawn(
        name="learning_rate_response",
        figure=response_figure(cells, rate_name=rate_name, notes=decades_notes(losses)),
        tables={"learning_rate_response": cells},
        alt="Share of converged runs over the learning rate, one panel per loss and one line per k",
        caption=(
            "How wide the working range is. Bars: 95 % Wilson intervals of single cells, "
            f"{phase_words(cells)}; k is told apart by colour and marker. In the corner: decades of learning rate that "
            "work (the area under the best k's line). Inference target: each cell by itself, uncertainty over seeds."
        ),
    )


def decades_notes(losses: pd.DataFrame) -> dict[str, str]:
    """Label -> "1.25 of 2 decades", with a sign for lower bounds; nothing where there is one learning rate."""
    notes = {}
    for row in losses.to_dict("records"):
        if not math.isnan(row["lr_decades"]):
            sign = "≥ " if row["lr_decades_lower_bound"] else ""
            notes[str(row["loss"])] = f"{sign}{row['lr_decades']:.2f} of {row['span']:.2g} decades"
    return notes


def _pairwise(frames: StudyFrames, contrasts: pd.DataFrame, target: str) -> Drawn:
    used = int((~frames.runs["outcome"].isin(["failed", "censored"])).sum())
    return Drawn(
        name="pairwise",
        figure=forest(contrasts, delta=DELTA),
        tables={"pairwise": contrasts},
        alt="Forest plot of the differences in success between losses",
        caption=(
            "Differences of the success share, pairs in the study's order. Thick: 95 % interval; thin: simultaneous "
            f"over {len(contrasts)} pairs "
            f"({DIFFERENCES[target]}, Bonferroni); blue where the verdict has a winner. Grey band: differences below "
            f"the margin of {100 * DELTA:.0f} points. n = {used} judged runs. Inference target: {TARGETS[target]}."
        ),
    )
