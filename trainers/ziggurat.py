"""The tables of numpy's single-precision ziggurat for normal numbers, computed from its definition.

Marsaglia & Tsang 2000, J. Stat. Softw. 5(8): 256 strips of equal area under exp(-x^2/2), the lowest with the tail.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

EDGE = Decimal("3.6541528853610087963519472518")
"""Where the tail begins."""
AREA = Decimal("0.0049286732339746549315909134318")
"""Of each strip: EDGE times the density there, and the tail beyond it."""


@lru_cache(maxsize=1)
def tables() -> tuple[NDArray[np.void], NDArray[np.float32]]:
    """Strips [512] as ``native_draws.h`` reads them, the second half negative, and the density's heights [256].

    In decimal arithmetic, since a mathematical library may round otherwise than the one numpy's came from.
    """
    with localcontext(Context(prec=40)):
        edges = _edges()
        steps = Decimal(2) ** 23
        widths = np.array([float(edge / steps) for edge in edges], np.float32)
        shares = [EDGE / edges[0], Decimal(0), *(inner / edge for inner, edge in pairwise(edges[1:]))]
        strips = np.empty(512, dtype=[("width", np.float32), ("inside", np.uint32)])
        strips["width"] = np.concatenate([widths, -widths])
        strips["inside"] = np.tile([round(share * steps) for share in shares], 2)
        return strips, np.array([1.0, *(float(_density(edge)) for edge in edges[1:])], np.float32)


def _edges() -> list[Decimal]:
    """Right edges of the strips from the top, 1, to the last above the tail, 255; 0 is as wide as its area needs."""
    edges = [EDGE]
    while len(edges) < 255:
        edges.append((-2 * (AREA / edges[-1] + _density(edges[-1])).ln()).sqrt())
    return [AREA / _density(EDGE), *reversed(edges)]


def _density(x: Decimal) -> Decimal:
    return (-x * x / 2).exp()
