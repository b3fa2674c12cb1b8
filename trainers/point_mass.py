"""The target of the Dirac-GAN: all real data are one point, 0 (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class PointMass:
    """Real data at 0, in one dimension, without modes (Mescheder et al. 2018, arXiv:1801.04406, section 2).

    What is to be learned is known exactly, so its judge looks at the players' parameters and not at samples.
    """

    name: str = "dirac"
    sample_shape: tuple[int, ...] = (1,)
    dimensions: int = 1
    bounded: bool = False
    mode_names: tuple[str, ...] = ()
    n_modes: int = 0
    held_out_size: None = None

    @property
    def mode_weights(self) -> NDArray[np.float64]:
        """No modes, no shares: [0]."""
        return np.zeros(0)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float32]:
        """``n`` zeros, [n, 1]; nothing is drawn."""
        del rng
        return np.zeros((n, 1), np.float32)

    def held_out(self, rng: np.random.Generator, n: int) -> NDArray[np.float32]:
        """``n`` zeros, [n, 1]: real is real."""
        return self.sample(rng, n)
