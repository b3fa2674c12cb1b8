"""Stacked networks: the parameters of all members as one flat tensor [R, P], applied to [R, batch, ...] at once."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from trainers.draws import Stream, generator
from trainers.targets import Target

ROW_MULTIPLE = 32
"""P is padded to this many floats, so that every member's row meets the same vector lanes at any position."""

GENERATOR, DISCRIMINATOR = 0, 1


@dataclass(frozen=True)
class Layout:
    """Shapes of one member's parameters and where each lies in its flat row of ``size`` floats."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Length of a row: all parameters, padded to ROW_MULTIPLE."""
        used = sum(math.prod(shape) for shape in self.shapes)
        return math.ceil(used / ROW_MULTIPLE) * ROW_MULTIPLE

    def views(self, flat: Tensor) -> list[Tensor]:
        """Views [R, *shape] into ``flat`` [R, P]; writing to one writes to the other."""
        views, start = [], 0
        for shape in self.shapes:
            length = math.prod(shape)
            views.append(flat[:, start : start + length].view(-1, *shape))
            start += length
        return views

    def pack(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """One member's parameters as a row [P] of float32, the padding zero."""
        row = np.zeros(self.size, np.float32)
        start = 0
        for shape, value in zip(self.shapes, parameters, strict=True):
            length = math.prod(shape)
            row[start : start + length] = np.asarray(value, np.float32).reshape(length)
            start += length
        return row


class StackedNetwork(Protocol):
    """A player's network for every member at once."""

    layout: Layout

    def initial(self, seed: int, player: int) -> np.ndarray:
        """One member's initial row [P], from its own generator."""
        ...

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Parameters as layout.views gives them and inputs [R, batch, in] -> outputs [R, batch, out]."""
        ...


class StackedMLP:
    """Fully connected layers as ``baddbmm`` over the member axis; weights [R, in, out], biases [R, 1, out]."""

    def __init__(self, sizes: Sequence[int], *, negative_slope: float, bounded: bool) -> None:
        self.sizes, self.negative_slope, self.bounded = tuple(sizes), negative_slope, bounded
        layers = list(itertools.pairwise(sizes))
        self.layout = Layout(tuple(shape for i, o in layers for shape in ((i, o), (1, o))))

    def initial(self, seed: int, player: int) -> np.ndarray:
        """Weights and biases uniform in +-1/sqrt(fan_in), as torch.nn.Linear."""
        rng = generator(seed, Stream.INITIALISATION, player)
        parameters = []
        for fan_in, fan_out in itertools.pairwise(self.sizes):
            bound = 1 / math.sqrt(fan_in)
            parameters += [rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, (1, fan_out))]
        return self.layout.pack(parameters)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, in] -> [R, batch, out]."""
        hidden = inputs
        last = len(self.sizes) - 2
        for layer in range(last + 1):
            hidden = torch.baddbmm(parameters[2 * layer + 1], hidden, parameters[2 * layer])
            if layer < last:
                hidden = leaky_relu(hidden, self.negative_slope, inplace=True)
        return torch.tanh(hidden) if self.bounded else hidden


class StackedModule:
    """A user's nn.Module stacked with torch.func: every member its own parameters, one vectorised call.

    The module sees [batch, *input_shape] and may return any shape with batch x out numbers. Running statistics
    are refused: they would be shared by all members.
    """

    def __init__(self, build: Callable[[], nn.Module], *, input_shape: tuple[int, ...], outputs: int) -> None:
        self._build, self._input_shape, self._outputs = build, input_shape, outputs
        self._template = build()
        self._names = [name for name, _ in self._template.named_parameters()]
        if not self._names:
            raise ValueError(f"{type(self._template).__name__} must have parameters to train, got none")
        running = [name for name, _ in self._template.named_buffers() if "running_" in name]
        if running:
            raise ValueError(f"a stacked module must not track running statistics, got buffers {running}")
        self.layout = Layout(tuple(tuple(p.shape) for p in self._template.parameters()))

    def initial(self, seed: int, player: int) -> np.ndarray:
        """The module's own initialisation under a generator state derived from the member's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, Stream.INITIALISATION, player).integers(2**63)))
            parameters = [p.detach().numpy() for p in self._build().parameters()]
        return self.layout.pack(parameters)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, in] -> [R, batch, out]; raises ValueError when the module returns another number of outputs."""
        members, batch = inputs.shape[:2]
        stacked = dict(zip(self._names, parameters, strict=True))
        buffers = {name: value.to(inputs.device) for name, value in self._template.named_buffers()}

        def apply(one: dict[str, Tensor], x: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(self._template, (one, buffers), (x,))
            return outputs

        outputs = torch.vmap(apply)(stacked, inputs.reshape(members, batch, *self._input_shape))
        if outputs.numel() != members * batch * self._outputs:
            raise ValueError(
                f"{type(self._template).__name__} must return {self._outputs} numbers per sample, "
                f"got shape {tuple(outputs.shape[1:])} for a batch of {batch}"
            )
        return outputs.reshape(members, batch, self._outputs)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Both players' networks; z is normal with ``latent_dim`` dimensions."""

    generator: StackedNetwork
    discriminator: StackedNetwork
    latent_dim: int


def _mlp(target: Target, *, latent_dim: int, width: int, depth: int) -> Networks:
    hidden = [width] * depth
    return Networks(
        generator=StackedMLP([latent_dim, *hidden, target.dimensions], negative_slope=0.0, bounded=target.bounded),
        discriminator=StackedMLP([target.dimensions, *hidden, 1], negative_slope=0.2, bounded=False),
        latent_dim=latent_dim,
    )


NETWORKS: Mapping[str, Callable[..., Networks]] = MappingProxyType({"mlp": _mlp})
"""Registry name -> builder; parameters are in catalogue.NETWORKS."""


def import_factory(path: str) -> Callable[..., tuple[nn.Module, nn.Module]]:
    """The function that ``package.module:function`` names; raises ValueError with the path when it can't be had."""
    module_name, _, function_name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"networks.name must be importable as module:function, got {path!r} ({error})") from error
    if not callable(factory):
        raise ValueError(f"networks.name must name a function, got {path!r}")
    return factory  # type: ignore[no-any-return]


def _user_networks(path: str, target: Target, options: Mapping[str, object]) -> Networks:
    """Networks of ``factory(latent_dim=, sample_shape=, **options) -> (generator, discriminator)``."""
    factory = import_factory(path)
    latent_dim = options.get("latent_dim", 16)
    if not isinstance(latent_dim, int):
        raise ValueError(f"networks.latent_dim must be a whole number, got {latent_dim!r}")
    arguments = {**options, "latent_dim": latent_dim, "sample_shape": target.sample_shape}

    def player(index: int) -> Callable[[], nn.Module]:
        return lambda: factory(**arguments)[index]

    return Networks(
        generator=StackedModule(player(GENERATOR), input_shape=(latent_dim,), outputs=target.dimensions),
        discriminator=StackedModule(player(DISCRIMINATOR), input_shape=target.sample_shape, outputs=1),
        latent_dim=latent_dim,
    )


def build_networks(mapping: Mapping[str, object], target: Target) -> Networks:
    """Networks from the study file's mapping: a registered name, or ``package.module:function`` of the user's."""
    options = {key: value for key, value in mapping.items() if key != "name"}
    name = str(mapping["name"])
    if ":" in name:
        return _user_networks(name, target, options)
    return NETWORKS[name](target, **options)
