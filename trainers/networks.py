"""The networks by name: both players stacked over the members of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainers import catalogue_models
from trainers.catalogue_dirac import DEFAULT_INITIAL
from trainers.catalogue_dirac import NAME as DIRAC
from trainers.convolutional import StackedConvDiscriminator, StackedConvGenerator
from trainers.dirac_game import LATENT_DIM, Line, Point
from trainers.modules import StackedModule, user_players
from trainers.point_mass import PointMass
from trainers.stacked import ROW_MULTIPLE, Layout, StackedMLP, StackedNetwork
from trainers.targets import Target

__all__ = [
    "DISCRIMINATOR",
    "GENERATOR",
    "NETWORKS",
    "ROW_MULTIPLE",
    "Layout",
    "Networks",
    "StackedMLP",
    "StackedModule",
    "StackedNetwork",
    "build_networks",
]

GENERATOR, DISCRIMINATOR = 0, 1


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Both players' networks; z is normal with ``latent_dim`` dimensions."""

    generator: StackedNetwork
    discriminator: StackedNetwork
    latent_dim: int


def _mlp(
    target: Target,
    *,
    latent_dim: int,
    width: int,
    depth: int,
    negative_slope: float,
    batch_norm: str,
    spectral_norm: str,
    init_std: float,
) -> Networks:
    hidden = [width] * depth
    return Networks(
        generator=StackedMLP(
            [latent_dim, *hidden, target.dimensions],
            negative_slope=0.0,
            bounded=target.bounded,
            normalised=batch_norm == "generator",
            init_std=init_std,
        ),
        discriminator=StackedMLP(
            [target.dimensions, *hidden, 1],
            negative_slope=negative_slope,
            bounded=False,
            spectral=spectral_norm == "discriminator",
            init_std=init_std,
        ),
        latent_dim=latent_dim,
    )


def _pacgan(
    target: Target,
    *,
    latent_dim: int,
    generator_width: int,
    generator_depth: int,
    discriminator_width: int,
    discriminator_depth: int,
    maxout_pieces: int,
    init_std: float,
) -> Networks:
    return Networks(
        generator=StackedMLP(
            [latent_dim, *[generator_width] * generator_depth, target.dimensions],
            negative_slope=0.0,
            bounded=target.bounded,
            normalised=True,
            init_std=init_std,
        ),
        discriminator=StackedMLP(
            [target.dimensions, *[discriminator_width] * discriminator_depth, 1],
            negative_slope=0.0,
            bounded=False,
            maxout_pieces=maxout_pieces,
            init_std=init_std,
        ),
        latent_dim=latent_dim,
    )


def _conv(
    target: Target,
    *,
    latent_dim: int,
    channels: int,
    stages: int,
    batch_norm: str,
    spectral_norm: str,
    init_std: float,
) -> Networks:
    shape = target.sample_shape
    return Networks(
        generator=StackedConvGenerator(
            shape,
            latent_dim=latent_dim,
            channels=channels,
            normalised=batch_norm == "generator",
            init_std=init_std,
            stages=stages,
        ),
        discriminator=StackedConvDiscriminator(
            shape, channels=channels, spectral=spectral_norm == "discriminator", init_std=init_std, stages=stages
        ),
        latent_dim=latent_dim,
    )


def _dirac(target: Target, *, initial: object = DEFAULT_INITIAL) -> Networks:
    if not isinstance(target, PointMass):
        raise ValueError(f"networks dirac need the target dirac, got {target.name}")
    return Networks(generator=Point(initial), discriminator=Line(initial), latent_dim=LATENT_DIM)


NETWORKS: Mapping[str, Callable[..., Networks]] = MappingProxyType(
    {"mlp": _mlp, "pacgan": _pacgan, "conv": _conv, DIRAC: _dirac}
)
"""Registry name -> builder; parameters and their defaults are in catalogue.NETWORKS."""


def build_networks(mapping: Mapping[str, object], target: Target) -> Networks:
    """Networks from the study file's mapping: a registered name, or ``package.module:function`` of the user's.

    What the mapping leaves out takes the catalogue's default. ValueError for images that ``conv`` cannot draw.
    """
    options = {key: value for key, value in mapping.items() if key != "name"}
    name = str(mapping["name"])
    if isinstance(target, PointMass) and name != DIRAC:
        raise ValueError(f"target dirac needs the networks dirac, got {name}")
    if ":" in name:
        generator, discriminator, latent_dim = user_players(
            name, sample_shape=target.sample_shape, dimensions=target.dimensions, options=options
        )
        return Networks(generator=generator, discriminator=discriminator, latent_dim=latent_dim)
    return NETWORKS[name](target, **{**catalogue_models.NETWORKS[name].defaults, **options})
