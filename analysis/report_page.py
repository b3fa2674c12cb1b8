"""report.html: one file that loads nothing, runs only its own hashed script, and escapes every word it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from analysis import report_text as words
from analysis.choices import choice_rows
from analysis.dirac_cells import is_dirac
from analysis.figures import SHARE_ORDER, segment_look
from analysis.figures_early import early_words
from analysis.figures_style import OUTCOMES
from analysis.files import plain
from analysis.frames import StudyFrames
from analysis.importance import importance_rows
from analysis.loss_names import page_address
from analysis.page_input import PageInput
from analysis.page_rows import cell_rows, leaderboard, pair_commands, pair_rows
from analysis.pages import read_part, render_template
from analysis.profile_rows import (
    certify_words,
    horizon_words,
    method_terms,
    profile_rows,
    robustness_words,
    space_rows,
)
from analysis.refusals import refusal, refused_words
from analysis.report_details import cost_sentence, detail_terms, horizon_rows
from analysis.report_dirac import OUTCOME_MEANINGS, rule_rows
from analysis.report_tuned import tuned_pair_rows, tuned_rows, tuned_terms
from analysis.wording import shown

LONG = 400
MANY_PAIRS = 21


def render(page: PageInput) -> str:
    """The whole page as HTML text."""
    return render_template(
        "report.html.j2",
        css=read_part("report.css"),
        script=read_part("report.js"),
        filters={
            "shown": lambda value, limit=LONG: shown(value, limit=limit),
            "named": breakable,
            "coded": coded,
            "page": page_address,
            "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
        },
        **_context(page),
    )


def breakable(value: object, limit: int = 60) -> Markup:
    """A name, escaped, that may break after its underscores and hyphens."""
    escaped = str(escape(shown(value, limit=limit)))
    return Markup(escaped.replace("_", "_<wbr>").replace("-", "-<wbr>"))  # noqa: S704  (escaped just above)


def coded(text: object) -> Markup:
    """A text of ours, escaped, in which what stands between backticks is code."""
    parts = str(escape(shown(text, limit=LONG))).split("`")
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)))  # noqa: S704


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
        "warnings": page.ordered_warnings,
        "protocol": words.protocol(frames),
        "board": leaderboard(frames, page.tables),
        "refused": refused_words(refusal(frames, losses)),
        "tuned": tuned_rows(page.tables),
        "tuned_pairs": tuned_pair_rows(page.tables),
        "pair_commands": pair_commands(frames, contrasts),
        "profile": profile_rows(page.tables),
        "horizon": horizon_words(page.tables),
        "certify": certify_words(page.tables),
        "importance": importance_rows(page.tables),
        "early": early_words(page.tables["early_warning"]),
        "robustness": robustness_words(page.robustness) if len(page.tables["profile"]) else "",
        "spaces": space_rows(page.tables),
        "cost": cost_sentence(page.tables),
        "horizons": horizon_rows(page.tables) if any(w["id"] == "W12" for w in page.warnings) else ([], []),
        "segments": [(name, *segment_look(name)) for name in SHARE_ORDER],
        "meanings": outcome_meanings(frames),
        "figures": by_name,
        "examples": [figure for figure in page.figures if figure.name.startswith("examples_")],
        "cells": cell_rows(frames, page.cells),
        "pairs": pair_rows(contrasts),
        "choices": choice_rows(page.tables),
        "many_pairs": len(contrasts) > MANY_PAIRS,
        "flow": words.flow(frames.runs),
        "fresh_flow": words.flow(page.confirmed) if len(page.confirmed) else [],
        "criteria": criteria_rows(frames),
        "rejudged": _rejudged(frames),
        "calibration": described_calibration(spec_calibration),
        "losses": words.loss_rows(frames.runs, frames.labels()),
        "methods": [
            *words.methods(frames, losses, contrasts),
            *tuned_terms(page.tables),
            *method_terms(page.tables),
            *detail_terms(page.tables),
        ],
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
