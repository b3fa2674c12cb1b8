"""The profile as a whole: one row a loss, whatever the study lacks, and the same whatever the order of its rows."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from analysis.profile import profile_table, stability_profile
from analysis.profile_rows import certify_words, profile_rows, space_rows
from analysis.report import report_tables
from analysis.table import load_runs
from tests.analysis.synthetic import make_frames


@pytest.mark.parametrize(
    "arguments",
    [{}, {"losses": ()}, {"losses": ("hinge",)}, {"outcome": lambda *_: "failed"}, {"outcome": lambda *_: "censored"}],
    ids=["two losses", "no runs", "one loss", "all lost", "all pruned"],
)
def test_one_row_a_loss(arguments):
    frames = make_frames(**arguments)
    table = profile_table(frames)
    assert table["loss"].tolist() == frames.labels()
    assert table.columns.is_unique


def test_rows_of_the_page_come_best_first_and_say_what_the_tables_say():
    ends = {"minimax": 2, "hinge": 8, "wgan_gp": 5}  # of ten replicates, in every cell
    frames = make_frames(
        losses=tuple(ends), ks=(1,), replicates=10, outcome=lambda loss, k, rate, r: end(r < ends[loss])
    )
    tables = report_tables(frames)
    rows = profile_rows(tables)
    assert [row["loss"] for row in rows] == ["hinge", "wgan_gp", "minimax"]
    assert [row["tuned"] for row in rows] == ["80 %", "50 %", "20 %"]  # equal cells: nothing to select
    assert [row["lottery"] for row in rows] == ["67 %", "97 %", ">99 %"]  # 1 - p^5
    assert [row["zones"] for row in rows] == ["3 undecided", "3 ruled out", "3 ruled out"]
    assert [row["setting"] for row in rows] == ["k = 1, lr = 1e-3, or 2 others"] * 3
    assert "with 10 per setting nothing can be certified" in certify_words(tables)
    names, spaces = space_rows(tables)
    assert names == ["the whole space", "without the lowest learning rates", "without the highest learning rates"]
    assert [[cell["text"] for cell in row["cells"]] for row in spaces] == [["80 %"] * 3, ["50 %"] * 3, ["20 %"] * 3]
    assert [[cell["leader"] for cell in row["cells"]] for row in spaces] == [[True] * 3, [False] * 3, [False] * 3]


def end(good):
    return "converged" if good else "diverged"


def test_enough_seeds_are_not_called_too_few():
    frames = make_frames(losses=("hinge",), ks=(1,), replicates=29, outcome=lambda *_: "converged", evaluations=20)
    tables = report_tables(frames)
    (row,) = profile_rows(tables)
    assert (row["certified"], row["zones"], row["lottery"]) == ("2", "3 certified", "none seen")
    assert "nothing can be certified" not in certify_words(tables)


def test_order_and_names_of_rows_change_nothing():
    frames = make_frames(losses=("hinge", "minimax", "wgan_gp"), success=lambda loss, k, rate: 0.6, replicates=5)
    shuffled = dataclasses.replace(frames, runs=frames.runs.sample(frac=1, random_state=4).reset_index(drop=True))
    first, second = (stability_profile(f, criteria_variants=False) for f in (frames, shuffled))
    for name, table in first.items():
        if name != "variance":  # its terms follow the order of the levels, not their values
            pd.testing.assert_frame_equal(table, second[name], check_dtype=False)


def test_runs_made_elsewhere_have_a_profile(tmp_path):
    rows = [
        (loss, 1, rate, r, "converged" if r < 3 else "diverged")
        for loss in ("ours", "theirs")
        for rate in (1e-4, 1e-3, 1e-2)
        for r in range(4)
    ]
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows, columns=["loss", "k", "learning_rate", "replicate", "outcome"]).to_csv(path, index=False)
    found = stability_profile(load_runs(path))
    assert found["profile"]["tuned"].tolist() == pytest.approx([0.75, 0.75])
    assert found["profile"]["mean_time"].isna().all()
    assert not len(found["criteria_pairs"])
    assert len(found["variance"]) == 4
