"""How figures look: one palette, one type scale, text that is safe to draw, bytes that do not change."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK, SOFT, FAINT, GRID = "#1d2329", "#5b6670", "#c9d0d6", "#e8ebee"
ACCENT = "#0b5c8a"
WIDTH = 800.0
"""Width of every figure in CSS pixels: text drawn at 10 to 11 pixels stays readable when the page is narrow."""
PIXEL = 1 / 96
PNG_DPI = 192


@dataclass(frozen=True, kw_only=True)
class OutcomeLook:
    """How one outcome is drawn and said."""

    colour: str
    hatch: str
    word: str
    short: str
    meaning: str


OUTCOMES: Mapping[str, OutcomeLook] = MappingProxyType(
    {
        "converged": OutcomeLook(
            colour="#009e73",
            hatch="",
            word="converged",
            short="ok",
            meaning="close to the target, every mode held, and it stayed so to the end",
        ),
        "under_trained": OutcomeLook(
            colour="#56b4e9",
            hatch="",
            word="under-trained",
            short="slow",
            meaning="still improving when the budget ended",
        ),
        "plateau": OutcomeLook(
            colour="#b4bac0",
            hatch="",
            word="plateau",
            short="plateau",
            meaning="settled short of the criteria; of the kind partial collapse where modes are missing",
        ),
        "oscillating": OutcomeLook(
            colour="#e69f00",
            hatch="",
            word="oscillating",
            short="oscill.",
            meaning="came and went, and did not settle",
        ),
        "collapsed": OutcomeLook(
            colour="#cc79a7",
            hatch="",
            word="collapsed",
            short="collapsed",
            meaning="the generated mass sits on few modes",
        ),
        "diverged": OutcomeLook(
            colour="#d55e00",
            hatch="",
            word="diverged",
            short="diverged",
            meaning="non-finite numbers, or samples far outside the data",
        ),
        "censored": OutcomeLook(
            colour="#f4f5f6",
            hatch="////",
            word="censored",
            short="censored",
            meaning="stopped by the scheduler before its horizon",
        ),
        "failed": OutcomeLook(
            colour="#4a4f55",
            hatch="xxxx",
            word="failed",
            short="failed",
            meaning="the machinery failed, not the training",
        ),
    }
)
"""Outcomes in report order; colours after Okabe and Ito 2008, distinguishable with colour-blind eyes."""

PARTIAL = "partial_collapse"
SUCCESS_MAP = LinearSegmentedColormap.from_list("converged", ["#ffffff", "#d5ebe2", "#7cc4a8", "#009e73", "#006b4f"])
"""Fill of P(converged): white is 0, deep green is 1; lightness alone carries the order."""

_RC: Mapping[str, object] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "ganstudy",
        "font.family": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
        "font.size": 8.0,
        "text.parse_math": False,  # a "$" in a label is a dollar, not mathematics
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": SOFT,
        "axes.linewidth": 0.8,
        "axes.unicode_minus": True,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "hatch.linewidth": 0.7,
        "path.simplify": False,
    }
)
_PAGE_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


@contextmanager
def style() -> Iterator[None]:
    """The figures' settings, for the time of drawing only."""
    with matplotlib.rc_context(dict(_RC)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def new_figure(*, height: float, width: float = WIDTH) -> Figure:
    """An empty white figure of the given size in CSS pixels."""
    figure = Figure(figsize=(width * PIXEL, height * PIXEL), dpi=96, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def place(figure: Figure, *, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in CSS pixels from the figure's upper left corner."""
    full_width, full_height = figure.get_size_inches() / PIXEL
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    axes: Axes = figure.add_axes(box)
    axes.tick_params(length=3, width=0.8, pad=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def hatched_box(
    corner: tuple[float, float], width: float, height: float, *, hatch: str, colour: str, face: str = "none"
) -> Rectangle:
    """A borderless hatched rectangle (older matplotlib takes the hatch's colour from the settings only)."""
    with matplotlib.rc_context({"hatch.color": colour}):
        return Rectangle(corner, width, height, facecolor=face, linewidth=0, hatch=hatch)


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG in the page's fonts, without date or ids that change."""
    with style():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().decode("utf-8")
    return re.sub(r"(font: [^;\"<>]*)'DejaVu Sans'", lambda match: match[1] + _PAGE_FONTS, text).encode("utf-8")


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG at twice the page's resolution, without software name or date."""
    with style():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def ink_on(fill: tuple[float, float, float, float] | str) -> str:
    """Dark or white text, whichever is readable on ``fill`` (WCAG relative luminance)."""
    red, green, blue, _ = matplotlib.colors.to_rgba(fill)
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return "white" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.25 else INK


def in_order(values: pd.Series) -> list[str]:
    """Distinct values as text in the order of their first appearance (the study file's order)."""
    return list(dict.fromkeys(str(value) for value in values))


def panels_across(panels: int, *, most: int = 3) -> int:
    """Panels in a row: three, or two where that leaves no lonely one, and never more than ``most``."""
    return min(most, 2 if panels in (2, 4) else 3, max(panels, 1))


def empty_figure(message: str, *, height: float = 90.0) -> Figure:
    """A figure that says why there is nothing to draw."""
    with style():
        figure = new_figure(height=height)
        figure.text(0.5, 0.5, message, ha="center", va="center", color=SOFT, fontsize=9)
    return figure
