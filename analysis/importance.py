"""The doorway to optuna's importances: which factor separates the settings that do best from the others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.compare import by_success, cells_table
from analysis.frames import PENALTY_PARAMETERS, StudyFrames
from analysis.wording import percent

IMPORTANCE_COLUMNS: tuple[str, ...] = ("loss", "factor", "importance", "settings")

FEWEST_SETTINGS = 8
"""With fewer, the best tenth is a single setting or two."""


def importance_table(frames: StudyFrames) -> pd.DataFrame:
    """PED-ANOVA importances of the factors that vary within each label, columns IMPORTANCE_COLUMNS; they sum to 1.

    The objective is the share of a setting's runs that converged (n counts settings), never a score that failures
    leave; learning rates and penalty weights enter as log10, because the method measures in the units it is given.
    How far the factor's distribution among the best tenth of the settings is from that among all: no share of
    variance, no interval. Labels with fewer than FEWEST_SETTINGS settings, or whose settings all did alike, are left
    out. Watanabe et al. 2023, arXiv:2304.10255.
    """
    frames = frames.explored
    cells = cells_table(frames)
    cells = cells[(cells["used"] > 0) & (cells["configuration_key"] != "")]
    rows: list[dict[str, object]] = []
    for label in frames.labels():
        own = cells[cells["loss"] == label]
        names = [n for n in frames.factors() if n in own and own[n].nunique() > 1 and own[n].notna().all()]
        if len(own) < FEWEST_SETTINGS or own["success"].nunique() < 2 or not names:
            continue
        found = _importances(own[names], own["success"].to_numpy(dtype=float).tolist())
        rows += [{"loss": label, "factor": n, "importance": found[n], "settings": len(own)} for n in names]
    return pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))


def _importances(settings: pd.DataFrame, success: Sequence[float]) -> Mapping[str, float]:
    """Importance of every column of ``settings``, a row per entry of ``success``; numbers are linear floats."""
    import optuna

    columns = {str(name): _axis(str(name), settings[name]) for name in settings}
    spread = {
        name: optuna.distributions.FloatDistribution(min(values), max(values))
        if all(isinstance(value, float) for value in values)
        else optuna.distributions.CategoricalDistribution(sorted(set(values), key=str))
        for name, values in columns.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(direction="maximize")
            for i, value in enumerate(success):
                own = {name: values[i] for name, values in columns.items()}
                study.add_trial(optuna.trial.create_trial(params=own, distributions=spread, value=value))
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return {k: float(v) for k, v in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}
        finally:
            optuna.logging.set_verbosity(verbosity)


def _axis(name: str, values: pd.Series) -> list[float | str]:
    """A factor as the method sees it: log10 of rates and weights, other numbers with many values as they are."""
    if not pd.api.types.is_numeric_dtype(values):
        return [str(value) for value in values]
    numbers = values.astype(float)
    if (name.endswith("learning_rate") or name in PENALTY_PARAMETERS) and (numbers > 0).all():
        return [math.log10(number) for number in numbers]
    few = numbers.nunique() <= 5
    return [f"{number:g}" if few else float(number) for number in numbers]


def importance_rows(tables: Mapping[str, pd.DataFrame]) -> tuple[list[str], list[dict[str, object]]]:
    """The factors, and per loss, in the leaderboard's order, the importance of each."""
    table = tables["importance"]
    factors = [str(name) for name in dict.fromkeys(table["factor"])]
    known = {(row["loss"], row["factor"]): float(row["importance"]) for row in table.to_dict("records")}
    counts = dict(zip(table["loss"], table["settings"], strict=True))
    rows: list[dict[str, object]] = []
    for label in by_success(tables["losses"]):
        if label in counts:
            values = [known.get((label, name), math.nan) for name in factors]
            cells = [{"text": percent(v), "order": -1.0 if math.isnan(v) else v} for v in values]
            rows.append({"loss": label, "cells": cells, "settings": int(counts[label])})
    return [name.replace("_", " ") for name in factors], rows
