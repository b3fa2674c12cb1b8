"""The report back in MLflow: what the UI shows of it, sent once, and nothing of the record changed by it."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tracked import REFERENCE, TrackedStudy, artifacts, doubled, dump, query, run_all, statuses

from analysis.load import load_study
from study.cli import main
from study.errors import WorkFailed
from study.folder import write_json
from study.mlflow_client import MlflowStore
from study.publishing import Findings, _markdown, merged_note, metric_names, publish

Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recorded(study: TrackedStudy) -> TrackedStudy:
    """A study that ended: in one configuration a replicate died."""
    targets = {entry.target_id: REFERENCE for entry in study.plan.configurations}
    write_json(study.root / "reference.json", {"schema": 1, "targets": targets})
    study.deaths[study.keys[0], 1] = 6
    run_all(study, study.tracker())
    return study


@pytest.fixture
def report(recorded: TrackedStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """Calls ``ganstudy report`` on it; gives the exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        home = ["--home", str(recorded.root.parent)]
        monkeypatch.setattr(sys, "argv", ["ganstudy", "report", *map(str, arguments or ["ring-test"]), *home])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def findings(**changes: object) -> Findings:
    cell = {"configuration_key": "", "planned": 5, "used": 4, "converged": 3, "diverged": 1, "failed": 1}
    shares = {"success": 0.75, "success_low": 0.3, "success_high": 0.95, "unstable": 0.25}
    loss = {"loss": "ns-r1", **shares, "unstable_low": 0.05, "unstable_high": 0.7}
    base = {"study": "ring-test", "headline": "A beats B.", "blocked": False, "interim": False}
    return Findings(**{**base, "losses": [loss], "cells": [{**cell, **shares}], **changes})  # type: ignore[arg-type]


def small_report(folder: Path, **files: str) -> Path:
    """A report folder with a manifest, as write_manifest makes it."""
    from analysis.files import write_manifest, write_text

    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for name, text in files.items():
        write_text(folder / name.replace("__", "/"), text)
    write_manifest(folder)
    return folder


def study_artifacts(study: TrackedStudy) -> Path:
    (found,) = query(
        study.database,
        "select r.artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid "
        "where t.key = 'ganstudy.kind' and t.value = 'study'",
    )
    return Path(found[0].removeprefix("file://"))


def latest(study: TrackedStudy, kind: str) -> dict[str, dict[str, float]]:
    """Run id -> the metrics that the UI shows, of the runs of one kind."""
    rows = query(
        study.database,
        "select m.run_uuid, m.key, m.value from latest_metrics m join tags t on t.run_uuid = m.run_uuid "
        f"and t.key = 'ganstudy.kind' and t.value = '{kind}' where m.key like 'stability/%'",
    )
    found: dict[str, dict[str, float]] = {}
    for run, key, value in rows:
        found.setdefault(run, {})[key] = value
    return found


def tags(study: TrackedStudy, key: str) -> dict[str, str]:
    return dict(query(study.database, f"select run_uuid, value from tags where key = '{key}'"))


@pytest.mark.slow
def test_a_report_comes_back_into_the_runs_and_a_second_one_changes_nothing(
    recorded: TrackedStudy, report: Report
) -> None:
    code, _, said = report()
    assert code in (0, 3), said
    folder = recorded.root / "report"
    sent = study_artifacts(recorded) / "report"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "losses.csv", "manifest.json", "figures/phase_diagrams.svg"} <= names
    assert {p.relative_to(sent).as_posix(): p.read_bytes() for p in sent.rglob("*") if p.is_file()} == {
        name: (folder / name).read_bytes() for name in names
    }
    losses = pd.read_csv(folder / "losses.csv").set_index("loss")
    (of_study,) = latest(recorded, "study").values()
    for loss in ("wgan_gp", "minimax"):
        assert of_study[f"stability/success/{loss}"] == pytest.approx(losses.loc[loss, "success"])
        assert of_study[f"stability/unstable_high/{loss}"] == pytest.approx(losses.loc[loss, "unstable_high"])
    cells = pd.read_csv(folder / "cells.csv").set_index("configuration_key")
    keys, of_runs = tags(recorded, "ganstudy.configuration_key"), latest(recorded, "configuration")
    assert set(keys) == set(of_runs)
    for run, key in keys.items():
        assert of_runs[run]["stability/success"] == pytest.approx(cells.loc[key, "success"])
        assert of_runs[run]["stability/success_low"] == pytest.approx(cells.loc[key, "success_low"])
    note = tags(recorded, "mlflow.note.content")
    assert (
        json.loads((folder / "report.json").read_text())["headline"].split(" ")[0]
        in note[next(iter(latest(recorded, "study")))]
    )
    (dead,) = [run for run, key in keys.items() if key == recorded.keys[0]]
    assert "**converged 4, diverged 1** of 5 planned replicates; 80 %" in note[dead]
    before, written = dump(recorded.database), {p: p.stat().st_mtime_ns for p in sent.rglob("*")}
    assert report()[0] == code
    assert dump(recorded.database) == before
    assert {p: p.stat().st_mtime_ns for p in sent.rglob("*")} == written, "an equal report is not sent again"
    assert doubled(recorded.database) == []


@pytest.mark.slow
def test_the_record_and_what_is_read_of_it_stay_as_they_were(recorded: TrackedStudy, report: Report) -> None:
    home = recorded.root.parent
    before, kinds = load_study("ring-test", home=home), statuses(recorded.database)
    ends = query(recorded.database, "select run_uuid, status, start_time, end_time from runs order by 1")
    params = query(recorded.database, "select * from params order by 1, 2, 3")
    assert report()[0] in (0, 3)
    after = load_study("ring-test", home=home)
    pd.testing.assert_frame_equal(after.runs, before.runs)
    pd.testing.assert_frame_equal(after.curves, before.curves)
    assert (after.spec, after.plan, after.reference) == (before.spec, before.plan, before.reference)
    assert after.provenance == before.provenance
    assert statuses(recorded.database) == kinds
    assert query(recorded.database, "select run_uuid, status, start_time, end_time from runs order by 1") == ends
    assert query(recorded.database, "select * from params order by 1, 2, 3") == params
    tracker = recorded.tracker()
    tracker.open(launch="L1")
    tracker.sync()
    tracker.close("FINISHED")
    assert latest(recorded, "study"), "a sync leaves the report there"


@pytest.mark.slow
def test_a_store_that_refuses_writes_costs_one_line(recorded: TrackedStudy, report: Report) -> None:
    with sqlite3.connect(recorded.database) as connection:
        for table in ("tags", "metrics", "latest_metrics"):
            for event in ("insert", "update"):
                connection.execute(
                    f"create trigger no_{event}_{table} before {event} on {table} begin "
                    "select raise(abort, 'attempt to write a readonly database'); end"
                )
    before = dump(recorded.database)
    code, out, said = report("ring-test", "--json")
    assert code in (0, 3)
    assert json.loads(out)["mlflow_run"] is None
    assert (recorded.root / "report" / "report.html").is_file()
    assert len(said.splitlines()) == 1
    assert said.startswith("the report is written, but not sent to MLflow: MLflow at sqlite:")
    assert "readonly database" in said
    assert dump(recorded.database) == before


@pytest.mark.slow
def test_other_criteria_and_tables_are_never_sent(recorded: TrackedStudy, report: Report, tmp_path: Path) -> None:
    (tmp_path / "strict.yaml").write_text("u_converged: 1e-3\n")
    before = dump(recorded.database)
    _, out, said = report("ring-test", "--criteria", tmp_path / "strict.yaml", "--out", tmp_path / "strict", "--json")
    assert json.loads(out)["mlflow_run"] is None
    assert "MLflow keeps" in said
    assert report("--runs", tmp_path / "strict" / "runs.csv", "--out", tmp_path / "again")[0] in (0, 3)
    assert dump(recorded.database) == before
    assert not (study_artifacts(recorded) / "report").exists()


def test_a_newer_report_replaces_the_files_and_adds_one_step(recorded: TrackedStudy, tmp_path: Path) -> None:
    old = small_report(tmp_path / "report", **{"report.html": "old", "same.csv": "1", "figures__gone.svg": "<svg/>"})
    run = publish(findings(), report=old, tracking_uri=recorded.uri)
    new = small_report(tmp_path / "report", **{"report.html": "new", "same.csv": "1"})
    changed = findings(headline="B beats A.", losses=[{**findings().losses[0], "success": 0.5}], interim=True)
    assert publish(changed, report=new, tracking_uri=recorded.uri) == run
    sent = study_artifacts(recorded) / "report"
    assert {p.relative_to(sent).as_posix() for p in sent.rglob("*") if p.is_file()} == {
        "report.html", "same.csv", "manifest.json"}  # fmt: skip
    assert (sent / "report.html").read_text() == "new"
    rows = query(recorded.database, "select step, value from metrics where key = 'stability/success/ns-r1' order by 1")
    assert rows == [(0, 0.75), (1, 0.5)]
    assert latest(recorded, "study")[run]["stability/success/ns-r1"] == 0.5
    assert doubled(recorded.database) == []
    note = tags(recorded, "mlflow.note.content")[run]
    assert "B beats A." in note
    assert "A beats B." not in note
    assert tags(recorded, "ganstudy.report")[run] == "interim"


def test_what_people_wrote_in_a_description_stays(recorded: TrackedStudy, tmp_path: Path) -> None:
    folder = small_report(tmp_path / "report", **{"report.html": "x"})
    run = publish(findings(), report=folder, tracking_uri=recorded.uri)
    store = MlflowStore(recorded.uri)
    note = tags(recorded, "mlflow.note.content")[run]
    store.set_tags(run, {"mlflow.note.content": f"Mine, above.\n{note}\nMine, below."})
    publish(findings(headline="C beats all."), report=folder, tracking_uri=recorded.uri)
    found = tags(recorded, "mlflow.note.content")[run]
    assert found.startswith("Mine, above.\n")
    assert found.endswith("\nMine, below.")
    assert found.count("beats") == 1
    assert "C beats all." in found
    assert merged_note("Only mine.", "ours").startswith("Only mine.\n\n")


def test_a_setting_without_judged_runs_gets_words_but_no_share(recorded: TrackedStudy, tmp_path: Path) -> None:
    key, nan = recorded.keys[0], float("nan")
    empty = {**findings().cells[0], "configuration_key": key, "used": 0, "failed": 5, "converged": 0, "diverged": 0}
    empty |= {"success": nan, "success_low": 0.0, "success_high": 1.0, "unstable": nan}
    folder = small_report(tmp_path / "report", **{"report.html": "x"})
    publish(findings(cells=[empty]), report=folder, tracking_uri=recorded.uri)
    assert latest(recorded, "configuration") == {}
    (note,) = [
        text for run, text in tags(recorded, "mlflow.note.content").items() if run not in latest(recorded, "study")
    ]
    assert "**failed 5** of 5 planned replicates." in note
    assert artifacts(recorded, key).is_dir()


def test_an_unreachable_server_and_an_unknown_study_fail_in_one_line(recorded: TrackedStudy, tmp_path: Path) -> None:
    folder = small_report(tmp_path / "report", **{"report.html": "x"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://user:secret@127.0.0.1:{probe.getsockname()[1]}"
    for uri, study in ((closed, "ring-test"), (recorded.uri, "another")):
        with pytest.raises(WorkFailed) as caught:
            publish(findings(study=study), report=folder, tracking_uri=uri)
        assert len(str(caught.value).splitlines()) == 1
        assert "secret" not in str(caught.value)


def test_names_of_metrics_are_safe_and_stay_distinct() -> None:
    labels = ["ns-r1", "a b", "a+b", "a/b", "..", "x" * 300, "x" * 301, "\u202e"]
    names = metric_names(labels)
    assert names["ns-r1"] == "ns-r1"
    assert len(set(names.values())) == len(labels)
    from mlflow.utils.validation import _validate_metric_name

    for name in names.values():
        _validate_metric_name(f"stability/success/{name}")


@pytest.mark.parametrize(
    "text", ["<script>x</script>", "[click](javascript:alert(1))", "**b**", "`x`", "# h", "![i](http://a)", "_i_"]
)
def test_names_stay_text_in_markdown(text: str) -> None:
    escaped = _markdown(text)
    assert "<" not in escaped
    for mark in "[]`*#!":
        assert escaped.count(mark) == escaped.count("\\" + mark)
    assert _markdown("non_saturating and ns_r1: 1e-3") == "non_saturating and ns_r1: 1e-3"
