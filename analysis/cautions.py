"""Warnings about a study that its own tables can show, each with what it affects and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd
from scipy import stats

from analysis.estimators import holm
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.weights import inference_target

Tables = Mapping[str, pd.DataFrame]
Caution = dict[str, object]

MIN_EVALUATIONS = 20
MANY_FAILED = 0.05
MANY_UNDER_TRAINED = 0.10


def warnings_list(frames: StudyFrames, tables: Tables) -> list[Caution]:
    """Every warning that applies, by id: ``id, severity, title, affected, effect, blocks``.

    ``tables`` holds ``cells``, ``losses`` and ``contrasts``; severity is "blocking", "warning" or "note".
    """
    found = [check(frames, tables) for check in CHECKS] if len(frames.runs) else []
    return sorted((c for c in found if c is not None), key=lambda c: str(c["id"]))


def _caution(
    name: str, title: str, affected: Iterable[object], effect: str, *, severity: str = "warning", blocks: bool = False
) -> Caution:
    return {
        "id": name,
        "severity": "blocking" if blocks else severity,
        "title": title,
        "affected": [str(a) for a in affected],
        "effect": effect,
        "blocks": blocks,
    }


def _few_replicates(frames: StudyFrames, tables: Tables) -> Caution | None:
    contrasts = tables["contrasts"]
    open_pairs = contrasts[contrasts["seeds_needed"].notna()]
    if not len(open_pairs):
        return None
    most = int(open_pairs["seeds_needed"].max())
    return _caution(
        "W01",
        "Too few replicates to tell some losses apart",
        _pair_names(open_pairs),
        f"up to {most} more per setting would show a difference of the margin with power 80 %",
    )


def _edge_of_range(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    reaching = losses[losses["lr_decades_lower_bound"].astype(bool)]
    return _if_any(
        "W02",
        "Success reaches the edge of the learning rates",
        reaching["loss"],
        "the working range may go on outside the study: lr_decades is a lower bound",
    )


def _pruned(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    return _if_any(
        "W03",
        "Runs were stopped before the horizon",
        losses.loc[losses["censored"] > 0, "loss"],
        "their outcome is unknown and which ones were stopped depends on how they did: no verdict",
        blocks=True,
    )


def _infrastructure(frames: StudyFrames, tables: Tables) -> Caution | None:
    if _is_interim(frames):
        return None
    losses = tables["losses"]
    many = losses["runs_failed"] > MANY_FAILED * losses["runs_planned"]
    planned, failed = int(losses["runs_planned"].sum()), int(losses["runs_failed"].sum())
    p_values = [
        float(stats.fisher_exact([[f, n - f], [failed - f, planned - n - failed + f]]).pvalue)
        for f, n in zip(losses["runs_failed"], losses["runs_planned"], strict=True)
    ]
    associated = pd.Series(holm(p_values), index=losses.index) <= 0.05
    return _if_any(
        "W04",
        "Runs failed for reasons outside training (over 5 %, or more with one loss than with the others)",
        losses.loc[many | (associated & (losses["runs_failed"] > 0)), "loss"],
        "they are left out of the shares; verdicts hold whatever they would have shown",
    )


def _adaptive(frames: StudyFrames, tables: Tables) -> Caution | None:
    method = _nested(frames.spec, "search", "method")
    if method != "optuna":
        return None
    return _caution(
        "W05",
        "An adaptive sampler chose the settings",
        frames.labels(),
        "good settings are over-represented, differently for each loss: shares of success mean nothing",
        blocks=True,
    )


def _unbalanced(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    odd = cells.groupby("loss", sort=False)["planned"].agg(["min", "max"])
    empty = set(cells.loc[cells["used"] == 0, "loss"])
    uneven = cells["planned"].nunique() > 1
    affected = [
        label for label in frames.labels() if label in empty or (uneven and (odd.loc[label, "min"] != odd["max"].max()))
    ]
    return _if_any(
        "W06",
        "Cells are missing or have unequal numbers of replicates",
        affected,
        "missing cells keep their weight: the interval lets them be anything between never and always",
    )


def _shared_seeds(frames: StudyFrames, tables: Tables) -> Caution | None:
    if "seed" not in frames.runs:
        return None
    known = frames.runs[frames.runs["seed"].notna()]
    repeated = known[known.duplicated("seed", keep=False)]
    if not len(repeated):
        return None
    target = inference_target(frames)
    switched = (
        "intervals are t over whole sweeps of seeds instead" if target == "sweeps" else "runs are not independent"
    )
    return _caution(
        "W07",
        "Seeds are shared between runs",
        [label for label in frames.labels() if label in set(repeated["loss"])],
        f"{repeated['seed'].nunique()} seeds train more than one run; {switched}",
        blocks=target != "sweeps",
    )


def _interim(frames: StudyFrames, tables: Tables) -> Caution | None:
    if not _is_interim(frames):
        return None
    missing = (frames.runs["outcome"] == "failed") & (frames.runs["kind"] == "missing")
    return _caution(
        "W08",
        "Interim: the study has not ended",
        [label for label in frames.labels() if label in set(frames.runs.loc[missing, "loss"])],
        f"{int(missing.sum())} of {len(frames.runs)} runs are still to come; looking early finds differences too often",
        blocks=True,
    )


def _evaluation_noise(frames: StudyFrames, tables: Tables) -> Caution | None:
    threshold = _nested(frames.spec, "criteria", "u_converged")
    limit = (float(threshold) if isinstance(threshold, int | float) else 0.10) / 3
    targets = frames.reference.get("targets")
    references = targets if isinstance(targets, Mapping) else {}
    noisy = [name for name, r in references.items() if float(r.get("sigma_u", 0.0)) > limit]
    return _if_any(
        "W10",
        "Evaluation noise is large against the threshold of convergence",
        noisy,
        f"one standard deviation of u exceeds {limit:.3g}: labels near the threshold are chance",
    )


def _sparse_evaluations(frames: StudyFrames, tables: Tables) -> Caution | None:
    evaluations = _nested(frames.spec, "budget", "evaluations")
    if not isinstance(evaluations, int) and len(frames.curves):
        evaluations = int(frames.curves["evaluation"].max())
    if not isinstance(evaluations, int) or evaluations >= MIN_EVALUATIONS:
        return None
    return _caution(
        "W11",
        f"Only {evaluations} evaluations: at least {MIN_EVALUATIONS} are needed",
        frames.labels(),
        "oscillation and late collapse cannot be told from convergence",
        blocks=True,
    )


def _horizon_limited(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    return _if_any(
        "W12",
        "Many runs were still improving at the end",
        losses.loc[losses["under_trained"] > MANY_UNDER_TRAINED, "loss"],
        "their success depends on the budget: a longer one may change the order",
    )


def _crossing(frames: StudyFrames, tables: Tables) -> Caution | None:
    contrasts = tables["contrasts"]
    return _if_any(
        "W16",
        "Losses cross: each is better somewhere",
        _pair_names(contrasts[contrasts["crossing"].astype(bool)]),
        "no single winner: see the phase diagrams",
    )


def _degenerate(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    single = cells[cells["used"] == 1]
    return _if_any(
        "W17",
        "Cells with a single replicate",
        dict.fromkeys(single["loss"]),
        f"{len(single)} cells cannot tell the setting's effect from the seed's",
        severity="note",
    )


def _few_drawn(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    if inference_target(frames) != "space":
        return None
    counts = cells[cells["used"] > 0].groupby("loss", sort=False).size()
    return _if_any(
        "W19",
        "Fewer than 8 drawn settings",
        [label for label in frames.labels() if counts.get(label, 0) < 8],
        "too few to speak for the search space: no interval is given",
    )


def _single_weight(frames: StudyFrames, tables: Tables) -> Caution | None:
    penalised = frames.runs[~frames.runs["penalty"].isin(["none", ""])]
    fixed = []
    for label in frames.labels():
        own = penalised[penalised["loss"] == label]
        names = [n for n in sorted(PENALTY_PARAMETERS) if n in own and own[n].notna().any()]
        if len(own) and all(own[name].nunique() == 1 for name in names):
            fixed.append(" ".join([label, *(f"({name} fixed at {own[name].iloc[0]:g})" for name in names)]))
    return _if_any(
        "W21",
        "A penalised loss was judged at a single weight",
        fixed,
        "published weights differ by a factor of 100 between problems: the verdict is about this weight",
        severity="note",
    )


CHECKS: Sequence[Callable[[StudyFrames, Tables], Caution | None]] = (
    _few_replicates,
    _edge_of_range,
    _pruned,
    _infrastructure,
    _adaptive,
    _unbalanced,
    _shared_seeds,
    _interim,
    _evaluation_noise,
    _sparse_evaluations,
    _horizon_limited,
    _crossing,
    _degenerate,
    _few_drawn,
    _single_weight,
)


def _if_any(
    name: str, title: str, affected: Iterable[object], effect: str, *, severity: str = "warning", blocks: bool = False
) -> Caution | None:
    listed = list(affected)
    return _caution(name, title, listed, effect, severity=severity, blocks=blocks) if listed else None


def _pair_names(contrasts: pd.DataFrame) -> list[str]:
    return [f"{a} / {b}" for a, b in zip(contrasts["loss_a"], contrasts["loss_b"], strict=True)]


def _is_interim(frames: StudyFrames) -> bool:
    return frames.provenance.get("interim") is True


def _nested(mapping: Mapping[str, object], *names: str) -> object:
    value: object = mapping
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if value is not None and value == value else math.nan  # noqa: PLR0124
