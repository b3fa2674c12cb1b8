"""Every measurement of speed and memory on this machine, and the page that shows them.

    .venv/bin/python -m benchmarks [--rounds 5] [--only scaling memory] [--page-only]

Writes benchmarks/results/<machine>.json and, from it and what else lies there, docs/performance.md with its plots.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import memory, scaling, throughput
from benchmarks.steps import machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE, IMAGES = ROOT / "benchmarks/results", ROOT / "docs/performance.md", ROOT / "docs/images"
NOTES = ROOT / "benchmarks/performance_notes.md"


def results_file() -> Path:
    """Named by the hardware: processor and how many cores this process may use."""
    processor = re.sub(r"[^a-z0-9]+", "-", str(machine()["processor"]).lower()).strip("-")
    return RESULTS / f"speed-{processor}-{len(os.sched_getaffinity(0))}-cores.json"


SECTIONS: Mapping[str, Callable[[int], Any]] = {
    "throughput": lambda rounds: throughput.measure(rounds=rounds),
    "scaling": lambda _: scaling.measure(),
    "memory": lambda _: memory.measure(),
}


def measure(file: Path, *, rounds: int, only: Sequence[str]) -> None:
    """Measure the sections and put each into the file as it comes, beside those that are there."""
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in only or SECTIONS:
        found.setdefault("load_average", {})[name] = round(os.getloadavg()[0], 1)
        found[name] = SECTIONS[name](rounds)
        file.write_text(json.dumps(found, indent=1) + "\n")


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def shapes_table(found: dict[str, Any]) -> str:
    """Each contender's best and median at both shapes, and its share of the products' ceiling."""
    rows = []
    for shape in found["shapes"]:
        for name, rate in shape["replicate_steps_per_s"].items():
            share = f"{rate['best'] / shape['bmm_ceiling']:.0%}"
            of = f"{shape['width']}, batch {shape['batch']}"
            rows.append([of, name, f"{rate['best']:,.0f}", f"{rate['median']:,.0f}", share])
        bound = f"torch's batched product, {shape['bmm_gflops']:.0f} GFLOP/s"
        rows.append([f"{shape['width']}, batch {shape['batch']}", bound, f"{shape['bmm_ceiling']:,.0f}", "", "100%"])
    return table(["width", "what, members", "best", "median", "of torch's products"], rows)


def variants_table(found: dict[str, Any]) -> str:
    """Losses, penalties and k, by kernels."""
    rows = []
    for variant in found["variants"]:
        rates = variant["replicate_steps_per_s"]
        native = rates.get("native")
        faster = f"{native['median'] / rates['torch']['median']:.1f}x" if native else ""
        cells = [variant.get("loss"), variant.get("penalty", "none"), variant.get("k", 1)]
        rows.append([*cells, f"{rates['torch']['median']:,.0f}", f"{native['median']:,.0f}" if native else "", faster])
    return table(["loss", "penalty", "k", "torch", "native", "ratio"], rows)


def memory_table(found: list[dict[str, Any]]) -> str:
    """Peaks against estimates, in MB."""
    keys = ("peak_bytes", "estimate_bytes", "state_bytes")
    rows = [
        [one["members"], one["penalty"], one["kernels"], *(f"{one[key] / 1e6:.0f}" for key in keys)] for one in found
    ]
    return table(["members", "penalty", "kernels", "peak, MB", "estimate, MB", "state in a checkpoint, MB"], rows)


def planning_table(found: list[dict[str, Any]]) -> str:
    """Planning by replicates."""
    rows = [
        [f"{one['replicates']:,}", f"{one['seconds']:.3f}", f"{one['peak_bytes'] / 1e6:.1f}", f"{one['plan_bytes']:,}"]
        for one in found
    ]
    return table(["replicates", "CPU seconds", "peak of Python objects, MB", "bytes of plan.json"], rows)


def draw(found: dict[str, Any]) -> None:
    """Two plots: replicate-steps/s by contender, and the cost of a replicate by how many train together."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for panel, shape in zip(panels, found["throughput"]["shapes"], strict=True):
        names = list(shape["replicate_steps_per_s"])
        panel.barh(names, [shape["replicate_steps_per_s"][name]["best"] for name in names], color="#4c72b0")
        panel.axvline(shape["bmm_ceiling"], color="black", linestyle="--", label="torch's batched products alone")
        panel.set(title=f"width {shape['width']}, batch {shape['batch']}", xlabel="replicate-steps per CPU second")
        panel.invert_yaxis()
    panels[0].legend(loc="lower right", fontsize=8)
    figure.savefig(IMAGES / "performance-throughput.png", dpi=110, metadata={"Software": None})
    figure, panel = plt.subplots(figsize=(5, 3.2), layout="constrained")
    cohorts = found["scaling"]["cohorts"]
    for kernels, marker in (("torch", "o"), ("native", "s")):
        if kernels in cohorts[0]:
            panel.plot(
                [one["members"] for one in cohorts], [one[kernels] for one in cohorts], marker=marker, label=kernels
            )
    panel.set(xscale="log", yscale="log", xlabel="members of the cohort", ylabel="CPU s per replicate and 1,000 steps")
    panel.legend()
    figure.savefig(IMAGES / "performance-cohorts.png", dpi=110, metadata={"Software": None})


def page(found: dict[str, Any]) -> str:
    """docs/performance.md."""
    facts, shares = found["throughput"]["machine"], found["throughput"]["evaluation_share"]
    share = ", ".join(f"{value:.0%} with {name}" for name, value in shares.items())
    jax = "JAX was measured in the same run." if found["throughput"]["jax"] else "JAX is not installed here: no row."
    workers = table(
        ["workers", "cohorts", "estimated s"],
        [[one["workers"], one["cohorts"], f"{one['wall_s']:,.0f}"] for one in found["scaling"]["workers"]],
    )
    loads = ", ".join(f"{load:.0f} at {name}" for name, load in found["load_average"].items())
    parts = [
        "# Performance",
        f"Written by `python -m benchmarks` on {facts['processor']}, one thread, torch {facts['torch']}, beside "
        f"other work (load averages {loads}). Times are CPU seconds of the process, because the machine is "
        "shared: best is the least disturbed round, median the usual one. Only figures of one run may be compared.",
        "## A training step",
        "Ring, two hidden layers on each side, non_saturating, k = 1, Adam, drawing included; replicate-steps per "
        f"second. `single` is one replicate in plain modules with torch.optim. {jax}",
        shapes_table(found["throughput"]),
        "![Replicate-steps per second](images/performance-throughput.png)",
        "By loss, penalty and k (width 64, batch 128, 16 members, medians):",
        variants_table(found["throughput"]),
        f"An evaluation of 16 members every 100 steps takes {share} of the time.",
        "## Scaling",
        "![Cost of a replicate by cohort size](images/performance-cohorts.png)",
        planning_table(found["scaling"]["planning"]),
        "10,000 replicates of 1,000 steps on more workers, as the plan estimates it:",
        workers,
        "## Memory",
        "Growth of a process that trains one cohort, width 128, batch 256:",
        memory_table(found["memory"]),
        NOTES.read_text(encoding="utf-8").strip(),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=[], help="measure these again")
    parser.add_argument("--page-only", action="store_true", help="only write the page anew, from this machine's file")
    arguments = parser.parse_args()
    file = results_file()
    if not arguments.page_only:
        measure(file, rounds=arguments.rounds, only=arguments.only)
    found = json.loads(file.read_text())
    draw(found)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
