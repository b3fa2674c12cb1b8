"""Studies with every optional measurement on, as a user runs them: columns, values, MLflow, report."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from study.checkpoint import newest_checkpoint
from study.history import history_schema
from study.yaml_file import dump_yaml
from tests.conftest import Ganstudy
from trainers.measurement import MEASUREMENTS, columns

pytestmark = pytest.mark.slow

RING = ["duality_gap", "off_mode", "singular_values", "rotation", "frechet", "game_jacobian"]
DIGITS = [*RING, "memorisation"]
SMALL = {
    "networks": {"name": "mlp", "latent_dim": 4, "width": 4, "depth": 1},
    "scientific": {"loss": ["minimax", "wgan_gp"]},
    "nuisance": {"learning_rate": [1e-3]},
    "replicates": 2,
    "budget": {"unit": "generator_steps", "value": 40, "evaluations": 20, "evaluation_samples": 200},
}


@pytest.mark.parametrize(("target", "groups"), [({"name": "ring", "modes": 5}, RING), ({"name": "digits"}, DIGITS)])
def test_a_study_with_everything_on(
    tiny: dict[str, Any], tmp_path: Path, ganstudy: Ganstudy, target: dict[str, Any], groups: list[str]
) -> None:
    (tmp_path / "study.yaml").write_text(dump_yaml({**tiny, **SMALL, "target": target, "measurements": groups}))
    ran = ganstudy("run", "study.yaml", "--home", "home", timeout_s=400)
    assert ran.returncode == 0, ran.stderr
    reported = ganstudy("report", "tiny-ring", "--home", "home", "--out", "report", timeout_s=400)
    assert reported.returncode in (0, 3), reported.stderr

    optional = [name for name in columns(groups) if name not in MEASUREMENTS]
    runs = pd.read_csv(tmp_path / "report" / "runs.csv")
    finals = [f"final_{name}" for name in columns(groups)]
    assert [name for name in runs if name.startswith("final_")] == finals
    assert runs[[f"final_{name}" for name in optional]].notna().all(axis=None)
    assert (runs["final_discriminator_singular_value"] > 0).all()
    assert runs["final_generator_rotation"].between(0, 180).all()
    assert (runs["final_jacobian_imaginary"] >= 0).all()

    study = tmp_path / "home" / "tiny-ring"
    plan = json.loads((study / "plan.json").read_text())
    assert all(set(entry["measurements"]) == set(groups) for entry in plan["configurations"])
    for cohort in plan["cohorts"]:
        found = newest_checkpoint(study / "cohorts" / cohort["cohort"]).checkpoint
        assert found is not None
        assert found.history().schema.equals(history_schema(groups))
    with sqlite3.connect(tmp_path / "home" / "mlflow.db") as database:
        logged = {key for (key,) in database.execute("select distinct key from metrics")}
    assert {f"{name}/median" for name in optional} <= logged


def test_measuring_changes_no_result(tiny: dict[str, Any], tmp_path: Path, ganstudy: Ganstudy) -> None:
    """The same study with and without measurements: the columns both have are equal, and so are the keys."""
    tables = {}
    for name, groups in (("plain", []), ("measured", RING)):
        (tmp_path / f"{name}.yaml").write_text(dump_yaml({**tiny, **SMALL, "study": name, "measurements": groups}))
        assert ganstudy("run", f"{name}.yaml", "--home", "home", timeout_s=400).returncode == 0
        assert ganstudy("report", name, "--home", "home", "--out", name, timeout_s=400).returncode in (0, 3)
        tables[name] = pd.read_csv(tmp_path / name / "runs.csv")
    shared = list(tables["plain"].columns)
    assert not set(RING) & {column.removeprefix("final_") for column in shared}
    pd.testing.assert_frame_equal(tables["measured"][shared], tables["plain"], check_exact=True)
