"""Studies on a user's own image files: what is identity and what is place, what is refused, and one run to its end."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from PIL import Image

from study.cli import main
from study.configurations import Configuration, configurations
from study.history import SAMPLES_SCHEMA
from study.plan import Plan, make_plan
from study.results import sheets
from study.spec import SpecError, StudySpec
from tests.conftest import Ganstudy
from tests.image_files import write_cifar10, write_mnist

SPEC: dict[str, Any] = {
    "study": "small-mnist",
    "target": {"name": "mnist", "folder": "data", "contents": "any", "size": 8},
    "networks": {"name": "conv", "latent_dim": 4, "channels": 4},
    "scientific": {"loss": ["non_saturating", {"name": "hinge", "penalty": "r1", "penalty_weight": 1}]},
    "fixed": {"k": 1, "learning_rate": 1e-3, "batch_size": 16},
    "replicates": 2,
    "budget": {"unit": "generator_steps", "value": 24, "evaluations": 4, "evaluation_samples": 200},
}


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``ganstudy`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GANSTUDY_HOME", "MLFLOW_TRACKING_URI", "GANSTUDY_INCEPTION"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganstudy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return call


def spec_in(beside: Path, /, **target: object) -> StudySpec:
    return StudySpec.from_dict({**SPEC, "target": {**SPEC["target"], **target}}, folder=beside)


def written(folder: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(json.dumps({**SPEC, **changes}))
    return path


# ---- identity and place ----


def test_a_study_is_the_same_wherever_its_files_lie_and_however_they_are_packed(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data", per_class=12)
    write_mnist(tmp_path / "elsewhere", per_class=12, packed=True)
    here, there = spec_in(tmp_path), spec_in(tmp_path, folder=str(tmp_path / "elsewhere"))
    assert here.target["folder"] == str(tmp_path / "data")
    assert here.spec_hash == there.spec_hash
    assert here.difference(there) == []
    plans = [make_plan(spec, workers=1) for spec in (here, there)]
    assert json.dumps(plans[0].to_json()) == json.dumps(plans[1].to_json())
    assert str(tmp_path) not in json.dumps(plans[0].to_json())
    assert Plan.from_json(plans[0].to_json()).configurations[0].target_id == plans[1].configurations[0].target_id


def test_other_data_is_another_study(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data", per_class=12)
    write_mnist(tmp_path / "other", per_class=12, seed=9)
    one, other = spec_in(tmp_path), spec_in(tmp_path, folder="other")
    assert one.spec_hash != other.spec_hash
    assert [line.partition(":")[0] for line in one.difference(other)] == ["target.data"]
    keys = [{entry.configuration_key for entry in configurations(spec)} for spec in (one, other)]
    assert keys[0].isdisjoint(keys[1])


def test_the_operative_study_reads_back_without_the_files(tmp_path: Path) -> None:
    """A report is made where the results are, not where the data is."""
    write_mnist(tmp_path / "data", per_class=12)
    spec = spec_in(tmp_path)
    (tmp_path / "spec.yaml").write_text(spec.dump())
    shutil.rmtree(tmp_path / "data")
    assert StudySpec.from_file(tmp_path / "spec.yaml", import_code=False).spec_hash == spec.spec_hash


# ---- what is refused ----


def test_missing_files_are_one_message_and_nothing_is_made(tmp_path: Path, cli: Callable[..., Said]) -> None:
    for command in ("plan", "run"):
        said = cli(command, written(tmp_path))
        assert said.code == 2
        assert said.out == ""
        for part in ("train-images-idx3-ubyte: is missing", "t10k-labels-idx1-ubyte: is missing", "https://"):
            assert part in said.err
        assert str(tmp_path / "data") in said.err
        assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"folder": None}, "target.folder: must be the path of a folder"),
        ({"data": "0" * 64}, "target.data: is not the identity of the files in"),
        ({"data": "xyz"}, "target.data: must be 64 hex digits"),
        ({"size": 12}, "target.size: must be one of 28, 16, 14, 8, 7"),
        ({"size": 14}, "networks.name: conv needs images whose sides are multiples of 4, these are 14x14"),
        ({"contents": "published"}, "must hold 47,040,016 bytes, got"),
        ({"foldr": "data"}, "target.foldr: unknown key; did you mean 'folder'"),
    ],
)
def test_bad_targets_say_what_to_write(tmp_path: Path, target: dict[str, object], message: str) -> None:
    write_mnist(tmp_path / "data", per_class=12)
    with pytest.raises(SpecError) as caught:
        spec_in(tmp_path, **target)
    assert message in str(caught.value)


def test_a_target_without_its_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"target.folder: required: the path of a folder"):
        StudySpec.from_dict({**SPEC, "target": {"name": "cifar10"}}, folder=tmp_path)


def test_fid_without_inception_is_refused_before_anything_is_made(tmp_path: Path, cli: Callable[..., Said]) -> None:
    write_mnist(tmp_path / "data", per_class=12)
    path = written(tmp_path, measurements=["fid"])
    for command in ("plan", "run"):
        said = cli(command, path)
        assert said.code == 2
        assert said.err.count("\n") == 1
        assert "measurements: fid: " in said.err
        assert "ganstudy[fid]" in said.err or "GANSTUDY_INCEPTION" in said.err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(SpecError, match="has a meaning only for mnist, cifar10"):
        StudySpec.from_dict({**SPEC, "target": {"name": "digits"}, "measurements": ["fid"]}, folder=tmp_path)


# ---- sheets ----


def test_a_sheet_has_a_row_for_each_replicate_and_says_who_had_ended(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data", per_class=10)
    spec = spec_in(tmp_path, name="cifar10")
    configuration: Configuration = configurations(spec)[0]
    red = [1.0] * 64 + [-1.0] * 128
    rows = [
        {
            "configuration_key": configuration.configuration_key,
            "replicate": replicate,
            "generator_step": step,
            "sample": sample,
            "x": red,
        }
        for step in (0, 12)
        for replicate in ((0, 1) if step == 0 else (1,))
        for sample in range(3)
    ]
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in SAMPLES_SCHEMA.names} for row in rows], SAMPLES_SCHEMA
    )
    drawn = sheets(configuration, table)
    assert list(drawn) == ["step-00.png", "step-12.png"]
    assert list(sheets(configuration, table, without=["step-00.png"])) == ["step-12.png"]
    counts = []
    for name, png in drawn.items():
        (tmp_path / name).write_bytes(png)
        with Image.open(tmp_path / name) as image:
            colours = {colour: n for n, colour in image.convert("RGB").getcolors(maxcolors=10**6) or []}
        counts.append(colours[255, 0, 0])
    assert counts == [2 * 3 * 56 * 56, 3 * 56 * 56]  # three tiles of 8 x 8 pixels, each a block of 7 x 7


# ---- the whole pipeline, once ----


@pytest.mark.slow
def test_a_study_on_files_runs_is_drawn_and_goes_on_where_they_moved(tmp_path: Path, ganstudy: Ganstudy) -> None:
    def said(code: int, *arguments: str | Path) -> str:
        done = ganstudy(*arguments, "--home", home, timeout_s=400)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    write_mnist(tmp_path / "data", per_class=12, packed=True)
    path, home = written(tmp_path), tmp_path / "runs"
    said(0, "run", path)
    study = home / "small-mnist"
    plan = json.loads((study / "plan.json").read_text())
    (reference,) = json.loads((study / "reference.json").read_text())["targets"].values()
    assert reference["data"] == plan["configurations"][0]["target"]["data"]
    assert reference["classifier_accuracy"] > 0.9
    pictures = [
        sorted(each.name for each in found.parent.iterdir()) for found in home.glob("artifacts/**/samples/step-00.png")
    ]
    expected = [*(f"replicate-00{r}.png" for r in range(2)), *(f"step-{step:02d}.png" for step in (0, 6, 12, 18, 24))]
    assert pictures == [expected, expected]
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert "--set target.folder=" in said(2, "resume", "small-mnist")
    moved = ["--set", f"target.folder={tmp_path / 'moved'}"]
    assert "4 of 4 replicates ended" in said(0, "run", path, *moved)
    said(0, "resume", "small-mnist")
    shutil.rmtree(tmp_path / "moved")
    said(3, "report", "small-mnist")  # four evaluations are too few for verdicts; the files are not needed
    assert json.loads((study / "plan.json").read_text()) == plan
