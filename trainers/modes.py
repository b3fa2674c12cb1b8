"""How samples are assigned to a target's modes, and when a sample counts as high quality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers import metrics
from trainers.classifier import Classifier, train_classifier
from trainers.targets import GaussianMixture, LabelledImages, Target

QUALITY_STDS = 3.0
"""In the plane a point within 3 standard deviations of its centre is of high quality (98.889 % of real ones)."""

QUALITY_PERCENTILE = 0.95
"""Share of real images that count as high quality."""


@dataclass(frozen=True, kw_only=True)
class CentreModes:
    """Modes with known centres [K, d]; high quality = within ``radius`` (scalar tensor) of the nearest one."""

    centres: Tensor
    radius: Tensor

    def assign(self, samples: Tensor) -> metrics.Assignment:
        """Assign samples [R, N, d] to their nearest centre."""
        return metrics.assign_to_centres(samples, centres=self.centres, radius=float(self.radius))


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
        classifier = Classifier(
            hidden_weight=self.hidden_weight,
            hidden_bias=self.hidden_bias,
            output_weight=self.output_weight,
            output_bias=self.output_bias,
        )
        return metrics.assign_to_classes(
            samples,
            logits=classifier.logits(samples),
            class_reals=torch.split(self.reals, self.class_sizes.tolist()),
            radii=self.radii,
        )


Modes = CentreModes | ClassModes


def build_modes(target: Target, *, seed: int) -> tuple[Modes, dict[str, float]]:
    """Fit the assignment of ``target``, and say how well it fits (``classifier_accuracy`` on held-out images).

    TypeError for a target that declares neither centres nor labelled images.
    """
    if isinstance(target, GaussianMixture):
        centres = torch.from_numpy(target.centres).float()
        return CentreModes(centres=centres, radius=torch.tensor(QUALITY_STDS * target.std)), {}
    if isinstance(target, LabelledImages):
        return _class_modes(target, seed=seed)
    raise TypeError(f"target {target.name!r} must be a GaussianMixture or LabelledImages, got {type(target).__name__}.")


def _class_modes(target: LabelledImages, *, seed: int) -> tuple[ClassModes, dict[str, float]]:
    classifier = train_classifier(target.training_images, target.training_labels, classes=target.n_modes, seed=seed)
    held_out, labels = torch.from_numpy(target.held_out_images), torch.from_numpy(target.held_out_labels)
    training, training_labels = torch.from_numpy(target.training_images), torch.from_numpy(target.training_labels)
    class_reals = [held_out[labels == k] for k in range(target.n_modes)]
    radii = [
        metrics.squared_distances(training[training_labels == k], reals)
        .amin(dim=-1)
        .sqrt()
        .quantile(QUALITY_PERCENTILE)
        for k, reals in enumerate(class_reals)
    ]
    modes = ClassModes(
        hidden_weight=classifier.hidden_weight,
        hidden_bias=classifier.hidden_bias,
        output_weight=classifier.output_weight,
        output_bias=classifier.output_bias,
        reals=torch.cat(class_reals),
        class_sizes=torch.tensor([len(reals) for reals in class_reals]),
        radii=torch.stack(radii),
    )
    return modes, {"classifier_accuracy": classifier.accuracy(held_out, labels)}
