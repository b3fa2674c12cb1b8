"""What targets and networks declare beside parameters: values in forms of their own, and whom they need."""

from __future__ import annotations

from collections.abc import Mapping

from study.problems import FieldPath, Problems
from trainers.catalogue import NETWORKS, TARGETS
from trainers.catalogue_dirac import NAME as DIRAC
from trainers.declaration import Setting

_DEFAULT_NETWORKS = "mlp"


def declared_settings(part: str, name: object) -> dict[str, Setting]:
    """Settings of a registered target or network (``part`` of the study file: target or networks), by name."""
    entries = TARGETS if part == "target" else NETWORKS
    entry = entries.get(name) if isinstance(name, str) else None
    return {setting.name: setting for setting in entry.settings} if entry else {}


def read_setting(raw: object, setting: Setting, *, path: FieldPath, problems: Problems) -> object:
    """The value in its one form; None after noting what is wrong with it."""
    value = setting.read(raw)
    if value is None:
        problems.add(path, f"must be {setting.rule}", raw)
    return value


def default_networks(target: object) -> str:
    """The networks of a study file that names none: the target's own where it has some."""
    return DIRAC if target == DIRAC else _DEFAULT_NETWORKS


def check_partners(parts: Mapping[str, str | None], problems: Problems) -> None:
    """The target dirac and the networks dirac are one game: notes where one of them comes without the other."""
    target, networks = parts["target"], parts["networks"]
    if target is None or networks is None or (target == DIRAC) == (networks == DIRAC):
        return
    if target == DIRAC:
        problems.add(("networks", "name"), "must be dirac for the target dirac, which judges its parameters", networks)
    else:
        problems.add(
            ("networks", "name"), f"dirac are the networks of the target dirac only; not of {target}", networks
        )
