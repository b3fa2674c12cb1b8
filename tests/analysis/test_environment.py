"""An environment that goes with the loss, and a seed that gave other numbers: warnings W13 and W15."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from analysis.assemble import clean_curves
from analysis.compare import compare, warnings_list
from analysis.environments import ENVIRONMENT_TAG, environment_counts
from analysis.load import load_replicate, load_study
from study.environment import environment_tags
from tests.analysis.synthetic import make_frames
from tests.analysis.test_load import Writer

OLD, NEW = {"torch": "2.1", "device": "cpu"}, {"torch": "2.2", "device": "cpu"}


def tagged(plan, environments):
    """Tags of every configuration run: ``environments`` (loss, number of the loss's cohort) -> what trained it."""
    seen: dict[str, int] = {}
    tags = []
    for entry in plan["configurations"]:
        number = seen[entry["loss"]] = seen.get(entry["loss"], -1) + 1
        found = environments(entry["loss"], number)
        told = {} if found is None else environment_tags([[found] if isinstance(found, dict) else found])
        tags.append({"ganstudy.configuration_key": entry["configuration_key"], **told})
    return tags


def warned(environments, *, losses=("minimax", "hinge"), **provenance):
    frames = make_frames(losses=losses, ks=(1, 2), learning_rates=(1e-4, 1e-3, 1e-2), replicates=2)
    counts = environment_counts(tagged(frames.plan, environments), frames.plan)
    frames = dataclasses.replace(frames, provenance={**frames.provenance, "environments": counts, **provenance})
    return {str(w["id"]): w for w in warnings_list(frames, compare(frames))}


def test_one_environment_for_all_is_no_warning():
    assert "W13" not in warned(lambda loss, number: OLD)


def test_losses_without_an_environment_in_common_are_named():
    caution = warned(lambda loss, number: OLD if loss == "hinge" else NEW)["W13"]
    assert caution["affected"] == ["minimax", "hinge"]
    assert caution["effect"].startswith("torch: cohorts with 2.1 (hinge 6), 2.2 (minimax 6): ")
    assert caution["severity"] == "warning"


def test_only_the_losses_that_stand_apart_are_affected():
    def half(loss, number):
        return NEW if loss == "minimax" or (loss == "wgan_gp" and number % 2) else OLD

    caution = warned(half, losses=("minimax", "hinge", "wgan_gp"))["W13"]
    assert caution["affected"] == ["minimax", "hinge"]


def test_an_environment_that_is_mixed_evenly_is_no_warning():
    assert "W13" not in warned(lambda loss, number: OLD if number % 2 else NEW)


def test_association_is_tested_over_cohorts_by_fishers_exact_test():
    # [[5, 1], [1, 5]] has p = .080, [[6, 0], [1, 5]] has p = .015: six cohorts a loss
    assert "W13" not in warned(lambda loss, number: OLD if (number < 5) == (loss == "hinge") else NEW)
    found = warned(lambda loss, number: OLD if loss == "hinge" or number < 1 else NEW)["W13"]
    assert found["affected"] == ["minimax", "hinge"]


def test_losses_of_a_single_cohort_each_need_no_test_to_stand_apart():
    frames = make_frames(losses=("minimax", "hinge"), ks=(1,), learning_rates=(1e-3,))
    for second, named in ((NEW, ["minimax", "hinge"]), (OLD, None)):
        tags = tagged(frames.plan, lambda loss, number, other=second: OLD if loss == "hinge" else other)
        known = {**frames.provenance, "environments": environment_counts(tags, frames.plan)}
        found = warnings_list(dataclasses.replace(frames, provenance=known), compare(frames))
        assert {str(w["id"]): w["affected"] for w in found}.get("W13") == named


def test_many_losses_are_not_told_apart_by_one_small_p():
    # [[0, 6], [10, 8]] has p = .024, which four losses make .098
    old = {"minimax": 0, "hinge": 3, "wgan_gp": 3, "non_saturating": 4}
    assert "W13" not in warned(lambda loss, number: OLD if number < old[loss] else NEW, losses=tuple(old))


def test_replicates_of_one_cohort_are_one_observation():
    """A cohort of many settings was put on a machine once, not once per setting."""
    frames = make_frames(losses=("hinge",), ks=(1, 2), replicates=2)
    keys = [entry["configuration_key"] for entry in frames.plan["configurations"]]
    plan = {**frames.plan, "cohorts": [{"cohort": "c0", "members": [[key, r] for key in keys for r in (0, 1)]}]}
    assert environment_counts(tagged(plan, lambda *_: OLD), plan)["torch"] == {"2.1": {"hinge": 1}}


def test_a_cohort_that_moved_counts_under_both_values():
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2)
    found = environment_counts(tagged(frames.plan, lambda *_: [OLD, NEW]), frames.plan)
    assert found == {"device": {"cpu": {"hinge": 1}}, "torch": {"2.1": {"hinge": 1}, "2.2": {"hinge": 1}}}


@pytest.mark.parametrize("text", ["", "{", "3", '{"torch": 1}', "[3]"])
def test_a_tag_in_other_words_says_nothing(text):
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,))
    key = frames.plan["configurations"][0]["configuration_key"]
    assert environment_counts([{"ganstudy.configuration_key": key, ENVIRONMENT_TAG: text}], frames.plan) == {}


def test_hostile_values_are_shown_harmlessly():
    evil = {"device": "x\u202e<script>" + "a" * 300}
    effect = warned(lambda loss, number: evil if loss == "hinge" else {"device": "cpu"})["W13"]["effect"]
    assert "\u202e" not in effect
    assert len(effect) < 300


# --- the same seed twice -----------------------------------------------------------------------------------


def one_setting(outcome, **more):
    return make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2, outcome=outcome, **more)


def rerun(change, **columns):
    """A study of one setting whose rows were recorded twice, the second time after ``change``."""
    frames = make_frames(
        losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2, outcome=lambda *_: "converged"
    )
    again = frames.curves.copy()
    change(again)
    _, counts = clean_curves([frames.curves, again.assign(**columns)], frames.plan)
    return frames, counts


def test_equal_rows_are_no_contradiction():
    _, counts = rerun(lambda rows: None)
    assert counts == {"clipped_values": 0, "duplicate_rows": 50}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.__setitem__("mode_kl", rows["mode_kl"].where(rows.index != 7, 0.25)),
        lambda rows: rows.__setitem__("finite", rows.index != 7),
        lambda rows: rows.__setitem__("mode_kl", rows["mode_kl"].where(rows.index != 7)),
        lambda rows: rows.__setitem__("generator_step", rows["generator_step"] - (rows.index == 7)),
    ],
    ids=["a number", "a death", "an absent number", "another step"],
)
def test_one_evaluation_that_differs_is_counted_and_its_loss_named(change):
    frames, counts = rerun(change)
    key = frames.plan["configurations"][0]["configuration_key"]
    assert (counts["differing_duplicates"], counts["differing_configurations"]) == (1, [key])
    frames = dataclasses.replace(frames, provenance={**frames.provenance, **counts})
    caution = {str(w["id"]): w for w in warnings_list(frames, compare(frames))}["W15"]
    assert caution["affected"] == ["hinge"]
    assert caution["effect"].startswith("1 evaluation in 1 setting differ")


def test_a_different_environment_may_give_different_numbers():
    def shift(rows):
        rows["distance"] = np.nextafter(rows["distance"], 9)

    assert "differing_duplicates" in rerun(shift)[1]
    frames = make_frames(losses=("hinge",), ks=(1,), learning_rates=(1e-3,), replicates=2)
    again = frames.curves.copy()
    shift(again)
    _, counts = clean_curves([frames.curves.assign(environment=0), again.assign(environment=1)], frames.plan)
    assert "differing_duplicates" not in counts


# --- through MLflow -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return Writer(tmp_path_factory.mktemp("launched") / "runs")


def launched_again(writer, frames, tags, *, shift):
    """The study recorded by two launches, each configuration run with a tag of its environment."""
    experiment = writer.experiment(frames.study)
    for start, tag, moved in ((1, tags[0], 0.0), (50, tags[1], shift)):
        writer.launch(experiment, frames, start=start)
        for key, rows in frames.curves.groupby("configuration_key", sort=False):
            writer.configuration(experiment, key, rows.assign(distance=rows["distance"] + moved), start=start + 1)
        for run in writer.client.search_runs([experiment], f"attributes.start_time = {start + 1}"):
            writer.client.set_tag(run.info.run_id, ENVIRONMENT_TAG, json.dumps([tag]))


@pytest.mark.parametrize(("second", "count"), [(OLD, 50), (NEW, None)], ids=["same machine", "another library"])
def test_a_study_that_was_launched_twice_is_compared_within_its_environments(writer, second, count):
    name = f"twice-{second['torch']}"
    frames = one_setting(lambda *_: "converged", study=name)
    launched_again(writer, frames, (OLD, second), shift=1e-12)
    loaded = load_study(name, home=writer.home)
    assert loaded.provenance["duplicate_rows"] == 50
    assert loaded.provenance.get("differing_duplicates") == count
    assert set(loaded.provenance["environments"]["torch"]) == {OLD["torch"], second["torch"]}
    key = frames.plan["configurations"][0]["configuration_key"]
    assert "environment" not in load_replicate(name, key, 0, home=writer.home)
