from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from study.pictures import Panel, drawable, picture

REAL = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]], dtype=np.float32)
BLUE = (0, 90, 181)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def blue(image: np.ndarray) -> np.ndarray:
    """Coordinates (row, column) of pixels in the colour of generated samples."""
    return np.argwhere(np.abs(image - BLUE).max(axis=2) < 40)


def one(samples: np.ndarray) -> np.ndarray:
    panel = Panel(generator_step=10, samples=samples.astype(np.float32))
    return pixels(picture([panel], sample_shape=(2,), real=REAL, title="t"))


def test_a_point_up_and_right_is_drawn_up_and_right_of_the_centre() -> None:
    centre = blue(one(np.array([[0.0, 0.0]]))).mean(axis=0)
    moved = blue(one(np.array([[0.5, 0.25]]))).mean(axis=0)
    right, up = moved[1] - centre[1], centre[0] - moved[0]
    assert right > 0
    assert right == pytest.approx(2 * up, rel=0.05)


def test_axes_are_fixed_by_the_real_samples_so_that_panels_compare() -> None:
    """A far sample does not rescale the others; how many lie outside is written, a non-finite one included."""
    near = np.array([[0.5, 0.25]])
    far = np.array([[0.5, 0.25], [50.0, 0.0], [np.nan, 0.0]])
    assert (blue(one(far)) == blue(one(near))).all()
    assert not (one(far) == one(near)).all()  # the note


def test_panels_lie_side_by_side_and_an_ended_replicate_leaves_its_panel_without_samples() -> None:
    point = np.array([[0.0, 0.0]], dtype=np.float32)
    panels = [Panel(generator_step=0, samples=point), Panel(generator_step=5, samples=None, note="ended at step 3")]
    image = pixels(picture(panels, sample_shape=(2,), real=REAL, title="t"))
    assert image.shape[1] == 900
    assert (blue(image)[:, 1] < 450).all()
    assert len(blue(image)) > 0


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8)])
def test_images_become_tiles_in_order_with_their_grey_levels_and_orientation(shape: tuple[int, ...]) -> None:
    """The first tile's top row is bare paper, all else ink: 8 of 64 pixels of one tile of 36."""
    ink = -1.0 if len(shape) == 3 and shape[0] == 3 else 1.0  # one channel is drawn as ink, colours as they are
    samples = np.full((40, *shape), ink, dtype=np.float32)
    samples[0, ..., 0, :] = -ink
    panel = Panel(generator_step=0, samples=samples.reshape(40, -1))
    panels = [panel, *[Panel(generator_step=step, samples=None) for step in range(1, 5)]]
    image = pixels(picture(panels, sample_shape=shape, real=REAL, title=""))
    black = np.argwhere(image.max(axis=2) == 0)
    top, left = black.min(axis=0)
    assert len(black) == 36 * 64 * 9 - 8 * 9  # each pixel a block of 3 x 3, six tiles across
    assert (image[top : top + 3, left : left + 24] == 255).all()


def test_a_colour_channel_keeps_its_colour() -> None:
    samples = np.full((1, 3, 8, 8), -1.0, dtype=np.float32)
    samples[0, 2] = 1.0
    panel = Panel(generator_step=0, samples=samples.reshape(1, -1))
    image = pixels(picture([panel], sample_shape=(3, 8, 8), real=REAL, title=""))
    assert (image == (0, 0, 255)).all(axis=2).sum() > 100


def test_shapes_that_are_no_picture_are_refused() -> None:
    assert not drawable((5,))
    with pytest.raises(ValueError, match=r"sample_shape must be .* got \(5,\)"):
        picture([Panel(generator_step=0, samples=None)], sample_shape=(5,), real=REAL, title="")
