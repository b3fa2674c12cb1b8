"""A table of runs made elsewhere: what is read from it, and what is refused."""

import json

import pandas as pd
import pytest

from analysis.compare import compare
from analysis.report import build_report
from analysis.table import TableError, load_runs
from tests.analysis.synthetic import make_frames

HEADER = "loss,k,learning_rate,replicate,outcome"


def written(folder, *rows, header=HEADER):
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def refused(folder, *rows, header=HEADER):
    with pytest.raises(TableError) as caught:
        load_runs(written(folder, *rows, header=header))
    return caught.value.problems


def frame_of(found):
    return found.runs[["loss", "k", "learning_rate", "replicate", "outcome"]].to_numpy().tolist()


class TestReading:
    ROWS = ("hinge,1,1e-3,0,converged", "hinge,1,0.001,1,diverged", "abel,2,0.01,0,collapsed")

    def test_five_columns_are_enough(self, tmp_path):
        found = load_runs(written(tmp_path, *self.ROWS))
        assert frame_of(found) == [
            ["hinge", 1, 0.001, 0, "converged"],
            ["hinge", 1, 0.001, 1, "diverged"],
            ["abel", 2, 0.01, 0, "collapsed"],
        ]
        keys = found.runs["configuration_key"].tolist()
        assert keys[0] == keys[1] != keys[2]  # 1e-3 and 0.001 are one setting
        assert found.labels() == ["hinge", "abel"]  # in the table's order
        assert found.runs["adversarial_loss"].tolist() == ["hinge", "hinge", ""]
        assert found.study == "mine"

    def test_parquet_and_csv_agree(self, tmp_path):
        path = written(tmp_path, *self.ROWS)
        pd.read_csv(path).to_parquet(tmp_path / "mine.parquet")
        pd.testing.assert_frame_equal(load_runs(path).runs, load_runs(tmp_path / "mine.parquet").runs)

    def test_names_that_look_absent_stay_names(self, tmp_path):
        found = load_runs(written(tmp_path, "NA,1,1e-3,0,converged", "None,1,1e-3,0,failed", "nan,1,1e-3,0,diverged"))
        assert found.labels() == ["NA", "None", "nan"]

    def test_other_factors_make_other_settings(self, tmp_path):
        rows = ("wgan_gp,1,1e-3,0,converged,1", "wgan_gp,1,1e-3,0,diverged,10")
        found = load_runs(written(tmp_path, *rows, header=HEADER + ",penalty_weight"))
        assert found.runs["configuration_key"].nunique() == 2
        assert found.runs["penalty"].tolist() == ["gradient_penalty"] * 2

    def test_columns_under_other_names_are_left_out_and_told(self, tmp_path):
        found = load_runs(written(tmp_path, "hinge,1,1e-3,0,converged,gpu7", header=HEADER + ",host"))
        assert "host" not in found.runs
        assert found.provenance["ignored_columns"] == ["host"]

    def test_separate_learning_rates_replace_the_common_one(self, tmp_path):
        header = HEADER + ",generator_learning_rate"
        found = load_runs(written(tmp_path, "hinge,1,,0,converged,1e-4", header=header))
        assert found.runs["generator_learning_rate"].tolist() == [1e-4]

    def test_a_seed_keeps_every_digit(self, tmp_path):
        found = load_runs(written(tmp_path, "hinge,1,1e-3,0,converged,2912248385926769851", header=HEADER + ",seed"))
        assert found.runs["seed"].tolist() == [2912248385926769851]


class TestRefusals:
    def test_missing_columns_are_all_named_with_the_nearest(self, tmp_path):
        problems = refused(tmp_path, "hinge,1,1e-3,x", header="loss,k,learning_rates,outcomes")
        assert problems[:3] == [
            "column 'learning_rate' is missing, did you mean 'learning_rates'?",
            "column 'replicate' is missing",
            "column 'outcome' is missing, did you mean 'outcomes'?",
        ]

    def test_a_misspelt_optional_column_is_not_just_left_out(self, tmp_path):
        header = HEADER + ",penalty_wieght"
        (problem,) = refused(tmp_path, "hinge,1,1e-3,0,converged,3", header=header)
        assert problem == "column 'penalty_wieght' is not known, did you mean 'penalty_weight'?"

    def test_unknown_outcomes_name_the_nearest_and_are_counted(self, tmp_path):
        rows = ("hinge,1,1e-3,0,Converged", "hinge,1,1e-3,1,exploded", "hinge,1,1e-3,2,diverged")
        (problem,) = refused(tmp_path, *rows)
        assert "got 'Converged', did you mean 'converged'? (row 1), and 1 more row" in problem

    @pytest.mark.parametrize(
        ("row", "told"),
        [
            ("hinge,two,1e-3,0,converged", "k: must be a number, got 'two' (row 2)"),
            ("hinge,1.5,1e-3,0,converged", "k: must be a whole number, got '1.5' (row 2)"),
            ("hinge,0,1e-3,0,converged", "k: must be a whole number >= 1 and <= 1000, got 0 (row 2)"),
            ("hinge,1,-0.1,0,converged", "learning_rate: must be a number > 0, got -0.1 (row 2)"),
            ("hinge,1,inf,0,converged", "learning_rate: must be a number > 0, got inf (row 2)"),
            ("hinge,1,,0,converged", "learning_rate: must not be empty (row 2)"),
            ("hinge,1,1e-3,-1,converged", "replicate: must be a whole number >= 0, got -1 (row 2)"),
            (",1,1e-3,0,converged", "loss: must not be empty (row 2)"),
            ("hinge,1,1e-3,0,", "outcome: must not be empty (row 2)"),
        ],
    )
    def test_wrong_values_name_field_rule_value_and_row(self, tmp_path, row, told):
        assert refused(tmp_path, "minimax,1,1e-3,0,converged", row) == [told]

    def test_a_replicate_occurs_once(self, tmp_path):
        rows = ("hinge,1,1e-3,4,converged,a", "hinge,2,1e-3,4,converged,a", "hinge,1,0.001,4,diverged,b")
        problems = refused(tmp_path, *rows, header=HEADER + ",width")
        assert problems[0] == "replicate 4 of hinge, k = 1, learning rate 1e-3 occurs twice (rows 1 and 3)"
        assert "add a configuration_key column: width" in problems[1]

    def test_a_key_names_one_setting(self, tmp_path):
        rows = ("hinge,1,1e-3,0,converged,a", "hinge,2,1e-3,1,converged,a")
        (problem,) = refused(tmp_path, *rows, header=HEADER + ",configuration_key")
        assert problem == "configuration_key 'a': has more than one k"

    def test_ragged_empty_and_binary_files(self, tmp_path):
        assert refused(tmp_path, "hinge,1,1e-3,0") == ["row 1 has 4 cells, the header has 5"]
        assert refused(tmp_path) == ["the table has no rows"]
        assert refused(tmp_path, header=HEADER + ",k") == ["column 'k' occurs twice"]
        (tmp_path / "mine.csv").write_bytes(b"")
        with pytest.raises(TableError, match="is empty"):
            load_runs(tmp_path / "mine.csv")
        (tmp_path / "mine.csv").write_bytes(b"PAR1 but not really")
        with pytest.raises(TableError, match="not a readable Parquet file"):
            load_runs(tmp_path / "mine.csv")
        (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(TableError, match="neither Parquet nor CSV"):
            load_runs(tmp_path / "mine.csv")


class TestReport:
    def test_a_reports_own_runs_give_the_same_tables(self, tmp_path):
        """runs.parquet and runs.csv read back: the same shares, tests and verdicts as the study itself."""
        frames = make_frames(losses=("minimax", "=evil", "wgan_gp"), learning_rates=(1e-4, 4.6e-3, 1e-1), replicates=4)
        made = build_report(frames, out=tmp_path / "study")
        for name in ("runs.parquet", "runs.csv"):
            again = compare(load_runs(made.folder / name))
            for table in ("losses", "contrasts", "cells"):
                whole = made.tables[table][list(again[table])]  # the report adds how often a run is better
                pd.testing.assert_frame_equal(again[table], whole, check_dtype=False)

    def test_a_report_without_curves_says_what_it_cannot_know(self, tmp_path):
        rows = [
            f"{loss},1,{rate},{r},{'plateau' if r else 'converged'}"
            for loss in ("a", "b")
            for rate in (0.001, 0.1)
            for r in range(3)
        ]
        made = build_report(load_runs(written(tmp_path, *rows)), out=tmp_path / "out")
        page = (made.folder / "report.html").read_text(encoding="utf-8")
        assert "No curves were recorded" in page
        assert "came with the table" in page
        assert "<code>u_converged</code>" not in page  # nobody knows the criteria behind these outcomes
        assert "W22" in json.loads((made.folder / "report.json").read_text(encoding="utf-8"))["warnings"]
        assert not made.blocked
