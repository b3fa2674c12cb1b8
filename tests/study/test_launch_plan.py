"""What a launch decides before anything trains: on whose resources the plan is made, and when Ray is first touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study import launch
from study.errors import BadInput
from study.plan import Plan
from study.problems import SpecError


class Stage:
    """Clusters that were joined, plans that attempts were made with."""

    def __init__(self) -> None:
        self.joined: list[str | None] = []
        self.plans: list[Plan] = []
        self.addresses: list[object] = []


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    seen = Stage()

    @contextlib.contextmanager
    def session(address: str | None, **_: object) -> Iterator[dict[str, float]]:
        seen.joined.append(address)
        yield {"CPU": 48.0}

    def attempt(folder: object, spec: object, plan: Plan, options: launch.Options, console: object) -> None:
        seen.plans.append(plan)
        seen.addresses.append(options.address)

    monkeypatch.setattr(launch, "ray_session", session)
    monkeypatch.setattr(launch, "prepare_environment", lambda home: None)
    monkeypatch.setattr(launch, "local_resources", lambda: {"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setattr(launch, "_attempt", attempt)
    return seen


def test_the_plan_is_cut_for_the_cluster_that_was_named(stage: Stage, tiny: dict[str, Any], tmp_path: Path) -> None:
    many = {**tiny, "replicates": 128}
    launch.run(many, home=tmp_path / "there", address="10.0.0.1:6379")
    launch.run(many, home=tmp_path / "here")
    assert stage.joined == ["10.0.0.1:6379"], "this machine's Ray is not started for a plan"
    there, here = (len(plan.cohorts) for plan in stage.plans)
    assert there > here
    assert there >= 24, "cohorts of at least 16 for as many of the 48 cores as there is work for"


def test_local_means_this_machine_also_for_a_study_begun_on_a_cluster(
    stage: Stage, tiny: dict[str, Any], tmp_path: Path
) -> None:
    launch.run(tiny, home=tmp_path, address="local")
    assert (stage.joined, stage.addresses) == ([], [None])


@pytest.mark.parametrize(
    "changes", [{"scientific": {"loss": ["ns_r1", {"name": "ns_r1", "label": "again"}]}}, {"replicates": 0}]
)
def test_ray_is_not_touched_before_the_spec_is_found_valid(
    stage: Stage, tiny: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(SpecError):
        launch.run({**tiny, **changes}, home=tmp_path / "runs", address="10.0.0.1:6379")
    assert stage.joined == []
    assert not (tmp_path / "runs").exists()
    with pytest.raises(BadInput):
        launch.resume("tiny-ring", home=tmp_path / "runs", address="10.0.0.1:6379")
    assert stage.joined == []
