"""The precision of matrix products as a factor of a study: its keys, its refusals, and what a run makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from study.configurations import Configuration, configurations
from study.errors import BadInput, WorkFailed
from study.plan import Plan, make_plan
from study.precision_rules import require_precise_replay
from study.problems import SpecError
from study.share import Share, require_precision
from study.spec import StudySpec


def written(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring"},
        "scientific": {"loss": "hinge", "k": 1},
        "nuisance": {"learning_rate": [1e-3, 1e-2]},
        "budget": {"value": 400},
        "replicates": 3,
    }
    return {**base, **changes}


def study(**changes: Any) -> StudySpec:
    return StudySpec.from_dict(written(**changes))


def compared(*precisions: str, **more: Any) -> StudySpec:
    return study(scientific={"loss": "hinge", "k": 1, "precision": list(precisions)}, **more)


def refused(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        study(**changes)
    return caught.value.problems


def test_it_leaves_no_trace_where_it_is_not_asked_for() -> None:
    spec = study()
    (configuration, _) = configurations(spec)
    assert "precision" not in spec.operative["fixed"]
    assert "precision" not in configuration.factors
    assert configuration.program().precision == "float32"
    # as they were before there was this factor
    assert spec.spec_hash == "71ef1956621d96d8"
    assert configuration.configuration_key == "b5e2e174afec0738"


def test_float32_that_is_asked_for_is_the_same_program_under_another_key() -> None:
    absent, asked = (configurations(spec)[0] for spec in (study(), study(fixed={"precision": "float32"})))
    assert absent.program() == asked.program()
    assert absent.configuration_key != asked.configuration_key
    assert asked.params()["precision"] == "float32"


def test_precisions_share_no_cohort_and_the_plan_keeps_them() -> None:
    plan = make_plan(compared("float32", "bfloat16"), workers=1)
    found = [{plan.configuration(key).factors["precision"] for key, _ in one.members} for one in plan.cohorts]
    assert sorted(map(tuple, found)) == [("bfloat16",), ("float32",)]
    again = Plan.from_json(plan.to_json())
    assert {entry.program().precision for entry in again.configurations} == {"float32", "bfloat16"}


@pytest.mark.parametrize("home", ["scientific", "nuisance", "fixed"])
def test_it_stands_wherever_a_factor_may(home: str) -> None:
    sections: dict[str, Any] = {"scientific": {"loss": "hinge"}, "nuisance": {"learning_rate": 0.1}, "fixed": {}}
    sections[home]["precision"] = "bfloat16"
    made: tuple[Configuration, ...] = configurations(study(**sections))
    assert [entry.program().precision for entry in made] == ["bfloat16"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"fixed": {"precision": "bfloat61"}},
            "fixed.precision: unknown precision 'bfloat61'; did you mean 'bfloat16'? (known: float32, tf32, bfloat16)",
        ),
        ({"fixed": {"precision": 16}}, "fixed.precision: must be one of float32, tf32, bfloat16 (got 16)"),
        (
            {"fixed": {"precision": "tf32"}, "resources": {"device": "cpu"}},
            "fixed.precision: tf32 needs a GPU, and resources.device is cpu; write float32 or bfloat16 (got 'tf32')",
        ),
        (
            {"nuisance": {"learning_rate": 0.1, "precision": ["bfloat16"]}, "resources": {"kernels": "native"}},
            "nuisance.precision: must not reach bfloat16 with resources.kernels native, which know float32 alone "
            "(got 'bfloat16')",
        ),
        (
            {"target": {"name": "dirac"}, "fixed": {"precision": "bfloat16"}},
            "fixed.precision: must be float32 for the networks dirac, which multiply no matrices (got 'bfloat16')",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_starts(changes: dict[str, Any], problem: str) -> None:
    assert refused(**changes) == [problem]


def test_what_can_be_is_taken() -> None:
    study(fixed={"precision": "tf32"})
    study(fixed={"precision": "float32"}, resources={"kernels": "native", "device": "cpu"})
    study(target={"name": "dirac"}, fixed={"precision": "float32"})


def test_a_launch_without_gpus_refuses_tf32() -> None:
    none, quarter = Share(cpus=1, gpus=0, concurrent=2), Share(cpus=1, gpus=0.25, concurrent=4)
    with pytest.raises(WorkFailed, match="precision: tf32 needs a GPU for every trial"):
        require_precision(("float32", "tf32"), none, device="auto")
    require_precision(("float32", "tf32"), quarter, device="auto")
    require_precision(("float32", "bfloat16"), none, device="auto")
    require_precision((), none, device="auto")


def test_a_replay_on_the_cpu_refuses_tf32() -> None:
    with pytest.raises(BadInput, match="trained with precision tf32"):
        require_precise_replay("tf32", device="cpu")
    require_precise_replay("bfloat16", device="cpu")
    require_precise_replay("tf32", device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_run_refuses_tf32_here(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(compared("float32", "tf32").dump(), encoding="utf-8")
    command = [sys.executable, "-m", "study", "run", str(file), "--home", str(tmp_path / "home"), "--offline"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "precision: tf32 needs a GPU for every trial" in done.stderr
    assert "Traceback" not in done.stderr
