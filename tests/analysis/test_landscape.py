"""Two factors at once, and which factor separates the best settings."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.compare import losses_table
from analysis.importance import importance_rows, importance_table
from analysis.landscape import landscape_table, smoothed
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def ending(succeeds):
    return lambda loss, k, rate, replicate: "converged" if replicate == 0 or succeeds(k, rate) else "collapsed"


@pytest.mark.parametrize(
    ("succeeds", "factor"), [(lambda k, rate: rate == 1e-3, "learning_rate"), (lambda k, rate: k == 2, "k")]
)
def test_the_factor_that_decides_is_the_important_one(succeeds, factor):
    frames = make_frames(losses=("hinge",), ks=(1, 2, 5), learning_rates=RATES, replicates=3, outcome=ending(succeeds))
    table = importance_table(frames).set_index("factor")["importance"]
    assert table[factor] > 0.9
    assert table.sum() == pytest.approx(1)


def test_importances_do_not_depend_on_the_unit_of_the_learning_rate():
    succeeds = ending(lambda k, rate: rate < 2e-4 or k == 2)
    frames = make_frames(losses=("hinge",), ks=(1, 2, 5), learning_rates=RATES, replicates=3, outcome=succeeds)
    scaled = replace(frames, runs=frames.runs.assign(learning_rate=frames.runs["learning_rate"] * 1000))
    one, other = importance_table(frames)["importance"], importance_table(scaled)["importance"]
    assert one.tolist() == pytest.approx(other.tolist(), abs=1e-9)


def test_nothing_is_important_where_settings_are_few_or_all_alike():
    few = make_frames(losses=("hinge",), ks=(1,), learning_rates=RATES)
    alike = make_frames(losses=("hinge",), ks=(1, 2), learning_rates=RATES, outcome=lambda *_: "diverged")
    assert not len(importance_table(few))
    assert not len(importance_table(alike))
    assert importance_rows({"importance": importance_table(alike), "losses": losses_table(alike)}) == ([], [])


def test_a_penalty_weight_spans_the_second_axis_and_pools_the_other_factors():
    frames = make_frames(
        losses=("ns_r1", "hinge"),
        ks=(1, 2),
        learning_rates=(1e-3, 1e-2),
        replicates=3,
        penalty_weights={"ns_r1": (0.1, 1.0)},
        outcome=lambda loss, k, rate, r: "converged" if rate == 1e-3 and r < k else "diverged",
    )
    table = landscape_table(frames, losses_table(frames))
    assert set(table["loss"]) == {"ns_r1"}  # hinge has nothing that the phase diagrams do not show
    assert table[["rate", "value", "settings", "judged", "converged"]].to_numpy().tolist() == [
        [1e-3, 0.1, 2, 6, 3],
        [1e-3, 1.0, 2, 6, 3],
        [1e-2, 0.1, 2, 6, 0],
        [1e-2, 1.0, 2, 6, 0],
    ]
    drawn = replace(frames, spec={**frames.spec, "search": {"method": "random"}})
    assert dict(landscape_table(drawn, losses_table(drawn)).groupby("loss")["factor"].first()) == {
        "ns_r1": "penalty_weight",
        "hinge": "k",
    }


def test_the_smoothed_surface_is_a_weighted_mean_and_silent_far_from_every_setting():
    points, shares, runs = np.array([[0.2, 0.2], [0.4, 0.2]]), np.array([0.0, 1.0]), np.array([1.0, 3.0])
    width = math.sqrt(1 / 12) * 2 ** (-1 / 6)
    middle, at_first, far = smoothed(points, shares, runs, np.array([[0.3, 0.2], [0.2, 0.2], [1.0, 1.0]]))
    assert middle == pytest.approx(0.75)  # equally far: the runs decide
    away = math.exp(-(0.2**2) / (2 * width**2))
    assert at_first == pytest.approx(3 * away / (1 + 3 * away))
    assert math.isnan(far)
