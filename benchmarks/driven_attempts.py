"""Attempts of the real driver under a stopwatch, each in a process of its own: trials without work, reports of trials.

    python -m benchmarks.driven_attempts no-op FOLDER COHORTS
    python -m benchmarks.driven_attempts reports FOLDER TRACKING_URI STEPS

Prints one JSON object. Everything runs that runs in `ganstudy run`: plan, lock, Ray, searcher, listener, trainable.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from study import attempt, launch, listener, trainable
from study.checkpoint import newest_checkpoint, write_checkpoint
from study.folder import StudyFolder, write_json
from study.plan import Plan, make_plan
from study.spec import StudySpec
from tests.study.tracked import HORIZON, TrackedStudy

LOOK_EVERY = 50
"""Trials between two looks at the processor seconds used."""

SMALL: Mapping[str, Any] = {
    "target": {"name": "ring"},
    "networks": {"name": "mlp", "latent_dim": 8, "width": 32, "depth": 1},
    "fixed": {"batch_size": 64},
    "seed": 3,
}


def no_op_spec(cohorts: int) -> StudySpec:
    """So many configurations of one replicate, each a cohort."""
    return StudySpec.from_dict(
        {
            **SMALL,
            "study": "no-op",
            "scientific": {"loss": ["minimax", "hinge"], "k": [1, 2]},
            "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-2, "points": cohorts // 4, "scale": "log"}},
            "replicates": 1,
            "budget": {"unit": "generator_steps", "value": HORIZON, "evaluations": 20, "evaluation_samples": 200},
            "resources": {"cohort_size": 1},
        }
    )


def complete_study(home: Path, spec: StudySpec) -> Plan:
    """A study whose every cohort trained to its end, as the files say: its trials find nothing left to do."""
    plan = make_plan(spec, workers=2)
    folder = StudyFolder(home, spec.study)
    folder.root.mkdir(parents=True)
    write_json(folder.plan_file, plan.to_json())
    folder.spec_file.write_text(spec.dump())
    sync, os.fsync = os.fsync, lambda descriptor: None  # only while the stage is set
    try:
        first = plan.cohorts[0]
        TrackedStudy(root=folder.root, spec=spec, plan=plan).train(first.cohort)
        made = newest_checkpoint(folder.cohort(first.cohort)).checkpoint
        assert made is not None
        history, samples = made.history(), made.samples()
        for entry in plan.cohorts[1:]:
            [(key, replicate)] = entry.members
            write_checkpoint(
                folder.cohort(entry.cohort),
                generator_step=made.generator_step,
                evaluations_done=made.evaluations_done,
                complete=True,
                state={"step": made.generator_step},
                history=_of(_of(history, "configuration_key", key), "seed", plan.by_key[key].seeds[replicate]),
                samples=_of(samples, "configuration_key", key),
                attempt=1,
            )
    finally:
        os.fsync = sync
    return plan


def _of(table: pa.Table, name: str, value: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array([value] * len(table), table.schema.field(name).type)
    )


class HandsOutAll(attempt.Attempt):
    """The driver, but that it also hands out cohorts that ended: their trials are the real ones, and have no work."""

    def _look_at(self, cohort: str) -> None:
        pass


def no_op(home: Path, cohorts: int) -> dict[str, Any]:
    """Seconds and memory of a driver after each trial that ended."""
    spec = no_op_spec(cohorts)
    plan = complete_study(home, spec)
    marks: list[tuple[float, float, int]] = []
    process, used = psutil.Process(), CpuSeconds()

    def marked(ended: Any) -> Any:
        @functools.wraps(ended)
        def method(self: Any, *arguments: Any, **more: Any) -> None:
            ended(self, *arguments, **more)
            if len(marks) % LOOK_EVERY == 0:
                used.look(process)
            marks.append((time.monotonic(), used.total_s, process.memory_info().rss))

        return method

    launch.Attempt = HandsOutAll  # type: ignore[misc]
    listener.Listener.on_trial_complete = marked(listener.Listener.on_trial_complete)  # type: ignore[method-assign]
    result = launch.run(spec, home=home, offline=True)
    assert sum(result.counts.values()) == len(plan.cohorts), result.counts
    return {"marks": marks, "exit_code": result.exit_code, "outcomes": dict(result.counts)}


class CpuSeconds:
    """User and system seconds of a process and all that it ever started, as far as ``look`` saw them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}

    @property
    def total_s(self) -> float:
        """Up to the last look; the dead count with what they had used by then."""
        return sum(self._seen.values())

    def look(self, process: psutil.Process) -> None:
        """Takes some milliseconds: it reads the table of processes."""
        for one in (process, *process.children(recursive=True)):
            try:
                times = one.cpu_times()
                self._seen[one.pid, one.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue


_trainable = trainable.trainable


def timed_trainable(config: Mapping[str, Any]) -> None:
    """The trainable, with the seconds of each call to its report path and of each report that was sent beside it."""
    calls: list[float] = []
    sent: list[float] = []
    evaluated, send = trainable.Pace.evaluated, trainable.Pace._send
    trainable.Pace.evaluated = _timed(evaluated, calls)  # type: ignore[method-assign]
    trainable.Pace._send = _timed(send, sent)  # type: ignore[method-assign]
    began = time.monotonic()
    try:
        _trainable(config)
    finally:
        trainable.Pace.evaluated, trainable.Pace._send = evaluated, send  # type: ignore[method-assign]
    folder = StudyFolder(Path(config["home"]), config["study"])
    wall_s = time.monotonic() - began
    write_json(folder.root / "timings" / f"{config['cohort']}.json", {"wall_s": wall_s, "calls": calls, "sent": sent})


def _timed(method: Any, seconds: list[float]) -> Any:
    @functools.wraps(method)
    def timed(*arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments, **more)
        finally:
            seconds.append(time.perf_counter() - began)

    return timed


def report_spec(steps: int) -> StudySpec:
    """Four cohorts that evaluate often."""
    return StudySpec.from_dict(
        {
            **SMALL,
            "study": "reports",
            "scientific": {"loss": ["minimax", "hinge"], "k": [1]},
            "nuisance": {"learning_rate": [1e-3, 3e-3]},
            "replicates": 2,
            "budget": {
                "unit": "generator_steps",
                "value": steps,
                "evaluations": steps // 10,
                "evaluation_samples": 200,
            },
            "resources": {"cohort_size": 2},
        }
    )


def reports(home: Path, tracking_uri: str, steps: int) -> dict[str, Any]:
    """What the report path cost the trials of a real run, in seconds."""
    trainable.trainable = timed_trainable  # type: ignore[assignment]
    spec = report_spec(steps)
    result = launch.run(spec, home=home, tracking_uri=tracking_uri)
    folder = StudyFolder(home, spec.study)
    found = [json.loads(path.read_text()) for path in sorted(folder.root.glob("timings/*.json"))]
    return {
        "exit_code": result.exit_code,
        "calls": [second for one in found for second in one["calls"]],
        "sent": [second for one in found for second in one["sent"]],
        "wall_s": sum(one["wall_s"] for one in found),
    }


def main() -> None:
    """One measurement, told as JSON on the last line."""
    what, folder, *more = sys.argv[1:]
    found = no_op(Path(folder), int(more[0])) if what == "no-op" else reports(Path(folder), more[0], int(more[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    from benchmarks import driven_attempts

    driven_attempts.main()  # by its own name: workers import what they are sent by it
