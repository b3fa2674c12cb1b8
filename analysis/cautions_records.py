"""Warnings about what was recorded: an unfinished study, noisy or sparse evaluations, odd rows, changed criteria."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from analysis.frames import StudyFrames

Tables = Mapping[str, pd.DataFrame]
Caution = dict[str, object]

MIN_EVALUATIONS = 20


def caution(
    name: str, title: str, affected: Iterable[object], effect: str, *, severity: str = "warning", blocks: bool = False
) -> Caution:
    """One warning; a blocking one forbids verdicts."""
    return {
        "id": name,
        "severity": "blocking" if blocks else severity,
        "title": title,
        "affected": [str(a) for a in affected],
        "effect": effect,
        "blocks": blocks,
    }


def if_any(
    name: str, title: str, affected: Iterable[object], effect: str, *, severity: str = "warning", blocks: bool = False
) -> Caution | None:
    """The warning where something is affected, else None."""
    listed = list(affected)
    return caution(name, title, listed, effect, severity=severity, blocks=blocks) if listed else None


def nested(mapping: Mapping[str, object], *names: str) -> object:
    """A value deep in nested mappings; None where it is absent."""
    value: object = mapping
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _interim(frames: StudyFrames, tables: Tables) -> Caution | None:
    if not frames.interim:
        return None
    missing = (frames.runs["outcome"] == "failed") & (frames.runs["kind"] == "missing")
    return caution(
        "W08",
        "The study has not ended",
        [label for label in frames.labels() if label in set(frames.runs.loc[missing, "loss"])],
        f"{int(missing.sum())} of {len(frames.runs)} runs are still to come; looking early finds differences too often",
        blocks=True,
    )


def _evaluation_noise(frames: StudyFrames, tables: Tables) -> Caution | None:
    if frames.criteria is None:
        return None
    limit = frames.criteria.u_converged / 3
    targets = frames.reference.get("targets")
    references = targets if isinstance(targets, Mapping) else {}
    noisy = [name for name, r in references.items() if float(r.get("sigma_u", 0.0)) > limit]
    return if_any(
        "W10",
        "Evaluation noise is large against the threshold of convergence",
        noisy,
        f"one standard deviation of u exceeds {limit:.3g}: labels near the threshold are chance",
    )


def _sparse_evaluations(frames: StudyFrames, tables: Tables) -> Caution | None:
    evaluations = nested(frames.spec, "budget", "evaluations")
    if not isinstance(evaluations, int) and len(frames.curves):
        evaluations = int(frames.curves["evaluation"].max())
    if not isinstance(evaluations, int) or evaluations >= MIN_EVALUATIONS:
        return None
    return caution(
        "W11",
        f"Only {evaluations} evaluations: at least {MIN_EVALUATIONS} are needed",
        frames.labels(),
        "oscillation and late collapse cannot be told from convergence",
        blocks=True,
    )


def _odd_rows(frames: StudyFrames, tables: Tables) -> Caution | None:
    count = frames.provenance.get("duplicate_rows")
    if not isinstance(count, int) or not count:
        return None
    effect = f"{count} rows were recorded again after a retry or a resume: the later ones stand"
    return caution("W14", "Evaluations were recorded more than once", frames.labels(), effect, severity="note")


def _huge_numbers(frames: StudyFrames, tables: Tables) -> Caution | None:
    count = frames.provenance.get("clipped_values")
    if not isinstance(count, int) or not count:
        return None
    effect = f"{count} measurements of 1e300 or more count as non-finite: a store had clipped infinity"
    return caution("W18", "Clipped infinities were found", frames.labels(), effect, severity="note")


def _changed_criteria(frames: StudyFrames, tables: Tables) -> Caution | None:
    planned, used = (frames.provenance.get(name) for name in ("planned_criteria_hash", "criteria_hash"))
    if not planned or not used or planned == used:
        return None
    effect = "criteria chosen after seeing runs can favour a loss: tell this wherever the numbers are quoted"
    return caution("W20", "Outcomes were judged by other criteria than those of the plan", frames.labels(), effect)


def _kinds_unknown(frames: StudyFrames, tables: Tables) -> Caution | None:
    if frames.provenance.get("kinds") != "not recorded":
        return None
    stalled = set(frames.runs.loc[frames.runs["outcome"] == "plateau", "loss"])
    return if_any(
        "W22",
        "The table does not say which plateaus lost modes",
        [label for label in frames.labels() if label in stalled],
        "a partial collapse counts as a plain plateau: unstable shares are lower bounds",
    )


RECORD_CHECKS: Sequence[Callable[[StudyFrames, Tables], Caution | None]] = (
    _interim,
    _evaluation_noise,
    _sparse_evaluations,
    _odd_rows,
    _huge_numbers,
    _changed_criteria,
    _kinds_unknown,
)
