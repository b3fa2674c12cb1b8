"""The study file: what is compared, over which factors, with how many replicates. Contract: one mapping, closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, InstanceOf, PlainSerializer, PrivateAttr, ValidationError

from study.canonical import digest
from study.data_files import with_data, without_folder
from study.design import Design, check_budget
from study.folder import NAME
from study.measured import read_measurements
from study.outcomes import Criteria
from study.plain_data import flattened, plain_mapping, with_value
from study.precision_rules import check_precision
from study.problems import FieldPath, Problems, SpecError, shown
from study.protocol import Protocol, spelled_out
from study.read_design import read_design, section
from study.schema import study_schema
from study.search_rules import check_objective, check_rungs, check_scheduler, check_search, check_space, filled
from study.sections import (
    Budget,
    Resources,
    Scheduler,
    Search,
    Section,
    Tracking,
    note_invalid,
    read_criteria,
    whole,
)
from study.user_code import check_importable, named_code
from study.yaml_file import dump_yaml, parse_value, read_yaml

__all__ = ["MAX_CONFIGURATIONS", "Criteria", "SpecError", "StudySpec"]

MAX_CONFIGURATIONS = 10_000
MAX_REPLICATES = 1_000_000
DRAWN = ("random", "optuna")
"""Search methods that draw from ranges; in a grid a range needs points."""
MAY_CHANGE = ("question", "resources", "tracking")
"""Sections outside the spec's hash: only these may differ when a study is resumed."""

_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))})
_OPTIONAL = (
    "networks",
    "nuisance",
    "fixed",
    "search",
    "scheduler",
    "criteria",
    "resources",
    "tracking",
    "question",
    "calibration",
    "measurements",
    "protocol",
)


def _criteria(value: object) -> object:
    return Criteria(**value) if isinstance(value, dict) else value


class StudySpec(Section):
    """A valid study, defaults filled in; two specs are equal when their operative mappings are."""

    study: str
    question: str = ""
    calibration: Annotated[str | None, Field(description="how budget and criteria were set; printed in the report")] = (
        None  # not "": a study that does not say has the same hash as before there was this key
    )
    target: dict[str, Any]
    networks: dict[str, Any] = Field(default_factory=lambda: {"name": "mlp"})
    scientific: dict[str, Any]
    nuisance: dict[str, Any] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    replicates: Annotated[int, whole("seeds per configuration", 1, 100_000)] = 8
    seed: Annotated[int, whole("the study's seed", 0, 2**63 - 1)] = 1
    budget: Budget
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    criteria: Annotated[InstanceOf[Criteria], BeforeValidator(_criteria), PlainSerializer(asdict)] = Criteria()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    measurements: list[str] | None = None  # as calibration: nothing in the hash of a study that names none
    protocol: Protocol | None = None  # likewise

    _written: dict[str, object] = PrivateAttr(default_factory=dict)
    _folder: Path | None = PrivateAttr(default=None)

    @classmethod
    def from_file(
        cls, path: str | Path, *, overrides: Sequence[str] = (), import_code: bool = True, read_data: bool = True
    ) -> StudySpec:
        """Reads a study file with ``overrides`` (see ``with_overrides``); raises SpecError with every problem.

        ``import_code=False`` leaves what is named by import path unimported, and files of data unread (to read a
        finished study elsewhere); ``read_data=False`` only the latter (to submit it to where they are).
        """
        document = read_yaml(Path(path))
        assert isinstance(document.data, dict)
        written, locate = _overridden(document.data, overrides, document.locate)
        folder = Path(path).absolute().parent
        return cls._build(
            written, Problems(locate), folder=folder, import_code=import_code, read_data=import_code and read_data
        )

    @classmethod
    def from_dict(
        cls, mapping: Mapping[str, object], *, folder: Path | None = None, import_code: bool = True
    ) -> StudySpec:
        """Reads a study from plain data; ``folder`` is where code named by import path may lie."""
        return cls._build(
            plain_mapping(mapping), Problems(), folder=folder, import_code=import_code, read_data=import_code
        )

    def with_overrides(self, assignments: Sequence[str]) -> StudySpec:
        """The study with keys set as on the command line: ``fixed.batch_size=64``, ``scientific.k=[1, 2]``.

        Applies to the study as written, so that defaults follow the new values. Raises SpecError.
        """
        written, locate = _overridden(self._written, assignments, lambda path: "")
        return self._build(written, Problems(locate), folder=self._folder, import_code=True, read_data=True)

    @classmethod
    def _build(
        cls,
        written: dict[str, object],
        problems: Problems,
        *,
        folder: Path | None,
        import_code: bool,
        read_data: bool,
    ) -> StudySpec:
        raw = {key: value for key, value in written.items() if not (value is None and key in _OPTIONAL)}
        if "protocol" in raw:
            raw["protocol"] = spelled_out(raw["protocol"])
        cls._check_shape(raw, problems)
        operative = cls._check_meaning(raw, problems)
        for code in named_code(raw) if import_code else ():
            check_importable(code, folder=folder, problems=problems)
        problems.raise_if_any()
        if read_data:
            operative["target"] = with_data(operative["target"], beside=folder, problems=problems)
            problems.raise_if_any()
        spec = cls.model_validate(operative)
        spec._written, spec._folder = written, folder
        return spec

    @classmethod
    def _check_shape(cls, raw: Mapping[str, object], problems: Problems) -> None:
        """First pass: keys and types of every section, by pydantic."""
        try:
            cls.model_validate({**raw, "criteria": Criteria()})
        except ValidationError as error:
            note_invalid(error, _MODELS, problems)
        if not isinstance(raw.get("criteria", {}), Mapping):
            problems.add(("criteria",), "must be a mapping, `key: value`", raw["criteria"])

    @classmethod
    def _check_meaning(cls, raw: Mapping[str, object], problems: Problems) -> dict[str, Any]:
        """Second pass: rules between fields, also where the first found fault elsewhere; returns the operative data."""
        if isinstance(raw.get("study"), str):
            _check_name(str(raw["study"]), problems)
        sections = {
            path[0]: model.model_validate(raw.get(path[0], {}))
            for path, model in _MODELS.items()
            if path and path[0] in (raw.keys() | _ALWAYS) and not problems.under(path)
        }
        if isinstance(search := sections.get("search"), Search):
            check_search(search, problems)
        if isinstance(scheduler := sections.get("scheduler"), Scheduler):
            check_scheduler(scheduler, problems)
        grid = section(raw, "search").get("method", "grid") not in DRAWN
        criteria = read_criteria(raw.get("criteria", {}), problems)
        measurements = read_measurements(raw, problems)
        before = len(problems)
        design = read_design(raw, grid=grid, problems=problems)
        readable = len(problems) == before and not any(problems.under((name,)) for name in _DESIGN_SECTIONS)
        if readable and isinstance(budget := sections.get("budget"), Budget):
            check_budget(design, budget, problems)
        if readable and isinstance(resources := sections.get("resources"), Resources):
            check_precision(design, resources, problems)
        if readable and isinstance(search, Search):
            check_objective(search, design, measurements or (), problems)
            check_space(search, design, problems)
            if not problems.under(("replicates",)):
                _check_size(design, search, raw.get("replicates", 8), problems)
        if isinstance(scheduler, Scheduler) and isinstance(budget := sections.get("budget"), Budget):
            check_rungs(scheduler, budget, criteria, problems)
        if problems.under(()):
            return {}
        assert isinstance(search, Search)
        assert isinstance(scheduler, Scheduler)
        adaptive = filled(search, scheduler)
        return {**raw, **adaptive, **design.plain(), "criteria": asdict(criteria), "measurements": measurements}

    @cached_property
    def design(self) -> Design:
        """The factors and loss entries, read."""
        problems = Problems()
        design = read_design(self.model_dump(), grid=self.search.method not in DRAWN, problems=problems)
        problems.raise_if_any()
        return design

    @property
    def operative(self) -> dict[str, Any]:
        """Plain data with every default filled in: what is really run."""
        return self.model_dump(exclude_none=True)

    @property
    def code_folder(self) -> Path | None:
        """Where code named by import path may lie: the study file's folder."""
        return self._folder

    @property
    def spec_hash(self) -> str:
        """16 hex digits over everything but the question, resources, tracking and where a target's files lie."""
        return digest(self._fixed_for_good, length=16)

    @property
    def _fixed_for_good(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.operative.items() if key not in MAY_CHANGE}
        return {**kept, "target": without_folder(kept["target"])}

    @property
    def criteria_hash(self) -> str:
        """The hash of the outcome thresholds."""
        return self.criteria.hash

    def dump(self) -> str:
        """The operative study as YAML; reads back to an equal spec."""
        return dump_yaml(self.operative)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON schema of a study file, for editors."""
        return study_schema(StudySpec.model_json_schema())

    def difference(self, other: StudySpec) -> list[str]:
        """``key: old -> new`` for all that differs in ``other`` and may not change on resume."""
        old, new = (flattened(spec._fixed_for_good) for spec in (self, other))
        return [
            f"{key}: {shown(old[key]) if key in old else '(absent)'} -> {shown(new[key]) if key in new else '(absent)'}"
            for key in dict.fromkeys([*old, *new])
            if key not in old or key not in new or old[key] != new[key]
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StudySpec) and self.operative == other.operative

    def __hash__(self) -> int:
        return hash(self.spec_hash)


def criteria_from_file(path: str | Path) -> Criteria:
    """The outcome thresholds a file holds: ``key: value`` line by line, or the criteria section of a study file.

    What is left out is the default. Raises SpecError with every unknown key and impossible value.
    """
    document = read_yaml(Path(path))
    assert isinstance(document.data, dict)
    whole_study = "study" in document.data or "criteria" in document.data
    above = 0 if whole_study else 1  # a bare mapping lies where a study file has its section criteria
    problems = Problems(lambda field: document.locate(field[above:]))
    raw = document.data.get("criteria") if whole_study else document.data
    if raw is not None and not isinstance(raw, Mapping):
        problems.add(("criteria",), "must be a mapping, `key: value`", raw)
    criteria = read_criteria(raw, problems)
    problems.raise_if_any()
    return criteria


_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): StudySpec,
    ("budget",): Budget,
    ("search",): Search,
    ("scheduler",): Scheduler,
    ("resources",): Resources,
    ("tracking",): Tracking,
    ("protocol",): Protocol,
}
_ALWAYS = frozenset({"budget", "search", "scheduler", "resources", "tracking"})
"""Sections that a study has where it does not write them."""
_DESIGN_SECTIONS = ("target", "networks", "scientific", "nuisance", "fixed")


def _overridden(
    written: Mapping[str, object], assignments: Sequence[str], locate: Callable[[FieldPath], str]
) -> tuple[dict[str, object], Callable[[FieldPath], str]]:
    """``written`` with the assignments made, and a ``locate`` that points at them for what they set."""
    changed, sources = dict(written), dict[FieldPath, str]()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise SpecError([f"--set {assignment}: is written section.key=value, for instance fixed.batch_size=64"])
        changed = with_value(changed, path, parse_value(text, source=f"--set {assignment}"))
        sources[path] = f"--set {assignment}: "

    def origin(path: FieldPath) -> str:
        return next((sources[path[:end]] for end in range(len(path), 0, -1) if path[:end] in sources), locate(path))

    return plain_mapping(changed), origin


def _check_name(name: str, problems: Problems) -> None:
    if not NAME.fullmatch(name):
        rule = "must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit"
        problems.add(("study",), rule, name)
    elif name.partition(".")[0] in _DEVICES:
        problems.add(("study",), "is the name of a Windows device; choose another", name)


def _check_size(design: Design, search: Search, replicates: object, problems: Problems) -> None:
    sizes = {entry.label: design.size(entry) for entry in design.entries}
    if search.method in DRAWN:
        asked = search.configurations or 0
        for label, size in sizes.items():
            if size is not None and asked > size:
                problems.add(("search", "configurations"), f"{label!r} has only {size} configurations", asked)
        total = asked * len(sizes)
    else:
        total = sum(size or 0 for size in sizes.values())
    if total > MAX_CONFIGURATIONS:
        problems.add((), f"the study has {total:,} configurations; at most {MAX_CONFIGURATIONS:,} (coarsen a factor)")
    elif isinstance(replicates, int | float) and total * replicates > MAX_REPLICATES:
        problems.add(
            ("replicates",),
            f"{total:,} configurations make {int(total * replicates):,} replicates; at most {MAX_REPLICATES:,}",
            replicates,
        )
