"""Which target, networks and batch size go together, and which of their parameters mean that a thing is absent."""

from __future__ import annotations

from collections.abc import Mapping

from study.design import Design
from study.factors import Range, Values, declared
from study.network_size import sample_shape
from study.problems import Problems
from trainers.catalogue import NETWORKS, TARGETS
from trainers.catalogue_models import normalises_batches, side_multiple


def without_absent(part: str, mapping: Mapping[str, object]) -> dict[str, object]:
    """``mapping`` (target or networks) without the parameters whose default, which they have, means absent."""
    omitted = {p.name: p.default for p in declared(part, mapping["name"]).values() if p.omit_default}
    return {name: value for name, value in mapping.items() if name not in omitted or value != omitted[name]}


def check_images(parts: Mapping[str, str | None], problems: Problems) -> None:
    """Networks for images need a target of images; ``parts`` are the names of target and networks."""
    target, networks = TARGETS.get(parts["target"] or ""), NETWORKS.get(parts["networks"] or "")
    if target is None or networks is None or not networks.images or target.images:
        return
    known = ", ".join(name for name, entry in TARGETS.items() if entry.images)
    problems.add(("networks", "name"), f"{networks.name} needs a target of images ({known})", networks.name)


def check_sides(design: Design, problems: Problems) -> None:
    """Convolutions halve an image's sides: notes images, given by the target's ``size``, whose sides do not halve."""
    deepest = {**design.networks, **({"stages": design.varied["stages"].highest} if "stages" in design.varied else {})}
    multiple = side_multiple(deepest)
    if not TARGETS[str(design.target["name"])].images:
        return
    _, *sides = sample_shape(design.target)
    if any(side % multiple for side in sides):
        shown = "x".join(map(str, sides))
        rule = f"conv needs images whose sides are multiples of {multiple}, these are {shown}"
        problems.add(("networks", "name"), rule)


def check_batches(design: Design, problems: Problems) -> None:
    """Batch normalisation of one sample is a constant: notes batches too small for networks that have it."""
    normalised = normalises_batches(design.networks) or "generator" in _grid(design.varied.get("batch_norm"))
    smallest = _lowest(design.values("batch_size"))
    if normalised and smallest < 2:
        problems.add(("batch_size",), "must be at least 2 for networks with batch normalisation", smallest)


def _grid(values: Values | None) -> tuple[object, ...]:
    return () if values is None else values.grid()


def _lowest(values: Values) -> float:
    if isinstance(values, Range):
        return values.low
    return min(value for value in values.grid() if isinstance(value, int | float))
