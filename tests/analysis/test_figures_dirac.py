"""The report of a Dirac-GAN study: predictions held against outcomes, the boundary, and a page without nonsense."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.dirac_cells import agreement, is_dirac, oracle_table
from analysis.figures_dirac import boundary_figure
from analysis.frames import StudyFrames
from analysis.profile import PROFILE_FILES
from analysis.report import build_report
from analysis.report_dirac import agreement_sentence
from tests.analysis.synthetic import make_frames
from trainers.dirac import Game, converges, equal_steps

RATES, WEIGHTS, HORIZON = (0.05, 0.2, 0.8, 3.2), (0.05, 0.5, 5.0), 2000
EVALUATIONS = 40


def frames(
    *,
    wrong: tuple[int, ...] = (),
    optimizer: str = "sgd",
    ks: tuple[int, ...] = (1, 5),
    weights: tuple[float, ...] = WEIGHTS,
) -> StudyFrames:
    """A study whose settings all end as predicted, but for the numbers in ``wrong``."""
    runs, curves, configurations = [], [], []
    entries = [("minimax", "none", 0.0), *(("minimax+r1", "r1", weight) for weight in weights)]
    for i, ((label, penalty, weight), k, rate) in enumerate(itertools.product(entries, ks, RATES)):
        key = f"{i:016x}"
        game = Game(loss="minimax", penalty=penalty, penalty_weight=weight)
        ends = converges(game, equal_steps(rate, k=k)) != (i in wrong)
        factors: dict[str, Any] = {"k": k, "learning_rate": rate, "batch_size": 4, "optimizer": optimizer}
        factors |= {"updates": "alternating", "momentum": 0.0} | ({"penalty_weight": weight} if penalty == "r1" else {})
        names = {"configuration_key": key, "loss": label, "adversarial_loss": "minimax", "penalty": penalty}
        budget = {"evaluations": EVALUATIONS, "evaluation_samples": 32, "unit": "generator_steps", "value": HORIZON}
        seeds = [2 * i, 2 * i + 1]
        configurations.append(
            {**names, "factors": factors, "horizon": HORIZON, "replicates": 2, "seeds": seeds, "budget": budget}
        )
        for replicate in range(2):
            end = {"outcome": "converged" if ends else "oscillating", "kind": "", "t_event": math.nan, "margin": 0.5}
            runs.append({**names, **factors, "replicate": replicate, "seed": seeds[replicate], **end})
            curves.append(_orbit(key, replicate, shrinking=ends))
    spec = {
        "study": "oracle",
        "target": {"name": "dirac"},
        "networks": {"name": "dirac", "initial": {"radius": 1e-3}},
        "fixed": {"optimizer": optimizer, "momentum": 0.0, "batch_size": 4},
        "budget": configurations[0]["budget"],
    }
    made = make_frames(losses=("minimax",), ks=(1,), learning_rates=(1e-3,), replicates=1)
    return dataclasses.replace(
        made,
        study="oracle",
        runs=pd.DataFrame(runs),
        curves=pd.concat(curves, ignore_index=True),
        spec=spec,
        reference={"targets": {"0": {"rule": "radius", "dimensions": 1, "modes": 0}}},
        plan={"configurations": configurations},
    )


def _orbit(key: str, replicate: int, *, shrinking: bool) -> pd.DataFrame:
    step = np.linspace(0, HORIZON, EVALUATIONS + 1)
    radius, angle = 1e-3 * np.exp(-8 * step / HORIZON * shrinking), step / 37
    columns = {
        "generator_step": step.astype(int),
        "evaluation": range(len(step)),
        "finite": True,
        "distance": radius,
        "generator_parameter": radius * np.cos(angle),
        "discriminator_parameter": radius * np.sin(angle),
    }
    return pd.DataFrame(columns).assign(configuration_key=key, replicate=replicate)


def test_every_setting_is_predicted_and_one_that_ends_otherwise_is_found() -> None:
    clean = oracle_table(frames())
    assert len(clean) == 4 * 2 * len(RATES)
    assert set(clean["status"]) == {"agrees", "too slow"}
    for row in clean.to_dict("records"):
        game = Game(loss="minimax", penalty=row["penalty"], penalty_weight=row["penalty_weight"])
        radius = row["spectral_radius"]
        assert (row["predicted"] == "converges") == converges(
            game, equal_steps(row["generator_learning_rate"], k=row["k"])
        )
        slow = row["predicted"] == "converges" and 4 / -math.log(radius) > HORIZON
        assert (row["status"] == "too slow") == slow
    assert clean.loc[(clean["penalty"] == "none"), "predicted"].eq("does not converge").all()
    place = clean.index[clean["status"] == "agrees"][3]
    flipped = oracle_table(frames(wrong=(int(place),)))
    assert flipped.index[flipped["status"] == "disagrees"].tolist() == [place]
    counts = agreement(flipped)
    assert (counts.agreeing + counts.disagreeing + counts.too_slow, counts.disagreeing) == (len(clean), 1)


def test_one_replicate_of_two_is_no_agreement() -> None:
    made = frames()
    first = oracle_table(made).query("status == 'agrees' and predicted == 'converges'").iloc[0]["configuration_key"]
    runs = made.runs.copy()
    runs.loc[runs.index[runs["configuration_key"] == first][0], "outcome"] = "plateau"
    assert agreement(oracle_table(dataclasses.replace(made, runs=runs))).disagreeing == 1


def test_theory_is_silent_about_other_optimizers_and_failed_runs_are_not_judged() -> None:
    assert set(oracle_table(frames(optimizer="adam"))["status"]) == {"no theory"}
    made = frames()
    failed = dataclasses.replace(made, runs=made.runs.assign(outcome="failed"))
    assert set(oracle_table(failed)["status"]) == {"unjudged"}
    assert "No setting of this study can be compared" in agreement_sentence(failed)


def test_the_sentence_counts_what_the_table_holds() -> None:
    cells = agreement(oracle_table(frames()))
    text = agreement_sentence(frames())
    assert text.startswith(f"Of {cells.compared} settings that the closed form speaks of, all end as it says")
    assert f"{cells.too_slow} more converge" in text or cells.too_slow == 1
    wrong = agreement_sentence(frames(wrong=(0, 1)))
    assert f"{cells.compared - 2} end as it says" in wrong
    assert "2 do not" in wrong


def test_the_boundary_runs_between_the_cells_that_converge_and_those_that_do_not() -> None:
    made = frames(weights=tuple(np.geomspace(0.05, 5, 6).tolist()))
    cells = oracle_table(made)
    figure = boundary_figure(cells)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("minimax+r1")]
    assert [axes.get_title(loc="left") for axes in panels] == ["minimax+r1, k = 1", "minimax+r1, k = 5"]
    for axes, k in zip(panels, (1, 5), strict=True):
        segments = [path.vertices for line in axes.collections for path in line.get_paths() if len(path.vertices)]
        points = np.concatenate(segments)
        assert len(points) > 50
        for x, y in points[:: max(1, len(points) // 40)]:
            sides = [
                converges(
                    Game(loss="minimax", penalty="r1", penalty_weight=10 ** (y + dy)), equal_steps(10 ** (x + dx), k=k)
                )
                for dx, dy in itertools.product((-0.02, 0.02), repeat=2)
            ]
            assert len(set(sides)) == 2  # a small step to some side crosses it


def test_players_with_different_rates_have_a_table_and_no_plane() -> None:
    made = frames()
    runs = made.runs.rename(columns={"learning_rate": "generator_learning_rate"})
    runs["discriminator_learning_rate"] = 2 * runs["generator_learning_rate"]
    cells = oracle_table(dataclasses.replace(made, runs=runs))
    assert (cells["discriminator_learning_rate"] == 2 * cells["generator_learning_rate"]).all()
    assert boundary_figure(cells).axes == []


@pytest.mark.slow
def test_the_page_shows_the_oracle_and_speaks_of_neither_modes_nor_verdicts(tmp_path: Path) -> None:
    made = frames(wrong=(9,))
    assert is_dirac(made)
    report = build_report(made, out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Against the closed form" in page
    assert "SGD (0)" not in report.headline
    assert "on the Dirac-GAN" in report.headline
    assert "more stable" not in report.headline
    assert "u_converged" not in page
    assert "After tuning" not in page
    assert "How far this carries" not in page
    assert "lead of" not in report.headline
    assert not {"W09", "W23"} & {str(w["id"]) for w in report.warnings}
    for name in PROFILE_FILES:
        lines = (tmp_path / "report" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1, name  # a header and no row
    assert "shrinkage" in page
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert {"dirac_boundary.svg", "dirac_boundary.csv", "examples_converged.png", "phase_diagrams.png"} <= figures
    table = pd.read_csv(tmp_path / "report" / "figures" / "dirac_boundary.csv")
    counts = agreement(oracle_table(made))
    assert (table["status"] == "disagrees").sum() == counts.disagreeing == 1
    assert f"{counts.disagreeing} disagree" in page


def test_other_studies_have_no_oracle() -> None:
    assert not is_dirac(make_frames())
