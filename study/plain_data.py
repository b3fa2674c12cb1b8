"""Plain data of a study: taken from any mapping, changed along a path, flattened for comparison."""

from __future__ import annotations

from collections.abc import Mapping

from study.problems import FieldPath, Problems, SpecError, dotted
from study.yaml_file import MAX_DEPTH

_LARGEST = 2**63 - 1


def plain_mapping(mapping: object) -> dict[str, object]:
    """A copy of ``mapping`` in dicts, lists, text, numbers, booleans and None; raises SpecError for anything else."""
    problems = Problems()
    plain = _plain(mapping, (), problems)
    if not isinstance(plain, dict):
        problems.add((), "a study is a mapping", mapping)
    problems.raise_if_any()
    assert isinstance(plain, dict)
    return plain


def _plain(value: object, path: FieldPath, problems: Problems) -> object:
    if len(path) > MAX_DEPTH:
        problems.add(path[:3], f"nested more than {MAX_DEPTH} deep")
        return None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                problems.add(path, "keys must be text", key)
        return {str(key): _plain(item, (*path, str(key)), problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, i), problems) for i, item in enumerate(value)]
    return _plain_scalar(value, path, problems)


def _plain_scalar(value: object, path: FieldPath, problems: Problems) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) > _LARGEST:
        problems.add(path, "whole numbers have at most 63 bits")
        return 0
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)  # a numpy number or an enumeration becomes its plain value
    problems.add(path, "must be plain data: text, a number, true, false, a list or a mapping", value)
    return None


def with_value(data: Mapping[str, object], path: tuple[str, ...], value: object) -> dict[str, object]:
    """A copy of ``data`` with ``value`` at ``path``; missing mappings on the way are made."""
    key, *rest = path
    if not rest:
        return {**data, key: value}
    inner = data.get(key)
    if inner is not None and not isinstance(inner, Mapping):
        raise SpecError([f"--set {dotted(path)}: {key} is not a mapping and has no {dotted(tuple(rest))}"])
    return {**data, key: with_value(inner or {}, tuple(rest), value)}


def flattened(data: object, prefix: str = "") -> dict[str, object]:
    """Leaves by dotted key; lists of labelled mappings (loss entries) by label, and their order as one more leaf."""
    if isinstance(data, Mapping) and data:
        inner = [(f"{prefix}.{key}" if prefix else str(key), value) for key, value in data.items()]
        return {name: leaf for key, value in inner for name, leaf in flattened(value, key).items()}
    if isinstance(data, list) and data and all(isinstance(item, Mapping) and "label" in item for item in data):
        leaves: dict[str, object] = {prefix: [item["label"] for item in data]}
        for item in data:
            rest = {key: value for key, value in item.items() if key != "label"}
            leaves |= flattened(rest, f"{prefix}.{item['label']}")
        return leaves
    return {prefix: data}
