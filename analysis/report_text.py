"""What the report says in words: protocol, captions, exclusions, methods. Plain text in, plain text out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.arms import UNUSED
from analysis.compare import ALPHA, DELTA
from analysis.figures_style import OUTCOMES
from analysis.frames import StudyFrames
from analysis.wording import counted, mapping, number_text, shown
from study.outcomes import Criteria
from trainers.catalogue import LOSSES, PENALTIES, penalty_entry

Terms = list[tuple[str, str]]

TARGETS: Mapping[str, str] = {
    "grid": "this grid (settings fixed, uncertainty over seeds)",
    "space": "a new setting from the same search space",
    "sweeps": "this grid, under seeds that its settings share",
}
INTERVALS: Mapping[str, str] = {
    "grid": "Wilson at the effective number of runs",
    "space": "Student's t over the drawn settings",
    "sweeps": "Student's t over whole sweeps of shared seeds",
}
DIFFERENCES: Mapping[str, str] = {
    "grid": "Newcombe's hybrid score method (MOVER)",
    "space": "paired t over settings, or MOVER where none are paired",
    "sweeps": "paired t over sweeps of shared seeds",
}

CRITERIA_MEANING: Mapping[str, str] = {
    "u_converged": "largest distance u of a good evaluation (0 is real data, 1 a point at their mean)",
    "coverage_converged": "smallest mode coverage m of a good evaluation",
    "quality_converged": "smallest high-quality share q, over its ceiling on real data",
    "knn_coverage_converged": "nearest-neighbour coverage over its ceiling (more than two dimensions)",
    "good_fraction": "share of good evaluations in the judged window of a converged run",
    "coverage_collapsed": "largest mode coverage of a collapsed evaluation",
    "collapsed_fraction": "share of collapsed evaluations in the judged window of a collapsed run",
    "window_fraction": "judged window at the end, as a share of the run",
    "window_min_evaluations": "fewest evaluations in the judged window",
    "late_fraction": "late part in which crossings, swings and trends are looked for",
    "hysteresis": "how far past a threshold an evaluation stops being good",
    "max_crossings": "most entries into and exits from good that still count as settled",
    "amplitude": "swing of detrended u from which a run oscillates",
    "trend_p": "level of the falling trend of an under-trained run",
    "trend_gain": "smallest improvement over the late part of an under-trained run",
    "blowup": "distance, in multiples of the farthest real point's, from which a run blew up",
    "dead_u": "distance u that a generator which never learned does not go below",
}


_METHODS: Mapping[str, str] = {
    "denominator": "Runs that diverge, collapse, oscillate or stall stay in the denominator.",
    "unstable": (
        "diverged, collapsed, oscillating, or a plateau of the kind partial collapse, with the same weights. A loss is "
        "called more stable only where it succeeds more and is unstable less, each beyond its interval."
    ),
    "unused": "Runs without a judged outcome widen the verdict's interval to their worst case.",
    "exact": "stratified permutation of the weighted difference, exact where the weights are regular.",
    "flips": "sign flips over paired units, or permuted shares of settings.",
    "equivalent": (
        "Equivalent is shown by two one-sided tests, never by a large p. Seeds needed: to find a difference of delta "
        "with power 80 %."
    ),
    "decades": (
        "integral of P(converged) over log10 learning rate at the k where it is largest; a lower bound (≥) where "
        "success reaches the edge of the range."
    ),
}


def question(frames: StudyFrames) -> str:
    """The study's question, or what it amounts to where the study file states none."""
    return str(frames.spec.get("question") or "Which loss keeps training stable?")


def protocol(frames: StudyFrames) -> Terms:
    """Target, networks, optimizer, batch, budget and replicates: what was held the same."""
    spec = frames.spec
    fixed, budget = mapping(spec.get("fixed")), mapping(spec.get("budget"))
    optimizer = shown(fixed.get("optimizer", ""))
    numbers = [f"{n} {number_text(fixed[n])}" for n in ("beta1", "beta2", "momentum") if n in fixed]
    counts = frames.runs.groupby("configuration_key")["replicate"].size() if len(frames.runs) else pd.Series([0])
    spread = str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    known = {"optimizer", "batch_size", "beta1", "beta2", "momentum"}
    others = [f"{shown(n)} {number_text(v)}" for n, v in fixed.items() if n not in known]
    value = budget.get("value")
    terms = [
        ("Target", described(mapping(spec.get("target")))),
        ("Networks", described(mapping(spec.get("networks")))),
        ("Optimizer", ", ".join(filter(None, [optimizer, *numbers]))),
        ("Batch", number_text(fixed["batch_size"]) if "batch_size" in fixed else ""),
        (
            "Budget",
            f"{value:,} {shown(budget.get('unit', '')).replace('_', ' ')}" if isinstance(value, int | float) else "",
        ),
        ("Evaluations", number_text(budget["evaluations"]) if "evaluations" in budget else ""),
        ("Replicates", f"{spread} per setting"),
        ("Also fixed", ", ".join(others)),
    ]
    return [(term, text) for term, text in terms if text]


def described(section: Mapping[str, Any]) -> str:
    """A section with a name, in a line: ring (modes 8, radius 2, std 0.1)."""
    if "name" not in section:
        return ""
    rest = ", ".join(f"{shown(key)} {_value(value)}" for key, value in section.items() if key != "name")
    return f"{shown(section['name'])} ({rest})" if rest else shown(section["name"])


def _value(value: Any) -> str:
    """A parameter's value; parts of a structured one in a row: radius 0.001, (1, 1)."""
    if isinstance(value, Mapping):
        return " ".join(f"{shown(key)} {number_text(item)}" for key, item in value.items())
    return f"({', '.join(map(number_text, value))})" if isinstance(value, list) else number_text(value)


def weights_words(frames: StudyFrames, target: str) -> str:
    """How the settings are averaged."""
    if target == "space":
        return "drawn settings count equally"
    rates = frames.runs.get("learning_rate", pd.Series(dtype=float)).dropna().nunique()
    others = [n for n in frames.varying_factors() if n != "learning_rate"]
    parts = ["trapezoid in log10 learning rate"] if rates > 1 else []
    if others:
        parts.append(f"uniform over {', '.join(shown(n).replace('_', ' ') for n in others)}")
    return "weights: " + ", ".join(parts) if parts else "settings count equally"


def kinds_text(runs: pd.DataFrame) -> str:
    """The kinds behind the outcomes with their counts: diverged: 3 nonfinite; plateau: 2 quality."""
    parts = []
    for outcome in OUTCOMES:
        kinds = runs.loc[(runs["outcome"] == outcome) & (runs["kind"].fillna("") != ""), "kind"].value_counts()
        if len(kinds):
            named = ", ".join(
                f"{kinds[kind]} {shown(kind).replace('_', ' ')}"
                for kind in sorted(kinds.index, key=lambda k: (-kinds[k], k))
            )
            parts.append(f"{OUTCOMES[outcome].word}: {named}")
    return "; ".join(parts)


def flow(runs: pd.DataFrame) -> list[dict[str, object]]:
    """Planned -> with data -> judged, each with its count and what was lost on the way."""
    missing = (runs["outcome"] == "failed") & (runs["kind"] == "missing")
    unused = runs["outcome"].isin(list(UNUSED))
    broken = int(((runs["outcome"] == "failed") & ~missing).sum())
    censored = int((runs["outcome"] == "censored").sum())
    lost = [f"{broken} failed with incomplete data"] * (broken > 0) + [f"{censored} stopped early"] * (censored > 0)
    return [
        {"name": "planned", "count": len(runs), "lost": [f"{int(missing.sum())} without data"] * bool(missing.any())},
        {"name": "with data", "count": int((~missing).sum()), "lost": lost},
        {"name": "judged", "count": int((~unused).sum()), "lost": []},
    ]


def criteria_rows(criteria: Criteria) -> list[dict[str, object]]:
    """Every criterion: value, default, whether they differ, meaning."""
    used, default = dataclasses.asdict(criteria), dataclasses.asdict(Criteria())
    return [
        {
            "name": name,
            "value": number_text(value),
            "default": number_text(default[name]),
            "changed": value != default[name],
            "meaning": CRITERIA_MEANING.get(name, ""),
        }
        for name, value in used.items()
    ]


def loss_rows(runs: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, str]]:
    """What each label stands for: losses of both players, penalty, reference, from the catalogue."""
    rows = []
    for label in labels:
        own = runs[runs["loss"] == label].iloc[0]
        name = str(own["penalty"])
        entry = LOSSES.get(str(own["adversarial_loss"]))
        penalty = penalty_entry(name) if ":" in name else PENALTIES.get(name)
        plain = penalty is None or name == "none"
        references = [e.reference for e in (entry, None if plain else penalty) if e is not None and e.reference]
        rows.append(
            {
                "loss": str(label),
                "discriminator": entry.formula if entry else shown(own["adversarial_loss"]),
                "generator": entry.generator_formula if entry else "",
                "penalty": "none" if plain or penalty is None else f"{name}: {penalty.formula or penalty.summary}",
                "reference": "; ".join(dict.fromkeys(references)),
            }
        )
    return rows


def methods(frames: StudyFrames, losses: pd.DataFrame, contrasts: pd.DataFrame) -> Terms:
    """Estimands, intervals, tests and what they are about."""
    target = str(losses["target"].iloc[0]) if len(losses) else "grid"
    pairs = max(1, len(contrasts))
    level = f"simultaneous over {counted(pairs, 'pair')} (Bonferroni, level {ALPHA / pairs:.3g})"
    margin = f"delta = {100 * DELTA:.0f} points and alpha = {ALPHA:g}"
    success = f"averaged over the declared settings ({weights_words(frames, target)})"
    return [
        ("Unit of evidence", "one replicate: a setting trained under one seed. Evaluations and samples are never n."),
        ("Success", f"the probability that a run ends as converged, {success}. {_METHODS['denominator']}"),
        ("Unstable share", _METHODS["unstable"]),
        ("Inference target", TARGETS[target] + "."),
        ("Intervals", f"95 %, {INTERVALS[target]}; a single cell of the map: Wilson."),
        ("Differences", f"{DIFFERENCES[target]}; 95 % for one pair, and {level}. {_METHODS['unused']}"),
        ("Tests", (_METHODS["exact"] if target == "grid" else _METHODS["flips"]) + " Holm over the pairs."),
        ("Verdicts", f"read from the simultaneous interval with {margin}. {_METHODS['equivalent']}"),
        ("Learning-rate decades", _METHODS["decades"]),
        ("Not used", "first hitting times, averages over survivors, and means of quality that leave failures out."),
    ]


def phase_words(table: pd.DataFrame) -> str:
    """Replicates per cell, and a remark where cells gather several settings."""
    if table.empty:
        return "no runs"
    low, high = int(table["judged"].min()), int(table["judged"].max())
    counted = (
        f"n = {low} judged replicates per cell" if low == high else f"n = {low} to {high} judged replicates per cell"
    )
    most = int(table["settings"].max())
    return counted + (f" (cells gather up to {most} settings that differ in other factors)" if most > 1 else "")
