"""What the analysis works on: one study as tidy frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from study.outcomes import Criteria
from trainers.catalogue import PENALTIES
from trainers.measurement import EVERY_MEASUREMENT

SAMPLE_COLUMNS: tuple[str, ...] = ("configuration_key", "replicate", "generator_step", "sample", "x")

RESULT_COLUMNS: frozenset[str] = frozenset(
    {
        *("replicate", "seed", "phase", "outcome", "kind", "t_event", "margin"),
        *(f"final_{name}" for name in EVERY_MEASUREMENT),
    }
)
"""Columns of ``runs`` that say how a replicate ended (or which one it is)."""

CONFIRM = "confirm"
"""``phase`` of the fresh replicates of a setting that a search selected; "" for every other replicate."""

IDENTITY_COLUMNS: frozenset[str] = frozenset({"study", "configuration_key", "loss", "adversarial_loss", "penalty"})
"""Columns of ``runs`` that name a configuration; every other column that is no result is a factor."""

PENALTY_PARAMETERS: frozenset[str] = frozenset(p.name for entry in PENALTIES.values() for p in entry.parameters)
"""Factors that exist under a label only (conditional values live with their parent): averaged, never matched."""


def _no_samples(configuration_keys: Collection[str] | None) -> pd.DataFrame:
    del configuration_keys
    return pd.DataFrame(columns=list(SAMPLE_COLUMNS))


LastSampleSource = Callable[[Mapping[str, Collection[int]]], Iterator[pd.DataFrame]]
"""From replicates by configuration_key to their newest samples, configuration by configuration."""


@dataclass(frozen=True)
class StudyFrames:
    """One study, ready for analysis.

    ``runs`` has one row per planned replicate, ``curves`` one per replicate and evaluation (contract of
    ``replicates.parquet``, with ``configuration_key``); ``spec`` is the operative study file, ``reference`` and
    ``plan`` are the driver's files, as plain mappings (empty where runs came from a table made elsewhere).
    Where the plan has phases ``runs`` has a column ``phase``; estimates over the space read ``explored`` only.
    """

    study: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    spec: Mapping[str, object]
    reference: Mapping[str, object]
    plan: Mapping[str, object]
    provenance: Mapping[str, object]
    sample_source: Callable[[Collection[str] | None], pd.DataFrame] = field(default=_no_samples, repr=False)
    last_sample_source: LastSampleSource | None = field(default=None, repr=False)

    def samples(
        self, configuration_keys: Collection[str] | None = None, replicates: Collection[int] | None = None
    ) -> pd.DataFrame:
        """Read the kept samples (columns SAMPLE_COLUMNS) of the named configurations and replicates; None means all."""
        keys = None if configuration_keys is None else frozenset(configuration_keys)
        rows = self.sample_source(keys)
        if keys is not None:
            rows = rows[rows["configuration_key"].isin(list(keys))]
        if replicates is not None:
            rows = rows[rows["replicate"].isin(list(replicates))]
        return rows.reset_index(drop=True)

    def last_samples(self, wanted: Mapping[str, Collection[int]]) -> Iterator[pd.DataFrame]:
        """The newest kept samples of these replicates of each configuration_key (columns SAMPLE_COLUMNS), in order."""
        if self.last_sample_source is not None:
            yield from self.last_sample_source(wanted)
            return
        for key, replicates in wanted.items():
            rows = self.samples([key], replicates)
            newest = rows.groupby("replicate")["generator_step"].transform("max")
            yield rows[rows["generator_step"] == newest].reset_index(drop=True)

    @cached_property
    def explored(self) -> StudyFrames:
        """The study without the replicates that confirm a selected setting: a replicate enters a share of the space
        only where chance or the design chose its setting, never because it did well. Without phases: itself."""
        if "phase" not in self.runs:
            return self
        confirming = (self.runs["phase"] == CONFIRM).to_numpy()
        rows = self.runs[~confirming].drop(columns="phase").reset_index(drop=True)
        curves = self.curves
        if confirming.any() and len(curves):
            names = ["configuration_key", "replicate"]
            fresh = pd.MultiIndex.from_frame(self.runs.loc[confirming, names].astype({"configuration_key": str}))
            own = pd.MultiIndex.from_frame(curves[names].astype({"configuration_key": str}))
            curves = curves[~own.isin(fresh)].reset_index(drop=True)
        return replace(self, runs=rows, curves=curves)

    @property
    def confirmed(self) -> pd.DataFrame:
        """The rows of ``runs`` that confirm a selected setting with fresh seeds; none where the plan has no phases."""
        if "phase" not in self.runs:
            return self.runs.iloc[:0]
        return self.runs[self.runs["phase"] == CONFIRM].reset_index(drop=True)

    @property
    def adaptive(self) -> bool:
        """Whether results decided which settings were tried next, so that no share over the space can be estimated.

        Optuna's ``random`` and ``qmc`` samplers look at no result.
        """
        search = self.spec.get("search")
        if not isinstance(search, Mapping) or search.get("method") != "optuna":
            return False
        return search.get("sampler") not in ("random", "qmc")

    @property
    def interim(self) -> bool:
        """Whether runs of the plan are still to come."""
        return self.provenance.get("interim") is True

    @property
    def criteria(self) -> Criteria | None:
        """The criteria that the outcomes were judged by; None where the outcomes came with a table of runs."""
        for source in (self.provenance, self.spec):
            found = source.get("criteria")
            if isinstance(found, Mapping) and found:
                return Criteria.from_mapping(found)
        return None

    def labels(self) -> list[str]:
        """Loss labels in the order of the study file; alphabetical where no plan is known."""
        present = {str(label) for label in self.runs["loss"].unique()}
        planned = dict.fromkeys(str(c["loss"]) for c in self._configurations())
        return [label for label in planned if label in present] + sorted(present - planned.keys())

    def factors(self) -> list[str]:
        """Names of the factor columns of ``runs``: k and learning rates first, the others alphabetically."""
        first = ["k", "learning_rate", "generator_learning_rate", "discriminator_learning_rate"]
        names = [c for c in self.runs.columns if c not in RESULT_COLUMNS and c not in IDENTITY_COLUMNS]
        return [n for n in first if n in names] + sorted(n for n in names if n not in first)

    def varying_factors(self) -> list[str]:
        """Factors that take more than one value within some label."""
        distinct = {n: self.runs.groupby("loss")[n].nunique(dropna=False).max() for n in self.factors()}
        return [name for name, count in distinct.items() if count > 1]

    def _configurations(self) -> Sequence[Mapping[str, object]]:
        found = self.plan.get("configurations", ())
        return found if isinstance(found, Sequence) else ()
