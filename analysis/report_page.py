"""report.html: one file that loads nothing, runs only its own hashed script, and escapes every word it shows."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis import report_text as words
from analysis.compare import by_success, rank_intervals
from analysis.dirac_cells import is_dirac
from analysis.figures import SHARE_ORDER, outcome_table, segment_look
from analysis.figures_cells import cell_of
from analysis.figures_phase import Hotspot
from analysis.figures_style import OUTCOMES
from analysis.files import plain
from analysis.frames import StudyFrames
from analysis.report_dirac import OUTCOME_MEANINGS, rule_rows
from analysis.wording import number_text, p_text, percent, percent_range, points, rate_text, short_verdict, shown

TEMPLATES = Path(__file__).parent / "templates"
LONG = 400
MANY_PAIRS = 21
MOST_RUNS_LISTED = 4000
"""Beyond so many runs the page lists cells without their replicates; runs.csv holds them all."""
SEVERITIES = ("blocking", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A drawn figure as the page needs it."""

    name: str
    svg: bytes
    caption: str
    alt: str
    heading: str
    hotspots: tuple[Hotspot, ...]
    data: tuple[str, ...]
    commands: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The SVG as a data address: an image runs no script and its ids stay its own."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class PageInput:
    """Everything the page shows."""

    frames: StudyFrames
    tables: Mapping[str, pd.DataFrame]
    cells: pd.DataFrame
    headline: str
    warnings: Sequence[Mapping[str, Any]]
    blocked: bool
    figures: Sequence[PageFigure]
    provenance: Mapping[str, object]
    files: Sequence[str]


def render(page: PageInput) -> str:
    """The whole page as HTML text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # for every name, not only .html: the template ends in .j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = lambda value, limit=LONG: shown(value, limit=limit)
    environment.filters["named"] = breakable
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return environment.get_template("report.html.j2").render(
        # Markup marks our own two files as safe; no text from a study ever takes this way.
        css=Markup(css),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(css, script),
        **_context(page),
    )


def breakable(value: object, limit: int = 60) -> Markup:
    """A name, escaped, that may break after its underscores and hyphens."""
    escaped = str(escape(shown(value, limit=limit)))
    return Markup(escaped.replace("_", "_<wbr>").replace("-", "-<wbr>"))  # noqa: S704  (escaped just above)


def content_policy(css: str, script: str) -> str:
    """The page may use its own style and script, named by hash, and images that it carries: nothing else."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") for text in (css, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _context(page: PageInput) -> dict[str, Any]:
    frames, losses, contrasts = page.frames, page.tables["losses"], page.tables["contrasts"]
    by_name = {figure.name: figure for figure in page.figures}
    spec_calibration = frames.spec.get("calibration") or frames.provenance.get("calibration")
    return {
        "study": frames.study,
        "question": words.question(frames),
        "headline": sentences(page.headline),
        "interim": frames.interim,
        "blocked": page.blocked,
        "warnings": sorted(page.warnings, key=lambda w: SEVERITIES.index(w["severity"])),
        "protocol": words.protocol(frames),
        "board": leaderboard(frames, page.tables),
        "segments": [(name, *segment_look(name)) for name in SHARE_ORDER],
        "meanings": outcome_meanings(frames),
        "figures": by_name,
        "examples": [figure for figure in page.figures if figure.name.startswith("examples_")],
        "cells": cell_rows(frames, page.cells),
        "pairs": pair_rows(contrasts),
        "many_pairs": len(contrasts) > MANY_PAIRS,
        "flow": words.flow(frames.runs),
        "criteria": criteria_rows(frames),
        "rejudged": _rejudged(frames),
        "calibration": described_calibration(spec_calibration),
        "losses": words.loss_rows(frames.runs, frames.labels()),
        "methods": words.methods(frames, losses, contrasts),
        "provenance": facts(page.provenance),
        "files": page.files,
    }


def outcome_meanings(frames: StudyFrames) -> list[tuple[str, str, str]]:
    """Word, colour and meaning of every outcome."""
    own = OUTCOME_MEANINGS if is_dirac(frames) else {}
    return [(look.word, look.colour, own.get(name, look.meaning)) for name, look in OUTCOMES.items()]


def criteria_rows(frames: StudyFrames) -> list[dict[str, object]]:
    """What the outcomes were judged by; empty where that is not known."""
    if is_dirac(frames):
        return rule_rows()
    return words.criteria_rows(frames.criteria) if frames.criteria else []


def sentences(text: str) -> list[str]:
    """A headline cut after each sentence: a full stop, a space and then no digit."""
    parts = text.split(". ")
    return [part + "." for part in parts[:-1]] + parts[-1:]


def _rejudged(frames: StudyFrames) -> bool:
    planned, used = (frames.provenance.get(name) for name in ("planned_criteria_hash", "criteria_hash"))
    return bool(planned and used and planned != used)


def leaderboard(frames: StudyFrames, tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One row per loss, best first."""
    losses = tables["losses"]
    ranks = rank_intervals(losses, tables["contrasts"]).set_index("loss")
    shares = outcome_table(losses).to_dict("records")
    rows = [
        _board_row(row, share, frames.runs[frames.runs["loss"] == row["loss"]])
        | {"rank": _span(ranks.loc[row["loss"], "rank_best"], ranks.loc[row["loss"], "rank_worst"])}
        for row, share in zip(losses.to_dict("records"), shares, strict=True)
    ]
    order = by_success(losses)
    return sorted(rows, key=lambda row: order.index(row["loss"]))


def _board_row(row: Mapping[Any, Any], share: Mapping[Any, Any], runs: pd.DataFrame) -> dict[str, Any]:
    return {
        "loss": row["loss"],
        "success": _interval(row["success"], row["success_low"], row["success_high"]),
        "unstable": _interval(row["unstable"], row["unstable_low"], row["unstable_high"]),
        "stack": _stack(share),
        "decades": "" if math.isnan(row["lr_decades"]) else f"{row['lr_decades']:.2f}",
        "at_least": bool(row["lr_decades_lower_bound"]),
        "span": f"of {row['span']:.2g}, k = {number_text(row['lr_decades_k'])}",
        "planned": int(row["runs_planned"]),
        "used": int(row["runs_used"]),
        "failed": int(row["runs_failed"]),
        "kinds": words.kinds_text(runs),
    }


def _span(best: Any, worst: Any) -> str:
    return str(best) if best == worst else f"{best} to {worst}"


def _interval(value: float, low: float, high: float) -> dict[str, Any]:
    known = not math.isnan(value)
    return {
        "known": known,
        "value": value if known else 0.0,
        "low": low,
        "high": high,
        "text": percent(value),
        "range": percent_range(low, high),
    }


def _stack(share: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Segments of the small outcome bar: where each starts and how wide it is, in per cent."""
    start, segments = 0.0, []
    for name in SHARE_ORDER:
        width = float(share[name])
        if width > 0:
            colour, hatch, word = segment_look(name)
            title = f"{word} {percent(width)}"
            segments.append(
                {
                    "x": round(100 * start, 2),
                    "width": round(100 * width, 2),
                    "colour": colour,
                    "hatch": hatch,
                    "title": title,
                }
            )
            start += width
    return segments


def pair_rows(contrasts: pd.DataFrame) -> list[dict[str, Any]]:
    """The pairwise table as text."""
    rows = []
    for row in contrasts.to_dict("records"):
        needed = row["seeds_needed"]
        rows.append(
            {
                "first": row["loss_a"],
                "second": row["loss_b"],
                "order": 0.0 if math.isnan(row["difference"]) else row["difference"],
                "difference": points(row["difference"]),
                "single": f"{points(row['low_95'])} to {points(row['high_95'])}",
                "joint": f"{points(row['low'])} to {points(row['high'])}",
                "p_exact": p_text(row["p_exact"]),
                "p_holm": p_text(row["p_holm"]),
                "verdict": short_verdict(row),
                "unstable": "" if "stable" in row["verdict"] else row["unstable_verdict"],
                "decided": bool(row["winner"]),
                "needed": f"about {int(needed)}" if not pd.isna(needed) else row["seeds_note"],
            }
        )
    return rows


def cell_rows(frames: StudyFrames, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of the phase diagrams with every replicate's ending."""
    endings = _endings(frames) if len(frames.runs) <= MOST_RUNS_LISTED else {}
    return [
        {
            "loss": row["loss"],
            "k": number_text(row["k"]),
            "rate": rate_text(row["learning_rate"]),
            "share": f"{row['converged']}/{row['judged']}",
            "range": f"{percent(row['low'])} to {percent(row['high'])}",
            "undecided": bool(row["undecided"]),
            "outcomes": row["outcomes"],
            "runs": endings.get((row["loss"], _id(row["k"]), _id(row["learning_rate"])), []),
        }
        for row in cells.to_dict("records")
    ]


def _id(value: float) -> str:
    return f"{value:.12g}"


def _endings(frames: StudyFrames) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Replicates by (loss, k, learning rate): each with its colour and a line of text."""
    cells = cell_of(frames.runs)
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for (loss, k, rate), run in zip(
        cells[["loss", "k", "learning_rate"]].itertuples(index=False), frames.runs.to_dict("records"), strict=True
    ):
        kind = f" ({shown(run['kind'])})" if run.get("kind") else ""
        event, margin = run.get("t_event", math.nan), run.get("margin", math.nan)
        parts = [f"replicate {run['replicate']}: {run['outcome']}{kind}"]
        parts += [f"event at step {event:.0f}"] if isinstance(event, float) and math.isfinite(event) else []
        parts += [f"margin {margin:.2g}"] if isinstance(margin, float) and math.isfinite(margin) else []
        look = OUTCOMES.get(str(run["outcome"]))
        ending = {"text": ", ".join(parts), "colour": look.colour if look else "#ffffff"}
        found.setdefault((loss, _id(k), _id(rate)), []).append(ending)
    return found


def described_calibration(value: object) -> list[tuple[str, str]]:
    """How the criteria were calibrated, as the study file tells it: a text, or named remarks."""
    if isinstance(value, Mapping):
        return [(shown(key).replace("_", " "), _flat(item)) for key, item in value.items()]
    return [("", _flat(value))] if value else []


def facts(provenance: Mapping[str, object]) -> list[tuple[str, str]]:
    """Provenance as rows of text, in alphabetical order; the criteria have a table of their own."""
    rows = sorted((name, value) for name, value in provenance.items() if name != "criteria")
    return [(shown(name).replace("_", " "), _flat(plain(value))) for name, value in rows]


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{shown(key)} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(item) for item in value) or "none"
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ("yes" if value else "no") if isinstance(value, bool) else shown(value, limit=2000)
