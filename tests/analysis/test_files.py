"""Cells of the report's files: numbers, nothing, and text that no spreadsheet runs."""

import csv

import numpy as np
import pandas as pd
import pytest

from analysis.files import csv_cell, csv_text, json_text
from analysis.report import RUN_COLUMNS, runs_table


class TestCells:
    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
    def test_formulas_in_text_get_a_quote(self, text):
        (cell,) = next(csv.reader([csv_cell(text)]))
        assert cell == "'" + text

    @pytest.mark.parametrize(
        ("value", "cell"),
        [
            (-1.5, "-1.5"),
            (np.int64(-3), "-3"),
            (None, ""),
            (float("nan"), ""),
            (pd.NA, ""),
            (True, "true"),
            ("a,b", '"a,b"'),
        ],
    )
    def test_values(self, value, cell):
        assert csv_cell(value) == cell

    def test_table(self):
        frame = pd.DataFrame({"loss": ['say "hi"', "-x"], "p": [1 / 3, float("nan")]})
        assert csv_text(frame) == 'loss,p\n"say ""hi""",0.3333333333\n\'-x,\n'

    def test_json_has_no_nan_and_sorted_keys(self):
        assert json_text({"b": [np.float64("nan"), np.int64(2)], "a": float("inf")}) == (
            '{\n  "a": null,\n  "b": [\n    null,\n    2\n  ]\n}\n'
        )

    def test_runs_made_elsewhere_get_every_column(self):
        runs = pd.DataFrame(
            {"loss": ["a"], "k": [1.0], "learning_rate": [1e-3], "replicate": [0], "outcome": ["converged"]}
        )
        table = runs_table(runs)
        assert list(table.columns) == list(RUN_COLUMNS)
        assert csv_text(table).splitlines()[1].startswith(",a,,,1,0.001,0,,converged,,")
