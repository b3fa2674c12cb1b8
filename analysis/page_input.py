"""What a finished report is shown from: report.html and report.md alike."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.figures_phase import Hotspot
from analysis.frames import StudyFrames
from analysis.robustness import Robustness

SEVERITIES = ("blocking", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A drawn figure as the page needs it."""

    name: str
    svg: bytes
    caption: str
    alt: str
    heading: str
    hotspots: tuple[Hotspot, ...]
    data: tuple[str, ...]
    commands: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The SVG as a data address: an image runs no script and its ids stay its own."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class PageInput:
    """Everything the page shows; ``frames`` without the replicates that confirm a setting, which are ``confirmed``."""

    frames: StudyFrames
    tables: Mapping[str, pd.DataFrame]
    cells: pd.DataFrame
    headline: str
    warnings: Sequence[Mapping[str, Any]]
    blocked: bool
    figures: Sequence[PageFigure]
    provenance: Mapping[str, object]
    files: Sequence[str]
    robustness: Robustness
    confirmed: pd.DataFrame

    @property
    def ordered_warnings(self) -> list[Mapping[str, Any]]:
        """The worst first."""
        return sorted(self.warnings, key=lambda w: SEVERITIES.index(w["severity"]))
