"""Networks of the user's own: found and hashed without being run, and held fixed while a study lasts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from study.configurations import configurations
from study.errors import BadInput
from study.folder import StudyFolder, write_atomic, write_json
from study.launch import resume, run
from study.plan import make_plan
from study.spec import StudySpec
from study.status import all_statuses, study_status
from study.user_code import code_hash, source_hashes

FACTORY = """
from torch import nn

def build(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Linear(2, 1)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of the user's; sys.path and loaded modules are as before afterwards."""
    folder = tmp_path / "code"
    (folder / "stranger" / "parts").mkdir(parents=True)
    (folder / "stranger" / "__init__.py").write_text("")
    (folder / "stranger" / "nets.py").write_text(FACTORY)
    (folder / "stranger" / "parts" / "layers.py").write_text("WIDTH = 3\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


@pytest.fixture
def begun(code: Path, tmp_path: Path, tiny: dict[str, Any]) -> tuple[StudyFolder, dict[str, Any]]:
    """A study of these networks as the first attempt left it, whose process is gone and with it all imports."""
    mapping = {**tiny, "networks": {"name": "stranger.nets:build", "latent_dim": 4}}
    spec = StudySpec.from_dict(mapping, folder=code)
    folder = StudyFolder(tmp_path / "runs", spec.study)
    sources = source_hashes("stranger.nets:build", folder=code)
    write_json(folder.launch_file, {"launch": "L1", "attempt": 1, "import_path": str(code), "code": sources})
    write_atomic(folder.spec_file, spec.dump())
    write_json(folder.plan_file, make_plan(spec, workers=2).to_json())
    sys.path.remove(str(code))
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]
    return folder, mapping


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Launch records that got as far as an attempt, which is not made."""
    seen: list[Mapping[str, Any]] = []

    def attempt(folder: object, spec: object, plan: object, record: Mapping[str, Any], console: object) -> None:
        seen.append(record)

    monkeypatch.setattr("study.launch._attempt", attempt)
    return seen


def test_hashes_follow_content_and_names_of_the_whole_package(code: Path) -> None:
    before = source_hashes("stranger.nets:build", folder=code)
    assert sorted(before) == ["__init__.py", "nets.py", "parts/layers.py"]
    (code / "stranger" / "parts" / "layers.py").write_text("WIDTH = 4\n")
    after = source_hashes("stranger.nets:build", folder=code)
    assert [name for name in after if after[name] != before[name]] == ["parts/layers.py"]
    assert code_hash(after) != code_hash(before)
    (code / "alone.py").write_text(FACTORY)
    assert list(source_hashes("alone:build", folder=code)) == ["alone.py"]
    with pytest.raises(BadInput, match="no Python module 'nowhere'"):
        source_hashes("nowhere:build", folder=code)
    assert "stranger" not in sys.modules


def test_the_code_is_part_of_the_key(code: Path, tiny: dict[str, Any]) -> None:
    spec = StudySpec.from_dict({**tiny, "networks": {"name": "stranger.nets:build"}}, folder=code)
    before = {entry.configuration_key for entry in configurations(spec)}
    (code / "stranger" / "nets.py").write_text(FACTORY + "\n# wider\n")
    assert not before & {entry.configuration_key for entry in configurations(spec)}


def test_a_begun_study_is_read_and_resumed_without_its_code(
    begun: tuple[StudyFolder, dict[str, Any]], attempts: list[Mapping[str, Any]], code: Path
) -> None:
    folder, _ = begun
    assert study_status(folder).planned == 12
    assert [status.study for status in all_statuses(folder.home)[0]] == [folder.study]
    resume(folder.study, home=folder.home)
    assert attempts[0]["import_path"] == str(code), "where the workers find it"
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stranger/parts/layers.py": "WIDTH = 4\n"}, ["parts/layers.py changed"]),
        ({"stranger/more.py": ""}, ["more.py added"]),
        (
            {"stranger/nets.py": FACTORY + "#\n", "stranger/__init__.py": "#"},
            ["nets.py changed", "__init__.py changed"],
        ),
    ],
)
def test_changed_code_is_refused_like_a_changed_spec(
    begun: tuple[StudyFolder, dict[str, Any]],
    attempts: list[Mapping[str, Any]],
    code: Path,
    change: dict[str, str],
    said: list[str],
) -> None:
    folder, mapping = begun
    for name, text in change.items():
        (code / name).write_text(text)
    for go_on in (
        lambda: resume(folder.study, home=folder.home),
        lambda: run(StudySpec.from_dict(mapping, folder=code), home=folder.home),
    ):
        with pytest.raises(BadInput) as refused:
            go_on()
        assert all(line in str(refused.value) for line in said)
        assert "give the study another name" in str(refused.value)
        if len(said) == 1:
            assert "nets.py" not in str(refused.value)
    assert attempts == []


def test_code_that_vanished_is_named(
    begun: tuple[StudyFolder, dict[str, Any]], attempts: list[Mapping[str, Any]], code: Path
) -> None:
    folder, _ = begun
    (code / "stranger").rename(code / "renamed")
    with pytest.raises(BadInput, match="no Python module 'stranger'"):
        resume(folder.study, home=folder.home)
    assert attempts == []
