"""The measurements: name, unit, direction, and whether losses may be compared on them (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementInfo:
    """One measured quantity: ``direction`` says which way is better; ``sparse`` ones skip evaluations.

    ``group``: empty for what every study measures, else the optional group it belongs to.
    """

    name: str
    unit: str
    direction: Literal["lower", "higher"] | None
    comparable_across_losses: bool
    meaning: str
    sparse: bool = False
    group: str = ""


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
