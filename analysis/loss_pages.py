"""One page per loss: how it fails and where it breaks, and every cell of the map with its runs' curves and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from analysis import report_text as words
from analysis.compare import by_success
from analysis.dirac_cells import is_dirac
from analysis.figures import SHARE_ORDER, segment_look
from analysis.figures_style import OUTCOMES
from analysis.loss_cells import (
    MOST_CURVES,
    LossCells,
    cell_blocks,
    cell_numbers,
    cell_table,
    counted_cells,
)
from analysis.loss_curves import HEIGHT, LEFT, LOWER, RIGHT, UPPER, WIDTH, Curves
from analysis.loss_facts import endings, facts, first_sentence, own_warnings, rivals
from analysis.loss_map import phase_map
from analysis.loss_names import loss_slug, page_address
from analysis.loss_samples import MOST_PICTURED, SIDE
from analysis.page_input import PageInput
from analysis.page_rows import pair_commands
from analysis.pages import read_part, render_template
from analysis.refusals import refusal, refused_words
from analysis.report_tuned import tuned_rows
from analysis.wording import shown

CHART = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "upper": UPPER, "lower": LOWER}

_FILTERS: dict[str, Callable[..., Any]] = {
    "shown": lambda value, limit=400: shown(value, limit=limit),
    "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
}


def loss_pages(page: PageInput) -> Iterator[tuple[str, str]]:
    """File name and HTML text of every loss's page, best loss first; one page is held at a time."""
    if page.cells.empty:
        return
    css, script = read_part("report.css", "loss.css"), read_part("report.js", "loss.js")
    curves = Curves(page.frames)
    runs = page.frames.runs.assign(cell=cell_numbers(page.frames, page.cells))
    for label in by_success(page.tables["losses"]):
        context = _context(page, label, runs[runs["loss"].astype(str) == label], curves)
        text = render_template("loss.html.j2", css=css, script=script, filters=_FILTERS, **context)
        yield f"{loss_slug(label)}.html", text


def _context(page: PageInput, label: str, runs: pd.DataFrame, curves: Curves) -> dict[str, Any]:
    frames, tables = page.frames, page.tables
    cells = counted_cells(page.cells[page.cells["loss"] == label], runs)
    zones = tables["zones"][tables["zones"]["loss"] == label]
    loss = LossCells(frames=frames, cells=cells, runs=runs, curves=curves)
    warnings = own_warnings(page.ordered_warnings, label)
    return {
        "study": frames.study,
        "label": label,
        "blocked": page.blocked,
        "interim": frames.interim,
        "sentence_first": _first_sentence(page, label),
        "entry": words.loss_rows(runs, [label])[0],
        "map": phase_map(cells),
        "facts": facts(tables, label, cells, runs),
        "endings": endings(runs),
        "cells": cell_table(cells, runs, zones),
        "blocks": cell_blocks(loss),
        "rivals": [] if refusal(frames, tables["losses"]) else rivals(tables["contrasts"], label),
        "commands": pair_commands(frames, _of(tables["contrasts"], label)),
        "others": [(other, page_address(other).split("/")[1]) for other in by_success(tables["losses"])],
        "warnings": warnings,
        "more_warnings": len(page.warnings) - len(warnings),
        "panels": curves.panels,
        "dirac": is_dirac(frames),
        "chart": CHART,
        "side": SIDE,
        "most_curves": MOST_CURVES,
        "most_pictured": MOST_PICTURED,
        "segments": [(name, *segment_look(name)) for name in [*SHARE_ORDER, *_unused(runs)]],
    }


def _first_sentence(page: PageInput, label: str) -> str:
    """Success and place of a loss; where the design forbids a share over the space, that and its tuned success."""
    losses = page.tables["losses"]
    reason = refusal(page.frames, losses)
    if not reason or not int(losses.loc[losses["loss"] == label, "runs_used"].iloc[0]):
        return first_sentence(page.tables, label)
    tuned = [row for row in tuned_rows(page.tables) if row["loss"] == label]
    told = [f"At {row['setting']} {row['runs']} fresh runs end well ({row['tuned']['range']})." for row in tuned]
    return " ".join([*told, refused_words(reason)])


def _of(contrasts: pd.DataFrame, label: str) -> pd.DataFrame:
    return contrasts[(contrasts["loss_a"] == label) | (contrasts["loss_b"] == label)]


def _unused(runs: pd.DataFrame) -> list[str]:
    """Outcomes outside the denominator that this loss's runs have."""
    present = set(runs["outcome"])
    return [name for name in OUTCOMES if name in present and name not in SHARE_ORDER]
