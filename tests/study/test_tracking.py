from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tracked import (
    EVALUATIONS,
    HORIZON,
    REFERENCE,
    STEPS,
    T0,
    TrackedStudy,
    artifacts,
    doubled,
    dump,
    make_study,
    metrics_of,
    query,
    run_all,
    statuses,
    value,
)

from study import results
from study.checkpoint import newest_checkpoint
from study.mlflow_client import MlflowStore, now_ms
from study.results import Part, ended_replicates
from study.summary import Point
from trainers.measurement import MEASUREMENTS


def test_a_whole_study_has_one_run_per_configuration_with_every_point_once(study: TrackedStudy) -> None:
    run_all(study, study.tracker())
    assert statuses(study.database) == {"configuration": ["FINISHED"] * 4, "study": ["FINISHED"]}
    assert doubled(study.database) == []
    for configuration in study.plan.configurations:
        metrics = metrics_of(study.database, configuration.configuration_key)
        for index, step in enumerate(STEPS):
            distances = sorted(value("distance", seed, index) for seed in configuration.seeds)
            assert metrics["distance/median", step] == pytest.approx(distances[2], rel=1e-12)
            assert metrics["distance/q10", step] == pytest.approx(0.6 * distances[0] + 0.4 * distances[1], rel=1e-12)
            assert metrics["finite_fraction", step] == 1.0
            assert (("knn_recall/q90", step) in metrics) == (index % 5 == 0)
        assert metrics["outcome/converged_fraction", HORIZON] == 1.0
        assert metrics["judged_fraction", HORIZON] == 1.0


def test_params_tags_and_times_are_the_contracts(study: TrackedStudy) -> None:
    run_all(study, study.tracker())
    store = MlflowStore(study.uri)
    experiment = store.experiment(study.plan.study, artifact_location=None)
    (parent,) = store.find(experiment, {"ganstudy.kind": "study", "ganstudy.launch": "L1"})
    children = store.find(experiment, {"mlflow.parentRunId": parent.info.run_id})
    assert {child.data.tags["ganstudy.configuration_key"] for child in children} == set(study.keys)
    for child in children:
        configuration = study.plan.configuration(child.data.tags["ganstudy.configuration_key"])
        assert child.data.params == {key: str(entry) for key, entry in configuration.params().items()}
        assert child.data.tags["ganstudy.study"] == "ring-test"
        assert child.data.tags["ganstudy.kind"] == "configuration"
        assert child.data.tags["ganstudy.spec_hash"] == study.plan.spec_hash
        assert child.data.tags["ganstudy.criteria_hash"] == study.plan.criteria_hash
        assert child.info.run_name == f"{configuration.loss} k={configuration.factors['k']}"
        assert child.info.end_time >= child.info.start_time
    stamps = query(study.database, "select distinct step, timestamp from metrics where key = 'finite_fraction'")
    assert sorted(stamps) == [(step, T0 + 1000 * index) for index, step in enumerate(STEPS)]


def test_artifacts_hold_rows_samples_and_pictures(study: TrackedStudy) -> None:
    key = study.keys[2]
    study.deaths[key, 3] = 6
    run_all(study, study.tracker())
    folder = artifacts(study, key)
    rows = pq.read_table(folder / "replicates.parquet")
    assert "measured_at_ms" not in rows.column_names
    assert len(rows) == 4 * (EVALUATIONS + 1) + 7
    assert rows["seed"].unique().to_pylist() == list(study.plan.configuration(key).seeds)
    assert len(pq.read_table(folder / "samples.parquet")) == 16 * (4 * 5 + 2)  # the dead one lived at 0 and 25 %
    pictures = sorted(path.name for path in (folder / "samples").iterdir())
    assert pictures == [f"replicate-{replicate:03d}.png" for replicate in range(5)]
    with Image.open(folder / "samples" / pictures[0]) as image:
        assert image.width == 900
        assert len(image.getcolors(maxcolors=10**6) or []) > 20
    assert (folder / "configuration.yaml").read_text().startswith(f'configuration_key: "{key}"')
    (parent,) = query(
        study.database,
        "select r.artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid and t.value = 'study'",
    )
    files = {path.name for path in Path(parent[0].removeprefix("file://")).iterdir()}
    assert files == {"spec.yaml", "plan.json", "reference.json"}


@pytest.mark.parametrize("target", ["ring", "digits"])
def test_pictures_drawn_at_once_are_those_drawn_one_by_one(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_study(tmp_path / "home", target=target)
    cohort, configuration = made.plan.cohorts[0], made.plan.configurations[0]
    made.deaths[cohort.members[2]] = 6
    made.train(cohort.cohort)
    found = newest_checkpoint(made.root / "cohorts" / cohort.cohort).checkpoint
    ended = ended_replicates(
        made.plan.configuration(cohort.members[0][0]),
        [Part(checkpoint=found, failed=False)],
        replicates=range(5),
        criteria=made.spec.criteria,
        reference=REFERENCE,
    )
    folders = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(results, "_DRAWING_THREADS", threads)
        folder = tmp_path / str(threads)
        folder.mkdir()
        results.write_results(folder, configuration, ended)
        folders.append({path.name: path.read_bytes() for path in (folder / "samples").iterdir()})
    assert folders[0] == folders[1] == folders[2]
    replicates = [content for name, content in folders[0].items() if name.startswith("replicate-")]
    assert len(set(replicates)) == 5, "each is its own"


def test_sheets_of_images_come_while_it_trains_and_stay_as_they_came(tmp_path: Path, empty_database: Path) -> None:
    study = make_study(tmp_path / "home", target="digits", replicates=2)
    shutil.copy(empty_database, study.database)
    cohort = study.cohorts[0]
    key = study.plan.by_cohort[cohort].members[0][0]
    study.deaths[key, 1] = 3
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.start(cohort)
    study.train(cohort, evaluations=8)
    tracker.send(cohort)
    folder = artifacts(study, key) / "samples"
    early = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(early) == ["step-000.png", "step-102.png"]
    study.train(cohort)
    tracker.finish(cohort, failed=False)
    later = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(later) == [
        *("replicate-000.png", "replicate-001.png"),
        *("step-000.png", "step-102.png", "step-205.png", "step-308.png", "step-410.png"),
    ]
    assert early.items() <= later.items()


def test_dead_replicates_rank_worst_and_dead_quantiles_are_not_logged(study: TrackedStudy) -> None:
    """One of five dies: q90 of a 'lower' measurement and q10 of a 'higher' one die with it, the medians shift."""
    key = study.keys[1]
    study.deaths[key, 4] = 10
    run_all(study, study.tracker())
    metrics = metrics_of(study.database, key)
    seeds = study.plan.configuration(key).seeds[:4]
    for index, step in enumerate(STEPS):
        dead = index >= 10
        assert metrics["finite_fraction", step] == (0.8 if dead else 1.0)
        assert (("distance/q90", step) in metrics) is not dead
        assert (("mode_coverage/q10", step) in metrics) is not dead
        assert ("distance/q10", step) in metrics
        assert ("displacement/q90", step) in metrics  # no direction: over the finite ones
        if dead:
            assert metrics["distance/median", step] == pytest.approx(
                sorted(value("distance", s, index) for s in seeds)[2]
            )
            coverage = sorted(value("mode_coverage", s, index) for s in seeds)
            assert metrics["mode_coverage/median", step] == pytest.approx(coverage[1])
            displacement = [value("displacement", s, index) for s in seeds]
            assert metrics["displacement/median", step] == pytest.approx(np.median(displacement))
    assert metrics["outcome/diverged_fraction", HORIZON] == 0.2
    assert metrics["outcome/converged_fraction", HORIZON] == 0.8


def test_a_configuration_that_died_out_ends_with_a_finite_fraction_of_zero(study: TrackedStudy) -> None:
    key = study.keys[0]
    study.deaths |= {(key, replicate): 3 + replicate for replicate in range(5)}
    run_all(study, study.tracker())
    curve = {
        step: share for (name, step), share in metrics_of(study.database, key).items() if name == "finite_fraction"
    }
    assert curve == {step: (5 - max(0, index - 2)) / 5 for index, step in enumerate(STEPS[:8])}
    assert curve[STEPS[7]] == 0.0
    stored = query(study.database, "select max(abs(value)), sum(is_nan) from metrics")
    assert stored[0][0] < 1e6
    assert stored[0][1] == 0


def test_the_store_refuses_non_finite_numbers(study: TrackedStudy) -> None:
    store = MlflowStore(study.uri)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="metric distance/q90 must be finite"):
            store.log_points("0" * 32, [Point(generator_step=1, measured_at_ms=1, metrics={"distance/q90": bad})])


def test_replicate_runs_are_grandchildren_with_final_values_and_outcome(study: TrackedStudy) -> None:
    key = study.keys[3]
    study.deaths[key, 1] = 4
    run_all(study, study.tracker(replicate_runs=True))
    assert statuses(study.database)["replicate"] == ["FINISHED"] * 20
    store = MlflowStore(study.uri)
    experiment = store.experiment(study.plan.study, artifact_location=None)
    (parent,) = store.find(experiment, {"ganstudy.configuration_key": key})
    runs = store.find(experiment, {"mlflow.parentRunId": parent.info.run_id})
    by_replicate = {int(run.data.params["replicate"]): run for run in runs}
    assert sorted(by_replicate) == [0, 1, 2, 3, 4]
    seeds = study.plan.configuration(key).seeds
    assert int(by_replicate[2].data.params["seed"]) == seeds[2]
    assert by_replicate[2].data.metrics["final_distance"] == pytest.approx(value("distance", seeds[2], EVALUATIONS))
    assert by_replicate[2].data.tags["ganstudy.outcome"] == "converged"
    assert by_replicate[1].data.tags["ganstudy.outcome"] == "diverged"
    assert by_replicate[1].data.metrics == {}


def test_syncing_again_changes_nothing(study: TrackedStudy) -> None:
    study.deaths[study.keys[0], 2] = 5
    run_all(study, study.tracker(replicate_runs=True))
    before = dump(study.database)
    for _ in range(2):
        tracker = study.tracker(replicate_runs=True)
        tracker.open(launch="L1")
        tracker.sync()
        tracker.close("FINISHED")
    after = dump(study.database)
    ended = {row[0]: row[4] for row in after["runs"]}
    before["runs"] = [(*row[:4], ended[row[0]] if row[1] == "ring-test" else row[4], row[5]) for row in before["runs"]]
    assert after == before


def test_an_interrupted_study_is_killed_and_goes_on_in_the_same_runs(study: TrackedStudy) -> None:
    tracker = study.tracker()
    tracker.open(launch="L1")
    for cohort in study.cohorts[:2]:
        tracker.start(cohort)
        study.train(cohort, evaluations=5)
        tracker.send(cohort)
    study.train(study.cohorts[0])
    tracker.finish(study.cohorts[0], failed=False)
    tracker.close("KILLED")
    before = statuses(study.database)
    assert sorted(before["configuration"]) == sorted(["FINISHED", "KILLED"])
    assert before["study"] == ["KILLED"]
    ids = {row[0] for row in dump(study.database)["runs"]}
    run_all(study, study.tracker())
    assert statuses(study.database) == {"configuration": ["FINISHED"] * 4, "study": ["FINISHED"]}
    runs = {row[0] for row in dump(study.database)["runs"]}
    assert ids < runs
    assert len(runs) == 5  # none was made and swept away again
    assert doubled(study.database) == []


def test_a_failed_cohort_is_failed_and_finished_after_a_retry(study: TrackedStudy) -> None:
    cohort = study.cohorts[1]
    (key,) = {key for key, _ in study.plan.cohorts[1].members}
    study.deaths[key, 0] = 2
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.start(cohort)
    study.train(cohort, evaluations=6)
    tracker.finish(cohort, failed=True)
    assert statuses(study.database)["configuration"] == ["FAILED"]
    assert shares(study, key) == {}, "a retry would add a second answer"
    assert len(pq.read_table(artifacts(study, key) / "replicates.parquet")) == 4 * 7 + 3
    tracker.start(cohort)
    assert statuses(study.database)["configuration"] == ["RUNNING"]
    study.train(cohort)
    tracker.finish(cohort, failed=False)
    assert statuses(study.database)["configuration"] == ["FINISHED"]
    assert shares(study, key)["outcome/converged_fraction", HORIZON] == 0.8
    assert {step for _, step in shares(study, key)} == {HORIZON}


def shares(study: TrackedStudy, key: str) -> dict[tuple[str, int], float]:
    """(metric, step) -> how the replicates of a configuration ended."""
    held = metrics_of(study.database, key).items()
    return {place: value for place, value in held if place[0].startswith("outcome/") or place[0] == "judged_fraction"}


def test_a_cohort_that_failed_before_its_first_checkpoint_leaves_an_empty_record(study: TrackedStudy) -> None:
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.start(study.cohorts[0])
    tracker.finish(study.cohorts[0], failed=True)
    key = study.plan.cohorts[0].members[0][0]
    table = pq.read_table(artifacts(study, key) / "replicates.parquet")
    assert len(table) == 0
    assert set(MEASUREMENTS) <= set(table.column_names)
    assert statuses(study.database)["configuration"] == ["FAILED"]


def test_sync_reads_failures_from_the_disk(study: TrackedStudy) -> None:
    study.train(study.cohorts[0])
    study.train(study.cohorts[1], evaluations=4)
    study.train(study.cohorts[2], evaluations=4)
    (study.root / "cohorts" / study.cohorts[1] / "failure.json").write_text("{}")
    tracker = study.tracker()
    tracker.open(launch="L1")
    tracker.sync()
    assert statuses(study.database)["configuration"] == ["FAILED", "FINISHED", "RUNNING"]
    tracker.close("KILLED")
    assert statuses(study.database)["configuration"] == ["FAILED", "FINISHED", "KILLED"]


def test_reconcile_kills_what_a_dead_owner_left_running_and_nothing_else(study: TrackedStudy) -> None:
    """The server is shared: another home runs a study of the same name, and somebody works by hand."""
    dead, other = study.tracker(), study.tracker()
    dead.open(launch="L1")
    dead.start(study.cohorts[0])
    other.open(launch="L2")
    other.start(study.cohorts[1])
    other.start(study.cohorts[2])
    foreign = MlflowStore(study.uri)
    foreign._client.create_run(foreign.experiment(study.plan.study, artifact_location=None))
    assert study.tracker().reconcile(launch="L1") == 2
    assert statuses(study.database) == {
        "configuration": ["KILLED", "RUNNING", "RUNNING"],
        "study": ["KILLED", "RUNNING"],
    }
    assert query(study.database, "select count(*) from runs where status = 'RUNNING'") == [(4,)]
    assert study.tracker().reconcile(launch="L1") == 0
    assert study.tracker().reconcile(launch="L3") == 0


def test_opening_again_kills_what_the_dead_owner_of_this_launch_left_running(study: TrackedStudy) -> None:
    dead, other = study.tracker(), study.tracker()
    dead.open(launch="L1")
    dead.start(study.cohorts[0])
    other.open(launch="L2")
    other.start(study.cohorts[1])
    study.tracker().open(launch="L1")
    assert statuses(study.database) == {"configuration": ["KILLED", "RUNNING"], "study": ["RUNNING", "RUNNING"]}


def test_a_cohort_that_fails_twice_before_its_first_row_is_recorded_once(study: TrackedStudy) -> None:
    for _ in range(2):
        tracker = study.tracker()
        tracker.open(launch="L1")
        tracker.start(study.cohorts[0])
        tracker.finish(study.cohorts[0], failed=True)
        before = now_ms()
        while now_ms() == before:  # another millisecond: the clock must not make another row
            pass
    assert doubled(study.database) == []


def test_a_split_configuration_is_written_when_its_last_part_ended(tmp_path: Path, empty_database: Path) -> None:
    study = make_study(tmp_path / "home", replicates=20, cohort_size=8)
    shutil.copy(empty_database, study.database)
    key = study.keys[0]
    parts = [entry.cohort for entry in study.plan.cohorts if entry.members[0][0] == key]
    assert len(parts) == 3
    tracker = study.tracker()
    tracker.open(launch="L1")
    for part in parts:
        tracker.start(part)
        study.train(part, evaluations=EVALUATIONS if part != parts[2] else 9)
        tracker.send(part)
    for part in parts[:2]:
        tracker.finish(part, failed=False)
    assert query(study.database, "select count(*) from metrics") == [(0,)]
    assert statuses(study.database)["configuration"] == ["RUNNING"]
    tracker = study.tracker()  # another process sees the last part end: the others' ends are on the disk
    tracker.open(launch="L1")
    study.train(parts[2])
    tracker.finish(parts[2], failed=False)
    assert statuses(study.database)["configuration"] == ["FINISHED"]
    seeds = study.plan.configuration(key).seeds
    median = np.median([value("distance", seed, 7) for seed in seeds])
    assert metrics_of(study.database, key)["distance/median", STEPS[7]] == pytest.approx(median, rel=1e-12)
    assert len(pq.read_table(artifacts(study, key) / "replicates.parquet")) == 20 * (EVALUATIONS + 1)
