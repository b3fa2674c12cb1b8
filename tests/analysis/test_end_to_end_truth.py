"""Two hundred studies of known truth, written as real studies are written, read back, judged and compared.

Fifty of them go all the way: checkpoints, ``Tracker``, MLflow in sqlite, ``load_study``, tables. The others would take
minutes more and go from the checkpoints to ``clean_curves`` and ``build_runs`` directly; that both ways read the same
is tested. Not as in real studies: nothing is trained (each curve is drawn to have its ending), no pictures are made of
samples, and the disk is not asked to make anything durable. "Pruned" changes the scheduler in the written spec, since
no spec offers one yet.

The 400 intervals of the 200 studies must hold the truth in at least 93 %; the nominal 95 % has a standard error of
1.1 % there, so three of them below nominal would be 91.7 %. Seeds are fixed: the figures come out the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from analysis.arms import UNUSED, Arm
from analysis.compare import arms, compare, contrasts_table, losses_table, warnings_list
from analysis.estimators import weighted_share
from analysis.frames import StudyFrames
from analysis.load import load_study
from analysis.report import build_report
from tests.analysis.recorded_studies import LOSSES, RATES, Chance, Written, assembled, write_study
from tests.analysis.recorded_studies import MISHAPS as EVERY_MISHAP

pytestmark = pytest.mark.slow

STUDIES, SENT, REPLICATES = 200, 50, 10
MISHAPS = (
    "none", "clipped", "lost", "resumed", "none", "none", "cut short", "none", "launched twice", "clipped"
)  # fmt: skip
SUCCESS = {
    "far": {"hinge": (0.9, 0.75), "minimax": (0.35, 0.15)},
    "near": {"hinge": (0.85, 0.4), "minimax": (0.75, 0.3)},
    "equal": {"hinge": (0.75, 0.35), "minimax": (0.75, 0.35)},
}
"""P(converged) at k = 1 at the two learning rates; a second update of D costs five points everywhere."""
FAMILIES = ("far", "far", "near", "equal", "equal")


def chance_of(family: str) -> Chance:
    return lambda loss, k, rate: SUCCESS[family][loss][RATES.index(rate)] - 0.05 * (k - 1)


@dataclass(frozen=True)
class Outcome:
    """One study as it was written and as it was read."""

    family: str
    mishap: str
    truth: dict[str, float]
    mislabelled: int
    losses: pd.DataFrame
    contrast: pd.Series
    complete: pd.Series
    wrong: dict[str, dict[str, tuple[float, float]]]


@pytest.fixture(scope="module")
def careless() -> Iterator[None]:
    """No picture is drawn, and no disk waited for."""

    def unsafe(connection, record) -> None:
        connection.execute("pragma synchronous=off")
        connection.execute("pragma journal_mode=memory")

    event.listen(Engine, "connect", unsafe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.results._pictures", lambda configuration, ended: {})
        patch.setattr("os.fsync", lambda descriptor: None)
        yield
    event.remove(Engine, "connect", unsafe)


@pytest.fixture(scope="module")
def home(careless, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("truths") / "runs"


@pytest.fixture(scope="module")
def studies(home) -> list[Outcome]:
    return [observed(home, number) for number in range(STUDIES)]


def observed(home: Path, number: int) -> Outcome:
    family, mishap, k = FAMILIES[number % 5], MISHAPS[number // 5 % 10], 1 + number % 2
    chance = chance_of(family)
    written = write_study(
        home,
        f"truth-{number:03d}",
        chance=chance,
        k=k,
        replicates=REPLICATES,
        mishap=mishap,
        seed=9000 + number,
        sent=number < SENT,
    )
    frames = load_study(written.name, home=home) if number < SENT else assembled(written)
    complete = frames if not written.broken else dataclasses.replace(frames, runs=as_drawn(frames.runs, written))
    return Outcome(
        family=family,
        mishap=mishap,
        truth={loss: float(np.mean([chance(loss, k, rate) for rate in RATES])) for loss in LOSSES},
        mislabelled=mislabelled(frames, written),
        losses=losses_table(frames).set_index("loss"),
        contrast=contrasts_table(frames).iloc[0],
        complete=contrasts_table(complete).iloc[0] if written.broken else pd.Series(dtype=object),
        wrong={name: method(frames) for name, method in WRONG.items()},
    )


def as_drawn(runs: pd.DataFrame, written: Written) -> pd.DataFrame:
    """The runs as they would have ended without the mishap."""
    identity = zip(runs["configuration_key"], runs["replicate"], strict=True)
    return runs.assign(outcome=[written.endings[key, int(replicate)] for key, replicate in identity])


def mislabelled(frames: StudyFrames, written: Written) -> int:
    """Replicates judged otherwise than they were drawn; a broken one must have failed, died or been pruned."""
    wrong = 0
    for run in frames.runs.to_dict("records"):
        member = str(run["configuration_key"]), int(run["replicate"])
        drawn, found = written.endings[member], str(run["outcome"])
        allowed = UNUSED | ({"diverged"} if drawn == "diverged" else set()) if member in written.broken else {drawn}
        wrong += found not in allowed
    return wrong


# --- estimators that must miss -----------------------------------------------------------------------


def dropping_divergence(frames: StudyFrames) -> dict[str, tuple[float, float]]:
    """Runs that ended in NaN are left out, as a mean over a column of final values leaves them out."""
    lost = frames.runs.assign(outcome=frames.runs["outcome"].replace("diverged", "failed"))
    return limits(dataclasses.replace(frames, runs=lost), lambda arm: arm)


def counting_evaluations(frames: StudyFrames) -> dict[str, tuple[float, float]]:
    """Every evaluation counts as a run: the axis swap."""
    return limits(frames, lambda arm: dataclasses.replace(arm, values=np.repeat(arm.values, 21, axis=1)))


def limits(frames: StudyFrames, change: Callable[[Arm], Arm]) -> dict[str, tuple[float, float]]:
    found = {loss: weighted_share(change(arm).cells) for loss, arm in arms(frames).items()}
    return {loss: (estimate.low, estimate.high) for loss, estimate in found.items()}


WRONG = {"dropping divergence": dropping_divergence, "counting evaluations": counting_evaluations}


def coverage(studies: list[Outcome], method: str | None = None) -> float:
    inside = []
    for study in studies:
        for loss, truth in study.truth.items():
            row = study.losses.loc[loss]
            low, high = study.wrong[method][loss] if method else (row["success_low"], row["success_high"])
            inside.append(low <= truth <= high)
    return float(np.mean(inside))


@pytest.mark.parametrize("mishap", EVERY_MISHAP)
def test_both_ways_of_reading_a_study_give_the_same_runs(home, mishap):
    name = f"both-{mishap.replace(' ', '-')}"
    written = write_study(home, name, chance=chance_of("near"), k=2, replicates=4, mishap=mishap, seed=8)
    loaded, short = load_study(name, home=home), assembled(written)
    pd.testing.assert_frame_equal(loaded.runs, short.runs)
    pd.testing.assert_frame_equal(loaded.curves, short.curves)
    assert {key: loaded.provenance[key] for key in short.provenance} == short.provenance


# --- what must hold ----------------------------------------------------------------------------------


def test_every_replicate_is_judged_as_it_was_drawn(studies):
    assert sum(study.mislabelled for study in studies) == 0


def test_the_true_share_of_success_lies_in_its_interval(studies):
    assert coverage(studies) >= 0.93


@pytest.mark.parametrize(("method", "most"), [("dropping divergence", 0.8), ("counting evaluations", 0.6)])
def test_wrong_estimators_miss_the_truth_of_the_same_studies(studies, method, most):
    assert coverage(studies, method) <= most


def test_losses_far_apart_are_told_apart_and_the_better_one_wins(studies):
    far = [study for study in studies if study.family == "far"]
    assert {study.contrast["winner"] for study in far} <= {"hinge", ""}
    whole = [study.contrast["winner"] == "hinge" for study in far if study.mishap not in ("lost", "cut short")]
    assert np.mean(whole) >= 0.95


def test_the_wrong_loss_never_wins_beyond_alpha(studies):
    right = {"far": ("hinge", ""), "near": ("hinge", ""), "equal": ("",)}
    wrong = np.mean([study.contrast["winner"] not in right[study.family] for study in studies])
    equal = np.mean([study.contrast["winner"] != "" for study in studies if study.family == "equal"])
    assert wrong <= 0.05
    assert equal <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / (0.4 * STUDIES))


def test_lost_runs_never_narrow_the_bounds(studies):
    broken = [study for study in studies if study.mishap in ("lost", "cut short")]
    assert len(broken) == 40
    for study in broken:
        narrow, wide = study.complete, study.contrast
        assert wide["high_best"] - wide["low_worst"] >= narrow["high_best"] - narrow["low_worst"] - 1e-12
        assert wide["low_worst"] <= narrow["difference"] <= wide["high_best"]
        assert (study.losses["success_worst"] <= study.losses["success"]).all()
        assert (study.losses["success"] <= study.losses["success_best"]).all()


def test_lost_runs_never_make_a_winner(studies):
    """A verdict on what is left must be one that the whole study could have given."""
    for study in (study for study in studies if study.mishap in ("lost", "cut short")):
        assert study.contrast["winner"] in ("", study.complete["winner"])


# --- what the record tells of a study ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mishap", "warned"),
    [("none", set()), ("resumed", set()), ("launched twice", {"W14"}), ("clipped", {"W18"}), ("lost", {"W04"})],
)
def test_mishaps_are_told_and_nothing_else_is(home, mishap, warned):
    written = write_study(
        home, f"told-{mishap.replace(' ', '-')}", chance=chance_of("near"), k=1, replicates=6, mishap=mishap, seed=3
    )
    frames = load_study(written.name, home=home)
    found = {str(w["id"]) for w in warnings_list(frames, compare(frames))}
    assert found & {"W03", "W04", "W08", "W13", "W14", "W15", "W18", "W20"} == warned


@pytest.mark.parametrize(
    ("rate", "affected"), [({}, None), ({"hinge": "H200", "minimax": "A10"}, ["hinge", "minimax"])]
)
def test_an_environment_that_goes_with_the_loss_is_told(home, rate, affected):
    name = "same-machine" if affected is None else "other-machine"
    write_study(
        home,
        name,
        chance=chance_of("near"),
        k=1,
        replicates=2,
        seed=4,
        trained_with=lambda loss: {"device": rate.get(loss, "H200"), "torch": "2.13"},
    )
    frames = load_study(name, home=home)
    found = {str(w["id"]): w["affected"] for w in warnings_list(frames, compare(frames))}
    assert found.get("W13") == affected
    assert frames.provenance["environments"]["torch"] == {"2.13": {"hinge": 1, "minimax": 1}}


def test_a_pruned_study_is_blocked_whatever_the_truth(home, tmp_path, ganstudy):
    for seed in range(3):
        name = f"pruned-{seed}"
        write_study(home, name, chance=chance_of("far"), k=1, replicates=6, mishap="pruned", seed=seed)
        frames = load_study(name, home=home)
        tables = compare(frames)
        assert {str(w["id"]) for w in warnings_list(frames, tables) if w["blocks"]} == {"W03"}
        assert set(tables["contrasts"]["verdict"]) == {"undetermined"}
        assert tables["losses"]["censored"].sum() > 0
    done = ganstudy("report", "pruned-0", "--out", tmp_path / "again", GANSTUDY_HOME=str(home))
    assert done.returncode == 3, done.stdout + done.stderr


def test_the_report_of_a_study_written_twice_is_the_same_bytes(careless, tmp_path):
    reports = []
    for place in ("here", "there"):
        home = tmp_path / place / "runs"
        write_study(home, "golden", chance=chance_of("near"), k=2, replicates=4, mishap="resumed", seed=17)
        folder = build_report(load_study("golden", home=home), out=tmp_path / place / "report").folder
        reports.append([(folder / name).read_bytes() for name in ("report.json", "runs.csv", "warnings.json")])
    assert reports[0] == reports[1]
