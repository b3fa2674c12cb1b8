"""Runs a study, or goes on with it: validate, freeze the plan, take the lock, train what is unfinished, tell MLflow."""

from __future__ import annotations

import os
import platform
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.attempt import Attempt
from study.configurations import Configuration, configurations
from study.data_files import FOLDER, located, require_data
from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, find_study, home_folder, locked, now, read_json, write_json
from study.plan import Plan, plan_for
from study.ray_doorway import local_resources, prepare_environment, ray_session
from study.spec import StudySpec
from study.tally import read_plan
from study.user_code import changed_files, code_of, user_sources

if TYPE_CHECKING:
    from rich.console import Console

    from study.tracking import Tracker

_PACKAGES = ("ganstudy", "ray", "torch", "mlflow", "numpy")


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
    with locked(folder):
        plan = _frozen_plan(folder)
        if plan is None:
            plan = plan_for(checked, _resources(folder, address))
        else:
            _refuse_changed(folder, checked)  # another launch may have begun it just before us
            plan = located(plan, checked.target.get(FOLDER))
        record = _record(folder, checked, address=address, tracking_uri=tracking_uri, command=command)
        record["offline"] = offline
        return _attempt(folder, checked, plan, record, console)


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
    require_data(spec.target)
    address = address or str(_remembered(folder).get("address") or "") or None
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
    require_data(spec.target)
    code = str(_code_folder(folder, spec))
    if code not in sys.path:
        sys.path.append(code)
    return spec, read_plan(folder)


def sync_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> str:
    """Sends MLflow whatever it missed of a study whose lock is held, and returns the store's URI."""
    tracker, uri = _recorded_tracker(folder, tracking_uri=tracking_uri)
    tracker.open(launch=_launch(folder))
    with tracker.readable_failures():
        tracker.sync()
        tracker.close(_run_status(folder))
    if ran_offline(folder):
        write_json(folder.launch_file, {**_remembered(folder), "tracking_uri": uri, "offline": False})
    return uri


def ran_offline(folder: StudyFolder) -> bool:
    """Whether the last attempt told MLflow nothing and nobody has sent its results since."""
    return bool(_remembered(folder).get("offline"))


def recorded_store(folder: StudyFolder, *, tracking_uri: str | None = None) -> tuple[str, str]:
    """The study's launch, and the URI of the MLflow store that its results go to."""
    return _launch(folder), _tracking_uri(folder, tracking_uri)


def reconcile_study(folder: StudyFolder, *, tracking_uri: str | None = None) -> None:
    """Gives the runs of a launch whose driver died their true status; the lock is held.

    A driver that died after the last replicate ended left nothing to resume: its results are sent, too.
    """
    if ran_offline(folder):
        return
    if _run_status(folder) != "KILLED":
        sync_study(folder, tracking_uri=tracking_uri)
        return
    tracker, _ = _recorded_tracker(folder, tracking_uri=tracking_uri)
    tracker.reconcile(launch=_launch(folder))


def _run_status(folder: StudyFolder) -> str:
    """The true status of the study's run while nobody runs it."""
    from study.status import study_status

    state = study_status(folder, outcomes=False)
    if state.done + state.failed < state.planned:
        return "KILLED"
    return "FAILED" if state.failed else "FINISHED"


def _attempt(
    folder: StudyFolder, spec: StudySpec, plan: Plan, record: dict[str, Any], console: Console | None
) -> StudyResult:
    prepare_environment(folder.home)
    attempt = Attempt(folder, spec, plan, record, console=console)
    attempt.run()
    counts: Counter[str] = attempt.counts
    ended = sum(counts.values()) == plan.replicates
    return StudyResult(
        study=spec.study,
        home=folder.home,
        tracking_uri=record["tracking_uri"],
        counts=dict(counts),
        planned=plan.replicates,
        offline=bool(record["offline"]),
        exit_code=130 if not ended and attempt.interrupted else 1 if not ended or counts["failed"] else 0,
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
    spec = StudySpec.from_file(folder.spec_file, import_code=False)
    moved = _remembered(folder).get("data_folder", spec.target.get(FOLDER))
    if moved == spec.target.get(FOLDER):
        return spec
    target = {**spec.target, FOLDER: moved}
    return StudySpec.from_dict({**spec.operative, "target": target}, folder=folder.root, import_code=False)


def _refuse_changed(folder: StudyFolder, spec: StudySpec) -> None:
    """Raises BadInput when ``spec``, or the user's code it names, is not what the study was begun with."""
    plan = read_plan(folder)
    lines: list[str] = []
    if plan.spec_hash != spec.spec_hash:
        lines = _begun_spec(folder).difference(spec)
    else:
        code_folder = _code_folder(folder, spec)
        sources = user_sources(spec.operative, folder=code_folder)
        if sources and _runs_other_code(plan, code_folder):
            lines = changed_files(_remembered(folder).get("code", {}), sources) or ["your own code"]
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


def _runs_other_code(plan: Plan, code_folder: Path) -> bool:
    """Whether the code that some planned configuration runs is not what it was planned with."""
    planned = {
        (entry.networks["name"], entry.adversarial_loss, entry.penalty): entry.code for entry in plan.configurations
    }
    return any(
        code != code_of(networks=networks, adversarial_loss=loss, penalty=penalty, folder=code_folder)
        for (networks, loss, penalty), code in planned.items()
    )


def _code_folder(folder: StudyFolder, spec: StudySpec) -> Path:
    """Where code named by import path may lie: beside the study file that was run, not beside our copy of it."""
    if spec.code_folder not in (None, folder.root):
        assert spec.code_folder is not None
        return spec.code_folder
    return Path(_remembered(folder).get("import_path") or Path.cwd())


def _resources(folder: StudyFolder, address: str | None) -> Mapping[str, float]:
    """CPU and GPU of what the study will run on: a cluster is joined for a moment, Ray on this machine not started."""
    if address is None:
        return local_resources()
    prepare_environment(folder.home)
    with ray_session(address, log=folder.tune / "ray.log") as cluster:
        return cluster


def _frozen_plan(folder: StudyFolder) -> Plan | None:
    return read_plan(folder) if folder.plan_file.exists() else None


def _launch(folder: StudyFolder) -> str:
    return str(_remembered(folder)["launch"])


def _remembered(folder: StudyFolder) -> dict[str, Any]:
    return read_json(folder.launch_file) if folder.launch_file.exists() else {}


def _record(
    folder: StudyFolder, spec: StudySpec, *, address: str | None, tracking_uri: str | None, command: str
) -> dict[str, Any]:
    """The content of launch.json: one launch for the study's life, a new attempt each time."""
    before = _remembered(folder)
    code_folder = _code_folder(folder, spec)
    return {
        "schema": 1,
        "study": spec.study,
        "home": str(folder.home),
        "launch": before.get("launch") or secrets.token_hex(8),
        "attempt": int(before.get("attempt", 0)) + 1,
        "tracking_uri": _tracking_uri(folder, tracking_uri),
        "address": address,
        "import_path": str(code_folder),
        "code": user_sources(spec.operative, folder=code_folder),
        "data_folder": spec.target.get(FOLDER),
        "command": command,
        "begun": before.get("begun") or now(),
        "started": now(),
        "versions": _versions(),
    }


def _tracking_uri(folder: StudyFolder, asked: str | None) -> str:
    from study.mlflow_client import sqlite_uri

    remembered = _remembered(folder).get("tracking_uri")
    return str(asked or remembered or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(folder.home))


def _recorded_tracker(folder: StudyFolder, *, tracking_uri: str | None) -> tuple[Tracker, str]:
    from study.attempt import make_tracker

    plan = read_plan(folder)  # it is there: the study was found by it
    record = {**_remembered(folder), "tracking_uri": _tracking_uri(folder, tracking_uri)}
    tracker = make_tracker(folder, _begun_spec(folder), plan, record["tracking_uri"])
    return tracker, record["tracking_uri"]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found
