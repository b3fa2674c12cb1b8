"""Every loss, penalty, preset, optimizer, target and network by name: parameters, formula, reference.

Standard library only, so that the study file, ``plan`` and ``losses`` can be read without torch.
The registries in losses.py, penalties.py, ... hold the code under the same keys (a test compares them).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trainers.catalogue_models import NETWORKS, TARGETS
from trainers.declaration import Entry, Parameter, integer, positive, registry

__all__ = [
    "FACTORS",
    "LOSSES",
    "MEMBER_NUMBERS",
    "NETWORKS",
    "OPTIMIZERS",
    "PENALTIES",
    "PRESETS",
    "TARGETS",
    "Entry",
    "Parameter",
    "gradient_evaluations_per_step",
]

_GOODFELLOW = "Goodfellow et al. 2014, arXiv:1406.2661"

LOSSES: Mapping[str, Entry] = registry(
    Entry(
        name="minimax",
        summary="The original saturating game: the generator minimises log(1 - sigmoid(D)).",
        formula="softplus(-D(x)) + softplus(D(G(z)))",
        generator_formula="-softplus(D(G(z)))",
        reference=f"{_GOODFELLOW}, Algorithm 1",
    ),
    Entry(
        name="non_saturating",
        summary="The generator maximises log sigmoid(D) instead, so that its gradient survives a confident D.",
        formula="softplus(-D(x)) + softplus(D(G(z)))",
        generator_formula="softplus(-D(G(z)))",
        reference=f"{_GOODFELLOW}, section 3",
    ),
    Entry(
        name="wasserstein",
        summary="The critic's score difference; needs weight_clipping or a gradient penalty to be Lipschitz.",
        formula="D(G(z)) - D(x)",
        generator_formula="-D(G(z))",
        reference="Arjovsky et al. 2017, arXiv:1701.07875",
    ),
    Entry(
        name="least_squares",
        summary="Squared distance of a linear output to the labels 1 (real) and 0 (fake).",
        formula="1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2",
        generator_formula="1/2 (D(G(z)) - 1)^2",
        reference="Mao et al. 2017, arXiv:1611.04076, (a, b, c) = (0, 1, 1)",
    ),
    Entry(
        name="hinge",
        summary="Scores beyond the margin 1 no longer pull the discriminator.",
        formula="relu(1 - D(x)) + relu(1 + D(G(z)))",
        generator_formula="-D(G(z))",
        reference="Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957",
    ),
    Entry(
        name="relativistic",
        summary="RpGAN: the logistic loss of real-fake score pairs.",
        formula="softplus(-(D(x) - D(G(z))))",
        generator_formula="softplus(-(D(G(z)) - D(x)))",
        reference="Jolicoeur-Martineau 2018, arXiv:1807.00734",
    ),
)

_WEIGHT = Parameter(name="penalty_weight", kind="number", low=0, meaning="the paper's gamma or lambda", default=None)

PENALTIES: Mapping[str, Entry] = registry(
    Entry(name="none", summary="No penalty.", reference=""),
    Entry(
        name="weight_clipping",
        summary="Discriminator weights are clipped to [-clip, clip] after each of its steps.",
        formula="w <- clamp(w, -clip, clip)",
        reference="Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1",
        parameters=(
            Parameter(
                name="clip", kind="number", low=0, low_open=True, default=0.01, meaning="largest absolute weight"
            ),
        ),
    ),
    Entry(
        name="gradient_penalty",
        summary="One-centred, on random interpolates of real and fake samples, one epsilon per sample.",
        formula="penalty_weight E (|grad D(e x + (1 - e) G(z))| - 1)^2",
        reference="Gulrajani et al. 2017, arXiv:1704.00028",
        parameters=(
            Parameter(name="penalty_weight", kind="number", low=0, default=10.0, meaning="the paper's lambda"),
        ),
        penalised=True,
    ),
    Entry(
        name="r1",
        summary="Zero-centred on real samples, with the paper's one half.",
        formula="penalty_weight/2 E |grad D(x)|^2",
        reference="Mescheder et al. 2018, arXiv:1801.04406",
        parameters=(_WEIGHT,),
        penalised=True,
    ),
    Entry(
        name="r2",
        summary="Zero-centred on fake samples, with the paper's one half.",
        formula="penalty_weight/2 E |grad D(G(z))|^2",
        reference="Mescheder et al. 2018, arXiv:1801.04406",
        parameters=(_WEIGHT,),
        penalised=True,
    ),
    Entry(
        name="r1_r2",
        summary="Both zero-centred penalties under one weight.",
        formula="penalty_weight/2 (E |grad D(x)|^2 + E |grad D(G(z))|^2)",
        reference="Huang et al. 2024 (R3GAN), arXiv:2501.05441",
        parameters=(_WEIGHT,),
        penalised=True,
    ),
)

PRESETS: Mapping[str, Mapping[str, str | float]] = MappingProxyType(
    {
        "wgan": MappingProxyType({"name": "wasserstein", "penalty": "weight_clipping", "clip": 0.01}),
        "wgan_gp": MappingProxyType({"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10.0}),
        "ns_r1": MappingProxyType({"name": "non_saturating", "penalty": "r1", "penalty_weight": 0.1}),
        "r3gan": MappingProxyType({"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.1}),
    }
)

OPTIMIZERS: Mapping[str, Entry] = registry(
    Entry(
        name="sgd",
        summary="Stochastic gradient descent with momentum, the rule of Algorithm 1.",
        formula="v <- momentum v + g; w <- w - lr v",
        reference=_GOODFELLOW,
        parameters=(
            Parameter(
                name="momentum",
                kind="number",
                low=0,
                high=1,
                high_open=True,
                default=0.0,
                meaning="share of the velocity kept at each step",
            ),
        ),
    ),
    Entry(
        name="adam",
        summary="Adam with bias correction, epsilon 1e-8.",
        formula="w <- w - lr m^ / (sqrt(v^) + 1e-8)",
        reference="Kingma & Ba 2015, arXiv:1412.6980",
        parameters=(
            Parameter(
                name="beta1",
                kind="number",
                low=0,
                high=1,
                high_open=True,
                default=0.5,
                meaning="decay of the gradient's mean",
            ),
            Parameter(
                name="beta2",
                kind="number",
                low=0,
                high=1,
                high_open=True,
                default=0.999,
                meaning="decay of the squared gradient's mean",
            ),
        ),
    ),
    Entry(
        name="rmsprop",
        summary="RMSProp without momentum, epsilon 1e-8; beta2 is the decay that torch calls alpha.",
        formula="v <- beta2 v + (1 - beta2) g^2; w <- w - lr g / (sqrt(v) + 1e-8)",
        reference="Tieleman & Hinton 2012",
        parameters=(
            Parameter(
                name="beta2",
                kind="number",
                low=0,
                high=1,
                high_open=True,
                default=0.99,
                meaning="decay of the squared gradient's mean",
            ),
        ),
    ),
)

FACTORS: Mapping[str, Parameter] = MappingProxyType(
    {
        p.name: p
        for p in (
            integer("k", 1, "discriminator steps per generator step", high=1000),
            positive("learning_rate", None, "of both players"),
            positive("generator_learning_rate", None, "of the generator"),
            positive("discriminator_learning_rate", None, "of the discriminator"),
            integer("batch_size", 128, "real samples per discriminator step, and as many fakes", high=65536),
            Parameter(
                name="optimizer",
                kind="choice",
                default="adam",
                choices=tuple(OPTIMIZERS),
                meaning="update rule of both players",
            ),
            Parameter(
                name="updates",
                kind="choice",
                default="alternating",
                choices=("alternating", "simultaneous"),
                meaning="alternating as Algorithm 1, or both gradients at the same point (k = 1)",
            ),
        )
    }
)

MEMBER_NUMBERS: tuple[str, ...] = (
    "generator_learning_rate",
    "discriminator_learning_rate",
    "momentum",
    "beta1",
    "beta2",
    "penalty_weight",
    "clip",
)
"""Numbers in which the members of one cohort may differ: tensors along the member axis."""


def gradient_evaluations_per_step(*, k: int, penalty: str) -> int:
    """Cost of one generator step in gradient evaluations: 1 + k (1 + penalised)."""
    return 1 + k * (1 + int(PENALTIES[penalty].penalised))
