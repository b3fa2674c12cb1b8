"""The report in a real browser: it renders under its own policy, and its script does what it promises."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from analysis.report import build_report
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
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


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
