"""Scientific choices beside the loss: each value of them against another, by known answers."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from analysis.arms import share
from analysis.choices import COLUMNS, choice_tables, scientific_choices
from analysis.compare import arms
from analysis.compare_studies import compare_studies
from analysis.estimators import difference
from analysis.report import build_report, data_files, report_tables
from tests.analysis.synthetic import make_frames

ONE_CELL = {"losses": ("minimax",), "ks": (1,), "learning_rates": (1e-3,)}


def part(converging, *, seed, **changes):
    """A study in which exactly ``converging`` replicates of every cell converge, the others collapse."""
    return make_frames(
        outcome=lambda loss, k, rate, replicate: "converged" if replicate < converging else "collapsed",
        seed=seed,
        **changes,
    )


def joined(factor, parts):
    """One study of several, which differ in ``factor``."""
    runs, curves = [], []
    for value, frames in parts.items():
        tagged = {"configuration_key": lambda t, value=value: t["configuration_key"].astype(str) + f"-{value}"}
        runs.append(frames.runs.assign(**{factor: value}, **tagged))
        curves.append(frames.curves.assign(**tagged))
    first = next(iter(parts.values()))
    spec = {**first.spec, "scientific": {**first.spec["scientific"], factor: list(parts)}}
    together = [pd.concat(tables, ignore_index=True) for tables in (runs, curves)]
    return dataclasses.replace(first, runs=together[0], curves=together[1], spec=spec, plan={})


def two(**changes):
    parts = {"float32": part(3, seed=1, **changes), "bfloat16": part(5, seed=2, **changes)}
    return joined("precision", parts), parts


def test_one_cell_is_newcombes_interval_and_fishers_p():
    """56/70 against 48/80: .2000 (.0524, .3339), Newcombe 1998. 8/10 against 3/10: p .0697786."""
    parts = {
        "float32": part(48, seed=1, replicates=80, **ONE_CELL),
        "bfloat16": part(56, seed=2, replicates=70, **ONE_CELL),
    }
    (row,) = choice_tables(joined("precision", parts))["choices"].to_dict("records")
    assert (row["factor"], row["loss"], row["value_a"], row["value_b"]) == (
        "precision",
        "minimax",
        "float32",
        "bfloat16",
    )
    assert row["difference"] == pytest.approx(0.2)
    assert (row["low"], row["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    few = {"sgd": part(3, seed=1, replicates=10, **ONE_CELL), "adam": part(8, seed=2, replicates=10, **ONE_CELL)}
    (row,) = choice_tables(joined("optimizer", few))["choices"].to_dict("records")
    assert row["p_exact"] == pytest.approx(0.0697786, abs=1e-7)


def test_two_values_are_compared_as_two_studies_would_be():
    whole, parts = two(replicates=9)
    named = [dataclasses.replace(frames, study=value) for value, frames in parts.items()]
    found = choice_tables(whole)["choices"]
    apart = compare_studies(*named).table.rename(columns={"study_a": "value_a", "study_b": "value_b"})
    pd.testing.assert_frame_equal(found.drop(columns="factor"), apart)
    assert tuple(found.columns) == COLUMNS


def test_intervals_hold_over_all_pairs_of_values_and_all_losses():
    changes = {"replicates": 9, "ks": (1,), "learning_rates": (1e-3, 1e-2)}
    parts = {name: part(i, seed=i, **changes) for i, name in ((3, "float32"), (4, "tf32"), (6, "bfloat16"))}
    found = choice_tables(joined("precision", parts))["choices"]
    assert len(found) == 3 * 2
    assert list(found["value_b"]) == ["tf32"] * 2 + ["bfloat16"] * 4
    row = found.iloc[-1]
    ends = [share(arms(parts[name])[row["loss"]], "grid", alpha=0.05 / 6) for name in ("bfloat16", "tf32")]
    expected = difference(*ends)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_only_words_beside_the_loss_are_choices():
    plain = part(3, seed=1)
    assert scientific_choices(plain) == {}, "k is a number, and the losses have tables of their own"
    assert choice_tables(plain) == {}
    whole, _ = two()
    assert scientific_choices(whole) == {"precision": ["float32", "bfloat16"]}
    of_nuisance = {
        **whole.spec,
        "scientific": {"loss": ["minimax"]},
        "nuisance": {"precision": ["float32", "bfloat16"]},
    }
    assert choice_tables(dataclasses.replace(whole, spec=of_nuisance)) == {}
    adapted = {**whole.spec, "search": {"method": "optuna", "sampler": "tpe"}}
    assert choice_tables(dataclasses.replace(whole, spec=adapted)) == {}


def test_the_report_tells_them_and_says_nothing_where_there_are_none(tmp_path):
    whole, parts = two(replicates=9)
    build_report(whole, out=tmp_path / "with")
    build_report(parts["float32"], out=tmp_path / "without")
    assert (tmp_path / "with/choices.csv").exists()
    assert not (tmp_path / "without/choices.csv").exists()
    assert "choices.csv" in data_files(report_tables(whole))
    for name, mark in (("report.md", "## Choices beside the loss"), ("report.html", 'id="choices"')):
        texts = [(tmp_path / folder / name).read_text() for folder in ("with", "without")]
        assert mark in texts[0]
        assert "bfloat16" in texts[0]
        assert mark not in texts[1]
