"""What a cohort was trained with is kept by its checkpoints and told by the tags of its runs in MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tracked import query

import trainers
from study.checkpoint import newest_checkpoint, write_checkpoint
from study.environment import (
    ENVIRONMENT_TAG,
    MAX_TAG_CHARACTERS,
    code_digest,
    environment,
    environment_tags,
    joined,
)
from study.folder import StudyFolder, write_atomic, write_json
from study.history import HISTORY_SCHEMA, SAMPLES_SCHEMA
from study.plan import make_plan
from study.spec import StudySpec
from study.trainable import Watch, prepare_device, run_cohort

OLD, NEW = {"torch": "2.1", "device": "cpu"}, {"torch": "2.2", "device": "cpu"}


def test_this_process_is_described_by_what_may_change_a_number() -> None:
    found = environment("cpu")
    assert set(found) == {"code", "device", "processor", "python", "threads", "torch"}
    assert found["device"] == "cpu"
    assert all(isinstance(value, str) and value for value in found.values())


def test_the_code_of_training_is_told_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest()
    assert trainers.__file__ is not None
    for path in Path(trainers.__file__).parent.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(trainers, "__file__", str(tmp_path / "__init__.py"))
    assert code_digest() == before
    for name in ("losses.py", "native.c", "native_layers.h"):
        with (tmp_path / name).open("a") as file:
            file.write("\n")
        assert code_digest() != before
        before = code_digest()


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_compiled_kernels_are_part_of_what_may_change_a_number() -> None:
    asked = {"cpus": 1.0, "gpus": 0.0, "device": "cpu"}
    try:
        assert prepare_device({**asked, "kernels": "native"}) == "cpu"
        found = environment("cpu")
    finally:
        prepare_device({**asked, "kernels": "torch"})
    assert found["kernels"].startswith("native-")
    assert {**environment("cpu"), "kernels": found["kernels"]} == found


def test_environments_are_listed_once_in_the_order_of_use() -> None:
    assert joined((), NEW) == (NEW,)
    assert joined((NEW,), OLD) == (NEW, OLD)
    assert joined((NEW, OLD), dict(NEW)) == (NEW, OLD)


def test_a_tag_depends_on_the_set_of_environments_alone() -> None:
    assert environment_tags([(NEW, OLD), (OLD,)]) == environment_tags([(OLD, NEW)])
    assert environment_tags([]) == environment_tags([()]) == {}
    (tag,) = environment_tags([(NEW,)]).values()
    assert json.loads(tag) == [NEW]


def test_a_tag_that_no_store_would_take_is_left_out() -> None:
    assert environment_tags([({"device": "x" * MAX_TAG_CHARACTERS},)]) == {}


def test_a_checkpoint_keeps_the_environments_of_its_cohort(tmp_path: Path) -> None:
    for step, known in ((1, (OLD, NEW)), (2, ())):
        write_checkpoint(
            tmp_path / "cohort",
            generator_step=step,
            evaluations_done=1,
            complete=False,
            state={},
            history=HISTORY_SCHEMA.empty_table(),
            samples=SAMPLES_SCHEMA.empty_table(),
            attempt=1,
            environments=known,
        )
        found = newest_checkpoint(tmp_path / "cohort").checkpoint
        assert found is not None
        assert found.environments == known


@pytest.mark.slow
def test_a_cohort_that_goes_on_elsewhere_names_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: dict[str, object]
) -> None:
    from study.attempt import make_tracker
    from study.mlflow_client import sqlite_uri
    from study.reference import prepare_references

    spec = StudySpec.from_dict(tiny)
    folder, plan = StudyFolder(tmp_path / "runs", spec.study), make_plan(spec, workers=2)
    write_json(folder.launch_file, {"launch": "L1", "attempt": 1})
    write_atomic(folder.spec_file, spec.dump())
    write_json(folder.plan_file, plan.to_json())
    prepare_references(folder, plan)
    first, second = (entry.cohort for entry in plan.cohorts)

    def trained(cohort: str, where: dict[str, str]) -> None:
        monkeypatch.setattr("study.trainable.environment", lambda device: where)
        run_cohort(
            folder, cohort=cohort, watch=Watch(folder, 1), device="cpu", import_path=None, report=lambda metrics: None
        )

    folder.ask_to_stop("test")
    trained(first, OLD)
    folder.stop_file.unlink()
    trained(first, NEW)
    trained(second, NEW)
    tracker = make_tracker(folder, spec, plan, sqlite_uri(folder.home))
    tracker.open(launch="L1")
    tracker.sync()
    tracker.close("FINISHED")
    tags = dict(
        query(
            folder.home / "mlflow.db",
            "select k.value, e.value from tags k join tags e on e.run_uuid = k.run_uuid "
            f"and e.key = '{ENVIRONMENT_TAG}' where k.key = 'ganstudy.configuration_key'",
        )
    )
    expected = {first: [OLD, NEW], second: [NEW]}
    assert {key: json.loads(tags[key]) for key in tags} == {
        key: expected[entry.cohort] for entry in plan.cohorts for key, _ in entry.members
    }
