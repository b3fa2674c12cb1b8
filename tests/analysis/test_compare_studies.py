"""Two studies against each other: known answers, the report's own shares, matched cells, and what is told beside."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import json

import pandas as pd
import pytest

from analysis.compare import losses_table
from analysis.compare_cells import ALL, COMMON, OWN
from analysis.compare_page import write_comparison
from analysis.compare_studies import ComparisonError, compare_studies
from analysis.estimators import Estimate, difference, wilson
from analysis.files import OutputError
from tests.analysis.synthetic import make_frames

RATES = (1e-4, 1e-3, 1e-2)


def converged_below(count):
    """Exactly ``count`` replicates of every cell converge, the others collapse."""
    return lambda loss, k, rate, replicate: "converged" if replicate < count else "collapsed"


def made(name, *, outcome=None, seed=0, **changes):
    outcome = outcome or converged_below(6)
    return make_frames(study=name, outcome=outcome, seed=seed, **{"replicates": 10, "learning_rates": RATES, **changes})


def row(found, loss="minimax"):
    return found.table.set_index("loss").loc[loss]


def test_one_cell_is_newcombes_interval():
    """56/70 against 48/80: .2000 (.0524, .3339), Newcombe 1998; one loss, so nothing is shared among several."""
    cell = {"losses": ("minimax",), "ks": (1,), "learning_rates": (1e-3,)}
    first = made("a", outcome=converged_below(48), replicates=80, **cell)
    second = made("b", outcome=converged_below(56), replicates=70, seed=1, **cell)
    found = row(compare_studies(first, second))
    assert found["difference"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert (found["low_95"], found["high_95"]) == (found["low"], found["high"])
    assert (found["runs_a"], found["runs_b"]) == (80, 70)


def test_one_cell_has_the_exact_p_of_fisher():
    """8/10 against 3/10: .0697786."""
    cell = {"losses": ("minimax",), "ks": (1,), "learning_rates": (1e-3,)}
    pair = made("a", outcome=converged_below(3), **cell), made("b", outcome=converged_below(8), seed=1, **cell)
    assert row(compare_studies(*pair))["p_exact"] == pytest.approx(0.0697786, abs=1e-7)


def test_shares_are_those_of_each_studys_own_report_and_differences_are_movers():
    first, second = made("a", outcome=converged_below(2)), made("b", outcome=converged_below(8), seed=1)
    found = compare_studies(first, second)
    for name, frames in (("a", first), ("b", second)):
        own = losses_table(frames).set_index("loss")
        for part in ("", "_low", "_high"):
            assert row(found)[f"success_{name}{part}"] == own.loc["minimax", f"success{part}"]
    one = row(found)
    before, after = (
        Estimate(value=one[f"success_{n}"], low=one[f"success_{n}_low"], high=one[f"success_{n}_high"]) for n in "ab"
    )
    expected = difference(after, before)
    assert (one["low_95"], one["high_95"]) == pytest.approx((expected.low, expected.high))
    assert one["low"] < one["low_95"], "over both losses at once it is wider"
    assert one["over"] == ALL
    assert one["verdict"] == "b is materially more stable than a"
    assert one["winner"] == "b"
    assert found.grids == ()
    assert found.remarks == ()


def test_swapping_the_studies_turns_every_sign():
    pair = made("a", outcome=converged_below(3)), made("b", outcome=converged_below(7), seed=1)
    there, back = row(compare_studies(*pair)), row(compare_studies(*pair[::-1]))
    assert back["difference"] == -there["difference"]
    assert (back["low"], back["high"]) == pytest.approx((-there["high"], -there["low"]))
    assert back["unstable_difference"] == pytest.approx(-there["unstable_difference"])
    assert back["p_exact"] == there["p_exact"]
    assert (there["winner"], back["winner"]) == ("b", "b")


def test_slower_is_not_less_stable():
    """More success by less under-training alone: more successful, never more stable."""
    slow = lambda count: lambda loss, k, rate, r: "converged" if r < count else "under_trained"  # noqa: E731
    found = row(compare_studies(made("short", outcome=slow(2)), made("long", outcome=slow(9), seed=1)))
    assert found["verdict"] == "long is materially more successful than short"
    assert found["unstable_difference"] == 0


def test_equal_studies_are_undetermined_or_equivalent_never_different():
    few = row(compare_studies(made("a"), made("b", seed=1)))
    assert few["verdict_kind"] == "undetermined"
    assert few["seeds_needed"] > 0
    many = row(compare_studies(made("a", replicates=100), made("b", seed=1, replicates=100)))
    assert many["verdict_kind"] == "equivalent"


def test_cells_that_move_in_opposite_directions_have_no_winner():
    tilted = lambda good: lambda loss, k, rate, r: "converged" if (rate < 1e-3) == good else "diverged"  # noqa: E731
    changes = {"learning_rates": (1e-4, 1e-2), "replicates": 20}
    found = row(
        compare_studies(made("a", outcome=tilted(True), **changes), made("b", outcome=tilted(False), seed=1, **changes))
    )
    assert found["crossing"]
    assert found["verdict_kind"] == "crossing"


def test_other_learning_rates_are_told_and_only_common_cells_compared():
    """Success depends on the rate alone: over the common rates nothing differs, over the whole grids much would."""
    falling = lambda loss, k, rate, r: "converged" if rate < 5e-3 else "diverged"  # noqa: E731
    first = made("a", outcome=falling, learning_rates=(1e-4, 1e-3), replicates=40)
    second = made("b", outcome=falling, learning_rates=(1e-3, 1e-2), replicates=40, seed=1)
    found = compare_studies(first, second)
    assert row(found)["over"] == COMMON
    assert row(found)["cells"] == 2
    assert row(found)["difference"] == 0
    assert found.grids[0] == "learning_rate: {1e-4, 1e-3} in a, {1e-3, 1e-2} in b"
    assert "minimax: 2 cells in common, 2 only in a, 2 only in b" in found.grids


def test_without_a_common_cell_each_studys_own_success_is_compared_and_said_so():
    first, second = made("a", learning_rates=(1e-4, 1e-3)), made("b", learning_rates=(3e-4, 3e-3), seed=1)
    found = row(compare_studies(first, second))
    assert found["over"] == OWN
    assert pd.isna(found["p_exact"])


def test_a_constant_factor_that_differs_is_the_treatment_not_the_grid():
    """k = 1 against k = 3, the same rates: three matched cells, an exact test, no word about grids."""
    first, second = made("a", ks=(1,)), made("b", ks=(3,), seed=1)
    found = compare_studies(first, second)
    assert row(found)["over"] == ALL
    assert row(found)["cells"] == 3
    assert not pd.isna(row(found)["p_exact"])
    assert found.grids == ()


def test_missing_runs_widen_what_the_verdict_is_read_from():
    lost = lambda loss, k, rate, r: "failed" if r >= 8 else "converged" if r < 6 else "collapsed"  # noqa: E731
    found = row(compare_studies(made("a", outcome=converged_below(2)), made("b", outcome=lost, seed=1)))
    assert found["low_worst"] < found["low"] - 0.05
    assert found["runs_b"] == 48


def test_the_same_runs_and_other_criteria_are_told():
    first, second = made("a"), made("b")  # the same seeds
    other = dataclasses.replace(second, spec={**second.spec, "criteria": {"u_converged": 0.2}})
    remarks = compare_studies(first, other).remarks
    assert "120 runs of 120 have the same configuration and seed" in remarks[0]
    assert "judged by different criteria" in remarks[1]


def test_blocked_evidence_gives_no_verdict():
    interim = made("b", seed=1, outcome=converged_below(10))
    interim = dataclasses.replace(interim, provenance={**interim.provenance, "interim": True})
    found = compare_studies(made("a", outcome=converged_below(1)), interim)
    assert found.blocked
    assert found.headline.startswith("Blocked, so no verdict: b: ")
    assert set(found.table["verdict_kind"]) == {"blocked"}
    assert set(found.table["winner"]) == {""}


def test_losses_in_one_study_only_are_named_and_none_in_common_is_refused():
    first, second = made("a", losses=("minimax", "hinge")), made("b", losses=("hinge", "wgan_gp"), seed=1)
    found = compare_studies(first, second)
    assert (found.only_first, found.only_second) == (("minimax",), ("wgan_gp",))
    assert list(found.table["loss"]) == ["hinge"]
    with pytest.raises(ComparisonError, match="no loss in common: a has minimax; c has wgan_gp"):
        compare_studies(made("a", losses=("minimax",)), made("c", losses=("wgan_gp",), seed=1))


def test_the_headline_says_what_moved_and_what_is_open():
    rises = lambda loss, k, rate, r: "converged" if r < (9 if loss == "minimax" else 5) else "collapsed"  # noqa: E731
    told = compare_studies(made("a", outcome=converged_below(4)), made("b", outcome=rises, seed=1)).headline
    assert told.startswith("minimax is materially more stable in b (+50 points, ")
    assert "b minus a" in told
    assert "Undetermined: wgan_gp (about" in told


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_self_contained_scriptless_and_escapes_every_name(tmp_path):
    bad = ("<script>alert(1)</script>", "=cmd()", "x\u202ey", "hinge")
    first, second = made('<img src=x onerror="a()">', losses=bad), made("=b", losses=bad, seed=1)
    found = compare_studies(first, second)
    page = write_comparison(found, differences=["<b>: 1 -> 2", "k\u202e: 1 -> 2"], out=tmp_path / "out")
    elements = Elements(page.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in elements.found]
    assert not {"script", "img", "link", "iframe", "b"} & set(tags)
    assert tags.count("style") == 1
    (policy,) = [a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert "<script>alert(1)</script>" in "".join(elements.text)
    for path in page.parent.iterdir():
        assert "\u202e" not in path.read_text(encoding="utf-8"), path.name
    with (page.parent / "compare.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [one["loss"] for one in rows] == ["<script>alert(1)</script>", "'=cmd()", "x\\u202ey", "hinge"]
    assert {one["study_b"] for one in rows} == {"'=b"}
    summary = json.loads((page.parent / "compare.json").read_text(encoding="utf-8"))
    assert [one["loss"] for one in summary["losses"]] == list(bad)


def test_two_writings_are_equal_and_a_foreign_folder_is_left_alone(tmp_path):
    found = compare_studies(made("a"), made("b", seed=1))
    first = write_comparison(found, differences=[], out=tmp_path / "one").parent
    again = write_comparison(found, differences=[], out=tmp_path / "two").parent
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}
    assert {p.name for p in first.iterdir()} == {"compare.html", "compare.csv", "compare.json", "manifest.json"}
    (first / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        write_comparison(found, differences=[], out=first)
    assert wilson(0.5, 10)[0] > 0  # the estimator behind it all is the report's own
