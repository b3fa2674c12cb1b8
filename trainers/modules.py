"""Networks of the user's own: an nn.Module stacked over the member axis with torch.func."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainers.draws import Stream, generator
from trainers.imported import import_object
from trainers.stacked import Layout


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
        shapes = tuple(tuple(p.shape) for p in self._template.parameters())
        matrices = tuple(place for place, shape in enumerate(shapes) if len(shape) >= 2)
        self.layout = Layout(shapes, weights=matrices)

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
        buffers = {
            name: value.to(inputs.device, inputs.dtype if value.is_floating_point() else None)
            for name, value in self._template.named_buffers()
        }

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


def user_players(
    path: str, *, sample_shape: tuple[int, ...], dimensions: int, options: Mapping[str, object]
) -> tuple[StackedModule, StackedModule, int]:
    """Generator, discriminator and latent dimensions of the user's own factory.

    ``path`` names ``factory(latent_dim=, sample_shape=, **options) -> (generator, discriminator)``. ValueError with
    the path when it cannot be had, or ``latent_dim`` is no whole number.
    """
    factory = import_object(path, field="networks.name")
    if not callable(factory):
        raise ValueError(f"networks.name must name a function, got {path!r}")
    latent_dim = options.get("latent_dim", 16)
    if not isinstance(latent_dim, int):
        raise ValueError(f"networks.latent_dim must be a whole number, got {latent_dim!r}")
    arguments = {**options, "latent_dim": latent_dim, "sample_shape": sample_shape}

    def player(index: int) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            module: nn.Module = factory(**arguments)[index]
            return module

        return build

    return (
        StackedModule(player(0), input_shape=(latent_dim,), outputs=dimensions),
        StackedModule(player(1), input_shape=sample_shape, outputs=1),
        latent_dim,
    )
