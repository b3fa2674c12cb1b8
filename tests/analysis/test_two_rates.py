"""A study with a learning rate for each player: which of them the maps are drawn over, and how it is weighted."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.figures_cells import phase_table, rate_factor
from analysis.frames import StudyFrames
from analysis.weights import weights

RATES = [(1e-3, 1e-3), (1e-3, 4e-3), (1e-2, 1e-2), (1e-2, 4e-2), (1e-2, 1e-1)]


def runs() -> pd.DataFrame:
    """Two replicates per pair of rates; they converge where the generator's rate is the low one."""
    rows = [
        {
            "configuration_key": f"c{i}",
            "loss": "hinge",
            "k": 1,
            "learning_rate": np.nan,
            "generator_learning_rate": g,
            "discriminator_learning_rate": d,
            "replicate": replicate,
            "seed": 10 * i + replicate,
            "outcome": "converged" if g == 1e-3 else "diverged",
            "kind": "",
        }
        for (i, (g, d)), replicate in itertools.product(enumerate(RATES), range(2))
    ]
    return pd.DataFrame(rows)


def test_the_generators_rate_is_the_axis_and_the_discriminators_is_pooled() -> None:
    assert rate_factor(runs()) == "generator_learning_rate"
    table = phase_table(runs(), ["hinge"])
    assert table["learning_rate"].tolist() == [1e-3, 1e-2]
    assert table["settings"].tolist() == [2, 3]
    assert table["planned"].tolist() == [4, 6]
    assert table["share"].tolist() == [1.0, 0.0]


def test_a_common_rate_goes_before_the_generators() -> None:
    assert rate_factor(runs().assign(learning_rate=1e-3)) == "learning_rate"
    assert rate_factor(runs().drop(columns=["generator_learning_rate", "learning_rate"])) is None


def test_pairs_of_rates_weigh_the_same_each() -> None:
    frames = StudyFrames(
        study="two-rates",
        runs=runs(),
        curves=pd.DataFrame(),
        spec={"search": {"method": "grid"}},
        reference={},
        plan={},
        provenance={},
    )
    cells = weights(frames)
    assert cells["weight"].tolist() == pytest.approx([1 / 5] * 5)
