"""The small classifier that assigns images to classes where modes have no known centre."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainers.labelled import Bytes, FloatArray, as_floats

HIDDEN_UNITS = 64
TRAINING_STEPS = 300
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-3

FULL_BATCH = 2000
"""Up to so many images every step sees all of them."""
MINIBATCH, MINIBATCH_STEPS, MINIBATCH_RATE = 500, 2000, 2e-3
"""For more than that, each step sees a few of them, drawn without replacement within an epoch."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """One hidden layer of ReLUs: weights [d, H], [H, K] and biases [H], [K], float32."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def features(self, samples: Tensor) -> Tensor:
        """The hidden layer [..., H] of flat images [..., d]."""
        return torch.relu(samples @ self.hidden_weight + self.hidden_bias)

    def logits(self, samples: Tensor) -> Tensor:
        """Class scores [..., K] of flat images [..., d]."""
        return self.features(samples) @ self.output_weight + self.output_bias

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images [n, d] whose most probable class is their label [n]."""
        return float((self.logits(images).argmax(dim=-1) == labels).double().mean())


def train_classifier(images: FloatArray | Bytes, labels: NDArray[np.int64], *, classes: int, seed: int) -> Classifier:
    """Fit a classifier to flat images [n, d] with labels [n], from its own generator (``seed``).

    Full batch for small sets, minibatches beyond FULL_BATCH images.
    """
    generator = torch.Generator().manual_seed(seed)
    dimensions = images.shape[1]
    parameters = [
        torch.randn(dimensions, HIDDEN_UNITS, generator=generator) * math.sqrt(2.0 / dimensions),
        torch.zeros(HIDDEN_UNITS),
        torch.randn(HIDDEN_UNITS, classes, generator=generator) * math.sqrt(1.0 / HIDDEN_UNITS),
        torch.zeros(classes),
    ]
    for parameter in parameters:
        parameter.requires_grad_()
    small = len(images) <= FULL_BATCH
    optimizer = torch.optim.Adam(
        parameters, lr=LEARNING_RATE if small else MINIBATCH_RATE, weight_decay=WEIGHT_DECAY if small else 0.0
    )
    for x, y in _everything(images, labels) if small else _minibatches(images, labels, generator):
        optimizer.zero_grad()
        loss = functional.cross_entropy(_classifier(parameters).logits(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _classifier([parameter.detach().clone() for parameter in parameters])


def _everything(images: FloatArray | Bytes, labels: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
    yield from itertools.repeat((torch.from_numpy(as_floats(images)), torch.from_numpy(labels)), TRAINING_STEPS)


def _minibatches(
    images: FloatArray | Bytes, labels: NDArray[np.int64], generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    order = np.zeros(0, np.int64)
    for _ in range(MINIBATCH_STEPS):
        if len(order) < MINIBATCH:
            order = torch.randperm(len(images), generator=generator).numpy()
        rows, order = order[:MINIBATCH], order[MINIBATCH:]
        yield torch.from_numpy(as_floats(images[rows])), torch.from_numpy(labels[rows])


def _classifier(parameters: list[Tensor]) -> Classifier:
    hidden_weight, hidden_bias, output_weight, output_bias = parameters
    return Classifier(
        hidden_weight=hidden_weight,
        hidden_bias=hidden_bias,
        output_weight=output_weight,
        output_bias=output_bias,
    )
