"""The replay's files from made-up frames: the comparison counts right, the page says and shows what it was given."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis.files import OutputError
from analysis.replay import Played, ending, setting, summary, write_replay
from analysis.replay_curves import judged_table, panels
from analysis.replay_page import page_data, render, script_json
from analysis.replay_pictures import GIF_HEAD, GIF_MARGIN, GIF_SIDE, Stage, levels, sprite, tiles
from analysis.replay_record import compare, verdict
from analysis.report_examples import example_scale
from study.outcomes import Criteria, Outcome
from tests.analysis.synthetic import REFERENCE, TARGET, TARGET_ID
from trainers.measurement import MEASUREMENTS

EVALUATIONS, HORIZON = 20, 200
CENTRES = np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])


def rows_of(**changes: Any) -> pd.DataFrame:
    """21 evaluations of a run that comes close; ``changes`` replaces columns."""
    index = np.arange(EVALUATIONS + 1)
    table = pd.DataFrame(
        {
            "configuration_key": "0123456789abcdef",
            "replicate": 1,
            "seed": 2**62 + 1,
            "evaluation": index,
            "generator_step": index * 10,
            "discriminator_steps": index * 20,
            "samples_seen": index * 640,
            "finite": True,
        }
    )
    for place, name in enumerate(MEASUREMENTS):
        table[name] = 0.25 + 0.5 * np.exp(-index / 4) + place / 1000
    near = np.minimum(1.0, index / 10)
    return table.assign(
        distance=0.06 + 1.2 * np.exp(-index / 2), mode_coverage=near, high_quality_fraction=0.98 * near, **changes
    )


def played(**changes: Any) -> Played:
    rng = np.random.default_rng(5)
    samples = rng.normal(size=(5, 64, 2)).astype(np.float32)
    given: dict[str, Any] = {
        "study": "synthetic",
        "configuration": {
            "configuration_key": "0123456789abcdef",
            "loss": "hinge",
            "adversarial_loss": "hinge",
            "penalty": "none",
            "factors": {"k": 2, "learning_rate": 1e-3, "batch_size": 32, "optimizer": "adam", "beta1": 0.5},
            "target": TARGET,
            "target_id": TARGET_ID,
            "networks": {"name": "mlp", "latent_dim": 4, "width": 16, "depth": 1},
            "budget": {"unit": "generator_steps", "value": HORIZON, "evaluations": EVALUATIONS},
            "horizon": HORIZON,
            "replicates": 2,
            "seeds": [7, 2**62 + 1],
        },
        "replicate": 1,
        "rows": rows_of(),
        "record": rows_of(),
        "source": "MLflow",
        "steps": (0, 50, 100, 150, 200),
        "samples": samples,
        "landscapes": rng.normal(size=(5, 9, 9)).astype(np.float32),
        "stage": Stage(
            sample_shape=(2,),
            real=rng.normal(size=(50, 2)).astype(np.float32),
            centres=CENTRES,
            middle=(0.0, 0.0),
            reach=3.0,
        ),
        "criteria": Criteria(),
        "reference": REFERENCE,
        "may_prune": False,
        "own_judge": True,
        "recorded_with": {"torch": "2.6"},
        "replayed_with": {"torch": "2.6", "numpy": "2.0"},
        "command": "ganstudy replay synthetic --configuration 0123456789abcdef --replicate 1",
    }
    return Played(**{**given, **changes})


def image_stage(shape: tuple[int, ...]) -> dict[str, Any]:
    """Frames whose image number i is all ink in frame i and paper elsewhere."""
    size = int(np.prod(shape))
    samples = np.full((5, 9, size), -1.0, np.float32)
    for frame in range(5):
        samples[frame, frame] = 1.0
    stage = Stage(sample_shape=shape, real=samples[0], centres=None, middle=(0.0, 0.0), reach=1.0)
    return {"samples": samples, "landscapes": None, "stage": stage}


# --- the comparison --------------------------------------------------------------------------------


def test_equal_rows_are_identical_and_everything_was_compared() -> None:
    found = compare(rows_of(), rows_of())
    assert found.identical
    assert (found.recorded, found.evaluations) == (21, 21)
    assert found.numbers == 21 * (5 + len(MEASUREMENTS))
    assert found.early == 0.0
    assert verdict(found).startswith("Equal to the record, bit for bit: 21 evaluations")


def test_no_record_is_not_called_identical() -> None:
    found = compare(pd.DataFrame(), rows_of())
    assert not found.identical
    assert "nothing to compare" in verdict(found)


def test_one_bit_is_a_difference_and_the_earliest_comes_first() -> None:
    record = rows_of()
    record.loc[9, "distance"] = np.nextafter(record.loc[9, "distance"], 9)
    record.loc[4, "generator_loss"] *= 1 + 1e-6
    found = compare(record, rows_of())
    assert [(d.evaluation, d.name) for d in found.differences] == [(4, "generator_loss"), (9, "distance")]
    assert found.first is not None
    assert found.first.generator_step == 40
    assert found.first.relative == pytest.approx(1e-6, rel=1e-3)
    assert "Leaves the record at step 40 (evaluation 4): generator loss" in verdict(found)
    assert "2 numbers differ" in verdict(found)
    assert found.early == 0.0, "nothing differs within the first 20 steps"
    record.loc[[2, 12], "distance"] *= 2
    again = compare(record, rows_of())
    assert [(d.name, d.evaluation) for d in again.first_of_each()] == [("distance", 2), ("generator_loss", 4)]


def test_two_absent_numbers_are_equal_and_one_is_not() -> None:
    gaps = rows_of(knn_recall=np.where(np.arange(21) % 5 == 0, 0.5, np.nan))
    values = gaps["knn_recall"].to_numpy(copy=True)
    values[np.isnan(values)] = np.copysign(np.nan, -1.0)
    other = gaps.assign(knn_recall=values)
    assert np.signbit(other["knn_recall"].to_numpy()[1]) != np.signbit(gaps["knn_recall"].to_numpy()[1])
    assert compare(gaps, other).identical, "absent is absent, whatever its bits"
    (found,) = compare(gaps, gaps.assign(knn_recall=gaps["knn_recall"].mask(gaps["evaluation"] == 5))).differences
    assert (found.evaluation, found.recorded, found.replayed, found.absolute) == (5, 0.5, None, None)


def test_seeds_of_63_bits_are_told_apart() -> None:
    found = compare(rows_of(seed=2**62), rows_of(seed=2**62 + 1))
    assert {d.name for d in found.differences} == {"seed"}


def test_a_death_that_came_in_the_record_only_is_said() -> None:
    record = rows_of().iloc[:8].copy()
    record.loc[7, "finite"] = False
    record.loc[7, list(MEASUREMENTS)] = np.nan
    found = compare(record, rows_of())
    assert found.first is not None
    assert (found.first.name, found.first.evaluation) == ("finite", 7)
    assert "the record died there and the replay lives" in verdict(found)
    assert found.evaluations == 8, "as far as the record goes"


def test_evaluations_of_one_side_only_are_named() -> None:
    lost = compare(rows_of().drop(index=6), rows_of())
    assert [(d.name, d.evaluation) for d in lost.differences] == [("evaluation", 6)]
    assert "only the replay has it" in verdict(lost)
    short = compare(rows_of(), rows_of().iloc[:19])
    assert [d.evaluation for d in short.differences] == [19, 20]
    assert "only the record has it" in verdict(short)


def test_a_columns_absence_is_no_difference() -> None:
    assert compare(rows_of().drop(columns="mode_kl"), rows_of()).identical


def test_the_early_tolerance_is_measured() -> None:
    record = rows_of()
    record.loc[1, "distance"] *= 1.5
    assert compare(record, rows_of()).early == pytest.approx(1 / 3)
    sparse = record[record["evaluation"] % 5 == 0]
    assert compare(sparse, rows_of()[lambda t: t["evaluation"] % 5 == 0]).early is None


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome("converged", "", 1500, 0.1), "converged, from step 1,500 on"),
        (Outcome("diverged", "nonfinite", 17, None), "diverged at step 17 (non-finite numbers)"),
        (Outcome("collapsed", "late", 900, 0.2), "collapsed to few modes from step 900 on (after it had converged)"),
        (Outcome("plateau", "dead", None, 0.2), "settled short of the criteria (it never learned)"),
        (Outcome("oscillating", "", None, 0.2), "came and went, and did not settle"),
    ],
)
def test_endings_say_when_and_how(outcome: Outcome, words: str) -> None:
    assert ending(outcome) == words


def test_settings_name_both_rates_where_they_differ() -> None:
    assert setting(played()) == "hinge with k = 2 and learning rate 1e-3"
    factors = {"k": 1, "generator_learning_rate": 1e-4, "discriminator_learning_rate": 4e-4}
    two = played(configuration={**played().configuration, "factors": factors})
    assert setting(two) == "hinge with k = 1, generator rate 1e-4 and discriminator rate 4e-4"


# --- pictures --------------------------------------------------------------------------------------


def test_tiles_lie_row_by_row_dark_on_white() -> None:
    sheet = tiles(image_stage((4, 4))["samples"][4], (4, 4))
    assert sheet.shape == (14, 14, 3)
    assert (sheet[5:9, 5:9] == 0).all(), "image 4 of 9 is the middle one"
    assert (sheet[:4, :4] == 255).all()


def test_colour_tiles_keep_their_channels() -> None:
    red = np.stack([np.ones((2, 2)), -np.ones((2, 2)), -np.ones((2, 2))]).reshape(1, -1).astype(np.float32)
    assert (tiles(red, (3, 2, 2)) == [255, 0, 0]).all()


def test_a_sprite_holds_every_sheet_at_its_place() -> None:
    sheets = [np.full((3, 5, 3), 10 * i, np.uint8) for i in range(7)]
    whole, across = sprite(sheets)
    pixels = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    assert across == 3
    for i in range(7):
        y, x = i // across * 3, i % across * 5
        assert (pixels[y : y + 3, x : x + 5] == 10 * i).all()


def test_levels_span_the_finite_values() -> None:
    shares, low, high = levels(np.array([[0.0, 1.0], [np.nan, 4.0]], np.float32))
    assert (low, high) == (0.0, 4.0)
    assert shares.tolist() == [[0, 64], [128, 255]]
    assert set(levels(np.full((2, 2), 3.0, np.float32))[0].ravel()) == {128}


# --- the files -------------------------------------------------------------------------------------


def test_the_files_are_complete_and_the_same_again(tmp_path: Path) -> None:
    made = write_replay(played(), out=tmp_path / "a")
    write_replay(played(), out=tmp_path / "b")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert made.identical
    assert json.loads(files["replay.json"])["outcome"]["outcome"] == "converged"
    assert len(pd.read_csv(io.BytesIO(files["measurements.csv"]))) == 21
    samples = pq.read_table(tmp_path / "a" / "samples.parquet").to_pandas()
    again = np.stack(samples["x"]).reshape(5, 64, 2)
    assert np.array_equal(again, played().samples)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_replay(played(), out=tmp_path / "mine")


def test_the_gif_plays_every_frame_and_holds_the_last(tmp_path: Path) -> None:
    write_replay(played(), out=tmp_path / "out")
    film = Image.open(tmp_path / "out" / "replay.gif")
    assert film.n_frames == 5
    assert film.info["loop"] == 0
    durations = []
    for i in range(5):
        film.seek(i)
        durations.append(film.info["duration"])
    assert durations[-1] > durations[0] > 0


def test_the_gif_draws_samples_where_they_are(tmp_path: Path) -> None:
    corner = np.full((5, 64, 2), 2.4, np.float32)
    write_replay(played(samples=corner, landscapes=None), out=tmp_path / "out")
    film = Image.open(tmp_path / "out" / "replay.gif")
    film.seek(4)
    pixels = np.asarray(film.convert("RGB")).astype(int)
    place = round(GIF_SIDE * (1 + 2.4 / 3) / 2)
    y, x = GIF_HEAD + GIF_SIDE - place, GIF_MARGIN + place
    red, _, blue = pixels[y, x]
    assert blue > red + 60, "blue where x and y are both high: the upper right"


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (5,)])
def test_images_and_the_undrawable_get_their_page_and_film(tmp_path: Path, shape: tuple[int, ...]) -> None:
    given = image_stage(shape)
    made = write_replay(played(**given), out=tmp_path / "out")
    assert Image.open(made.folder / "replay.gif").n_frames == 5
    page = (made.folder / "replay.html").read_text(encoding="utf-8")
    assert ("<canvas" in page) == (len(shape) > 1)
    assert ("neither points" in page) == (len(shape) == 1)


def test_the_page_says_who_it_is_and_loads_nothing() -> None:
    page = render(played())
    assert "<h1>hinge with k = 2 and learning rate 1e\u20113 converged, from step 90 on.</h1>" in page
    assert "equal to the record" in page
    assert "4611686018427387905" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_hostile_names_stay_text() -> None:
    label = "</script><script>alert(1)</script>"
    page = render(played(configuration={**played().configuration, "loss": label}, study=label))
    assert page.count("<script") == 2, "the data and the player, no third one"
    assert "alert(1)</script><" not in page


def test_data_cannot_end_their_script() -> None:
    hostile = {"a": "</script><!-- & -->"}
    text = script_json(hostile)
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text) == hostile


def test_the_page_shows_how_it_leaves_the_record() -> None:
    record = rows_of()
    record.loc[4:, "generator_loss"] += 0.5
    page = render(played(record=record, recorded_with={"torch": "2.5"}))
    assert "leaves the record" in page
    assert "Leaves the record at step 40 (evaluation 4)" in page
    assert "torch 2.5 then, 2.6 now" in page
    assert page.count('class="recorded"') > 0
    assert 'class="recorded"' not in render(played())


def test_the_data_of_the_page_are_the_frames() -> None:
    samples = played().samples.copy()
    samples[2, 3, 0] = np.nan
    samples[2, 4, 1] = 1e30
    data = json.loads(json.dumps(page_data(played(samples=samples))))
    assert data["steps"] == [0, 50, 100, 150, 200]
    frame = data["points"][2]
    assert frame[6] is None
    assert frame[9] == 300.0, "no farther out than a hundred squares"
    finite = [value for value in frame if value is not None and value != 300.0]
    assert np.allclose(finite, np.delete(samples[2].ravel(), [6, 9]), atol=5e-4)
    assert data["evaluations"]["steps"] == list(range(0, 201, 10))
    assert data["evaluations"]["values"]["u"][0] == pytest.approx((1.26 - 0.05) / 1.25, rel=1e-3)


def test_curves_lie_where_their_numbers_are() -> None:
    scale = example_scale(played().frames())
    rows = judged_table(rows_of(), scale)
    (judged, losses, *_rest) = panels(rows, rows.iloc[:0], scale, horizon=HORIZON)
    coverage = next(curve for curve in judged.curves if curve.name == "mode_coverage")
    points = [tuple(map(float, point.split())) for point in coverage.path[1:].split("L")]
    assert len(points) == 21
    assert points[0][0] == 42.0
    assert points[-1][0] == 452.0
    assert points[0][1] > points[5][1] > points[10][1] == points[20][1], "coverage rises and stays"
    assert [curve.name for curve in losses.curves] == ["discriminator_loss", "generator_loss"]
    assert [text for _, text in judged.ticks][:2] == ["0", "0.5"]


def test_a_dead_replicate_is_judged_and_told(tmp_path: Path) -> None:
    rows = rows_of().iloc[:8].copy()
    rows.loc[7, "finite"] = False
    rows.loc[7, "generator_step"] = 63
    rows.loc[7, list(MEASUREMENTS)] = np.nan
    dead = played(rows=rows, record=rows, steps=(0, 50, 63), samples=played().samples[:3], landscapes=None)
    assert dead.outcome == Outcome("diverged", "nonfinite", 63, None)
    assert dead.comparison.identical
    assert summary(dead)["recorded_outcome"] == dataclasses.asdict(dead.outcome)
    made = write_replay(dead, out=tmp_path / "out")
    assert made.title == "hinge with k = 2 and learning rate 1e-3 diverged at step 63 (non-finite numbers)"


# --- in a browser ----------------------------------------------------------------------------------

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine: the page is checked without a browser only"
)


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(BROWSER), *QUIET, *OFFLINE, "--enable-logging=stderr", profile, *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@needs_browser
@pytest.mark.browser
@pytest.mark.slow
def test_the_player_shows_its_last_frame_where_the_samples_are(tmp_path: Path) -> None:
    """All samples at one place of an empty plane: that place, and no other, is blue on the screenshot."""
    lonely = np.full((5, 64, 2), (1.5, 0.75), np.float32)
    stage = dataclasses.replace(played().stage, real=np.zeros((0, 2), np.float32), centres=None)
    made = write_replay(played(samples=lonely, stage=stage, landscapes=None), out=tmp_path / "out")
    shot = tmp_path / "shot.png"
    got = browse(made.folder / "replay.html", tmp_path, "--window-size=1200,1400", f"--screenshot={shot}")
    assert "Content Security Policy" not in got.stderr
    assert "Uncaught" not in got.stderr
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    frame = (np.abs(pixels - np.array([201, 208, 214])).sum(axis=2) < 8).nonzero()  # the canvas's border
    columns, counts = np.unique(frame[1], return_counts=True)
    left, right = columns[counts > 400][0], columns[counts > 400][-1]
    lines, counts = np.unique(frame[0][(frame[1] >= left) & (frame[1] <= right)], return_counts=True)
    top = lines[counts > 400][0]
    side = right - left
    x, y = round(left + side * (1 + 1.5 / 3) / 2), round(top + side * (1 - 0.75 / 3) / 2)
    view = pixels[top : top + side, left:right]
    blue = (view[..., 2] - view[..., 0] > 60).nonzero()
    assert len(blue[0]) > 8
    assert abs(np.median(blue[1]) + left - x) <= 2
    assert abs(np.median(blue[0]) + top - y) <= 2


@needs_browser
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "step"),
    [([], "200"), (["ArrowLeft"], "150"), (["ArrowLeft", "ArrowLeft", "ArrowRight"], "150"), (["Home"], "0")],
)
def test_arrows_step_through_the_frames(tmp_path: Path, keys: list[str], step: str) -> None:
    text = dumped(tmp_path, "".join(f"press({json.dumps(key)});" for key in keys))
    assert f'<span id="step">step {step}</span>' in text
    assert f'aria-valuetext="step {step}"' in text
    cursor = 42 + 410 * int(step) / HORIZON
    assert re.search(rf'class="cursor" x1="{cursor:g}" x2="{cursor:g}"', text)


@needs_browser
@pytest.mark.browser
@pytest.mark.slow
def test_space_plays_from_the_start_to_the_end_and_stops(tmp_path: Path) -> None:
    text = dumped(tmp_path, 'press(" "); document.title = document.getElementById("step").textContent;')
    assert "<title>step 0</title>" in text, "from the beginning"
    assert '<span id="step">step 200</span>' in text, "and through to the end"
    assert 'aria-pressed="false"' in text


def dumped(folder: Path, script: str, *options: str) -> str:
    """The DOM after ``script`` ran in a copy of the page without the policy that forbids it, and time passed."""
    made = write_replay(played(), out=folder / "out")
    page = (made.folder / "replay.html").read_text(encoding="utf-8")
    page = re.sub(r"<meta http-equiv=.*?>", "", page)
    press = 'const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));'
    (folder / "copy.html").write_text(
        page.replace("</body>", f"<script>begun.then(() => {{{press}{script}}});</script></body>"), encoding="utf-8"
    )
    return browse(folder / "copy.html", folder, "--virtual-time-budget=20000", "--dump-dom", *options).stdout
