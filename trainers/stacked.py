"""Stacked networks: the parameters of all members as one flat tensor [R, P], applied to [R, batch, ...] at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from trainers import native
from trainers.draws import Stream, generator
from trainers.layers import Affine, maxout
from trainers.precision import is_rounded

ROW_MULTIPLE = 32
"""P is padded to this many floats, so that every member's row meets the same vector lanes at any position."""


@dataclass(frozen=True)
class Layout:
    """Shapes of one member's parameters and where each lies in its flat row of ``size`` floats.

    ``weights``: which of them are weight matrices (or kernels), not biases, scales or shifts.
    """

    shapes: tuple[tuple[int, ...], ...]
    weights: tuple[int, ...] = ()

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


def layout_of(layers: Sequence[Affine]) -> Layout:
    """Where the parameters of ``layers`` lie, one layer after the other, each with its weight first."""
    lengths = [len(layer.shapes) for layer in layers]
    first = itertools.accumulate(lengths[:-1], initial=0)
    return Layout(tuple(shape for layer in layers for shape in layer.shapes), weights=tuple(first))


def initial_row(layers: Sequence[Affine], layout: Layout, *, seed: int, player: int, std: float) -> np.ndarray:
    """One member's initial row [P], layer by layer from the generator of its seed and player."""
    rng = generator(seed, Stream.INITIALISATION, player)
    return layout.pack([parameter for layer in layers for parameter in layer.initial(rng, std=std)])


class StackedMLP:
    """Fully connected layers as ``baddbmm`` over the member axis; weights [R, in, out], biases [R, 1, out].

    Hidden layers end in a leaky ReLU, or in a maxout over ``maxout_pieces`` (0: none) linear pieces of each unit.
    ``normalised``: batch normalisation in every hidden layer, in place of its bias; ``bounded``: tanh at the end;
    ``spectral``: every weight divided by its largest singular value; ``init_std`` as ``Affine.initial`` has it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        negative_slope: float,
        bounded: bool,
        maxout_pieces: int = 0,
        normalised: bool = False,
        spectral: bool = False,
        init_std: float = 0.0,
    ) -> None:
        self.sizes, self.negative_slope, self.bounded = tuple(sizes), negative_slope, bounded
        self.maxout_pieces, self.init_std = maxout_pieces, init_std
        *hidden, (last_in, last_out) = itertools.pairwise(sizes)
        widths = [(fan_in, units * (maxout_pieces or 1)) for fan_in, units in hidden]
        self._hidden = [
            Affine(rows=rows, columns=columns, channels=columns, normalised=normalised, spectral=spectral)
            for rows, columns in widths
        ]
        self._last = Affine(rows=last_in, columns=last_out, channels=last_out, spectral=spectral)
        self.plain = not (maxout_pieces or normalised or spectral)
        self.layout = layout_of([*self._hidden, self._last])

    def initial(self, seed: int, player: int) -> np.ndarray:
        """One member's initial row [P]; see ``Affine.initial``."""
        return initial_row([*self._hidden, self._last], self.layout, seed=seed, player=player, std=self.init_std)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, in] -> [R, batch, out]."""
        if self.plain and (outputs := self._natively(parameters, inputs)) is not None:
            return outputs
        return self._ended(self.linear_outputs(parameters, inputs).to(parameters[0].dtype))

    def _ended(self, outputs: Tensor) -> Tensor:
        return torch.tanh(outputs) if self.bounded else outputs

    def linear_outputs(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """[R, batch, in] -> [R, batch, out], before any tanh."""
        hidden, following = inputs, iter(parameters)
        for affine in self._hidden:
            hidden = self._activation(affine(hidden, following))
        return self._last(hidden, following)

    def _natively(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor | None:
        """The outputs by compiled kernels; None where they are not in use, or do not serve (bfloat16).

        Where inputs and parameters both want gradients, a penalty is about to differentiate twice: left to torch.
        """
        first = parameters[0]
        kernels = native.serving(first, inputs)
        if kernels is None or is_rounded(first) or not self._in_rows(parameters):
            return None
        if first.requires_grad and inputs.requires_grad:
            return None
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (inputs, *parameters))
        if not learns and inputs[0].is_contiguous():
            return kernels.outputs(native.Network(self.sizes, self.negative_slope, first, self.bounded), inputs)
        outputs: Tensor = _NativeMLP.apply(kernels, self, inputs, *parameters)  # type: ignore[no-untyped-call]
        return self._ended(outputs)

    def _in_rows(self, parameters: Sequence[Tensor]) -> bool:
        """Whether the parameters lie in one flat tensor [R, P], as ``layout.views`` gives them."""
        first, last = parameters[0], parameters[-1]
        before = 4 * sum(math.prod(shape) for shape in self.layout.shapes[:-1])
        return last.data_ptr() - first.data_ptr() == before and last.stride(0) == first.stride(0) > last.stride(1)

    def _activation(self, hidden: Tensor) -> Tensor:
        if self.maxout_pieces:
            return maxout(hidden, pieces=self.maxout_pieces)
        return leaky_relu(hidden, self.negative_slope, inplace=True)


class _NativeMLP(torch.autograd.Function):
    """A plain StackedMLP's linear outputs by compiled kernels; a gradient of its gradient is torch's."""

    @staticmethod
    def forward(ctx: Any, kernels: native.Library, network: StackedMLP, inputs: Tensor, *parameters: Tensor) -> Tensor:
        """[R, batch, in] -> [R, batch, out]."""
        inputs = inputs.contiguous()
        outputs, ctx.kept = kernels.forward(network.sizes, network.negative_slope, parameters[0], inputs)
        ctx.kernels, ctx.network = kernels, network
        ctx.save_for_backward(inputs, *parameters)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of inputs and parameters, those that are wanted."""
        inputs, *parameters = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return (None, None, *_by_torch(ctx.network, inputs, parameters, gradient, wanted))
        first = parameters[0]
        rows = first.new_zeros(first.shape[0], ctx.network.layout.size) if any(wanted[1:]) else None
        of_inputs = torch.empty_like(inputs) if wanted[0] else None
        ctx.kernels.backward(
            ctx.network.sizes,
            ctx.network.negative_slope,
            first,
            ctx.kept,
            gradient.contiguous(),
            parameters=rows,
            inputs=of_inputs,
        )
        return (None, None, of_inputs, *([None] * len(parameters) if rows is None else ctx.network.layout.views(rows)))


def _by_torch(
    network: StackedMLP, inputs: Tensor, parameters: Sequence[Tensor], gradient: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, of the linear outputs computed anew."""
    of = [tensor for tensor, want in zip((inputs, *parameters), wanted, strict=True) if want]
    outputs = network.linear_outputs(parameters, inputs)
    found = iter(torch.autograd.grad(outputs, of, gradient, create_graph=True))
    return [next(found) if want else None for want in wanted]
