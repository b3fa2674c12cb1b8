"""A small study of the Dirac-GAN through the whole pipeline: Ray, MLflow, outcomes, and the report's verdict on us."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from study.yaml_file import dump_yaml
from tests.conftest import Ganstudy

STUDY = {
    "study": "oracle",
    "target": {"name": "dirac"},
    "scientific": {
        "loss": [
            "wasserstein",
            {"name": "wasserstein", "penalty": "r1", "penalty_weight": [0.1, 0.5, 2, 8]},
            {"name": "non_saturating", "penalty": "r1_r2", "penalty_weight": [0.1, 0.5, 2, 8]},
        ],
        "k": [1, 3],
    },
    "nuisance": {"learning_rate": [0.05, 0.2, 0.7, 1.9]},
    "fixed": {"optimizer": "sgd", "batch_size": 4},
    "replicates": 2,
    "seed": 5,
    "budget": {"unit": "generator_steps", "value": 400, "evaluations": 40, "evaluation_samples": 32},
    "resources": {"cohort_size": 64},
}


@pytest.mark.slow
def test_a_study_through_ray_and_mlflow_converges_where_the_closed_form_says(
    ganstudy: Ganstudy, tmp_path: Path
) -> None:
    (tmp_path / "oracle.yaml").write_text(dump_yaml(STUDY), encoding="utf-8")
    ran = ganstudy("run", "oracle.yaml", "--home", "home", timeout_s=400)
    assert ran.returncode == 0, ran.stderr
    reference = json.loads((tmp_path / "home" / "oracle" / "reference.json").read_text(encoding="utf-8"))
    assert [entry["rule"] for entry in reference["targets"].values()] == ["radius"]
    told = ganstudy("report", "oracle", "--home", "home", "--out", "report")
    assert told.returncode in (0, 3), told.stderr
    cells = pd.read_csv(tmp_path / "report" / "figures" / "dirac_boundary.csv")
    assert len(cells) == 9 * 2 * 4
    assert set(cells["status"]) == {"agrees", "too slow"}
    assert (cells["status"] == "agrees").sum() > 50
    compared = cells[cells["status"] == "agrees"]
    assert 0.2 < (compared["predicted"] == "converges").mean() < 0.8
    runs = pd.read_csv(tmp_path / "report" / "runs.csv")
    assert runs["final_mode_coverage"].isna().all()
    assert runs.loc[runs["outcome"] == "converged", "final_generator_parameter"].abs().max() < 1e-3
    summary = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert "all end as it says" in summary["headline"]
