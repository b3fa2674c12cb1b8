"""`ganstudy compare` from the outside: two recorded studies, what differs in their specs, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from tracked import REFERENCE, TrackedStudy, make_study, run_all

from study.cli import main
from study.cli_compare import spec_differences
from study.folder import write_json
from study.plan import make_plan
from study.spec import StudySpec


class Said(NamedTuple):
    code: int
    out: str
    err: str


Compare = Callable[..., Said]


def recorded(home: Path, database: Path, name: str, **changes: object) -> TrackedStudy:
    """The test study under another name and with other numbers, recorded in the home's database."""
    made = make_study(home / name / "scratch")
    spec = StudySpec.from_dict({**made.spec.operative, "study": name, **changes})
    plan = make_plan(spec, workers=2)
    root = home / name
    shutil.rmtree(root / "scratch")
    (root / "spec.yaml").write_text(spec.dump())
    write_json(root / "plan.json", plan.to_json())
    targets = {entry.target_id: REFERENCE for entry in plan.configurations}
    write_json(root / "reference.json", {"schema": 1, "targets": targets})
    if not (home / "mlflow.db").exists():
        shutil.copy(database, home / "mlflow.db")
    study = replace(made, root=root, spec=spec, plan=plan)
    run_all(study, study.tracker())
    return study


@pytest.fixture
def compare(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """Calls ``ganstudy compare`` in a home with the studies ``before`` and ``after`` (other seed, wider modes)."""
    home = tmp_path / "home"
    recorded(home, empty_database, "before")
    recorded(home, empty_database, "after", seed=7, target={"name": "ring", "std": 0.2})

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganstudy", "compare", *map(str, arguments), "--home", str(home)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.mark.slow
def test_two_studies_are_compared_in_words_files_and_json(compare: Compare, tmp_path: Path) -> None:
    said = compare("before", "after")
    assert said.code == 0, said.err
    assert "target.std: 0.1 -> 0.2" in said.out
    assert "seed: 0 -> 7" in said.out or "seed: 1 -> 7" in said.out
    assert "study: before -> after" not in said.out
    folder = tmp_path / "home" / "after" / "compare-before"
    assert {path.name for path in folder.iterdir()} == {"compare.html", "compare.csv", "compare.json", "manifest.json"}
    with (folder / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["wgan_gp", "minimax"]
    assert {row["over"] for row in rows} == {"all cells"}
    assert {row["success_a"] for row in rows} == {"1"}
    again = compare("before", "after", "--json", "--out", tmp_path / "elsewhere")
    found = json.loads(again.out)
    assert found["folder"] == str(tmp_path / "elsewhere")
    assert found["study_b"] == "after"
    assert found["differences"] == json.loads((folder / "compare.json").read_text())["differences"]


@pytest.mark.slow
def test_what_cannot_be_compared_is_bad_input(compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    for arguments, told in {
        ("before", "befor"): "did you mean 'before'?",
        ("after", "after"): "two different studies",
        ("before", "after", "--out", tmp_path / "mine"): "thesis.tex",
    }.items():
        said = compare(*arguments)
        assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
        assert told in said.err
    assert compare("before").code == 2


def test_equal_specs_differ_in_nothing_and_foreign_ones_are_told() -> None:
    spec = StudySpec.from_dict(
        {
            "study": "a",
            "target": {"name": "ring"},
            "scientific": {"loss": ["hinge"]},
            "nuisance": {"learning_rate": [1e-3]},
            "fixed": {"k": 1},
            "budget": {"unit": "generator_steps", "value": 40, "evaluations": 20, "evaluation_samples": 200},
        }
    ).operative
    assert spec_differences(spec, {**spec, "study": "b", "question": "Another?"}) == []
    assert spec_differences(spec, {**spec, "replicates": 9}) == ["replicates: 8 -> 9"]
    (line,) = spec_differences(spec, {**spec, "of_tomorrow": 1})
    assert line.startswith("the specs cannot be compared: ")
