"""The example runs of every outcome: which are shown, their figures, captions and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.drawn import Drawn
from analysis.figures_examples import CLOSEST, Scale, choose_examples, example_curves, example_figure
from analysis.figures_orbits import orbit_figure, orbit_table
from analysis.figures_samples import mode_centres, snapshots
from analysis.figures_style import OUTCOMES
from analysis.frames import StudyFrames
from analysis.report_dirac import orbit_caption
from analysis.wording import mapping, number_text, rate_text, shown
from study.outcomes import Criteria


def examples_of(frames: StudyFrames) -> Iterator[Drawn]:
    """One figure per outcome: the curves and samples of its two example runs; nothing where no curves were recorded."""
    examples = choose_examples(frames.runs)
    if examples.empty or not len(frames.curves):
        return
    scale, target = example_scale(frames), mapping(frames.spec.get("target"))
    examples = examples.assign(horizon=[_horizon(frames, str(key)) for key in examples["configuration_key"]])
    curves = example_curves(examples, frames.curves, scale)
    samples = frames.samples(
        sorted(set(examples["configuration_key"])), sorted({int(replicate) for replicate in examples["replicate"]})
    )
    for outcome in (name for name in OUTCOMES if name in set(examples["outcome"])):
        chosen = examples[examples["outcome"] == outcome].reset_index(drop=True)
        drawn = curves[curves["outcome"] == outcome].reset_index(drop=True)
        shots = {str(e["which"]): snapshots(samples, e) for e in chosen.to_dict("records")}
        figure = example_figure(chosen, drawn, shots, scale=scale, centres=mode_centres(target))
        name = f"examples_{outcome}"
        tables = {name: _with_setting(chosen, drawn), f"{name}_samples": _sample_table(chosen, shots)}
        caption, alt = _example_words(outcome, chosen, frames.runs, scale)
        heading = OUTCOMES[outcome].word
        yield Drawn(
            name=name,
            figure=figure,
            tables=tables,
            caption=caption,
            alt=alt,
            heading=heading,
            commands=tuple(replay_command(frames.study, example) for example in chosen.to_dict("records")),
        )


def _example_words(outcome: str, chosen: pd.DataFrame, runs: pd.DataFrame, scale: Scale) -> tuple[str, str]:
    look, count = OUTCOMES[outcome], int((runs["outcome"] == outcome).sum())
    described = [f"{e['which']}: {_setting_words(e)}" for e in chosen.to_dict("records")]
    both = "The run of median margin and the run of smallest margin" if len(chosen) > 1 else f"The run of {CLOSEST}"
    text = (
        f"{both} of n = {count} {look.word} runs ({look.meaning}); single runs, no interval. Left: what is judged, "
        f"with thresholds dotted: distance u should fall, {_rising(scale)} should rise. Right: samples from the same "
        "latents at 0, 25, 50, 75 and 100 % of the budget."
    )
    return text, f"Examples of {look.word} runs. {'; '.join(described)}"


def replay_command(study: str, example: Mapping[Any, Any]) -> str:
    """What trains this replicate again and shows its samples as a film."""
    key, replicate = shown(example["configuration_key"]), int(example["replicate"])
    return f"ganstudy replay {shown(study, limit=64)} --configuration {key} --replicate {replicate}"


def _rising(scale: Scale) -> str:
    last = "quality q and the coverage of nearest neighbours" if scale.with_neighbours else "and quality q"
    return f"mode coverage m{', ' if scale.with_neighbours else ' '}{last}"


def _setting_words(example: Mapping[Any, Any]) -> str:
    rate = rate_text(float(example["learning_rate"]))
    return f"{shown(example['loss'])}, k = {number_text(example['k'])}, lr = {rate}, replicate {example['replicate']}"


def _with_setting(chosen: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    setting = chosen[["which", "loss", "k", "learning_rate", "kind", "margin"]]
    return curves.merge(setting, on="which", how="left")


def _sample_table(chosen: pd.DataFrame, shots: Mapping[str, Mapping[float, np.ndarray]]) -> pd.DataFrame:
    parts = []
    for example in chosen.to_dict("records"):
        for share, drawn in sorted(shots[str(example["which"])].items()):
            table = pd.DataFrame(drawn, columns=[f"x{i}" for i in range(drawn.shape[1])])
            table.insert(0, "sample", range(len(table)))
            for name, value in (
                ("budget_share", share),
                *((n, example[n]) for n in ("replicate", "configuration_key", "which")),
            ):
                table.insert(0, name, value)
            parts.append(table)
    names = ["which", "configuration_key", "replicate", "budget_share", "sample"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def example_scale(frames: StudyFrames) -> Scale:
    """What the curves are scaled by; NaN, and so not drawn, where the reference does not tell."""
    targets = mapping(frames.reference.get("targets"))
    reference = mapping(next(iter(targets.values()), {})) if targets else mapping(frames.reference)

    def number(name: str) -> float:
        value = reference.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan

    neighbours = number("dimensions") > 2
    return Scale(
        d_real=number("d_real"),
        d_ref=number("d_ref"),
        quality_ceiling=number("quality_ceiling"),
        nn_ceiling=number("knn_coverage_ceiling"),
        thresholds=_thresholds(frames.criteria, neighbours=neighbours) if frames.criteria else {},
        with_neighbours=neighbours,
    )


def _thresholds(criteria: Criteria, *, neighbours: bool) -> dict[str, float]:
    return {
        "u": criteria.u_converged,
        "mode_coverage": criteria.coverage_converged,
        "quality": criteria.quality_converged,
        "nn_coverage": criteria.knn_coverage_converged if neighbours else math.nan,
    }


def _horizon(frames: StudyFrames, key: str) -> float:
    """The planned horizon of one configuration in generator steps, else the last step that any run reached."""
    entries: Any = frames.plan.get("configurations") or ()
    planned = [float(entry["horizon"]) for entry in entries if entry.get("configuration_key") == key]
    seen = pd.to_numeric(frames.curves["generator_step"], errors="coerce").dropna()
    return planned[0] if planned else float(seen.max()) if len(seen) else 1.0


def orbits_of(frames: StudyFrames) -> Iterator[Drawn]:
    """The examples of a study whose players are one parameter each."""
    examples = choose_examples(frames.runs)
    if examples.empty or not len(frames.curves):
        return
    horizons = [_horizon(frames, str(key)) for key in examples["configuration_key"]]
    extra = [name for name in ("penalty_weight", "updates") if name in frames.runs]
    settings = frames.runs.drop_duplicates("configuration_key")[["configuration_key", *extra]]
    examples = examples.assign(horizon=horizons).merge(settings, on="configuration_key", how="left")
    for outcome in (name for name in OUTCOMES if name in set(examples["outcome"])):
        chosen = examples[examples["outcome"] == outcome].reset_index(drop=True)
        orbits, name = orbit_table(chosen, frames.curves), f"examples_{outcome}"
        count = int((frames.runs["outcome"] == outcome).sum())
        yield Drawn(
            name=name,
            figure=orbit_figure(chosen, orbits),
            tables={name: orbits},
            caption=orbit_caption(OUTCOMES[outcome].word, count=count, shown=len(chosen)),
            alt=f"Radius and path of {OUTCOMES[outcome].word} runs",
            heading=OUTCOMES[outcome].word,
            commands=tuple(replay_command(frames.study, example) for example in chosen.to_dict("records")),
        )
