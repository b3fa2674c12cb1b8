"""Optional measurements in the analysis: columns known from the plan, values that decide no outcome."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.assemble import CURVE_COLUMNS, Judging, build_runs, clean_curves, measured
from analysis.report import RUN_COLUMNS, build_report, runs_table
from analysis.table import TableError, load_runs
from study.outcomes import Criteria
from tests.analysis.synthetic import REFERENCE, TARGET_ID, make_frames
from trainers.measurement import MEASUREMENTS

JUDGING = Judging(criteria=Criteria(), references={TARGET_ID: REFERENCE}, may_prune=False)
FIRST_FIVE = slice(0, 5)


@pytest.fixture
def frames():
    return make_frames(
        losses=("hinge", "minimax"), ks=(1,), learning_rates=(1e-3,), replicates=2, outcome=lambda *_: "converged"
    )


def planned(frames, *groups):
    """The plan with the groups switched on in every configuration."""
    entries = [{**entry, "measurements": list(groups)} for entry in frames.plan["configurations"]]
    return {**frames.plan, "configurations": entries}


def test_a_plan_without_groups_gives_todays_columns(frames):
    assert measured(frames.plan) == tuple(MEASUREMENTS)
    curves, _ = clean_curves([frames.curves], frames.plan)
    assert tuple(curves.columns) == CURVE_COLUMNS
    runs = build_runs(frames.plan, curves, JUDGING)
    assert [name for name in runs if name.startswith("final_")] == [f"final_{name}" for name in MEASUREMENTS]
    assert tuple(runs_table(runs).columns[: len(RUN_COLUMNS)]) == RUN_COLUMNS


def test_columns_are_there_although_no_row_ever_came(frames):
    plan = planned(frames, "duality_gap", "rotation")
    curves, _ = clean_curves([], plan)
    runs = build_runs(plan, curves, JUDGING)
    assert tuple(curves.columns) == (*CURVE_COLUMNS, "duality_gap", "generator_rotation", "discriminator_rotation")
    finals = ["final_duality_gap", "final_generator_rotation", "final_discriminator_rotation"]
    assert runs[finals].isna().all(axis=None)
    assert (runs["outcome"] == "failed").all()
    assert runs_table(runs).columns[len(RUN_COLUMNS) : len(RUN_COLUMNS) + 3].tolist() == finals


def test_configurations_may_differ_in_their_groups(frames):
    plan = planned(frames)
    plan["configurations"][0]["measurements"] = ["off_mode"]
    key = plan["configurations"][0]["configuration_key"]
    own = frames.curves[frames.curves["configuration_key"] == key].assign(mode_kl_off=0.25)
    others = frames.curves[frames.curves["configuration_key"] != key]
    curves, _ = clean_curves([own, others], plan)
    runs = build_runs(plan, curves, JUDGING)
    assert runs["final_mode_kl_off"].tolist()[:2] == [0.25, 0.25]
    assert runs["final_mode_kl_off"].isna().tolist() == [False, False, True, True]


def test_an_unbounded_diagnosis_kills_nobody_where_a_loss_would(frames):
    plan = planned(frames, "duality_gap")
    for value in (np.inf, 1.7e308, np.nan):
        curves = frames.curves.assign(duality_gap=0.5)
        curves.loc[FIRST_FIVE, "duality_gap"] = value
        cleaned, _ = clean_curves([curves], plan)
        assert cleaned["finite"].all()
        assert cleaned["duality_gap"].isna().sum() == 6
        pd.testing.assert_series_equal(
            build_runs(plan, cleaned, JUDGING)["outcome"],
            build_runs(frames.plan, clean_curves([frames.curves], frames.plan)[0], JUDGING)["outcome"],
        )
        poisoned = curves.assign(generator_loss=curves["duality_gap"])
        assert clean_curves([poisoned], plan)[0]["finite"].all() == bool(np.isnan(value))


def test_a_report_with_groups_writes_them_and_one_without_does_not(frames, tmp_path):
    plan = planned(frames, "duality_gap", "frechet")
    curves, _ = clean_curves([frames.curves.assign(duality_gap=0.5, frechet_distance=0.1)], plan)
    with_groups = replace(frames, plan=plan, curves=curves, runs=build_runs(plan, curves, JUDGING))
    build_report(with_groups, out=tmp_path / "with")
    table = pd.read_csv(tmp_path / "with" / "runs.csv")
    assert table["final_duality_gap"].eq(0.5).all()
    assert "frechet_distance" in pd.read_parquet(tmp_path / "with" / "curves.parquet")
    assert not {"final_duality_gap", "final_frechet_distance"} & set(with_groups.factors())
    build_report(frames, out=tmp_path / "without")
    assert "final_duality_gap" not in pd.read_csv(tmp_path / "without" / "runs.csv")
    again = load_runs(tmp_path / "with" / "runs.csv")
    assert again.runs["final_duality_gap"].tolist() == [0.5] * 4
    assert not [name for name in again.provenance["ignored_columns"] if name.startswith("final_")]


def test_misspelt_final_values_in_a_table_made_elsewhere_are_told(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("loss,k,learning_rate,replicate,outcome,final_dualty_gap\nhinge,1,1e-3,0,converged,0.5\n")
    with pytest.raises(TableError, match="'final_dualty_gap' is not known, did you mean 'final_duality_gap'"):
        load_runs(path)
