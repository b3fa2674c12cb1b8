"""The report's figures with their captions and the tables they are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.compare import DELTA, by_success
from analysis.dirac_cells import is_dirac, oracle_table
from analysis.figures import forest, outcome_bars, outcome_table
from analysis.figures_cells import phase_table, rate_factor
from analysis.figures_dirac import boundary_figure
from analysis.figures_examples import CLOSEST, Scale, choose_examples, example_curves, example_figure
from analysis.figures_orbits import orbit_figure, orbit_table
from analysis.figures_phase import Hotspot, phase_diagrams
from analysis.figures_response import response_figure
from analysis.figures_samples import mode_centres, snapshots
from analysis.figures_style import OUTCOMES, png_bytes, svg_bytes
from analysis.files import csv_text, write_text
from analysis.frames import StudyFrames
from analysis.report_dirac import boundary_caption, orbit_caption
from analysis.report_text import DIFFERENCES, INTERVALS, TARGETS, phase_words, weights_words
from analysis.wording import mapping, number_text, rate_text, shown
from study.outcomes import Criteria

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One figure: ``name`` is its file's stem, ``tables`` maps a file's stem to the table behind it."""

    name: str
    figure: Figure
    caption: str
    alt: str
    tables: Mapping[str, pd.DataFrame]
    hotspots: tuple[Hotspot, ...] = ()
    heading: str = ""
    commands: tuple[str, ...] = ()

    def write(self, folder: Path) -> bytes:
        """Write SVG, PNG and CSV below ``folder``; returns the SVG for the page."""
        folder.mkdir(parents=True, exist_ok=True)
        svg = svg_bytes(self.figure)
        (folder / f"{self.name}.svg").write_bytes(svg)
        (folder / f"{self.name}.png").write_bytes(png_bytes(self.figure))
        for stem, table in self.tables.items():
            write_text(folder / f"{stem}.csv", csv_text(table))
        return svg


def draw_all(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """Every figure of the report, in its order; each is drawn when it is asked for, so that one is held at a time."""
    losses, target = tables["losses"], _target(tables["losses"])
    if is_dirac(frames):
        yield _boundary(frames)
    yield _outcomes(frames, losses, target)
    cells = phase_table(frames.runs, by_success(losses))
    rate_name = (rate_factor(frames.runs) or "learning_rate").replace("_", " ")
    yield _phases(cells, rate_name)
    yield _response(cells, losses, rate_name)
    yield _pairwise(frames, tables["contrasts"], target)
    yield from (_orbits(frames) if is_dirac(frames) else _examples(frames))


def _boundary(frames: StudyFrames) -> Drawn:
    cells = oracle_table(frames)
    return Drawn(
        name="dirac_boundary",
        figure=boundary_figure(cells),
        tables={"dirac_boundary": cells},
        alt="Measured outcomes over learning rate and penalty weight, with the exact boundary of stability",
        caption=boundary_caption(frames, cells),
    )


def _orbits(frames: StudyFrames) -> Iterator[Drawn]:
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
            commands=tuple(_replay_command(frames.study, example) for example in chosen.to_dict("records")),
        )


def _target(losses: pd.DataFrame) -> str:
    return str(losses["target"].iloc[0]) if len(losses) else "grid"


def _outcomes(frames: StudyFrames, losses: pd.DataFrame, target: str) -> Drawn:
    shares = outcome_table(losses.set_index("loss").loc[by_success(losses)].reset_index())
    used, planned = int(losses["runs_used"].sum()), int(losses["runs_planned"].sum())
    return Drawn(
        name="outcome_bars",
        figure=outcome_bars(shares),
        tables={"outcome_bars": shares},
        alt="Stacked bars of outcome shares, one per loss",
        caption=(
            f"How runs end, as weighted shares ({weights_words(frames, target)}). The whisker under a bar is the 95 % "
            f"interval of the converged share ({INTERVALS[target]}). n = {used} judged of {planned} planned runs. "
            f"Inference target: {TARGETS[target]}."
        ),
    )


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


def _examples(frames: StudyFrames) -> Iterator[Drawn]:
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
            commands=tuple(_replay_command(frames.study, example) for example in chosen.to_dict("records")),
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


def _replay_command(study: str, example: Mapping[Any, Any]) -> str:
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
