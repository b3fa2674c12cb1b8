"""Every target and network by name: parameters and reference (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.catalogue_dirac import DIRAC_NETWORKS, DIRAC_TARGET
from trainers.catalogue_images import IMAGE_TARGETS
from trainers.declaration import Entry, Parameter, integer, positive, registry

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
        images=True,
    ),
    Entry(
        name="stacked_digits",
        summary="Three of the digits, drawn independently, as the channels of one image: 1,000 modes.",
        reference="Metz et al. 2017 (stacked MNIST), arXiv:1611.02163; with the digits of the target digits",
        images=True,
    ),
    *IMAGE_TARGETS,
    DIRAC_TARGET,
)

CONV_STAGES = 2
"""Halvings of an image's sides in conv, unless a study says otherwise."""

_SPECTRAL_NORM = Parameter(
    name="spectral_norm",
    kind="choice",
    choices=("none", "discriminator"),
    default="none",
    omit_default=True,
    meaning="whose weights are divided by their largest singular value (Miyato et al. 2018)",
)


def _batch_norm(default: str) -> Parameter:
    """Never in the discriminator: a per-sample gradient penalty has no meaning where samples share statistics."""
    return Parameter(
        name="batch_norm",
        kind="choice",
        choices=("none", "generator"),
        default=default,
        omit_default=default == "none",
        meaning="whose hidden layers standardise over the batch (Ioffe & Szegedy 2015), in evaluation too",
    )


def _init_std(default: float) -> Parameter:
    return Parameter(
        name="init_std",
        kind="number",
        low=0,
        default=default,
        omit_default=default == 0,
        meaning="of normal weights with biases 0; 0: both uniform in +-1/sqrt(fan_in)",
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
            Parameter(
                name="negative_slope",
                kind="number",
                low=0,
                high=1,
                default=0.2,
                omit_default=True,
                meaning="of the discriminator's leaky ReLU; 0 is ReLU",
            ),
            _batch_norm("none"),
            _SPECTRAL_NORM,
            _init_std(0.0),
        ),
    ),
    Entry(
        name="pacgan",
        summary="ReLU generator with batch normalisation, maxout discriminator: the networks of PacGAN's 2-D study.",
        reference="Lin et al. 2018 (PacGAN), arXiv:1712.04086; Dumoulin et al. 2017 (ALI), arXiv:1606.00704",
        parameters=(
            integer("latent_dim", 2, "dimensions of the normal latent z", high=4096),
            integer("generator_width", 400, "units of each hidden layer of the generator", high=8192),
            integer("generator_depth", 4, "hidden layers of the generator", high=16),
            integer("discriminator_width", 200, "maxout units of each hidden layer of the discriminator", high=8192),
            integer("discriminator_depth", 3, "hidden layers of the discriminator", high=16),
            integer("maxout_pieces", 5, "linear pieces of each maxout unit", low=2, high=64),
            Parameter(
                name="init_std", kind="number", low=0, low_open=True, default=0.02, meaning="of the normal weights"
            ),
        ),
    ),
    Entry(
        name="conv",
        summary="DCGAN for small images: transposed convolutions against convolutions (4x4, stride 2), two of each.",
        reference="Radford et al. 2016 (DCGAN), arXiv:1511.06434",
        parameters=(
            integer("latent_dim", 32, "dimensions of the normal latent z", high=4096),
            integer("channels", 32, "at half the image's size; twice as many at a quarter of it", high=1024),
            Parameter(
                name="stages",
                kind="integer",
                low=2,
                high=3,
                default=CONV_STAGES,
                omit_default=True,
                meaning="how often the sides halve: 3 begins at an eighth of the size, with four times the channels",
            ),
            _batch_norm("generator"),
            _SPECTRAL_NORM,
            _init_std(0.02),
        ),
        images=True,
    ),
    DIRAC_NETWORKS,
)


def side_multiple(networks: Mapping[str, object]) -> int:
    """What the sides of images must be a multiple of for these networks (a study file's mapping)."""
    stages = networks.get("stages", CONV_STAGES) if networks.get("name") == "conv" else 0
    assert isinstance(stages, int)
    return 1 << stages


def normalises_batches(networks: Mapping[str, object]) -> bool:
    """Whether a player of these networks (a study file's mapping) standardises over its batch, which then needs two."""
    return networks.get("name") == "pacgan" or networks.get("batch_norm") == "generator"
