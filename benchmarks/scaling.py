"""Cost against size: planning 1 to 10,000 replicates, training 1 to 64 in a cohort, and more workers.

    .venv/bin/python -m benchmarks.scaling [--json FILE]

Workers beyond this machine's are simulated: the plan's own estimate of when the last of them is done.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

REPLICATES = (1, 10, 100, 1000, 10_000)
WORKERS = (1, 2, 4, 16, 64)
COHORTS = (1, 8, 16, 32, 64)


def study(replicates: int) -> dict[str, Any]:
    """Ten configurations on the ring with a tenth of the replicates each, at least one."""
    return {
        "study": "scaling",
        "target": {"name": "ring"},
        "networks": {"name": "mlp"},
        "scientific": {"loss": ["minimax", "non_saturating"], "k": [1]},
        "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-2, "points": 5, "scale": "log"}},
        "fixed": {"batch_size": 128},
        "replicates": max(1, replicates // 10),
        "budget": {"unit": "generator_steps", "value": 1000},
    }


def planning() -> list[dict[str, float]]:
    """Seconds and peak bytes of Python objects from a study file's data to the JSON of its plan."""
    from study.plan import make_plan
    from study.spec import StudySpec

    found = []
    for replicates in REPLICATES:
        data = study(replicates)
        began = time.process_time()
        plan = make_plan(StudySpec.from_dict(data), workers=2)
        text = json.dumps(plan.to_json())
        seconds = time.process_time() - began
        tracemalloc.start()
        make_plan(StudySpec.from_dict(data), workers=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        members = sum(len(cohort.members) for cohort in plan.cohorts)
        found.append({"replicates": members, "seconds": seconds, "peak_bytes": peak, "plan_bytes": len(text)})
    return found


def workers() -> list[dict[str, float]]:
    """Estimated seconds of 10,000 replicates by how many workers share them."""
    from study.plan import make_plan
    from study.spec import StudySpec

    spec, found = StudySpec.from_dict(study(10_000)), []
    for count in WORKERS:
        plan = make_plan(spec, workers=count)
        found.append({"workers": count, "cohorts": len(plan.cohorts), "wall_s": plan.estimate(workers=count).wall_s})
    return found


def cohorts() -> list[dict[str, float]]:
    """CPU seconds of 1,000 generator steps of one replicate, by how many train together."""
    from benchmarks.steps import cohort_steps, interleaved, program
    from benchmarks.throughput import kernels_here

    of, found = program(width=64, batch=128), []
    for size in COHORTS:
        contenders = {kernels: cohort_steps(of, size=size, kernels=kernels) for kernels in kernels_here()}
        measured = interleaved(contenders, rounds=3)
        found.append({"members": size} | {name: 1000 * one["median_s"] / size for name, one in measured.items()})
    return found


def measure() -> dict[str, Any]:
    """All of it, on one thread."""
    import torch

    torch.set_num_threads(1)
    return {"planning": planning(), "workers": workers(), "cohorts": cohorts()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    text = json.dumps(measure(), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
