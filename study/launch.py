"""Runs a study, or goes on with it: validate, freeze the plan, take the lock, train what is unfinished, tell MLflow."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.attempt import Attempt
from study.configurations import Configuration, configurations
from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, find_study, home_folder, locked, write_json
from study.launches import code_folder, launch_id, next_record, ran_offline, remembered
from study.launches import tracking_uri as _store_uri
from study.plan import Plan, plan_for
from study.ray_doorway import local_resources, prepare_environment, ray_session
from study.spec import StudySpec
from study.tally import Tally, read_plan
from study.user_code import changed_files, code_of, user_sources

if TYPE_CHECKING:
    from rich.console import Console

    from study.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """How a launch ended. ``counts``: outcome -> replicates that ended, of ``planned``.

    ``exit_code``: 0 every planned replicate ended; 1 some failed; 130 interrupted, resumable.
    """

    study: str
    home: Path
    tracking_uri: str
    counts: Mapping[str, int]
    planned: int
    exit_code: int
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a study is run this time: part of no result."""

    address: str | None
    tracking_uri: str | None
    offline: bool
    command: str


def run(
    spec: StudySpec | Mapping[str, Any] | str | Path,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    offline: bool = False,
    command: str = "",
    console: Console | None = None,
) -> StudyResult:
    """Runs a study to its end under ``home``, or goes on where an earlier launch of the same spec stopped.

    ``address=None`` (or local) starts Ray on this machine. ``tracking_uri=None`` is what the study began with, else
    $MLFLOW_TRACKING_URI, else a database under the home. ``offline``: this attempt does not ask for MLflow, a later
    ``sync_study`` sends what it measured. Raises SpecError or BadInput for a spec that is invalid or
    differs from the one that was begun, WorkFailed when the study is locked or Ray or MLflow cannot be reached.
    """
    checked = _as_spec(spec)
    folder = StudyFolder(home_folder(home), checked.study)
    address = None if address == "local" else address
    if folder.plan_file.exists():
        _refuse_changed(folder, checked)
    else:
        _rehearse(configurations(checked))  # what is wrong with it is told before anything is created or started
    options = Options(address=address, tracking_uri=tracking_uri, offline=offline, command=command)
    with locked(folder):
        plan = _frozen_plan(folder)
        if plan is None:
            plan = plan_for(checked, _resources(folder, address))
        else:
            _refuse_changed(folder, checked)  # another launch may have begun it just before us
        return _attempt(folder, checked, plan, options, console)


def resume(
    study: str,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    offline: bool = False,
    command: str = "",
    console: Console | None = None,
) -> StudyResult:
    """Goes on with a study by name, with what it was launched with where nothing else is said.

    Raises BadInput for an unknown study, WorkFailed as ``run`` does.
    """
    folder = find_study(study, home=home)
    spec = _begun_spec(folder)
    address = address or str(remembered(folder).get("address") or "") or None
    return run(
        spec,
        home=folder.home,
        address=address,
        tracking_uri=tracking_uri,
        offline=offline,
        command=command,
        console=console,
    )


def begun_study(folder: StudyFolder) -> tuple[StudySpec, Plan]:
    """The spec and the frozen plan of a study that was begun; its own code, if any, can be imported from now on.

    Raises BadInput where that code is no longer what the study was begun with: it would train something else.
    """
    spec = _begun_spec(folder)
    _refuse_changed(folder, spec)
    code = str(code_folder(folder, spec))
    if code not in sys.path:
        sys.path.append(code)
    return spec, read_plan(folder)


def sync_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> str:
    """Sends MLflow whatever it missed of a study whose lock is held, and returns the store's URI."""
    for number, status in _run_statuses(folder).items():
        _sync_launch(folder, number, status, tracking_uri=tracking_uri)
    uri = _store_uri(folder, tracking_uri)
    if ran_offline(folder):
        write_json(folder.launch_file, {**remembered(folder), "tracking_uri": uri, "offline": False})
    return uri


def _sync_launch(folder: StudyFolder, number: int, status: str, *, tracking_uri: str | None) -> None:
    tracker = _recorded_tracker(folder, number, tracking_uri=tracking_uri)
    tracker.open(launch=launch_id(folder, number))
    with tracker.readable_failures():
        tracker.sync()
        tracker.close(status)


def recorded_store(folder: StudyFolder, *, tracking_uri: str | None = None) -> tuple[dict[int, str], str]:
    """Number -> name of each of the study's launches, and the URI of the MLflow store that its results go to."""
    launches = {number: launch_id(folder, number) for number in read_plan(folder).launches}
    return launches, _store_uri(folder, tracking_uri)


def reconcile_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> None:
    """Gives the runs of launches whose driver died their true status; the lock is held.

    A driver that died after a launch's last replicate ended left nothing of it to resume: its results are sent, too.
    """
    if ran_offline(folder):
        return
    for number, status in _run_statuses(folder).items():
        if status == "KILLED":
            tracker = _recorded_tracker(folder, number, tracking_uri=tracking_uri)
            tracker.reconcile(launch=launch_id(folder, number))
        else:
            _sync_launch(folder, number, status, tracking_uri=tracking_uri)


def _run_statuses(folder: StudyFolder) -> dict[int, str]:
    """Launch -> the true status of its study run while nobody runs it."""
    plan = read_plan(folder)
    tally = Tally(folder=folder, plan=plan)
    found: dict[int, str] = {}
    for number in plan.launches:
        states = [tally.state(entry.cohort, outcomes=False) for entry in plan.of_launch(number).cohorts]
        ended = all(state.complete or state.problem for state in states)
        found[number] = "KILLED" if not ended else "FAILED" if any(state.problem for state in states) else "FINISHED"
    return found


def _attempt(
    folder: StudyFolder, spec: StudySpec, plan: Plan, options: Options, console: Console | None
) -> StudyResult:
    """One attempt at each launch that the plan has, oldest first; the plan may grow meanwhile."""
    prepare_environment(folder.home)
    counts: Counter[str] = Counter()
    number, interrupted = 1, False
    while number in plan.launches and not interrupted:
        record = next_record(folder, spec, **asdict(options))
        attempt = Attempt(folder, spec, plan, record, number=number, console=console)
        attempt.run()
        counts += attempt.counts
        interrupted = attempt.interrupted
        number, plan = number + 1, read_plan(folder)
    ended = sum(counts.values()) == plan.replicates
    return StudyResult(
        study=spec.study,
        home=folder.home,
        tracking_uri=record["tracking_uri"],
        counts=dict(counts),
        planned=plan.replicates,
        offline=options.offline,
        exit_code=130 if not ended and interrupted else 1 if not ended or counts["failed"] else 0,
    )


def _rehearse(made: Sequence[Configuration]) -> None:
    """Tries the user's own code on the first step; raises SpecError where it cannot be trained.

    Registered parts are not tried: tests hold them to their shapes, and numbers that blow up at once are a result.
    """
    own = [configuration for configuration in made if configuration.code]
    if own:
        from study.dry_run import dry_run

        dry_run(own)


def _as_spec(spec: StudySpec | Mapping[str, Any] | str | Path) -> StudySpec:
    if isinstance(spec, StudySpec):
        return spec
    return StudySpec.from_dict(spec) if isinstance(spec, Mapping) else StudySpec.from_file(spec)


def _begun_spec(folder: StudyFolder) -> StudySpec:
    """The operative spec; code named by import path lies beside the file that was first run, not here."""
    if not folder.spec_file.exists():
        raise WorkFailed(f"{folder.spec_file} is missing; run the study file again to go on")
    return StudySpec.from_file(folder.spec_file, import_code=False)


def _refuse_changed(folder: StudyFolder, spec: StudySpec) -> None:
    """Raises BadInput when ``spec``, or the user's code it names, is not what the study was begun with."""
    plan = read_plan(folder)
    lines: list[str] = []
    if plan.spec_hash != spec.spec_hash:
        lines = _begun_spec(folder).difference(spec)
    else:
        own_code = code_folder(folder, spec)
        sources = user_sources(spec.operative, folder=own_code)
        if sources and _runs_other_code(plan, own_code):
            lines = changed_files(remembered(folder).get("code", {}), sources) or ["your own code"]
    if lines:
        raise BadInput(
            "\n".join(
                [
                    f"study {spec.study!r} was begun under {folder.home} with another spec; changed since:",
                    *(f"  {line}" for line in lines),
                    "only question, resources and tracking may change; give the study another name, or another --home",
                ]
            )
        )


def _runs_other_code(plan: Plan, folder: Path) -> bool:
    """Whether the code that some planned configuration runs is not what it was planned with."""
    planned = {
        (entry.networks["name"], entry.adversarial_loss, entry.penalty): entry.code for entry in plan.configurations
    }
    return any(
        code != code_of(networks=networks, adversarial_loss=loss, penalty=penalty, folder=folder)
        for (networks, loss, penalty), code in planned.items()
    )


def _resources(folder: StudyFolder, address: str | None) -> Mapping[str, float]:
    """CPU and GPU of what the study will run on: a cluster is joined for a moment, Ray on this machine not started."""
    if address is None:
        return local_resources()
    prepare_environment(folder.home)
    with ray_session(address, log=folder.tune / "ray.log") as cluster:
        return cluster


def _frozen_plan(folder: StudyFolder) -> Plan | None:
    return read_plan(folder) if folder.plan_file.exists() else None


def _recorded_tracker(folder: StudyFolder, number: int, *, tracking_uri: str | None) -> Tracker:
    from study.attempt import make_tracker

    plan = read_plan(folder)  # it is there: the study was found by it
    uri = _store_uri(folder, tracking_uri)
    return make_tracker(folder, _begun_spec(folder), plan, uri, number=number)
