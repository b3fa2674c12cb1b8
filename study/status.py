"""What ``status`` and ``list`` say, read from a study's files: no Ray, no MLflow, no pickles."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, home_folder, lock_holder, read_json, study_names
from study.mlflow_client import readable_uri
from study.progress import duration, ordered, outcome_text, progress_bar, work_of
from study.protocol import confirmation_to_come, phase_of
from study.spec import StudySpec
from study.tally import CohortState, Tally, read_plan

if TYPE_CHECKING:
    from study.plan import Plan

STATE_COLOURS: Mapping[str, str] = {
    "running": "green",
    "stopping": "yellow",
    "finished": "green",
    "failed": "red",
    "interrupted": "yellow",
    "died": "red",
}


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Counts are replicates. ``state``: running, stopping, finished, failed (all ended, some without a result),
    interrupted (stopped in order), died (the process that ran it was killed); the last two are resumable. ``phase``:
    explore or confirm, in a study with a protocol, whose fresh seeds are planned for before they are chosen.
    """

    study: str
    state: str
    planned: int
    running: int
    done: int
    failed: int
    fraction: float
    outcomes: Mapping[str, int]
    time_left_s: float | None
    replicate_steps_per_s: float | None
    owner: str | None
    attempt: int
    launched: str
    home: str
    tracking_uri: str
    trouble: str
    failures: Mapping[str, str]
    offline: bool = False
    phase: str = ""
    launches: int = 1

    def to_json(self) -> dict[str, object]:
        """Plain values, for ``--json``."""
        return asdict(self)


def study_status(folder: StudyFolder, *, outcomes: bool = True) -> StudyStatus:
    """Where a begun study stands now; ``outcomes=False`` spares reading the histories."""
    plan = read_plan(folder)
    tally = Tally(folder=folder, plan=plan)
    states = {entry.cohort: tally.state(entry.cohort, outcomes=outcomes) for entry in plan.cohorts}
    members = {entry.cohort: len(entry.members) for entry in plan.cohorts}
    launch = read_json(folder.launch_file) if folder.launch_file.exists() else {}
    holder = lock_holder(folder)
    alive = holder is not None and holder.alive
    pace = _pace(folder, attempt=launch.get("attempt")) if alive else {}
    done = sum(members[cohort] for cohort, state in states.items() if state.complete)
    failures = {cohort: state.problem for cohort, state in states.items() if state.problem}
    failed = sum(members[cohort] for cohort in failures)
    to_come, phase = _protocol(folder, plan)
    planned = plan.replicates + to_come
    fraction = _fraction(plan, states)
    if plan.launches == (1,):  # a driver's own share is that of its launch
        fraction = max(fraction, float(pace.get("fraction", 0.0))) * plan.replicates / planned
    return StudyStatus(
        study=folder.study,
        state=_state(folder, alive=alive, died=holder is not None, ended=done + failed == planned, failed=failed > 0),
        planned=planned,
        running=int(pace.get("running", 0)),
        done=done,
        failed=failed,
        fraction=fraction,
        outcomes=dict(ordered(sum((state.outcomes for state in states.values()), Counter()))) if outcomes else {},
        time_left_s=pace.get("time_left_s"),
        replicate_steps_per_s=pace.get("replicate_steps_per_s"),
        owner=holder.text if holder is not None else None,
        attempt=int(str(launch.get("attempt", 0))),
        launched=str(launch.get("started", "")),
        home=str(folder.home),
        tracking_uri=readable_uri(str(launch.get("tracking_uri", ""))),
        trouble=str(pace.get("trouble", "")),
        failures=failures,
        offline=bool(launch.get("offline", False)),
        phase=phase,
        launches=len(plan.launches),
    )


def all_statuses(home: Path) -> tuple[list[StudyStatus], list[str]]:
    """Every study under ``home``, by name, without outcomes; and one line on each that cannot be read."""
    statuses, problems = [], []
    for name in study_names(home):
        try:
            statuses.append(study_status(StudyFolder(home, name), outcomes=False))
        except (WorkFailed, BadInput) as problem:
            problems.append(f"{name}: {problem}")
    return statuses, problems


def print_status(status: StudyStatus, console: Console, *, address: str | None = None) -> None:
    """For people; names are never cut. ``address``: the job server of the cluster where the study lives."""
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        Text(status.study, style="bold"),
        Text(status.state, style=STATE_COLOURS[status.state]),
        progress_bar(status.fraction, width=30),
        Text(f"{100 * status.fraction:.0f} %"),
    )
    console.print(bar)
    console.print(
        f"replicates: {status.planned} planned, {status.running} running, {status.done} done, {status.failed} failed"
    )
    if status.phase:
        console.print(f"phase:      {status.phase}")
    if status.outcomes:
        console.print(Text("outcomes:   ") + outcome_text(status.outcomes))
    if status.time_left_s is not None and status.replicate_steps_per_s is not None:
        console.print(
            f"time left:  {duration(status.time_left_s)} at {status.replicate_steps_per_s:,.0f} replicate-steps/s"
        )
    for cohort, problem in status.failures.items():
        console.print(Text(f"failed:     {cohort}: {problem}", style="red"), soft_wrap=True)
    if status.trouble:
        console.print(Text(f"trouble:    {status.trouble}", style="yellow"), soft_wrap=True)
    if status.offline:
        text = "offline:    MLflow has nothing of the last attempt; `ganstudy sync` sends it when it ended"
        console.print(Text(text, style="yellow"), soft_wrap=True)
    console.print(Text(_hint(status, address)), soft_wrap=True)


def print_list(statuses: list[StudyStatus], console: Console) -> None:
    """One row per study."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("study", "state", "done", "failed", "planned", "launched"):
        right = title in ("done", "failed", "planned")
        table.add_column(title, no_wrap=True, justify="right" if right else "left", overflow="fold")
    for status in statuses:
        table.add_row(
            status.study,
            Text(status.state, style=STATE_COLOURS[status.state]),
            str(status.done),
            str(status.failed),
            str(status.planned),
            status.launched,
        )
    console.print(table)


def _hint(status: StudyStatus, address: str | None) -> str:
    home = "" if Path(status.home) == home_folder() else f" --home {shlex.quote(status.home)}"
    name = f"{status.study}{home}" if address is None else f"{status.study} --address {address}"
    return {
        "running": f"run by:     {status.owner}; end it with `ganstudy stop {name}`",
        "stopping": f"run by:     {status.owner}, writing its checkpoints",
        "finished": f"next:       {_report_hint(status, name, address)}",
        "failed": f"next:       `ganstudy resume {name}` tries the failed cohorts again",
        "interrupted": f"next:       `ganstudy resume {name}` goes on where it stopped",
        "died": f"next:       {status.owner} is gone; `ganstudy resume {name}` goes on from the checkpoints",
    }[status.state]


def _report_hint(status: StudyStatus, name: str, address: str | None) -> str:
    """A report needs the results: from a tracking server anywhere, from a database only where it lies."""
    if address is None:
        return f"`ganstudy {'sync' if status.offline else 'report'} {name}`"
    if status.tracking_uri.startswith(("http://", "https://")):
        return f"`ganstudy report {status.study} --tracking-uri {status.tracking_uri}`"
    return f"on the cluster, `ganstudy report {status.study} --home {shlex.quote(status.home)}`"


def _state(folder: StudyFolder, *, alive: bool, died: bool, ended: bool, failed: bool) -> str:
    if alive:
        return "stopping" if folder.stop_reason() is not None else "running"
    if ended:
        return "failed" if failed else "finished"
    return "died" if died else "interrupted"


def _fraction(plan: Plan, states: Mapping[str, CohortState]) -> float:
    work = work_of(plan)
    total = sum(entry.total for entry in work.values())
    done = sum(
        entry.total if states[cohort].complete else states[cohort].generator_step * entry.members * entry.step_cost
        for cohort, entry in work.items()
    )
    return done / (total * (1 + plan.to_come / len(work))) if total else float(not plan.to_come)


def _protocol(folder: StudyFolder, plan: Plan) -> tuple[int, str]:
    """Replicates that the protocol will still add, and the phase it is in."""
    if not folder.spec_file.exists():
        return 0, ""
    spec = StudySpec.from_file(folder.spec_file, import_code=False)
    return confirmation_to_come(spec, plan), phase_of(spec, plan, plan.launches[-1])


def _pace(folder: StudyFolder, *, attempt: object) -> dict[str, Any]:
    if not folder.progress_file.exists():
        return {}
    pace = read_json(folder.progress_file)
    return pace if pace.get("attempt") == attempt else {}
