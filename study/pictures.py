"""Samples of one replicate over time as a PNG: points in the plane, or tiles of small images (Pillow only)."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, GAP = 900, 20, 12
_TITLE_HEIGHT, _LABEL_HEIGHT = 46, 26
_LEGIBLE_TILE = 24
_SHEET_TILE, _SEAM, _ROW_LABEL = 56, 2, 88
_OVERSAMPLING = 3  # Pillow draws without antialiasing: draw larger, then shrink

_PAPER, _PANEL, _FRAME = (255, 255, 255), (248, 248, 246), (214, 214, 210)
_TEXT, _FAINT_TEXT = (40, 40, 40), (125, 125, 125)
_REAL, _FAKE = (196, 200, 206), (0, 90, 181)

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One kept step: ``samples`` [n, d], or None for a replicate that had ended; ``note`` stands in their place."""

    generator_step: int
    samples: Floats | None
    note: str = ""


def drawable(sample_shape: tuple[int, ...]) -> bool:
    """Whether ``picture`` knows how to show samples of this shape: points in the plane, grey or colour images."""
    return sample_shape == (2,) or len(sample_shape) == 2 or (len(sample_shape) == 3 and sample_shape[0] in (1, 3))


def picture(panels: Sequence[Panel], *, sample_shape: tuple[int, ...], real: Floats, title: str) -> bytes:
    """PNG of one replicate's samples, one panel per kept step from left to right, about 900 pixels wide.

    Targets in the plane are scatters over ``real`` samples [n, 2], on axes fixed by the real ones; how many fakes
    lie outside is written in the panel. Images ([-1, 1], shape (h, w), (1, h, w) or (3, h, w)) are tiles.
    Raises ValueError for a sample shape that is not ``drawable``.
    """
    if not drawable(sample_shape):
        raise ValueError(f"sample_shape must be (2,), (h, w), (1, h, w) or (3, h, w), got {sample_shape}")
    size = (WIDTH - 2 * MARGIN - GAP * (len(panels) - 1)) // len(panels)
    canvas = Image.new("RGB", (WIDTH, _TITLE_HEIGHT + size + _LABEL_HEIGHT + MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 14), title, font=_font(17), fill=_TEXT)
    for place, panel in enumerate(panels):
        left, top = MARGIN + place * (size + GAP), _TITLE_HEIGHT
        canvas.paste(_panel(panel, sample_shape=sample_shape, real=real, size=size), (left, top))
        draw.rectangle((left, top, left + size - 1, top + size - 1), outline=_FRAME)
        _centred(draw, f"step {panel.generator_step:,}", x=left + size / 2, y=top + size + 15, fill=_TEXT)
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One replicate in a sheet: flat images [n, d] in [-1, 1], or None and a ``note`` in their place."""

    label: str
    samples: Floats | None
    note: str = ""


def sheet(rows: Sequence[Row], *, sample_shape: tuple[int, ...], title: str) -> bytes:
    """PNG of one step: a row of image samples for each replicate, every pixel an equal block, about 900 pixels wide.

    Images of shape (h, w), (1, h, w) or (3, h, w) as ``picture`` shows them; as many across as are legible.
    """
    height, width = sample_shape[-2:]
    scale = max(1, _SHEET_TILE // max(height, width))
    step_x, step_y = width * scale + _SEAM, height * scale + _SEAM
    across = max(1, (WIDTH - 2 * MARGIN - _ROW_LABEL) // step_x)
    canvas = Image.new("RGB", (WIDTH, _TITLE_HEIGHT + len(rows) * (step_y + _SEAM) + MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 14), title, font=_font(17), fill=_TEXT)
    for place, row in enumerate(rows):
        top = _TITLE_HEIGHT + place * (step_y + _SEAM)
        draw.text((MARGIN, top + step_y / 2), row.label, font=_font(13), fill=_TEXT, anchor="lm")
        if row.samples is None:
            left = MARGIN + _ROW_LABEL
            draw.text((left, top + step_y / 2), row.note, font=_font(13), fill=_FAINT_TEXT, anchor="lm")
            continue
        strip = _strip(_as_images(row.samples[:across], sample_shape), scale=scale)
        canvas.paste(Image.fromarray(strip), (MARGIN + _ROW_LABEL, top))
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG")
    return buffer.getvalue()


def _strip(images: NDArray[np.uint8], *, scale: int) -> NDArray[np.uint8]:
    """Images [n, h, w, 3] side by side, enlarged, with a seam of paper between them."""
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    seams = np.full((*enlarged.shape[:2], _SEAM, 3), _PAPER, np.uint8)
    return np.ascontiguousarray(np.concatenate([*np.concatenate([enlarged, seams], axis=2)], axis=1))


def _panel(panel: Panel, *, sample_shape: tuple[int, ...], real: Floats, size: int) -> Image.Image:
    if panel.samples is None:
        blank = Image.new("RGB", (size, size), _PANEL)
        _centred(ImageDraw.Draw(blank), panel.note, x=size / 2, y=size / 2, fill=_FAINT_TEXT)
        return blank
    if sample_shape == (2,):
        return _scatter(panel.samples, real=real, size=size)
    return _tiles(_as_images(panel.samples, sample_shape), size=size)


def _scatter(samples: Floats, *, real: Floats, size: int) -> Image.Image:
    centre = (real.max(axis=0) + real.min(axis=0)) / 2
    reach = 1.25 * float((real.max(axis=0) - real.min(axis=0)).max()) / 2 or 1.0
    image = _real_layer(np.ascontiguousarray((real - centre) / reach, np.float32).tobytes(), size).copy()
    _dots(image, (samples - centre) / reach, colour=_FAKE, radius=1.6)
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    outside = int((~(np.abs(samples - centre) <= reach).all(axis=1)).sum())  # a non-finite one is outside as well
    if outside:
        _centred(ImageDraw.Draw(image), f"{outside} of {len(samples)} outside", x=size / 2, y=12, fill=_FAINT_TEXT)
    return image


@lru_cache(maxsize=4)
def _real_layer(points: bytes, size: int) -> Image.Image:
    """The real samples that every panel of a study's pictures starts from, drawn once."""
    image = Image.new("RGB", (size * _OVERSAMPLING, size * _OVERSAMPLING), _PANEL)
    _dots(image, np.frombuffer(points, np.float32).reshape(-1, 2), colour=_REAL, radius=1.3)
    return image


def _dots(image: Image.Image, points: Floats, *, colour: tuple[int, int, int], radius: float) -> None:
    """Points [n, 2] on axes from -1 to 1 as discs; what is not finite is left out."""
    draw, half, r = ImageDraw.Draw(image), image.width / 2, radius * _OVERSAMPLING
    places = half + points * np.array([1, -1]) * half
    for x, y in places[np.isfinite(places).all(axis=1)]:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _as_images(samples: Floats, sample_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """[n, h, w, 3] bytes from flat rows in [-1, 1]; one channel is dark ink on white; what is not finite is blank."""
    shape = sample_shape if len(sample_shape) == 3 else (1, *sample_shape)
    numbers = np.nan_to_num(samples, nan=-1.0).reshape(-1, *shape).clip(-1, 1)
    channels_last = np.moveaxis(np.rint((numbers + 1) * 127.5).astype(np.uint8), 1, -1)
    ink = 255 - channels_last if shape[0] == 1 else channels_last
    return np.broadcast_to(ink, (*ink.shape[:-1], 3))


def _tiles(images: NDArray[np.uint8], *, size: int) -> Image.Image:
    """A square grid of the first images, as many as are still legible, each pixel an equal block."""
    height, width = images.shape[1:3]
    across = max(1, min(math.isqrt(len(images)), size // (max(height, width, _LEGIBLE_TILE) + 1)))
    scale = max(1, (size // across - 1) // max(height, width))
    step_x, step_y = width * scale + 1, height * scale + 1
    sheet = Image.new("RGB", (across * step_x + 1, across * step_y + 1), _PANEL)
    for place in range(across * across):
        tile = Image.fromarray(np.ascontiguousarray(images[place]))
        enlarged = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (place % across * step_x + 1, place // across * step_y + 1))
    panel = Image.new("RGB", (size, size), _PANEL)
    sheet.thumbnail((size, size))
    panel.paste(sheet, ((size - sheet.width) // 2, (size - sheet.height) // 2))
    return panel


def _centred(draw: ImageDraw.ImageDraw, text: str, *, x: float, y: float, fill: tuple[int, int, int]) -> None:
    draw.text((x, y), text, font=_font(13), fill=fill, anchor="mm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return _font_of(size, threading.get_ident())


@lru_cache(maxsize=16)
def _font_of(size: int, thread: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Made once, since that takes longer than drawing a label, and for one thread: FreeType is not for two at once."""
    return ImageFont.load_default(size)
