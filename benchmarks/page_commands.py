"""The parts of docs/performance.md on whole commands: end to end, a run's wall time, a large study's bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import bookkeeping, end_to_end, whole_command
from benchmarks.circumstances import sentence

Found = Mapping[str, Any]


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _walls(side: Mapping[str, Any]) -> str:
    """Wall seconds; of several runs the median, and the range."""
    walls, one = side.get("walls_s", ()), f"{side['seconds']['wall_s']:,.0f}"
    return f"{one} ({min(walls):,.0f} to {max(walls):,.0f})" if len(walls) > 1 else one


def end_to_end_parts(found: Found) -> list[str]:
    """Four sides, their ratios against the goals, and where ganstudy's time went."""
    sides = found["sides"]
    rows = [
        [
            text,
            f"{sides[name]['replicates']:,}",
            _walls(sides[name]),
            f"{sides[name]['replicate_steps_per_s']:,.0f}",
            sides[name]["circumstances"]["load_average"],
        ]
        for name, text in end_to_end.SIDES.items()
        if name in sides
    ]
    goals = [f"{text} (goal {end_to_end.GOALS[name]:g}x)" for name, text in end_to_end.BY_HAND.items()]
    ratios = [
        [end_to_end.SIDES[ours], *(f"{others[name]:.1f}x" if name in others else "" for name in end_to_end.BY_HAND)]
        for ours, others in found["ratios"].items()
    ]
    facts = next(iter(sides.values()))["circumstances"]
    parts = [
        "## End to end",
        f"The same study by `ganstudy run` and by scripts of one's own, as whole processes: {found['configurations']} "
        f"configurations on the ring, {found['steps']:,} steps, width 64, batch 128, the same judge, MLflow on sqlite. "
        f"Plain: one trial a seed, MLflow's callback. Hand-tuned: actors that stay, fused Adam, MLflow in one batch at "
        f"the end. Of ours the median of three runs. "
        f"{facts['processor']}, {facts['cores']} cores, torch {facts['torch']}.",
        table(["side", "replicates", "wall s", "replicate-steps/s", "load average before it"], rows),
        table(["times as fast as", *goals], ratios),
    ]
    ours = {name: sides[name]["seconds"] for name in end_to_end.OURS if name in sides}
    if ours:
        parts += ["Where ganstudy's wall time went, in s:", _split_table(ours)]
    return parts


def _split_table(seconds: Mapping[str, Mapping[str, float]]) -> str:
    rows = [[text, *(f"{one[part]:.1f}" for one in seconds.values())] for part, text in whole_command.PARTS.items()]
    rows.append(["share that is not training", *(f"{one['not_training']:.0%}" for one in seconds.values())])
    rows.append(["cores busy while training", *(f"{one['busy']:.0%}" for one in seconds.values())])
    return table(["part", *seconds], rows)


def quickstart_parts(found: Found, facts: Found) -> list[str]:
    """The wall time of a study's run and report, and of the help."""
    run, changed = found["run"], "".join(f" --set {change}" for change in found["set"])
    took, with_report = found["help"], found["not_training_with_report"]
    return [
        f"## The wall time of {found['study']}",
        f"`ganstudy run{changed}` and `ganstudy report`, from start to end of the processes. {sentence(facts)}",
        table(["part", "s", "share"], [list(row) for row in whole_command.rows(found)]),
        f"Not training: {run['not_training']:.0%} of the run (goal: under 20%), {with_report:.0%} with the report. "
        f"While training the cores are busy {run['busy']:.0%} of the time.",
        f"`ganstudy --help`: {took['median_s']:.2f} s, best {took['best_s']:.2f} s of {took['rounds']} "
        "(goal: under 0.5 s).",
    ]


def bookkeeping_parts(found: Found, facts: Found) -> list[str]:
    """What the driver of a large study does beside training."""
    goals, seconds = found["goals"], found["seconds"]
    rows = [
        [text, f"{seconds[part]:.2f}", f"{found['peaks_mb'].get(part, float('nan')):,.0f}".replace("nan", "")]
        for part, text in bookkeeping.PARTS.items()
    ]
    rows.append(["all", f"{found['total_s']:.1f}", f"{found['peak_rss_mb']:,.0f}"])
    return [
        f"## Planning and bookkeeping of {found['replicates']:,} replicates",
        f"The driver's own code with played trials: {found['configurations']} configurations, {found['cohorts']} "
        f"cohorts, {found['evaluations']} evaluations, MLflow on sqlite. Goals: under {goals['total_s']:.0f} s and "
        f"{goals['peak_rss_mb']:,.0f} MB. {sentence(facts)}",
        table(["part", "s", "peak of the process so far, MB"], rows),
    ]
