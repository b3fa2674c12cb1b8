"""Brings a report back into MLflow: its files and headline to the study's run, each setting's shares to its own run."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import WorkFailed
from study.mlflow_client import MlflowStore, now_ms
from study.outcomes import OUTCOMES
from study.summary import Point

if TYPE_CHECKING:
    from mlflow.entities import Run

KIND, KEY = "ganstudy.kind", "ganstudy.configuration_key"
NOTE, STATE = "mlflow.note.content", "ganstudy.report"
FOLDER, MANIFEST = "report", "manifest.json"

SHARES = ("success", "success_low", "success_high", "unstable")
LOSS_SHARES = (*SHARES, "unstable_low", "unstable_high")
BEGIN, END = "<!-- ganstudy report -->", "<!-- end of ganstudy report -->"
MAX_HEADLINE = 4000
MAX_NAME = 64

Row = Mapping[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report found: ``losses`` and ``cells`` are the rows of losses.csv and cells.csv, shares in [0, 1]."""

    study: str
    headline: str
    blocked: bool
    interim: bool
    losses: Sequence[Row]
    cells: Sequence[Row]

    @property
    def state(self) -> str:
        """``blocked``, ``interim`` or ``final``: the study run's tag ``ganstudy.report``."""
        return "blocked" if self.blocked else "interim" if self.interim else "final"


def publish(findings: Findings, *, report: Path, tracking_uri: str) -> str:
    """Sends MLflow what it lacks of a report that lies in the folder ``report``; returns the study run's id.

    Nothing is sent twice, nothing of anybody else's is touched: an equal report changes nothing, a newer one replaces
    the files and our part of the descriptions, and a share that changed is a new step of its metric (step = how
    often it changed). Statuses, params and results stay. Raises WorkFailed, in one line, where MLflow cannot be
    written; the same call completes what was begun.
    """
    store = MlflowStore(tracking_uri)
    with store.readable_failures():
        experiment = store.known_experiment(findings.study)
        launches = store.find(experiment, {KIND: "study"})
        if not launches:
            raise WorkFailed(f"MLflow has no study run of {findings.study!r} yet")
        study_run = launches[-1]
        link = f"#/experiments/{experiment}/runs/{study_run.info.run_id}"
        cells = {str(cell["configuration_key"]): cell for cell in findings.cells if cell["configuration_key"]}
        for run in store.find(experiment, {KIND: "configuration"}):
            if (cell := cells.get(run.data.tags.get(KEY, ""))) is not None:
                _describe(store, run, shares=_finite(cell, SHARES), note=_cell_note(cell, link), tags={})
        _send_files(store, study_run, report)
        # last, so that it says that the rest is there
        note, state = _study_note(findings, link), {STATE: findings.state}
        _describe(store, study_run, shares=dict(_loss_shares(findings.losses)), note=note, tags=state)
    return str(study_run.info.run_id)


def metric_names(labels: Sequence[str]) -> dict[str, str]:
    """Label -> a distinct part of a metric's name: letters, digits and ``._-``; MLflow refuses most others."""
    names: dict[str, str] = {}
    for label in labels:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", label)[:MAX_NAME].strip(".") or "_"
        taken, number = set(names.values()), 2
        name = safe
        while name in taken:
            name, number = f"{safe}-{number}", number + 1
        names[label] = name
    return names


def _loss_shares(losses: Sequence[Row]) -> Iterator[tuple[str, float]]:
    names = metric_names([str(row["loss"]) for row in losses])
    for row in losses:
        for share, value in _finite(row, LOSS_SHARES).items():
            yield f"{share}/{names[str(row['loss'])]}", value


def _finite(row: Row, names: Sequence[str]) -> dict[str, float]:
    """The shares that are numbers; a setting without judged runs has none."""
    if not math.isfinite(row["success"]):
        return {}
    return {f"stability/{name}": float(row[name]) for name in names if math.isfinite(row[name])}


def _describe(store: MlflowStore, run: Run, *, shares: Mapping[str, float], note: str, tags: Mapping[str, str]) -> None:
    """Metrics, description and tags of one run, as far as they differ from what it has."""
    run_id, held = run.info.run_id, run.data.metrics
    changed = {name: value for name, value in shares.items() if held.get(name) != value}
    steps = {name: 1 + max(store.logged_steps(run_id, name)) if name in held else 0 for name in changed}
    for step in sorted(set(steps.values())):
        metrics = {name: value for name, value in changed.items() if steps[name] == step}
        store.log_points(run_id, [Point(generator_step=step, measured_at_ms=now_ms(), metrics=metrics)])
    wanted = {**tags, NOTE: merged_note(run.data.tags.get(NOTE, ""), note)}
    new = {name: text for name, text in wanted.items() if run.data.tags.get(name) != text}
    if new:
        store.set_tags(run_id, new)


def merged_note(present: str, ours: str) -> str:
    """A description with our part put in place of our earlier one; what people wrote around it stays."""
    block = f"{BEGIN}\n{ours}\n{END}"
    before, begun, rest = present.partition(BEGIN)
    if begun and END in rest:
        return f"{before}{block}{rest.partition(END)[2]}"
    return f"{present}\n\n{block}" if present.strip() else block


def _study_note(findings: Findings, link: str) -> str:
    told = _markdown(findings.headline[:MAX_HEADLINE])
    state = "" if findings.state == "final" else f" ({findings.state})"
    return f"{told}\n\nThe whole report{state}: [report/report.html]({link}/artifacts/{FOLDER}/report.html)"


def _cell_note(cell: Row, link: str) -> str:
    counts = [f"{name.replace('_', ' ')} {int(cell[name])}" for name in OUTCOMES if cell.get(name)]
    told = f"**{', '.join(counts) or 'nothing yet'}** of {int(cell['planned'])} planned replicates"
    if cell["used"]:
        low, high = 100 * cell["success_low"], 100 * cell["success_high"]
        told += f"; {100 * cell['success']:.0f} % end well (95 % interval {low:.0f} to {high:.0f} %)"
    return f"{told}.\n\nHow its loss does against the others: [the study's run]({link})"


def _markdown(text: str) -> str:
    """Text that stays text in MLflow's Markdown: no element, link, heading or emphasis can come of a name."""
    escaped = re.sub(r"([\\`*\[\]#|~!])", r"\\\1", html.escape(text, quote=False))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # within words an underscore is one anyway


def _send_files(store: MlflowStore, run: Run, report: Path) -> None:
    """The report's folder as ``report/``; the manifest goes last, so that it says that all it names is there."""
    run_id, manifest = run.info.run_id, (report / MANIFEST).read_text(encoding="utf-8")
    held = store.read_text(run_id, f"{FOLDER}/{MANIFEST}")
    if held == manifest:
        return
    new, old = _listed(manifest), _listed(held)
    for name in sorted(new):
        if new[name] != old.get(name):
            store.upload(run_id, report / name, to="/".join([FOLDER, *name.split("/")[:-1]]))
    for name in sorted(old.keys() - new.keys()):
        store.remove(run, f"{FOLDER}/{name}")
    store.upload(run_id, report / MANIFEST, to=FOLDER)


def _listed(manifest: str | None) -> dict[str, Any]:
    """File -> hash and size, of a manifest of ours; empty for none, or for one that somebody else put there."""
    try:
        files = json.loads(manifest or "{}").get("files", {})
    except (ValueError, AttributeError):
        return {}
    plain = isinstance(files, dict) and all(".." not in name.split("/") and name[:1] != "/" for name in files)
    return files if plain else {}
