"""Studies of known truth as they really lie in MLflow: drawn endings, curves that have them, the study's own writer.

``write_study`` draws every replicate's ending from a stated probability, gives it a curve of that ending, lets the
cohorts write checkpoints and the ``Tracker`` send them, with one of the MISHAPS that real studies have. ``assembled``
reads the same checkpoints without MLflow, much faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.assemble import Judging, build_runs, clean_curves
from analysis.frames import SAMPLE_COLUMNS, StudyFrames
from study.checkpoint import newest_checkpoint, write_checkpoint
from study.environment import Environment
from study.folder import StudyFolder
from study.history import REPLICATES_SCHEMA, History
from study.plan import Plan, make_plan
from study.spec import StudySpec
from study.tracking import Tracker, sqlite_uri
from trainers.program import evaluation_steps

LOSSES, RATES = ("hinge", "minimax"), (1e-3, 1e-2)
EVALUATIONS, HORIZON, HALF = 20, 2000, 10
STEPS = evaluation_steps(horizon=HORIZON, evaluations=EVALUATIONS)
REFERENCE = {"d_real": 0.05, "d_ref": 1.3, "d_far": 2.6, "sigma_u": 0.005, "dimensions": 2, "coverage_ceiling": 1.0}
FLOAT_MAX = float(np.finfo(np.float64).max)
"""What a SQL store makes of infinity."""

MISHAPS = ("none", "resumed", "launched twice", "clipped", "lost", "cut short", "pruned")
"""What may befall a study. Resumed: stopped half-way, and all that was sent is sent again. Launched twice: every row
is recorded again. Clipped: infinity arrives as FLOAT_MAX, no death is marked. Lost, cut short: a cohort fails before
its first row, or half-way. Pruned: a scheduler that may stop runs stops a cohort half-way."""

Chance = Callable[[str, int, float], float]
"""P(converged | loss, k, learning rate)."""

Member = tuple[str, int]
"""configuration_key, replicate."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of a cohort, as the trainer yields it."""

    index: int
    finite: np.ndarray
    death_step: np.ndarray
    values: dict[str, np.ndarray]
    generator_step: int
    discriminator_steps: int
    samples_seen: int
    samples: None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """One study in MLflow: how every replicate was made to end, and those of which (not all) rows were sent."""

    folder: StudyFolder
    spec: StudySpec
    plan: Plan
    endings: Mapping[Member, str]
    broken: frozenset[Member]
    mishap: str

    @property
    def name(self) -> str:
        return self.spec.study


def write_study(
    home: Path,
    name: str,
    *,
    chance: Chance,
    k: int,
    replicates: int,
    seed: int,
    mishap: str = "none",
    trained_with: Callable[[str], Environment] | None = None,
    sent: bool = True,
) -> Written:
    """Draw a study, train it on paper and send it to the sqlite database of ``home``; ``trained_with``: by loss."""
    rng = np.random.default_rng(seed)
    single = mishap in ("lost", "cut short", "pruned")  # small cohorts: half of the replicates of one setting
    spec = spec_of(name, k=k, replicates=replicates, seed=seed, cohort_size=replicates // 2 if single else "auto")
    plan = make_plan(spec, workers=2)
    folder = StudyFolder(home, name)
    _write_files(folder, spec, plan, may_prune=mishap == "pruned")
    planned = [(entry.configuration_key, r) for entry in plan.configurations for r in range(replicates)]
    endings = {member: _ending(plan, member, chance, rng) for member in planned}
    curves = np.random.default_rng([seed, 1])
    study = _Study(
        folder, spec, plan, endings, curves, clipped=mishap == "clipped", trained_with=trained_with, sent=sent
    )
    cohorts = [entry.cohort for entry in plan.cohorts]
    victims = {cohorts[int(rng.integers(len(cohorts)))]} if single else set()
    if mishap == "resumed":
        study.launch("first", cohorts, until=HALF)
    study.launch("first", cohorts, victims=victims, mishap=mishap)
    if mishap == "launched twice":
        study.launch("second", cohorts)
    broken = {member for cohort in victims for member in plan.by_cohort[cohort].members}
    return Written(folder=folder, spec=spec, plan=plan, endings=endings, broken=frozenset(broken), mishap=mishap)


def assembled(written: Written) -> StudyFrames:
    """The study from its checkpoints: the rows that the tracker publishes, through the same cleaning and judging."""
    plan, parts = written.plan.to_json(), []
    for cohort in written.plan.by_cohort:
        found = newest_checkpoint(written.folder.cohort(cohort)).checkpoint
        if found is not None:
            parts.append(found.history().select(REPLICATES_SCHEMA.names).to_pandas())
    curves, oddities = clean_curves(parts * (1 + (written.mishap == "launched twice")), plan)
    references = {entry.target_id: REFERENCE for entry in written.plan.configurations}
    judging = Judging(criteria=written.spec.criteria, references=references, may_prune=written.mishap == "pruned")
    return StudyFrames(
        study=written.name,
        runs=build_runs(plan, curves, judging),
        curves=curves,
        spec=written.spec.operative,
        reference={"targets": references},
        plan=plan,
        provenance={**oddities, "interim": False},
        sample_source=lambda keys: pd.DataFrame(columns=SAMPLE_COLUMNS),
    )


def spec_of(name: str, *, k: int, replicates: int, seed: int, cohort_size: int | str = "auto") -> StudySpec:
    """Two losses x two learning rates on the ring."""
    budget = {"unit": "generator_steps", "value": HORIZON, "evaluations": EVALUATIONS, "evaluation_samples": 500}
    return StudySpec.from_dict(
        {
            "study": name,
            "target": {"name": "ring"},
            "scientific": {"loss": list(LOSSES)},
            "nuisance": {"learning_rate": list(RATES)},
            "fixed": {"k": k},
            "replicates": replicates,
            "seed": seed,
            "budget": budget,
            "resources": {"cohort_size": cohort_size},
        }
    )


def place_of(plan: Plan, key: str) -> tuple[str, int, float]:
    """Loss, k and learning rate of a configuration."""
    entry = plan.configuration(key)
    return entry.loss, int(entry.factors["k"]), float(entry.factors["learning_rate"])


def failure(rate: float, draw: float) -> str:
    """How a run that does not converge ends: slow at the lower rate, violent at the higher; ``draw`` in [0, 1)."""
    slow = rate == RATES[0]
    kinds = ("under_trained", "plateau", "oscillating") if slow else (*["diverged"] * 9, "collapsed")
    return kinds[int(draw * len(kinds))]


def _ending(plan: Plan, member: Member, chance: Chance, rng: np.random.Generator) -> str:
    place = place_of(plan, member[0])
    success, kind = rng.random(2)
    return "converged" if success < chance(*place) else failure(place[2], kind)


def _write_files(folder: StudyFolder, spec: StudySpec, plan: Plan, *, may_prune: bool) -> None:
    """What the driver writes before the first trial; a scheduler that prunes is no choice of a spec, only of a file."""
    folder.root.mkdir(parents=True)
    text = spec.dump()
    if may_prune:
        assert "scheduler:\n  name: none" in text
        text = text.replace("scheduler:\n  name: none", "scheduler:\n  name: asha")
    folder.spec_file.write_text(text, encoding="utf-8")
    folder.plan_file.write_text(json.dumps(plan.to_json()), encoding="utf-8")
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    folder.reference_file.write_text(json.dumps({"schema": 1, "targets": targets}), encoding="utf-8")


@dataclass
class _Study:
    """The driver and the trials of one study; ``clipped``: deaths are not marked, only huge."""

    folder: StudyFolder
    spec: StudySpec
    plan: Plan
    endings: Mapping[Member, str]
    rng: np.random.Generator
    clipped: bool
    trained_with: Callable[[str], Environment] | None
    sent: bool
    attempt: int = 0

    def __post_init__(self) -> None:
        self._deaths = {
            m: int(self.rng.integers(1, HALF)) for m, ending in self.endings.items() if ending == "diverged"
        }
        self._curves = {member: curve_of(ending, self.rng) for member, ending in self.endings.items()}

    def launch(
        self,
        launch: str,
        cohorts: Sequence[str],
        *,
        until: int = EVALUATIONS,
        victims: frozenset[str] | set[str] = frozenset(),
        mishap: str = "none",
    ) -> None:
        """One attempt of a driver: every cohort to the evaluation ``until``; the ``victims`` meet the mishap."""
        self.attempt += 1
        tracker = self._tracker() if self.sent else None
        if tracker:
            tracker.open(launch=launch)
        for cohort in cohorts:
            hit = cohort in victims
            if tracker:
                tracker.start(cohort)
            if not (hit and mishap == "lost"):
                self._train(cohort, until=HALF if hit else until)
            if tracker and until < EVALUATIONS:
                tracker.send(cohort)
            elif tracker:
                tracker.finish(cohort, failed=hit and mishap != "pruned")
        if tracker and until == EVALUATIONS:
            tracker.close("FAILED" if victims else "FINISHED")  # an interrupted driver closes nothing

    def _tracker(self) -> Tracker:
        return Tracker(
            self.folder.root,
            plan=self.plan,
            tracking_uri=sqlite_uri(self.folder.home),
            artifact_location=(self.folder.home / "artifacts").as_uri(),
            replicate_runs=False,
            criteria=self.spec.criteria,
            reference={entry.target_id: REFERENCE for entry in self.plan.configurations},
        )

    def _train(self, cohort: str, *, until: int) -> None:
        """From the cohort's newest checkpoint to the evaluation ``until``, and a checkpoint there."""
        own = self.plan.by_cohort[cohort].members
        rows = [(key, replicate, self.plan.configuration(key).seeds[replicate]) for key, replicate in own]
        program = self.plan.configuration(rows[0][0]).program()
        found = newest_checkpoint(self.folder.cohort(cohort)).checkpoint
        if found is None:
            history, first = History(rows, program.k, program.batch_size), 0
        else:
            first = found.evaluations_done
            tables: tuple[Any, Any] = (found.history(), found.samples())
            history = History.restore(rows, program.k, program.batch_size, *tables)
        for index in range(first, until + 1):
            measured = self._measured(own, index, k=program.k, batch_size=program.batch_size)
            history.append(measured, measured_at_ms=1_700_000_000_000 + 1000 * index)  # type: ignore[arg-type]
        write_checkpoint(
            self.folder.cohort(cohort),
            generator_step=STEPS[until],
            evaluations_done=until + 1,
            complete=until == EVALUATIONS,
            state={"step": STEPS[until]},
            history=history.table(),
            samples=history.samples_table(),
            attempt=self.attempt,
            environments=() if self.trained_with is None else [self.trained_with(place_of(self.plan, own[0][0])[0])],
        )

    def _measured(self, own: Sequence[Member], index: int, *, k: int, batch_size: int) -> Measured:
        """Living members have their curve's numbers; a dying one is infinite."""
        dead = np.array([index >= self._deaths.get(member, EVALUATIONS + 1) for member in own])
        u, coverage = np.array([self._curves[member][:, index] for member in own]).T
        distance = REFERENCE["d_real"] + (REFERENCE["d_ref"] - REFERENCE["d_real"]) * u
        distance[dead] = FLOAT_MAX if self.clipped else np.inf
        step = STEPS[index]
        return Measured(
            index=index,
            finite=~dead | self.clipped,
            death_step=np.where(dead, max(1, step - 7), -1),
            values={"distance": distance, "mode_coverage": coverage},
            generator_step=step,
            discriminator_steps=k * step,
            samples_seen=k * step * batch_size,
        )


def curve_of(ending: str, rng: np.random.Generator) -> np.ndarray:
    """Rescaled distance u and mode coverage [2, EVALUATIONS + 1] of a run that ends so; a death is put on top."""
    t = np.arange(EVALUATIONS + 1) / EVALUATIONS
    shapes = {
        "converged": 0.02 + 1.2 * np.exp(-12 * t),
        "under_trained": 1.2 - 0.6 * t,
        "oscillating": 0.4 + 0.35 * np.sin(25 * t),
        "collapsed": 0.5 + 0.7 * np.exp(-9 * t),
    }
    coverage = np.full(len(t), {"collapsed": 0.25, "plateau": 0.625}.get(ending, 1.0))
    return np.stack([shapes.get(ending, np.full(len(t), 0.4)) + rng.normal(0, 0.004, len(t)), coverage])
