"""Runs a study, or goes on with it: validate, freeze the plan, take the lock, train what is unfinished, tell MLflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from study.attempt import Attempt
from study.begun import begun_spec, launch_spec, refuse_changed
from study.configurations import Configuration, configurations
from study.data_files import FOLDER, located, require_data
from study.delivery import run_statuses
from study.errors import BadInput
from study.extend import Extended, Extension, extended
from study.factors import Scalar
from study.folder import StudyFolder, find_study, home_folder, locked, write_atomic, write_json
from study.launches import code_folder, next_record, ran_offline, remember_launch, remembered
from study.plan import Plan, plan_for, room
from study.protocol import confirmation_to_come
from study.ray_doorway import local_resources, prepare_environment, ray_session
from study.spec import StudySpec
from study.tally import Tally, read_plan


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
        checked = refuse_changed(folder, checked)
    else:
        _rehearse(configurations(checked))  # what is wrong with it is told before anything is created or started
    options = Options(address=address, tracking_uri=tracking_uri, offline=offline, command=command)
    with locked(folder):
        plan = _frozen_plan(folder)
        if plan is None:
            plan = plan_for(checked, _resources(folder, address))
        else:
            checked = refuse_changed(folder, checked)  # another launch may have begun it just before us
            plan = located(plan, checked.target.get(FOLDER))
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
    spec = begun_spec(folder)
    require_data(spec.target)
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


def extend(
    study: str,
    *,
    replicates: int | None = None,
    learning_rates: Sequence[float] = (),
    add: Mapping[str, Sequence[Scalar]] | None = None,
    only: Sequence[str] = (),
    home: str | Path | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    offline: bool = False,
    command: str = "",
    console: Console | None = None,
) -> StudyResult:
    """Adds seeds or cells to a study that has ended, as another launch, and trains what is new.

    ``replicates`` is the new total of each configuration (of the losses in ``only``, by label; all where it is empty);
    ``learning_rates`` and ``add`` (factor -> values) are crossed with what a grid has. What exists stays as it is. Cut
    short, the same call, ``run`` or ``resume`` goes on. Raises BadInput for an unknown study, one that has not ended,
    and for what is no extension; WorkFailed as ``run`` does.
    """
    folder = find_study(study, home=home)
    spec = refuse_changed(folder, begun_spec(folder))
    require_data(spec.target)
    cells = {**({"learning_rate": tuple(learning_rates)} if learning_rates else {}), **(add or {})}
    asked = Extension(replicates=replicates, cells=cells, only=only)
    address = address or str(remembered(folder).get("address") or "") or None
    options = Options(
        address=None if address == "local" else address, tracking_uri=tracking_uri, offline=offline, command=command
    )
    with locked(folder):
        plan = located(_extended_plan(folder, read_plan(folder), asked, options), spec.target.get(FOLDER))
        first = 1 if ran_offline(folder) else plan.launches[-1]  # what MLflow was not told is told now
        return _attempt(folder, spec, plan, options, console, first=first)


def _extended_plan(folder: StudyFolder, plan: Plan, asked: Extension, options: Options) -> Plan:
    """The plan with the extension, which is on the disk then: from here on, every resume goes on with it."""
    last = plan.launches[-1]
    code = code_folder(folder, begun_spec(folder))
    if not _has_ended(folder, plan):
        before = plan.until(last - 1)
        if (
            last == 1
            or _grown(before, extended(launch_spec(folder, last - 1), before, asked, code=code)) != plan.by_key
        ):
            name = plan.study
            raise BadInput(f"study {name!r} has not ended: `ganstudy resume {name}` goes on with it, then extend it")
        return plan
    found = extended(launch_spec(folder, last), plan, asked, code=code)
    if not found.made:
        raise BadInput(
            f"--replicates: study {plan.study!r} has them already; it is the new total of each configuration"
        )
    _rehearse([entry for entry in found.made if entry.configuration_key not in plan.by_key])
    size = begun_spec(folder).resources.cohort_size
    fitting = room(found.spec, _resources(folder, options.address))
    grown = plan.grown(found.made, size=size, **fitting, launch=last + 1, phase=found.phase)
    spec_file = folder.root / f"spec-{last + 1}.yaml"
    if found.spec.spec_hash != launch_spec(folder, last).spec_hash:
        write_atomic(spec_file, found.spec.dump())
    else:
        spec_file.unlink(missing_ok=True)  # of an extension that ended before it began
    write_json(folder.plan_file, grown.to_json())
    remember_launch(folder, number=last + 1, purpose=found.purpose, command=options.command)
    return grown


def _grown(plan: Plan, found: Extended) -> Mapping[str, Configuration]:
    return {**plan.by_key, **{entry.configuration_key: entry for entry in found.made}}


def _has_ended(folder: StudyFolder, plan: Plan) -> bool:
    """Whether every replicate there will be has its result."""
    statuses = set(run_statuses(folder).values())
    return statuses == {"FINISHED"} and not confirmation_to_come(begun_spec(folder), plan)


def _attempt(
    folder: StudyFolder, spec: StudySpec, plan: Plan, options: Options, console: Console | None, *, first: int = 1
) -> StudyResult:
    """One attempt at each launch of the plan from the ``first`` on; those before have ended and are left alone."""
    prepare_environment(folder.home)
    counts = _counts_before(folder, plan, first)
    number, interrupted = first, False
    while number in plan.launches and not interrupted:
        record = next_record(folder, spec, **asdict(options))
        attempt = Attempt(folder, spec, plan, record, number=number, console=console)
        attempt.run()
        counts += attempt.counts
        interrupted = attempt.interrupted
        number, plan = number + 1, read_plan(folder)
        if not interrupted:
            plan = _confirming_plan(folder, spec, plan, options, console)
    planned = plan.replicates + confirmation_to_come(spec, plan)
    ended = sum(counts.values()) == planned
    return StudyResult(
        study=spec.study,
        home=folder.home,
        tracking_uri=record["tracking_uri"],
        counts=dict(counts),
        planned=planned,
        offline=options.offline,
        exit_code=130 if not ended and interrupted else 1 if not ended or counts["failed"] else 0,
    )


def _counts_before(folder: StudyFolder, plan: Plan, launch: int) -> Counter[str]:
    """Outcomes of the replicates of earlier launches."""
    tally = Tally(folder=folder, plan=plan)
    earlier = [entry.cohort for entry in plan.cohorts if entry.launch < launch]
    return sum((tally.state(cohort).outcomes for cohort in earlier), Counter())


def _confirming_plan(
    folder: StudyFolder, spec: StudySpec, plan: Plan, options: Options, console: Console | None
) -> Plan:
    """The plan, with the fresh seeds of what was chosen once all that was to be explored has its result."""
    if not confirmation_to_come(spec, plan):
        return plan
    console = console or Console(stderr=True)
    if run_statuses(folder)[1] != "FINISHED":
        text = (
            f"nothing is chosen yet: replicates failed, and the choice waits for all (`ganstudy resume {plan.study}`)"
        )
        console.print(text, soft_wrap=True, markup=False)
        return plan
    from study.confirm import confirmed
    from study.results import run_name

    grown = confirmed(folder, spec, plan, room(spec, _resources(folder, options.address)))
    write_json(folder.plan_file, grown.to_json())
    remember_launch(folder, number=grown.launches[-1], purpose="confirm", command=options.command)
    for key in dict.fromkeys(key for key, _ in grown.phases):
        name = run_name(grown.configuration(key), grown.configurations)
        seeds = f"{spec.protocol.confirm_replicates if spec.protocol else 0} fresh seeds"
        console.print(f"{plan.study}: explored; {name} is confirmed with {seeds}", soft_wrap=True, markup=False)
    return grown


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


def _resources(folder: StudyFolder, address: str | None) -> Mapping[str, float]:
    """CPU and GPU of what the study will run on: a cluster is joined for a moment, Ray on this machine not started."""
    if address is None:
        return local_resources()
    prepare_environment(folder.home)
    with ray_session(address, log=folder.tune / "ray.log") as cluster:
        return cluster


def _frozen_plan(folder: StudyFolder) -> Plan | None:
    return read_plan(folder) if folder.plan_file.exists() else None
