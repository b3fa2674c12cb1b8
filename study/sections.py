"""The sections of a study file whose keys are fixed: budget, search, scheduler, criteria, resources, tracking."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from study.errors import suggestion
from study.objective import AGGREGATES, SUCCESS
from study.outcomes import Criteria
from study.problems import Problems
from trainers.catalogue import Parameter, gradient_evaluations_per_step, real_minibatches_per_step
from trainers.measurement import EVERY_MEASUREMENT

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random")
"""How an adaptive search chooses its next setting: Optuna's samplers."""


def parameter_schema(parameter: Parameter) -> dict[str, Any]:
    """The JSON schema of one value of ``parameter``."""
    if parameter.kind == "choice":
        return {"enum": list(parameter.choices), "description": parameter.meaning}
    schema: dict[str, Any] = {"type": parameter.kind, "description": parameter.meaning}
    if parameter.low > -math.inf:
        schema["exclusiveMinimum" if parameter.low_open else "minimum"] = parameter.low
    if parameter.high < math.inf:
        schema["exclusiveMaximum" if parameter.high_open else "maximum"] = parameter.high
    return schema


@dataclass(frozen=True)
class Rule:
    """Holds a pydantic field to a catalogue parameter's rule, in its words; ``auto``: the word auto will do too."""

    parameter: Parameter
    auto: bool = False

    def check(self, value: object) -> object:
        """The value, whole numbers as int; raises PydanticCustomError with the rule."""
        if self.auto and value == "auto":
            return value
        if not self.parameter.allows(value):
            near = suggestion(value, self.parameter.choices) if isinstance(value, str) else ""
            raise PydanticCustomError("rule", "{text}", {"text": f"must be {self.parameter.rule}{self._or_auto}{near}"})
        if self.parameter.kind == "integer" and isinstance(value, float):
            return int(value)
        return float(value) if self.parameter.kind == "number" and isinstance(value, int) else value

    @property
    def _or_auto(self) -> str:
        return ", or auto" if self.auto else ""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        plain = parameter_schema(self.parameter)
        return {"anyOf": [plain, {"const": "auto"}]} if self.auto else plain


def whole(meaning: str, low: float, high: float = math.inf, *, auto: bool = False) -> Rule:
    """The rule of a whole number."""
    return Rule(Parameter(name="", kind="integer", meaning=meaning, low=low, high=high), auto)


def _number(meaning: str, low: float, high: float = math.inf, *, low_open: bool = False, auto: bool = False) -> Rule:
    return Rule(Parameter(name="", kind="number", meaning=meaning, low=low, high=high, low_open=low_open), auto)


def choice(meaning: str, *choices: str) -> Rule:
    """The rule of a word out of several."""
    return Rule(Parameter(name="", kind="choice", meaning=meaning, choices=choices))


class Section(BaseModel):
    """A closed, frozen mapping."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Budget(Section):
    """What one replicate may spend, and how often it is looked at."""

    unit: Annotated[str, choice("what value counts", "generator_steps", "samples_seen", "gradient_evaluations")] = (
        "generator_steps"
    )
    value: Annotated[int, whole("the budget of one replicate", 1, 10**12)]
    evaluations: Annotated[int, whole("evaluations after the one before training", 1, 100_000)] = 30
    evaluation_samples: Annotated[int, whole("generated samples the modes are counted in", 1, 1_000_000)] = 2500

    def horizon(self, *, k: int, batch_size: int, penalty: str, updates: str = "alternating") -> int:
        """Generator steps the budget buys: floor(value / cost of one generator step)."""
        if self.unit == "samples_seen":
            return self.value // (real_minibatches_per_step(k=k, updates=updates) * batch_size)
        if self.unit == "gradient_evaluations":
            return self.value // gradient_evaluations_per_step(k=k, penalty=penalty, updates=updates)
        return self.value


_OBJECTIVE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"const": SUCCESS},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["measurement"],
            "properties": {
                "measurement": {"enum": [name for name, info in EVERY_MEASUREMENT.items() if info.direction]},
                "aggregate": {"enum": list(AGGREGATES)},
            },
        },
    ],
    "description": "what the search climbs: success, or a measurement over the replicates",
}


class Search(Section):
    """How configurations are chosen from the space; ``configurations`` counts per loss entry."""

    method: Annotated[str, choice("how configurations are chosen", "grid", "random", "optuna")] = "grid"
    configurations: Annotated[int | None, whole("configurations per loss entry", 1)] = None
    sampler: Annotated[str | None, choice("what proposes the next configuration", *SAMPLERS)] = None
    objective: Annotated[Any, WithJsonSchema(_OBJECTIVE_SCHEMA)] = None


class Scheduler(Section):
    """Whether configurations are stopped early."""

    name: Annotated[str, choice("early stopping", "none", "asha")] = "none"
    grace_fraction: Annotated[float | None, _number("the first rung's share of the budget", 0, 1, low_open=True)] = None
    reduction_factor: Annotated[float | None, _number("one in so many goes on from a rung", 1, 100, low_open=True)] = (
        None
    )


class Resources(Section):
    """What a trial gets of the machine: may change on resume."""

    cpus_per_trial: Annotated[float, _number("CPU cores of one trial", 0, low_open=True)] = 1.0
    gpus_per_trial: Annotated[float | str, _number("GPUs (or a share of one) of one trial", 0, auto=True)] = "auto"
    cohort_size: Annotated[int | str, whole("replicates trained together", 1, 65536, auto=True)] = "auto"
    max_concurrent_trials: Annotated[int | str, whole("trials at once", 1, auto=True)] = "auto"
    device: Annotated[str, choice("where to train", "auto", "cpu", "cuda")] = "auto"


class Tracking(Section):
    """What MLflow records beyond one run per configuration: may change on resume."""

    replicate_runs: bool = False


def note_invalid(error: ValidationError, models: Mapping[tuple[str, ...], type[BaseModel]], problems: Problems) -> None:
    """Words every finding of pydantic as our rules; ``models`` are the closed sections by path."""
    for found in error.errors(include_url=False):
        path = found["loc"]
        if found["type"] == "extra_forbidden":
            model = models[tuple(str(part) for part in path[:-1])]
            problems.unknown_key(path, model.model_fields)
        elif found["type"] == "missing":
            model = models[tuple(str(part) for part in path[:-1])]
            problems.add(path, f"required{_meaning(model, str(path[-1]))}")
        elif found["type"] in ("model_type", "dict_type", "model_attributes_type"):
            problems.add(path, "must be a mapping, `key: value`", found["input"])
        elif found["type"] == "string_type":
            problems.add(path, "must be text (quote it)", found["input"])
        elif found["type"] == "list_type":
            problems.add(path, "must be a list, `[one, another]`", found["input"])
        elif found["type"] == "bool_type":
            problems.add(path, "must be true or false", found["input"])
        else:
            problems.add(path, found["msg"], found["input"])


def _meaning(model: type[BaseModel], field: str) -> str:
    rules = [rule for rule in model.model_fields[field].metadata if isinstance(rule, Rule)]
    return f": {rules[0].parameter.rule} ({rules[0].parameter.meaning})" if rules else ""


_CRITERION_PROBLEM = re.compile(r"criteria\.(\w+) (.*), got (.*)\.")


def read_criteria(raw: object, problems: Problems) -> Criteria:
    """The outcome thresholds, defaults filled in; notes unknown keys and impossible values."""
    known = [field.name for field in fields(Criteria)]
    given = raw if isinstance(raw, Mapping) else {}
    for key in given:
        if key not in known:
            problems.unknown_key(("criteria", key), known)
    try:
        return Criteria.from_mapping({key: value for key, value in given.items() if key in known})
    except ValueError as error:  # its lines name the criterion, the rule and the value
        for line in str(error).splitlines():
            found = _CRITERION_PROBLEM.fullmatch(line)
            path, text = (("criteria", found[1]), f"{found[2]} (got {found[3]})") if found else (("criteria",), line)
            problems.add(path, text)
        return Criteria()
