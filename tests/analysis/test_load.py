"""Reading studies back: a hand-written MLflow store in, frames out."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from analysis.assemble import clean_curves, merge_plans
from analysis.load import load_study
from benchmarks.report_size import served
from tests.analysis.synthetic import KINDS, make_frames
from trainers.measurement import MEASUREMENTS

RATES = (1e-3, 1e-2)
ENDINGS = ("converged", "under_trained", "plateau", "oscillating", "collapsed", "diverged")


def truth(loss, k, rate, replicate):
    return ENDINGS[replicate + 3 * (loss == "minimax")]


class Writer:
    """Writes what the contract says MLflow holds, with plain client calls."""

    def __init__(self, home: Path) -> None:
        from mlflow.tracking import MlflowClient

        home.mkdir(exist_ok=True)
        self.home = home
        self.client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")

    def experiment(self, study: str) -> str:
        return self.client.create_experiment(study, artifact_location=str(self.home / "artifacts" / study))

    def launch(self, experiment: str, frames, *, status: str = "FINISHED", start: int = 1) -> str:
        run = self.client.create_run(experiment, start_time=start, tags={"ganstudy.kind": "study"})
        folder = Path(run.info.artifact_uri)
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps(frames.plan))
        (folder / "reference.json").write_text(json.dumps(frames.reference))
        with (folder / "spec.yaml").open("w") as file:
            YAML().dump(dict(frames.spec), file)
        self.client.set_terminated(run.info.run_id, status)
        return run.info.run_id

    def configuration(
        self, experiment: str, key: str, curves: pd.DataFrame, *, start: int = 2, status: str = "FINISHED"
    ) -> None:
        tags = {"ganstudy.kind": "configuration", "ganstudy.configuration_key": key}
        run = self.client.create_run(experiment, start_time=start, tags=tags)
        folder = Path(run.info.artifact_uri)
        folder.mkdir(parents=True)
        curves.drop(columns="configuration_key").to_parquet(folder / "replicates.parquet")
        samples = pd.DataFrame({"configuration_key": key, "replicate": [0, 1], "generator_step": 0, "sample": 0})
        samples.assign(x=[np.zeros(2, np.float32)] * 2).to_parquet(folder / "samples.parquet")
        self.client.set_terminated(run.info.run_id, status)


def write_study(
    writer: Writer,
    frames,
    *,
    status: str = "FINISHED",
    curves: pd.DataFrame | None = None,
    configuration_status: str = "FINISHED",
) -> str:
    experiment = writer.experiment(frames.study)
    writer.launch(experiment, frames, status=status)
    for key, rows in (frames.curves if curves is None else curves).groupby("configuration_key", sort=False):
        writer.configuration(experiment, key, rows, status=configuration_status)
    return experiment


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return Writer(tmp_path_factory.mktemp("home with spaces"))


@pytest.fixture(scope="module")
def frames():
    return make_frames(learning_rates=RATES, replicates=3, outcome=truth, study="recorded")


@pytest.fixture(scope="module")
def loaded(writer, frames):
    write_study(writer, frames)
    return load_study("recorded", home=writer.home)


def test_every_planned_replicate_is_judged_as_it_was_drawn(loaded, frames):
    identity = ["configuration_key", "loss", "adversarial_loss", "penalty", "k", "learning_rate", "replicate", "seed"]
    pd.testing.assert_frame_equal(loaded.runs[identity], frames.runs[identity], check_dtype=False)
    assert loaded.runs["outcome"].tolist() == frames.runs["outcome"].tolist()
    dead = loaded.runs[loaded.runs["outcome"] == "diverged"]
    assert set(dead["kind"]) == {KINDS["diverged"]}
    assert set(dead["t_event"]) == {1500.0}


def test_curves_come_back_unchanged(loaded, frames):
    columns = list(loaded.curves.columns)
    pd.testing.assert_frame_equal(loaded.curves, frames.curves[columns], check_dtype=False)


def test_final_values_are_the_last_row_and_nothing_for_the_dead(loaded):
    runs = loaded.runs.set_index(["configuration_key", "replicate"])
    last = loaded.curves.groupby(["configuration_key", "replicate"])["distance"].last()
    alive = runs[runs["outcome"] != "diverged"]
    assert alive["final_distance"].to_dict() == last.loc[alive.index].to_dict()
    assert runs.loc[runs["outcome"] == "diverged", "final_distance"].isna().all()


def test_spec_plan_and_reference_are_the_recorded_ones(loaded, frames):
    assert loaded.spec == frames.spec
    assert loaded.reference == frames.reference
    assert loaded.plan["configurations"] == json.loads(json.dumps(frames.plan["configurations"]))
    assert loaded.labels() == ["minimax", "wgan_gp"]
    assert loaded.provenance["interim"] is False


def test_loading_twice_gives_the_same_frames(loaded, writer):
    again = load_study("recorded", home=writer.home)
    pd.testing.assert_frame_equal(loaded.runs, again.runs)
    assert loaded.provenance == again.provenance


@pytest.mark.slow
def test_a_server_that_hands_out_the_files_gives_the_same_frames(tmp_path, frames, loaded):
    writer = Writer(tmp_path / "served")
    write_study(writer, frames)
    artifacts = writer.home / "artifacts"
    with sqlite3.connect(writer.home / "mlflow.db") as connection:
        written = (f"{artifacts}", artifacts.as_uri())
        connection.execute("update runs set artifact_uri = replace(artifact_uri, ?, ?)", written)
    key = loaded.runs["configuration_key"].iloc[0]
    with served(writer.home) as address:
        fetched = load_study("recorded", home=tmp_path / "nothing here", tracking_uri=address)
        pd.testing.assert_frame_equal(fetched.runs, loaded.runs)
        pd.testing.assert_frame_equal(fetched.curves, loaded.curves)
        pd.testing.assert_frame_equal(fetched.samples([key], [1]), loaded.samples([key], [1]))


def test_samples_are_read_on_demand(loaded):
    key = loaded.runs["configuration_key"].iloc[-1]
    found = loaded.samples([key], [1])
    assert found[["configuration_key", "replicate"]].to_numpy().tolist() == [[key, 1]]
    assert len(loaded.samples()) == 2 * loaded.runs["configuration_key"].nunique()


def test_other_criteria_change_the_outcomes_without_training(writer, loaded):
    strict = load_study("recorded", home=writer.home, criteria={"u_converged": 1e-9})
    assert (loaded.runs["outcome"] == "converged").any()
    assert not (strict.runs["outcome"] == "converged").any()
    assert strict.provenance["criteria_hash"] != loaded.provenance["criteria_hash"]


def test_a_study_under_way_is_interim_and_its_missing_runs_are_named(writer, frames):
    begun = make_frames(learning_rates=RATES, replicates=3, outcome=truth, study="begun")
    keys = [c["configuration_key"] for c in begun.plan["configurations"]]
    write_study(writer, begun, status="KILLED", curves=begun.curves[begun.curves["configuration_key"] != keys[0]])
    loaded = load_study("begun", home=writer.home)
    missing = loaded.runs[loaded.runs["configuration_key"] == keys[0]]
    assert missing[["outcome", "kind"]].drop_duplicates().to_numpy().tolist() == [["failed", "missing"]]
    assert len(loaded.runs) == len(begun.runs)
    assert loaded.provenance["interim"] is True


def test_a_replicate_cut_short_is_failed_or_pruned_but_never_converged(writer):
    whole = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=lambda *_: "converged", study="cut")
    write_study(writer, whole, curves=whole.curves[whole.curves["evaluation"] < 20])
    assert set(load_study("cut", home=writer.home).runs["outcome"]) == {"failed"}
    pruned = make_frames(
        losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=lambda *_: "converged", study="pruned"
    )
    pruned.spec["scheduler"]["name"] = "asha"
    write_study(writer, pruned, curves=pruned.curves[pruned.curves["evaluation"] < 20])
    loaded = load_study("pruned", home=writer.home)
    assert set(loaded.runs["outcome"]) == {"censored"}
    assert loaded.runs["final_distance"].isna().all()


def test_what_the_machine_broke_off_was_not_stopped_by_the_scheduler(writer):
    broken = make_frames(
        losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=lambda *_: "converged", study="broken"
    )
    broken.spec["scheduler"]["name"] = "asha"
    write_study(writer, broken, curves=broken.curves[broken.curves["evaluation"] < 20], configuration_status="FAILED")
    assert set(load_study("broken", home=writer.home).runs["outcome"]) == {"failed"}


def test_a_search_that_has_not_chosen_everything_is_interim(writer):
    begun = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), study="searching")
    plan = {**begun.plan, "declared": len(begun.plan["configurations"]) + 1, "declared_replicates": 3}
    write_study(writer, dataclasses.replace(begun, plan=plan), status="KILLED")
    assert load_study("searching", home=writer.home).provenance["interim"] is True
    whole = {**begun.plan, "declared": len(begun.plan["configurations"]), "declared_replicates": 3}
    write_study(writer, dataclasses.replace(begun, study="searched", plan=whole), status="FINISHED")
    assert load_study("searched", home=writer.home).provenance["interim"] is False


def test_launches_are_united_by_configuration_and_replicate(writer):
    first = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2, study="grown")
    later = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=5, study="grown")
    experiment = write_study(writer, first)
    writer.launch(experiment, later, start=50)
    key = later.plan["configurations"][0]["configuration_key"]
    writer.configuration(experiment, key, later.curves[later.curves["replicate"] >= 2], start=51)
    loaded = load_study("grown", home=writer.home)
    assert loaded.runs["replicate"].tolist() == [0, 1, 2, 3, 4]
    assert not (loaded.runs["outcome"] == "failed").any()


def test_an_unknown_study_names_the_nearest(writer, loaded):
    with pytest.raises(LookupError, match=r"no study named 'recoded'.*did you mean 'recorded'"):
        load_study("recoded", home=writer.home)


def test_a_wrong_home_creates_nothing(tmp_path):
    with pytest.raises(LookupError, match="does not exist"):
        load_study("recorded", home=tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_an_infinity_clipped_by_sql_is_a_death():
    frames = make_frames(
        losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2, outcome=lambda *_: "converged"
    )
    for value in (np.inf, -np.inf, sys.float_info.max):
        curves = frames.curves.copy()
        curves.loc[7, "generator_loss"] = value
        cleaned, counts = clean_curves([curves], frames.plan)
        assert counts["clipped_values"] == 1
        assert (~cleaned["finite"]).sum() == 1
        assert np.isnan(cleaned.loc[7, "generator_loss"])
        assert np.isfinite(cleaned[list(MEASUREMENTS)].to_numpy()[8:]).all()


def test_rows_sent_twice_count_once_and_order_does_not_matter():
    frames = make_frames(losses=("hinge",), ks=(1,), replicates=2)
    once, _ = clean_curves([frames.curves], frames.plan)
    shuffled = frames.curves.sample(frac=1, random_state=1)
    twice, counts = clean_curves([shuffled, frames.curves.iloc[:10]], frames.plan)
    pd.testing.assert_frame_equal(once, twice)
    assert counts["duplicate_rows"] == 10


def test_an_absent_measurement_is_not_a_death():
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), outcome=lambda *_: "converged")
    cleaned, counts = clean_curves([frames.curves.drop(columns="mode_kl")], frames.plan)
    assert cleaned["finite"].all()
    assert cleaned["mode_kl"].isna().all()
    assert counts["clipped_values"] == 0


def test_merged_plans_keep_the_first_order_and_the_larger_replicates():
    small = make_frames(losses=("hinge", "minimax"), ks=(1,), learning_rates=(1e-3,), replicates=2).plan
    large = make_frames(losses=("minimax", "hinge"), ks=(1,), learning_rates=(1e-3,), replicates=4).plan
    merged = merge_plans([small, large])
    assert [(c["loss"], c["replicates"]) for c in merged["configurations"]] == [("hinge", 4), ("minimax", 4)]


def test_a_later_plan_holds_the_earlier_cohorts_once():
    first = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2).plan
    key = first["configurations"][0]["configuration_key"]
    more = {"cohort": "l2-c000-hinge-k1", "members": [[key, 2]], "launch": 2}
    merged = merge_plans([first, {**first, "cohorts": [*first["cohorts"], more]}])
    assert merged["cohorts"] == [*first["cohorts"], more]


def test_loading_needs_neither_torch_nor_ray():
    heavy = "[m for m in ('torch', 'ray', 'mlflow') if m in sys.modules]"
    code = f"import sys, analysis.load, analysis.compare; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
