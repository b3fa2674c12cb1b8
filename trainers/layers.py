"""What stacked networks are built of: pure functions over a leading member axis, in which members never meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.precision import unrounded

NORMALISATION_EPSILON = 1e-5
"""Added to the variance, as torch.nn.BatchNorm does."""

KRYLOV_VECTORS = 16
"""Dimensions searched for the leading singular vector: its value is met within 2 % (trained weights: within .2 %)."""

SQUARINGS = 8
ALIGNED = 4
"""Numbers of a matrix's row after which the next matrix begins at the same place of a cache line's quarter."""

NARROW = 4
"""Up to so many columns a layer's products are written out so that the long side leads: see ``NarrowProduct``."""

_TINY = 1e-30
_EXHAUSTED = 1e-4

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Affine:
    """A weight [rows, columns] and what follows it for each of ``channels``: a bias, or the scale and shift of batch
    normalisation.

    ``spectral``: the weight is divided by its largest singular value. Where ``channels`` differ from ``columns``, the
    caller spreads the products over pixels.
    """

    rows: int
    columns: int
    channels: int
    normalised: bool = False
    spectral: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Of one member's parameters."""
        return ((self.rows, self.columns), *[(1, self.channels)] * (2 if self.normalised else 1))

    def initial(self, rng: np.random.Generator, *, std: float) -> list[Array]:
        """Weights N(0, std^2) and biases 0; for ``std`` 0 both uniform in +-1/sqrt(rows), as torch.nn.Linear.

        Scales of batch normalisation begin at 1 and shifts at 0.
        """
        bound = 1 / math.sqrt(self.rows)
        weight, *others = self.shapes
        drawn = rng.normal(0.0, std, weight) if std else rng.uniform(-bound, bound, weight)
        if self.normalised:
            return [drawn, np.ones(others[0]), np.zeros(others[1])]
        return [drawn, np.zeros(others[0]) if std else rng.uniform(-bound, bound, others[0])]

    def __call__(
        self, inputs: Tensor, parameters: Iterator[Tensor], *, spread: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """[R, batch, rows] -> [R, batch, columns]; takes its own of ``parameters``, which come in order.

        ``spread`` turns products [R, batch, columns] into [R, batch', channels] before what follows the weight. Where
        products are rounded to bfloat16, outputs are so too unless something is added up before or after: pixels, the
        statistics of batch normalisation, or few columns, whose products are never rounded.
        """
        weight = next(parameters)
        if self.spectral:
            weight = spectrally_normalised(weight)
        if spread is None and not self.normalised:
            if self.columns <= NARROW:
                return narrow_affine(inputs, weight, next(parameters))
            if self.columns % ALIGNED == 0:
                return torch.baddbmm(next(parameters), inputs, weight)
        products = aligned_product(inputs, weight).to(weight.dtype)
        outputs = products if spread is None else spread(products)
        if self.normalised:
            return batch_norm(outputs, scale=next(parameters), shift=next(parameters))
        return outputs + next(parameters)


def aligned_product(inputs: Tensor, weight: Tensor) -> Tensor:
    """inputs [R, batch, rows] @ weight [R, rows, columns], in matrices whose width is a multiple of ALIGNED.

    Matrix kernels round by where a matrix begins in memory. Of the weight's gradient, R matrices one after the other,
    each would begin elsewhere, so that a member's place decided its last bits.
    """
    columns = weight.shape[-1]
    missing = -columns % ALIGNED
    if not missing:
        return torch.bmm(inputs, weight)
    return torch.bmm(inputs, torch.nn.functional.pad(weight, (0, missing)))[..., :columns].contiguous()


class NarrowProduct(torch.autograd.Function):
    """inputs [R, batch, rows] @ weight [R, rows, columns] for few columns, differentiable any number of times.

    Matrix kernels are slow where the last side is short: one column of 64 rows and 256 samples cost as much as 64
    columns do, forwards and backwards. The same sums with the long side last take a fifth to a tenth of that.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        """The products [R, batch, columns]."""
        ctx.save_for_backward(inputs, weight)
        if weight.shape[-1] == 1:
            dots: Tensor = torch.linalg.vecdot(inputs, weight.mT)
            return dots.unsqueeze(-1)
        return torch.bmm(inputs, weight.mT.contiguous().mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of inputs and weight, in differentiable operations."""
        inputs, weight = ctx.saved_tensors
        of_inputs = of_weight = None
        if ctx.needs_input_grad[0]:
            of_inputs = gradient * weight.mT if weight.shape[-1] == 1 else aligned_product(gradient, weight.mT)
        if ctx.needs_input_grad[1]:
            of_weight = aligned_product(gradient.mT, inputs).mT
        return of_inputs, of_weight


def narrow_affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """inputs [R, batch, rows] @ weight [R, rows, columns] + bias [R, 1, columns], for few columns, never rounded."""
    with unrounded(weight):
        products: Tensor = NarrowProduct.apply(inputs.to(weight.dtype), weight)  # type: ignore[no-untyped-call]
    return products + bias


def batch_norm(inputs: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
    """Inputs [R, batch, C] standardised over each member's own batch, then scaled and shifted ([R, 1, C]).

    The batch's biased variance, always: there are no running averages, so that a network is a function of its
    parameters and its batch alone (Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 1).
    """
    variance, mean = torch.var_mean(inputs, dim=1, correction=0, keepdim=True)
    return torch.addcmul(shift, (inputs - mean) * torch.rsqrt(variance + NORMALISATION_EPSILON), scale)


def maxout(inputs: Tensor, *, pieces: int) -> Tensor:
    """Largest of each unit's ``pieces``: [R, batch, pieces x units] -> [R, batch, units].

    Piece p of unit u is column p x units + u (Goodfellow et al. 2013, arXiv:1302.4389).
    """
    return inputs.reshape(*inputs.shape[:-1], pieces, -1).amax(dim=-2)


def spectrally_normalised(weight: Tensor) -> Tensor:
    """Weights [R, m, n] divided by their largest singular value (Miyato et al. 2018, arXiv:1802.05957, eq. 8).

    The singular vectors count as constants in the gradient, as there (section 2.1, eq. 12). The paper carries a vector
    from step to step and improves it once a step; here each call finds it anew, so that D is a function of its
    parameters alone and there is nothing more to save. A weight that is all zero stays so.
    """
    with unrounded(weight):
        left, right = leading_singular_vectors(weight.detach())
        value = left.mT @ weight @ right
        return weight / value.clamp_min(_TINY)


@torch.no_grad()
def leading_singular_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors u [R, m, 1] and v [R, n, 1] with u^T W v close to, and never above, the largest singular value.

    The best that a Krylov space of KRYLOV_VECTORS dimensions holds, begun at one fixed vector: exact where the smaller
    side of W is no longer than that.
    """
    wide = weight.shape[1] < weight.shape[2]
    # squares of squares are formed below: without a common scale they would leave float32's range
    scaled = weight / weight.abs().amax(dim=(1, 2), keepdim=True).clamp_min(_TINY)
    tall = scaled.mT if wide else scaled
    basis = _krylov_basis(tall)
    images = tall @ basis
    right = _unit(basis @ _leading_eigenvector(images.mT @ images))
    left = _unit(tall @ right)
    return (right, left) if wide else (left, right)


def _krylov_basis(tall: Tensor) -> Tensor:
    """Orthonormal columns [R, n, <= KRYLOV_VECTORS] spanning v, A v, A^2 v, ... of A = W^T W; zero when exhausted."""
    members, _, size = tall.shape
    # cosines of whole radians: without structure that a weight could share, and made on any device without a copy
    start = torch.arange(1, size + 1, device=tall.device, dtype=tall.dtype).cos().view(1, size, 1)
    basis = _unit(start).expand(members, -1, -1)
    for _ in range(min(KRYLOV_VECTORS, size) - 1):
        image = tall.mT @ (tall @ basis[:, :, -1:])
        rest = image
        for _ in range(2):  # once leaves rounding behind
            rest = rest - basis @ (basis.mT @ rest)
        fresh = _norm(rest) > _EXHAUSTED * _norm(image)
        basis = torch.cat([basis, torch.where(fresh, _unit(rest), 0.0)], dim=2)
    return basis


def _leading_eigenvector(symmetric: Tensor) -> Tensor:
    """Of positive semi-definite matrices [R, k, k]: [R, k, 1], by squaring: no LAPACK, which raises on NaN."""
    power = symmetric
    for _ in range(SQUARINGS):
        power = power / torch.linalg.matrix_norm(power, keepdim=True).clamp_min(_TINY)
        power = power @ power
    best = power.diagonal(dim1=1, dim2=2).argmax(dim=1)
    return power.gather(2, best.view(-1, 1, 1).expand(-1, power.shape[1], 1))


def _norm(columns: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    return norm


def _unit(columns: Tensor) -> Tensor:
    return columns / _norm(columns).clamp_min(_TINY)
