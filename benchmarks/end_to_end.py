"""The same study by ganstudy and by a hand-written Ray Tune script: replicate-steps per second and their ratio.

    .venv/bin/python benchmarks/end_to_end.py [--replicates 16] [--json FILE]

Both sides run as whole processes (start-up, training, evaluation, MLflow on sqlite, shutdown), on the ring with
64-wide two-hidden-layer networks, batch 128 and 10 evaluations per 1,000 steps. The hand-written side may run
fewer seeds (its cost per seed is constant), because at full size it takes most of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOSSES, K, LEARNING_RATES = ["minimax", "non_saturating"], [1], [1e-4, 3e-4, 1e-3, 3e-3]
RING = {"name": "ring", "modes": 8, "radius": 2.0, "std": 0.1}
STEPS, EVALUATIONS, EVALUATION_SAMPLES = 1000, 10, 2500


def environment() -> dict[str, str]:
    """Both sides alone on the machine's cores, one thread per trial."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}


def hand_written(folder: Path, *, replicates: int, cpus: int) -> dict[str, float]:
    """Wall seconds and replicate-steps of the hand-written script."""
    from trainers.evaluation import build_judge
    from trainers.targets import build_target

    judge = folder / "judge.pt"
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
        "cpus": cpus,
    }
    (folder / "configuration.json").write_text(json.dumps(configuration))
    return timed(
        [
            sys.executable,
            str(ROOT / "benchmarks/hand_written.py"),
            "--configuration",
            str(folder / "configuration.json"),
        ],
        steps=len(LOSSES) * len(K) * len(LEARNING_RATES) * replicates * STEPS,
        folder=folder,
    )


def ganstudy(folder: Path, *, replicates: int) -> dict[str, float]:
    """Wall seconds and replicate-steps of `ganstudy run` on the same study."""
    study = {
        "study": "end-to-end",
        "target": RING,
        "networks": {"name": "mlp", "latent_dim": 16, "width": 64, "depth": 2},
        "scientific": {"loss": LOSSES, "k": K},
        "nuisance": {"learning_rate": LEARNING_RATES},
        "fixed": {"batch_size": 128, "optimizer": "adam", "beta1": 0.5, "beta2": 0.999},
        "replicates": replicates,
        "seed": 1,
        "budget": {
            "unit": "generator_steps",
            "value": STEPS,
            "evaluations": EVALUATIONS,
            "evaluation_samples": EVALUATION_SAMPLES,
        },
    }
    (folder / "study.yaml").write_text(json.dumps(study))
    return timed(
        [sys.executable, "-m", "study", "run", str(folder / "study.yaml"), "--home", str(folder / "runs")],
        steps=len(LOSSES) * len(K) * len(LEARNING_RATES) * replicates * STEPS,
        folder=folder,
    )


def timed(command: list[str], *, steps: int, folder: Path) -> dict[str, float]:
    """Run a command to its end; its output goes to a log, shown when it fails."""
    log = folder / "log"
    started = time.perf_counter()
    with log.open("w") as output:
        code = subprocess.run(
            command, env=environment(), cwd=folder, stdout=output, stderr=output, check=False
        ).returncode
    wall_s = time.perf_counter() - started
    if code:
        raise SystemExit(f"{command} ended with {code}:\n{log.read_text()[-3000:]}")
    return {"wall_s": wall_s, "replicate_steps": steps, "replicate_steps_per_s": steps / wall_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=16, help="seeds per configuration (8 configurations)")
    parser.add_argument("--hand-written-replicates", type=int, help="seeds on the hand-written side; same by default")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    cpus = len(os.sched_getaffinity(0))
    results: dict[str, Any] = {"cpus": cpus, "processor": platform.processor() or platform.machine()}
    for name in ("ganstudy", "hand_written"):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            if name == "ganstudy":
                results[name] = ganstudy(Path(folder), replicates=arguments.replicates)
            else:
                replicates = arguments.hand_written_replicates or arguments.replicates
                results[name] = hand_written(Path(folder), replicates=replicates, cpus=cpus)
        print(f"{name:14s} {results[name]['replicate_steps_per_s']:10,.0f} replicate-steps/s", flush=True)
    ratio = results["ganstudy"]["replicate_steps_per_s"] / results["hand_written"]["replicate_steps_per_s"]
    results["ratio"] = ratio
    print(f"{'ratio':14s} {ratio:10.1f}x")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
