"""A study of the Dirac-GAN held against the closed form: what theory says of every setting, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.arms import UNUSED
from analysis.frames import StudyFrames
from analysis.wording import mapping
from study.outcomes import OUTCOMES
from trainers.dirac import DAMPING, REPELLING, SLOPES, Game, Steps, converges, spectral_radius, steps_needed

AGREES, DISAGREES, TOO_SLOW, NO_THEORY, UNJUDGED = "agrees", "disagrees", "too slow", "no theory", "unjudged"
COLUMNS = (
    "configuration_key",
    "loss",
    "adversarial_loss",
    "penalty",
    "updates",
    "k",
    "generator_learning_rate",
    "discriminator_learning_rate",
    "penalty_weight",
    "horizon",
    "spectral_radius",
    "steps_needed",
    "predicted",
    "judged",
    "converged",
    "share",
    "outcome",
    "status",
)


@dataclass(frozen=True)
class Agreement:
    """How many settings end as the closed form says."""

    agreeing: int
    disagreeing: int
    too_slow: int
    others: int

    @property
    def compared(self) -> int:
        """Settings that theory and measurement both speak of."""
        return self.agreeing + self.disagreeing


def is_dirac(frames: StudyFrames) -> bool:
    """Whether the study is about the Dirac-GAN."""
    return mapping(frames.spec.get("target")).get("name") == "dirac" and len(frames.runs) > 0


def agreement(cells: pd.DataFrame) -> Agreement:
    """Counts of ``oracle_table``'s statuses."""
    count = cells["status"].value_counts()
    agreeing, disagreeing, too_slow = (int(count.get(name, 0)) for name in (AGREES, DISAGREES, TOO_SLOW))
    return Agreement(agreeing, disagreeing, too_slow, others=len(cells) - agreeing - disagreeing - too_slow)


def oracle_table(frames: StudyFrames) -> pd.DataFrame:
    """One row per setting (COLUMNS), in the study's order.

    ``predicted``: whether the linear game converges (empty where theory is silent: another optimizer than plain
    gradient descent, a loss or penalty without closed form). ``status``: too slow = predicted to converge, but in more
    than the horizon's steps; else agrees = all judged replicates converged, or none did, as predicted. ``outcome`` is
    the commonest one.
    """
    horizons = {
        str(entry["configuration_key"]): float(entry["horizon"])
        for entry in frames.plan.get("configurations") or ()  # type: ignore[attr-defined]
    }
    rows = [
        _row(str(key), group, horizons.get(str(key), math.nan))
        for key, group in frames.runs.groupby("configuration_key", sort=False)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(key: str, group: pd.DataFrame, horizon: float) -> dict[str, Any]:
    run = group.iloc[0].to_dict()
    theory = _theory(run)
    judged = group[~group["outcome"].isin(list(UNUSED))]
    converged = int((judged["outcome"] == "converged").sum())
    counts = group["outcome"].value_counts()
    row = {
        "configuration_key": key,
        **{name: run[name] for name in ("loss", "adversarial_loss", "penalty")},
        "updates": str(run.get("updates", "alternating")),
        "k": int(_number(run, "k", 1)),
        "generator_learning_rate": _rate(run, "generator"),
        "discriminator_learning_rate": _rate(run, "discriminator"),
        "penalty_weight": _number(run, "penalty_weight", 0.0),
        "horizon": horizon,
        "spectral_radius": spectral_radius(*theory) if theory and theory[0].penalty in DAMPING else math.nan,
        "steps_needed": steps_needed(*theory) if theory else math.nan,
        "predicted": "" if theory is None else "converges" if converges(*theory) else "does not converge",
        "judged": len(judged),
        "converged": converged,
        "share": converged / len(judged) if len(judged) else math.nan,
        "outcome": max((name for name in OUTCOMES if name in counts), key=lambda name: counts[name]),
    }
    return row | {"status": _status(row)}


def _status(row: Mapping[str, Any]) -> str:
    if not row["predicted"]:
        return NO_THEORY
    if not row["judged"]:
        return UNJUDGED
    if row["predicted"] == "converges" and row["steps_needed"] > row["horizon"]:
        return TOO_SLOW
    return AGREES if row["share"] == float(row["predicted"] == "converges") else DISAGREES


def _theory(run: Mapping[Any, Any]) -> tuple[Game, Steps] | None:
    """The linear game of one setting; None where it has no closed form here."""
    known = run["adversarial_loss"] in SLOPES and run["penalty"] in {*DAMPING, *REPELLING}
    if not known or run.get("optimizer") != "sgd" or _number(run, "momentum", 0.0) != 0:
        return None
    game = Game(
        loss=str(run["adversarial_loss"]),
        penalty=str(run["penalty"]),
        penalty_weight=_number(run, "penalty_weight", 0.0),
    )
    steps = Steps(
        generator_rate=_rate(run, "generator"),
        discriminator_rate=_rate(run, "discriminator"),
        updates=str(run.get("updates", "alternating")),
        k=int(_number(run, "k", 1)),
        consensus_weight=_number(run, "consensus_weight", 0.0),
    )
    return game, steps


def _rate(run: Mapping[Any, Any], player: str) -> float:
    return _number(run, f"{player}_learning_rate", _number(run, "learning_rate", math.nan))


def _number(run: Mapping[Any, Any], name: str, default: float) -> float:
    value = run.get(name)
    return default if value is None or pd.isna(value) else float(value)
