"""The same study by ganstudy and by hand-written Ray: replicate-steps per second of four sides and their ratios.

    .venv/bin/python -m benchmarks.end_to_end [--replicates 32] [--hand-written-replicates 8] [--sides ...]

Sides: `torch` and `native` are `ganstudy run` with these kernels, `plain` is hand_written.py (Ray Tune, one trial a
seed, MLflow callback), `tuned` is hand_tuned.py (actors that stay, MLflow in one batch at the end). All run as whole
processes (start-up, training, evaluation, MLflow on sqlite, shutdown), on the ring with 64-wide two-hidden-layer
networks, batch 128, 10 evaluations in 1,000 steps and the same judge. The hand-written sides may run fewer seeds:
their cost for a seed is constant, and all of them take most of an hour. Ours run three times, and the median counts:
what a start takes varies by a second or two. Sides that are run alone replace their own figures in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.circumstances import circumstances
from benchmarks.whole_command import study_run, user_environment, watched

LOSSES, K, LEARNING_RATES = ["minimax", "non_saturating"], [1], [1e-4, 3e-4, 1e-3, 3e-3]
RING = {"name": "ring", "modes": 8, "radius": 2.0, "std": 0.1}
STEPS, EVALUATIONS, EVALUATION_SAMPLES = 1000, 10, 2500
OURS, BY_HAND = {"torch": "ganstudy, torch kernels", "native": "ganstudy, native kernels"}, {
    "plain": "plain hand-written Ray Tune",
    "tuned": "hand-tuned Ray actors",
}  # fmt: skip
SIDES: Mapping[str, str] = OURS | BY_HAND
GOALS = {"plain": 25.0, "tuned": 10.0}
"""How many times as fast ganstudy is to be."""

Figures = dict[str, Any]


def configurations() -> int:
    """Of the grid."""
    return len(LOSSES) * len(K) * len(LEARNING_RATES)


def by_hand(folder: Path, side: str, *, replicates: int) -> dict[str, float]:
    """Wall seconds of a hand-written script; the judge is made before, and not counted against it."""
    from trainers.evaluation import build_judge
    from trainers.targets import build_target

    judge, described = folder / "judge.pt", folder / "configuration.json"
    build_judge(build_target(RING), evaluation_samples=EVALUATION_SAMPLES).save(judge)
    configuration = {
        "losses": LOSSES,
        "k": K,
        "learning_rates": LEARNING_RATES,
        "replicates": replicates,
        "steps": STEPS,
        "evaluations": EVALUATIONS,
        "evaluation_samples": EVALUATION_SAMPLES,
        "target": RING,
        "judge": str(judge),
        "cpus": len(os.sched_getaffinity(0)),
    }
    described.write_text(json.dumps(configuration))
    script = {"plain": "benchmarks.hand_written", "tuned": "benchmarks.hand_tuned"}[side]
    command = [sys.executable, "-m", script, "--configuration", str(described)]
    run = watched(command, environment=user_environment(OMP_NUM_THREADS="1"), folder=folder)
    said = next(json.loads(line) for _, line in reversed(run.lines) if line.startswith("{"))
    return {**{name: value for name, value in said.items() if name != "trials"}, "wall_s": run.wall_s}


def ganstudy(folder: Path, side: str, *, replicates: int) -> dict[str, float]:
    """Wall seconds of `ganstudy run` on the same study, and where they went."""
    study = {
        "study": "end-to-end",
        "target": RING,
        "networks": {"name": "mlp", "latent_dim": 16, "width": 64, "depth": 2},
        "scientific": {"loss": LOSSES, "k": K},
        "nuisance": {"learning_rate": LEARNING_RATES},
        "fixed": {"batch_size": 128, "optimizer": "adam", "beta1": 0.5, "beta2": 0.999},
        "replicates": replicates,
        "seed": 1,
        "resources": {"kernels": side},
        "budget": {
            "unit": "generator_steps",
            "value": STEPS,
            "evaluations": EVALUATIONS,
            "evaluation_samples": EVALUATION_SAMPLES,
        },
    }
    spec = folder / "study.yaml"
    spec.write_text(json.dumps(study))
    if side == "native":
        from trainers import native

        native.build()  # once a machine: no part of a study's time
    return study_run(spec, folder, OMP_NUM_THREADS="1")


def run_side(side: str, *, replicates: int) -> Figures:
    """One side alone on the machine's cores, ``replicates`` seeds of each configuration."""
    where = circumstances()
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        runs = ganstudy if side in OURS else by_hand
        seconds = runs(Path(scratch), side, replicates=replicates)
    done = configurations() * replicates
    rate = done * STEPS / seconds["wall_s"]
    return {"replicates": done, "replicate_steps_per_s": rate, "seconds": seconds, "circumstances": where}


def median_of(runs: Sequence[Figures]) -> Figures:
    """The run of median wall time, with the wall seconds of all."""
    ordered = sorted(runs, key=lambda run: float(run["seconds"]["wall_s"]))
    walls = [run["seconds"]["wall_s"] for run in ordered]
    return {**ordered[len(ordered) // 2], "walls_s": walls}


def ratios(sides: Mapping[str, Figures]) -> dict[str, dict[str, float]]:
    """How many times as fast each of ours is as each side by hand, where both were run."""
    rates = {name: found["replicate_steps_per_s"] for name, found in sides.items()}
    return {
        ours: {other: rates[ours] / rates[other] for other in BY_HAND if other in rates}
        for ours in OURS
        if ours in rates
    }


def measure(
    *,
    replicates: int = 32,
    hand_written_replicates: int | None = None,
    repeats: int = 3,
    sides: Sequence[str] = tuple(SIDES),
    before: Mapping[str, Any] | None = None,
    tell: Callable[[Figures], None] = lambda found: None,
) -> Figures:
    """Runs the sides; those of ``before`` that are not run again stay. ``tell`` hears the figures after each side."""
    known: dict[str, Figures] = dict((before or {}).get("sides", {}))
    found: Figures = {"steps": STEPS, "configurations": configurations(), "sides": known, "ratios": ratios(known)}
    for side in sides:
        seeds = replicates if side in OURS else hand_written_replicates or replicates
        runs = repeats if side in OURS else 1
        known[side] = median_of([run_side(side, replicates=seeds) for _ in range(runs)])
        found["ratios"] = ratios(known)
        print(f"{SIDES[side]:30s} {known[side]['replicate_steps_per_s']:10,.0f} replicate-steps/s", flush=True)
        tell(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=32, help="seeds per configuration (8 configurations)")
    parser.add_argument("--hand-written-replicates", type=int, help="seeds on the sides by hand; same by default")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each of ours, of which the median counts")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES), help="run these")
    parser.add_argument("--json", type=Path, help="write the figures here, after each side")
    arguments = parser.parse_args()
    file: Path | None = arguments.json

    def write(found: Figures) -> None:
        if file:
            file.write_text(json.dumps(found, indent=1) + "\n")

    found = measure(
        replicates=arguments.replicates,
        hand_written_replicates=arguments.hand_written_replicates,
        repeats=arguments.repeats,
        sides=arguments.sides,
        before=json.loads(file.read_text()) if file and file.exists() else None,
        tell=write,
    )
    for ours, others in found["ratios"].items():
        for other, ratio in others.items():
            print(f"{SIDES[ours]} against {SIDES[other]}: {ratio:.1f}x (goal {GOALS[other]:g}x)")


if __name__ == "__main__":
    main()
