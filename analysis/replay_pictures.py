"""A replay's frames as pictures: sheets of image tiles for the page, and an animated GIF to pass on (Pillow only)."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from analysis.figures_style import ACCENT, FAINT, INK, SOFT

LANDSCAPE: tuple[tuple[int, int, int], ...] = ((206, 217, 228), (250, 250, 248), (252, 226, 172))
"""Colours of D(x) from its lowest value (fake) over the middle to its highest (real)."""
REAL, CENTRE, TRAIL, BAR, PAPER = "#9aa3ab", "#d55e00", "#9fc0d6", "#e4e8eb", "#ffffff"

GIF_SIDE, GIF_MARGIN, GIF_HEAD, GIF_FOOT = 400, 18, 58, 26
GIF_SECONDS, GIF_LAST_MS = 8.0, 2500
_OVERSAMPLING = 2  # Pillow draws without antialiasing: draw larger, then shrink
_COLOURS = 64
_SHADES = 12  # of D in the film: flat areas are what GIF can pack

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What frames are drawn on: the square around ``middle`` that reaches ``reach`` each way, and what lies there."""

    sample_shape: tuple[int, ...]
    real: Floats
    centres: NDArray[np.float64] | None
    middle: tuple[float, float]
    reach: float

    @property
    def kind(self) -> str:
        """plane, images, orbit (frames are one point: a number and D's slope), or none of these."""
        shape = self.sample_shape
        if shape == (1,):
            return "orbit"
        if shape == (2,):
            return "plane"
        colour = len(shape) == 3 and shape[0] in (1, 3)
        return "images" if len(shape) == 2 or colour else "none"


def tiles(samples: Floats, sample_shape: Sequence[int]) -> Pixels:
    """The first images of [n, d] in a square, [H, W, 3]; one channel is dark ink on white, a light line between.

    Pixels are in [-1, 1]; what is not finite is paper.
    """
    shape = tuple(sample_shape) if len(sample_shape) == 3 else (1, *sample_shape)
    numbers = np.nan_to_num(samples, nan=-1.0, posinf=1.0, neginf=-1.0).reshape(-1, *shape).clip(-1, 1)
    images = np.moveaxis(np.rint((numbers + 1) * 127.5).astype(np.uint8), 1, -1)
    images = np.repeat(255 - images, 3, axis=-1) if shape[0] == 1 else images
    across, (height, width) = math.isqrt(len(images)), images.shape[1:3]
    sheet = np.full((across * (height + 1) - 1, across * (width + 1) - 1, 3), 238, np.uint8)
    for place in range(across * across):
        y, x = place // across * (height + 1), place % across * (width + 1)
        sheet[y : y + height, x : x + width] = images[place]
    return sheet


def sprite(sheets: Sequence[Pixels]) -> tuple[bytes, int]:
    """All sheets in one PNG, row by row, and how many lie in a row."""
    across = math.ceil(math.sqrt(len(sheets)))
    height, width = sheets[0].shape[:2]
    whole = np.full((math.ceil(len(sheets) / across) * height, across * width, 3), 255, np.uint8)
    for place, sheet in enumerate(sheets):
        y, x = place // across * height, place % across * width
        whole[y : y + height, x : x + width] = sheet
    return png(whole), across


def png(pixels: Pixels) -> bytes:
    """PNG of [H, W, 3]; grey ones are stored with one channel."""
    grey = bool((pixels == pixels[..., :1]).all())
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def levels(landscape: Floats) -> tuple[Pixels, float, float]:
    """D over the plane as bytes from its own lowest to its own highest value, and both; a flat one is all middle."""
    finite = landscape[np.isfinite(landscape)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if not high > low:
        return np.full(landscape.shape, 128, np.uint8), low, high
    share = np.nan_to_num((landscape.astype(np.float64) - low) / (high - low), nan=0.5, posinf=1.0, neginf=0.0)
    return np.rint(255 * share.clip(0, 1)).astype(np.uint8), low, high


def gif(
    stage: Stage,
    *,
    steps: Sequence[int],
    samples: Floats,
    landscapes: Floats | None,
    title: str,
    ending: str,
    horizon: int,
) -> bytes:
    """An endless animation of samples [F, n, d], about GIF_SECONDS long, its last frame held and marked ``ending``."""
    drawn = [
        _page(
            _orbit(stage, samples[: i + 1])
            if stage.kind == "orbit"
            else _view(stage, samples[i], samples[i - 1] if i else None, None if landscapes is None else landscapes[i]),
            title=title,
            left=f"step {step:,} of {horizon:,}",
            right=ending if i == len(steps) - 1 else "",
            share=step / max(horizon, 1),
        )
        for i, step in enumerate(steps)
    ]
    palette = _drawn_palette() if stage.kind in ("plane", "orbit") else _seen_palette(drawn)
    frames = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in drawn]
    pause = max(60, round(1000 * GIF_SECONDS / len(frames) / 10) * 10)  # GIF counts hundredths of a second
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[pause] * (len(frames) - 1) + [GIF_LAST_MS],
        loop=0,
    )
    return buffer.getvalue()


def _drawn_palette() -> Image.Image:
    """Every colour that a plane is drawn with, and its blends with the ground: a rare colour is not lost to others."""
    grounds = [*LANDSCAPE, ImageColor.getrgb(PAPER)]
    inks = [ImageColor.getrgb(name) for name in (ACCENT, CENTRE, REAL, TRAIL, INK, SOFT, FAINT, BAR)]
    blends = [
        tuple(round(part * a + (1 - part) * b) for a, b in zip(ink, ground, strict=True))
        for ink in inks
        for ground in (grounds[1], grounds[2])
        for part in (0.25, 0.5, 0.75, 1.0)
    ]
    colours = list(dict.fromkeys([*grounds, *map(tuple, _shades()[:: 256 // _SHADES].tolist()), *blends]))
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in colours for channel in colour[:3]])
    return palette


def _seen_palette(drawn: Sequence[Image.Image]) -> Image.Image:
    """One palette for all frames, from a few of them side by side: colours do not flicker."""
    chosen = [drawn[i] for i in sorted({0, len(drawn) // 4, len(drawn) // 2, len(drawn) - 1})]
    row = Image.new("RGB", (chosen[0].width * len(chosen), chosen[0].height))
    for place, page in enumerate(chosen):
        row.paste(page, (place * page.width, 0))
    return row.quantize(colors=_COLOURS, method=Image.Quantize.MEDIANCUT)


def _page(view: Image.Image, *, title: str, left: str, right: str, share: float) -> Image.Image:
    width, top = GIF_SIDE + 2 * GIF_MARGIN, GIF_HEAD
    page = Image.new("RGB", (width, top + GIF_SIDE + GIF_FOOT), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GIF_MARGIN, 11), title, font=_font(15), fill=INK)
    draw.text((GIF_MARGIN, 33), left, font=_font(13), fill=SOFT)
    draw.text((width - GIF_MARGIN, 33), right, font=_font(13), fill=INK, anchor="ra")
    page.paste(view, (GIF_MARGIN, top))
    draw.rectangle((GIF_MARGIN, top, GIF_MARGIN + GIF_SIDE - 1, top + GIF_SIDE - 1), outline=FAINT)
    y = top + GIF_SIDE + 10
    draw.rectangle((GIF_MARGIN, y, GIF_MARGIN + GIF_SIDE - 1, y + 4), fill=BAR)
    draw.rectangle((GIF_MARGIN, y, GIF_MARGIN + max(1, round(GIF_SIDE * share)) - 1, y + 4), fill=ACCENT)
    return page


def _view(stage: Stage, samples: Floats, before: Floats | None, landscape: Floats | None) -> Image.Image:
    if stage.kind == "images":
        sheet = Image.fromarray(tiles(samples, stage.sample_shape))
        scale = max(1, GIF_SIDE // max(sheet.size))
        view = Image.new("RGB", (GIF_SIDE, GIF_SIDE), PAPER)
        large = sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)
        large.thumbnail((GIF_SIDE, GIF_SIDE))
        view.paste(large, ((GIF_SIDE - large.width) // 2, (GIF_SIDE - large.height) // 2))
        return view
    return _plane(stage, samples, before, landscape)


def _plane(stage: Stage, samples: Floats, before: Floats | None, landscape: Floats | None) -> Image.Image:
    side = GIF_SIDE * _OVERSAMPLING
    image = _ground(landscape, side)
    draw = ImageDraw.Draw(image)
    for x, y in _pixels(stage, stage.real, side):
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=REAL)
    here = _pixels(stage, samples, side, keep=True)
    if before is not None:
        for (x0, y0), (x1, y1) in _moved(_pixels(stage, before, side, keep=True), here, side):
            draw.line((x0, y0, x1, y1), fill=TRAIL, width=2)
    for x, y in _pixels(stage, stage.centres if stage.centres is not None else stage.real[:0], side):
        draw.line((x - 9, y, x + 9, y), fill=CENTRE, width=3)
        draw.line((x, y - 9, x, y + 9), fill=CENTRE, width=3)
    inside = np.isfinite(here).all(axis=1) & (here >= 0).all(axis=1) & (here <= side).all(axis=1)
    for x, y in here[inside]:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=ACCENT)
    image = image.reduce(_OVERSAMPLING)
    if outside := int((~inside).sum()):
        words = f"{outside} of {len(here)} outside"
        ImageDraw.Draw(image).text((GIF_SIDE - 8, GIF_SIDE - 8), words, font=_font(12), fill=INK, anchor="rd")
    return image


def _orbit(stage: Stage, path: Floats) -> Image.Image:
    """The way [F, 1, 2] of one point so far, around the equilibrium in the middle."""
    side = GIF_SIDE * _OVERSAMPLING
    image = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(image)
    draw.line((0, side / 2, side, side / 2), fill=FAINT, width=2)
    draw.line((side / 2, 0, side / 2, side), fill=FAINT, width=2)
    places = [tuple(place) for place in _pixels(stage, path[:, 0], side)]
    draw.line(places, fill=TRAIL, width=3)
    for (x, y), radius, fill in (((side / 2, side / 2), 6, CENTRE), *((place, 9, ACCENT) for place in places[-1:])):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return image.reduce(_OVERSAMPLING)


def _ground(landscape: Floats | None, side: int) -> Image.Image:
    if landscape is None:
        return Image.new("RGB", (side, side), PAPER)
    small = Image.fromarray(np.ascontiguousarray(levels(landscape)[0][::-1]))  # the lowest y is the bottom row
    large = small.resize((GIF_SIDE, GIF_SIDE), Image.Resampling.BILINEAR)
    return Image.fromarray(_shades()[np.asarray(large)]).resize((side, side), Image.Resampling.NEAREST)


def _shades() -> Pixels:
    """The colour of each of 256 levels of D, [256, 3], in _SHADES steps."""
    shares = (np.arange(256) * _SHADES // 256) / (_SHADES - 1)
    colours = np.array(LANDSCAPE, dtype=np.float64)
    channels = [np.interp(shares, [0, 0.5, 1], colours[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _pixels(stage: Stage, points: NDArray[np.floating], side: int, *, keep: bool = False) -> NDArray[np.float64]:
    """Points [n, 2] as pixels; those outside or not finite are left out unless ``keep``."""
    half = side / 2
    placed: NDArray[np.float64] = (
        half + (np.asarray(points, np.float64) - stage.middle) * np.array([1, -1]) * half / stage.reach
    )
    if keep:
        return placed
    inside: NDArray[np.float64] = placed[
        np.isfinite(placed).all(axis=1) & (placed >= 0).all(axis=1) & (placed <= side).all(axis=1)
    ]
    return inside


def _moved(
    before: NDArray[np.float64], after: NDArray[np.float64], side: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of places at two frames, far ones left out: a line across the square says nothing."""
    near = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    near &= (np.abs(before) <= 2 * side).all(axis=1) & (np.abs(after) <= 2 * side).all(axis=1)
    yield from zip(before[near], after[near], strict=True)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
