"""`ganstudy replay`: one replicate again, alone, has the record's own bits; what differs from the record is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from analysis.load import load_replicate
from analysis.replay_record import compare
from study.begun import begun_study
from study.cli import main
from study.cli_replay import choose, find_configuration
from study.errors import BadInput
from study.folder import StudyFolder, write_atomic, write_json
from study.plan import Plan, make_plan
from study.reference import load_judge
from study.replay import Replay, frame_steps
from study.spec import StudySpec
from study.trainable import Watch, run_cohort
from study.user_code import source_hashes
from tests.conftest import TINY, environment
from tests.study.tracked import query

pytestmark = pytest.mark.slow

EXPLOSIVE = 1e18
SPEC = {**TINY, "nuisance": {"learning_rate": [3e-3, EXPLOSIVE]}, "replicates": 2}


class Said(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that really ran on Ray: two losses x (a fair rate, an explosive one) x two replicates."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "study.yaml").write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "study", "run", str(folder / "study.yaml"), "--home", str(folder / "runs")]
    ran = subprocess.run(command, env=environment(), cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder / "runs"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """``ganstudy replay`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GANSTUDY_HOME", "MLFLOW_TRACKING_URI", "GANSTUDY_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str | Path) -> Said:
        few = [] if "--frames" in arguments else ["--frames", "3"]
        monkeypatch.setattr(sys, "argv", ["ganstudy", "replay", *map(str, arguments), *few])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return call


def plan_of(home: Path) -> Plan:
    return Plan.from_json(json.loads((home / "tiny-ring" / "plan.json").read_text()))


def key_of(home: Path, loss: str, rate: float) -> str:
    (found,) = (
        entry.configuration_key
        for entry in plan_of(home).configurations
        if entry.loss == loss and entry.factors["learning_rate"] == rate
    )
    return found


def replayed(home: Path, key: str, replicate: int, *, frames: int = 5) -> Replay:
    folder = StudyFolder(home, "tiny-ring")
    configuration = plan_of(home).configuration(key)
    judge, own = load_judge(folder, configuration, device="cpu")
    assert own
    replay = Replay(folder, configuration, replicate, judge, frames=frames)
    list(replay.train())
    return replay


@pytest.fixture
def record_file(home: Path) -> Iterator[Path]:
    """replicates.parquet of the fair minimax configuration in MLflow; put back afterwards."""
    key = key_of(home, "minimax", 3e-3)
    ((uri,),) = query(
        home / "mlflow.db",
        "select r.artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid "
        f"where t.key = 'ganstudy.configuration_key' and t.value = '{key}'",
    )
    path = Path(uri.removeprefix("file://")) / "replicates.parquet"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


@pytest.mark.parametrize("replicate", [0, 1])
@pytest.mark.parametrize("rate", [3e-3, EXPLOSIVE])
@pytest.mark.parametrize("loss", ["minimax", "ns_r1"])
def test_every_replicate_is_its_record_bit_for_bit(home: Path, loss: str, rate: float, replicate: int) -> None:
    key = key_of(home, loss, rate)
    record = load_replicate("tiny-ring", key, replicate, home=home)
    again = replayed(home, key, replicate)
    compared = compare(record, again.rows.to_pandas())
    assert compared.identical, compared.first
    assert compared.evaluations == compared.recorded == len(record)
    assert set(again.rows.schema.names) == set(record.columns)


def test_a_death_is_replayed_at_its_step_and_ends_the_film(home: Path) -> None:
    key = key_of(home, "minimax", EXPLOSIVE)
    record = load_replicate("tiny-ring", key, 0, home=home)
    dead = record[~record["finite"]]
    assert len(dead) == 1, "the explosive rate must kill, else this test says nothing"
    again = replayed(home, key, 0, frames=41)
    rows = again.rows.to_pandas()
    assert rows["generator_step"].iloc[-1] == dead["generator_step"].iloc[0] == again.frames[-1].generator_step
    assert not again.alive
    steps = [frame.generator_step for frame in again.frames]
    assert steps == list(range(steps[-1] + 1)), "a frame at every step, the last one at the death"


@pytest.mark.parametrize(("frames", "steps"), [(2, [0, 40]), (5, [0, 10, 20, 30, 40]), (600, list(range(41)))])
def test_frames_are_equally_spaced_and_end_at_both_ends(home: Path, frames: int, steps: list[int]) -> None:
    assert frame_steps(40, frames) == steps
    again = replayed(home, key_of(home, "ns_r1", 3e-3), 0, frames=frames)
    assert [frame.generator_step for frame in again.frames] == steps
    assert {frame.samples.shape for frame in again.frames} == {(256, 2)}


def test_frames_hold_the_samples_that_the_study_kept(home: Path) -> None:
    """The record's own samples at 0, 25, 50, 75 and 100 % of the budget are those frames."""
    from analysis.load import load_study

    key = key_of(home, "ns_r1", 3e-3)
    kept = load_study("tiny-ring", home=home).samples([key], [1])
    again = replayed(home, key, 1, frames=5)
    for frame in again.frames:
        rows = kept[kept["generator_step"] == frame.generator_step].sort_values("sample")
        assert np.array_equal(np.stack(rows["x"]).astype(np.float32), frame.samples)
    assert np.abs(again.frames[-1].samples - again.frames[0].samples).max() > 1e-3


def test_the_landscape_is_the_discriminator(home: Path) -> None:
    """D at a grid point is what the discriminator says of that very point: x runs along a row, y up the rows."""
    import torch

    again = replayed(home, key_of(home, "minimax", 3e-3), 0, frames=2)
    landscape, scene = again.frames[-1].landscape, again.scene
    assert landscape is not None
    line = np.linspace(-scene.reach, scene.reach, landscape.shape[0])
    row, column = 5, 30
    point = torch.tensor([[line[column] + scene.middle[0], line[row] + scene.middle[1]]], dtype=torch.float32)
    said = again.cohort.discriminate(point.expand(len(again.cohort.seeds), -1, -1))[0, 0]
    assert landscape[row, column] == pytest.approx(float(said), abs=1e-5)
    assert landscape[row, column] != pytest.approx(float(landscape[column, row]), abs=1e-3)


def test_the_command_writes_page_film_and_numbers(home: Path, cli: Cli, tmp_path: Path) -> None:
    key = key_of(home, "minimax", 3e-3)
    said = cli("tiny-ring", "--configuration", key, "--replicate", "1", "--home", home, "--frames", "9")
    assert said.code == 0, said.err
    folder = home / "tiny-ring" / "replays" / f"{key}-1"
    assert f"replay: {folder / 'replay.html'}" in said.out
    assert "Equal to the record, bit for bit: 21 evaluations" in said.out
    summary = json.loads((folder / "replay.json").read_text())
    assert summary["record"]["identical"] is True
    assert summary["record"]["source"] == "MLflow"
    assert summary["outcome"] == summary["recorded_outcome"]
    assert summary["frames"] == list(range(0, 41, 5))
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(first) == sorted(
        ["replay.html", "replay.gif", "replay.json", "measurements.csv", "samples.parquet", "manifest.json"]
    )
    assert cli("tiny-ring", "--configuration", key[:9], "--replicate", "1", "--home", home, "--frames", "9").code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first, "the same training, the same bytes"


def test_a_record_off_by_one_bit_is_found_and_named(home: Path, cli: Cli, record_file: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(record_file)
    place = table.index[(table["replicate"] == 1) & (table["evaluation"] == 7)][0]
    table.loc[place, "generator_loss"] = np.nextafter(table.loc[place, "generator_loss"], np.inf)
    table.to_parquet(record_file, index=False)
    arguments = ("tiny-ring", "--configuration", key_of(home, "minimax", 3e-3), "--home", home, "--out")
    said = cli(*arguments, tmp_path / "one", "--replicate", "1")
    assert said.code == 0, said.err
    assert "Leaves the record at step 14 (evaluation 7): generator loss is" in said.out
    found = json.loads((tmp_path / "one" / "replay.json").read_text())["record"]
    assert found["identical"] is False
    assert found["numbers_that_differ"] == 1
    assert (found["first_difference"]["name"], found["first_difference"]["evaluation"]) == ("generator_loss", 7)
    assert 0 < found["first_difference"]["relative"] < 1e-15
    assert "Equal to the record" in cli(*arguments, tmp_path / "zero", "--replicate", "0").out, "the other replicate"


def test_a_record_that_lost_an_evaluation_is_named(home: Path, cli: Cli, record_file: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(record_file)
    table[~((table["replicate"] == 0) & (table["evaluation"] == 3))].to_parquet(record_file, index=False)
    key = key_of(home, "minimax", 3e-3)
    said = cli("tiny-ring", "--configuration", key, "--replicate", "0", "--home", home, "--out", tmp_path / "out")
    assert "Leaves the record at step 6 (evaluation 3): only the replay has it" in said.out


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """The study's folder alone, without MLflow and Ray's leftovers: what may be left after a clean-up."""
    shutil.copytree(
        home / "tiny-ring", tmp_path / "runs" / "tiny-ring", ignore=shutil.ignore_patterns("tune", "replays")
    )
    launch = tmp_path / "runs" / "tiny-ring" / "launch.json"
    record = json.loads(launch.read_text())
    write_json(launch, {**record, "home": str(tmp_path / "runs"), "tracking_uri": f"sqlite:///{tmp_path}/gone.db"})
    return tmp_path / "runs"


def test_without_mlflow_the_checkpoint_is_the_record(copy: Path, cli: Cli) -> None:
    arguments = ("tiny-ring", "--configuration", key_of(copy, "ns_r1", 3e-3), "--replicate", "0", "--home", copy)
    said = cli(*arguments)
    assert said.code == 0, said.err
    assert "MLflow cannot be read" in said.err
    assert "Equal to the record, bit for bit" in said.out
    shutil.rmtree(copy / "tiny-ring" / "cohorts")
    shutil.rmtree(copy / "tiny-ring" / "judges")  # a function of the target: made again, aside
    said = cli(*arguments)
    assert said.code == 0, said.err
    assert "nothing to compare it with" in said.out
    assert not (copy / "tiny-ring" / "judges").exists()
    assert not (copy.parent / "gone.db").exists()


def test_a_judge_made_again_measures_the_same(copy: Path, cli: Cli) -> None:
    for judge in (copy / "tiny-ring" / "judges").glob("*.pt"):
        data = bytearray(judge.read_bytes())
        data[len(data) // 2] ^= 1
        judge.write_bytes(bytes(data))
    key = key_of(copy, "ns_r1", 3e-3)
    said = cli("tiny-ring", "--configuration", key, "--replicate", "0", "--home", copy)
    assert "Equal to the record, bit for bit" in said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-rang", "--configuration", "KEY", "--replicate", "0"], "did you mean 'tiny-ring'?"),
        (["tiny-ring", "--configuration", "KEYX", "--replicate", "0"], "did you mean 'KEY'?"),
        (["tiny-ring", "--configuration", "", "--replicate", "0"], "minimax lr="),
        (["tiny-ring", "--configuration", "KEY", "--replicate", "2"], "has the replicates 0 to 1, got 2"),
        (["tiny-ring", "--configuration", "KEY", "--replicate", "0", "--frames", "1"], "--frames"),
        (["tiny-ring", "--configuration", "KEY", "--replicate", "0", "--device", "gpu"], "must be cpu or cuda"),
        (["tiny-ring", "--configuration", "KEY", "--replicate", "0", "--out", "MINE"], "holds files"),
        (["tiny-ring", "--configuration", "KEY", "--replicate", "0", "--tracking-uri", "sqlite:///no.db"], "no.db"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    home: Path, cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    key = key_of(home, "minimax", 3e-3)
    known = {"KEY": key, "KEYX": key[:-1] + "x", "MINE": str(tmp_path / "mine")}
    said = cli(*(known.get(part, part) for part in arguments), "--home", home)
    assert said.code == 2
    assert message.replace("KEY", key) in said.err
    assert "Traceback" not in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_a_key_may_be_shortened_as_long_as_it_is_one(home: Path) -> None:
    plan = plan_of(home)
    keys = [entry.configuration_key for entry in plan.configurations]
    shortest = next(n for n in range(1, 17) if len({key[:n] for key in keys}) == len(keys))
    assert [find_configuration(plan, key[:shortest]).configuration_key for key in keys] == keys
    with pytest.raises(BadInput, match="begins 4 keys") as caught:
        find_configuration(_renamed(plan, prefix="ab"), "ab")
    assert all(entry.loss in str(caught.value) for entry in plan.configurations)


def _renamed(plan: Plan, *, prefix: str) -> Plan:
    import dataclasses

    entries = (dataclasses.replace(e, configuration_key=prefix + e.configuration_key[2:]) for e in plan.configurations)
    return dataclasses.replace(plan, configurations=tuple(entries))


def test_ctrl_c_leaves_nothing_half_written(home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from study import replay

    true_advance = replay.advance

    def advance(cohort: Any, step: int) -> None:
        if step > 20:
            raise KeyboardInterrupt
        true_advance(cohort, step)

    monkeypatch.setattr(replay, "advance", advance)
    key = key_of(home, "ns_r1", 3e-3)
    folder = home / "tiny-ring" / "replays"
    before = sorted(folder.iterdir()) if folder.exists() else []
    assert cli("tiny-ring", "--configuration", key, "--replicate", "0", "--home", home).code == 130
    assert (sorted(folder.iterdir()) if folder.exists() else []) == before


NETWORKS = """
from torch import nn

def build(*, latent_dim, sample_shape, width=8):
    generator = nn.Sequential(nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, 2))
    discriminator = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))
    return generator, discriminator
"""


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyFolder]:
    """A study of networks named by import path, trained without Ray; its code lies beside the study file only."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "strangers_nets.py").write_text(NETWORKS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    mapping = {**SPEC, "networks": {"name": "strangers_nets:build", "latent_dim": 4}}
    spec = StudySpec.from_dict(mapping, folder=code)
    folder = StudyFolder(tmp_path / "runs", spec.study)
    sources = source_hashes("strangers_nets:build", folder=code)
    write_json(folder.launch_file, {"launch": "L1", "attempt": 1, "import_path": str(code), "code": sources})
    write_atomic(folder.spec_file, spec.dump())
    plan = make_plan(spec, workers=2)
    write_json(folder.plan_file, plan.to_json())
    from study.reference import prepare_references

    prepare_references(folder, plan)
    for entry in plan.cohorts:
        watch = Watch(folder, 1)
        run_cohort(
            folder, cohort=entry.cohort, watch=watch, device="cpu", import_path=str(code), report=lambda metrics: None
        )
    sys.path.remove(str(code))
    del sys.modules["strangers_nets"]
    yield folder
    sys.modules.pop("strangers_nets", None)


def test_own_networks_are_found_again_and_changed_ones_refused(own_networks: StudyFolder, cli: Cli) -> None:
    _, plan = begun_study(own_networks)
    key = plan.configurations[0].configuration_key
    arguments = ("tiny-ring", "--configuration", key, "--replicate", "1", "--home", own_networks.home)
    said = cli(*arguments)
    assert said.code == 0, said.err
    assert "Equal to the record, bit for bit" in said.out
    code = own_networks.home.parent / "code" / "strangers_nets.py"
    code.write_text(NETWORKS + "# better\n")
    said = cli(*arguments)
    assert said.code == 2
    assert "strangers_nets.py changed" in said.err


def test_what_a_choice_says_of_itself(home: Path) -> None:
    key = key_of(home, "minimax", 3e-3)
    chosen = choose("tiny-ring", key=key[:10], replicate=1, home=home)
    assert chosen.name == "minimax lr=0.003, replicate 1"
    assert chosen.command == f"ganstudy replay tiny-ring --configuration {key} --replicate 1"
    assert chosen.planned["seeds"][1] == chosen.configuration.seeds[1]
    assert set(chosen.recorded_with) >= {"torch", "numpy", "python"}
