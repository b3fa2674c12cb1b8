"""``ganstudy extend``: more seeds or more cells for a finished study, as another launch; nothing is trained again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.configurations import Configuration, configurations, replicate_seed
from study.errors import BadInput, suggestion
from study.factors import LEARNING_RATES, Scalar
from study.plan import Plan
from study.problems import SpecError
from study.protocol import CONFIRM
from study.spec import StudySpec

RATE = "learning_rate"


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What is asked for. ``replicates``: the new total of each configuration; ``cells``: factor -> further values;
    ``only``: labels of the losses that get more replicates, all where it is empty.
    """

    replicates: int | None = None
    cells: Mapping[str, Sequence[Scalar]]
    only: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A study with an extension: ``made`` is what its plan grows by, ``spec`` the study as it would be written now."""

    made: tuple[Configuration, ...]
    spec: StudySpec
    phase: str
    purpose: str


def extended(spec: StudySpec, plan: Plan, asked: Extension, *, code: Path) -> Extended:
    """The configurations that a plan gains; ``spec`` is the study's, as its last launch left it.

    ``code`` is where code named by import path lies. ``made`` is empty where the plan holds all of it already. Raises
    BadInput for what is no extension.
    """
    if asked.replicates is None and not asked.cells:
        raise BadInput("extend needs --replicates N, --learning-rates LIST or --add KEY=LIST")
    labels = _labels(plan, asked.only)
    if asked.cells:
        return _with_cells(spec, plan, asked, code=code)
    assert asked.replicates is not None
    if spec.protocol is not None:
        return _more_confirming(spec, plan, labels, asked.replicates)
    if spec.scheduler.name != "none":
        raise BadInput(
            f"--replicates: {plan.study!r} stopped configurations early (scheduler {spec.scheduler.name}), and more "
            "seeds for some of them would be compared with fewer steps of others; run it anew without a scheduler"
        )
    chosen = [entry for entry in plan.configurations if entry.loss in labels]
    made = _more_seeds(spec, chosen, asked.replicates)
    everyone = made and not asked.only
    return Extended(
        made=made,
        spec=_changed(spec, {"replicates": asked.replicates}, code=code) if everyone else spec,
        phase="",
        purpose=f"replicates to {asked.replicates}{_of(asked.only)}",
    )


def _labels(plan: Plan, only: Sequence[str]) -> set[str]:
    known = list(dict.fromkeys(entry.loss for entry in plan.configurations))
    for label in only:
        if label not in known:
            raise BadInput(f"--only {label}: no loss of {plan.study!r}{suggestion(label, known)} ({', '.join(known)})")
    return set(only or known)


def _more_seeds(spec: StudySpec, chosen: Sequence[Configuration], replicates: int) -> tuple[Configuration, ...]:
    """Those of ``chosen`` that have fewer, with as many; BadInput where all of them have more than that."""
    most = max(entry.replicates for entry in chosen)
    if replicates < min(entry.replicates for entry in chosen):
        raise BadInput(
            f"--replicates: is the new total of each configuration, and must be more than {most} (got {replicates})"
        )
    return tuple(with_seeds(spec, entry, replicates) for entry in chosen if entry.replicates < replicates)


def with_seeds(spec: StudySpec, entry: Configuration, replicates: int) -> Configuration:
    """The configuration with this many replicates: the seeds it has, and those that follow."""
    more = (replicate_seed(spec.seed, entry.configuration_key, r) for r in range(entry.replicates, replicates))
    return replace(entry, replicates=replicates, seeds=(*entry.seeds, *more))


def _more_confirming(spec: StudySpec, plan: Plan, labels: set[str], replicates: int) -> Extended:
    """More fresh seeds of the chosen configurations: exploring is over once they were chosen."""
    confirming = {key: 0 for key, _ in plan.phases}
    for key, _ in plan.phases:
        confirming[key] += 1
    chosen = [entry for entry in plan.configurations if entry.configuration_key in confirming and entry.loss in labels]
    most = max(confirming[entry.configuration_key] for entry in chosen)
    if replicates < min(confirming[entry.configuration_key] for entry in chosen):
        raise BadInput(
            f"--replicates: is the new total of fresh seeds of each confirmed configuration, and must be more than "
            f"{most} (got {replicates})"
        )
    made = tuple(
        with_seeds(spec, entry, entry.replicates + replicates - confirming[entry.configuration_key])
        for entry in chosen
        if confirming[entry.configuration_key] < replicates
    )
    purpose = f"fresh seeds of confirmed configurations to {replicates}"
    return Extended(made=made, spec=spec, phase=CONFIRM, purpose=purpose)


def _with_cells(spec: StudySpec, plan: Plan, asked: Extension, *, code: Path) -> Extended:
    """Further values of factors, crossed with everything: the cells of a study that had them from the start."""
    _refuse_cells(spec, plan, asked)
    replicates = max(entry.replicates for entry in plan.configurations)
    if asked.replicates is not None and asked.replicates < replicates:
        raise BadInput(f"--replicates: {plan.study!r} has {replicates} per configuration (got {asked.replicates})")
    replicates = asked.replicates or replicates
    wider = _wider_spec(spec, asked.cells, replicates, code=code)
    found = configurations(wider)
    missing = plan.by_key.keys() - {entry.configuration_key for entry in found}
    if missing:
        raise RuntimeError(f"the extended study lacks {len(missing)} configurations of the plan")
    old = _more_seeds(spec, plan.configurations, replicates)
    made = (*old, *(entry for entry in found if entry.configuration_key not in plan.by_key))
    values = "; ".join(f"{name} {', '.join(map(_shown, added))}" for name, added in asked.cells.items())
    more = "" if asked.replicates is None else f"; replicates to {replicates}"
    return Extended(made=made, spec=wider, phase="", purpose=f"cells: {values}{more}")


def _refuse_cells(spec: StudySpec, plan: Plan, asked: Extension) -> None:
    option = "--learning-rates" if set(asked.cells) == {RATE} else "--add"
    if asked.only:
        raise BadInput(
            f"--only is for --replicates: losses are compared in the same cells, so {option} adds them to every loss"
        )
    if spec.protocol is not None:
        raise BadInput(f"{option}: {plan.study!r} has chosen and confirmed; a wider search is a new study")
    if spec.search.method != "grid":
        raise BadInput(
            f"{option}: the settings of a {spec.search.method} search are drawn; only a grid has cells to add "
            "(--replicates adds seeds to any study)"
        )
    if spec.scheduler.name != "none":
        raise BadInput(f"{option}: {plan.study!r} stopped configurations early (scheduler {spec.scheduler.name})")


def _wider_spec(spec: StudySpec, cells: Mapping[str, Sequence[Scalar]], replicates: int, *, code: Path) -> StudySpec:
    """The study with further values of factors, in ascending order where they are numbers."""
    written = spec.operative
    for name, added in cells.items():
        home = _home(spec, name)
        held = list(spec.design.values(name).grid())
        _refuse_repeats(name, held, added)
        values = [*held, *added]
        if all(isinstance(value, int | float) for value in values):
            values.sort(key=float)
        if home == "fixed":
            written = {**written, "fixed": {key: v for key, v in written["fixed"].items() if key != name}}
            home = "nuisance"  # it varies from now on
        written = {**written, home: {**written[home], name: values}}
    try:
        return _changed(spec, {**written, "replicates": replicates}, code=code)
    except SpecError as problem:
        raise BadInput(f"the study with these cells is not valid:\n{problem}") from problem


def _changed(spec: StudySpec, changes: Mapping[str, object], *, code: Path) -> StudySpec:
    return StudySpec.from_dict({**spec.operative, **changes}, folder=code, import_code=False)


def _home(spec: StudySpec, name: str) -> str:
    """The section of the study file that holds a factor."""
    homes = {"scientific": spec.design.scientific, "nuisance": spec.design.nuisance, "fixed": spec.design.fixed}
    known = [factor for factors in homes.values() for factor in factors]
    found = next((home for home, factors in homes.items() if name in factors), "")
    if not found:
        apart = f"; it has {' and '.join(LEARNING_RATES[1:])}" if LEARNING_RATES[1] in known and name == RATE else ""
        near = suggestion(name, known)
        raise BadInput(f"{name}: no factor of {spec.study!r}{near}{apart} (its factors: {', '.join(known)})")
    if isinstance(spec.design.fixed.get(name), Mapping):
        raise BadInput(f"{name}: has one value for each optimizer in {spec.study!r}, and cannot be varied")
    return found


def _refuse_repeats(name: str, held: Sequence[Scalar], added: Sequence[Scalar]) -> None:
    for value in added:
        if any(_same(value, other) for other in held):
            raise BadInput(f"{name}: {_shown(value)} is in the study already ({', '.join(map(_shown, held))})")


def _same(one: Scalar, other: Scalar) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-9)


def _shown(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of(only: Sequence[str]) -> str:
    return f" of {', '.join(only)}" if only else ""


def hint(study: str, begun: StudySpec, given: StudySpec) -> str:
    """The command that makes ``begun`` into ``given`` where their whole difference is an extension; empty elsewhere."""
    old, new = begun.operative, given.operative
    words = []
    if given.replicates < begun.replicates:
        return ""
    if given.replicates > begun.replicates:
        words.append(f"--replicates {given.replicates}")
    if begun.search.method == "grid" and RATE in begun.design.varied and RATE in given.design.varied:
        held, wanted = (spec.design.values(RATE).grid() for spec in (begun, given))
        more = [value for value in wanted if not any(_same(value, other) for other in held)]
        if more and all(any(_same(value, other) for value in wanted) for other in held):
            words.append(f"--learning-rates {','.join(map(_shown, more))}")
    rest = [_without_extension(mapping) for mapping in (old, new)]
    return f"ganstudy extend {study} {' '.join(words)}" if words and rest[0] == rest[1] else ""


def _without_extension(operative: Mapping[str, object]) -> dict[str, object]:
    """What an extension cannot change."""
    skipped = ("replicates", "question", "resources", "tracking")
    rest = {key: value for key, value in operative.items() if key not in skipped}
    for home in ("scientific", "nuisance"):
        held = rest.get(home)
        if isinstance(held, Mapping):
            rest[home] = {key: value for key, value in held.items() if key != RATE}
    return rest
