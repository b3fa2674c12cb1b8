"""The loss-stability report: every table, figure and file of a study, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.choices import CHOICES, choice_tables
from analysis.compare import ALPHA, DELTA, cells_table, contrasts_table, headline, losses_table, warnings_list
from analysis.confirmed import TUNED_FILES, tuned_tables, with_tuned
from analysis.dirac_cells import is_dirac
from analysis.drawn import Drawn
from analysis.files import csv_text, json_text, replaced_folder, write_manifest, write_parquet, write_text
from analysis.frames import StudyFrames
from analysis.loss_names import FOLDER
from analysis.loss_pages import loss_pages
from analysis.page_input import SEVERITIES, PageFigure, PageInput
from analysis.profile import PROFILE_FILES, stability_profile, with_superiority
from analysis.report_figures import draw_all
from analysis.report_markdown import markdown
from analysis.report_page import render
from analysis.report_profile import draw_profile
from analysis.report_text import flow, question
from analysis.report_tuned import draw_landscape, draw_tuned
from analysis.robustness import Robustness, robustness, robustness_cautions
from trainers.measurement import EVERY_MEASUREMENT, MEASUREMENTS

SCHEMA_VERSION = 1

RUN_COLUMNS: tuple[str, ...] = (
    "configuration_key",
    "loss",
    "adversarial_loss",
    "penalty",
    "k",
    "learning_rate",
    "replicate",
    "seed",
    "outcome",
    "kind",
    "t_event",
    *(f"final_{name}" for name in MEASUREMENTS),
)
"""The first columns of runs.csv, in this order; optional measurements, the other factors and the margin follow."""

DATA_FILES: tuple[str, ...] = (
    "report.md",
    "report.json",
    "runs.csv",
    "runs.parquet",
    "cells.csv",
    "losses.csv",
    "contrasts.csv",
    *(f"{name}.csv" for name in PROFILE_FILES),
    "curves.parquet",
    "warnings.json",
    "provenance.json",
)


@dataclass(frozen=True)
class Report:
    """What was found: ``headline``, the tables (runs, cells, losses, contrasts, the profile's), how robust, where."""

    headline: str
    tables: Mapping[str, pd.DataFrame]
    warnings: list[dict[str, object]]
    blocked: bool
    folder: Path
    robustness: Robustness


def build_report(frames: StudyFrames, *, out: Path | str) -> Report:
    """Write the report of a study to the folder ``out``, in place of an older report there.

    The files appear together when all are written; the same frames give the same bytes. OutputError (a ValueError):
    ``out`` is a file, or holds files that no report wrote.
    """
    tables = report_tables(frames)
    robust, tuned = robustness(tables), tables if "tuned" in tables else None
    found = sorted([*warnings_list(frames, tables), *robustness_cautions(robust)], key=lambda w: str(w["id"]))
    pairs, told = tables["contrasts"], robust.sentence
    sentence = headline(frames, tables["losses"], pairs, warnings=found, robust=told, tuned=tuned)
    blocked = any(bool(w["blocks"]) for w in found)
    report = Report(sentence, tables, found, blocked, Path(out), robust)
    with replaced_folder(Path(out)) as folder:
        _write(frames, report, folder)
    return report


def report_tables(frames: StudyFrames) -> dict[str, pd.DataFrame]:
    """Every table of the report by the stem of its file; all but ``runs`` and the tuned ones are of ``explored``."""
    profile, tuned = stability_profile(frames), tuned_tables(frames)
    losses = losses_table(frames)
    return {
        "runs": runs_table(frames.runs),
        "cells": cells_table(frames),
        "losses": with_tuned(losses, tuned["tuned"]) if tuned else losses,
        "contrasts": with_superiority(contrasts_table(frames), profile.pop("superiority")),
        **tuned,
        **choice_tables(frames),
        **profile,
    }


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per planned replicate: RUN_COLUMNS first (empty where unknown), then the other columns by name.

    The final values of optional measurements, where there are any, stand between them in their own order.
    """
    table = runs.copy()
    for name in RUN_COLUMNS:
        if name not in table:
            table[name] = math.nan
    optional = [final for name in EVERY_MEASUREMENT if (final := f"final_{name}") not in RUN_COLUMNS]
    first = [*RUN_COLUMNS, *(final for final in optional if final in table)]
    extra = sorted(str(name) for name in table.columns if name not in first)
    table = table[[*first, *extra]]
    whole = [name for name in ("k", "t_event", "seed", "replicate") if _is_whole(table[name])]
    return table.astype(dict.fromkeys(whole, "Int64"))


def _is_whole(column: pd.Series) -> bool:
    numbers = pd.to_numeric(column, errors="coerce")
    return bool((numbers.notna() == column.notna()).all() and (numbers.dropna() % 1 == 0).all())


def _write(frames: StudyFrames, report: Report, folder: Path) -> None:
    for name, table in report.tables.items():
        write_text(folder / f"{name}.csv", csv_text(table))
    write_parquet(folder / "runs.parquet", report.tables["runs"])
    write_parquet(folder / "curves.parquet", frames.curves)
    provenance = provenance_of(frames)
    write_text(folder / "warnings.json", json_text(report.warnings))
    write_text(folder / "provenance.json", json_text(provenance))
    write_text(folder / "report.json", json_text(summary(frames, report)))
    figures, cells = _draw(frames, report, folder / "figures")
    page = PageInput(
        frames=frames.explored,
        tables=report.tables,
        cells=cells,
        headline=report.headline,
        warnings=report.warnings,
        blocked=report.blocked,
        figures=figures,
        provenance=provenance,
        files=data_files(report.tables),
        robustness=report.robustness,
        confirmed=frames.confirmed,
    )
    write_text(folder / "report.html", render(page))
    write_text(folder / "report.md", markdown(page))
    for name, text in loss_pages(page):
        write_text(folder / FOLDER / name, text)
    write_manifest(folder)


def confirm_counts(frames: StudyFrames) -> dict[str, object]:
    """The fresh replicates from planned to judged; nothing without a confirming phase."""
    fresh = frames.confirmed
    return {"confirm_runs": {str(s["name"]).replace(" ", "_"): s["count"] for s in flow(fresh)}} if len(fresh) else {}


def data_files(tables: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """DATA_FILES, and behind contrasts.csv the tuned tables and that of other choices, where there are some."""
    place = DATA_FILES.index("contrasts.csv") + 1
    more = [f"{name}.csv" for name in (*TUNED_FILES, CHOICES) if name in tables]
    return (*DATA_FILES[:place], *more, *DATA_FILES[place:])


def _draw(frames: StudyFrames, report: Report, folder: Path) -> tuple[list[PageFigure], pd.DataFrame]:
    """Write every figure below ``folder``; returns them for the page, with the cells of the phase diagrams."""
    figures, cells, explored = [], pd.DataFrame(), frames.explored
    tables = report.tables
    every: Iterator[Drawn] = chain(
        draw_all(explored, tables),
        draw_tuned(frames, tables),
        () if is_dirac(explored) else draw_landscape(explored, tables),
        draw_profile(explored, tables),
    )
    for drawn in every:
        cells = drawn.tables.get("phase_diagrams", cells)
        figures.append(
            PageFigure(
                name=drawn.name,
                svg=drawn.write(folder),
                caption=drawn.caption,
                alt=drawn.alt,
                heading=drawn.heading,
                hotspots=drawn.hotspots,
                data=tuple(drawn.tables),
                commands=drawn.commands,
            )
        )
    return figures, cells


def provenance_of(frames: StudyFrames) -> dict[str, object]:
    """Where the numbers come from: what the frames know, the reference, the plan's hashes, this report's schema."""
    planned = {name: frames.plan[name] for name in ("spec_hash", "criteria_hash") if name in frames.plan}
    known = {"study": frames.study, "reference": frames.reference, "report_schema": SCHEMA_VERSION}
    search = frames.spec.get("search"), frames.spec.get("scheduler"), frames.spec.get("seed")
    design = {k: v for k, v in zip(("search", "scheduler", "study_seed"), search, strict=True) if v is not None}
    return {**planned, **design, **known, **frames.provenance}


def summary(frames: StudyFrames, report: Report) -> dict[str, Any]:
    """report.json: the headline, the state of the evidence, counts, and one short record per loss and pair."""
    losses, contrasts = report.tables["losses"], report.tables["contrasts"]
    counts = frames.runs["outcome"].value_counts() if len(frames.runs) else pd.Series(dtype=int)
    severities = [str(w["severity"]) for w in report.warnings]
    return {
        "schema": SCHEMA_VERSION,
        "study": frames.study,
        "question": question(frames),
        "headline": report.headline,
        "state": "interim" if frames.interim else "final",
        "blocked": report.blocked,
        "worst_severity": min(severities, key=SEVERITIES.index) if severities else None,
        "warnings": [w["id"] for w in report.warnings],
        "target": str(losses["target"].iloc[0]) if len(losses) else None,
        "delta": DELTA,
        "alpha": ALPHA,
        "runs": {str(step["name"]).replace(" ", "_"): step["count"] for step in flow(frames.explored.runs)},
        **confirm_counts(frames),
        "outcomes": {str(name): int(count) for name, count in counts.items()},
        "robustness": report.robustness.summary(),
        "losses": losses.to_dict("records"),
        **{name: report.tables[name].to_dict("records") for name in (*TUNED_FILES, CHOICES) if name in report.tables},
        "profile": report.tables["profile"].to_dict("records"),
        "contrasts": contrasts.to_dict("records"),
    }
