"""What one ended configuration leaves in MLflow: its rows, samples, pictures, outcomes and its own description."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

from study.checkpoint import Checkpoint
from study.history import SAMPLES_SCHEMA, history_schema, replicates_schema
from study.network_size import sample_shape
from study.outcomes import Criteria, Outcome
from study.pictures import Panel, Row, drawable, picture, sheet
from study.verdicts import Verdicts
from study.yaml_file import dump_yaml
from trainers.catalogue import TARGETS
from trainers.measurement import EVERY_MEASUREMENT
from trainers.program import evaluation_steps, sample_evaluations

if TYPE_CHECKING:
    from study.plan import Configuration, Plan

PICTURED_REPLICATES = 8
_REAL_POINTS = 512
_DRAWING_THREADS = 2
"""Shrinking and compressing, two thirds of a picture's time, need no Python."""


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
    verdicts: Verdicts | None = None,
) -> Ended:
    """Unites the parts of a configuration and judges each of these ``replicates``; one without rows has failed.

    ``verdicts`` may know what the driver found when it counted.
    """
    verdicts = verdicts or Verdicts()
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
        judged = verdicts.of(
            part.checkpoint,
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

    One picture for each of them over time; of images also one for each kept step, with a row for each of them. None
    for a target that is neither planar nor an image.
    """
    published = replicates_schema(configuration.measurements).names
    parquet.write_table(ended.history.select(published), folder / "replicates.parquet")
    parquet.write_table(ended.samples, folder / "samples.parquet")
    (folder / "samples").mkdir()
    for replicate, png in _pictures(configuration, ended).items():
        (folder / "samples" / f"replicate-{replicate:03d}.png").write_bytes(png)
    for name, png in sheets(configuration, ended.samples).items():
        (folder / "samples" / name).write_bytes(png)


@contextlib.contextmanager
def results_beside(configuration: Configuration, ended: Ended) -> Iterator[Callable[[], Path]]:
    """Writes the results while the caller does something else; what it yields waits for their folder, which then goes.

    Most of it is work outside Python: drawing, compressing, and what SQLite does with a curve meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as folder, ThreadPoolExecutor(1) as beside:
        writing = beside.submit(write_results, Path(folder), configuration, ended)

        def written() -> Path:
            writing.result()
            return Path(folder)

        yield written


def shows_images(configuration: Configuration) -> bool:
    """Whether its samples are images, of which ``sheets`` are drawn."""
    return TARGETS[str(configuration.target["name"])].images


def sheets(configuration: Configuration, samples: pa.Table, *, without: Collection[str] = ()) -> dict[str, bytes]:
    """File name -> PNG of image samples at each kept step that ``samples`` has reached, but for those in ``without``.

    A function of these rows alone: the same bytes while the configuration trains and after it ended.
    """
    if not shows_images(configuration):
        return {}
    reached = sorted(compute.unique(samples["generator_step"]).to_pylist())
    digits = len(str(configuration.horizon))
    shape = sample_shape(configuration.target)
    pictured = range(min(configuration.replicates, PICTURED_REPLICATES))
    return {
        name: sheet(
            [_row(samples, replicate, step) for replicate in pictured],
            sample_shape=shape,
            title=f"{configuration.loss}: samples at step {step:,} of {configuration.horizon:,}",
        )
        for step in reached
        if (name := f"step-{step:0{digits}d}.png") not in without
    }


def _row(samples: pa.Table, replicate: int, step: int) -> Row:
    found = _samples_at(samples, replicate, step)
    return Row(label=f"replicate {replicate}", samples=found, note="" if found is not None else "had ended")


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


def name_in(plan: Plan, configuration: Configuration) -> str:
    """Of a run, by what varies; in a plan that grows, where nobody knows yet, by number: the third of its loss."""
    if plan.declared is None:
        return run_name(configuration, plan.configurations)
    same = [entry.configuration_key for entry in plan.configurations if entry.loss == configuration.loss]
    return f"{configuration.loss} {same.index(configuration.configuration_key) + 1}"


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
    shape, real = _scene(configuration)
    if not drawable(shape):
        return {}
    program = configuration.program()
    steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
    kept = [steps[index] for index in sample_evaluations(program.evaluations)]

    def drawn(replicate: int, outcome: Outcome) -> bytes:
        return picture(
            [_panel(ended, replicate, step) for step in kept],
            sample_shape=shape,
            real=real,
            title=f"{configuration.loss}, replicate {replicate}: {outcome.outcome} {outcome.kind}".strip(),
        )

    pictured = dict(sorted(ended.outcomes.items())[:PICTURED_REPLICATES])
    with ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="pictures") as drawing:
        return dict(zip(pictured, drawing.map(drawn, pictured, pictured.values()), strict=True))


def _scene(configuration: Configuration) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """The shape of one sample, and the real points behind those of the plane.

    Of images no real ones are shown, so that nobody needs a user's files to look at results.
    """
    if shows_images(configuration):
        return sample_shape(configuration.target), np.zeros((0, 0), np.float32)
    from trainers.targets import build_target

    target = build_target(configuration.target)
    return target.sample_shape, target.held_out(np.random.default_rng(0), _REAL_POINTS)


def _panel(ended: Ended, replicate: int, step: int) -> Panel:
    found = _samples_at(ended.samples, replicate, step)
    return Panel(generator_step=step, samples=found, note="" if found is not None else _absence(ended, replicate))


def _samples_at(samples: pa.Table, replicate: int, step: int) -> NDArray[np.float32] | None:
    """The kept samples [n, d] of a replicate at a step; None where it has none."""
    mine = compute.and_(compute.equal(samples["replicate"], replicate), compute.equal(samples["generator_step"], step))
    rows = samples.filter(mine)
    if not len(rows):
        return None
    flat: NDArray[np.float32] = compute.list_flatten(rows["x"]).to_numpy()
    return flat.reshape(len(rows), -1)


def _absence(ended: Ended, replicate: int) -> str:
    deaths = ended.history.filter(
        compute.and_(compute.equal(ended.history["replicate"], replicate), compute.invert(ended.history["finite"]))
    )["generator_step"].to_pylist()
    return f"ended at step {deaths[0]:,}" if deaths else "not reached"
