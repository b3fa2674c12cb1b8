"""The tables of numpy's ziggurats for normal numbers, computed from their definition.

Marsaglia & Tsang 2000, J. Stat. Softw. 5(8): 256 strips of equal area under exp(-x^2/2), the lowest with the tail.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

EDGE = 3.6541528853610088
"""Where the tail begins."""
AREA = 0.004928673233974652
"""Of each strip, tail included; as numpy's tables have it, four units of the last place below EDGE's own."""
MISROUNDED = {38: 0.6773880362187735}
"""The one height in numpy's tables that is not the exponential's nearest number, but the next one above."""

Tables = tuple[NDArray[np.void], NDArray[np.floating]]
"""Strips [512] as ``native_draws.h`` reads them, the second half negative, and the density's heights [256]."""


@lru_cache(maxsize=2)
def tables(number: type[np.float32] | type[np.float64]) -> Tables:
    """The tables for numbers of this type, whose strips are cut in 2^23 or 2^52 steps."""
    word, steps = (np.uint32, 2.0**23) if number is np.float32 else (np.uint64, 2.0**52)
    edges, heights = _edges()
    shares = [EDGE / edges[0], 0.0, *(inner / edge for inner, edge in pairwise(edges[1:]))]
    strips = np.empty(512, dtype=[("width", number), ("inside", word)])
    strips["width"] = np.array([*edges, *(-edge for edge in edges)]) / steps
    strips["inside"] = np.tile(np.array([round(share * steps) for share in shares], word), 2)
    return strips, np.array(heights).astype(number)


def _edges() -> tuple[list[float], list[float]]:
    """Right edges of the strips from the top, 1, to the last above the tail, 255, and the density there.

    0 is as wide as its area needs. Every operation is rounded to double precision, as numpy's were.
    """
    edges, heights = [EDGE], [_exp(-0.5 * EDGE * EDGE)]
    while len(edges) < 255:
        edges.append(sqrt(-2 * _log(AREA / edges[-1] + heights[-1])))
        heights.append(MISROUNDED.get(256 - len(edges)) or _exp(-0.5 * edges[-1] * edges[-1]))
    return [AREA / heights[0], *reversed(edges)], [1.0, *reversed(heights)]


def _exp(x: float) -> float:
    """Rounded rightly: mathematical libraries differ in the last place."""
    return float(Decimal(x).exp())


def _log(x: float) -> float:
    return float(Decimal(x).ln())
