"""Draws in C: numpy's own bits, wherever its ziggurat goes, and defects that the check at the start finds."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainers import draws, native
from trainers.draws import DrawShape, Stream, draw_block
from trainers.native_library import Library
from trainers.targets import GaussianMixture, ring
from trainers.ziggurat import tables

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")

EDGE = 3.6541528853610088
"""Numbers beyond it come from the ziggurat's tail alone."""
SEEDS = [0, 1, 2**32 - 1, 2**32, 1797, 2**64 - 1, 1 << 40]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(native.build())


@pytest.fixture
def _native() -> Iterator[None]:
    native.use("native")
    yield
    native.use("torch")


def by_numpy(seed: int, stream: int, index: int, count: int) -> tuple[NDArray[np.float32], int]:
    """Normal numbers, and how many halves of words they took."""
    rng = draws.generator(seed, Stream(stream), index)
    drawn = rng.standard_normal(count, dtype=np.float32)
    state = rng.bit_generator.state
    return drawn, 2 * (int(state["state"]["state"][3]) - 13) - int(state["has_uint32"])  # 13: seeding takes twelve


def by_kernel(library: Library, seeds: Sequence[int], stream: int, index: int, count: int) -> NDArray[np.float32]:
    out = np.full((len(seeds), count), np.nan, np.float32)
    library.normals(seeds, stream, index, out)
    return out


def same_bits(got: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return np.array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_millions_of_normals_have_numpys_bits_in_the_middle_in_wedges_and_in_tails(library: Library) -> None:
    tails, rejections = 0, 0
    for stream in (Stream.LATENT, Stream.PENALTY_NOISE, Stream.EVALUATION_FAKE_NOISE):
        for index in (0, 1, 123_456, 2**32 - 1):
            got = by_kernel(library, SEEDS, stream, index, 40_001)
            for seed, drawn in zip(SEEDS, got, strict=True):
                expected, halves = by_numpy(seed, stream, index, 40_001)
                assert same_bits(drawn, expected), (seed, stream, index)
                tails += int((np.abs(drawn) > EDGE).sum())
                rejections += halves - 40_001
    assert tails > 500, "the tail was hardly reached: nothing is known of it"
    assert rejections > 20_000, "wedges were hardly reached: nothing is known of them"


@pytest.mark.parametrize(
    ("number", "digest"),
    [(np.float32, "6db8f113e2b4e3372c64491072528d3a"), (np.float64, "d46841a090f638a74c6bd112345fe681")],
)
def test_the_tables_are_those_of_numpys_source(number: type[np.float32] | type[np.float64], digest: str) -> None:
    strips, heights = tables(number)
    halves = strips[:256], strips[256:]
    assert np.array_equal(halves[0]["width"], -halves[1]["width"])
    assert np.array_equal(halves[0]["inside"], halves[1]["inside"])
    # ki_, wi_ and fi_ of float and double in numpy 2.4.6's ziggurat_constants.h: one unit hardly shows in draws
    numbers = halves[0]["inside"].tobytes() + halves[0]["width"].tobytes() + heights.tobytes()
    assert hashlib.sha256(numbers).hexdigest()[:32] == digest


MIXTURES = {
    "one mode": (np.array([[1.5, -2.0]]), 0.3, 20_001),
    "a power of two": (ring(modes=8, radius=2.0, std=0.1).centres, 0.1, 200_001),
    "wide": (np.array([[0.0, 1.0, 2.0], [1e-3, 5.0, -6.0], [7.0, 8.0, 9.0]]), 40.0, 100_001),
    "a million of modes: Lemire's method rejects": (np.arange(1_000_003.0)[:, None], 1e-3, 200_001),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_points_of_a_mixture_have_numpys_bits(library: Library, name: str) -> None:
    centres, std, count = MIXTURES[name]
    modes, dimensions = centres.shape
    names = tuple(map(str, range(modes))) if modes < 10 else ()
    target = GaussianMixture(name="test", centres=centres, std=std, mode_names=names)
    seeds = [0, 7, 2**64 - 1]
    out = np.empty((len(seeds), count, dimensions), np.float32)
    library.mixture(seeds, Stream.DATA, 3, out, centres=centres, std=std)
    for seed, drawn in zip(seeds, out, strict=True):
        expected = target.sample(draws.generator(seed, Stream.DATA, 3), count)
        assert same_bits(drawn, expected)
        rng = draws.generator(seed, Stream.DATA, 3)
        rng.integers(modes, size=count)
        state = rng.bit_generator.state
        halves = 2 * (int(state["state"]["state"][3]) - 13) - int(state["has_uint32"])
        assert (halves > count) == (modes > 10), "only so many modes are ever rejected"
        tails = np.abs(rng.standard_normal((count, dimensions))) > EDGE
        assert tails.any(), "the tail was not reached"


@pytest.mark.parametrize("count", [1, 2, 3, 1023, 1024, 1025, 2049])
def test_any_number_of_them_are_the_first_of_more_and_nothing_is_written_beyond(library: Library, count: int) -> None:
    room = np.full((3, count + 16), 7.0, np.float32)
    out = room.ravel()[: 3 * count].reshape(3, count)
    library.normals([5, 6, 2**33], 2, 9, out)
    for seed, drawn in zip([5, 6, 2**33], out, strict=True):
        assert same_bits(drawn, by_numpy(seed, 2, 9, 5000)[0][:count])
    assert (room.ravel()[3 * count :] == 7.0).all()


@pytest.mark.parametrize("count", [1, 1025, 100_000])
def test_uniform_numbers_have_numpys_bits(library: Library, count: int) -> None:
    out = np.empty((len(SEEDS), count), np.float32)
    library.uniforms(SEEDS, Stream.PENALTY, 4, out)
    for seed, drawn in zip(SEEDS, out, strict=True):
        assert same_bits(drawn, draws.generator(seed, Stream.PENALTY, 4).random(count, dtype=np.float32))


def everything(seeds: Sequence[int]) -> draws.Draws:
    shape = DrawShape(
        batch_size=31,
        latent_dim=3,
        latents=2,
        reals=2,
        epsilons=1,
        penalty_noises=1,
        real_noises=2,
        fake_noises=2,
    )
    return draw_block(seeds, block=6, shape=shape, target=ring(modes=7, radius=2.0, std=0.1))


@pytest.mark.usefixtures("_native")
@pytest.mark.parametrize("seeds", [[3, 2**40, 11], [2**64 + 5, 4]], ids=["words", "longer than the kernels take"])
def test_whole_blocks_are_the_same_with_either_kernels(seeds: list[int]) -> None:
    got = everything(seeds)
    native.use("torch")
    expected = everything(seeds)
    for name, tensor in vars(expected).items():
        assert same_bits(getattr(got, name).numpy(), tensor.numpy()), name


def test_threads_draw_at_once_what_one_draws(library: Library) -> None:
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda index: by_kernel(library, SEEDS, 2, index % 8, 20_000), range(32)))
    for index, got in enumerate(drawn):
        assert same_bits(got, drawn[index % 8])
        assert same_bits(got[1], by_numpy(SEEDS[1], 2, index % 8, 20_000)[0])


@pytest.mark.usefixtures("_native")
def test_kernels_draw_where_they_are_in_use_alone() -> None:
    assert native.drawing([1, 2], 0) is not None
    assert native.drawing([1, -2], 0) is None
    assert native.drawing([1, 2], 2**32) is None
    native.use("torch")
    assert native.drawing([1, 2], 0) is None


PLANTED = {
    "high half first": ("of->made[2 * i] = (uint32_t)word, of->made[2 * i + 1] = (uint32_t)(word >> 32)",
                        "of->made[2 * i] = (uint32_t)(word >> 32), of->made[2 * i + 1] = (uint32_t)word"),
    "wedges taken whole": ("return (double)height < exp(-0.5 * (double)x * (double)x);", "return height < 2;"),
    "wedges refused": ("return (double)height < exp(-0.5 * (double)x * (double)x);", "return height > 2;"),
    "a wedge costs no number": ("times(heights[strip - 1] - heights[strip], uniform(of))", "0.5f"),
    "the tail's sign from another bit": ("half >> 17 & 1", "half >> 16 & 1"),
    "the tail's sign lost": ("> times(beyond, beyond)) return negative ? -found : found",
                             "> times(beyond, beyond)) return found"),
    "the tail's second number not drawn": ("const float y = -log1pf(-uniform(of))", "const float y = 9"),
    "the edge counts as inside": ("distance >= here.inside", "distance > here.inside + 40000"),
    "eleven rounds after seeding": ("i < 12; i++) next_word", "i < 11; i++) next_word"),
    "long seeds cut": ("(uint32_t)(seed >> 32)", "0"),
    "the index forgotten": ("0, 0, stream, index}", "0, 0, stream, 0}"),
    "wide wedges taken whole": ("< exp(-0.5 * x * x)) return x;", "< 2) return x;"),
    "the wide tail's sign lost": ("return wide_tail(of, distance >> 8 & 1)", "return wide_tail(of, 0)"),
    "wide strips and signs from a number of its own": ("word = next_word(of), distance = word >> 9",
                                                       "word = next_word(of), distance = next_word(of) >> 9"),
    "modes from high halves first": ("(word & 0xffffffffu) * bound", "(word >> 32) * bound"),
    "modes without a product": ("(float)(product >> 32)", "(float)((uint32_t)product % bound)"),
    "uniforms of all their bits": (">> 8) * (1.0f / 16777216.0f)", ">> 0) * (1.0f / 4294967296.0f)"),
}  # fmt: skip


@pytest.mark.parametrize("defect", [None, *PLANTED])
def test_a_planted_defect_is_found_when_the_kernels_are_loaded(defect: str | None, tmp_path: Path) -> None:
    folder = native.SOURCE.parent
    source = (folder / "native_draws.h").read_text(encoding="utf-8")
    if defect is not None:
        right, wrong = PLANTED[defect]
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    whole = native.SOURCE.read_text(encoding="utf-8")
    (tmp_path / "native_draws.h").write_text(source, encoding="utf-8")
    exports = whole[whole.index("/* Standard normal numbers [members, count]") :]
    (tmp_path / "draws.c").write_text(f'#include "native_draws.h"\nlong ganstudy_ld(long n) {{ return n; }}\n{exports}')
    built = tmp_path / "draws.so"
    command = [shutil.which("cc") or "gcc", *native.FLAGS, "-o", str(built), str(tmp_path / "draws.c"), "-lm"]
    subprocess.run(command, check=True)
    assert native.draws_as_numpy(Library(built)) == (defect is None)


def test_a_numpy_that_draws_otherwise_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "draws_as_numpy", lambda library: False)
    native._loaded.cache_clear()
    try:
        native.use("native")
        assert native.label() != "torch"
        assert native.drawing([1], 0) is None
    finally:
        native._loaded.cache_clear()
        native.use("torch")
