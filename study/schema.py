"""The JSON schema of a study file: pydantic's for the fixed sections, the catalogue's for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from study.criteria import Criteria
from study.factors import OPTIMIZER_NUMBERS, UPDATES_NUMBERS
from study.measured import measurements_schema
from study.protocol import TUNE_THEN_CONFIRM
from study.sections import parameter_schema
from trainers.catalogue import FACTORS, LOSSES, NETWORKS, PENALTIES, PRESETS, TARGETS, Entry, Parameter

_IMPORT_PATH = {"type": "string", "pattern": r"^[\w.]+:\w+$", "description": "package.module:name of your own"}


def study_schema(base: dict[str, Any]) -> dict[str, Any]:
    """``base`` (pydantic's schema of StudySpec) with the sections that the catalogue defines filled in."""
    factors = _factors()
    varied = {name: values_schema(parameter) for name, parameter in factors.items()}
    fixed = {
        name: _or_by_optimizer(parameter) if name in OPTIMIZER_NUMBERS else parameter_schema(parameter)
        for name, parameter in factors.items()
    }
    entries = {"type": "array", "minItems": 1, "items": _entry()}
    filled = {
        "target": _part(TARGETS.values()),
        "networks": {"anyOf": [_part(NETWORKS.values()), {"type": "object", "properties": {"name": _IMPORT_PATH}}]},
        "scientific": {**_closed({"loss": {"anyOf": [entries, _entry()]}, **varied}), "required": ["loss"]},
        "nuisance": _closed(varied),
        "fixed": _closed(fixed),
        "criteria": _closed({field.name: _criterion(field.default) for field in fields(Criteria)}),
        "measurements": measurements_schema(),
        "protocol": {"anyOf": [{"const": TUNE_THEN_CONFIRM}, {"$ref": "#/$defs/Protocol"}]},
    }
    name = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]{0,63}$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **base,
        "title": "ganstudy study file",
        "properties": {**base["properties"], **filled, "study": name},
    }


def values_schema(parameter: Parameter) -> dict[str, Any]:
    """A scalar, a list or (numbers only) a range."""
    one = parameter_schema(parameter)
    forms: list[dict[str, Any]] = [one, {"type": "array", "minItems": 1, "uniqueItems": True, "items": one}]
    if parameter.kind != "choice":
        ends = {
            "low": one,
            "high": one,
            "points": {"type": "integer", "minimum": 2},
            "scale": {"enum": ["log", "linear"]},
        }
        forms.append({**_closed(ends), "required": ["low", "high"]})
    return {"anyOf": forms}


def _factors() -> dict[str, Parameter]:
    entries = (*TARGETS.values(), *NETWORKS.values())
    own = {p.name: p for entry in entries for p in entry.parameters}
    return {**FACTORS, **UPDATES_NUMBERS, **OPTIMIZER_NUMBERS, **own}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _part(entries: Iterable[Entry]) -> dict[str, Any]:
    """A target's or networks' mapping: one alternative per registered entry."""
    return {
        "anyOf": [
            {
                **_closed(_properties(entry)),
                "required": ["name"],
                "description": entry.summary,
            }
            for entry in entries
        ]
    }


def _properties(entry: Entry) -> dict[str, Any]:
    parameters = {p.name: parameter_schema(p) for p in entry.parameters}
    return {"name": {"const": entry.name}, **parameters, **{s.name: dict(s.schema) for s in entry.settings}}


def _or_by_optimizer(parameter: Parameter) -> dict[str, Any]:
    one = parameter_schema(parameter)
    return {"anyOf": [one, {"type": "object", "additionalProperties": one}]}


def _criterion(default: object) -> dict[str, Any]:
    return {"type": "integer" if isinstance(default, int) else "number", "minimum": 0, "default": default}


def _entry() -> dict[str, Any]:
    name = {"anyOf": [{"enum": [*LOSSES, *PRESETS]}, _IMPORT_PATH]}
    registered = (*LOSSES.values(), *PENALTIES.values())
    conditional = {p.name: values_schema(p) for entry in registered for p in entry.parameters}
    mapping = _closed(
        {
            "name": name,
            "penalty": {"anyOf": [{"enum": list(PENALTIES)}, _IMPORT_PATH]},
            "label": {"type": "string", "maxLength": 64},
            **conditional,
        }
    )
    return {"anyOf": [name, {**mapping, "required": ["name"]}]}
