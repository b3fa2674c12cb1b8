"""The command line on bad input: one readable message, the right exit code, nothing created, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from study.cli import main
from study.folder import StudyFolder, write_json
from tests.conftest import TINY, Ganstudy, environment
from trainers.catalogue import LOSSES, PENALTIES, PRESETS


class Said(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """``ganstudy`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GANSTUDY_HOME", "MLFLOW_TRACKING_URI", "GANSTUDY_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganstudy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return call


def spec_text(**changes: Any) -> str:
    return json.dumps({**TINY, **changes})


BAD_SPECS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "mapping"),
    "a list": ("[1, 2]", "mapping"),
    "a tab": ("study:\tx", "tab"),
    "half a bracket": ("study: [", "study.yaml"),
    "duplicate key": ("study: a\nstudy: b\n", "duplicate"),
    "anchor": ("study: &a x\nquestion: *a\n", "anchor"),
    "latin-1": ("study: k\xe9".encode("latin-1"), "UTF-8"),
    "deep": ("[" * 3000, "study.yaml"),
    "two documents": ("study: a\n---\nstudy: b\n", "document"),
    "unknown key": (spec_text(sarch={"method": "grid"}), "'search'"),
    "misspelt loss": (spec_text(scientific={"loss": ["minmax"]}), "'minimax'"),
    "no loss": (spec_text(scientific={"k": [1]}, fixed={"batch_size": 32}), "scientific.loss"),
    "misspelt penalty": (spec_text(scientific={"loss": [{"name": "hinge", "penalty": "r3"}]}), "penalty"),
    "penalty without weight": (spec_text(scientific={"loss": [{"name": "hinge", "penalty": "r1"}]}), "penalty_weight"),
    "same label twice": (spec_text(scientific={"loss": ["hinge", "hinge"]}), "hinge"),
    "rate zero": (spec_text(nuisance={"learning_rate": [0]}), "learning_rate"),
    "rate as text": (spec_text(nuisance={"learning_rate": ["fast"]}), "learning_rate"),
    "rate infinite": (spec_text(nuisance={"learning_rate": [1e-3]}).replace("0.001", ".inf"), "learning_rate"),
    "no rate": (spec_text(nuisance={}), "learning_rate"),
    "k zero": (spec_text(fixed={"k": 0, "batch_size": 32}), "k"),
    "k a bool": (spec_text(fixed={"k": True, "batch_size": 32}), "k"),
    "k twice": (spec_text(nuisance={"learning_rate": [1e-3], "k": [2]}), "k"),
    "momentum under adam": (spec_text(fixed={"k": 1, "momentum": 0.5}), "momentum"),
    "no replicates": (spec_text(replicates=0), "replicates"),
    "half a replicate": (spec_text(replicates=2.5), "replicates"),
    "name with a slash": (spec_text(study="../x"), "study"),
    "name of a device": (spec_text(study="nul"), "device"),
    "unknown target": (spec_text(target={"name": "rings"}), "'ring'"),
    "one mode": (spec_text(target={"name": "ring", "modes": 1}), "modes"),
    "unknown unit": (spec_text(budget={**TINY["budget"], "unit": "epochs"}), "unit"),
    "unknown criterion": (spec_text(criteria={"u_convergd": 0.1}), "u_converged"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_spec_is_exit_2_with_a_message_and_creates_nothing(
    cli: Cli, tmp_path: Path, name: str, command: str
) -> None:
    content, expected = BAD_SPECS[name]
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = cli(command, "study.yaml", "--home", tmp_path / "runs")
    assert said.code == 2, said
    assert expected in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.yaml"]


BAD_ARGUMENTS: dict[str, tuple[list[str], int]] = {
    "no such command": (["rum"], 2),
    "no such option": (["plan", "study.yaml", "--hom", "x"], 2),
    "no spec": (["run"], 2),
    "missing file": (["run", "missing.yaml"], 2),
    "a folder": (["plan", "."], 2),
    "override without value": (["plan", "study.yaml", "--set", "seed"], 2),
    "override of an unknown key": (["plan", "study.yaml", "--set", "fixed.bach_size=64"], 2),
    "resume unknown": (["resume", "nope"], 2),
    "extend unknown": (["extend", "nope", "--replicates", "9"], 2),
    "extend by nothing": (["extend", "nope", "--replicates", "0"], 2),
    "extend by words": (["extend", "nope", "--learning-rates", "fast"], 2),
    "status unknown": (["status", "nope"], 2),
    "stop unknown": (["stop", "nope"], 2),
    "sync unknown": (["sync", "nope"], 2),
    "report unknown": (["report", "nope"], 2),
    "report of nothing": (["report"], 2),
    "report of both": (["report", "x", "--runs", "study.yaml"], 2),
    "report of a missing table": (["report", "--runs", "missing.csv"], 2),
    "replay unknown": (["replay", "nope", "--configuration", "00", "--replicate", "0"], 2),
    "replay of replicate -1": (["replay", "nope", "--configuration", "00", "--replicate", "-1"], 2),
    "submit without address": (["submit", "study.yaml"], 2),
    "ui of an empty home": (["ui", "--home", "empty"], 2),
    "ui on no port": (["ui", "--port", "0"], 2),
    "list of a missing database": (["list", "--tracking-uri", "sqlite:///missing.db"], 2),
    "init into no folder": (["init", "no/such/study.yaml"], 2),
    "init over a file": (["init", "study.yaml"], 2),
    "submit": (["submit", "study.yaml", "--address", "http://127.0.0.1:1"], 1),
    "report of no table": (["report", "--runs", "study.yaml"], 2),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_named_and_create_nothing(cli: Cli, tmp_path: Path, name: str) -> None:
    arguments, code = BAD_ARGUMENTS[name]
    (tmp_path / "study.yaml").write_text(spec_text())
    said = cli(*arguments)
    assert said.code == code, said
    assert said.err.strip()
    assert "Traceback" not in said.err
    assert "internal error" not in said.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.yaml"]
    assert (tmp_path / "study.yaml").read_text() == spec_text()


def test_init_writes_a_study_that_plans(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").code == 0
    planned = cli("plan", "study.yaml", "--json")
    assert planned.code == 0, planned.err
    plan = json.loads(planned.out)
    assert plan["replicates"] == plan["configurations"] * 8
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.yaml"], "plan runs nothing"


def test_plan_counts_what_the_file_asks_for(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        spec_text(scientific={"loss": ["minimax", "hinge", "wgan_gp"], "k": [1, 2]}, fixed={})
    )
    plan = json.loads(cli("plan", "study.yaml", "--json", "--set", "replicates=5").out)
    assert (plan["configurations"], plan["replicates"]) == (3 * 2 * 2, 3 * 2 * 2 * 5)
    assert plan["estimate"]["replicate_steps"] == 3 * 2 * 2 * 5 * 40
    shown = cli("plan", "study.yaml", "--set", "replicates=5")
    assert "set replicates=5" in shown.err, "overrides are echoed"
    assert "60" in shown.out


def test_unknown_study_names_the_nearest(cli: Cli, tmp_path: Path) -> None:
    write_json(StudyFolder(tmp_path / "runs", "ring-quick").plan_file, {"schema": 1})
    said = cli("resume", "ring-quik")
    assert said.code == 2
    assert "did you mean 'ring-quick'" in said.err


def test_losses_lists_every_entry_uncut(cli: Cli) -> None:
    said = cli("losses")
    assert said.code == 0
    for entry in (*LOSSES.values(), *PENALTIES.values()):
        assert entry.name in said.out
        assert entry.formula in said.out
        assert entry.generator_formula in said.out
        assert entry.reference in said.out
    assert all(name in said.out for name in PRESETS)


def test_json_is_one_object_on_stdout(cli: Cli, tmp_path: Path) -> None:
    said = cli("list", "--json")
    assert json.loads(said.out) == {"home": str(tmp_path / "runs"), "studies": [], "elsewhere": []}
    assert not (tmp_path / "runs").exists()


def test_internal_error_is_one_line_and_a_log(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("study.plan.make_plan", broken)
    (tmp_path / "study.yaml").write_text(spec_text())
    said = cli("plan", "study.yaml")
    assert said.code == 1
    assert said.err.startswith("internal error: RuntimeError: a bug")
    assert "Traceback" not in said.err
    assert "Traceback" in (tmp_path / "runs" / "ganstudy-error.log").read_text()
    assert "Traceback" in cli("--debug", "plan", "study.yaml").err


COMMANDS = ["init", "list", "plan", "run", "resume", "extend", "submit", "status", "stop", "sync", "report", "replay"]
COMMANDS += ["losses", "ui"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_contract_has_help(cli: Cli, command: str) -> None:
    said = cli(command, "--help")
    assert said.code == 0
    assert "Usage" in said.out


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("init", "losses")])
def test_commands_on_studies_take_home_and_tracking_uri(cli: Cli, command: str) -> None:
    text = cli(command, "--help").out
    assert "--home" in text
    assert "--tracking-uri" in text
    assert ("--address" in text) == (command in ("run", "resume", "extend", "submit", "status", "stop"))
    assert ("--json" in text) == (command in ("plan", "status", "list", "report"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, study.cli\n"
        "sys.argv = ['ganstudy', '--help']\n"
        "try: study.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'mlflow', 'pandas', 'numpy', 'pyarrow', 'pydantic', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


def test_python_m_study_is_the_same_program(ganstudy: Ganstudy) -> None:
    done = ganstudy("resume", "nope")
    assert done.returncode == 2
    assert "unknown study 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
