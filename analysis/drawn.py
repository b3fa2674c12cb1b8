"""A figure of the report with its caption and the tables it is drawn from, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures_phase import Hotspot
from analysis.figures_style import png_bytes, svg_bytes
from analysis.files import csv_text, write_text


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One figure: ``name`` is its file's stem, ``tables`` maps a file's stem to the table behind it."""

    name: str
    figure: Figure
    caption: str
    alt: str
    tables: Mapping[str, pd.DataFrame]
    hotspots: tuple[Hotspot, ...] = ()
    heading: str = ""
    commands: tuple[str, ...] = ()

    def write(self, folder: Path) -> bytes:
        """Write SVG, PNG and CSV below ``folder``; returns the SVG for the page."""
        folder.mkdir(parents=True, exist_ok=True)
        svg = svg_bytes(self.figure)
        (folder / f"{self.name}.svg").write_bytes(svg)
        (folder / f"{self.name}.png").write_bytes(png_bytes(self.figure))
        for stem, table in self.tables.items():
            write_text(folder / f"{stem}.csv", csv_text(table))
        return svg
