"""The profile as a whole: one row a loss, whatever the study lacks, and the same whatever the order of its rows."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from analysis.profile import profile_table, stability_profile
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
