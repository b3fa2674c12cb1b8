"""The audit finds every planted break of an invariant, and nothing in a sound study."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tracked import HORIZON, REFERENCE, STEPS, TrackedStudy, make_study, run_all

from study.audit import INVARIANTS, audit
from study.audit_files import replicate_problem
from study.checkpoint import newest_checkpoint, write_checkpoint
from study.folder import StudyFolder, locked, write_json
from study.history import series_of

DEATHS = {("minimax", 1): 6, ("wgan_gp", 0): 14}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrackedStudy:
    """A finished study with two deaths, as a driver leaves it; the tests work on copies."""
    made = make_study(tmp_path_factory.mktemp("audited"))
    keys = {entry.loss: entry.configuration_key for entry in made.plan.configurations}
    made.deaths = {(keys[loss], replicate): step for (loss, replicate), step in DEATHS.items()}
    targets = {entry.target_id: REFERENCE for entry in made.plan.configurations}
    write_json(made.root / "reference.json", {"schema": 1, "targets": targets})
    write_json(made.root / "launch.json", {"schema": 1, "launch": "L1", "attempt": 1, "tracking_uri": made.uri})
    run_all(made, made.tracker())
    return made


@pytest.fixture
def study(finished: TrackedStudy, tmp_path: Path) -> TrackedStudy:
    home, old = tmp_path / "home", finished.root.parent
    shutil.copytree(old, home)
    copy = TrackedStudy(root=home / finished.root.name, spec=finished.spec, plan=finished.plan, deaths=finished.deaths)
    change(copy, f"update runs set artifact_uri = replace(artifact_uri, '{old}', '{home}')")
    write_json(copy.root / "launch.json", {"schema": 1, "launch": "L1", "attempt": 1, "tracking_uri": copy.uri})
    return copy


def change(study: TrackedStudy, *statements: str) -> None:
    with sqlite3.connect(study.database) as connection:
        for statement in statements:
            connection.execute(statement)


def look(study: TrackedStudy, *, mlflow: bool = True) -> list[tuple[str, str]]:
    found = audit(StudyFolder(study.root.parent, study.root.name), mlflow=mlflow)
    assert {violation.invariant for violation in found.violations} <= INVARIANTS.keys()
    return [(violation.invariant, f"{violation.subject}: {violation.text}") for violation in found.violations]


def run_id(study: TrackedStudy, key: str) -> str:
    with sqlite3.connect(study.database) as connection:
        sql = "select run_uuid from tags where key = 'ganstudy.configuration_key' and value = ?"
        return str(connection.execute(sql, (key,)).fetchone()[0])


def test_a_sound_study_has_no_violation_and_everything_was_looked_at(study: TrackedStudy) -> None:
    found = audit(StudyFolder(study.root.parent, study.root.name))
    assert found.violations == ()
    assert not found.running
    with sqlite3.connect(study.database) as connection:
        points = connection.execute("select count(*) from metrics where key not like 'outcome/%'").fetchone()[0] - 4
    rows = 4 * 5 * len(STEPS) - sum(len(STEPS) - 1 - death for death in DEATHS.values())
    assert found.checked["points"] == points  # the four are judged_fraction
    assert found.checked["rows"] == rows
    assert (found.checked["replicates"], found.checked["runs"]) == (20, 4)


def test_bits_are_compared_not_values_near_each_other(study: TrackedStudy) -> None:
    key = study.keys[0]
    one = f"run_uuid = '{run_id(study, key)}' and key = 'distance/median' and step = {STEPS[3]}"
    change(study, f"update metrics set value = value * (1 + 4e-16) where {one}")
    assert look(study) == [("I3", f"{key} distance/median: differs from the checkpoint at step {STEPS[3]}")]


Planting = Callable[[TrackedStudy], None]


def doubled_point(study: TrackedStudy) -> None:
    columns = "key, value, timestamp, step, run_uuid, is_nan"
    change(
        study,
        f"insert into metrics ({columns}) select key, value, timestamp + 1, step, run_uuid, is_nan from metrics "
        f"where run_uuid = '{run_id(study, study.keys[1])}' and key = 'mode_kl/q90' and step = {STEPS[5]}",
    )


def lost_point(study: TrackedStudy) -> None:
    one = f"run_uuid = '{run_id(study, study.keys[1])}' and key = 'finite_fraction' and step = {HORIZON}"
    change(study, f"delete from metrics where {one}")


def wrong_share(study: TrackedStudy) -> None:
    change(study, "update metrics set value = 0.5 where key = 'outcome/diverged_fraction' and value = 0.0")


def second_run(study: TrackedStudy, name: str) -> None:
    run = run_id(study, study.keys[2])
    with sqlite3.connect(study.database) as connection:
        columns = [row[1] for row in connection.execute("pragma table_info(runs)")]
        chosen = ", ".join(f"'{name}'" if column == "run_uuid" else column for column in columns)
        connection.execute(f"insert into runs select {chosen} from runs where run_uuid = '{run}'")
        connection.execute(
            "insert into tags (key, value, run_uuid) select key, value, ? from tags where run_uuid = ?", (name, run)
        )


def second_run_listed_first(study: TrackedStudy) -> None:
    second_run(study, "0" * 32)  # MLflow lists runs that began together by their names


def second_run_listed_last(study: TrackedStudy) -> None:
    second_run(study, "f" * 32)


def lost_run(study: TrackedStudy) -> None:
    change(study, f"update runs set lifecycle_stage = 'deleted' where run_uuid = '{run_id(study, study.keys[2])}'")


def stranger(study: TrackedStudy) -> None:
    run = run_id(study, study.keys[0])
    change(
        study, f"update tags set value = 'feed' where key = 'ganstudy.configuration_key' and run_uuid = '{run}'"
    )  # and the planned one is without a run


def zombie(study: TrackedStudy) -> None:
    change(study, f"update runs set status = 'RUNNING' where run_uuid = '{run_id(study, study.keys[3])}'")


def false_end(study: TrackedStudy) -> None:
    change(study, "update runs set status = 'KILLED' where name = 'ring-test'")


def other_rows(study: TrackedStudy) -> None:
    (path,) = (study.root.parent / "artifacts").glob(f"{run_id(study, study.keys[0])}/artifacts/replicates.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(reversed(range(len(table))))), path)


def no_rows(study: TrackedStudy) -> None:
    (path,) = (study.root.parent / "artifacts").glob(f"{run_id(study, study.keys[0])}/artifacts/replicates.parquet")
    path.unlink()


def leftover(study: TrackedStudy) -> None:
    (study.root / "cohorts" / study.cohorts[0] / ".tmp-checkpoint-00000410").mkdir()


def torn_file(study: TrackedStudy) -> None:
    (study.root / ".plan.json.abc.tmp").write_text("{")


def flipped(study: TrackedStudy) -> None:
    """The newest checkpoint of a cohort; the one before it stands in, so that MLflow knows more than the disk."""
    folder = study.root / "cohorts" / study.cohorts[0]
    newest = newest_checkpoint(folder).checkpoint
    assert newest is not None
    data = bytearray((newest.path / "history.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (newest.path / "history.parquet").write_bytes(bytes(data))


def dead_owner(study: TrackedStudy) -> None:
    (study.root / "lock").write_text(json.dumps({"host": "h", "pid": 1, "started": "2026-01-01T00:00:00Z"}))


def other_spec(study: TrackedStudy) -> None:
    text = (study.root / "spec.yaml").read_text()
    assert "replicates: 5" in text
    (study.root / "spec.yaml").write_text(text.replace("replicates: 5", "replicates: 6"))


@pytest.mark.parametrize(
    ("plant", "invariants"),
    [
        (doubled_point, ["I2"]),
        (lost_point, ["I2"]),
        (wrong_share, ["I3"]),
        (second_run_listed_first, ["I1"]),
        (second_run_listed_last, ["I1"]),
        (lost_run, ["I1"]),
        (stranger, ["I1", "I1"]),
        (zombie, ["I4"]),
        (false_end, ["I4"]),
        (other_rows, ["I3"]),
        (no_rows, ["I1"]),
        (leftover, ["I6"]),
        (torn_file, ["I6"]),
        (dead_owner, ["I6"]),
        (other_spec, ["I6"]),
    ],
)
def test_each_planted_break_is_named(study: TrackedStudy, plant: Planting, invariants: list[str]) -> None:
    plant(study)
    found = look(study, mlflow=invariants != ["I6"])  # reading every number of MLflow takes seconds
    if plant is wrong_share:  # one in each of the configurations without a death
        assert {name for name, _ in found} == {"I3"}
        assert all("outcome/diverged_fraction" in text for _, text in found)
        assert len(found) == 2
    else:
        assert [name for name, _ in found] == invariants, found


def test_a_flipped_checkpoint_and_what_mlflow_knows_beyond_the_one_before_it(study: TrackedStudy) -> None:
    flipped(study)
    found = look(study)
    assert found[0][0] == "I6"
    assert "damaged checkpoint" in found[0][1]
    assert {name for name, _ in found} >= {"I3", "I4"}


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda t: t.filter(pa.array([not (e == 3 and r == 2) for e, r in zip(*both(t), strict=True)])), "evaluations"),
        (lambda t: t.set_column(2, "seed", pa.array([7] * len(t), t.schema.field("seed").type)), "seed"),
        (lambda t: t.filter(pa.array([e <= 12 for e in t["evaluation"].to_pylist()])), "13 evaluations"),
        (lambda t: t.filter(pa.array([r != 4 for r in t["replicate"].to_pylist()])), "no rows"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "evaluations"),
        (lambda t: t.set_column(*steps_off_by_one(t)), "generator steps"),
    ],
)
def test_rows_that_are_not_whole_are_named(
    study: TrackedStudy, edit: Callable[[pa.Table], pa.Table], told: str
) -> None:
    key = study.keys[1]
    (cohort,) = [entry.cohort for entry in study.plan.cohorts if entry.members[0][0] == key]
    folder = study.root / "cohorts" / cohort
    newest = newest_checkpoint(folder).checkpoint
    assert newest is not None
    shutil.rmtree(folder)
    write_checkpoint(
        folder,
        generator_step=newest.generator_step,
        evaluations_done=newest.evaluations_done,
        complete=True,
        state={"step": 1},
        history=edit(newest.history()),
        samples=newest.samples(),
        attempt=1,
    )
    found = [text for name, text in look(study, mlflow=False) if name == "I5"]
    assert found
    assert all(told in text for text in found)


def both(table: pa.Table) -> tuple[list[int], list[int]]:
    return table["evaluation"].to_pylist(), table["replicate"].to_pylist()


def steps_off_by_one(table: pa.Table) -> tuple[int, str, pa.Array]:
    place = table.schema.get_field_index("generator_step")
    return place, "generator_step", pa.array([step + 1 for step in table["generator_step"].to_pylist()], pa.int64())


def test_a_replicate_that_goes_on_after_its_death_is_named(study: TrackedStudy) -> None:
    (key, replicate), _ = next(iter(study.deaths.items()))
    (cohort,) = [entry.cohort for entry in study.plan.cohorts if (key, replicate) in entry.members]
    checkpoint = newest_checkpoint(study.root / "cohorts" / cohort).checkpoint
    assert checkpoint is not None
    history, configuration = checkpoint.history(), study.plan.configuration(key)
    series = series_of(history, key, replicate, planned_evaluations=20)
    rows = {"finite": series.finite, "generator_step": series.generator_step}
    count = len(series.finite)
    rows |= {"seed": [configuration.seeds[replicate]] * count, "evaluation": range(count)}
    import numpy as np

    arrays = {name: np.asarray(column) for name, column in rows.items()}
    assert replicate_problem(arrays, configuration, replicate, evaluations=21) == ""
    raised = arrays | {"finite": np.roll(arrays["finite"], 1)}
    assert replicate_problem(raised, configuration, replicate, evaluations=21) == "goes on after its death"


def test_the_command_prints_each_violation_and_ends_with_1(study: TrackedStudy) -> None:
    command = [sys.executable, "-m", "study", "audit", "ring-test", "--home", str(study.root.parent)]
    sound = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sound.returncode == 0
    assert "all invariants hold in 4 cohorts, 20 replicates" in sound.stdout
    zombie(study)
    broken = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    (violation,) = json.loads(broken.stdout)["violations"]
    assert violation["invariant"] == "I4"
    assert "is RUNNING, true is FINISHED" in violation["text"]
    files = subprocess.run([*command, "--files-only"], capture_output=True, text=True, check=False)
    assert files.returncode == 0


def test_points_newer_than_the_checkpoint_that_was_read_are_no_break_while_the_study_runs(
    study: TrackedStudy,
) -> None:
    """They arrive between its look at the disk and its look at MLflow; a wrong one among the older is still named."""
    cohort, key = study.plan.cohorts[0].cohort, study.plan.cohorts[0].members[0][0]
    folder = study.root / "cohorts" / cohort
    newest = newest_checkpoint(folder).checkpoint
    assert newest is not None
    history = newest.history()
    shutil.rmtree(folder)
    write_checkpoint(
        folder,
        generator_step=STEPS[8],
        evaluations_done=9,
        complete=False,
        state={"step": 1},
        history=history.filter(pa.array([entry <= 8 for entry in history["evaluation"].to_pylist()])),
        samples=newest.samples(),
        attempt=1,
    )
    change(study, f"update runs set status = 'RUNNING' where run_uuid = '{run_id(study, key)}'")
    assert "I3" in {name for name, _ in look(study)}, "nobody runs it: MLflow must not know more than the disk"
    with locked(StudyFolder(study.root.parent, study.root.name)):
        assert look(study) == []
        change(
            study,
            f"update metrics set value = value + 1 where run_uuid = '{run_id(study, key)}' "
            f"and key = 'mode_kl/median' and step = {STEPS[8]}",
        )
        assert look(study) == [("I3", f"{key} mode_kl/median: differs from the checkpoint at step {STEPS[8]}")]


def test_an_audit_reads_no_pickle(study: TrackedStudy) -> None:
    """state.pt is hashed, never loaded: torch is not even imported."""
    program = (
        "import sys; from pathlib import Path; from study.audit import audit; from study.folder import StudyFolder; "
        f"found = audit(StudyFolder(Path({str(study.root.parent)!r}), 'ring-test')); "
        "assert not found.violations; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
