"""Every target and network by name: parameters and reference (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.declaration import Entry, integer, positive, registry

TARGETS: Mapping[str, Entry] = registry(
    Entry(
        name="ring",
        summary="Equal Gaussians on a circle, in the plane.",
        reference="Lin et al. 2018 (PacGAN), arXiv:1712.04086",
        parameters=(
            integer("modes", 8, "Gaussians on the circle", low=2, high=1000),
            positive("radius", 2.0, "of the circle"),
            positive("std", 0.1, "standard deviation of each Gaussian"),
        ),
    ),
    Entry(
        name="grid",
        summary="Equal Gaussians on a square grid centred at the origin, in the plane.",
        reference="Lin et al. 2018 (PacGAN), arXiv:1712.04086",
        parameters=(
            integer("side", 5, "Gaussians along a side", low=2, high=31),
            positive("spacing", 2.0, "between neighbours"),
            positive("std", 0.05, "standard deviation of each Gaussian"),
        ),
    ),
    Entry(
        name="digits",
        summary="Real handwritten digits, 8x8, scaled to [-1, 1]; half to train on, half held out.",
        reference="Alpaydin & Kaynak 1998 (UCI), as carried by scikit-learn",
    ),
)

NETWORKS: Mapping[str, Entry] = registry(
    Entry(
        name="mlp",
        summary="ReLU generator (tanh output for images) and leaky-ReLU discriminator of equal width and depth.",
        reference="",
        parameters=(
            integer("latent_dim", 16, "dimensions of the normal latent z", high=4096),
            integer("width", 64, "units of each hidden layer", high=8192),
            integer("depth", 2, "hidden layers", high=16),
        ),
    ),
)
