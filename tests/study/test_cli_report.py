"""`ganstudy report` from the outside: other criteria, and folders that are somebody else's."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tracked import REFERENCE, TrackedStudy, run_all

from study.cli import main
from study.folder import write_json
from study.spec import SpecError, criteria_from_file

Report = Callable[..., tuple[int, str]]


@pytest.fixture
def report(study: TrackedStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """Calls ``ganstudy report`` on a recorded study; gives the exit code and what stderr says."""
    targets = {entry.target_id: REFERENCE for entry in study.plan.configurations}
    write_json(study.root / "reference.json", {"schema": 1, "targets": targets})
    run_all(study, study.tracker())

    def call(*arguments: str | Path) -> tuple[int, str]:
        line = ["ganstudy", "report", "ring-test", "--home", str(study.root.parent), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def test_a_foreign_folder_is_bad_input_and_left_alone(report: Report, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for out in (mine, tmp_path / "file"):
        code, said = report("--out", out)
        assert code == 2
        assert said.startswith("--out: ")
        assert str(out) in said
        assert len(said.splitlines()) == 1
    assert (mine / "chapter.tex").read_text() == "years of work"
    assert [path.name for path in mine.iterdir()] == ["chapter.tex"]


@pytest.mark.slow
def test_other_criteria_judge_again_and_are_noted(report: Report, tmp_path: Path) -> None:
    (tmp_path / "strict.yaml").write_text("u_converged: 1e-3  # closer than any of them comes\nhysteresis: 1e-2\n")
    outcomes = {}
    for name, arguments in {"planned": [], "strict": ["--criteria", tmp_path / "strict.yaml"]}.items():
        code, said = report(*arguments, "--out", tmp_path / name)
        assert code in (0, 3), said
        with (tmp_path / name / "runs.csv").open() as file:
            outcomes[name] = {row["outcome"] for row in csv.DictReader(file)}
    assert outcomes["planned"] == {"converged"}
    assert "converged" not in outcomes["strict"]
    noted = {
        name: json.loads((tmp_path / name / "provenance.json").read_text())["criteria"]
        for name in ("planned", "strict")
    }
    assert noted["planned"]["u_converged"] == 0.1
    assert noted["strict"] == {**noted["planned"], "u_converged": 0.001, "hysteresis": 0.01}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u_convergd: 0.2\n", "bad.yaml:1:1: criteria.u_convergd: unknown key; did you mean 'u_converged'?"),
        ("u_converged: 0.2\nblowup: -1\n", "bad.yaml:2:1: criteria.blowup: must be a number >= 0 (got -1)"),
        ("study: x\ncriteria: {amplitud: 1}\n", "bad.yaml:2:12: criteria.amplitud: unknown key"),
        ("criteria: [1]\n", "bad.yaml:1:1: criteria: must be a mapping"),
        ("- 1\n", "mapping"),
    ],
)
def test_bad_criteria_are_bad_input(report: Report, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    code, message = report("--criteria", tmp_path / "bad.yaml")
    assert code == 2
    assert said in message
    assert report("--criteria", tmp_path / "missing.yaml")[0] == 2


def test_criteria_are_a_bare_mapping_or_a_section_of_a_study(tmp_path: Path) -> None:
    path = tmp_path / "criteria.yaml"

    def read(text: str) -> tuple[float, int]:
        path.write_text(text)
        criteria = criteria_from_file(path)
        return criteria.u_converged, criteria.max_crossings

    assert read("max_crossings: 4\n") == (0.1, 4)
    assert read("criteria:\n  u_converged: 0.3\n") == (0.3, 2)
    assert read("study: ring\ncriteria: {u_converged: 0.3, max_crossings: 4}\nreplicates: 8\n") == (0.3, 4)
    assert read("study: ring\nreplicates: 8\n") == (0.1, 2), "a study file without the section means the defaults"
    with pytest.raises(SpecError) as caught:
        read("max_crossings: 1.5\nblowup: .nan\n")
    assert len(caught.value.problems) == 2


def test_a_table_made_elsewhere_gets_a_report_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{loss},1,{rate},{i},{outcome}" for loss, outcome in (("mine", "converged"), ("theirs", "collapsed"))
            for rate in (1e-3, 1e-2) for i in range(6)]  # fmt: skip
    table = tmp_path / "elsewhere.csv"
    table.write_text("\n".join(["loss,k,learning_rate,replicate,outcome", *rows]) + "\n")
    monkeypatch.setattr(sys, "argv", ["ganstudy", "report", "--runs", str(table)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    folder = tmp_path / "elsewhere-report"
    with (folder / "losses.csv").open() as file:
        success = {row["loss"]: float(row["success"]) for row in csv.DictReader(file)}
    assert success == {"mine": 1.0, "theirs": 0.0}
    assert (folder / "report.html").is_file()
