"""The layers: what each package may load, checked in a fresh interpreter (import-linter checks what is written)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainers import catalogue
from trainers.networks import NETWORKS
from trainers.targets import TARGETS

HEAVY = {"torch", "ray", "mlflow", "pandas", "matplotlib", "optuna", "sklearn", "scipy"}


def loaded_by(*modules: str) -> set[str]:
    """Which of the heavy libraries a fresh interpreter holds after importing ``modules``."""
    code = f"import sys, {', '.join(modules)}; print(*(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (["trainers.catalogue", "trainers.measurement", "trainers.program"], set()),
        (["trainers.loop", "trainers.evaluation"], {"torch"}),
        (["study.cli"], set()),
        (["study.spec", "study.plan", "study.outcomes"], set()),
        (["analysis.load", "analysis.compare"], {"mlflow", "pandas", "scipy"}),
        (["analysis.report"], {"mlflow", "pandas", "scipy", "matplotlib"}),
    ],
    ids=lambda value: ",".join(sorted(value)) or "nothing",
)
def test_importing_a_module_loads_no_more_than_its_layer_may(modules: list[str], allowed: set[str]) -> None:
    assert loaded_by(*modules) <= allowed


def test_catalogue_and_registries_name_the_same_targets_and_networks() -> None:
    assert set(TARGETS) == set(catalogue.TARGETS)
    assert set(NETWORKS) == set(catalogue.NETWORKS)
