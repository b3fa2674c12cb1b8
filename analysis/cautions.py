"""Warnings about a study that its own tables can show, each with what it affects and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from scipy import stats

from analysis.cautions_environment import ENVIRONMENT_CHECKS
from analysis.cautions_records import RECORD_CHECKS, Caution, Tables, caution, if_any
from analysis.cautions_tuned import TUNED_CHECKS
from analysis.commands import (
    most_seeds,
    open_ends,
    seeds_command,
    widening,
)
from analysis.cost import some_turns, turns
from analysis.estimators import holm
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.refusals import ADAPTIVE, PRUNED, remedy
from analysis.weights import inference_target
from analysis.wording import listed, percent, shown

MANY_FAILED = 0.05
MANY_UNDER_TRAINED = 0.10
MAX_NAMED = 3


def warnings_list(frames: StudyFrames, tables: Tables) -> list[Caution]:
    """Every warning that applies, by id: ``id, severity, title, affected, effect, blocks``.

    ``tables`` holds ``cells``, ``losses`` and ``contrasts``; severity is "blocking", "warning" or "note".
    """
    found = [check(frames, tables) for check in CHECKS] if len(frames.runs) else []
    return sorted((c for c in found if c is not None), key=lambda c: str(c["id"]))


def _few_replicates(frames: StudyFrames, tables: Tables) -> Caution | None:
    contrasts = tables["contrasts"]
    open_pairs = contrasts[contrasts["seeds_needed"].notna()]
    if not len(open_pairs):
        return None
    most = most_seeds(open_pairs)
    return caution(
        "W01",
        "Too few replicates to tell some losses apart",
        _pair_names(open_pairs),
        f"up to {most} more per setting would find the smallest difference that matters in four studies of five"
        + _by(seeds_command(frames, most)),
    )


def _then(clause: str) -> str:
    return f"; {clause}" if clause else ""


def _by(command: str) -> str:
    """: `ganstudy extend ...` adds them; nothing without a command."""
    return f": `{command}` adds them" if command else ""


def _edge_of_range(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    reaching = losses[losses["lr_decades_lower_bound"].astype(bool)]
    return if_any(
        "W02",
        "Success reaches the edge of the learning rates",
        reaching["loss"],
        "the working range may go on outside the study: its decades are a lower bound"
        + _then(widening(frames, open_ends(tables))),
    )


def _pruned(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    return if_any(
        "W03",
        "Runs were stopped before the horizon",
        losses.loc[losses["censored"] > 0, "loss"],
        f"their outcome is unknown and which ones were stopped depends on how they did: {remedy(frames, PRUNED)}",
        blocks=not len(frames.confirmed),
    )


def _infrastructure(frames: StudyFrames, tables: Tables) -> Caution | None:
    if frames.interim:
        return None
    losses = tables["losses"]
    many = losses["runs_failed"] > MANY_FAILED * losses["runs_planned"]
    planned, failed = int(losses["runs_planned"].sum()), int(losses["runs_failed"].sum())
    p_values = [
        float(stats.fisher_exact([[f, n - f], [failed - f, planned - n - failed + f]]).pvalue)
        for f, n in zip(losses["runs_failed"], losses["runs_planned"], strict=True)
    ]
    associated = pd.Series(holm(p_values), index=losses.index) <= 0.05
    return if_any(
        "W04",
        "Runs failed for reasons outside training (over 5 %, or more with one loss than with the others)",
        losses.loc[many | (associated & (losses["runs_failed"] > 0)), "loss"],
        "they are left out of the shares; verdicts hold whatever they would have shown",
    )


def _adaptive(frames: StudyFrames, tables: Tables) -> Caution | None:
    if not frames.adaptive:
        return None
    return caution(
        "W05",
        "An adaptive sampler chose the settings",
        frames.labels(),
        f"good settings are over-represented, differently for each loss: {remedy(frames, ADAPTIVE)}",
        blocks=not len(frames.confirmed),
    )


def _unbalanced(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    odd = cells.groupby("loss", sort=False)["planned"].agg(["min", "max"])
    empty = set(cells.loc[cells["used"] == 0, "loss"])
    uneven = cells["planned"].nunique() > 1
    affected = [
        label for label in frames.labels() if label in empty or (uneven and (odd.loc[label, "min"] != odd["max"].max()))
    ]
    return if_any(
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
    return caution(
        "W07",
        "Seeds are shared between runs",
        [label for label in frames.labels() if label in set(repeated["loss"])],
        f"{repeated['seed'].nunique()} seeds train more than one run; {switched}",
        blocks=target != "sweeps",
    )


def _horizon_limited(frames: StudyFrames, tables: Tables) -> Caution | None:
    losses = tables["losses"]
    affected = [str(label) for label in losses.loc[losses["under_trained"] > MANY_UNDER_TRAINED, "loss"]]
    told = _at_shorter_budgets(tables.get("horizons", pd.DataFrame()), affected)
    return if_any(
        "W12",
        "Many runs were still improving at the end",
        affected,
        f"their success depends on the budget: a longer one may change the order{told}",
    )


def _at_shorter_budgets(table: pd.DataFrame, labels: Sequence[str]) -> str:
    """; success at 0.5, 0.75 and 1 of it: hinge 10, 33 and 50 %."""
    if not len(table) or not labels:
        return ""
    named = []
    for label in labels[:MAX_NAMED]:
        own = table[table["loss"] == label]
        shares = [percent(float(share)).removesuffix(" %") for share in own["success"]]
        named.append(f"{shown(label)} {listed(shares)} %")
    rest = len(labels) - len(named)
    fractions = listed([f"{float(fraction):g}" for fraction in dict.fromkeys(table["fraction"])])
    others = f"; and {rest} other{'s' * (rest > 1)}" if rest else ""
    return f"; success at {fractions} of it: {'; '.join(named)}{others}"


def _costly_order(frames: StudyFrames, tables: Tables) -> Caution | None:
    """Intervals of the incidence are those of a grid with seeds of its own in every cell."""
    table = tables.get("cost", pd.DataFrame())
    turned = [turn for turn in turns(table) if turn.shown] if inference_target(frames) == "grid" else []
    return if_any(
        "W24",
        "The order of the losses is another at equal cost",
        [f"{turn.ahead} / {turn.behind}" for turn in turned],
        f"counted in gradient evaluations instead of generator steps, {some_turns(turned)}",
    )


def _crossing(frames: StudyFrames, tables: Tables) -> Caution | None:
    contrasts = tables["contrasts"]
    return if_any(
        "W16",
        "Losses cross: each is better somewhere",
        _pair_names(contrasts[contrasts["crossing"].astype(bool)]),
        "no single winner: see the phase diagrams",
    )


def _degenerate(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    single = cells[cells["used"] == 1]
    return if_any(
        "W17",
        "Cells with a single replicate",
        dict.fromkeys(single["loss"]),
        f"{len(single)} cells cannot tell the setting's effect from the seed's",
        severity="note",
    )


def _few_drawn(frames: StudyFrames, tables: Tables) -> Caution | None:
    cells = tables["cells"]
    if inference_target(frames) != "space" or frames.adaptive:
        return None
    counts = cells[cells["used"] > 0].groupby("loss", sort=False).size()
    return if_any(
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
    return if_any(
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
    *RECORD_CHECKS,
    *ENVIRONMENT_CHECKS,
    _horizon_limited,
    _crossing,
    _degenerate,
    _few_drawn,
    _single_weight,
    _costly_order,
    *TUNED_CHECKS,
)


def _pair_names(contrasts: pd.DataFrame) -> list[str]:
    return [f"{a} / {b}" for a, b in zip(contrasts["loss_a"], contrasts["loss_b"], strict=True)]
