"""What `ganstudy report --runs FILE` makes of files that nobody wrote by mistake: safe output, or one clear refusal."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.files import FORMULA_STARTS, csv_cell, csv_text_of, json_text
from analysis.table import MAX_COLUMNS, MAX_LABELS, MAX_ROWS, TableError, load_runs
from study.cli import main

HEADER = "loss,k,learning_rate,replicate,outcome"
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "=cmd|'/C calc'!A1",
    "+1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\uff1d1+1",
    "a" * 300,
    "right\u202eleft\u2066",
    "nul\x00bell\x07escape\x1b[2J",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{1}{0}$",
)
OUR_ELEMENTS = """
    a b body br button code dd defs details div dl dt figcaption figure footer h1 h2 h3 head header html i img li line
    main meta nav p pattern rect script section small span strong style summary svg table tbody td th thead title tr
    ul wbr
"""

Report = Callable[..., tuple[int, str]]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """Calls ``ganstudy report --runs``; gives the exit code and what stderr says."""

    def call(table: Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ganstudy", "report", "--runs", str(table)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


class Elements(html.parser.HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def written(path: Path, rows: list[list[object]], header: str = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def rows_for(*labels: str, replicates: int = 2) -> list[list[object]]:
    outcomes = ("converged", "collapsed")
    return [
        [label, 1, rate, r, outcomes[(r + i) % 2]]
        for i, label in enumerate(labels)
        for rate in ("1e-3", "1e-2")
        for r in range(replicates)
    ]


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a table whose every name, and whose file name, is hostile."""
    from analysis.report import build_report

    path = tmp_path_factory.mktemp("hostile") / "<script>alert(2)<\u202e.csv"
    frames = load_runs(written(path, rows_for(*HOSTILE)))
    return build_report(frames, out=path.parent / "out").folder


def test_the_page_holds_no_element_and_no_handler_that_is_not_ours(page_folder: Path) -> None:
    found = Elements((page_folder / "report.html").read_text(encoding="utf-8")).found
    tags = [tag for tag, _ in found]
    assert set(tags) <= set(OUR_ELEMENTS.split())
    assert tags.count("script") == tags.count("style") == 1
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "autofocus"]
    links = [attributes["href"] or "" for tag, attributes in found if "href" in attributes]
    assert all(link.startswith("#") or ":" not in link for link in links)
    assert all((a["src"] or "").startswith("data:image/svg+xml;base64,") for tag, a in found if tag == "img")


def test_the_pages_policy_allows_nothing_but_its_own_hashed_parts(page_folder: Path) -> None:
    found = Elements((page_folder / "report.html").read_text(encoding="utf-8")).found
    (policy,) = [a["content"] or "" for _, a in found if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert all(part.startswith("'sha256-") for part in rules["script-src"].split())
    assert rules["base-uri"] == rules["form-action"] == "'none'"


def test_no_file_hides_a_control_character(page_folder: Path) -> None:
    """Neither NUL, which ends texts early, nor ESC, which speaks to terminals, nor a change of direction."""
    checked = 0
    for path in page_folder.rglob("*"):
        if path.suffix in (".html", ".csv", ".json", ".svg"):
            text = path.read_text(encoding="utf-8")
            bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\r\t\u00ad"}
            assert not bad, (path.name, bad)
            checked += 1
    assert checked > 10


def test_no_cell_of_a_csv_is_a_formula(page_folder: Path) -> None:
    cells = 0
    for path in page_folder.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                cells += 1
                if cell.startswith(FORMULA_STARTS):
                    float(cell)  # a negative number is none
    assert cells > 500


def test_json_keeps_every_label_exactly(page_folder: Path) -> None:
    summary = json.loads((page_folder / "report.json").read_text(encoding="utf-8"))
    assert [row["loss"] for row in summary["losses"]] == list(HOSTILE)


@given(st.text(min_size=1, max_size=20) | st.sampled_from(FORMULA_STARTS).map(lambda start: f"''{start}1"))
@settings(max_examples=300, deadline=None)
def test_a_text_comes_back_from_a_csv_and_never_runs_there(text: str) -> None:
    """Whatever the text: what is written is no formula, and a printable text is found again exactly."""
    (cell,) = next(csv.reader(io.StringIO(csv_cell(text), newline=""), strict=True))
    assert not cell.startswith(FORMULA_STARTS)
    if text.isprintable():
        assert csv_text_of(cell) == text


def test_json_escapes_read_back_as_themselves() -> None:
    text = json_text({"a\u202e": "\u2066\x7f\u2028é"})
    assert not {"\u202e", "\u2066", "\x7f", "\u2028"} & set(text)
    assert json.loads(text) == {"a\u202e": "\u2066\x7f\u2028é"}


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", "is empty"),
    "only a header": (HEADER + "\n", "no rows"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff\xfe", "neither Parquet nor CSV"),
    "broken Parquet": (b"PAR1" + b"\x00" * 64 + b"PAR1", "not a readable Parquet file"),
    "half a row": (f"{HEADER}\nhinge,1\n", "row 1 has 2 cells"),
    "a column twice": (f"{HEADER},loss\nhinge,1,1e-3,0,converged,x\n", "'loss' occurs twice"),
    "no outcome": ("loss,k,learning_rate,replicate\nhinge,1,1e-3,0\n", "'outcome' is missing"),
    "an unknown outcome": (f"{HEADER}\nhinge,1,1e-3,0,\x1b[31mwon\n", "must be one of converged"),
    "a replicate twice": (f"{HEADER}\nhinge,1,1e-3,0,converged\nhinge,1,1e-3,0,diverged\n", "occurs twice"),
    "k as text": (f"{HEADER}\nhinge,one,1e-3,0,converged\n", "k: must be a number, got 'one'"),
    "a replicate beyond 64 bits": (f"{HEADER}\nhinge,1,1e-3,99999999999999999999,converged\n", "at most 64 bits"),
    "a number of 10,000 digits": (f"{HEADER}\nhinge,1,1e-3,{'9' * 10_000},converged\n", "replicate: must be a whole"),
    "a rate beyond floats": (f"{HEADER}\nhinge,1,1e999,0,converged\n", "learning_rate: must be a number > 0"),
    "too many losses": (
        HEADER + "\n" + "".join(f"l{i},1,1e-3,0,converged\n" for i in range(MAX_LABELS + 1)),
        "101 different losses",
    ),
    "too many columns": (",".join(f"c{i}" for i in range(MAX_COLUMNS + 1)) + "\n", "columns"),
    "a cell without end": (f'{HEADER}\n"' + "x" * 200_000, "neither Parquet nor CSV"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unusable_file_is_refused_in_a_few_plain_lines(case: str, report: Report, tmp_path: Path) -> None:
    content, told = REFUSED[case]
    path = tmp_path / "runs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, said = report(path)
    assert code == 2, said
    assert told in said
    assert len(said.splitlines()) <= 5
    assert len(said) < 2000
    assert "\x1b" not in said
    assert "Traceback" not in said
    assert [found.name for found in tmp_path.iterdir()] == ["runs.csv"], "nothing was written"


def test_a_folder_a_missing_file_and_a_huge_one_are_refused(report: Report, tmp_path: Path) -> None:
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(200 * 2**20)  # sparse: it takes no room, and must not be read to be refused
    for path, told in ((tmp_path, "is a folder"), (tmp_path / "none.csv", "no such file"), (huge, "has 200 MB")):
        code, said = report(path)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert told in said


def test_a_small_parquet_file_that_would_unpack_to_a_billion_rows_is_refused_unread(tmp_path: Path) -> None:
    rows = MAX_ROWS + 1
    same = {"loss": pa.array(["hinge"] * rows).dictionary_encode(), "k": pa.array([1] * rows, pa.int8())}
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table(same), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(TableError, match="500,001 rows, at most 500,000"):
        load_runs(path)


def test_parquet_columns_of_odd_types_are_text_or_refused(tmp_path: Path) -> None:
    good = {"loss": [1, 1], "k": [1, 1], "learning_rate": [0.1, 0.1], "replicate": [0, 1], "outcome": ["converged"] * 2}
    path = tmp_path / "odd.parquet"

    def problems(**changes: object) -> list[str]:
        pd.DataFrame({**good, **changes}).to_parquet(path)
        try:
            load_runs(path)
        except TableError as problem:
            return problem.problems
        return []

    assert problems() == []
    assert load_runs(path).labels() == ["1"]
    assert problems(note=[{"a": 1}, {"a": 2}]) == [], "a column that is not used may hold anything"
    assert problems(k=[True, True]) == ["k: must be a number, got True (row 1), and 1 more row"]
    assert problems(replicate=[[0], [1]])[0].startswith("replicate: must be a number, got [0]")
    assert problems(learning_rate=pd.to_datetime(["2026-01-01"] * 2))[0].startswith("learning_rate: must be a number")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["loss", "loss"]), path)
    with pytest.raises(TableError, match="'loss' occurs twice"):
        load_runs(path)
