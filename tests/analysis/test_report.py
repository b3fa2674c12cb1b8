"""The report as a whole: its files, its bytes, its page, and what hostile names can do."""

import base64
import csv
import dataclasses
import hashlib
import html.parser
import json
import re

import pandas as pd
import pytest

from analysis.figures_early import early_words
from analysis.files import OutputError
from analysis.profile import PROFILE_FILES
from analysis.report import build_report
from analysis.report_page import sentences
from tests.analysis.synthetic import make_frames
from trainers.measurement import MEASUREMENTS

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "=cmd|'/C calc'!A1",
    "x\u202eyz\u2066",
    "a" * 300,
    "</script></style>{{ 7*7 }}",
    "$\\frac{1}{0}$",
)


def bowl(loss, k, learning_rate):
    """A success probability that differs between losses, k and rates, so that a swap of any two would show."""
    return (
        {1e-4: 0.3, 1e-3: 0.9, 1e-2: 0.1}.get(learning_rate, 0.5) * (0.6 if loss == "minimax" else 1.0) * (1.1 - k / 10)
    )


@pytest.fixture(scope="module")
def frames():
    return make_frames(losses=("minimax", "wgan_gp", "hinge"), replicates=5, success=bowl)


@pytest.fixture(scope="module")
def built(frames, tmp_path_factory):
    return build_report(frames, out=tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    frames = make_frames(losses=HOSTILE, ks=(1,), learning_rates=(1e-3, 1e-2), replicates=2, evaluations=20)
    spec = dict(frames.spec) | {"question": HOSTILE[0], "calibration": {HOSTILE[1]: [HOSTILE[6]]}}
    provenance = dict(frames.provenance) | {HOSTILE[0]: HOSTILE[1]}
    frames = dataclasses.replace(frames, study=HOSTILE[1], spec=spec, provenance=provenance)
    return build_report(frames, out=tmp_path_factory.mktemp("hostile") / "out").folder


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Page(html.parser.HTMLParser):
    """Every element with its attributes, the text of scripts and styles, and all other text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.raw, self._open = [], [], {"script": [], "style": []}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")
            self._open = tag

    def handle_endtag(self, tag):
        self._open = None if tag == self._open else self._open

    def handle_data(self, data):
        if self._open:
            self.raw[self._open][-1] += data
        else:
            self.text.append(data)


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


class TestFiles:
    def test_everything_of_the_contract_is_there(self, built):
        names = set(files_of(built.folder))
        expected = "report.html report.json runs.parquet runs.csv cells.csv losses.csv contrasts.csv curves.parquet"
        assert {*expected.split(), "warnings.json", "provenance.json", "manifest.json"} <= names
        assert {f"{name}.csv" for name in PROFILE_FILES} | {"report.md"} <= names
        for figure in ("incidence", "early_warning", "budget", "variance", "criteria"):
            assert {f"figures/{figure}.{kind}" for kind in ("svg", "png", "csv")} <= names
        for figure in ("outcome_bars", "phase_diagrams", "learning_rate_response", "pairwise", "examples_converged"):
            assert {f"figures/{figure}.{kind}" for kind in ("svg", "png", "csv")} <= names

    def test_what_tells_early_has_a_section(self, built):
        page, words = page_of(built.folder), early_words(built.tables["early_warning"])
        assert ("a", {"href": "#early"}) in page.elements
        assert words in page.text
        assert "of the same setting will end unstable" in words

    def test_two_builds_are_equal_byte_by_byte(self, frames, built, tmp_path):
        again = build_report(frames, out=tmp_path / "again").folder
        first, second = files_of(built.folder), files_of(again)
        assert list(first) == list(second)
        assert [name for name in first if first[name] != second[name]] == []

    def test_manifest_holds_the_hash_of_every_other_file(self, built):
        files = files_of(built.folder)
        listed = json.loads(files.pop("manifest.json"))["files"]
        assert {n: entry["sha256"] for n, entry in listed.items()} == {
            n: hashlib.sha256(content).hexdigest() for n, content in files.items()
        }

    def test_contract_columns_come_first_and_in_order(self, built):
        header = (built.folder / "runs.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        fixed = "configuration_key,loss,adversarial_loss,penalty,k,learning_rate,replicate,seed,outcome,kind,t_event"
        expected = fixed.split(",") + [f"final_{name}" for name in MEASUREMENTS]
        assert header[: len(expected)] == expected
        losses = "loss,success,success_low,success_high,unstable,converged,collapsed,oscillating,diverged,under_trained"
        losses += ",plateau,lr_decades,runs_planned,runs_used,runs_failed"
        assert (built.folder / "losses.csv").read_text(encoding="utf-8").startswith(losses)
        pairs = "loss_a,loss_b,difference,low,high,low_95,high_95,p_exact,p_holm,verdict,seeds_needed"
        header = (built.folder / "contrasts.csv").read_text(encoding="utf-8").splitlines()[0]
        assert header.startswith(pairs)
        assert header.endswith(",target,better,better_low,better_high,better_reading")

    def test_runs_are_one_row_per_planned_replicate_in_both_formats(self, frames, built):
        rows = rows_of(built.folder / "runs.csv")
        table = pd.read_parquet(built.folder / "runs.parquet")
        assert len(rows) == len(table) == len(frames.runs)
        assert [int(row["seed"]) for row in rows] == table["seed"].tolist() == frames.runs["seed"].tolist()
        assert [row["outcome"] for row in rows] == frames.runs["outcome"].tolist()

    def test_missing_numbers_are_empty_cells(self, frames, built):
        rows = rows_of(built.folder / "runs.csv")
        dead = [row for row, outcome in zip(rows, frames.runs["outcome"], strict=True) if outcome == "diverged"]
        assert dead
        assert all(row["final_distance"] == "" for row in dead)
        assert "nan" not in (built.folder / "report.json").read_text(encoding="utf-8").lower().replace("nance", "")

    def test_summary_agrees_with_the_tables(self, frames, built):
        found = json.loads((built.folder / "report.json").read_text(encoding="utf-8"))
        assert found["headline"] == built.headline
        assert found["runs"] == {"planned": 90, "with_data": 90, "judged": 90}
        assert found["outcomes"] == frames.runs["outcome"].value_counts().to_dict()
        assert [loss["loss"] for loss in found["losses"]] == ["minimax", "wgan_gp", "hinge"]
        assert len(found["contrasts"]) == 3
        assert [row["loss"] for row in found["profile"]] == ["minimax", "wgan_gp", "hinge"]
        assert found["robustness"]["criteria"]["variants"] == 27
        assert found["robustness"]["spaces"]["parts"] == 4  # without either edge, k = 1, k = 2

    def test_an_older_report_is_replaced_and_leaves_nothing(self, tmp_path):
        out = tmp_path / "report"
        for outcome in ("collapsed", "converged"):
            tiny = {"losses": ("minimax",), "ks": (1,), "learning_rates": (1e-3,), "replicates": 2}
            build_report(make_frames(**tiny, outcome=lambda *_, ended=outcome: ended), out=out)
            (out / ".DS_Store").write_bytes(b"")
        assert (out / "figures/examples_converged.svg").exists()
        assert not (out / "figures/examples_collapsed.svg").exists()
        assert [p.name for p in tmp_path.iterdir()] == ["report"]

    def test_a_folder_with_other_files_is_refused_and_kept(self, frames, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match=r"thesis\.tex"):
            build_report(frames, out=tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_failing_build_leaves_the_older_report(self, frames, tmp_path, monkeypatch):
        out = tmp_path / "report"
        build_report(make_frames(losses=("hinge",), ks=(1,), replicates=2), out=out)
        before = files_of(out)

        def broken(page):
            raise RuntimeError("out of paper")

        monkeypatch.setattr("analysis.report.render", broken)
        with pytest.raises(RuntimeError, match="out of paper"):
            build_report(frames, out=out)
        assert files_of(out) == before
        assert [p.name for p in tmp_path.iterdir()] == ["report"]


class TestPage:
    def test_policy_allows_only_the_hashed_style_and_script(self, built):
        page = page_of(built.folder)
        policies = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1
        rules = dict(rule.strip().split(" ", 1) for rule in policies[0].split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["img-src"] == "data:"
        for name in ("script", "style"):
            (text,) = page.raw[name]
            digest = hashlib.sha256(text.encode("utf-8")).digest()
            assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"

    def test_nothing_is_loaded_from_elsewhere(self, built):
        for tag, attributes in page_of(built.folder).elements:
            assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
            assert "style" not in attributes  # the policy would refuse it
            if "src" in attributes:
                assert attributes["src"].startswith("data:image/")
            if "href" in attributes:
                assert re.fullmatch(r"#[\w-]+|(figures/)?[\w]+\.\w+|losses/\w+\.html(#cell-\d+)?", attributes["href"])

    def test_every_linked_file_exists(self, built):
        links = {a["href"] for tag, a in page_of(built.folder).elements if tag == "a" and not a["href"].startswith("#")}
        assert len(links) > 10
        assert [link for link in links if not (built.folder / link.partition("#")[0]).is_file()] == []

    def test_headline_and_every_section_are_shown(self, built):
        text = " ".join("".join(page_of(built.folder).text).replace("\u00a0", " ").split())
        assert built.headline in text
        for heading in ("How long it takes", "How far this carries", "After tuning"):
            assert heading in text
        for heading in ("Leaderboard", "How runs end", "Where each loss works", "Warnings", "Methods", "Provenance"):
            assert heading in text
        assert "30 / 30" in text  # runs used of planned, for each of the three losses

    def test_each_figure_states_n_interval_and_target(self, built):
        source = (built.folder / "report.html").read_text(encoding="utf-8")
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", source.replace("\u00a0", " "), re.S)
        assert len(captions) >= 5
        for caption in captions:
            assert "n = " in caption
            assert "interval" in caption
            assert "Inference target" in caption or "single runs" in caption

    def test_blocked_and_interim_are_said_first(self, frames, tmp_path):
        interim = dataclasses.replace(frames, provenance={**frames.provenance, "interim": True})
        made = build_report(interim, out=tmp_path / "out")
        source = (made.folder / "report.html").read_text(encoding="utf-8")
        assert made.blocked
        assert "lead of" not in made.headline  # a lead is a verdict
        top = source[source.index("<body>") : source.index("<h1>")]
        assert ">interim<" in top
        assert ">blocked<" in top
        assert json.loads((made.folder / "report.json").read_text(encoding="utf-8"))["blocked"] is True

    def test_calibration_is_told_beside_changed_criteria(self, tmp_path):
        frames = make_frames(losses=("hinge",), ks=(1,), replicates=2)
        spec = {**frames.spec, "criteria": {"u_converged": 0.15}, "calibration": "Tuned on eight pilot seeds."}
        made = build_report(dataclasses.replace(frames, spec=spec), out=tmp_path / "out")
        source = (made.folder / "report.html").read_text(encoding="utf-8")
        assert "Tuned on eight pilot seeds." in source
        changed = re.findall(r"<tr class=changed><td><code>(\w+)</code></td><td[^>]*>([\d.]+)</td>", source)
        assert changed == [("u_converged", "0.15")]

    def test_sentences_join_to_the_headline(self):
        text = "A ends well in 78 % (lr 1e-4 to 0.01). B does not. Open."
        assert sentences(text) == ["A ends well in 78 % (lr 1e-4 to 0.01).", "B does not.", "Open."]


class TestHostileNames:
    def test_no_element_or_handler_is_ours_by_accident(self, hostile):
        page = page_of(hostile)
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1
        assert tags.count("style") == 1
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert all(a["src"].startswith("data:image/svg+xml;base64,") for tag, a in page.elements if tag == "img")
        assert not [a for _, a in page.elements if (a.get("href") or "").lower().startswith("javascript")]

    def test_names_are_shown_as_text(self, hostile):
        text = "".join(page_of(hostile).text)
        assert "<script>alert(1)</script>" in text
        assert "{{ 7*7 }}" in text
        assert "x\\u202eyz\\u2066" in text

    def test_no_direction_change_reaches_page_or_figures(self, hostile):
        for name, content in files_of(hostile).items():
            if name.endswith((".html", ".svg")):
                assert "\u202e" not in content.decode("utf-8"), name
                assert "\u2066" not in content.decode("utf-8"), name

    def test_figures_hold_no_script(self, hostile):
        for name, content in files_of(hostile).items():
            if name.endswith(".svg"):
                assert "script" not in [tag for tag, _ in Page(content.decode("utf-8")).elements], name

    def test_no_cell_of_a_csv_starts_a_formula(self, hostile):
        checked = 0
        for path in hostile.rglob("*.csv"):
            with path.open(newline="", encoding="utf-8") as file:
                for cell in (cell for row in csv.reader(file) for cell in row):
                    checked += 1
                    assert cell[:1] not in "=@\t\r" or cell == "", (path.name, cell)
                    if cell[:1] in ("+", "-"):
                        float(cell)
        assert checked > 1000
        assert {row["loss"] for row in rows_of(hostile / "losses.csv")} >= {"'=cmd|'/C calc'!A1", HOSTILE[0]}
