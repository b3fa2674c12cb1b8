"""Replicate-steps per second of a training step: cohort size, width, loss, penalty, k and kernels; draws included.

    .venv/bin/python -m benchmarks.throughput [--rounds 9] [--json FILE]

One thread. Contenders run interleaved in one process, beside a loop over single replicates and the same step in JAX
where that is installed. Two bounds: torch's own batched product, for what torch can do, and the core's multiply-adds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.steps import (
    Contender,
    ceiling,
    cohort_steps,
    interleaved,
    machine,
    multiply_add_peak,
    program,
    single_steps,
    step_flops,
)

SHAPES = ((64, 128), (128, 256))
SIZES = (16, 32)
VARIANTS = (
    {"loss": "minimax"},
    {"loss": "wasserstein", "penalty": "weight_clipping"},
    {"loss": "wasserstein", "penalty": "gradient_penalty"},
    {"loss": "non_saturating", "penalty": "r1"},
    {"loss": "relativistic", "penalty": "r1_r2"},
    {"loss": "hinge", "k": 5},
)


def has_jax() -> bool:
    """Whether the JAX step can be measured here."""
    return importlib.util.find_spec("jax") is not None


def kernels_here() -> list[str]:
    """torch, and native where it can be built."""
    from trainers import native

    try:
        native.build()
    except RuntimeError:
        return ["torch"]
    return ["torch", "native"]


def rates(measured: dict[str, dict[str, float]], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """Replicate-steps per second from seconds of a step."""
    return {
        name: {"best": sizes[name] / found["best_s"], "median": sizes[name] / found["median_s"]}
        for name, found in measured.items()
    }


def by_shape(*, width: int, batch: int, rounds: int) -> dict[str, Any]:
    """Cohorts of SIZES, a single replicate, JAX and the ceiling, at one shape."""
    of, contenders, sizes = program(width=width, batch=batch), {}, {}
    for size in SIZES:
        for kernels in kernels_here():
            contenders[f"{kernels} {size}"] = cohort_steps(of, size=size, kernels=kernels)
            sizes[f"{kernels} {size}"] = size
    contenders["single"], sizes["single"] = single_steps(of), 1
    if has_jax():
        from benchmarks import jax_step

        for size, draws in ((16, True), (32, True), (32, False)):
            name = f"jax {size}" if draws else f"jax {size}, draws given"
            contenders[name] = jax_step.contender(members=size, width=width, batch=batch, draws=draws)
            sizes[name] = size
    bound, peak = ceiling(size=16, width=width, batch=batch), multiply_add_peak()
    return {
        "width": width,
        "batch": batch,
        "mflop_per_step": step_flops(of) / 1e6,
        "bmm_gflops": bound / 1e9,
        "bmm_ceiling": bound / step_flops(of),
        **({"peak_gflops": peak / 1e9, "peak_ceiling": peak / step_flops(of)} if peak else {}),
        "replicate_steps_per_s": rates(interleaved(contenders, rounds=rounds), sizes),
    }


def by_variant(*, rounds: int) -> list[dict[str, Any]]:
    """Losses, penalties and k at width 64, batch 128 and 16 members."""
    found = []
    for variant in VARIANTS:
        of = program(width=64, batch=128, **variant)  # type: ignore[arg-type]
        contenders: dict[str, Contender] = {
            kernels: cohort_steps(of, size=16, kernels=kernels) for kernels in kernels_here()
        }
        measured = rates(interleaved(contenders, rounds=rounds), dict.fromkeys(contenders, 16))
        found.append({**variant, "replicate_steps_per_s": measured})
    return found


def evaluation_share(*, rounds: int) -> dict[str, float]:
    """What one evaluation of 16 members costs in training steps, and its share at the default 100 steps apart."""
    import time

    from benchmarks.steps import RING, members
    from trainers import native
    from trainers.cohort import Cohort
    from trainers.evaluation import build_judge
    from trainers.loop import advance
    from trainers.measuring import evaluate
    from trainers.targets import build_target

    of = program(width=64, batch=128)
    judge, shares = build_judge(build_target(RING), evaluation_samples=of.evaluation_samples), {}
    for kernels in kernels_here():
        native.use(kernels)
        cohort, seconds = Cohort.start(of, members(of, 16)), []
        for index in range(6):  # every fifth takes the nearest neighbours too
            began = time.process_time()
            evaluate(cohort, judge, index=index)
            seconds.append(time.process_time() - began)
        began, steps = time.process_time(), 8 * rounds
        advance(cohort, steps)
        training = (time.process_time() - began) / steps * 100
        one = sum(seconds[1:]) / 5
        shares[kernels] = one / (one + training)
    return shares


def measure(*, rounds: int) -> dict[str, Any]:
    """All of it, on one thread."""
    torch.set_num_threads(1)
    return {
        "machine": machine(),
        "shapes": [by_shape(width=width, batch=batch, rounds=rounds) for width, batch in SHAPES],
        "variants": by_variant(rounds=rounds),
        "evaluation_share": evaluation_share(rounds=rounds),
        "jax": has_jax(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often each contender runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    text = json.dumps(measure(rounds=arguments.rounds), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
