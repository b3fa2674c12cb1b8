"""Code of the user's own: read, found and hashed without being run, and held fixed while a study lasts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from study.configurations import configurations
from study.errors import BadInput
from study.folder import StudyFolder, write_atomic, write_json
from study.launch import Options, resume, run
from study.launches import next_record
from study.plan import make_plan
from study.problems import SpecError
from study.spec import StudySpec
from study.status import all_statuses, study_status
from study.user_code import code_hash, source_hashes, user_sources
from tests.conftest import TINY, Ganstudy

FACTORY = """
from torch import nn

def build(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Linear(2, 1)
"""


LOSSES = """
import torch
from trainers.losses import AdversarialLoss
from trainers.penalties import Penalty

def critic(*, real_logits, fake_logits):
    return torch.relu(1 - real_logits).square().mean(-1) + torch.relu(1 + fake_logits).square().mean(-1)

def generator(*, real_logits, fake_logits):
    return -fake_logits.mean(-1)

def term(discriminator, *, real, fake, weight, epsilon, noise):
    return weight * discriminator(real).square().mean(-1)

squared_hinge = AdversarialLoss(name="squared_hinge", discriminator=critic, generator=generator)
_private = squared_hinge
drift = Penalty(name="drift", term=term)
clips = Penalty(name="clips", weight_name="clip", clips_weights=True)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of the user's; sys.path and loaded modules are as before afterwards."""
    folder = tmp_path / "code"
    (folder / "stranger" / "parts").mkdir(parents=True)
    (folder / "stranger" / "__init__.py").write_text("")
    (folder / "stranger" / "nets.py").write_text(FACTORY)
    (folder / "stranger" / "parts" / "layers.py").write_text("WIDTH = 3\n")
    (folder / "mine.py").write_text(LOSSES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stranger", "mine")]:
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

    def attempt(folder: StudyFolder, spec: StudySpec, plan: object, options: Options, console: object) -> None:
        seen.append(next_record(folder, spec, **asdict(options)))

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


# ---- losses and penalties ----


def with_losses(mapping: dict[str, Any], *entries: object, **more: Any) -> dict[str, Any]:
    return {**mapping, "scientific": {"loss": list(entries)}, **more}


OWN = {"name": "mine:squared_hinge", "penalty": "mine:drift", "penalty_weight": [0.1, 1]}


def test_entries_by_import_path_are_labelled_by_the_objects_name_and_take_a_weight(
    code: Path, tiny: dict[str, Any]
) -> None:
    mapping = with_losses(
        tiny,
        "mine:squared_hinge",
        OWN,
        {"name": "hinge", "penalty": "mine:drift"},
        {"name": "mine:squared_hinge", "penalty": "r1", "penalty_weight": 2, "label": "with r1"},
    )
    spec = StudySpec.from_dict(mapping, folder=code)
    assert [entry.label for entry in spec.design.entries] == [
        "squared_hinge", "squared_hinge+drift", "hinge+drift", "with r1",
    ]  # fmt: skip
    assert [entry.plain().get("penalty_weight") for entry in spec.design.entries] == [None, [0.1, 1.0], 1.0, 2.0]
    made = configurations(spec)
    assert len(made) == (1 + 2 + 1 + 1) * 2
    assert {(entry.adversarial_loss, entry.penalty) for entry in made if entry.loss == "squared_hinge+drift"} == {
        ("mine:squared_hinge", "mine:drift")
    }
    assert StudySpec.from_dict(spec.operative, folder=code) == spec


def test_entries_are_read_without_importing_anything_when_asked(code: Path, tiny: dict[str, Any]) -> None:
    before = set(sys.modules)
    spec = StudySpec.from_dict(with_losses(tiny, OWN), folder=code, import_code=False)
    assert spec.design.entries[0].adversarial_loss == "mine:squared_hinge"
    assert len(configurations(spec)) == 4
    assert "mine" not in set(sys.modules) - before


def test_a_penalty_of_the_users_own_is_paid_for_as_a_dear_one(code: Path, tiny: dict[str, Any]) -> None:
    budget = {**tiny["budget"], "unit": "gradient_evaluations", "value": 90}
    spec = StudySpec.from_dict(with_losses(tiny, "hinge", OWN, budget=budget), folder=code)
    assert {entry.loss: entry.horizon for entry in configurations(spec)} == {"hinge": 45, "squared_hinge+drift": 30}


@pytest.mark.parametrize(
    ("entry", "where", "said"),
    [
        ("mine:absent", "[0]", "cannot be imported with .* on the path: AttributeError"),
        ({"name": "mine:absent"}, "[0].name", "cannot be imported with .* on the path: AttributeError"),
        ({"name": "nowhere_x:loss"}, "[0].name", "cannot be imported .* ModuleNotFoundError"),
        ({"name": "mine:critic"}, "[0].name", "must name a trainers.losses.AdversarialLoss, mine:critic is a function"),
        ({"name": "mine:drift"}, "[0].name", "must name a trainers.losses.AdversarialLoss, mine:drift is a Penalty"),
        ({"name": "mine:not a name"}, "[0].name", "an import path is written package.module:name"),
        (
            {"name": "hinge", "penalty": "mine:term"},
            "[0].penalty",
            "must name a trainers.penalties.Penalty, .* function",
        ),
        ({"name": "hinge", "penalty": "mine:clips"}, "[0].penalty", "must be a term of L_D and nothing else"),
        ({"name": "hinge", "penalty": "mine:absent"}, "[0].penalty", "cannot be imported"),
        ({"name": "hinge", "penalty": "mine:drift", "clip": 1}, "[0].clip", "unknown key .* penalty_weight"),
        (
            {"name": "hinge", "penalty": "mine:drift", "penalty_weight": -1},
            "[0].penalty_weight",
            "must be a number >= 0",
        ),
        ({"name": "mine:_private"}, "[0].label", "begin with a letter or digit .*_private"),
        ({"name": "wgan_gp", "penalty": "mine:drift"}, "[0].penalty", "the preset wgan_gp sets it"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    code: Path, tiny: dict[str, Any], entry: object, where: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said) as refused:
        StudySpec.from_dict(with_losses(tiny, entry), folder=code)
    assert any(line.startswith(f"scientific.loss{where}: ") for line in refused.value.problems)


def test_the_code_of_an_entry_joins_the_keys_of_that_entry_only(code: Path, tiny: dict[str, Any]) -> None:
    labels = ("minimax", "squared_hinge+drift", "hinge+drift")
    entries = ("minimax", OWN, {"name": "hinge", "penalty": "mine:drift"})
    spec = StudySpec.from_dict(with_losses(tiny, *entries), folder=code)

    def keys() -> dict[str, set[str]]:
        made = configurations(spec)
        return {label: {e.configuration_key for e in made if e.loss == label} for label in labels}

    before = keys()
    (code / "mine.py").write_text(LOSSES + "# another thought\n")
    after = keys()
    assert before["minimax"] == after["minimax"], "what runs none of it is the same configuration"
    assert not any(before[label] & after[label] for label in labels[1:])
    alone = StudySpec.from_dict(with_losses(tiny, "minimax"))
    assert {entry.configuration_key for entry in configurations(alone)} == before["minimax"]


def test_networks_alone_keep_the_key_they_had_before_losses_could_be_the_users_own(
    code: Path, tiny: dict[str, Any]
) -> None:
    networks = {"name": "stranger.nets:build"}
    made = configurations(StudySpec.from_dict(with_losses(tiny, "minimax", OWN, networks=networks), folder=code))
    own = code_hash(source_hashes("stranger.nets:build", folder=code))
    codes = {entry.loss: entry.code for entry in made}
    assert codes["minimax"] == own
    assert codes["squared_hinge+drift"] not in ("", own)


def test_files_of_several_modules_do_not_hide_each_other(code: Path, tiny: dict[str, Any]) -> None:
    (code / "other").mkdir()
    (code / "other" / "__init__.py").write_text(LOSSES)
    mapping = with_losses(
        tiny,
        {"name": "other:squared_hinge", "penalty": "mine:drift"},
        {"name": "mine:squared_hinge"},
        networks={"name": "stranger.nets:build"},
    )
    assert sorted(user_sources(mapping, folder=code)) == [
        "__init__.py", "mine/mine.py", "nets.py", "other/__init__.py", "parts/layers.py",
    ]  # fmt: skip
    assert user_sources(with_losses(tiny, "minimax"), folder=code) == {}


def test_a_study_begun_with_a_loss_of_ones_own_refuses_its_changed_code(
    code: Path, tmp_path: Path, tiny: dict[str, Any], attempts: list[Mapping[str, Any]]
) -> None:
    mapping = with_losses(tiny, "minimax", OWN)
    spec = StudySpec.from_dict(mapping, folder=code)
    folder = StudyFolder(tmp_path / "runs", spec.study)
    write_json(
        folder.launch_file,
        {"launch": "L1", "attempt": 1, "import_path": str(code), "code": user_sources(mapping, folder=code)},
    )
    write_atomic(folder.spec_file, spec.dump())
    write_json(folder.plan_file, make_plan(spec, workers=2).to_json())
    resume(folder.study, home=folder.home)
    assert attempts[0]["code"] == user_sources(mapping, folder=code)
    (code / "mine.py").write_text(LOSSES.replace("1 + fake", "2 + fake"))
    with pytest.raises(BadInput, match=r"your own code: mine\.py changed"):
        resume(folder.study, home=folder.home)
    assert len(attempts) == 1


# ---- through Ray ----

ALL_OWN = (
    LOSSES
    + """
from torch import nn

def build(*, latent_dim, sample_shape):
    generator = nn.Sequential(nn.Linear(latent_dim, 8), nn.ReLU(), nn.Linear(8, 2))
    return generator, nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
"""
)


@pytest.mark.slow
def test_a_study_of_ones_own_loss_penalty_and_networks_runs_to_its_end(tmp_path: Path, ganstudy: Ganstudy) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_parts.py").write_text(ALL_OWN)
    entries = [
        "minimax",
        {"name": "my_parts:squared_hinge", "penalty": "my_parts:drift", "penalty_weight": [0.01, 0.1]},
    ]
    mapping = {**with_losses(dict(TINY), *entries), "networks": {"name": "my_parts:build", "latent_dim": 4}}
    study = tmp_path / "elsewhere" / "study.yaml"
    study.write_text(json.dumps(mapping))
    home = tmp_path / "runs"
    done = ganstudy("run", study, "--home", home)
    assert done.returncode == 0, done.stderr
    assert "18 of 18 replicates ended" in done.stdout
    status = json.loads(ganstudy("status", "tiny-ring", "--home", home, "--json").stdout)
    assert (status["done"], status["failed"]) == (18, 0)
    plan = json.loads((home / "tiny-ring" / "plan.json").read_text())
    assert {entry["loss"] for entry in plan["configurations"]} == {"minimax", "squared_hinge+drift"}
    assert len({entry["code"] for entry in plan["configurations"]}) == 1, "networks, loss and penalty in one module"
    (tmp_path / "elsewhere" / "my_parts.py").write_text(ALL_OWN + "#\n")
    changed = ganstudy("run", study, "--home", home)
    assert changed.returncode == 2
    assert "your own code: my_parts.py changed" in changed.stderr
