"""Synthetic studies with known truth: ``make_frames`` draws every outcome from a stated probability."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import SAMPLE_COLUMNS, StudyFrames
from trainers.catalogue import LOSSES, PRESETS
from trainers.measurement import MEASUREMENTS

TARGET = {"name": "ring", "modes": 8, "radius": 2.0, "std": 0.1}
TARGET_ID = "0123456789ab"
REFERENCE = {
    "d_real": 0.05,
    "d_ref": 1.3,
    "d_far": 2.6,
    "sigma_u": 0.005,
    "quality_ceiling": 0.989,
    "coverage_ceiling": 1.0,
    "knn_coverage_ceiling": 0.95,
    "knn_precision_ceiling": 0.95,
    "dimensions": 2,
    "modes": 8,
    "evaluation_samples": 2500,
    "distance_samples": 1000,
    "seed": 1,
}
HORIZON = 3000

KINDS = {"diverged": "nonfinite", "plateau": "partial_collapse", "failed": "missing"}


def _entry(label: str) -> tuple[str, str]:
    """(adversarial_loss, penalty) behind a label; an unknown label is a non-saturating loss without penalty."""
    preset = PRESETS.get(label)
    if preset is not None:
        return str(preset["name"]), str(preset["penalty"])
    return (label if label in LOSSES else "non_saturating"), "none"


def configuration_key(loss: str, **factors: float) -> str:
    return hashlib.sha256(json.dumps([loss, factors], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Cell:
    """One setting of the factors of one label."""

    loss: str
    k: int
    learning_rate: float
    penalty_weight: float | None

    @property
    def factors(self) -> dict[str, Any]:
        found = {"k": self.k, "learning_rate": self.learning_rate, "batch_size": 128, "optimizer": "adam"}
        return found if self.penalty_weight is None else found | {"penalty_weight": self.penalty_weight}

    @property
    def key(self) -> str:
        return configuration_key(self.loss, **self.factors)

    @property
    def identity(self) -> dict[str, Any]:
        adversarial_loss, penalty = _entry(self.loss)
        return {
            "configuration_key": self.key,
            "loss": self.loss,
            "adversarial_loss": adversarial_loss,
            "penalty": penalty,
        }


@dataclass(frozen=True)
class Fresh:
    """The setting of a label that is confirmed, and how its fresh replicates end."""

    k: int
    learning_rate: float
    endings: Sequence[str]
    penalty_weight: float | None = None


def fresh(converged: int, runs: int, *, k: int = 1, learning_rate: float = 1e-3, failure: str = "collapsed") -> Fresh:
    """``converged`` of ``runs`` fresh replicates end well, the others as ``failure``."""
    return Fresh(k, learning_rate, ["converged"] * converged + [failure] * (runs - converged))


def default_failure(loss: str, k: int, learning_rate: float) -> str:
    """The outcome of a run that does not converge: slow at low learning rates, violent at high ones."""
    del loss, k
    return "under_trained" if learning_rate < 3e-4 else "collapsed" if learning_rate < 3e-3 else "diverged"


def make_frames(
    *,
    losses: Sequence[str] = ("minimax", "wgan_gp"),
    ks: Sequence[int] = (1, 2),
    learning_rates: Sequence[float] = (1e-4, 1e-3, 1e-2),
    replicates: int = 6,
    success: Callable[[str, int, float], float] = lambda loss, k, learning_rate: 0.7,
    failure: Callable[[str, int, float], str] = default_failure,
    outcome: Callable[[str, int, float, int], str] | None = None,
    penalty_weights: Mapping[str, Sequence[float]] | None = None,
    evaluations: int = 24,
    seed: int = 0,
    study: str = "synthetic",
    confirm: Mapping[str, Fresh] | None = None,
) -> StudyFrames:
    """A full-grid study in which a replicate converges with probability ``success(loss, k, learning_rate)``.

    A replicate that does not converge ends as ``failure(loss, k, learning_rate)``; ``outcome``, when given, decides
    every replicate instead (loss, k, learning_rate, replicate) and nothing is left to chance. ``penalty_weights``
    names the weights crossed within a label. ``confirm`` adds a second phase: fresh replicates of one setting of a
    label, drawn from a generator of their own, so that the others are the same with and without them.
    """
    rng = np.random.default_rng(seed)
    runs, curves, configurations = [], [], []
    for cell in _cells(losses, ks, learning_rates, penalty_weights or {}):
        seeds = [int(rng.integers(2**63 - 1)) for _ in range(replicates)]
        configurations.append(_configuration(cell, seeds=seeds, evaluations=evaluations))
        for replicate, own in enumerate(seeds):
            ended = _ending(cell, replicate, rng=rng, success=success, failure=failure, outcome=outcome)
            curve = _curve(cell, replicate=replicate, seed=own, ended=ended, evaluations=evaluations, rng=rng)
            curves.append(curve)
            runs.append(cell.identity | cell.factors | _result(replicate, own, ended, curve))
    fresh = [_confirm(configurations, label, wanted, seed, evaluations) for label, wanted in (confirm or {}).items()]
    phases = [""] * len(runs)
    for rows, own_curves in fresh:
        runs += rows
        curves += own_curves
        phases += ["confirm"] * len(rows)
    frame = _runs_frame(runs)
    if confirm:
        frame.insert(frame.columns.get_loc("outcome"), "phase", phases)
    return StudyFrames(
        study=study,
        runs=frame,
        curves=pd.concat(curves, ignore_index=True) if curves else _curve_columns(),
        spec=({"protocol": {"name": "tune_then_confirm", "confirm_replicates": 30}} if confirm else {})
        | _spec(
            study=study,
            losses=losses,
            ks=ks,
            learning_rates=learning_rates,
            replicates=replicates,
            evaluations=evaluations,
        ),
        reference={"targets": {TARGET_ID: REFERENCE}},
        plan=_plan(
            study, configurations, {str(r["configuration_key"]): len(rows) for rows, _ in fresh for r in rows[:1]}
        ),
        provenance={"experiment": study, "runs_hash": "0" * 16, "criteria_hash": "c" * 16, "interim": False},
        sample_source=lambda keys: _samples(runs, keys),
    )


def _cells(
    losses: Sequence[str],
    ks: Sequence[int],
    learning_rates: Sequence[float],
    penalty_weights: Mapping[str, Sequence[float]],
) -> Iterator[_Cell]:
    """The full grid; a gradient penalty whose label names no weights has its usual one."""
    for loss, k, learning_rate in itertools.product(losses, ks, learning_rates):
        usual = (10.0,) if _entry(loss)[1] == "gradient_penalty" else (None,)
        for weight in penalty_weights.get(loss, usual):
            yield _Cell(loss, k, learning_rate, weight)


def _ending(
    cell: _Cell,
    replicate: int,
    *,
    rng: np.random.Generator,
    success: Callable[[str, int, float], float],
    failure: Callable[[str, int, float], str],
    outcome: Callable[[str, int, float, int], str] | None,
) -> str:
    """How one replicate ends; draws even where ``outcome`` decides, so that the curves are the same either way."""
    place = (cell.loss, cell.k, cell.learning_rate)
    drawn = "converged" if rng.random() < success(*place) else failure(*place)
    return drawn if outcome is None else outcome(*place, replicate)


def _confirm(
    configurations: list[dict[str, Any]], label: str, wanted: Fresh, seed: int, evaluations: int
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Rows and curves of a label's fresh replicates; their numbers and seeds go into its configuration's entry."""
    rng = np.random.default_rng([seed, 99, *label.encode()])
    weight = 10.0 if _entry(label)[1] == "gradient_penalty" and wanted.penalty_weight is None else wanted.penalty_weight
    cell = _Cell(label, wanted.k, wanted.learning_rate, weight)
    entry = next(c for c in configurations if c["configuration_key"] == cell.key)
    rows, curves = [], []
    for ended in wanted.endings:
        replicate, own = int(entry["replicates"]), int(rng.integers(2**63 - 1))
        entry["replicates"], entry["seeds"] = replicate + 1, [*entry["seeds"], own]
        curve = _curve(cell, replicate=replicate, seed=own, ended=ended, evaluations=evaluations, rng=rng)
        curves.append(curve)
        rows.append(cell.identity | cell.factors | _result(replicate, own, ended, curve))
    return rows, curves


def _plan(
    study: str, configurations: Sequence[Mapping[str, Any]], fresh: Mapping[str, int] | None = None
) -> dict[str, object]:
    """Every configuration is a cohort of its own, and so are its fresh replicates (``fresh``: key -> how many)."""
    added = fresh or {}
    members = [
        [[c["configuration_key"], r] for r in range(c["replicates"] - added.get(c["configuration_key"], 0))]
        for c in configurations
    ]
    confirming = [
        {
            "cohort": f"f{i:03d}",
            "launch": 2,
            "phase": "confirm",
            "members": [[c["configuration_key"], c["replicates"] - n + r] for r in range(n)],
        }
        for i, c in enumerate(configurations)
        if (n := added.get(c["configuration_key"], 0))
    ]
    return {
        "schema": 1,
        "study": study,
        "spec_hash": "5" * 16,
        "criteria_hash": "c" * 16,
        "configurations": configurations,
        "cohorts": [*({"cohort": f"c{i:03d}", "members": own} for i, own in enumerate(members)), *confirming],
    }


def _configuration(cell: _Cell, *, seeds: Sequence[int], evaluations: int) -> dict[str, Any]:
    return {
        **cell.identity,
        "factors": cell.factors,
        "target": TARGET,
        "target_id": TARGET_ID,
        "networks": {"name": "mlp", "latent_dim": 16, "width": 64, "depth": 2},
        "budget": {
            "unit": "generator_steps",
            "value": HORIZON,
            "evaluations": evaluations,
            "evaluation_samples": 2500,
        },
        "horizon": HORIZON,
        "replicates": len(seeds),
        "seeds": list(seeds),
    }


def _result(replicate: int, seed: int, ended: str, curve: pd.DataFrame) -> dict[str, object]:
    last = curve.iloc[-1] if len(curve) else None
    finals = {f"final_{name}": (float("nan") if last is None else float(last[name])) for name in MEASUREMENTS}
    event = {"diverged": 1500.0, "converged": 1500.0, "collapsed": 2000.0}.get(ended, float("nan"))
    return {
        "replicate": replicate,
        "seed": seed,
        "outcome": ended,
        "kind": KINDS.get(ended, ""),
        "t_event": event,
        "margin": float("nan") if ended == "failed" else 0.25 + 0.01 * replicate,
        **finals,
    }


def _runs_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"replicate": "int64", "seed": "int64"}) if rows else _empty_runs()


def _empty_runs() -> pd.DataFrame:
    names = ["configuration_key", "loss", "adversarial_loss", "penalty", "k", "learning_rate", "replicate", "seed"]
    return pd.DataFrame(columns=[*names, "outcome", "kind", "t_event", "margin", *(f"final_{m}" for m in MEASUREMENTS)])


def _curve_columns() -> pd.DataFrame:
    counters = ["evaluation", "generator_step", "discriminator_steps", "samples_seen", "finite"]
    return pd.DataFrame(columns=["configuration_key", "replicate", "seed", *counters, *MEASUREMENTS])


def _curve(
    cell: _Cell, *, replicate: int, seed: int, ended: str, evaluations: int, rng: np.random.Generator
) -> pd.DataFrame:
    """All measurements of one replicate, shaped like its outcome; a diverged one dies at half of the horizon."""
    if ended == "failed":
        return _curve_columns().iloc[:0]
    fraction = np.arange(evaluations + 1) / evaluations
    normalised = {
        "converged": np.maximum(0.02, 1.2 * np.exp(-9 * fraction)),
        "under_trained": 1.2 - 0.6 * fraction,
        "oscillating": 0.4 + 0.35 * np.sin(20 * fraction),
        "collapsed": 0.5 + 0.7 * np.exp(-9 * fraction),
    }.get(ended, np.full(evaluations + 1, 0.4))
    coverage = np.full(evaluations + 1, {"collapsed": 0.25, "plateau": 0.625}.get(ended, 1.0))
    noise = rng.normal(0, 0.004, (len(MEASUREMENTS), evaluations + 1))
    columns = {name: 0.5 + 0.2 * fraction + noise[i] for i, name in enumerate(MEASUREMENTS)}
    columns["distance"] = REFERENCE["d_real"] + (REFERENCE["d_ref"] - REFERENCE["d_real"]) * (normalised + noise[0])
    columns["mode_coverage"] = coverage
    columns["modes_covered"] = np.round(8 * coverage)
    columns["high_quality_fraction"] = np.clip(0.95 - 0.9 * np.abs(normalised) + noise[1], 0, 1)
    step = np.round(HORIZON * fraction).astype(np.int64)
    finite = np.ones(evaluations + 1, dtype=bool)
    if ended == "diverged":
        half = evaluations // 2
        finite[half] = False
        columns = {name: np.append(values[:half], np.nan) for name, values in columns.items()}
        step, finite, fraction = step[: half + 1], finite[: half + 1], fraction[: half + 1]
    return pd.DataFrame(
        {
            "configuration_key": cell.key,
            "replicate": np.int64(replicate),
            "seed": np.int64(seed),
            "evaluation": np.arange(len(step)),
            "generator_step": step,
            "discriminator_steps": cell.k * step,
            "samples_seen": 128 * cell.k * step,
            "finite": finite,
            **columns,
        }
    )


def _spec(
    *,
    study: str,
    losses: Sequence[str],
    ks: Sequence[int],
    learning_rates: Sequence[float],
    replicates: int,
    evaluations: int,
) -> dict[str, object]:
    return {
        "study": study,
        "question": "Which loss stays stable as k and the learning rate vary?",
        "target": TARGET,
        "networks": {"name": "mlp", "latent_dim": 16, "width": 64, "depth": 2},
        "scientific": {"loss": list(losses), "k": list(ks)},
        "nuisance": {"learning_rate": list(learning_rates)},
        "fixed": {"batch_size": 128, "optimizer": "adam", "beta1": 0.5, "beta2": 0.999, "updates": "alternating"},
        "replicates": replicates,
        "seed": 1,
        "budget": {
            "unit": "generator_steps",
            "value": HORIZON,
            "evaluations": evaluations,
            "evaluation_samples": 2500,
        },
        "search": {"method": "grid"},
        "scheduler": {"name": "none"},
        "criteria": {"u_converged": 0.10, "coverage_converged": 0.90, "quality_converged": 0.80},
        "tracking": {"replicate_runs": False},
    }


def _samples(runs: Sequence[Mapping[str, object]], keys: Collection[str] | None) -> pd.DataFrame:
    """64 samples per replicate and snapshot: a ring for a converged run, one blob otherwise."""
    rows = []
    for run in runs:
        if (keys is not None and run["configuration_key"] not in keys) or run["outcome"] == "failed":
            continue
        rng = np.random.default_rng([int(str(run["replicate"])), 7])
        for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
            modes = rng.integers(8, size=64) if run["outcome"] == "converged" and fraction > 0 else np.zeros(64)
            centre = 2.0 * np.stack([np.cos(np.pi / 4 * modes), np.sin(np.pi / 4 * modes)], axis=1)
            points = (centre + rng.normal(0, 0.1, (64, 2))).astype(np.float32)
            rows.append(
                pd.DataFrame(
                    {
                        "configuration_key": run["configuration_key"],
                        "replicate": run["replicate"],
                        "generator_step": round(HORIZON * fraction),
                        "sample": np.arange(64),
                        "x": list(points),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(SAMPLE_COLUMNS))
