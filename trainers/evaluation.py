"""The judge: everything needed to measure generated samples against held-out real data, fixed before training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import metrics
from trainers.dirac_game import RULE, Equilibrium
from trainers.fid import features_of, real_moments
from trainers.frechet import frechet_distance, matrix_root, moments
from trainers.inception import Extractor, inception
from trainers.labelled import LabelledImages, as_floats
from trainers.measurement import JUDGE_SCHEMA
from trainers.memorisation import memorised_fraction, nothing
from trainers.modes import MODES, Modes, build_modes
from trainers.point_mass import PointMass
from trainers.reference import REPEATS, Reference, reference_numbers
from trainers.targets import Target

FAR = 1e15
"""Coordinates are clipped here before measuring: as far as float32 can still square."""

Measure = Callable[[Tensor], dict[str, Tensor]]

REFERENCE_SEED = 20140610
"""Default seed of everything a judge draws: reference values belong to the target, not to a study."""

DISTANCE_SAMPLES = 1000
NEIGHBOUR_SAMPLES = 500
DISCRIMINATOR_SAMPLES = 1000
ENDLESS_REALS = 50_000
FID_REALS, FID_STREAM = 10_000, 4
PROJECTIONS_PLANE = 32
PROJECTIONS_IMAGES = 128


def _nothing() -> Tensor:
    return torch.zeros(0)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures samples of one target. ``build_judge`` makes one; it is a function of the target alone.

    Where an Equilibrium is in place of modes, the players' parameters are measured and the samples are not.

    projections [P, d] and quantiles [P, n] of real data; reals [<= 1000, d] held-out; knn_reals [<= 500, d] with
    squared radii knn_radii; mode_weights [K] float64; ``reference``: the numbers a study writes to reference.json.
    Of optional measurements: feature_mean [F] and feature_root [F, F] (of the covariance), float64, over all reals;
    training_images and held_out_images [M, d], where there is finite data to memorise; fid_mean and fid_root of the
    reals' Inception features, and the shape of a sample, where a study asks for fid. ``extractor`` stands in for
    Inception; it is not saved.
    """

    projections: Tensor
    quantiles: Tensor
    reals: Tensor
    knn_reals: Tensor
    knn_radii: Tensor
    mode_weights: Tensor
    feature_mean: Tensor
    feature_root: Tensor
    training_images: Tensor
    held_out_images: Tensor
    modes: Modes | Equilibrium
    reference: Reference
    fid_mean: Tensor = field(default_factory=_nothing)
    fid_root: Tensor = field(default_factory=_nothing)
    fid_shape: Tensor = field(default_factory=_nothing)
    extractor: Extractor | None = None

    @property
    def distance_samples(self) -> int:
        """How many samples the distance is measured on."""
        return self.quantiles.shape[1]

    @torch.no_grad()
    def measure(self, samples: Tensor, *, nearest_neighbours: bool, groups: Collection[str] = ()) -> dict[str, Tensor]:
        """Measure samples [R, N, d] of R members: name -> [R] float64, NaN for members with a non-finite sample.

        Modes use the first ``evaluation_samples`` samples, distance the first 1,000, neighbours the first 500;
        ``groups`` are the optional measurements to take too, where they look at samples.
        ValueError where N is smaller than ``distance_samples``.
        """
        return self._by_member(
            samples, lambda member: self._measure(member, nearest_neighbours=nearest_neighbours, groups=groups)
        )

    @torch.no_grad()
    def distance(self, samples: Tensor) -> Tensor:
        """The distance alone, [R] float64, of samples [R, N, d]."""
        return self._by_member(samples, lambda member: {"distance": self._distance(member)})["distance"]

    def _by_member(self, samples: Tensor, measure: Measure) -> dict[str, Tensor]:
        if samples.ndim != 3 or samples.shape[1] < self.distance_samples:
            raise ValueError(f"samples must be [R, >= {self.distance_samples}, d], got {list(samples.shape)}.")
        # One member at a time on CPU: kernels of one shape on freshly aligned memory round alike, so that a
        # member's numbers are bitwise the same in any company. Eight at a time elsewhere bounds the memory.
        size = 1 if samples.device.type == "cpu" else 8
        chunks = [_measure_finite(chunk, measure) for chunk in torch.split(samples, size)]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def measure_parameters(self, *, generator: Tensor, discriminator: Tensor) -> dict[str, Tensor]:
        """What is judged on the players' flat parameters [R, P]: nothing, unless the solution is known (dirac)."""
        if isinstance(self.modes, Equilibrium):
            return self.modes.measure(generator=generator, discriminator=discriminator)
        return {}

    def _measure(self, samples: Tensor, *, nearest_neighbours: bool, groups: Collection[str]) -> dict[str, Tensor]:
        if isinstance(self.modes, Equilibrium):
            return {}
        counted = samples[:, : int(self.reference["evaluation_samples"])]
        values = {"distance": self._distance(samples)}
        assignment = self.modes.assign(counted)
        values |= metrics.mode_measurements(assignment, self.mode_weights)
        if "off_mode" in groups:
            values["mode_kl_off"] = metrics.mode_kl_off(assignment, self.mode_weights, off_mode=self._off_mode)
        if "frechet" in groups:
            features = self.modes.features(counted)
            values["frechet_distance"] = frechet_distance(
                features, real_mean=self.feature_mean, real_root=self.feature_root
            )
        if "fid" in groups:
            shape, extractor = tuple(self.fid_shape.tolist()), self.extractor or inception()
            seen = features_of(counted, shape, extractor)
            values["fid"] = frechet_distance(seen, real_mean=self.fid_mean, real_root=self.fid_root)
        if "memorisation" in groups:
            values["memorised_fraction"] = memorised_fraction(
                samples[:, : self.distance_samples], training=self.training_images, held_out=self.held_out_images
            )
        if nearest_neighbours:
            fakes = samples[:, :NEIGHBOUR_SAMPLES]
            values |= metrics.neighbour_measurements(fakes, reals=self.knn_reals, real_radii=self.knn_radii)
        return values

    def _distance(self, samples: Tensor) -> Tensor:
        compared = samples[:, : self.distance_samples]
        return metrics.sliced_wasserstein(compared, projections=self.projections, quantiles=self.quantiles)

    @property
    def _off_mode(self) -> float:
        """Share of real samples on no mode; where none was seen, half a sample of those that were looked at."""
        looked_at = REPEATS * int(self.reference["evaluation_samples"])
        return max(1.0 - float(self.reference["quality_ceiling"]), 0.5 / looked_at)

    def to(self, device: torch.device | str) -> Judge:
        """The same judge with its tensors on ``device``."""
        modes: Modes | Equilibrium = replace(self.modes, **_on_device(self.modes, device))
        return replace(self, modes=modes, **_on_device(self, device))

    def save(self, path: Path | str) -> None:
        """Write plain tensors and numbers to ``path``."""
        torch.save(
            {
                "schema": JUDGE_SCHEMA,
                "kind": type(self.modes).__name__,
                "tensors": _tensors(self.to("cpu")),
                "modes": _tensors(self.to("cpu").modes),
                "reference": dict(self.reference),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Judge:
        """Read what ``save`` wrote, bit for bit; ValueError for another schema."""
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["schema"] != JUDGE_SCHEMA:
            raise ValueError(f"{path}: judge schema must be {JUDGE_SCHEMA}, got {stored['schema']}.")
        kind = {**MODES, "Equilibrium": Equilibrium}[stored["kind"]]
        judge = cls(**stored["tensors"], modes=kind(**stored["modes"]), reference=stored["reference"])
        return judge.to(device)


def _tensors(thing: Judge | Modes | Equilibrium) -> dict[str, Tensor]:
    values = {field.name: getattr(thing, field.name) for field in fields(thing)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _on_device(thing: Judge | Modes | Equilibrium, device: torch.device | str) -> dict[str, Any]:
    return {name: tensor.to(device) for name, tensor in _tensors(thing).items()}


def _measure_finite(samples: Tensor, measure: Measure) -> dict[str, Tensor]:
    """Measure with non-finite members replaced by zeros, then let NaN stand for them: they disturb no sort."""
    if samples.device.type == "cpu":  # elsewhere a look would wait for the device
        least, greatest = torch.aminmax(samples)
        if bool(least >= -FAR) and bool(greatest <= FAR):
            return measure(samples.to(torch.float32, copy=True, memory_format=torch.contiguous_format))
    finite = samples.isfinite().flatten(1).all(dim=1)
    usable = torch.where(finite[:, None, None], samples.float(), 0.0).clamp(-FAR, FAR)
    return {name: torch.where(finite, value, torch.nan) for name, value in measure(usable).items()}


def build_judge(
    target: Target,
    *,
    evaluation_samples: int,
    seed: int = REFERENCE_SEED,
    groups: Collection[str] = (),
    extractor: Extractor | None = None,
) -> Judge:
    """Build the judge of ``target``: a function of the target, ``evaluation_samples`` and ``seed`` alone.

    With fid among the optional ``groups`` it also holds what Inception (or ``extractor``) makes of held-out images.
    TypeError for a target that declares neither centres nor labelled images; ExtractorError without Inception.
    """
    with _one_thread():
        judge = _build_judge(target, evaluation_samples=evaluation_samples, seed=seed)
    return _with_inception(judge, target, extractor, seed=seed) if "fid" in groups else judge


def _with_inception(judge: Judge, target: Target, extractor: Extractor | None, *, seed: int) -> Judge:
    """All threads, and a GPU where there is one: Inception takes minutes, and no outcome hangs on its last bits."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng([seed, FID_STREAM])
    reals = torch.from_numpy(target.held_out(rng, target.held_out_size or FID_REALS)).to(device)
    mean, root = real_moments(reals, target.sample_shape, extractor or inception())
    shape = torch.tensor(target.sample_shape)
    return replace(judge, fid_mean=mean.cpu(), fid_root=root.cpu(), fid_shape=shape, extractor=extractor)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split by threads: a classifier trained on two has other last bits, and measures other numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _build_judge(target: Target, *, evaluation_samples: int, seed: int) -> Judge:
    if isinstance(target, PointMass):
        return _equilibrium_judge(target, evaluation_samples=evaluation_samples, seed=seed)
    # one generator per purpose: changing one constant does not move the other numbers
    real_rng, projection_rng, mode_rng, reference_rng = (np.random.default_rng([seed, i]) for i in range(4))
    reals = torch.from_numpy(target.held_out(real_rng, target.held_out_size or ENDLESS_REALS))
    projections = _projections(projection_rng, target.dimensions)
    modes, fit = build_modes(target, seed=int(mode_rng.integers(2**31)))
    distance_samples = min(DISTANCE_SAMPLES, evaluation_samples)
    knn_reals = reals[:NEIGHBOUR_SAMPLES].clone()
    feature_mean, feature_covariance = moments(modes.features(reals))
    training_images, held_out_images = _halves(target)
    facts: Reference = {
        "dimensions": target.dimensions,
        "modes": target.n_modes,
        "evaluation_samples": evaluation_samples,
        "distance_samples": distance_samples,
        "seed": seed,
        **fit,
    }
    judge = Judge(
        projections=projections,
        quantiles=metrics.real_quantiles(reals, projections, distance_samples),
        reals=reals[:DISCRIMINATOR_SAMPLES].clone(),
        knn_reals=knn_reals,
        knn_radii=metrics.neighbour_radii(knn_reals),
        mode_weights=torch.from_numpy(target.mode_weights),
        feature_mean=feature_mean,
        feature_root=matrix_root(feature_covariance),
        training_images=training_images,
        held_out_images=held_out_images,
        modes=modes,
        reference=facts,
    )
    numbers = reference_numbers(judge, target, real_mean=reals.double().mean(dim=0).float(), rng=reference_rng)
    return replace(judge, reference={**numbers, **facts})


def _equilibrium_judge(target: PointMass, *, evaluation_samples: int, seed: int) -> Judge:
    """The judge of parameters: real samples for the losses, and a reference that names the rule of its outcomes."""
    reals = torch.from_numpy(target.held_out(np.random.default_rng(seed), DISCRIMINATOR_SAMPLES))
    facts: Reference = {"rule": RULE, "dimensions": target.dimensions, "modes": 0}
    return Judge(
        projections=torch.ones(1, 1),
        quantiles=torch.zeros(1, 0),
        reals=reals,
        knn_reals=reals[:0].clone(),
        knn_radii=torch.zeros(0),
        mode_weights=torch.from_numpy(target.mode_weights),
        feature_mean=torch.zeros(0, dtype=torch.float64),
        feature_root=torch.zeros(0, 0, dtype=torch.float64),
        training_images=nothing(target.dimensions),
        held_out_images=nothing(target.dimensions),
        modes=Equilibrium(),
        reference={**facts, "evaluation_samples": evaluation_samples, "seed": seed},
    )


def _halves(target: Target) -> tuple[Tensor, Tensor]:
    """Training and held-out images [M, d] of finite data; none where the supply is endless, or the halves are none.

    Which half a sample is nearer to says nothing where one half is much larger (MNIST: 60,000 against 10,000).
    """
    if not isinstance(target, LabelledImages) or not target.even_halves:
        return nothing(target.dimensions), nothing(target.dimensions)
    images = target.training_images, target.held_out_images
    training, held_out = (torch.from_numpy(as_floats(half)).clone() for half in images)
    return training, held_out


def _projections(rng: np.random.Generator, dimensions: int) -> Tensor:
    """Unit vectors [P, d]: evenly spread over the half-plane in two dimensions, uniform on the sphere beyond."""
    if dimensions == 2:
        angle = np.pi * (np.arange(PROJECTIONS_PLANE) + rng.random()) / PROJECTIONS_PLANE
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        directions = rng.standard_normal((PROJECTIONS_IMAGES, dimensions))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return torch.from_numpy(directions.astype(np.float32))
