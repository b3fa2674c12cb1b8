"""One replicate trained again, as files: a page that plays it, an animation, its numbers, its match with the record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.assemble import Judging, build_runs, clean_curves
from analysis.figures_style import OUTCOMES
from analysis.files import csv_text, json_text, replaced_folder, write_manifest, write_text
from analysis.frames import StudyFrames
from analysis.replay_pictures import Floats, Stage, gif
from analysis.replay_record import EARLY_STEPS, Comparison, Difference, compare, verdict
from analysis.wording import listed, mapping, number_text, rate_text, shown
from study.outcomes import Criteria, Outcome

SCHEMA_VERSION = 1
FILES: tuple[str, ...] = ("replay.gif", "replay.json", "measurements.csv", "samples.parquet")
"""What lies beside replay.html."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """A replicate as it was trained again.

    ``configuration``: its entry of plan.json; ``rows`` (replayed) and ``record`` have the columns of
    replicates.parquet, the record none where nothing is recorded in ``source``; samples [F, n, d] (an orbit's points:
    [F, 1, 2]) and landscapes [F, S, S] (D(x) over the stage's square, lowest y first) belong to ``steps``.
    ``own_judge``: measured by the judge that measured the record; ``recorded_with`` and ``replayed_with`` are library
    versions by name; ``command`` makes this replay again.
    """

    study: str
    configuration: Mapping[str, Any]
    replicate: int
    rows: pd.DataFrame
    record: pd.DataFrame
    source: str
    steps: tuple[int, ...]
    samples: Floats
    landscapes: Floats | None
    stage: Stage
    criteria: Criteria
    reference: Mapping[str, Any]
    may_prune: bool
    own_judge: bool
    recorded_with: Mapping[str, str]
    replayed_with: Mapping[str, str]
    command: str

    @property
    def seed(self) -> int:
        """The replicate's seed."""
        return int(self.configuration["seeds"][self.replicate])

    @property
    def horizon(self) -> int:
        """Planned generator steps."""
        return int(self.configuration["horizon"])

    @cached_property
    def comparison(self) -> Comparison:
        """The replay against the record."""
        return compare(self.record, self.rows)

    @cached_property
    def outcome(self) -> Outcome:
        """How the replay ended."""
        return self._judged(self.rows)

    @cached_property
    def recorded_outcome(self) -> Outcome | None:
        """How the record ended; None without one."""
        return None if self.record.empty else self._judged(self.record)

    def _judged(self, rows: pd.DataFrame) -> Outcome:
        key, target_id = str(self.configuration["configuration_key"]), str(self.configuration["target_id"])
        plan = {"configurations": [self.configuration]}
        curves, _ = clean_curves([rows.assign(configuration_key=key)], plan)
        judging = Judging(criteria=self.criteria, references={target_id: self.reference}, may_prune=self.may_prune)
        run = build_runs(plan, curves, judging).set_index("replicate").loc[self.replicate]
        event, margin = float(str(run["t_event"])), float(str(run["margin"]))
        return Outcome(
            str(run["outcome"]),
            str(run["kind"]),
            None if math.isnan(event) else int(event),
            None if math.isnan(margin) else margin,
        )

    def frames(self) -> StudyFrames:
        """The study as far as the scale of its curves needs it."""
        return StudyFrames(
            study=self.study,
            runs=pd.DataFrame(),
            curves=self.rows,
            spec={"target": self.configuration["target"]},
            reference={"targets": {str(self.configuration["target_id"]): self.reference}},
            plan={"configurations": [self.configuration]},
            provenance={"criteria": dataclasses.asdict(self.criteria)},
        )


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What was written: the title and the comparison in words, and where it lies."""

    title: str
    verdict: str
    identical: bool
    folder: Path


def write_replay(played: Played, *, out: Path | str) -> ReplayReport:
    """Write replay.html, replay.gif, replay.json, measurements.csv and samples.parquet to the folder ``out``.

    They appear together, in place of an older replay there; the same training gives the same bytes. OutputError:
    ``out`` is a file, or holds files that no replay wrote.
    """
    from analysis.replay_page import render  # noqa: PLC0415 - it shows a Played

    title = f"{setting(played)} {ending(played.outcome)}"
    with replaced_folder(Path(out)) as folder:
        write_text(folder / "replay.html", render(played))
        (folder / "replay.gif").write_bytes(animation(played))
        write_text(folder / "replay.json", json_text(summary(played)))
        write_text(folder / "measurements.csv", csv_text(played.rows))
        pq.write_table(samples_table(played), folder / "samples.parquet", compression="zstd")
        write_manifest(folder)
    comparison = played.comparison
    said = verdict(comparison) + (f" {conditions(played)}" if comparison.differences else "")
    return ReplayReport(title=title, verdict=said.strip(), identical=comparison.identical, folder=Path(out))


def setting(played: Played, *, limit: int = 60) -> str:
    """``hinge with k = 2 and learning rate 1e-3``."""
    factors = played.configuration["factors"]
    parts = [f"k = {number_text(factors['k'])}"] if "k" in factors else []
    if "learning_rate" in factors:
        parts.append(f"learning rate {rate_text(float(factors['learning_rate']))}")
    for player in ("generator", "discriminator"):
        if f"{player}_learning_rate" in factors:
            parts.append(f"{player} rate {rate_text(float(factors[f'{player}_learning_rate']))}")
    return f"{shown(played.configuration['loss'], limit=limit)} with {listed(parts)}"


def ending(outcome: Outcome) -> str:
    """``diverged at step 1,234 (non-finite numbers)``: outcome, when, and its kind in words."""
    name, kind = outcome.outcome, outcome.kind
    at = "" if outcome.t_event is None else f"{outcome.t_event:,}"
    sentences = {
        "converged": f"converged, from step {at} on" if at else "converged",
        "diverged": f"diverged at step {at}" if at else "diverged",
        "collapsed": f"collapsed to few modes from step {at} on" if at else "collapsed to few modes",
        "oscillating": "came and went, and did not settle",
        "under_trained": "was still improving when its budget ended",
        "plateau": "settled short of the criteria",
    }
    kinds = {
        "nonfinite": "non-finite numbers",
        "blowup": "far outside the data",
        "late": "after it had converged",
        "dead": "it never learned",
        "partial_collapse": "modes are missing",
        "quality": "every mode, too little quality",
    }
    word = sentences.get(name) or (OUTCOMES[name].word if name in OUTCOMES else shown(name))
    return f"{word} ({kinds.get(kind, shown(kind).replace('_', ' '))})" if kind else word


def conditions(played: Played) -> str:
    """What else differs, libraries or the judge, in a sentence or two; empty where nothing does."""
    before, now = played.recorded_with, played.replayed_with
    changed = [
        f"{name} {before[name]} then, {now[name]} now" for name in now if before.get(name, now[name]) != now[name]
    ]
    remarks = [f"Other libraries: {'; '.join(changed)}."] if changed else []
    if not played.own_judge:
        remarks.append("The study's own judge is lost, so another was built: what it says of classes may differ.")
    return " ".join(remarks)


def animation(played: Played) -> bytes:
    """The GIF; the first two coordinates of samples that are neither points in the plane nor images."""
    drawable = played.stage.kind != "none"
    return gif(
        played.stage if drawable else _bare_plane(played),
        steps=played.steps,
        samples=played.samples if drawable else _first_two(played.samples),
        landscapes=played.landscapes,
        title=f"{setting(played, limit=24)}, replicate {played.replicate}",
        ending=OUTCOMES[played.outcome.outcome].word,
        horizon=played.horizon,
    )


def _bare_plane(played: Played) -> Stage:
    """The plane of the first two coordinates, with nothing but the samples in it."""
    points = _first_two(played.samples)
    reach = float(np.quantile(np.abs(points[np.isfinite(points)]), 0.99)) if np.isfinite(points).any() else 1.0
    return Stage(sample_shape=(2,), real=points[0, :0], centres=None, middle=(0.0, 0.0), reach=1.3 * reach or 1.0)


def _first_two(samples: Floats) -> Floats:
    """The first two coordinates of samples [F, n, d]."""
    return samples[..., :2]


def samples_table(played: Played) -> pa.Table:
    """Every frame's samples, tidy: generator_step, sample, x (the flat sample)."""
    frames, count, dimensions = played.samples.shape
    ends = np.arange(frames * count + 1, dtype=np.int32) * dimensions
    return pa.table(
        {
            "generator_step": np.repeat(np.asarray(played.steps, dtype=np.int64), count),
            "sample": np.tile(np.arange(count, dtype=np.int64), frames),
            "x": pa.ListArray.from_arrays(ends, pa.array(played.samples.reshape(-1))),
        }
    )


def summary(played: Played) -> dict[str, object]:
    """replay.json: which replicate, how it ended then and now, and where the replay leaves the record."""
    comparison, recorded = played.comparison, played.recorded_outcome
    return {
        "schema": SCHEMA_VERSION,
        "study": played.study,
        "configuration_key": played.configuration["configuration_key"],
        "loss": played.configuration["loss"],
        "factors": mapping(played.configuration["factors"]),
        "replicate": played.replicate,
        "seed": played.seed,
        "horizon": played.horizon,
        "outcome": dataclasses.asdict(played.outcome),
        "recorded_outcome": None if recorded is None else dataclasses.asdict(recorded),
        "record": {
            "source": played.source,
            "verdict": verdict(comparison),
            "identical": comparison.identical,
            "conditions": conditions(played),
            "evaluations_recorded": comparison.recorded,
            "evaluations_compared": comparison.evaluations,
            "numbers_compared": comparison.numbers,
            "numbers_that_differ": len(comparison.differences),
            f"largest_relative_difference_over_{EARLY_STEPS}_steps": comparison.early,
            "first_difference": _described(comparison.first),
            "first_difference_of_each_measurement": [_described(found) for found in comparison.first_of_each()],
        },
        "recorded_with": dict(played.recorded_with),
        "replayed_with": dict(played.replayed_with),
        "frames": list(played.steps),
        "command": played.command,
    }


def _described(difference: Difference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    return dataclasses.asdict(difference) | {"absolute": difference.absolute, "relative": difference.relative}
