"""Where and beside what a figure was measured: every result file and every table says so."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from benchmarks.steps import machine


def circumstances() -> dict[str, Any]:
    """Processor, cores that this process may use, versions, and the load average of the last minute, as it is now."""
    facts = {name: machine()[name] for name in ("processor", "torch", "python")}
    versions = {package: version(package) for package in ("ray", "mlflow")}
    return {**facts, **versions, "cores": len(os.sched_getaffinity(0)), "load_average": round(os.getloadavg()[0], 1)}


def name_of_machine() -> str:
    """For file names: processor and cores."""
    facts = circumstances()
    return f"{re.sub(r'[^a-z0-9]+', '-', str(facts['processor']).lower()).strip('-')}-{facts['cores']}-cores"


def sentence(facts: Mapping[str, Any]) -> str:
    """For below a table."""
    versions = f"{facts['processor']}, {facts['cores']} cores, torch {facts['torch']}"
    return f"({versions}, load average {facts['load_average']} before it.)"
