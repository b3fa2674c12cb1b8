"""replay.html: one file that loads nothing and plays a replicate's training, frame by frame, beside its curves."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import replay_curves as curves
from analysis.figures_style import OUTCOMES
from analysis.pages import read_part, render_template
from analysis.replay import FILES, Played, conditions, ending, setting
from analysis.replay_pictures import LANDSCAPE, Floats, levels, png, sprite, tiles
from analysis.replay_record import verdict
from analysis.report_examples import example_scale
from analysis.report_text import described
from analysis.wording import number_text, rate_text, shown

_DECIMALS = 3
_FAR = 100.0
"""Points are kept to about a thousandth of the shown square, and no farther out than so many of its sides."""


def render(played: Played) -> str:
    """The whole page as HTML text."""
    return render_template(
        "replay.html.j2",
        css=read_part("report.css", "replay.css"),
        script=read_part("replay.js"),
        filters={"unbroken": lambda text: re.sub(r"(?<=\de)-(?=\d)", "\u2011", text)},  # 1e-3 on one line
        # JSON without a single "<": safe as it stands.
        data=Markup(script_json(page_data(played))),  # noqa: S704
        **_context(played),
    )


def script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _context(played: Played) -> dict[str, Any]:
    scale, comparison = example_scale(played.frames()), played.comparison
    rows, record = (curves.judged_table(table, scale) for table in (played.rows, played.record))
    differs = bool(comparison.differences)
    look = OUTCOMES[played.outcome.outcome]
    return {
        "study": played.study,
        "title": f"{setting(played)} {ending(played.outcome)}.",
        "outcome": {"word": look.word, "colour": look.colour, "meaning": look.meaning},
        "chip": ("warn", "leaves the record") if differs else ("good", "equal to the record")
        if comparison.recorded else ("warn", "no record yet"),
        "verdict": verdict(comparison),
        "recorded_outcome": _other_ending(played),
        "conditions": conditions(played) if differs else "",
        "differences": comparison.first_of_each()[:12],
        "facts": _facts(played),
        "panels": curves.panels(rows, record if differs else record.iloc[:0], scale, horizon=played.horizon),
        "size": {"width": curves.WIDTH, "height": curves.HEIGHT, "left": curves.LEFT, "right": curves.RIGHT,
                 "upper": curves.UPPER, "lower": curves.LOWER},
        "horizon": played.horizon,
        "steps": played.steps,
        "kind": played.stage.kind,
        "samples": played.samples.shape[1],
        "has_landscape": played.landscapes is not None,
        "has_centres": played.stage.centres is not None,
        "command": played.command,
        "files": FILES,
        "number": number_text,
    }  # fmt: skip


def _other_ending(played: Played) -> str:
    recorded = played.recorded_outcome
    if recorded is None or recorded == played.outcome:
        return ""
    return f"The record {ending(recorded)}."


def _facts(played: Played) -> list[tuple[str, str]]:
    """What was trained, as terms and texts."""
    entry = played.configuration
    known = {"k", "learning_rate", "generator_learning_rate", "discriminator_learning_rate"}
    others = [
        f"{shown(name).replace('_', ' ')} {_value(value)}"
        for name, value in entry["factors"].items()
        if name not in known
    ]
    terms = [
        ("Replicate", f"{played.replicate}, seed {played.seed}"),
        ("Configuration", str(entry["configuration_key"])),
        ("Loss", _loss_words(entry)),
        ("Target", described(entry["target"])),
        ("Networks", described(entry["networks"])),
        ("Factors", ", ".join(others)),
        ("Budget", f"{played.horizon:,} generator steps"),
    ]
    return [(term, text) for term, text in terms if text]


def _value(value: object) -> str:
    return rate_text(value) if isinstance(value, float) and value < 0.1 else number_text(value)


def _loss_words(entry: Mapping[str, Any]) -> str:
    penalty = "" if entry["penalty"] == "none" else f" + {shown(entry['penalty'], limit=60)}"
    return (shown(entry["adversarial_loss"], limit=60) + penalty).replace("_", " ")


def page_data(played: Played) -> dict[str, object]:
    """What the script plays: frames, where they lie, and the numbers of every evaluation."""
    return {
        "kind": played.stage.kind,
        "steps": list(played.steps),
        "horizon": played.horizon,
        "evaluations": _evaluations(played),
        **_frames(played),
    }


def _frames(played: Played) -> dict[str, object]:
    stage = played.stage
    if stage.kind == "none":
        return {}
    if stage.kind == "images":
        sheets = [tiles(samples, stage.sample_shape) for samples in played.samples]
        whole, across = sprite(sheets)
        height, width = sheets[0].shape[:2]
        paper = png(tiles(stage.real, stage.sample_shape))
        size = {"width": width, "height": height, "across": across, "cells": math.isqrt(played.samples.shape[1])}
        return {"tiles": {**size, "sprite": _address(whole), "real": _address(paper)}}
    centres = np.zeros((0, 2)) if stage.centres is None else stage.centres
    real = stage.real
    if stage.kind == "orbit":
        centres, real = np.zeros((1, 2)), stage.real[:0]
    return {
        "middle": list(stage.middle),
        "reach": float(f"{stage.reach:.6g}"),
        "points": [_flat(samples, stage.reach) for samples in played.samples],
        "real": _flat(real, stage.reach),
        "centres": _flat(centres, stage.reach),
        "colours": LANDSCAPE,
        "landscape": None if played.landscapes is None else _landscape(played.landscapes),
    }


def _landscape(landscapes: Floats) -> dict[str, object]:
    made = [levels(landscape) for landscape in landscapes]
    return {
        "side": landscapes.shape[1],
        "frames": [base64.b64encode(shares.tobytes()).decode("ascii") for shares, _, _ in made],
        "low": [_json_number(low) for _, low, _ in made],
        "high": [_json_number(high) for _, _, high in made],
    }


def _flat(points: np.ndarray, reach: float) -> list[float | None]:
    """x0, y0, x1, y1, ...: a few decimals of the shown square, null where a number is not finite."""
    decimals = max(0, _DECIMALS - math.floor(math.log10(reach)))
    clipped = np.clip(points.astype(np.float64).reshape(-1), -_FAR * reach, _FAR * reach)
    return [round(value, decimals) + 0.0 if math.isfinite(value) else None for value in clipped.tolist()]


def _evaluations(played: Played) -> dict[str, object]:
    """Steps of the evaluations and, for every drawn curve, its numbers to four digits."""
    rows = curves.judged_table(played.rows, example_scale(played.frames()))
    drawn = curves.panels(rows, rows.iloc[:0], example_scale(played.frames()), horizon=played.horizon)
    names: Sequence[str] = [curve.name for panel in drawn for curve in panel.curves]
    numbers = {name: pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64) for name in names}
    return {
        "steps": [int(step) for step in rows["generator_step"]],
        "alive": [bool(finite) for finite in rows["finite"]],
        "values": {name: [_json_number(value) for value in values] for name, values in numbers.items()},
    }


def _json_number(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _address(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
