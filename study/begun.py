"""A study that was begun: its spec, its plan and its code, and what of them may be different when it goes on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from study.errors import BadInput, WorkFailed
from study.extend import hint
from study.folder import StudyFolder, home_folder
from study.launches import code_folder, remembered
from study.plan import Plan
from study.spec import MAY_CHANGE, StudySpec
from study.tally import read_plan
from study.user_code import changed_files, code_of, user_sources

_MAY_CHANGE = "only question, resources and tracking may change; give the study another name, or another --home"


def begun_spec(folder: StudyFolder) -> StudySpec:
    """The operative spec; code named by import path lies beside the file that was first run, not here."""
    if not folder.spec_file.exists():
        raise WorkFailed(f"{folder.spec_file} is missing; run the study file again to go on")
    return StudySpec.from_file(folder.spec_file, import_code=False)


def launch_spec(folder: StudyFolder, number: int) -> StudySpec:
    """The operative spec as a launch found it: an extension may have changed the study's."""
    return StudySpec.from_file(folder.launch_spec_file(number), import_code=False)


def begun_study(folder: StudyFolder) -> tuple[StudySpec, Plan]:
    """The spec and the frozen plan of a study that was begun; its own code, if any, can be imported from now on.

    Raises BadInput where that code is no longer what the study was begun with: it would train something else.
    """
    spec = begun_spec(folder)
    refuse_changed(folder, spec)
    code = str(code_folder(folder, spec))
    if code not in sys.path:
        sys.path.append(code)
    return spec, read_plan(folder)


def refuse_changed(folder: StudyFolder, given: StudySpec) -> StudySpec:
    """The study's spec with what of ``given`` may change; ``given`` may also be the study as an extension left it.

    Raises BadInput when it, or the user's code it names, is not what the study was begun with.
    """
    plan, spec, lines = read_plan(folder), given, list[str]()
    if plan.spec_hash != given.spec_hash:
        begun = begun_spec(folder)
        now = launch_spec(folder, plan.launches[-1])
        if now.spec_hash != given.spec_hash:
            lines = (now if hint(plan.study, now, given) else begun).difference(given)
        changes = {key: given.operative[key] for key in MAY_CHANGE if key in given.operative}
        spec = StudySpec.from_dict({**begun.operative, **changes}, folder=given.code_folder, import_code=False)
    if not lines:
        own_code = code_folder(folder, spec)
        sources = user_sources(spec.operative, folder=own_code)
        if sources and _runs_other_code(plan, own_code):
            lines = changed_files(remembered(folder).get("code", {}), sources) or ["your own code"]
    if lines:
        more = hint(plan.study, launch_spec(folder, plan.launches[-1]), given)
        home = f" --home {shlex.quote(str(folder.home))}" if folder.home != home_folder() else ""
        raise BadInput(
            "\n".join(
                [
                    f"study {plan.study!r} was begun under {folder.home} with another spec; changed since:",
                    *(f"  {line}" for line in lines),
                    f"`{more}{home}` adds that and trains nothing again" if more else _MAY_CHANGE,
                ]
            )
        )
    return spec


def _runs_other_code(plan: Plan, folder: Path) -> bool:
    """Whether the code that some planned configuration runs is not what it was planned with."""
    planned = {
        (entry.networks["name"], entry.adversarial_loss, entry.penalty): entry.code for entry in plan.configurations
    }
    return any(
        code != code_of(networks=networks, adversarial_loss=loss, penalty=penalty, folder=folder)
        for (networks, loss, penalty), code in planned.items()
    )
