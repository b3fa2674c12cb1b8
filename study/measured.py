"""The optional measurements that a study file switches on: ``measurements: [duality_gap, rotation]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from study.problems import Problems
from trainers.measurement import GROUPS

if TYPE_CHECKING:
    from study.configurations import Configuration

KEY = "measurements"
NAMED = tuple(group.name for group in GROUPS.values() if group.named_in_file)
"""Groups the study file may name."""


def read_measurements(raw: Mapping[str, object], problems: Problems) -> list[str] | None:
    """The groups that a study file names, in their own order; None where it names none.

    Notes unknown names, those a factor or the target switches on by itself, and groups without a meaning there.
    """
    given = raw.get(KEY)
    if not isinstance(given, list):
        return None
    part = raw.get("target")
    target = str(part.get("name")) if isinstance(part, Mapping) else ""
    for place, name in enumerate(given):
        path = (KEY, place)
        if name not in NAMED:
            _note_unknown(path, name, problems)
        elif refusal := GROUPS[name].refusal(target):
            problems.add(path, refusal, name)
        elif name in given[:place]:
            problems.add(path, "is named twice", name)
    return [name for name in NAMED if name in given] or None


def _note_unknown(path: tuple[str, int], name: object, problems: Problems) -> None:
    group = GROUPS.get(name) if isinstance(name, str) else None
    if group is None:
        problems.unknown_name(path, "group of measurements", name, NAMED)
        return
    switch = f"the factor {group.factor}" if group.factor else f"the target {group.target}"
    problems.add(path, f"is switched on by {switch}, not here", name)


def measurements_schema() -> dict[str, Any]:
    """The JSON schema of the key, each group with what it is, when it is measured and what it costs."""
    groups = (GROUPS[name] for name in NAMED)
    described = [
        {"const": group.name, "description": f"{group.meaning}; {group.cadence}; {group.cost}"} for group in groups
    ]
    return {
        "type": "array",
        "uniqueItems": True,
        "items": {"anyOf": described},
        "description": "optional groups of measurements, beside what every study measures",
    }


def fid_problems(made: Sequence[Configuration]) -> list[str]:
    """One line where a study asks for fid and Inception cannot be had here: told before anything is created."""
    if not any("fid" in entry.measurements for entry in made):
        return []
    from trainers.inception import ExtractorError, require_inception

    try:
        require_inception()
    except ExtractorError as error:
        return [f"{KEY}: fid: {error}"]
    return []


def jacobian_problems(made: Sequence[Configuration]) -> list[str]:
    """One line for each size of networks that is too large for the eigenvalues of the game's Jacobian.

    Only for studies that ask for them: networks must be built to be counted.
    """
    asking = [entry for entry in made if "game_jacobian" in entry.measurements]
    if not asking:
        return []
    from trainers.game_jacobian import PARAMETER_LIMIT, parameter_count

    counts = dict.fromkeys(parameter_count(networks=entry.networks, target=entry.target) for entry in asking)
    return [
        f"{KEY}: game_jacobian needs players of at most {PARAMETER_LIMIT:,} parameters together (these have {count:,})"
        for count in counts
        if count > PARAMETER_LIMIT
    ]
