"""The factors of a study: what is compared, what varies, what is held, and what the budget leaves to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from study.entries import LossEntry
from study.factors import (
    OPTIMIZER_NUMBERS,
    UPDATES_NUMBERS,
    Listed,
    Scalar,
    Values,
    declared,
    factor_parameters,
)
from study.problems import Problems
from study.sections import Budget
from trainers.catalogue import OPTIMIZERS, UPDATES, penalty_entry
from trainers.catalogue_images import CLASSES, IMAGE_SETS

VARIED = ("scientific", "nuisance")
_SAMPLES_PER_MODE = 20
_MODES: Mapping[str, Callable[[Callable[[str], int]], int]] = MappingProxyType(
    {
        "ring": lambda highest: highest("modes"),
        "grid": lambda highest: highest("side") ** 2,
        "digits": lambda highest: 10,
        "stacked_digits": lambda highest: 1000,
        **dict.fromkeys(IMAGE_SETS, lambda highest: CLASSES),
    }
)
"""How many modes a target declares, from its parameters."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is compared and what varies, defaults filled in.

    ``target`` and ``networks`` lack the parameters that vary; a fixed optimizer number is a mapping by optimizer where
    the chosen optimizers' defaults differ.
    """

    entries: tuple[LossEntry, ...]
    scientific: Mapping[str, Values]
    nuisance: Mapping[str, Values]
    fixed: Mapping[str, Scalar | Mapping[str, Scalar]]
    target: Mapping[str, Any]
    networks: Mapping[str, Any]

    @property
    def varied(self) -> dict[str, Values]:
        """Scientific and nuisance factors in canonical order."""
        given = {**self.scientific, **self.nuisance}
        names = factor_parameters(self.target["name"], self.networks["name"])
        return {name: given[name] for name in names if name in given}

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that are compared, or the one that is fixed."""
        return tuple(str(name) for name in self.values("optimizer").grid())

    @property
    def updates(self) -> tuple[str, ...]:
        """The orders of updates that are compared, or the one that is fixed."""
        return tuple(str(name) for name in self.values("updates").grid())

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of products that are compared, or the one that is fixed; none where none is asked for."""
        asked = "precision" in self.varied or "precision" in self.fixed
        return tuple(str(name) for name in self.values("precision").grid()) if asked else ()

    @property
    def target_factors(self) -> frozenset[str]:
        """Parameters of the target that vary."""
        return frozenset(declared("target", self.target["name"])) & frozenset(self.varied)

    @property
    def networks_factors(self) -> frozenset[str]:
        """Parameters of the networks that vary."""
        return frozenset(declared("networks", self.networks["name"])) & frozenset(self.varied)

    def values(self, name: str, *, optimizer: str = "") -> Values:
        """The values of a factor under ``optimizer``."""
        if name in self.varied:
            return self.varied[name]
        fixed = self.fixed[name]
        return Listed((fixed[optimizer] if isinstance(fixed, Mapping) else fixed,))

    def names(self, optimizer: str, updates: str) -> list[str]:
        """The factors in effect under ``optimizer`` and ``updates``, in canonical order."""
        unused = OPTIMIZER_NUMBERS.keys() - OPTIMIZERS[optimizer].defaults.keys()
        unused |= UPDATES_NUMBERS.keys() - UPDATES[updates].defaults.keys()
        given = {**self.fixed, **self.varied}
        order = factor_parameters(self.target["name"], self.networks["name"])
        return [name for name in order if name in given and name not in unused]

    def size(self, entry: LossEntry) -> int | None:
        """How many configurations the entry's space holds; None: a continuum."""
        total = 0
        for optimizer, updates in itertools.product(self.optimizers, self.updates):
            names = [name for name in self.names(optimizer, updates) if name not in ("optimizer", "updates")]
            factors = [self.values(name) for name in names if name in self.varied]
            sizes = [values.size for values in (*factors, *entry.parameters.values())]
            known = [size for size in sizes if size is not None]
            if len(known) < len(sizes):
                return None
            total += math.prod(known)
        return total

    def plain(self) -> dict[str, object]:
        """The sections as the operative study file holds them."""
        varied = {
            section: {name: values.plain() for name, values in getattr(self, section).items()} for section in VARIED
        }
        loss = {"loss": [entry.plain() for entry in self.entries]}
        return {
            "target": dict(self.target),
            "networks": dict(self.networks),
            "scientific": {**loss, **varied["scientific"]},
            "nuisance": varied["nuisance"],
            "fixed": {name: dict(v) if isinstance(v, Mapping) else v for name, v in self.fixed.items()},
        }


def check_budget(design: Design, budget: Budget, problems: Problems) -> None:
    """The dearest configuration must reach every evaluation, and every mode get its samples."""
    k, batch_size = int(design.values("k").highest), int(design.values("batch_size").highest)
    penalty = max((entry.penalty for entry in design.entries), key=lambda name: penalty_entry(name).penalised)
    horizon, updates = min(
        (budget.horizon(k=k, batch_size=batch_size, penalty=penalty, updates=name), name) for name in design.updates
    )
    if horizon < budget.evaluations:
        problems.add(
            ("budget", "value"),
            f"leaves {horizon} generator steps for {budget.evaluations} evaluations "
            f"at k = {k}, batch_size = {batch_size}, penalty {penalty}, {updates} updates; "
            "every evaluation needs a step",
            budget.value,
        )
    count = _MODES.get(str(design.target["name"]))
    if count is None:
        return
    modes = count(lambda name: int(design.varied[name].highest if name in design.varied else design.target[name]))
    if budget.evaluation_samples < _SAMPLES_PER_MODE * modes:
        problems.add(
            ("budget", "evaluation_samples"),
            f"must be at least {_SAMPLES_PER_MODE} for each of {modes} modes: {_SAMPLES_PER_MODE * modes}",
            budget.evaluation_samples,
        )
