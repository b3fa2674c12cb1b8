"""The measurements: name, unit, direction, and whether losses may be compared on them (standard library only)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from trainers.measurement_info import MeasurementGroup, MeasurementInfo

JUDGE_SCHEMA = 2
"""Of a saved judge: 2 came with the features and images that optional measurements compare with."""

COUNTERS: tuple[str, ...] = ("generator_step", "discriminator_steps", "samples_seen")
"""Cumulative generator updates, discriminator updates, and real samples shown."""


def _info(
    name: str,
    unit: str,
    direction: Literal["lower", "higher"] | None,
    meaning: str,
    *,
    comparable: bool = True,
    sparse: bool = False,
    group: str = "",
) -> MeasurementInfo:
    return MeasurementInfo(
        name=name,
        unit=unit,
        direction=direction,
        meaning=meaning,
        comparable_across_losses=comparable,
        sparse=sparse,
        group=group,
    )


MEASUREMENTS: Mapping[str, MeasurementInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            _info("distance", "data units", "lower", "sliced Wasserstein-1 to held-out real data, fixed projections"),
            _info("mode_coverage", "fraction", "higher", "modes holding at least 20 % of their fair share of samples"),
            _info("modes_covered", "modes", "higher", "modes with at least one high-quality sample"),
            _info("high_quality_fraction", "fraction", "higher", "samples close to the mode they are assigned to"),
            _info("mode_kl", "nats", "lower", "KL of the generated histogram over modes to the target's weights"),
            _info("knn_precision", "fraction", "higher", "fakes inside a real sample's 5-NN ball", sparse=True),
            _info("knn_recall", "fraction", "higher", "held-out reals inside a fake sample's 5-NN ball", sparse=True),
            _info("knn_density", "ratio", "higher", "real 5-NN balls around a fake, over 5", sparse=True),
            _info("knn_coverage", "fraction", "higher", "held-out reals whose 5-NN ball holds a fake", sparse=True),
            _info("displacement", "data units", None, "mean distance of the fixed-latent samples from step 0"),
            _info("discriminator_loss", "loss units", None, "adversarial part of L_D", comparable=False),
            _info("generator_loss", "loss units", None, "L_G", comparable=False),
            _info(
                "value_function",
                "nats",
                None,
                "V(D, G) = E log sigmoid(D(x)) + E log(1 - sigmoid(D(G(z))))",
                comparable=False,
            ),
            _info("mean_sigmoid_real", "fraction", None, "E sigmoid(D(x)) on held-out reals", comparable=False),
            _info("mean_sigmoid_fake", "fraction", None, "E sigmoid(D(G(z)))", comparable=False),
            _info("accuracy_real", "fraction", None, "held-out reals with a positive logit", comparable=False),
            _info("accuracy_fake", "fraction", None, "fakes with a negative logit", comparable=False),
            _info("generator_gradient_norm", "norm", None, "of L_G on an evaluation batch", comparable=False),
            _info("discriminator_gradient_norm", "norm", None, "of L_D with its penalty, same batch", comparable=False),
        )
    }
)
"""What every study measures; the columns of a study that switches nothing on."""

AVERAGED: tuple[str, ...] = (
    "distance",
    "mode_coverage",
    "modes_covered",
    "high_quality_fraction",
    "mode_kl",
    "knn_precision",
    "knn_recall",
    "knn_density",
    "knn_coverage",
)
"""What is measured of an averaged generator, under these names with ``average_`` before them."""


def _of_average(info: MeasurementInfo) -> MeasurementInfo:
    meaning = f"of the averaged generator: {info.meaning}"
    return replace(info, name=f"average_{info.name}", meaning=meaning, group="average")


OPTIONAL: Mapping[str, MeasurementInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            _info(
                "duality_gap",
                "loss units",
                "lower",
                "L_D of a generator trained against D as it is, less L_D of a discriminator trained against G as it is",
                comparable=False,
                sparse=True,
                group="duality_gap",
            ),
            _info(
                "mode_kl_off",
                "nats",
                "lower",
                "KL of the histogram over modes and an off-mode bin to the one of real data",
                group="off_mode",
            ),
            _info(
                "generator_singular_value",
                "gain",
                None,
                "largest singular value of G's weight matrices",
                sparse=True,
                group="singular_values",
            ),
            _info(
                "discriminator_singular_value",
                "gain",
                None,
                "largest singular value of D's weight matrices",
                sparse=True,
                group="singular_values",
            ),
            _info(
                "discriminator_singular_product",
                "gain",
                None,
                "product over D's weight matrices of their largest singular values",
                sparse=True,
                group="singular_values",
            ),
            _info(
                "generator_rotation",
                "degrees",
                None,
                "angle between G's moves over this evaluation interval and the one before",
                group="rotation",
            ),
            _info(
                "discriminator_rotation",
                "degrees",
                None,
                "angle between D's moves over this evaluation interval and the one before",
                group="rotation",
            ),
            _info(
                "frechet_distance",
                "squared feature units",
                "lower",
                "of Gaussians fitted to features of generated and held-out real samples",
                group="frechet",
            ),
            _info(
                "fid",
                "squared feature units",
                "lower",
                "Frechet Inception distance of the evaluation samples to the held-out images",
                sparse=True,
                group="fid",
            ),
            _info(
                "memorised_fraction",
                "fraction",
                None,  # .5 is best: below it lies a collapse beside a held-out image, not a better generator
                "samples nearer to a training image than to any held-out one; 0.5 = nothing memorised",
                sparse=True,
                group="memorisation",
            ),
            _info(
                "jacobian_real",
                "per unit of step size",
                None,
                "largest real part of the game's Jacobian's eigenvalues",
                comparable=False,
                sparse=True,
                group="game_jacobian",
            ),
            _info(
                "jacobian_imaginary",
                "per unit of step size",
                None,
                "largest imaginary part of the game's Jacobian's eigenvalues",
                comparable=False,
                sparse=True,
                group="game_jacobian",
            ),
            *(_of_average(MEASUREMENTS[name]) for name in AVERAGED),
            _info("generator_parameter", "data units", None, "theta of the Dirac-GAN: G(z) = theta", group="dirac"),
            _info(
                "discriminator_parameter",
                "logits per data unit",
                None,
                "psi of the Dirac-GAN: D(x) = psi x",
                group="dirac",
            ),
        )
    }
)
"""Measurements of the optional groups, in the order of their columns."""

EVERY_MEASUREMENT: Mapping[str, MeasurementInfo] = MappingProxyType({**MEASUREMENTS, **OPTIONAL})
"""All that any study may measure."""

_POINT_MASS = "has no meaning for a single point"

GROUPS: Mapping[str, MeasurementGroup] = MappingProxyType(
    {
        group.name: group
        for group in (
            MeasurementGroup(
                name="duality_gap",
                meaning="how much either player still gains when the other one stands still",
                reference="Grnarova et al. 2019, arXiv:1811.05512",
                cadence="every fifth and last",
                cost="100 gradients of clones that are thrown away",
                why_not={"dirac": "is infinite for the unbounded game on dirac"},
            ),
            MeasurementGroup(
                name="off_mode",
                meaning="mode KL that also counts the samples on no mode",
                cost="next to nothing",
                why_not={"dirac": _POINT_MASS},
            ),
            MeasurementGroup(
                name="singular_values",
                meaning="largest singular values of both players' weight matrices",
                cadence="every fifth and judged",
                cost="one decomposition of every weight matrix",
                why_not={"dirac": "has no meaning for players of one number each"},
            ),
            MeasurementGroup(
                name="rotation",
                meaning="whether the players go straight on, turn or come back",
                cost="next to nothing; two copies of the parameters in every checkpoint",
            ),
            MeasurementGroup(
                name="frechet",
                meaning="Frechet distance: on a small classifier's hidden layer for images, coordinates in the plane",
                reference="Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500",
                cost="one decomposition of a features x features matrix per replicate",
                why_not={"dirac": _POINT_MASS},
            ),
            MeasurementGroup(
                name="fid",
                meaning="Frechet Inception distance; wants pip install 'ganstudy[fid]' and the weights as a file",
                reference="Heusel et al. 2017, arXiv:1706.08500; Obukhov et al. 2020 (torch-fidelity)",
                cadence="every fifth and last",
                cost="Inception-v3 on every evaluation sample and a decomposition of 2,048 x 2,048: for a GPU",
                only_targets=("mnist", "cifar10"),
            ),
            MeasurementGroup(
                name="memorisation",
                meaning="whether samples lie nearer to training images than to held-out ones",
                cadence="every fifth and judged",
                cost="distances to every training and held-out image",
                only_targets=("digits",),
            ),
            MeasurementGroup(
                name="game_jacobian",
                meaning="eigenvalues of the gradient field's Jacobian where training ended, for small networks",
                reference="Mescheder et al. 2017, arXiv:1705.10461; Nagarajan & Kolter 2017, arXiv:1706.04156",
                cadence="last",
                cost="one double backward pass per parameter, and the eigenvalues",
            ),
            MeasurementGroup(
                name="average",
                meaning="the averaged generator, measured beside the raw one",
                factor="generator_average",
            ),
            MeasurementGroup(
                name="dirac",
                meaning="both players' parameters, which are the whole story there",
                target="dirac",
            ),
        )
    }
)
"""Optional groups, in their order everywhere: those of the study file's ``measurements``, and those that come along."""


def groups_on(named: Collection[str], *, factors: Mapping[str, object], target: object) -> tuple[str, ...]:
    """The optional groups of one configuration: those the study file names, its factors' and its target's own."""
    return tuple(
        group.name
        for group in GROUPS.values()
        if group.name in named
        or (group.factor and group.factor in factors)
        or (group.target and group.target == target)
    )


def columns(groups: Collection[str]) -> tuple[str, ...]:
    """Names of what a study with these optional groups measures: fixed before the first row (T14).

    What every study measures comes first. ValueError for an unknown group.
    """
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise ValueError(f"groups must be among {', '.join(GROUPS)}, got {', '.join(unknown)}")
    return (*MEASUREMENTS, *(info.name for info in OPTIONAL.values() if info.group in groups))
