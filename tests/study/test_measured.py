"""The key ``measurements``: what it allows, what it leaves alone, and the columns it brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.configurations import configurations
from study.history import HISTORY_SCHEMA, History, history_schema, replicates_schema, series_of
from study.outcomes import Criteria, judge
from study.plan import Plan, make_plan
from study.problems import SpecError
from study.reference import _intact, prepare_references
from study.results import configuration_yaml
from study.spec import StudySpec
from study.summary import curve
from tests.study.tracked import EVALUATIONS, REFERENCE, STEPS, FakeEvaluation, value
from trainers.measurement import GROUPS, MEASUREMENTS, columns

ALL_ON_RING = ["duality_gap", "off_mode", "singular_values", "rotation", "frechet", "game_jacobian"]


def spec_with(tiny: dict[str, Any], *groups: str, **more: Any) -> StudySpec:
    return StudySpec.from_dict({**tiny, "measurements": list(groups), **more})


# --- the study file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [{}, {"measurements": None}, {"measurements": []}])
def test_a_study_that_names_none_is_the_study_it_was(tiny: dict[str, Any], empty: dict[str, Any]) -> None:
    spec = StudySpec.from_dict({**tiny, **empty})
    assert "measurements" not in spec.operative
    assert spec.spec_hash == StudySpec.from_dict(tiny).spec_hash
    assert "measurements" not in spec.dump()
    assert all(entry.measurements == () == entry.program().measurements for entry in configurations(spec))


def test_groups_are_in_the_hash_of_the_study_and_in_no_key(tiny: dict[str, Any]) -> None:
    plain, measuring = StudySpec.from_dict(tiny), spec_with(tiny, "rotation", "duality_gap")
    assert measuring.spec_hash != plain.spec_hash
    assert measuring.operative["measurements"] == ["duality_gap", "rotation"]  # one order, whatever was written
    assert spec_with(tiny, "duality_gap", "rotation") == measuring
    assert StudySpec.from_dict(measuring.operative) == measuring
    with_them, without = configurations(measuring), configurations(plain)
    assert [(c.configuration_key, c.seeds) for c in with_them] == [(c.configuration_key, c.seeds) for c in without]
    assert {c.program().measurements for c in with_them} == {("duality_gap", "rotation")}
    assert any(line.startswith("measurements") for line in plain.difference(measuring))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["dualty_gap"], "measurements[0]: unknown group of measurements 'dualty_gap'; did you mean 'duality_gap'?"),
        (["rotation", "rotation"], "measurements[1]: is named twice (got 'rotation')"),
        (["memorisation"], "measurements[0]: has a meaning only for digits (got 'memorisation')"),
        (["average"], "measurements[0]: is switched on by the factor generator_average, not here (got 'average')"),
        (["dirac"], "measurements[0]: is switched on by the target dirac, not here (got 'dirac')"),
        ("rotation", "measurements: must be a list, `[one, another]` (got 'rotation')"),
        ([3], "measurements[0]: must be text (quote it) (got 3)"),
    ],
)
def test_what_a_study_may_not_ask_for(tiny: dict[str, Any], given: object, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict({**tiny, "measurements": given})
    assert any(problem.startswith(line) for problem in caught.value.problems), caught.value.problems


def test_all_problems_of_the_list_come_at_once_beside_others(tiny: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        spec_with(tiny, "memorisation", "rotatoin", replicates=0)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if group.why_not])
def test_groups_without_a_meaning_on_dirac_say_why(tiny: dict[str, Any], group: str) -> None:
    target = {"target": {"name": "dirac"}, "networks": {"name": "dirac"}}
    with pytest.raises(SpecError, match=GROUPS[group].why_not["dirac"]):
        spec_with(tiny, group, **target)


def test_groups_can_be_set_from_the_command_line(tiny: dict[str, Any]) -> None:
    changed = StudySpec.from_dict(tiny).with_overrides(["measurements=[frechet]"])
    assert changed.measurements == ["frechet"]
    with pytest.raises(SpecError, match=r"--set measurements=\[frechett\].*did you mean 'frechet'"):
        StudySpec.from_dict(tiny).with_overrides(["measurements=[frechett]"])


def test_editors_know_the_groups_and_what_they_cost() -> None:
    key = StudySpec.json_schema()["properties"]["measurements"]
    offered = {item["const"]: item["description"] for item in key["items"]["anyOf"]}
    assert set(offered) == {name for name, group in GROUPS.items() if group.named_in_file}
    assert all(GROUPS[name].cadence in text and GROUPS[name].cost in text for name, text in offered.items())


def test_the_template_names_every_group() -> None:
    import study

    text = (Path(study.__file__).parent / "template.yaml").read_text()
    assert all(f" {name}" in text for name, group in GROUPS.items() if group.named_in_file)
    assert StudySpec.from_file(Path(study.__file__).parent / "template.yaml").measurements is None


def test_networks_too_large_for_eigenvalues_are_refused_with_their_size(tiny: dict[str, Any]) -> None:
    small = spec_with(tiny, "game_jacobian")
    assert len(configurations(small)) == 4
    networks = {"name": "mlp", "latent_dim": 4, "depth": 2}
    fixed = {**tiny["fixed"], "width": 64}
    large = spec_with(tiny, "game_jacobian", networks=networks, fixed=fixed)
    count = (4 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2) + (2 * 64 + 64 + 64 * 64 + 64 + 64 + 1)
    with pytest.raises(SpecError, match=rf"at most 1,000 parameters together \(these have {count:,}\)"):
        configurations(large)
    configurations(spec_with(tiny, "rotation", networks=networks, fixed=fixed))
    # width as a factor: only the sizes that are too large are named, each once
    varied = spec_with(
        tiny, "game_jacobian", networks=networks, scientific={**tiny["scientific"], "width": [8, 64, 80]}
    )
    with pytest.raises(SpecError) as caught:
        configurations(varied)
    assert len(caught.value.problems) == 2


# --- the plan ------------------------------------------------------------------------------------------


def test_plans_carry_the_groups_and_are_unchanged_without(tiny: dict[str, Any]) -> None:
    plan = make_plan(spec_with(tiny, "rotation"), workers=1)
    stored = json.loads(json.dumps(plan.to_json()))
    assert all(entry["measurements"] == ["rotation"] for entry in stored["configurations"])
    assert Plan.from_json(stored) == plan
    without = make_plan(StudySpec.from_dict(tiny), workers=1).to_json()
    assert all("measurements" not in entry for entry in without["configurations"])
    assert Plan.from_json(json.loads(json.dumps(without))).configurations[0].measurements == ()
    assert "measurements" not in configuration_yaml(Plan.from_json(without).configurations[0])
    assert "rotation" in configuration_yaml(plan.configurations[0])


# --- the rows ------------------------------------------------------------------------------------------


MEMBERS = [("aa", 0, 5), ("aa", 1, 6)]


def row(index: int, *, groups: tuple[str, ...], gap: float = 0.5, alive: tuple[bool, bool] = (True, True)) -> Any:
    values = {name: np.array([value(name, seed, index) for _, _, seed in MEMBERS]) for name in MEASUREMENTS}
    values |= {name: np.array([gap, 7.0]) for name in columns(groups) if name not in MEASUREMENTS}
    for column in values.values():
        column[~np.array(alive)] = np.nan
    return FakeEvaluation(
        index=index,
        finite=np.array(alive),
        death_step=np.array([-1 if living else max(STEPS[index] - 1, 0) for living in alive]),
        values=values,
        samples=None,
        generator_step=STEPS[index],
        discriminator_steps=STEPS[index],
        samples_seen=STEPS[index],
    )


def test_columns_of_groups_follow_the_usual_ones_and_are_there_before_the_first_row() -> None:
    groups = ("duality_gap", "rotation")
    empty = History(MEMBERS, 1, 128, groups).table()
    assert empty.schema.equals(history_schema(groups))
    assert empty.column_names == [*HISTORY_SCHEMA.names, "duality_gap", "generator_rotation", "discriminator_rotation"]
    assert [*replicates_schema(groups).names] == [name for name in empty.column_names if name != "measured_at_ms"]
    assert History(MEMBERS, 1, 128).table().schema.equals(HISTORY_SCHEMA)


def test_a_first_evaluation_that_kills_everyone_leaves_every_column() -> None:
    history = History(MEMBERS, 1, 128, ("off_mode",))
    history.append(row(0, groups=("off_mode",), alive=(False, False)), measured_at_ms=1)
    assert history.table().schema.equals(history_schema(("off_mode",)))
    assert history.table()["mode_kl_off"].null_count == 2


def test_a_history_goes_on_with_its_groups_and_refuses_others() -> None:
    history = History(MEMBERS, 1, 128, ("off_mode",))
    history.append(row(0, groups=("off_mode",)), measured_at_ms=1)
    tables = history.table(), history.samples_table()
    again = History.restore(MEMBERS, 1, 128, *tables, groups=("off_mode",))
    again.append(row(1, groups=("off_mode",)), measured_at_ms=2)
    assert again.table()["mode_kl_off"].to_pylist() == [0.5, 0.5, 7.0, 7.0]
    with pytest.raises(ValueError, match="history must have the columns"):
        History.restore(MEMBERS, 1, 128, *tables)


@pytest.mark.parametrize("gap", [np.inf, np.nan])
def test_an_unbounded_diagnosis_is_null_and_diverges_nobody(gap: float) -> None:
    groups = ("duality_gap",)
    history = History(MEMBERS, 1, 128, groups)
    for index in range(EVALUATIONS + 1):
        history.append(row(index, groups=groups, gap=gap if index == 15 else 0.5), measured_at_ms=index)
    table = history.table()
    assert table["duality_gap"].null_count == 1
    series = series_of(table, "aa", 0, planned_evaluations=EVALUATIONS)
    plain = {name: series.values[name] for name in MEASUREMENTS}
    without = type(series)(**{**vars(series), "values": plain})
    assert judge(series, Criteria(), REFERENCE) == judge(without, Criteria(), REFERENCE)
    assert judge(series, Criteria(), REFERENCE).outcome != "diverged"


def test_mlflow_curves_show_optional_medians_and_rank_a_missing_gap_worst() -> None:
    groups = ("duality_gap", "rotation")
    history = History(MEMBERS, 1, 128, groups)
    history.append(row(0, groups=groups), measured_at_ms=1)
    history.append(row(1, groups=groups, gap=np.nan), measured_at_ms=2)
    first, second = (point.metrics for point in curve(history.table(), steps=STEPS))
    assert first["duality_gap/median"] == 3.75
    assert "duality_gap/median" not in second  # half of the replicates have none: the median is as bad as dead
    assert second["generator_rotation/median"] == 7.0  # no direction: over those that have one
    assert set(second) == set(first) - {f"duality_gap/{label}" for label in ("median", "q10", "q90")}


# --- judges of an older schema -------------------------------------------------------------------------


def test_a_judge_of_another_schema_is_rebuilt_and_the_reference_stands(tiny: dict[str, Any], tmp_path: Path) -> None:
    from study.folder import StudyFolder, read_json, write_json
    from trainers.evaluation import Judge

    plan = make_plan(StudySpec.from_dict(tiny), workers=1)
    folder = StudyFolder(tmp_path, "tiny-ring")
    folder.root.mkdir(parents=True)
    prepare_references(folder, plan)
    kept, path = folder.reference_file.read_bytes(), folder.judge_file(plan.configurations[0].target_id)
    assert _intact(path)
    digest = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), {"sha256": digest["sha256"]})  # as the first schema wrote it
    path.write_bytes(path.read_bytes())
    assert not _intact(path)
    prepare_references(folder, plan)
    assert _intact(path)
    assert folder.reference_file.read_bytes() == kept
    assert Judge.load(path).reference == read_json(folder.reference_file)["targets"][plan.configurations[0].target_id]
