"""Reads the target, networks and factor sections of a study file into a Design, noting every rule they break."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from study.design import VARIED, Design
from study.entries import LossEntry, read_entries
from study.factors import (
    LEARNING_RATES,
    OPTIMIZER_NUMBERS,
    UPDATES_NUMBERS,
    Scalar,
    Values,
    declared,
    factor_parameters,
    read_scalar,
    read_values,
)
from study.model_rules import check_batches, check_images, check_sides, without_absent
from study.problems import Problems
from study.settings import check_partners, declared_settings, default_networks, read_setting
from study.user_code import is_import_path
from trainers.catalogue import FACTORS, NETWORKS, OPTIMIZERS, PENALTIES, TARGETS, UPDATES, Parameter

_PARTS = ("target", "networks")
_ONE_HOME = "a factor lives in exactly one of scientific, nuisance, fixed"


def section(raw: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The section's mapping; empty where it is left out, or is no mapping (which is noted elsewhere)."""
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


@dataclass
class _Reader:
    """One pass over the sections of a study file."""

    raw: Mapping[str, object]
    problems: Problems
    grid: bool

    def __post_init__(self) -> None:
        self.parts = {part: self._part_name(part) for part in _PARTS}
        check_partners(self.parts, self.problems)
        check_images(self.parts, self.problems)
        self.parameters = self._known_factors()
        self.homes: dict[str, str] = {}

    def design(self) -> Design:
        """The design as far as it can be read; only meaningful when no problem was noted."""
        given = {part: self._part(part) for part in _PARTS}
        entries: tuple[LossEntry, ...] = ()
        if "loss" not in section(self.raw, "scientific"):
            self.problems.add(("scientific", "loss"), "required: the losses to compare")
        else:
            loss = section(self.raw, "scientific")["loss"]
            entries = read_entries(loss, path=("scientific", "loss"), problems=self.problems, grid=self.grid)
        varied = {name: self._varied(name) for name in VARIED}
        fixed = self._fixed()
        self._check_learning_rates()
        optimizers = self._chosen_optimizers({**varied["scientific"], **varied["nuisance"]}, fixed)
        self._check_updates_numbers(self._chosen("updates", {**varied["scientific"], **varied["nuisance"]}, fixed))
        self._fill_factors(fixed, optimizers)
        parts = {part: self._fill_part(part, given[part], fixed) for part in _PARTS}
        known = {name: fixed[name] for name in self.parameters if name in fixed}
        design = Design(
            entries=entries,
            scientific=varied["scientific"],
            nuisance=varied["nuisance"],
            fixed=known,
            target=parts["target"],
            networks=parts["networks"],
        )
        self._check_updates(design)
        if not self.problems.under(()):
            check_batches(design, self.problems)
            check_sides(design, self.problems)
        return design

    def _part_name(self, part: str) -> str | None:
        """The registered name (or import path) of target or networks; None after noting that it is not known."""
        names = TARGETS if part == "target" else NETWORKS
        given = section(self.raw, part)
        if part not in self.raw and part == "networks":
            return default_networks(section(self.raw, "target").get("name"))
        name = given.get("name")
        if isinstance(name, str) and (name in names or (part == "networks" and is_import_path(name))):
            return name
        if isinstance(self.raw.get(part), Mapping):
            if "name" not in given:
                self.problems.add((part, "name"), f"required: one of {', '.join(names)}")
            else:
                self.problems.unknown_name((part, "name"), part.removesuffix("s"), name, names)
        return None

    def _known_factors(self) -> dict[str, Parameter]:
        """Factors by name; all those of a registry whose entry is not known, so that one slip is one message."""
        every = {"target": TARGETS, "networks": NETWORKS}
        known = factor_parameters(self.parts["target"], self.parts["networks"])
        for part in _PARTS:
            if self.parts[part] is None:
                known |= {p.name: p for entry in every[part].values() for p in entry.parameters}
        return known

    def _settle(self, name: str, home: str) -> bool:
        """Notes where a factor lives; False when it lives elsewhere already."""
        if name in self.homes:
            self.problems.add((home, name), f"is also in {self.homes[name]}; {_ONE_HOME}")
            return False
        self.homes[name] = home
        return True

    def _part(self, part: str) -> dict[str, object]:
        """The parameters written inside target or networks."""
        known, settings = declared(part, self.parts[part]), declared_settings(part, self.parts[part])
        read: dict[str, object] = {}
        for key, value in section(self.raw, part).items():
            path = (part, key)
            if key == "name" or self.parts[part] is None:
                continue
            if key in settings:
                read[key] = read_setting(value, settings[key], path=path, problems=self.problems)
            elif key not in known:
                if is_import_path(self.parts[part]):
                    read[key] = self._free_option(part, key, value)
                else:
                    self.problems.unknown_key(path, ("name", *known, *settings))
            elif isinstance(value, list | Mapping):
                self.problems.add(
                    path, "must be a single value here; move it to scientific or nuisance to vary it", value
                )
            elif self._settle(key, part):
                read[key] = read_scalar(value, known[key], path=path, problems=self.problems)
        return read

    def _free_option(self, part: str, key: str, value: object) -> object:
        items = value if isinstance(value, list) else [value]
        plain = all(isinstance(item, str | int | float) and _finite(item) for item in items)
        if not key.isidentifier() or not plain:
            self.problems.add(
                (part, key), "an option of your own networks is a name with finite numbers or text", value
            )
        return value

    def _varied(self, home: str) -> dict[str, Values]:
        read = {}
        for name, value in section(self.raw, home).items():
            if name == "loss" and home == "scientific":
                continue
            if self._knows(name, home) and self._settle(name, home):
                parameter = self.parameters[name]
                found = read_values(value, parameter, path=(home, name), problems=self.problems, grid=self.grid)
                if found is not None:
                    read[name] = found
        return read

    def _knows(self, name: str, home: str) -> bool:
        if name in self.parameters:
            return True
        in_entry = {p.name for entry in PENALTIES.values() for p in entry.parameters} | {"penalty"}
        if name == "loss":
            self.problems.add((home, name), "belongs under scientific: comparing losses is the question")
        elif name in in_entry:
            self.problems.add((home, name), f"belongs inside a loss entry, as in {{name: wasserstein, {name}: ...}}")
        else:
            self.problems.unknown_key((home, name), [*(["loss"] if home == "scientific" else []), *self.parameters])
        return False

    def _fixed(self) -> dict[str, Scalar | Mapping[str, Scalar]]:
        read: dict[str, Scalar | Mapping[str, Scalar]] = {}
        for name, value in section(self.raw, "fixed").items():
            path = ("fixed", name)
            if not self._knows(name, "fixed") or not self._settle(name, "fixed"):
                continue
            if isinstance(value, Mapping) and name in OPTIMIZER_NUMBERS:
                read[name] = self._by_optimizer(name, value)
            elif isinstance(value, list | Mapping):
                self.problems.add(path, "must be a single value; move it to scientific or nuisance to vary it", value)
            else:
                found = read_scalar(value, self.parameters[name], path=path, problems=self.problems)
                if found is not None:
                    read[name] = found
        return read

    def _by_optimizer(self, name: str, given: Mapping[str, object]) -> dict[str, Scalar]:
        """A fixed number written ``{adam: 0.999, rmsprop: 0.99}``."""
        users = [key for key, entry in OPTIMIZERS.items() if name in entry.defaults]
        read = {}
        for key, value in given.items():
            if key not in users:
                self.problems.unknown_name(("fixed", name, key), f"optimizer with {name}", key, users)
                continue
            found = read_scalar(value, OPTIMIZER_NUMBERS[name], path=("fixed", name, key), problems=self.problems)
            if found is not None:
                read[key] = found
        return read

    def _check_learning_rates(self) -> None:
        given = [name for name in LEARNING_RATES if name in self.homes]
        both = "generator_learning_rate and discriminator_learning_rate"
        if not given:
            self.problems.add(("learning_rate",), f"required in scientific, nuisance or fixed (or {both})")
        elif "learning_rate" in given and len(given) > 1:
            self.problems.add((self.homes[given[1]], given[1]), f"give either learning_rate or {both}, not a mixture")
        elif given != ["learning_rate"] and len(given) == 1:
            self.problems.add((self.homes[given[0]], given[0]), f"needs its partner: {both} come together")

    def _chosen_optimizers(
        self, varied: Mapping[str, Values], fixed: Mapping[str, Scalar | Mapping[str, Scalar]]
    ) -> list[str]:
        """The optimizers of the study, after noting numbers that none of them uses."""
        chosen = self._chosen("optimizer", varied, fixed)
        if not chosen:
            return []
        used = {number for name in chosen for number in OPTIMIZERS[name].defaults}
        for number in OPTIMIZER_NUMBERS:
            if number in self.homes and number not in used:
                uses = "; ".join(f"{name} uses {', '.join(OPTIMIZERS[name].defaults)}" for name in chosen)
                self.problems.add((self.homes[number], number), f"no chosen optimizer uses it ({uses})")
        return chosen

    def _chosen(
        self, name: str, varied: Mapping[str, Values], fixed: Mapping[str, Scalar | Mapping[str, Scalar]]
    ) -> list[str]:
        """The values of the factor ``name``, a choice; none where what was written is no choice, which was noted."""
        if name in self.homes and name not in varied and name not in fixed:
            return []
        values = varied[name].grid() if name in varied else [fixed.get(name, FACTORS[name].default)]
        return [str(value) for value in values]

    def _check_updates_numbers(self, chosen: list[str]) -> None:
        """Numbers of an order of updates are required with it (they have no default), and refused without it."""
        used = {number for name in chosen for number in UPDATES[name].defaults}
        for number, parameter in UPDATES_NUMBERS.items():
            users = ", ".join(name for name, entry in UPDATES.items() if number in entry.defaults)
            if number in self.homes and chosen and number not in used:
                path = (self.homes[number], number)
                self.problems.add(path, f"is for updates {users} (they are {', '.join(chosen)})")
            elif number in used and number not in self.homes:
                self.problems.add(
                    (number,),
                    f"required in scientific, nuisance or fixed with updates {users}: "
                    f"{parameter.rule} ({parameter.meaning})",
                )

    def _fill_factors(self, fixed: dict[str, Scalar | Mapping[str, Scalar]], optimizers: list[str]) -> None:
        """Adds the defaults of what was left out, and brings numbers by optimizer to one form."""
        for name, parameter in FACTORS.items():
            if name not in self.homes and parameter.default is not None:
                fixed[name] = parameter.default
        for number in OPTIMIZER_NUMBERS:
            users = [name for name in optimizers if number in OPTIMIZERS[name].defaults]
            if not users or (number in self.homes and not isinstance(fixed.get(number), Mapping)):
                continue
            written = fixed.get(number, {})
            assert isinstance(written, Mapping)
            for extra in set(written) - set(users):
                self.problems.add(("fixed", number, extra), "is not among the chosen optimizers", extra)
            values = {name: written.get(name, _default(name, number)) for name in users}
            fixed[number] = values if len(set(values.values())) > 1 else values[users[0]]

    def _fill_part(
        self, part: str, given: Mapping[str, object], fixed: dict[str, Scalar | Mapping[str, Scalar]]
    ) -> dict[str, object]:
        """Target or networks with its fixed parameters and defaults; parameters that vary stay out."""
        filled: dict[str, object] = {"name": self.parts[part]}
        for name, parameter in declared(part, self.parts[part]).items():
            if self.homes.get(name) in VARIED:
                continue
            value = fixed.pop(name) if name in fixed else given.get(name, parameter.default)
            if value is None and name not in self.homes:
                self.problems.add((part, name), f"required: {parameter.rule} ({parameter.meaning})")
            filled[name] = value
        for name, setting in declared_settings(part, self.parts[part]).items():
            value = given.get(name, setting.default)
            if setting.required and name not in given:
                self.problems.add((part, name), f"required: {setting.rule} ({setting.meaning})")
            elif value is not None:
                filled[name] = value
        filled |= {name: value for name, value in given.items() if name not in filled}
        return without_absent(part, filled)

    def _check_updates(self, design: Design) -> None:
        if self.problems.under(()):
            return
        single = [name for name in design.updates if name != "alternating"]
        k = design.values("k")
        if single and k.highest != 1:
            need = f"{', '.join(single)} need{'s' if len(single) == 1 else ''} k = 1"
            self.problems.add((self.homes["updates"], "updates"), f"{need} in the whole study (k reaches {k.highest})")


def _finite(value: object) -> bool:
    """Whether a number is finite; text counts as finite."""
    return not isinstance(value, float) or math.isfinite(value)


def _default(optimizer: str, number: str) -> Scalar:
    default = OPTIMIZERS[optimizer].defaults[number]
    assert default is not None, f"{optimizer}.{number} has no default"
    return default


def read_design(raw: Mapping[str, object], *, grid: bool, problems: Problems) -> Design:
    """The factors of a study file; notes what is wrong (the design is then not to be used)."""
    return _Reader(raw, problems, grid).design()
