"""Commands on one study: plan, run, resume, extend, status, stop, sync, audit, list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli_cluster, cli_extend
from study.cli_options import (
    ADDRESS,
    HOME,
    JSON,
    OFFLINE,
    OPTIONAL_STUDY,
    SET,
    SPEC,
    STUDY,
    TRACKING_URI,
    command_line,
    conclude,
    err,
    existing,
    out,
    print_json,
)
from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, find_study, home_folder, lock_holder, locked

if TYPE_CHECKING:
    from study.spec import StudySpec

_STOP_PATIENCE_S = 60.0


def register(app: typer.Typer) -> None:
    """Adds these commands in the order a study's life takes."""
    app.command("list")(list_studies)
    for command in (plan, run, resume, cli_extend.extend, cli_cluster.submit, status, stop, sync, audit):
        app.command()(command)


def list_studies(home: HOME = None, tracking_uri: TRACKING_URI = None, as_json: JSON = False) -> None:
    """The studies under this home or tracking server."""
    from study.status import all_statuses, print_list

    base = home_folder(home)
    statuses, unreadable = all_statuses(base)
    for problem in unreadable:
        err().print(problem, soft_wrap=True, markup=False, style="red")
    recorded = _recorded(tracking_uri) if tracking_uri else []
    elsewhere = sorted(set(recorded) - {status.study for status in statuses})
    if as_json:
        print_json({"home": str(base), "studies": [status.to_json() for status in statuses], "elsewhere": elsewhere})
        return
    if statuses:
        print_list(statuses, out())
    else:
        err().print(f"no study was begun under {base}", soft_wrap=True)
    if elsewhere:
        out().print(f"at {tracking_uri}, begun elsewhere: {', '.join(elsewhere)}", soft_wrap=True)


def plan(
    spec: SPEC, home: HOME = None, tracking_uri: TRACKING_URI = None, overrides: SET = None, as_json: JSON = False
) -> None:
    """Dry run: configurations, replicates, cohorts, expected steps and time; runs nothing.

    Takes the options of `run`, so that one command line can be turned into the other.
    """
    from study.cli_plan import plan_json, print_plan
    from study.plan import expected_plan
    from study.ray_doorway import local_resources
    from study.share import share_of

    checked = _read_spec(spec, overrides)
    machine = local_resources()
    made, workers = expected_plan(checked, machine), share_of(machine, checked.resources).concurrent
    if as_json:
        print_json(plan_json(checked, made, workers=workers, chosen=checked.search.method != "optuna"))
    else:
        print_plan(checked, made, out(), workers=workers)


def run(
    spec: SPEC,
    home: HOME = None,
    address: ADDRESS = None,
    tracking_uri: TRACKING_URI = None,
    offline: OFFLINE = False,
    overrides: SET = None,
) -> None:
    """Run a study to the end, or go on with it; Ctrl-C keeps everything."""
    checked = _read_spec(spec, overrides)
    from study.launch import run as launch

    conclude(
        launch(
            checked,
            home=home,
            address=address,
            tracking_uri=tracking_uri,
            offline=offline,
            command=command_line(),
            console=err(),
        )
    )


def resume(
    study: STUDY,
    home: HOME = None,
    address: ADDRESS = None,
    tracking_uri: TRACKING_URI = None,
    offline: OFFLINE = False,
) -> None:
    """Continue after a crash, Ctrl-C or a lost machine: nothing lost, nothing twice."""
    if where := cli_cluster.place_of(study, address=address, home=home):
        cli_cluster.resume_there(study, where, tracking_uri=tracking_uri, offline=offline)
        return
    find_study(study, home=home)
    from study.launch import resume as launch

    conclude(
        launch(
            study,
            home=home,
            address=address,
            tracking_uri=tracking_uri,
            offline=offline,
            command=command_line(),
            console=err(),
        )
    )


def status(
    study: OPTIONAL_STUDY = None,
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
    address: ADDRESS = None,
    as_json: JSON = False,
) -> None:
    """Replicates planned, running, done and failed; outcomes so far; time left."""
    from study.status import print_status, study_status

    if study is None:
        list_studies(home=home, tracking_uri=tracking_uri, as_json=as_json)
        return
    if where := cli_cluster.place_of(study, address=address, home=home):
        cli_cluster.status_there(study, where, as_json=as_json)
        return
    folder = find_study(study, home=home)
    now = study_status(folder)
    reconcile_if_died(folder, tracking_uri=tracking_uri)
    if as_json:
        print_json(now.to_json())
    else:
        print_status(now, out())


def stop(study: STUDY, home: HOME = None, address: ADDRESS = None, tracking_uri: TRACKING_URI = None) -> None:
    """Stop a running study cleanly: its state is kept, `resume` goes on."""
    if where := cli_cluster.place_of(study, address=address, home=home):
        cli_cluster.stop_there(study, where)
        return
    folder = find_study(study, home=home)
    holder = lock_holder(folder)
    if holder is None or not holder.alive:
        out().print(f"{study} is not running", soft_wrap=True)
        return
    folder.ask_to_stop("stop")
    err().print(f"asked {holder.text} to stop {study}; waiting for its checkpoints", soft_wrap=True)
    deadline = time.monotonic() + _STOP_PATIENCE_S
    while (now := lock_holder(folder)) is not None and now.alive and now.pid == holder.pid:
        if folder.stop_reason() is None:
            folder.ask_to_stop("stop")  # a run that was just starting cleared ours away with those of earlier ones
        if time.monotonic() > deadline:
            raise WorkFailed(f"{study} is still held by {now.text} after {_STOP_PATIENCE_S:g} s")
        time.sleep(0.2)
    out().print(f"{study} stopped; go on with `ganstudy resume {study}`", soft_wrap=True)


def sync(study: STUDY, home: HOME = None, tracking_uri: TRACKING_URI = None) -> None:
    """Send MLflow whatever it missed."""
    folder = find_study(study, home=home)
    from study.delivery import sync_study
    from study.mlflow_client import readable_uri

    with locked(folder):
        uri = sync_study(folder, tracking_uri=tracking_uri)
    out().print(f"{study}: MLflow at {readable_uri(uri)} holds all its results", soft_wrap=True)


def audit(
    study: STUDY,
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
    mlflow: Annotated[bool, typer.Option("--mlflow/--files-only", help="Look at MLflow too.")] = True,
    as_json: JSON = False,
) -> None:
    """Is every measurement there, once, as measured, and every status true? Exit code 1 where not."""
    folder = find_study(study, home=home)
    from study.audit import INVARIANTS
    from study.audit import audit as look

    found = look(folder, tracking_uri=tracking_uri, mlflow=mlflow)
    if as_json:
        print_json(found.to_json())
    else:
        for violation in found.violations:
            line = f"{violation.invariant}  {violation.subject}: {violation.text}"
            out().print(line, soft_wrap=True, markup=False, style="red")
        for name in sorted({violation.invariant for violation in found.violations}):
            out().print(f"{name}: {INVARIANTS[name]}", soft_wrap=True, markup=False)
        looked = ", ".join(f"{count:,} {what}" for what, count in found.checked.items())
        verdict = f"{len(found.violations)} violations" if found.violations else "all invariants hold"
        state = " (while it runs: what must hold at any moment)" if found.running else ""
        out().print(f"{study}: {verdict} in {looked}{state}", soft_wrap=True, markup=False)
    raise typer.Exit(1 if found.violations else 0)


def _read_spec(path: Path, overrides: list[str] | None) -> StudySpec:
    existing(path)
    from study.spec import StudySpec

    for override in overrides or []:
        err().print(f"set {override}", soft_wrap=True, markup=False)
    return StudySpec.from_file(path, overrides=overrides or [])


def reconcile_if_died(folder: StudyFolder, *, tracking_uri: str | None = None) -> None:
    """Gives the runs of a launch whose driver was killed their true status; whoever resumes first does it instead."""
    holder = lock_holder(folder)
    if holder is None or holder.alive:
        return
    from study.delivery import reconcile_study

    try:
        with locked(folder):
            reconcile_study(folder, tracking_uri=tracking_uri)
    except WorkFailed as problem:
        err().print(f"MLflow is not reconciled: {problem}", soft_wrap=True, markup=False)


def _recorded(tracking_uri: str) -> list[str]:
    """The studies a tracking server or database holds; a missing file is bad input, since opening would create it."""
    file = tracking_uri.removeprefix("sqlite:///").partition("?")[0]
    if tracking_uri.startswith("sqlite:///") and not Path(file).is_file():
        raise BadInput(f"{file} does not exist")
    from study.mlflow_client import MlflowStore

    return MlflowStore(tracking_uri).studies()
