"""Little, odd or missing data: always a report, never a traceback."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.profile import PROFILE_FILES
from analysis.report import build_report
from tests.analysis.synthetic import make_frames


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """The first line of every table of an ordinary study."""
    made = build_report(make_frames(ks=(1, 2), replicates=2), out=tmp_path_factory.mktemp("ordinary") / "out")
    return headers_of(made.folder)


def headers_of(folder):
    return {name: (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0] for name in PROFILE_FILES}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def never(*_):
    return "failed"


SMALL = {
    "one loss": {"losses": ("minimax",), "ks": (1,), "replicates": 3},
    "one cell": {"losses": ("minimax", "hinge"), "ks": (1,), "learning_rates": (1e-3,), "replicates": 2},
    "one replicate": {"losses": ("minimax",), "ks": (3,), "learning_rates": (1e-3,), "replicates": 1},
    "no runs": {"losses": ()},
    "no replicates": {"replicates": 0},
    "all failed": {"ks": (1,), "replicates": 2, "outcome": never},
    "all diverged": {"ks": (1,), "replicates": 2, "outcome": lambda *_: "diverged"},
    "all converged": {"ks": (1,), "replicates": 2, "outcome": lambda *_: "converged"},
    "some censored": {"ks": (1,), "replicates": 2, "outcome": lambda *a: "censored" if a[3] else "oscillating"},
    "many rates": {"losses": ("minimax",), "learning_rates": tuple(np.logspace(-5, -1, 12)), "replicates": 2},
    "more rates than columns": {
        "losses": ("hinge",),
        "ks": (1,),
        "learning_rates": tuple(np.logspace(-5, -1, 30)),
        "replicates": 1,
    },
    "penalty weights": {"losses": ("wgan_gp",), "penalty_weights": {"wgan_gp": (1.0, 10.0)}, "replicates": 2},
}


@pytest.mark.parametrize("case", SMALL)
def test_little_or_odd_data_still_makes_a_report(case, tmp_path, headers):
    made = build_report(make_frames(**SMALL[case]), out=tmp_path / "out")
    assert headers_of(made.folder) == headers  # an empty table still says what it would hold
    text = (made.folder / "report.md").read_text(encoding="utf-8")
    assert "nan" not in re.findall(r"[a-z]+", text.lower())
    assert made.headline in (made.folder / "report.json").read_text(encoding="utf-8").replace('\\"', '"')
    assert (made.folder / "figures/phase_diagrams.svg").stat().st_size > 500
    assert "Traceback" not in (made.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_many_losses_make_a_report(tmp_path):
    losses = tuple(f"loss-{i:02d}" for i in range(15))
    made = build_report(make_frames(losses=losses, replicates=2, evaluations=20), out=tmp_path / "out")
    assert len(rows_of(made.folder / "contrasts.csv")) == 105
    assert (made.folder / "report.html").read_text(encoding="utf-8").count("<tr") > 105 + 15


def test_missing_measurements_and_tables_from_elsewhere(tmp_path, headers):
    """No modes, no curves, no samples, no spec, no reference: what ``report --runs`` has to work with."""
    frames = make_frames(replicates=3)
    bare = frames.runs[["configuration_key", "loss", "adversarial_loss", "penalty", "k", "learning_rate"]].assign(
        replicate=frames.runs["replicate"], seed=frames.runs["seed"], outcome=frames.runs["outcome"], kind=""
    )
    elsewhere = dataclasses.replace(
        frames,
        runs=bare,
        curves=frames.curves.iloc[:0],
        spec={},
        reference={},
        plan={},
        provenance={},
        sample_source=lambda keys: pd.DataFrame(
            columns=["configuration_key", "replicate", "generator_step", "sample", "x"]
        ),
    )
    made = build_report(elsewhere, out=tmp_path / "out")
    assert rows_of(made.folder / "runs.csv")[0]["final_distance"] == ""
    assert headers_of(made.folder) == headers
    assert rows_of(made.folder / "criteria_variants.csv") == rows_of(made.folder / "incidence.csv") == []
    assert {row["better"] for row in rows_of(made.folder / "contrasts.csv")} == {""}
    assert not {path.stem for path in made.folder.glob("figures/*.svg")} & {"incidence", "criteria"}
    assert (made.folder / "figures/budget.svg").is_file()  # needs no curve
    assert "No curves were recorded" in (made.folder / "report.html").read_text(encoding="utf-8")


def test_absent_modes_leave_their_curves_out(tmp_path):
    frames = make_frames(losses=("hinge",), ks=(1,), replicates=2)
    blind = frames.curves.assign(mode_coverage=float("nan"), high_quality_fraction=float("nan"))
    made = build_report(dataclasses.replace(frames, curves=blind), out=tmp_path / "out")
    (path, *_) = sorted(Path(made.folder).glob("figures/examples_*[!s].csv"))
    assert {row["mode_coverage"] for row in rows_of(path)} == {""}
    assert any(row["u"] for row in rows_of(path))
