"""The audit's look at MLflow: one run each, every number once and as measured, statuses true (I1 to I4)."""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute, parquet

from study.audit_files import CohortFiles
from study.audit_rules import Violation
from study.history import replicates_schema
from study.mlflow_bulk import MAX_RUNS
from study.mlflow_client import PARENT_RUN, MlflowStore
from study.results import Part, ended_replicates, rows_of
from study.summary import curve, outcome_fractions
from study.tracking import KEY, KIND, LAUNCH
from trainers.program import evaluation_steps

if TYPE_CHECKING:
    from mlflow.entities import Run

    from study.outcomes import Criteria
    from study.plan import Configuration, Plan

_SHOWN = 3
Entries = Counter[tuple[int, bytes]]
"""Of one metric: (step, the number's eight bytes) -> rows."""


class StoreAudit:
    """Compares one launch in MLflow with what its checkpoints hold; ``plan`` holds that launch alone."""

    def __init__(
        self,
        plan: Plan,
        cohorts: Mapping[str, CohortFiles],
        *,
        launch: str,
        tracking_uri: str,
        running: bool,
        checked: dict[str, int],
        criteria: Criteria,
        references: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._plan, self._launch = plan, launch
        self._cohorts = {entry.cohort: cohorts[entry.cohort] for entry in plan.cohorts}
        self._criteria, self._references = criteria, references
        self._running, self._checked = running, checked
        self._store = MlflowStore(tracking_uri)
        self._histories = self._store.histories([])
        self._parts: dict[str, list[str]] = {}
        for cohort in plan.cohorts:
            for key in dict.fromkeys(key for key, _ in cohort.members):
                self._parts.setdefault(key, []).append(cohort.cohort)

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong in MLflow."""
        self._checked |= {name: self._checked.get(name, 0) for name in ("runs", "metrics", "points")}
        with self._store.readable_failures():
            experiment = self._store.known_experiment(self._plan.study)
            parents = self._store.find(experiment, {KIND: "study", LAUNCH: self._launch})
            if len(parents) != 1:
                yield Violation(invariant="I1", subject=f"launch {self._launch}", text=f"has {len(parents)} study runs")
            for parent in parents[:1]:
                yield from self._study(parent)
                found = self._store.find(experiment, {KIND: "configuration", PARENT_RUN: parent.info.run_id})
                yield from self._configurations(found)

    def _study(self, parent: Run) -> Iterator[Violation]:
        if self._running:
            return
        ended = [cohort.complete or cohort.failed for cohort in self._cohorts.values()]
        failed = any(cohort.failed and not cohort.complete for cohort in self._cohorts.values())
        true = ("FAILED" if failed else "FINISHED") if all(ended) and not self._plan.to_come else "KILLED"
        if parent.info.status != true:
            text = f"the study's run is {parent.info.status}, true is {true}: `ganstudy sync` sends the rest"
            yield Violation(invariant="I4", subject=f"run {parent.info.run_id}", text=text)

    def _configurations(self, runs: Sequence[Run]) -> Iterator[Violation]:
        by_key: dict[str, list[Run]] = {}
        for run in runs:
            by_key.setdefault(str(run.data.tags.get(KEY)), []).append(run)
        for own in by_key.values():  # of two runs the fuller one is judged: the other is a violation already
            own.sort(key=lambda run: (-len(run.data.metrics), run.info.run_id))
        for key in sorted(by_key.keys() - self._plan.by_key.keys()):
            yield Violation(invariant="I1", subject=key, text="has a run, but the plan knows no such configuration")
        planned = self._plan.configurations
        for start in range(0, len(planned), MAX_RUNS):
            some = planned[start : start + MAX_RUNS]
            found = [by_key.get(configuration.configuration_key, []) for configuration in some]
            self._histories = self._store.histories([run.info.run_id for runs in found for run in runs[:1]])
            for configuration, own in zip(some, found, strict=True):
                yield from self._configuration(configuration, own)

    def _configuration(self, configuration: Configuration, runs: Sequence[Run]) -> Iterator[Violation]:
        key = configuration.configuration_key
        parts = [self._cohorts[name] for name in self._parts[key]]
        measured = [part.history for part in parts if part.history is not None]
        if len(runs) > 1 or (not runs and measured and not self._running):
            names = ", ".join(run.info.run_id for run in runs)
            text = f"has {len(runs)} runs: {names or '`ganstudy sync` sends what is missing'}"
            yield Violation(invariant="I1", subject=key, text=text)
        self._checked["runs"] += len(runs)
        for run in runs[:1]:
            yield from self._status(run, key, parts)
            if measured:
                rows = rows_of(pa.concat_tables(measured), key)
                rows = rows.sort_by([("replicate", "ascending"), ("evaluation", "ascending")])
                whole = len(measured) == len(parts) and all(part.complete for part in parts)
                yield from self._metrics(run, configuration, rows, whole=whole, split=len(parts) > 1)
                if whole and run.info.status == "FINISHED":
                    yield from self._table(run, configuration, rows)
                    yield from self._shares(run, configuration, parts)

    def _status(self, run: Run, key: str, parts: Sequence[CohortFiles]) -> Iterator[Violation]:
        if self._running:
            return
        status, ended = run.info.status, all(part.complete or part.failed for part in parts)
        failed = any(part.failed and not part.complete for part in parts)
        true = ("FAILED" if failed else "FINISHED") if ended else "KILLED"
        if status != true:
            yield Violation(invariant="I4", subject=key, text=f"run {run.info.run_id} is {status}, true is {true}")

    def _metrics(
        self, run: Run, configuration: Configuration, rows: pa.Table, *, whole: bool, split: bool
    ) -> Iterator[Violation]:
        """Every number of every curve, against what the checkpoint's rows give."""
        program = configuration.program()
        steps = evaluation_steps(horizon=program.horizon, evaluations=program.evaluations)
        expected: dict[str, Entries] = {}
        if whole or not split:  # the quantiles of a split configuration wait for all its parts
            for point in curve(rows, steps=steps):
                for name, value in point.metrics.items():
                    expected.setdefault(name, Counter())[point.generator_step, _bits(value)] += 1
        complete = whole and not self._running
        last = steps[compute.max(rows["evaluation"]).as_py() or 0] if len(rows) else 0
        for name in sorted(expected.keys() | {n for n in run.data.metrics if not _is_final(n)}):
            held = self._held(run, name)
            if self._running:  # MLflow was asked after the checkpoint was read, and may know a newer one
                held = Counter({(step, bits): rows for (step, bits), rows in held.items() if step <= last})
            self._checked["metrics"] += 1
            self._checked["points"] += held.total()
            yield from _compare(
                f"{configuration.configuration_key} {name}", held, expected.get(name, Counter()), complete=complete
            )

    def _held(self, run: Run, metric: str) -> Entries:
        return Counter((step, _bits(value)) for step, value in self._histories.rows(run.info.run_id, metric))

    def _shares(self, run: Run, configuration: Configuration, parts: Sequence[CohortFiles]) -> Iterator[Violation]:
        """The shares of outcomes are those that the rows, criteria and reference give."""
        ended = ended_replicates(
            configuration,
            [Part(checkpoint=part.checkpoint, failed=part.failed) for part in parts],
            replicates=self._plan.replicates_of(configuration.configuration_key),
            criteria=self._criteria,
            reference=self._references[configuration.target_id],
        )
        shares = outcome_fractions(outcome.outcome for outcome in ended.outcomes.values())
        for name in sorted(shares.keys() | {n for n in run.data.metrics if n.startswith("outcome/")}):
            held = self._held(run, name)
            expected: Entries = Counter([(ended.last_step, _bits(shares[name]))] if name in shares else [])
            yield from _compare(f"{configuration.configuration_key} {name}", held, expected, complete=True)

    def _table(self, run: Run, configuration: Configuration, rows: pa.Table) -> Iterator[Violation]:
        """replicates.parquet holds the very rows of the checkpoints."""
        expected = rows.select(replicates_schema(configuration.measurements).names)
        with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
            path = self._store.download(run.info.run_id, "replicates.parquet", Path(scratch))
            if path is None:
                text = "the run is FINISHED without replicates.parquet"
                yield Violation(invariant="I1", subject=configuration.configuration_key, text=text)
                return
            if not parquet.read_table(path).equals(expected):
                text = "replicates.parquet holds other rows than the checkpoint"
                yield Violation(invariant="I3", subject=configuration.configuration_key, text=text)


def _compare(subject: str, held: Entries, expected: Entries, *, complete: bool) -> Iterator[Violation]:
    """Doubled, wrong and (in a complete run) missing numbers of one metric."""
    per_step = Counter(step for step, _ in held.elements())
    doubled = sorted(step for step, count in per_step.items() if count > 1)
    if doubled:
        yield Violation(invariant="I2", subject=subject, text=f"doubled at {_listed(doubled)}")
    wrong = sorted({step for step, _ in held.keys() - expected.keys()})
    if wrong:
        yield Violation(invariant="I3", subject=subject, text=f"differs from the checkpoint at {_listed(wrong)}")
    missing = sorted({step for step, _ in expected} - per_step.keys())
    if missing and complete:
        yield Violation(invariant="I2", subject=subject, text=f"missing at {_listed(missing)}")


def _listed(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - _SHOWN} more" if len(steps) > _SHOWN else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps[:_SHOWN]))}{more}"


def _is_final(name: str) -> bool:
    """Shares of outcomes and what a report adds: not part of the curves."""
    return name.startswith(("outcome/", "stability/")) or name == "judged_fraction"


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)
