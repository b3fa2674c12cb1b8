"""docs/performance.md and its plots: everything in them comes from one machine's file of figures and from the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.circumstances import sentence
from benchmarks.page_commands import bookkeeping_parts, end_to_end_parts, quickstart_parts, table

NOTES = Path(__file__).with_name("performance_notes.md")


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
        if "peak_ceiling" in shape:
            share = f"{shape['peak_ceiling'] / shape['bmm_ceiling']:.0%}"
            bound = f"the core's multiply-adds, {shape['peak_gflops']:.0f} GFLOP/s"
            rows.append(
                [f"{shape['width']}, batch {shape['batch']}", bound, f"{shape['peak_ceiling']:,.0f}", "", share]
            )
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


def draw(found: Mapping[str, Any], *, images: Path) -> None:
    """Plots: replicate-steps/s by contender, and the cost of a replicate by how many train together."""
    import matplotlib

    matplotlib.use("Agg")
    if "throughput" in found:
        _draw_throughput(found["throughput"]["shapes"], images / "performance-throughput.png")
    if "scaling" in found:
        _draw_cohorts(found["scaling"]["cohorts"], images / "performance-cohorts.png")


def _draw_throughput(shapes: Sequence[Mapping[str, Any]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    for panel, shape in zip(panels, shapes, strict=True):
        names = list(shape["replicate_steps_per_s"])
        panel.barh(names, [shape["replicate_steps_per_s"][name]["best"] for name in names], color="#4c72b0")
        panel.axvline(shape["bmm_ceiling"], color="black", linestyle="--", label="torch's batched products alone")
        if "peak_ceiling" in shape:
            panel.axvline(shape["peak_ceiling"], color="#c44e52", linestyle=":", label="the core's multiply-adds alone")
        panel.set(title=f"width {shape['width']}, batch {shape['batch']}", xlabel="replicate-steps per CPU second")
        panel.invert_yaxis()
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def _draw_cohorts(cohorts: Sequence[Mapping[str, float]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(5, 3.2), layout="constrained")
    members = [one["members"] for one in cohorts]
    for kernels, marker in (("torch", "o"), ("native", "s")):
        if kernels in cohorts[0]:
            panel.plot(members, [one[kernels] for one in cohorts], marker=marker, label=kernels)
    panel.set(xscale="log", yscale="log", xlabel="members of the cohort", ylabel="CPU s per replicate and 1,000 steps")
    panel.legend()
    figure.savefig(file, dpi=110, metadata={"Software": None})


def step_parts(found: Mapping[str, Any]) -> list[str]:
    """One training step."""
    figures = found["throughput"]
    share = ", ".join(f"{value:.0%} with {name}" for name, value in figures["evaluation_share"].items())
    jax = "JAX was measured in the same run." if figures["jax"] else "JAX is not installed here: no row."
    return [
        "## A training step",
        "Ring, two hidden layers on each side, non_saturating, k = 1, Adam, drawing included; replicate-steps per "
        f"second. `single` is one replicate in plain modules with torch.optim. {jax} "
        f"{sentence(found['circumstances']['throughput'])}",
        shapes_table(figures),
        "![Replicate-steps per second](images/performance-throughput.png)",
        "By loss, penalty and k (width 64, batch 128, 16 members, medians):",
        variants_table(figures),
        f"An evaluation of 16 members every 100 steps takes {share} of the time.",
    ]


def scaling_parts(found: Mapping[str, Any]) -> list[str]:
    """Planning, cohorts and workers."""
    workers = table(
        ["workers", "cohorts", "estimated s"],
        [[one["workers"], one["cohorts"], f"{one['wall_s']:,.0f}"] for one in found["scaling"]["workers"]],
    )
    return [
        "## Scaling",
        sentence(found["circumstances"]["scaling"]),
        "![Cost of a replicate by cohort size](images/performance-cohorts.png)",
        planning_table(found["scaling"]["planning"]),
        "10,000 replicates of 1,000 steps on more workers, as the plan estimates it:",
        workers,
    ]


def page(found: Mapping[str, Any]) -> str:
    """docs/performance.md; sections that were not measured on this machine are left out."""
    parts = [
        "# Performance",
        "Written by `python -m benchmarks`. A training step, scaling and memory are measured on one thread in CPU "
        "seconds of the process, because machines are shared: best is the least disturbed round, median the usual one. "
        "Whole commands are measured in wall seconds, on all cores. Only figures of one run may be compared.",
    ]
    if "end_to_end" in found:
        parts += end_to_end_parts(found["end_to_end"])
    if "quickstart" in found:
        parts += quickstart_parts(found["quickstart"], found["circumstances"]["quickstart"])
    if "bookkeeping" in found:
        parts += bookkeeping_parts(found["bookkeeping"], found["circumstances"]["bookkeeping"])
    if "throughput" in found:
        parts += step_parts(found)
    if "scaling" in found:
        parts += scaling_parts(found)
    if "memory" in found:
        of = sentence(found["circumstances"]["memory"])
        text = f"Growth of a process that trains one cohort, width 128, batch 256. {of}"
        parts += ["## Memory", text, memory_table(found["memory"])]
    return "\n\n".join([*parts, NOTES.read_text(encoding="utf-8").strip()]) + "\n"
