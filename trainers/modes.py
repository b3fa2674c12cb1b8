"""How samples are assigned to a target's modes, and when a sample counts as high quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers import metrics
from trainers.classifier import Classifier, train_classifier
from trainers.labelled import Bytes, FloatArray, LabelledImages, StackedImages, as_floats
from trainers.targets import GaussianMixture, Target

QUALITY_STDS = 3.0
"""In the plane a point within 3 standard deviations of its centre is of high quality (98.889 % of real ones)."""

QUALITY_PERCENTILE = 0.95
"""Share of real images that count as high quality."""

JUDGED_OF_A_CLASS = 250
"""Images of a class that samples, and training images, are compared with: more would cost more than they tell."""

IMAGES_AT_ONCE = 4096
"""Images compared with the reals of their class in one pass: bounds the memory, and fits the cache."""


@dataclass(frozen=True, kw_only=True)
class CentreModes:
    """Modes with known centres [K, d]; high quality = within ``radius`` (scalar tensor) of the nearest one."""

    centres: Tensor
    radius: Tensor

    def assign(self, samples: Tensor) -> metrics.Assignment:
        """Assign samples [R, N, d] to their nearest centre."""
        return metrics.assign_to_centres(samples, centres=self.centres, radius=float(self.radius))

    def features(self, samples: Tensor) -> Tensor:
        """What a Frechet distance compares: the coordinates [..., d] themselves."""
        return samples


@dataclass(frozen=True, kw_only=True)
class ClassModes:
    """Modes that are classes of real images: a sample belongs to the classifier's most probable class.

    ``reals`` [M, d] are the held-out images sorted by class, ``class_sizes`` [K] their numbers. High quality = no
    farther from the nearest held-out image of its class than ``radii`` [K]: the 95th percentile of that distance
    over the training images of the class, so that fresh real images score about .95.
    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    reals: Tensor
    class_sizes: Tensor
    radii: Tensor

    def assign(self, samples: Tensor) -> metrics.Assignment:
        """Assign samples [R, N, d] to their most probable class."""
        return metrics.assign_to_classes(
            samples,
            logits=self.classifier.logits(samples),
            class_reals=torch.split(self.reals, self.class_sizes.tolist()),
            radii=self.radii,
        )

    def features(self, samples: Tensor) -> Tensor:
        """What a Frechet distance compares: the classifier's hidden layers [..., channels x H] of flat samples."""
        images = samples.reshape(*samples.shape[:-1], -1, self.reals.shape[1])
        return self.classifier.features(images).flatten(-2)

    @property
    def classifier(self) -> Classifier:
        """The classifier of one image."""
        return Classifier(
            hidden_weight=self.hidden_weight,
            hidden_bias=self.hidden_bias,
            output_weight=self.output_weight,
            output_bias=self.output_bias,
        )


@dataclass(frozen=True, kw_only=True)
class StackedModes(ClassModes):
    """Modes that are combinations of classes, one class for each channel; all channels share what judges one image.

    High quality = every channel is, by ``radii`` so much wider that all channels of fresh real images are in .95.
    """

    def assign(self, samples: Tensor) -> metrics.Assignment:
        """Assign samples [R, N, channels x d] to the most probable classes, the first channel's slowest.

        Each image is compared with the reals of its own class only: with 1,000 modes there are tens of thousands.
        """
        images = samples.reshape(-1, self.reals.shape[1])
        label = self.classifier.logits(images).argmax(dim=-1)
        good = torch.zeros_like(label, dtype=torch.bool)
        for k, reals in enumerate(torch.split(self.reals, self.class_sizes.tolist())):
            rows = (label == k).nonzero().squeeze(1)
            for part in torch.split(rows, IMAGES_AT_ONCE):
                nearest = metrics.squared_distances(images[part], reals).amin(dim=-1).sqrt()
                good[part] = nearest <= self.radii[k]
        members, count = samples.shape[:2]
        labels = label.view(members, count, -1)
        mode = torch.zeros_like(labels[..., 0])
        for channel in range(labels.shape[-1]):
            mode = mode * len(self.class_sizes) + labels[..., channel]
        return metrics.Assignment(mode=mode, high_quality=good.view_as(labels).all(dim=-1))


Modes = CentreModes | ClassModes | StackedModes

MODES: Mapping[str, type[Modes]] = MappingProxyType(
    {kind.__name__: kind for kind in (CentreModes, ClassModes, StackedModes)}
)
"""Class name -> class, as a saved judge names it."""


def build_modes(target: Target, *, seed: int) -> tuple[Modes, dict[str, float]]:
    """Fit the assignment of ``target``, and say how well it fits (``classifier_accuracy`` on held-out images).

    TypeError for a target that declares neither centres nor labelled images.
    """
    if isinstance(target, GaussianMixture):
        centres = torch.from_numpy(target.centres).float()
        return CentreModes(centres=centres, radius=torch.tensor(QUALITY_STDS * target.std)), {}
    if isinstance(target, LabelledImages):
        return _class_modes(target, seed=seed, kind=ClassModes, share=QUALITY_PERCENTILE)
    if isinstance(target, StackedImages):
        share = QUALITY_PERCENTILE ** (1 / target.channels)
        return _class_modes(target.images, seed=seed, kind=StackedModes, share=share)
    raise TypeError(f"target {target.name!r} must be a GaussianMixture or LabelledImages, got {type(target).__name__}.")


def _class_modes(
    target: LabelledImages, *, seed: int, kind: type[ClassModes], share: float
) -> tuple[ClassModes, dict[str, float]]:
    """The classifier of one image, and per class the distance within which ``share`` of the training images lie.

    Classes of more than JUDGED_OF_A_CLASS images are represented by as many, drawn from ``seed``.
    """
    classifier = train_classifier(target.training_images, target.training_labels, classes=target.n_modes, seed=seed)
    rng = np.random.default_rng(seed)
    class_reals = _by_class(target.held_out_images, target.held_out_labels, target.n_modes, rng)
    training = _by_class(target.training_images, target.training_labels, target.n_modes, rng)
    radii = [
        metrics.squared_distances(fresh, reals).amin(dim=-1).sqrt().quantile(share)
        for fresh, reals in zip(training, class_reals, strict=True)
    ]
    modes = kind(
        hidden_weight=classifier.hidden_weight,
        hidden_bias=classifier.hidden_bias,
        output_weight=classifier.output_weight,
        output_bias=classifier.output_bias,
        reals=torch.cat(class_reals),
        class_sizes=torch.tensor([len(reals) for reals in class_reals]),
        radii=torch.stack(radii),
    )
    held_out, labels = torch.from_numpy(as_floats(target.held_out_images)), torch.from_numpy(target.held_out_labels)
    return modes, {"classifier_accuracy": classifier.accuracy(held_out, labels)}


def _by_class(
    images: FloatArray | Bytes, labels: NDArray[np.int64], classes: int, rng: np.random.Generator
) -> list[Tensor]:
    """The images of each class [M_k, d], in their order: all of a small class, JUDGED_OF_A_CLASS of a large one."""
    found = []
    for k in range(classes):
        rows = np.flatnonzero(labels == k)
        if len(rows) > JUDGED_OF_A_CLASS:
            rows = np.sort(rng.permutation(rows)[:JUDGED_OF_A_CLASS])
        found.append(torch.from_numpy(as_floats(images[rows])))
    return found
