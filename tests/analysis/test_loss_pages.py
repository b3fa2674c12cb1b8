"""The page of each loss: every cell and replicate once, curves and samples where an own computation has them."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html.parser
import io
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis.compare import by_success, compare
from analysis.figures_cells import phase_table
from analysis.files import write_text
from analysis.load_samples import LastSamples
from analysis.loss_curves import path_data
from analysis.loss_facts import breaking, event_quantiles, late_collapses, own_warnings
from analysis.loss_names import loss_slug, page_address
from analysis.loss_pages import loss_pages
from analysis.loss_samples import Last, Plane, picture
from analysis.page_input import PageInput
from analysis.profile import profile_table
from analysis.ranges import zones_table
from analysis.report import build_report
from analysis.robustness import Robustness
from analysis.table import load_runs
from analysis.wording import MINUS, percent, percent_range
from tests.analysis import test_figures_dirac as dirac
from tests.analysis.synthetic import HORIZON, REFERENCE, make_frames

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "x\u202eyz\u2066",
    "a" * 300,
    "</script></style>{{ 7*7 }}",
    "../../etc/passwd",
    "con",
    "Hinge",
    "hinge",
)


class Page(html.parser.HTMLParser):
    """Elements with attributes and the block they are in; all text by block, and that of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], str]] = []
        self.text: dict[str, str] = {"": ""}
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.block, self._open = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "article":
            self.block = found["id"]
            self.text[self.block] = ""
        self.elements.append((tag, found, self.block))
        self.text[self.block] += " " * (tag in ("td", "dd", "small", "span"))
        if tag in self.raw:
            self.raw[tag].append("")
            self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self.block = "" if tag == "article" else self.block
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw[self._open][-1] += data
        else:
            self.text[self.block] += data.replace("\u00a0", " ")

    def of(self, tag: str, block: str | None = None, **wanted: str) -> list[dict[str, str]]:
        return [
            found
            for name, found, at in self.elements
            if name == tag and block in (None, at) and all(found.get(k.strip("_")) == v for k, v in wanted.items())
        ]


def page_input(frames: Any) -> PageInput:
    """What the report hands to the pages of losses, without what only its own page shows."""
    tables = {**compare(frames), "zones": zones_table(frames), "profile": profile_table(frames)}
    cells = phase_table(frames.runs, by_success(tables["losses"]))
    return PageInput(
        frames=frames,
        tables=tables,
        cells=cells,
        headline="",
        warnings=[],
        blocked=False,
        figures=(),
        provenance={},
        files=(),
        robustness=Robustness(),
        confirmed=frames.confirmed,
    )


def pages_of(frames: Any) -> dict[str, Page]:
    return {name: Page(text) for name, text in loss_pages(page_input(frames))}


def bowl(loss: str, k: int, learning_rate: float) -> float:
    base = {1e-4: 0.3, 1e-3: 0.9, 1e-2: 0.1}.get(learning_rate, 0.5)
    return base * (0.6 if loss == "minimax" else 1.0) * (1.1 - k / 10)


@pytest.fixture(scope="module")
def frames() -> Any:
    return make_frames(losses=("minimax", "wgan_gp", "hinge"), replicates=14, success=bowl, evaluations=90)


@pytest.fixture(scope="module")
def built(frames: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(frames, out=tmp_path_factory.mktemp("losses") / "out").folder


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[str, Page]:
    return {path.stem: Page(path.read_text(encoding="utf-8")) for path in sorted((built / "losses").iterdir())}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- addresses -------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=60) | st.sampled_from(HOSTILE) | st.from_regex(r"[a-zA-Z.-]{0,9}"), unique=True))
def test_slugs_are_safe_names_and_differ_wherever_labels_do(labels: list[str]) -> None:
    slugs = [loss_slug(label) for label in labels]
    assert all(re.fullmatch(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?", slug) and len(slug) <= 49 for slug in slugs)
    assert len({slug.casefold() for slug in slugs}) == len(labels)
    assert not {slug.split(".")[0] for slug in slugs} & {"con", "prn", "aux", "nul", "com1", "lpt1"}


def test_a_plain_label_is_its_own_address_and_a_mimic_is_none() -> None:
    assert page_address("wgan-c0.1", 7) == "losses/wgan-c0.1.html#cell-7"
    assert loss_slug(loss_slug("Hinge")) != loss_slug("Hinge")  # a label that looks like another's slug


# --- every cell and every replicate ----------------------------------------------------------------


def test_every_cell_and_every_replicate_has_its_place_once(built: Path, pages: dict[str, Page]) -> None:
    runs, cells = rows_of(built / "runs.csv"), rows_of(built / "cells.csv")
    assert sorted(pages) == ["hinge", "minimax", "wgan_gp"]
    listed, blocks = [], []
    for label, page in pages.items():
        articles = [found["id"] for found in page.of("article")]
        assert len(articles) == len(set(articles)) == 6
        blocks += articles
        for block in articles:
            own = [found["data-replicate"] for found in page.of("tr", block) if "data-replicate" in found]
            keys = {text.rsplit("-", 1)[0] for text in own}
            (cell,) = [row for row in cells if row["configuration_key"] in keys]
            assert len(keys) == 1
            assert cell["loss"] == label
            assert f"{cell['converged']} of {cell['used']} converged" in page.text[block]
            assert f"k = {cell['k']}, learning rate" in page.text[block]
            listed += own
    assert sorted(listed) == sorted(f"{run['configuration_key']}-{run['replicate']}" for run in runs)
    assert sorted(blocks, key=lambda b: int(b[5:])) == [f"cell-{i}" for i in range(len(cells))]


def test_each_replicate_is_told_as_the_table_of_runs_has_it(built: Path, pages: dict[str, Page]) -> None:
    titles = [text for page in pages.values() for text in page.text.values()]
    whole = "\n".join(titles)
    for run in rows_of(built / "runs.csv")[::7]:
        kind = f" ({run['kind'].replace('_', ' ')})" if run["kind"] else ""
        event = f", event at step {int(run['t_event']):,}" if run["t_event"] else ""
        outcome = run["outcome"].replace("_", "-")
        title = f"replicate {run['replicate']}: {outcome}{kind}, seed {run['seed']}{event}, margin {run['margin']}"
        assert title in whole
        command = f"ganstudy replay synthetic --configuration {run['configuration_key']} --replicate {run['replicate']}"
        assert whole.count(command + "\n") + whole.count(command + " ") + whole.count(command) >= 1


def test_every_link_of_the_report_and_the_pages_leads_somewhere(built: Path, pages: dict[str, Page]) -> None:
    report = Page((built / "report.html").read_text(encoding="utf-8"))
    ids = {f"losses/{stem}.html": {a["id"] for _, a, _ in page.elements if "id" in a} for stem, page in pages.items()}
    found = 0
    for link in (a["href"] for a in report.of("a") if a["href"].startswith("losses/")):
        name, _, place = link.partition("#")
        assert not place or place in ids[name], link
        found += 1
    assert found == 3 * 2 + 18 * 2  # leaderboard and formulas; map and table of cells
    for stem, page in pages.items():
        for link in (a["href"] for a in page.of("a")):
            name, _, place = link.partition("#")
            assert (built / "losses" / name).is_file() if name else place in ids[f"losses/{stem}.html"], link


def test_a_cell_of_the_phase_diagrams_leads_to_the_cell_that_it_describes(built: Path, pages: dict[str, Page]) -> None:
    source = (built / "report.html").read_text(encoding="utf-8")
    spots = re.findall(
        r'<a href="losses/(\w+)\.html#(cell-\d+)" data-cell="(cell-\d+)"><rect [^>]*><title>(.*?)</', source
    )
    assert len(spots) == 18
    for stem, block, row, title in spots:
        loss, k, rate, share = re.match(r"(.+), k = (\d), learning rate (\S+): (\d+/\d+) converged", title).groups()
        assert (stem, block) == (loss, row)
        assert f"k = {k}, learning rate {rate}" in pages[stem].text[block]
        assert f"{share.replace('/', ' of ')} converged" in pages[stem].text[block]


# --- what is drawn ---------------------------------------------------------------------------------


def own_place(step: int, share: float) -> tuple[int, int]:
    """Where a point lies in a chart of 500 by 150 with margins of 34, 6, 8 and 20: rounded half to even."""
    return 34 + round(460 * step / HORIZON), 130 - round(122 * min(max(share, 0.0), 1.0))


def test_curves_go_through_the_measurements(frames: Any, pages: dict[str, Page]) -> None:
    """Against points computed one by one from the recorded rows: u over [-.05, 1.5], then m over [0, 1]."""
    runs, checked, crosses = frames.runs, 0, 0
    for label, page in pages.items():
        for block in (found["id"] for found in page.of("article")):
            keys = [
                found["data-replicate"].rsplit("-", 1) for found in page.of("tr", block) if "data-replicate" in found
            ]
            drawn = [found["d"] for found in page.of("path", block) if set(found) == {"d"}]
            assert len(drawn) == 2 * len(keys) == 28
            for chart in (0, 1):
                for place, (key, replicate) in enumerate(keys):
                    own = frames.curves[frames.curves["configuration_key"] == key]
                    rows = own[own["replicate"] == int(replicate)].to_dict("records")
                    kept = [rows[round(i * (len(rows) - 1) / 59)] for i in range(60)] if len(rows) > 60 else rows
                    points = []
                    for row in kept:
                        u = (row["distance"] - REFERENCE["d_real"]) / (REFERENCE["d_ref"] - REFERENCE["d_real"])
                        share = (u + 0.05) / 1.55 if chart == 0 else row["mode_coverage"]
                        if row["finite"]:
                            points.append(own_place(row["generator_step"], share))
                    numbers = [int(n) for n in re.findall(r"\d+", drawn[chart * len(keys) + place])]
                    assert list(zip(numbers[::2], numbers[1::2], strict=True)) == points, (label, block, replicate)
                    checked += 1
            dead = runs[runs["configuration_key"].isin({k for k, _ in keys}) & (runs["outcome"] == "diverged")]
            crosses += 2 * len(dead)
    assert checked == 2 * len(runs)
    assert crosses == sum(len(page.of("path", class_="death")) for page in pages.values()) > 0


def test_a_death_is_marked_at_its_step_and_last_height(pages: dict[str, Page]) -> None:
    """Half of 90 evaluations is step 1500: x = 34 + 230; the curve stops one evaluation earlier."""
    marks = [found["d"] for page in pages.values() for found in page.of("path", class_="death")]
    assert {re.match(r"M(\d+) ", mark)[1] for mark in marks} == {str(34 + 230 - 4)}


@pytest.mark.parametrize(
    ("ys", "path"),
    [
        ([5, 6, 7], "M0 5L1 6 2 7"),
        ([5, None, 7, 8], "M0 5h0M2 7L3 8"),
        ([None, None], ""),
        ([None, 4, 3, None, 2], "M1 4L2 3M4 2h0"),
    ],
)
def test_what_is_not_known_breaks_the_line(ys: list[int | None], path: str) -> None:
    assert path_data(range(len(ys)), ys) == path


def test_the_last_samples_are_drawn_where_they_lie(frames: Any, pages: dict[str, Page]) -> None:
    """A ring of radius 2 in a square of 3 each way; 12 of 14 replicates of a cell, and the others counted."""
    page = pages["hinge"]
    block = page.of("article")[3]["id"]
    keys = [found["data-replicate"].rsplit("-", 1) for found in page.of("tr", block) if "data-replicate" in found]
    drawn = [found["d"] for found in page.of("path", block, class_="dots")]
    assert len(drawn) == 12
    assert "The samples of 2 more replicates are not shown." in page.text[block]
    for (key, replicate), dots in zip(keys, drawn, strict=False):
        rows = frames.samples([key], [int(replicate)])
        last = rows[rows["generator_step"] == HORIZON]["x"]
        inside = [(float(x), float(y)) for x, y in last if max(abs(x), abs(y)) <= 3]
        places = {(round(100 * (1 + x / 3)), round(100 * (1 - y / 3))) for x, y in inside}
        assert dots == "".join(f"M{x} {y}h0" for x, y in sorted(places))


def test_images_are_tiles_and_other_samples_are_not_drawn() -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (20, 16))
    shown = picture(Last(generator_step=5, points=images), Plane(limit=1, centres=None), horizon=9)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.data.partition(",")[2]))))
    assert pixels.shape == (19, 19)  # four by four images of 4 x 4, a line between them
    for number in range(16):
        y, x = 5 * (number // 4), 5 * (number % 4)
        assert abs(pixels[y : y + 4, x : x + 4] - (1 - images[number].reshape(4, 4)) * 127.5).max() <= 0.5
    assert shown.remark == "at step 5"
    for points in (np.zeros((3, 7)), np.full((3, 2), math.nan)):
        assert picture(Last(generator_step=9, points=points), Plane(limit=1, centres=None), horizon=9).kind == "none"


def test_the_reader_of_last_samples_agrees_with_the_whole_file(tmp_path: Path) -> None:
    """Two launches, of which the later stands; a replicate that ended early has its own last step."""
    stores, parts = {}, []
    for launch, offset in (("a", 0.0), ("b", 100.0)):
        rows = [
            {"configuration_key": "k", "replicate": r, "generator_step": s, "sample": i, "x": [offset + r, s + i / 10]}
            for r in range(4)
            for s in ((0, 5) if r == 1 else (0, 5, 10))
            for i in range(3)
            if not (launch == "b" and r == 3)
        ]
        stores[launch] = tmp_path / f"{launch}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), stores[launch])
        parts.append(pd.DataFrame(rows))
    store = SimpleNamespace(artifact=lambda run, name, folder: stores[run.launch])
    runs = [SimpleNamespace(launch=name, tags={"ganstudy.configuration_key": "k"}) for name in stores]
    [found, other] = LastSamples(store, runs)({"k": [0, 1, 3], "other": [0]})
    whole = pd.concat(parts).drop_duplicates(["replicate", "generator_step", "sample"], keep="last")
    wanted = []
    for replicate in (0, 1, 3):
        own = whole[whole["replicate"] == replicate]
        wanted += own[own["generator_step"] == own["generator_step"].max()]["x"].tolist()
    assert [list(x) for x in found["x"]] == wanted
    assert other.empty


def test_no_more_samples_are_fetched_than_a_report_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched counts from the next file on; a file of this machine's disk never does."""
    rows = pa.table({"replicate": [0], "generator_step": [5], "sample": [0], "x": [[1.0, 2.0]]})
    pq.write_table(rows, tmp_path / "here.parquet")

    def fetched(run: Any, name: str, folder: Path) -> Path:
        path = folder / f"{run.tags['ganstudy.configuration_key']}-{name}"
        pq.write_table(rows, path)
        return path

    runs = [SimpleNamespace(tags={"ganstudy.configuration_key": key}) for key in "abc"]
    monkeypatch.setattr("analysis.load_samples.MOST_DOWNLOADED", 1)
    for artifact, wanted in ((fetched, [1, 0, 0]), (lambda *_: tmp_path / "here.parquet", [1, 1, 1])):
        reader = LastSamples(SimpleNamespace(artifact=artifact), runs)
        assert [len(found) for found in reader({key: [0] for key in "abc"})] == wanted
        assert [len(found) for found in reader({"a": [0]})] == wanted[-1:]  # the limit is of the whole report


# --- what is said ----------------------------------------------------------------------------------


def test_the_first_sentence_and_the_map_say_what_the_tables_say(built: Path, pages: dict[str, Page]) -> None:
    for row in rows_of(built / "losses.csv"):
        page, number = pages[row["loss"]], {name: float(row[name]) for name in row if row[name][:1].isdigit()}
        text = " ".join(page.text[""].split())
        success = (
            f"{percent(number['success'])} of runs ({percent_range(number['success_low'], number['success_high'])})"
        )
        assert f"{row['loss']} ends well in {success}" in text
        unstable = percent_range(number["unstable_low"], number["unstable_high"])
        assert f"it is unstable in {percent(number['unstable'])} ({unstable})" in text
        assert f"{int(row['runs_used']):,} judged of {int(row['runs_planned']):,} planned" in text
        shares = {f"{c['converged']}/{c['used']}" for c in rows_of(built / "cells.csv") if c["loss"] == row["loss"]}
        assert shares <= set(re.findall(r"\d+/\d+", text))


def test_a_pair_reads_the_same_from_both_sides_but_for_its_sign(built: Path, pages: dict[str, Page]) -> None:
    def difference(of: str, other: str) -> list[int]:
        text = " ".join(pages[of].text[""].split("Against the others")[-1].split("Warnings about it")[0].split())
        one = r"([+-]?\d+)"
        found = re.search(rf"{other} {one} {one} to {one} {one} to {one}", text.replace(MINUS, "-"))
        return [int(number) for number in found.groups()] if found else []

    for row in rows_of(built / "contrasts.csv"):
        names = ("difference", "low_95", "high_95", "low", "high")
        wanted = [round(100 * float(row[name])) for name in names]
        d, low, high, joint_low, joint_high = difference(row["loss_b"], row["loss_a"])
        assert difference(row["loss_a"], row["loss_b"]) == wanted
        assert [-d, -high, -low, -joint_high, -joint_low] == wanted


def cells(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"k": [1] * 4, "learning_rate": [1e-4, 1e-3, 1e-2, 1e-1], **columns})


def test_it_breaks_at_the_lowest_rate_at_which_half_diverge() -> None:
    assert breaking(cells(judged=[4, 4, 4, 4], diverged=[0, 1, 2, 4])).startswith("at k = 1 from 1e-2 ")
    assert breaking(cells(judged=[4, 4, 4, 4], diverged=[0, 1, 1, 1])).startswith("nowhere")
    both = pd.concat(
        [cells(judged=[0, 5, 5, 5], diverged=[0, 0, 0, 3]), cells(judged=[2] * 4, diverged=[1] * 4).assign(k=2)]
    )
    assert breaking(both).startswith("at k = 1 from 0.1; at k = 2 from 1e-4 ")
    assert breaking(cells(judged=[0] * 4, diverged=[0] * 4)).startswith("nowhere")


def test_late_collapses_and_times_are_counted() -> None:
    runs = pd.DataFrame({"outcome": ["collapsed"] * 3 + ["converged"], "kind": ["late", "", "late", "late"]})
    assert late_collapses(runs) == "2 of 3 collapsed runs had converged before"
    assert late_collapses(runs[1:2]) == "of 1 collapsed run none had converged before"
    assert late_collapses(runs[3:]) == "no run collapsed"
    found = event_quantiles(pd.DataFrame({"t_event": [100.0, 200.0, math.nan, 300.0]}))
    assert [text for _, text in found] == ["120", "200", "280"]
    assert event_quantiles(pd.DataFrame({"outcome": ["x"]})) == []


def test_only_warnings_that_name_the_loss_are_its_own() -> None:
    def named(*affected: str) -> bool:
        return bool(own_warnings([{"affected": affected}], "hinge"))

    assert named("hinge")
    assert named("wgan", "hinge / minimax")
    assert named("minimax / hinge")
    assert named("hinge (penalty_weight fixed at 1)")
    assert not named("hinge2", "unhinge", "minimax / hinge2", "a target")


# --- studies with little to show, and hostile ones -------------------------------------------------


def test_a_table_of_runs_without_curves_has_pages_that_say_so(tmp_path: Path) -> None:
    lines = ["loss,k,learning_rate,replicate,outcome"]
    lines += [
        f"{loss},1,{rate},{r},{'converged' if r else 'diverged'}"
        for loss in "ab"
        for rate in (0.1, 0.2)
        for r in (0, 1)
    ]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    for page in pages_of(load_runs(tmp_path / "runs.csv")).values():
        assert "No curves were recorded for these runs" in page.text[""]
        assert len(page.of("article")) == 2
        assert len([1 for found in page.of("tr") if "data-replicate" in found]) == 4
        assert all("open" in found for found in page.of("details"))
        assert not page.of("img")
        assert "ganstudy replay" not in "".join(page.text.values())  # nothing to train again


def test_all_fail_one_cell_and_no_runs() -> None:
    tiny = {"losses": ("hinge",), "ks": (1,), "learning_rates": (1e-3,), "replicates": 3}
    for ended in ("diverged", "failed", "under_trained", "censored"):
        (page,) = pages_of(make_frames(**tiny, outcome=lambda *_, e=ended: e)).values()
        assert len([1 for found in page.of("tr") if "data-replicate" in found]) == 3
        said = "No run of hinge has been judged yet." if ended in ("failed", "censored") else "hinge ends well in 0 %"
        assert said in page.text[""]
    assert pages_of(make_frames(losses=(), ks=(1,), replicates=1)) == {}


def test_a_study_of_the_dirac_gan_shows_its_paths() -> None:
    pages = pages_of(dirac.frames())
    for page in pages.values():
        assert len(page.of("path", class_="orbit")) == len([1 for a in page.of("tr") if "data-replicate" in a]) > 0
        assert "Distance from the equilibrium" in "".join(page.text.values())


def test_more_replicates_than_are_drawn_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.loss_cells.MOST_CURVES", 5)
    monkeypatch.setattr("analysis.loss_cells.MOST_LISTED", 12)
    tiny = {"losses": ("hinge",), "ks": (1,), "learning_rates": (1e-3, 1e-2)}
    (page,) = pages_of(make_frames(**tiny, replicates=7)).values()
    for block in ("cell-0", "cell-1"):
        assert len([1 for found in page.of("tr", block) if "data-replicate" in found]) == 5
        assert "5 of 7 replicates drawn" in page.text[block]
        assert "2 more are in" in page.text[block]
    (page,) = pages_of(make_frames(**tiny, replicates=6)).values()
    assert len([1 for found in page.of("tr") if "data-replicate" in found]) == 12


@pytest.fixture(scope="module")
def hostile() -> dict[str, str]:
    frames = make_frames(losses=HOSTILE, ks=(1,), learning_rates=(1e-3, 1e-2), replicates=2, evaluations=20)
    return dict(loss_pages(page_input(dataclasses.replace(frames, study=HOSTILE[1]))))


def test_hostile_labels_are_text_and_the_pages_load_nothing(hostile: dict[str, str], tmp_path: Path) -> None:
    assert len(hostile) == len(HOSTILE)
    for name, text in hostile.items():
        write_text(tmp_path / name, text)
        page = Page(text)
        tags = [tag for tag, *_ in page.elements]
        assert tags.count("script") == tags.count("style") == 1
        assert not set(tags) & {"link", "iframe", "object", "embed", "base", "form", "b:img"}
        for _, found, _ in page.elements:
            assert not [attribute for attribute in found if attribute.startswith("on") or attribute == "style"]
            assert found.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
            assert re.fullmatch(
                r"#[\w-]+|[a-z0-9_.-]+\.html|\.\./(report\.html(#\w+)?|runs\.csv)", found.get("href", "#a")
            )
        assert not {"\u202e", "\u2066"} & set(text)
        (policy,) = [found["content"] for found in page.of("meta") if "http-equiv" in found]
        for part in ("script", "style"):
            digest = base64.b64encode(hashlib.sha256(page.raw[part][0].encode()).digest()).decode()
            assert f"{part}-src 'sha256-{digest}'" in policy
    assert {path.name for path in tmp_path.iterdir()} == set(hostile)
    assert any("{{ 7*7 }}" in text for text in hostile.values())


def test_pages_are_equal_byte_by_byte() -> None:
    tiny = {"losses": ("hinge", "minimax"), "ks": (1,), "learning_rates": (1e-3, 1e-2), "replicates": 3}
    assert dict(loss_pages(page_input(make_frames(**tiny)))) == dict(loss_pages(page_input(make_frames(**tiny))))
