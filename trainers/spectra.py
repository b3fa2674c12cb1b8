"""How much each player's weights can stretch what they are given: their largest singular values."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.player import Player


def largest_singular_values(weights: Tensor) -> Tensor:
    """Of matrices [R, m, n]: [R] float64, exact (a full decomposition, no power iteration); NaN for a non-finite one.

    By the eigenvalues of the smaller Gram matrix in double precision: the largest one keeps all of float32's digits.
    """
    matrices = weights.double()
    finite = matrices.isfinite().flatten(1).all(dim=1)
    matrices = torch.where(finite.view(-1, 1, 1), matrices, 0.0)  # LAPACK raises on NaN, for the whole stack
    gram = matrices @ matrices.mT if matrices.shape[1] <= matrices.shape[2] else matrices.mT @ matrices
    values = torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0).sqrt()
    return torch.where(finite, values, torch.nan)


def layer_gains(player: Player) -> Tensor:
    """The largest singular value of each of a player's weight matrices: [R, layers] float64; NaN without any.

    Kernels of convolutions count as the matrices they multiply patches with. Weights as they are stored: spectral
    normalisation divides by these values.
    """
    layout = player.network.layout
    views = layout.views(player.flat.detach())
    gains = [largest_singular_values(views[place].flatten(2)) for place in layout.weights]
    return torch.stack(gains, dim=1) if gains else torch.full_like(player.flat[:, :1], torch.nan, dtype=torch.float64)


def singular_values(*, generator: Player, discriminator: Player) -> dict[str, Tensor]:
    """The largest of each player, and the product over D's layers, each [R].

    The product bounds D's Lipschitz constant where nothing between the layers stretches (leaky ReLU, no batch
    normalisation). Of interest since Miyato et al. 2018, arXiv:1802.05957, section 2.
    """
    gains = layer_gains(discriminator)
    return {
        "generator_singular_value": layer_gains(generator).amax(dim=1),
        "discriminator_singular_value": gains.amax(dim=1),
        "discriminator_singular_product": gains.prod(dim=1),
    }
