"""What one ended configuration leaves in MLflow: its rows, samples, pictures, outcomes and its own description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from study.checkpoint import Checkpoint
from study.history import SAMPLES_SCHEMA, history_schema, judge_members, replicates_schema
from study.outcomes import Criteria, Outcome
from study.pictures import Panel, drawable, picture
from study.yaml_file import dump_yaml
from trainers.measurement import EVERY_MEASUREMENT
from trainers.program import evaluation_steps, sample_evaluations

if TYPE_CHECKING:
    from study.plan import Configuration

PICTURED_REPLICATES = 8
_REAL_POINTS = 512


@dataclass(frozen=True, kw_only=True)
class Part:
    """One ended cohort that trained (a share of) a configuration; no checkpoint if it failed before its first."""

    checkpoint: Checkpoint | None
    failed: bool

    @property
    def censored(self) -> bool:
        """Whether the scheduler ended it early: neither failed nor at its horizon."""
        return not self.failed and (self.checkpoint is None or not self.checkpoint.complete)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Everything measured of one configuration, and how each planned replicate ended."""

    history: pa.Table
    samples: pa.Table
    outcomes: Mapping[int, Outcome]

    @property
    def last_step(self) -> int:
        """Generator step of the last row; 0 without rows."""
        return int(compute.max(self.history["generator_step"]).as_py() or 0)

    @property
    def last_measured_ms(self) -> int | None:
        """When the last row was measured."""
        latest: int | None = compute.max(self.history["measured_at_ms"]).as_py()
        return latest

    def final_values(self, replicate: int) -> dict[str, float]:
        """``final_<measurement>`` of a replicate's last row; a dead one has none."""
        rows = self.history.filter(compute.equal(self.history["replicate"], replicate)).to_pylist()
        last = rows[-1] if rows else {}
        return {f"final_{name}": last[name] for name in EVERY_MEASUREMENT if last.get(name) is not None}


def rows_of(table: pa.Table, key: str) -> pa.Table:
    """The rows of one configuration."""
    return table.filter(compute.equal(table["configuration_key"], key))


def ended_replicates(
    configuration: Configuration,
    parts: Sequence[Part],
    *,
    replicates: Sequence[int],
    criteria: Criteria,
    reference: Mapping[str, Any],
) -> Ended:
    """Unites the parts of a configuration and judges each of these ``replicates``; one without rows has failed."""
    key = configuration.configuration_key
    histories = [history_schema(configuration.measurements).empty_table()]
    samples = [SAMPLES_SCHEMA.empty_table()]
    outcomes = {replicate: Outcome("failed", "", None, None) for replicate in replicates}
    for part in parts:
        if part.checkpoint is None:
            continue
        history = rows_of(part.checkpoint.history(), key)
        histories.append(history)
        samples.append(rows_of(part.checkpoint.samples(), key))
        judged = judge_members(
            history,
            [(key, replicate) for replicate in compute.unique(history["replicate"]).to_pylist()],
            {key: configuration},
            criteria=criteria,
            references={configuration.target_id: reference},
            censored=part.censored,
        )
        outcomes |= {replicate: outcome for (_, replicate), outcome in judged.items()}
    return Ended(
        history=pa.concat_tables(histories).sort_by([("replicate", "ascending"), ("evaluation", "ascending")]),
        samples=pa.concat_tables(samples).sort_by(
            [("replicate", "ascending"), ("generator_step", "ascending"), ("sample", "ascending")]
        ),
        outcomes=outcomes,
    )


def write_results(folder: Path, configuration: Configuration, ended: Ended) -> None:
    """Writes replicates.parquet, samples.parquet and samples/*.png of the first eight replicates.

    No picture for a target that is neither planar nor an image.
    """
    published = replicates_schema(configuration.measurements).names
    parquet.write_table(ended.history.select(published), folder / "replicates.parquet")
    parquet.write_table(ended.samples, folder / "samples.parquet")
    (folder / "samples").mkdir()
    for replicate, png in _pictures(configuration, ended).items():
        (folder / "samples" / f"replicate-{replicate:03d}.png").write_bytes(png)


def configuration_yaml(configuration: Configuration, replicates: Sequence[int] | None = None) -> str:
    """Everything that defines a configuration, as YAML, and the optional measurements that were taken of it.

    ``replicates`` are those of one launch (None: all): their numbers are told where they are not all, and their seeds.
    """
    replicates = range(configuration.replicates) if replicates is None else replicates
    measured = {"measurements": list(configuration.measurements)} if configuration.measurements else {}
    return dump_yaml(
        {
            "configuration_key": configuration.configuration_key,
            "loss": configuration.loss,
            "adversarial_loss": configuration.adversarial_loss,
            "penalty": configuration.penalty,
            "factors": dict(configuration.factors),
            "target": dict(configuration.target),
            "networks": dict(configuration.networks),
            "budget": dict(configuration.budget),
            "horizon": configuration.horizon,
            "replicates": len(replicates),
            **({} if len(replicates) == configuration.replicates else {"replicate_numbers": list(replicates)}),
            "seeds": [configuration.seeds[replicate] for replicate in replicates],
            **measured,
        }
    )


def run_name(configuration: Configuration, everyone: Sequence[Configuration]) -> str:
    """The loss's label and the factors in which the study's configurations differ: ``wgan k=2 lr=0.001``.

    Short, because the MLflow UI shows some twenty characters.
    """
    values_of = {
        name: {entry.factors[name] for entry in everyone if name in entry.factors} for name in configuration.factors
    }
    varied = [name for name, values in values_of.items() if len(values) > 1]
    values = ((name, configuration.factors[name]) for name in varied)
    short = ((name.replace("learning_rate", "lr"), value) for name, value in values)
    named = (f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in short)
    return " ".join([configuration.loss, *named])


def _pictures(configuration: Configuration, ended: Ended) -> dict[int, bytes]:
    from trainers.targets import build_target

    target = build_target(configuration.target)
    if not drawable(target.sample_shape):
        return {}
    program = configuration.program()
    steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    kept = [steps[index] for index in sample_evaluations(program.evaluations)]
    rng = np.random.default_rng(0)
    real = target.held_out(rng, min(_REAL_POINTS, target.held_out_size or _REAL_POINTS))
    return {
        replicate: picture(
            [_panel(ended, replicate, step) for step in kept],
            sample_shape=target.sample_shape,
            real=real,
            title=f"{configuration.loss}, replicate {replicate}: {outcome.outcome} {outcome.kind}".strip(),
        )
        for replicate, outcome in sorted(ended.outcomes.items())[:PICTURED_REPLICATES]
    }


def _panel(ended: Ended, replicate: int, step: int) -> Panel:
    mine = compute.and_(
        compute.equal(ended.samples["replicate"], replicate), compute.equal(ended.samples["generator_step"], step)
    )
    rows = ended.samples.filter(mine)
    if not len(rows):
        return Panel(generator_step=step, samples=None, note=_absence(ended, replicate))
    flat = compute.list_flatten(rows["x"]).to_numpy()
    return Panel(generator_step=step, samples=flat.reshape(len(rows), -1))


def _absence(ended: Ended, replicate: int) -> str:
    deaths = ended.history.filter(
        compute.and_(compute.equal(ended.history["replicate"], replicate), compute.invert(ended.history["finite"]))
    )["generator_step"].to_pylist()
    return f"ended at step {deaths[0]:,}" if deaths else "not reached"
