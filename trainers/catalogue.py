"""Every loss, penalty, preset, optimizer, order of updates, target and network by name: parameters, formula, reference.

Standard library only, so that the study file, ``plan`` and ``losses`` can be read without torch.
The registries in losses.py, penalties.py, ... hold the code under the same keys (a test compares them).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trainers.catalogue_models import NETWORKS, TARGETS
from trainers.catalogue_updates import GOODFELLOW, GRADIENT_ROUNDS, MINIBATCH_ROUNDS, OPTIMIZERS, UPDATES
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
    "UPDATES",
    "Entry",
    "Parameter",
    "gradient_evaluations_per_step",
    "loss_entry",
    "penalty_entry",
    "real_minibatches_per_step",
]

_USERS_OWN = "The user's own, by import path."

LOSSES: Mapping[str, Entry] = registry(
    Entry(
        name="minimax",
        summary="The original saturating game: the generator minimises log(1 - sigmoid(D)).",
        formula="softplus(-D(x)) + softplus(D(G(z)))",
        generator_formula="-softplus(D(G(z)))",
        reference=f"{GOODFELLOW}, Algorithm 1",
    ),
    Entry(
        name="non_saturating",
        summary="The generator maximises log sigmoid(D) instead, so that its gradient survives a confident D.",
        formula="softplus(-D(x)) + softplus(D(G(z)))",
        generator_formula="softplus(-D(G(z)))",
        reference=f"{GOODFELLOW}, section 3",
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
    Entry(
        name="relativistic_average",
        summary="RaGAN: each score against the mean score of the other side, for both players.",
        formula="1/2 softplus(-(D(x) - E D(G(z)))) + 1/2 softplus(D(G(z)) - E D(x))",
        generator_formula="1/2 softplus(-(D(G(z)) - E D(x))) + 1/2 softplus(D(x) - E D(G(z)))",
        reference="Jolicoeur-Martineau 2018, arXiv:1807.00734",
    ),
    Entry(
        name="f_gan_kl",
        summary="f-GAN, KL(real || generated): at the optimum D = 1 + log p/q; exp overflows honestly.",
        formula="exp(D(G(z)) - 1) - D(x)",
        generator_formula="-exp(D(G(z)) - 1)",
        reference="Nowozin et al. 2016, arXiv:1606.00709, table 2",
    ),
    Entry(
        name="f_gan_pearson",
        summary="f-GAN, Pearson's chi^2, E_q (p/q - 1)^2: at the optimum D = 2 (p/q - 1).",
        formula="1/4 D(G(z))^2 + D(G(z)) - D(x)",
        generator_formula="-(1/4 D(G(z))^2 + D(G(z)))",
        reference="Nowozin et al. 2016, arXiv:1606.00709, table 2",
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
    Entry(
        name="dragan",
        summary="One-centred, at real samples under normal noise d of half the minibatch's standard deviation s.",
        formula="penalty_weight E (|grad D(x + d)| - 1)^2, d ~ N(0, (s/2)^2)",
        reference="Kodali et al. 2017, arXiv:1705.07215",
        parameters=(
            Parameter(name="penalty_weight", kind="number", low=0, default=10.0, meaning="the paper's lambda"),
        ),
        penalised=True,
    ),
    Entry(
        name="instance_noise",
        summary="Fresh normal noise on every input of D, real and generated, in both players' steps.",
        formula="D(x + noise_std n), D(G(z) + noise_std n'), n, n' ~ N(0, 1)",
        reference="Soenderby et al. 2017, arXiv:1610.04490; Arjovsky & Bottou 2017, arXiv:1701.04862",
        parameters=(positive("noise_std", None, "standard deviation of the noise, in data units"),),
    ),
)

PRESETS: Mapping[str, Mapping[str, str | float]] = MappingProxyType(
    {
        "wgan": MappingProxyType({"name": "wasserstein", "penalty": "weight_clipping", "clip": 0.01}),
        "wgan_gp": MappingProxyType({"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10.0}),
        "ns_r1": MappingProxyType({"name": "non_saturating", "penalty": "r1", "penalty_weight": 0.1}),
        "r3gan": MappingProxyType({"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.1}),
        "dragan": MappingProxyType({"name": "non_saturating", "penalty": "dragan", "penalty_weight": 10.0}),
    }
)

FLOAT32, TF32, BFLOAT16 = "float32", "tf32", "bfloat16"
"""Precisions of the matrix products of training."""

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
                choices=tuple(UPDATES),
                meaning="order of the players' updates; all but alternating, which is Algorithm 1, need k = 1",
            ),
            Parameter(
                name="generator_average",
                kind="number",
                low=0,
                high=1,
                high_open=True,
                meaning="decay of an averaged generator, measured beside the raw one (none unless given)",
            ),
            Parameter(
                name="precision",
                kind="choice",
                choices=(FLOAT32, TF32, BFLOAT16),
                meaning="of the matrix products of training (float32 unless given); tf32 needs a GPU",
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
    "consensus_weight",
    "generator_average",
    "noise_std",
)
"""Numbers in which the members of one cohort may differ: tensors along the member axis."""


def gradient_evaluations_per_step(*, k: int, penalty: str, updates: str = "alternating") -> int:
    """Cost of one generator step in gradient evaluations: 1 + k (1 + penalised); extragradient x 2, consensus x 3."""
    return GRADIENT_ROUNDS[updates] * (1 + k * (1 + int(penalty_entry(penalty).penalised)))


def real_minibatches_per_step(*, k: int, updates: str = "alternating") -> int:
    """Real minibatches shown to the discriminator in one generator step: one per gradient of its loss."""
    return MINIBATCH_ROUNDS[updates] * k


def loss_entry(name: str) -> Entry:
    """The loss of this registry name; of one named by import path nothing is declared but its name."""
    return Entry(name=name, summary=_USERS_OWN, reference="") if ":" in name else LOSSES[name]


def penalty_entry(name: str) -> Entry:
    """The penalty of this registry name, or what holds of every one that is named by import path.

    Such a penalty takes a penalty_weight, 1 by default, and is taken to pay a double backward: an entry must be known
    without running the user's code.
    """
    if ":" not in name:
        return PENALTIES[name]
    weight = Parameter(name="penalty_weight", kind="number", low=0, default=1.0, meaning="the weight of its term")
    return Entry(name=name, summary=_USERS_OWN, reference="", parameters=(weight,), penalised=True)
