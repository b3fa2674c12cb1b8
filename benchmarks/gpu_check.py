"""What only a GPU can show, in a few minutes, with torch and numpy alone: speed, agreement with the CPU, memory.

    PYTHONPATH=. python benchmarks/gpu_check.py --json gpu.json [--seconds 240]
    PYTHONPATH=. python benchmarks/gpu_check.py --rehearse --json /tmp/rehearsal.json    # tiny, on the CPU

Sections come in order of importance and the file is written after each: what no time was left for is missing there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import ceiling, cohort_steps, interleaved, machine, members, program, single_steps, step_flops
from trainers.cohort import Cohort
from trainers.draws_ahead import DrawsAhead
from trainers.footprint import cohort_bytes
from trainers.loop import advance, generator_step
from trainers.parts import Parts

Facts = dict[str, Any]
AGREE_STEPS = 20


def agreement(device: str, *, size: int) -> Facts:
    """Largest difference of any parameter between CPU and device after 20 steps on the same draws, by game."""
    found = {}
    for loss, penalty in (("non_saturating", "none"), ("wasserstein", "gradient_penalty"), ("hinge", "r1")):
        of = program(width=64, batch=128, loss=loss, penalty=penalty)
        cohorts = [Cohort.start(of, members(of, size), device=where) for where in ("cpu", device)]
        for cohort in cohorts:
            advance(cohort, AGREE_STEPS)
        found[f"{loss} {penalty}"] = max(
            float((a.flat.cpu() - b.flat.cpu()).abs().max())
            for a, b in (
                (cohorts[0].generator, cohorts[1].generator),
                (cohorts[0].discriminator, cohorts[1].discriminator),
            )
        )
    return found


def recording(device: str, *, size: int) -> Facts:
    """Whether the recorded step gives the ordinary step's parameters, and the largest difference."""
    of = program(width=64, batch=128, penalty="r1")
    recorded, ordinary = (Cohort.start(of, members(of, size), device=device) for _ in range(2))
    advance(recorded, AGREE_STEPS)
    while ordinary.generator_step < AGREE_STEPS:
        generator_step(ordinary, *ordinary.draws())
        ordinary.generator_step += 1
    difference = float((recorded.generator.flat - ordinary.generator.flat).abs().max())
    return {"recorded": recorded.static_step is not None, "equal": difference == 0.0, "difference": difference}


def ordinary_steps(size: int, *, width: int, batch: int, device: str) -> Callable[[], None]:
    """A cohort whose steps are launched one operation at a time."""
    of = program(width=width, batch=batch)
    cohort = Cohort.start(of, members(of, size), device=device)

    def run() -> None:
        for _ in range(8):
            generator_step(cohort, *cohort.draws())
            cohort.generator_step += 1

    return run


def throughput(device: str, *, width: int, batch: int, sizes: tuple[int, ...], rounds: int) -> Facts:
    """Replicate-steps/s by cohort size, recorded and launched; a single replicate; the products' ceiling."""
    of = program(width=width, batch=batch)
    found: Facts = {"width": width, "batch": batch, "cohorts": {}}
    bound = max(ceiling(size=size, width=width, batch=batch, device=device) for size in sizes[-2:])
    found |= {"bmm_gflops": bound / 1e9, "bmm_ceiling": bound / step_flops(of)}
    for size in sizes:
        contenders = {"recorded": cohort_steps(of, size=size, device=device)}
        if size <= sizes[len(sizes) // 2]:
            contenders["launched"] = ordinary_steps(size, width=width, batch=batch, device=device)
        measured = interleaved(contenders, rounds=rounds, device=device)
        found["cohorts"][size] = {name: size / one["median_s"] for name, one in measured.items()}
    single = interleaved({"single": single_steps(of, device=device)}, rounds=rounds, device=device)
    found["single"] = 1 / single["single"]["median_s"]
    best = max(one["recorded"] for one in found["cohorts"].values())
    return found | {"over_single": best / found["single"], "of_ceiling": best / found["bmm_ceiling"]}


def coarser(name: str, device: str, *, size: int) -> Facts:
    """Products of another precision: the speed, and how far 20 steps end from those in float32."""
    of = program(width=128, batch=256)
    coarse = replace(of, precision=name)
    cohorts = [Cohort.start(one, members(one, size), device=device) for one in (of, coarse)]
    for cohort in cohorts:
        advance(cohort, AGREE_STEPS)
    contenders = {
        name: cohort_steps(one, size=size, device=device) for name, one in (("exact", of), ("coarse", coarse))
    }
    measured = interleaved(contenders, rounds=3, device=device)
    return {
        "size": size,
        "replicate_steps_per_s": size / measured["coarse"]["median_s"],
        "times_float32": measured["exact"]["median_s"] / measured["coarse"]["median_s"],
        "difference_after_20_steps": float((cohorts[0].generator.flat - cohorts[1].generator.flat).abs().max()),
    }


def memory(device: str, *, sizes: tuple[int, ...]) -> Facts:
    """Peak bytes of training against the estimate, with and without a penalty."""
    found: Facts = {}
    for penalty in ("none", "gradient_penalty"):
        of = program(width=128, batch=256, penalty=penalty)
        for size in sizes:
            peak = None
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            cohort = Cohort.start(of, members(of, size), device=device)
            advance(cohort, 10)
            if device == "cuda":
                peak = torch.cuda.max_memory_allocated() - before
            found[f"{penalty} {size}"] = {"estimate_bytes": cohort_bytes(of, size), "peak_bytes": peak}
            del cohort
    return found


def parts(device: str, *, size: int) -> Facts:
    """Peak bytes and seconds of members trained together and a quarter at a time, and how far they end apart."""
    of, found, ends = program(width=128, batch=256), {}, []
    for at_once in (size, size // 4):
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        cohort = Cohort.start(of, members(of, size), device=device)
        in_turn = Parts(cohort, at_once=at_once)
        in_turn.advance(8, by=advance)
        began = time.perf_counter()
        for step in range(16, 49, 8):
            in_turn.advance(step, by=advance)
        if device == "cuda":
            torch.cuda.synchronize()
        facts: Facts = {"seconds": time.perf_counter() - began}
        facts["estimate_bytes"] = cohort_bytes(of, size, at_once=at_once)
        facts["peak_bytes"] = torch.cuda.max_memory_allocated() - before if device == "cuda" else None
        in_turn.hand_over()
        ends.append(cohort.generator.flat.clone())
        found[f"{at_once} at once"] = facts
        del cohort, in_turn
    return found | {"difference_after_48_steps": float((ends[0] - ends[1]).abs().max())}


def draws(*, size: int) -> Facts:
    """Replicate-steps/s that the CPU's threads can draw for, at width 128 and batch 256: a bound of its own."""
    of = program(width=128, batch=256)
    cohort = Cohort.start(of, members(of, 1))
    found = {}
    for threads in (1, torch.get_num_threads()):
        ahead = DrawsAhead(list(range(size)), shape=cohort._shape, target=cohort.target, threads=threads)
        ahead(0)
        began = time.perf_counter()
        for block in range(1, 5):
            ahead(block)
        found[threads] = size * 8 * 4 / (time.perf_counter() - began)
    return found


def sections(*, rehearse: bool) -> dict[str, Callable[[], Facts]]:
    """What to measure, the most important first."""
    device, rounds = ("cpu", 1) if rehearse else ("cuda", 5)
    wide, narrow = ((8, 16), (8,)) if rehearse else ((64, 256, 512, 1024, 2048), (256, 1024, 4096))
    few = 2 if rehearse else 64
    return {
        "agreement": lambda: agreement(device, size=few),
        "recording": lambda: recording(device, size=few),
        "throughput_128": lambda: throughput(device, width=128, batch=256, sizes=wide, rounds=rounds),
        "tf32": lambda: coarser("float32" if rehearse else "tf32", device, size=wide[-2]),
        "bfloat16": lambda: coarser("bfloat16", device, size=wide[-2]),
        "memory": lambda: memory(device, sizes=wide[:2]),
        "parts": lambda: parts(device, size=wide[1]),
        "throughput_64": lambda: throughput(device, width=64, batch=128, sizes=narrow, rounds=rounds),
        "draws": lambda: draws(size=wide[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="no section begins after this")
    parser.add_argument("--rehearse", action="store_true", help="tiny and on the CPU: does the script run?")
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        raise SystemExit("gpu_check needs a CUDA device that torch can see; --rehearse runs without one")
    began, facts = time.perf_counter(), {"machine": machine(), "rehearsal": arguments.rehearse}
    for name, section in sections(rehearse=arguments.rehearse).items():
        if time.perf_counter() - began > arguments.seconds:
            break
        at = time.perf_counter()
        try:
            facts[name] = section()
        except RuntimeError as error:  # one section that fails, for want of memory say, must not cost the others
            facts[name] = {"error": f"{type(error).__name__}: {error}"}
        facts[name]["took_s"] = round(time.perf_counter() - at, 1)
        print(name, json.dumps(facts[name]), flush=True)
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
