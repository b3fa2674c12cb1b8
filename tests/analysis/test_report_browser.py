"""The report in a real browser: it renders under its own policy, and its script does what it promises."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from analysis.report import build_report
from tests.analysis.driven_browser import OFFLINE, QUIET, driven
from tests.analysis.synthetic import make_frames

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None, reason="no chromium on this machine: the page is checked without a browser only"
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    frames = make_frames(losses=("minimax", "wgan_gp"), replicates=4)
    return build_report(frames, out=tmp_path_factory.mktemp("browser") / "out")


def browse(page, tmp_path, *options):
    command = [
        BROWSER,
        *QUIET,
        *OFFLINE,
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        *options,
    ]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)


def test_the_page_renders_and_its_policy_refuses_nothing_of_ours(built, tmp_path):
    got = browse(built.folder / "report.html", tmp_path, "--dump-dom")
    text = " ".join(re.sub(r"<[^>]+>", "", got.stdout).replace("&nbsp;", " ").split())
    assert built.headline in text
    assert '<th data-sort="text"><button>Loss</button></th>' in got.stdout  # put there by the script
    assert "Content Security Policy" not in got.stderr


def test_a_foreign_script_is_refused(built, tmp_path):
    source = (built.folder / "report.html").read_text(encoding="utf-8")
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(source.replace("</main>", '<script>document.title = "owned"</script></main>'), encoding="utf-8")
    got = browse(spoiled, tmp_path, "--dump-dom")
    assert "<title>owned" not in got.stdout
    assert "Content Security Policy" in got.stderr


@pytest.mark.parametrize("width", [800, 1280])
def test_the_screenshot_is_styled_and_fits(built, tmp_path, width):
    shot = tmp_path / "shot.png"
    browse(built.folder / "report.html", tmp_path, f"--window-size={width},3000", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (3000, width)
    ink = (pixels < 250).any(axis=2)
    assert 0.02 < ink.mean() < 0.6
    assert not ink[:, :20].any()  # the margins stay empty: nothing hangs out of the page
    assert not ink[:, -20:].any()
    green = (abs(pixels - np.array([0, 158, 115])).sum(axis=2) < 12).sum()
    assert green > 2000  # the converged share is drawn


@pytest.fixture
def tab(tmp_path):
    with driven(BROWSER, tmp_path / "driven") as found:
        yield found


COLUMN = """[...document.querySelectorAll("{table} tbody tr")].map((r) => r.children[{column}].textContent.trim())"""


def test_every_table_sorts_by_keyboard_and_says_so(built, tab):
    """Focus and Enter alone: names from A on, then back; numbers from the largest; what is unknown stays last."""
    tab.open((built.folder / "report.html").as_uri())
    assert tab.run('document.querySelectorAll("table:not(.sortable)").length') == 0
    assert tab.run('[...document.querySelectorAll("table")].every((t) => t.querySelector("th button"))')
    names = COLUMN.format(table=".board", column=0)
    for wanted, state in ((["minimax", "wgan_gp"], "ascending"), (["wgan_gp", "minimax"], "descending")):
        tab.run('document.querySelector(".board th button").focus()')
        tab.press("Enter")
        assert tab.run(names) == wanted
        assert tab.run('document.querySelector(".board th").getAttribute("aria-sort")') == state
    for column in (0, 3):
        tab.run(f'document.querySelectorAll("#phases table th")[{column}].querySelector("button").click()')
    shares = [tuple(map(int, text.split("/"))) for text in tab.run(COLUMN.format(table="#phases table", column=3))]
    assert [a / b for a, b in shares] == sorted((a / b for a, b in shares), reverse=True)
    assert tab.run('document.querySelectorAll("#phases [aria-sort]").length') == 1


def test_a_cell_of_the_phase_diagrams_shows_its_replicates_and_leads_to_them(built, tab):
    tab.open((built.folder / "report.html").as_uri())
    tab.point('a[data-cell="cell-3"] rect')
    told = tab.run('document.getElementById("readout").textContent')
    assert "click for curves and samples" in told
    assert tab.run('document.querySelectorAll("#readout .dots svg").length') == 4
    tab.click('a[data-cell="cell-3"] rect', loads=True)
    assert tab.run("location.pathname").endswith(".html")
    assert "/losses/" in tab.run("location.pathname")
    assert tab.run('document.querySelector("article:target").id') == "cell-3"
    assert not tab.refused


def test_pointing_at_samples_lifts_the_curves_of_their_replicate(built, tab):
    tab.open(min((built.folder / "losses").iterdir()).as_uri())
    tab.point("article .pictures li:nth-child(2) svg")
    lit = tab.run('[...document.querySelectorAll(".run.lit")].map((g) => g.dataset.run)')
    named = tab.run('document.querySelector(".pictures li:nth-child(2)").dataset.run')
    assert lit == [named] * 2  # one line in each of the two charts
    assert tab.run('document.querySelector(".panels").classList.contains("dim")')
    assert not tab.refused


@pytest.mark.parametrize("width", [760, 1280])
def test_a_losss_page_fits_its_width(built, tab, width):
    """Nothing of the page but a table that scrolls by itself is wider than the window."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    tab.send("Emulation.setDeviceMetricsOverride", **size)
    for page in sorted((built.folder / "losses").iterdir()):
        tab.open(page.as_uri())
        assert tab.run("document.documentElement.scrollWidth") <= width
