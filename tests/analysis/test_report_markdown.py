"""report.md as a Markdown reader sees it: what it says, and that no name becomes markup."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from markdown_it import MarkdownIt
from scipy.stats import norm

from analysis.report import build_report
from analysis.report_markdown import JOINER, escaped
from analysis.wording import MINUS
from tests.analysis.synthetic import make_frames
from tests.analysis.test_report import HOSTILE, Page

SPITEFUL = (
    *HOSTILE,
    "[x](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "https://evil.example www.evil.example",
    "a | b | c",
    "@torvalds fixes #1",
    "**bold** _it_ `code` ~~no~~",
    "&lt;b&gt; \\| \\",
    "line\nbreak\n\n# heading\n- item",
)


ENDS = {"hinge": "converged", "minimax": "diverged"}


def rendered(text):
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Page(reader.render(text))


@pytest.fixture(scope="module")
def spiteful(tmp_path_factory):
    frames = make_frames(losses=SPITEFUL, ks=(1,), learning_rates=(1e-3,), replicates=2, evaluations=20)
    frames = dataclasses.replace(
        frames, study=SPITEFUL[-1], spec=dict(frames.spec) | {"question": f"{HOSTILE[0]} {SPITEFUL[8]} {SPITEFUL[-1]}"}
    )
    return build_report(frames, out=tmp_path_factory.mktemp("spiteful") / "out").folder


def test_it_says_what_the_page_says(tmp_path):
    frames = make_frames(losses=("minimax", "wgan_gp", "hinge"), replicates=4)
    made = build_report(frames, out=tmp_path / "out")
    page = rendered((made.folder / "report.md").read_text(encoding="utf-8"))
    text = " ".join("".join(page.text).split())
    assert made.headline in text
    assert [tag for tag, _ in page.elements].count("tr") == (1 + 3) + (1 + 3)
    for warning in made.warnings:
        assert str(warning["title"]) in text
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert {f"figures/{path.name}" for path in made.folder.glob("figures/*.png")} <= set(links)
    assert [link for link in links if not (made.folder / link).is_file()] == []


def test_numbers_are_those_of_the_tables(tmp_path):
    made = build_report(
        make_frames(losses=("minimax", "hinge"), replicates=5, outcome=lambda loss, *_: ENDS[loss]),
        out=tmp_path / "out",
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (made.folder / "report.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| hinge") or line.startswith("| minimax")
    ]
    board = {row[0]: row for row in rows if len(row) == 9}
    assert board["hinge"][2].startswith("100 %")
    assert board["hinge"][5:7] == ["100 %", "none seen"]
    weights = [0.125, 0.25, 0.125] * 2  # trapezoid over three rates, uniform over two k
    runs = 1 / sum(weight**2 / 5 for weight in weights)
    low = 3000 / (1 + norm.isf(0.025) ** 2 / runs)  # Wilson's lower limit of a share of 1
    assert board["minimax"][5:8] == ["0 %", "100 %", f"3,000 ({low:,.0f} to 3,000)"]
    (pair,) = [row for row in rows if len(row) == 6]
    assert pair[0].startswith("minimax")
    assert (pair[1], pair[4]) == (f"{MINUS}100", "0 %")  # a run of minimax is never the better one
    assert rows.index(board["hinge"]) < rows.index(board["minimax"])


def test_no_name_becomes_markup(spiteful):
    page = rendered((spiteful / "report.md").read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.elements}
    assert tags == {"h1", "h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "a", "ul", "li"}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert all(re.fullmatch(r"(figures/)?[\w.]+", link) for link in links)
    warnings = json.loads((spiteful / "warnings.json").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.elements].count("strong") == 1 + len(warnings)  # the study's name, the titles
    assert "".join(page.text).count("<script>alert(1)</script>") >= 2


def test_every_row_has_the_cells_of_its_head(spiteful):
    reader = MarkdownIt("commonmark").enable("table")
    counts, current = [], 0
    for token in reader.parse((spiteful / "report.md").read_text(encoding="utf-8")):
        current = 0 if token.type == "tr_open" else current + (token.type in ("td_open", "th_open"))
        counts += [current] if token.type == "tr_close" else []
    assert set(counts) == {9, 6}
    losses = len(SPITEFUL)
    assert counts.count(9) == 1 + losses
    assert counts.count(6) == 1 + losses * (losses - 1) // 2
    for line in (spiteful / "report.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and "---" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (10, 7)


@pytest.mark.parametrize("text", ["@torvalds", "see #1", "https://evil.example", "WWW.evil.example", "a@b.example"])
def test_no_site_finds_a_mention_reference_or_address(text):
    shown = escaped(text)
    assert not re.search(r"@\w|#\d|://|www\.", shown, re.IGNORECASE)
    assert shown.replace(JOINER, "") == text
