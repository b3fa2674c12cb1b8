"""The one reader of MLflow: a study by name, as frames."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd

from analysis.assemble import Judging, build_runs, clean_curves, merge_plans
from analysis.environments import ENVIRONMENT_TAG, environment_counts
from analysis.frames import SAMPLE_COLUMNS, StudyFrames
from analysis.load_samples import LastSamples
from analysis.wording import did_you_mean
from study.outcomes import Criteria

HOME_VARIABLE = "GANSTUDY_HOME"
STUDY_FILES = ("plan.json", "spec.yaml", "reference.json")
ENDED = ("FINISHED", "FAILED")
PAGE = 1000
FETCHES = 4
"""Files asked of a server at once: each is small, and most of its time is waiting."""


@dataclass(frozen=True)
class Recorded:
    """One MLflow run as the analysis needs it."""

    run_id: str
    artifact_uri: str
    status: str
    start_time: int
    tags: Mapping[str, str]


class Store:
    """Reads one MLflow server or database: local artifacts straight from disk, others downloaded."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        _require_existing(tracking_uri)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar per file would drown the report
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=tracking_uri)

    def experiment_id(self, study: str) -> str:
        """The experiment that holds ``study``; LookupError names the nearest study."""
        found = self._client.get_experiment_by_name(study)
        if found is None or found.lifecycle_stage != "active":
            names = [e.name for e in self._client.search_experiments() if e.name != "Default"]
            raise LookupError(f"no study named {study!r} in {_shown(self._uri)}{_nearest(study, names)}")
        return str(found.experiment_id)

    def runs(self, experiment_id: str, kind: str) -> list[Recorded]:
        """Every run of one kind (study, configuration), oldest first; a tie is broken by id."""
        found: list[Recorded] = []
        token: str | None = None
        while True:
            query = f"tags.`ganstudy.kind` = '{kind}'"
            page = self._client.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
            found.extend(_recorded(run) for run in page)
            token = page.token
            if not token:
                return sorted(found, key=lambda run: (run.start_time, run.run_id))

    def artifact(self, run: Recorded, name: str, folder: Path) -> Path | None:
        """A file of a run: its own path where it lies on this machine, else a copy in ``folder``; None if absent."""
        local = _local_path(run.artifact_uri)
        if local is not None and local.is_dir():
            return local / name if (local / name).is_file() else None
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # by its address: the client would ask the server for the whole run before each of the two calls
        artifacts = get_artifact_repository(run.artifact_uri, tracking_uri=self._uri)
        if not any(entry.path == name for entry in artifacts.list_artifacts()):
            return None
        target = folder / run.run_id
        target.mkdir(parents=True, exist_ok=True)
        return Path(artifacts.download_artifacts(name, str(target)))


def store_uri(name: str, *, home: str | Path | None = None, tracking_uri: str | None = None) -> str:
    """The MLflow store that a study is read from, as ``load_study`` says."""
    folder = _home(home)
    return tracking_uri or _launched_with(folder / name) or f"sqlite:///{folder.absolute()}/mlflow.db"


def load_study(
    name: str,
    *,
    home: str | Path | None = None,
    tracking_uri: str | None = None,
    criteria: Criteria | Mapping[str, object] | None = None,
) -> StudyFrames:
    """The study as recorded so far: every planned replicate, judged by the study's criteria or by ``criteria``.

    ``home`` defaults to $GANSTUDY_HOME, else ./runs; ``tracking_uri`` to the one the study was launched with, else
    the home's own database. A replicate without rows has the outcome failed (kind missing). LookupError: no such
    study, or nothing of its plan has reached MLflow.
    """
    folder = _home(home)
    if tracking_uri is None:
        _require_sent(folder / name)
    store = Store(store_uri(name, home=home, tracking_uri=tracking_uri))
    experiment = store.experiment_id(name)
    launches, configurations = store.runs(experiment, "study"), store.runs(experiment, "configuration")
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
        files = _study_files(store, launches, folder / name, Path(scratch))
        plan, spec = merge_plans(files["plan.json"]), files["spec.yaml"][-1]
        parts = _replicates(store, configurations, Path(scratch))
    references = _references(files["reference.json"])
    curves, oddities = clean_curves(parts, plan)
    used = _criteria(criteria, spec)
    lost = frozenset(run.tags["ganstudy.configuration_key"] for run in configurations if run.status == "FAILED")
    judging = Judging(criteria=used, references=references, may_prune=_prunes(spec), lost=lost)
    runs = build_runs(plan, curves, judging)
    missing = bool(((runs["outcome"] == "failed") & (runs["kind"] == "missing")).any()) or _searches_on(plan)
    interim = (missing and not (launches and launches[-1].status in ENDED)) or _is_unconfirmed(spec, plan)
    return StudyFrames(
        study=name,
        runs=runs,
        curves=curves,
        spec=spec,
        reference={"targets": references},
        plan=plan,
        provenance=_provenance(name, plan, used, launches, configurations) | oddities | {"interim": interim},
        sample_source=partial(_read_samples, store, configurations),
        last_sample_source=LastSamples(store, configurations),
    )


def load_replicate(
    name: str,
    configuration_key: str,
    replicate: int,
    *,
    home: str | Path | None = None,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """One replicate's rows exactly as recorded, in time's order; none while its configuration has not ended.

    ``home`` and ``tracking_uri`` as in ``load_study``; reads one configuration only. LookupError: no such study.
    """
    store = Store(store_uri(name, home=home, tracking_uri=tracking_uri))
    runs = store.runs(store.experiment_id(name), "configuration")
    own = [run for run in runs if run.tags["ganstudy.configuration_key"] == configuration_key]
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
        parts = _replicates(store, own, Path(scratch))
    found = [rows[rows["replicate"] == replicate] for rows in parts]
    found = [rows.drop(columns="environment") for rows in found if len(rows)]
    return found[-1].sort_values("evaluation", ignore_index=True) if found else pd.DataFrame()


def _study_files(
    store: Store, launches: Sequence[Recorded], root: Path, scratch: Path
) -> dict[str, list[Mapping[str, Any]]]:
    """Each of STUDY_FILES once per launch, oldest first; from the study's folder while MLflow has none of them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name in STUDY_FILES:
        paths = [path for run in launches if (path := store.artifact(run, name, scratch)) is not None]
        paths = paths or [root / name] * (root / name).is_file()
        if not paths:
            raise LookupError(f"study {root.name!r} has no {name} in MLflow nor in its folder: run `ganstudy sync`")
        found[name] = [_read_mapping(path) for path in paths]
    return found


def _read_mapping(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
    else:
        from ruamel.yaml import YAML

        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a mapping, got {type(content).__name__}")
    return content


def _replicates(store: Store, configurations: Sequence[Recorded], scratch: Path) -> list[pd.DataFrame]:
    """The rows of every configuration run that has some, with its configuration_key and its environment's number."""
    parts = []
    environments: dict[str, int] = {}
    with ThreadPoolExecutor(FETCHES) as pool:
        paths = pool.map(lambda run: store.artifact(run, "replicates.parquet", scratch), configurations)
        fetched = list(zip(configurations, paths, strict=True))
    for run, path in fetched:
        if path is not None:
            number = environments.setdefault(run.tags.get(ENVIRONMENT_TAG, ""), len(environments))
            key = run.tags["ganstudy.configuration_key"]
            parts.append(pd.read_parquet(path).assign(configuration_key=key, environment=np.int32(number)))
    return parts


def _read_samples(store: Store, configurations: Sequence[Recorded], keys: Collection[str] | None) -> pd.DataFrame:
    """The kept samples of the named configurations, a later launch's rows last."""
    parts = []
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
        for run in configurations:
            key = run.tags["ganstudy.configuration_key"]
            wanted = keys is None or key in keys
            path = store.artifact(run, "samples.parquet", Path(scratch)) if wanted else None
            if path is not None:
                parts.append(pd.read_parquet(path).assign(configuration_key=key)[list(SAMPLE_COLUMNS)])
    if not parts:
        return pd.DataFrame(columns=list(SAMPLE_COLUMNS))
    order = ["configuration_key", "replicate", "generator_step", "sample"]
    return pd.concat(parts).drop_duplicates(order, keep="last").sort_values(order, ignore_index=True)


def _references(files: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Reference numbers per target; the first launch's stand, they are never estimated again."""
    merged: dict[str, Mapping[str, Any]] = {}
    for content in files:
        merged = {**content["targets"], **merged}
    return merged


def _criteria(given: Criteria | Mapping[str, object] | None, spec: Mapping[str, Any]) -> Criteria:
    if isinstance(given, Criteria):
        return given
    return Criteria.from_mapping(given if given is not None else spec.get("criteria") or {})


def _searches_on(plan: Mapping[str, Any]) -> bool:
    """Whether an adaptive search has not chosen all its configurations yet."""
    return int(plan.get("declared") or 0) > len(plan["configurations"])


def _is_unconfirmed(spec: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the study has yet to choose and confirm, as its protocol says."""
    return bool(spec.get("protocol")) and not any(cohort.get("phase") for cohort in plan.get("cohorts", ()))


def _prunes(spec: Mapping[str, Any]) -> bool:
    scheduler = spec.get("scheduler") or {}
    return bool(scheduler.get("name", "none") != "none")


def _provenance(
    name: str,
    plan: Mapping[str, Any],
    criteria: Criteria,
    launches: Sequence[Recorded],
    configurations: Sequence[Recorded],
) -> dict[str, object]:
    ids = sorted(run.run_id for run in [*launches, *configurations])
    return {
        "experiment": name,
        "runs_hash": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16],
        "launches": len(launches),
        "configuration_runs": len(configurations),
        "spec_hash": plan.get("spec_hash"),
        "planned_criteria_hash": plan.get("criteria_hash"),
        "criteria": asdict(criteria),
        "criteria_hash": criteria.hash,
        "environments": environment_counts([run.tags for run in configurations], plan) or "not recorded",
        "versions": versions("mlflow", "numpy", "pandas", "scipy"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of the named packages and of Python."""
    return {package: version(package) for package in packages} | {"python": platform.python_version()}


def _recorded(run: Any) -> Recorded:
    info = run.info
    return Recorded(info.run_id, info.artifact_uri, info.status, int(info.start_time or 0), dict(run.data.tags))


def _home(home: str | Path | None) -> Path:
    return Path(home if home is not None else os.environ.get(HOME_VARIABLE) or "runs")


def _require_sent(root: Path) -> None:
    """An attempt that ran offline told MLflow nothing: a report would call its replicates missing."""
    path = root / "launch.json"
    if path.is_file() and _read_mapping(path).get("offline"):
        name = root.name
        raise LookupError(f"study {name!r} ran offline and MLflow lacks its results: `ganstudy sync {name}` sends them")


def _launched_with(root: Path) -> str | None:
    path = root / "launch.json"
    uri = _read_mapping(path).get("tracking_uri") if path.is_file() else None
    return str(uri) if uri else None


def _local_path(uri: str) -> Path | None:
    parsed = urlparse(uri)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path))


def _require_existing(uri: str) -> None:
    """Opening a missing sqlite file would create an empty one: a wrong home must not look like an empty store."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not Path(uri.removeprefix(prefix).partition("?")[0]).is_file():
        raise LookupError(f"no study here: {_shown(uri)} does not exist")


def _shown(uri: str) -> str:
    """The address without a password."""
    parsed = urlparse(uri)
    return uri.replace(f"{parsed.username}:{parsed.password}@", "***@") if parsed.password else uri


def _nearest(name: str, names: Collection[str]) -> str:
    return did_you_mean(name, names) or f" (it holds: {', '.join(sorted(names)) or 'none'})"
