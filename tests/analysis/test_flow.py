"""The exclusion flow: what is lost between two steps is their difference, whatever the runs, and every file agrees."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections import Counter

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.files import csv_text, json_text
from analysis.report import Report, report_tables, runs_table, summary
from analysis.report_text import flow
from analysis.robustness import robustness
from study.outcomes import OUTCOMES
from tests.analysis.synthetic import make_frames

ENDINGS = [*((name, "") for name in OUTCOMES), ("failed", "missing"), ("plateau", "partial_collapse")]


@st.composite
def any_runs(draw) -> pd.DataFrame:
    """Runs that ended in any way, in any order; a missing one has no data."""
    ended = draw(st.lists(st.sampled_from(ENDINGS), max_size=40))
    return pd.DataFrame(
        {
            "configuration_key": [f"c{i % 3}" for i in range(len(ended))],
            "loss": [("hinge", "=minimax()", "x\u202ey")[i % 3] for i in range(len(ended))],
            "replicate": pd.Series(range(len(ended)), dtype="int64"),
            "outcome": pd.Series([outcome for outcome, _ in ended], dtype=object),
            "kind": pd.Series([kind for _, kind in ended], dtype=object),
        }
    )


def lost(step) -> int:
    """The runs that a step's words say were lost after it."""
    return sum(int(re.match(r"\d+", part).group()) for part in step["lost"])


def recounted(rows) -> list[int]:
    """Planned, with data and judged, from the rows of runs.csv alone."""
    endings = Counter((row["outcome"], row["kind"]) for row in rows)
    planned = endings.total()
    told = planned - endings["failed", "missing"]
    broken = sum(n for (outcome, kind), n in endings.items() if outcome == "failed" and kind != "missing")
    stopped = sum(n for (outcome, _), n in endings.items() if outcome == "censored")
    return [planned, told, told - broken - stopped]


@settings(max_examples=80, deadline=None)
@given(any_runs())
def test_what_is_lost_at_a_step_is_what_the_next_one_lacks(runs):
    steps = flow(runs)
    assert [step["name"] for step in steps] == ["planned", "with data", "judged"]
    for step, after in itertools.pairwise(steps):
        assert step["count"] - lost(step) == after["count"]
    assert steps[0]["count"] == len(runs)
    assert lost(steps[-1]) == 0


@settings(max_examples=60, deadline=None)
@given(any_runs(), st.randoms(use_true_random=False))
def test_the_flow_is_a_recount_of_runs_csv_in_any_order(runs, random):
    rows = list(csv.DictReader(io.StringIO(csv_text(runs_table(runs)))))
    random.shuffle(rows)
    assert [step["count"] for step in flow(runs)] == recounted(rows)
    order = random.sample(range(len(runs)), len(runs))
    assert flow(runs.iloc[order]) == flow(runs)


@settings(max_examples=30, deadline=None)
@given(any_runs(), any_runs())
def test_the_flows_of_two_halves_add_up(first, second):
    together = flow(pd.concat([first, second], ignore_index=True))
    for whole, one, other in zip(together, flow(first), flow(second), strict=True):
        assert whole["count"] == one["count"] + other["count"]
        assert lost(whole) == lost(one) + lost(other)


def test_report_json_the_tables_and_runs_csv_tell_the_same_flow(tmp_path):
    endings = ("converged", "failed", "censored", "diverged", "plateau", "converged", "collapsed")
    frames = make_frames(
        losses=("hinge", "minimax"),
        ks=(1,),
        learning_rates=(1e-3, 1e-2),
        replicates=7,
        outcome=lambda loss, k, rate, r: endings[(r + (rate > 5e-3) + 2 * (loss == "hinge")) % 7 if r else 1],
    )
    broken = (frames.runs["outcome"] == "failed") & (frames.runs["replicate"] == 0) & (frames.runs["loss"] == "hinge")
    frames.runs.loc[broken, "kind"] = ""
    tables = report_tables(frames)
    report = Report("", tables, [], False, tmp_path, robustness(tables))
    counts = recounted(list(csv.DictReader(io.StringIO(csv_text(tables["runs"])))))
    told = json.loads(json_text(summary(frames, report)))
    assert [told["runs"][name] for name in ("planned", "with_data", "judged")] == counts
    assert counts[0] > counts[1] > counts[2]
    losses = tables["losses"]
    assert losses["runs_planned"].sum() == counts[0]
    assert losses["runs_used"].sum() == counts[2]
    assert counts[0] - (losses["runs_failed"] + losses["censored"]).sum() == counts[2]
    assert sum(n for name, n in told["outcomes"].items() if name not in ("failed", "censored")) == counts[2]
