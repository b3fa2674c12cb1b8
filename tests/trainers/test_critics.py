"""Critics under a per-sample penalty: none of ours mixes its batch or its members, and one that does is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.programs import members, program
from trainers import catalogue
from trainers.cohort import Cohort
from trainers.conformance import check_discriminator
from trainers.modules import StackedModule

BUILT_IN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({"name": "mlp", "width": 6}, {"name": "ring"}),
    "mlp, normalised": (
        {"name": "mlp", "width": 6, "batch_norm": "generator", "spectral_norm": "discriminator"},
        {"name": "ring"},
    ),
    "pacgan": ({"name": "pacgan", "generator_width": 6, "discriminator_width": 6, "init_std": 0.5}, {"name": "ring"}),
    "conv": ({"name": "conv", "channels": 4, "init_std": 0.3}, {"name": "digits"}),
    "conv, normalised": ({"name": "conv", "channels": 4, "spectral_norm": "discriminator"}, {"name": "digits"}),
    "dirac": ({"name": "dirac", "initial": [1.0, 1.0]}, {"name": "dirac"}),
}


def test_the_built_in_critics_below_are_of_every_kind() -> None:
    assert {networks["name"] for networks, _ in BUILT_IN.values()} == set(catalogue.NETWORKS)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_no_built_in_critic_mixes_its_batch_or_its_members(kind: str) -> None:
    networks, target = BUILT_IN[kind]
    networks = {**catalogue.NETWORKS[networks["name"]].defaults, **networks}
    of = program(networks=networks, target={**catalogue.TARGETS[target["name"]].defaults, **target})
    cohort = Cohort.start(of, members(2, of=of))
    found = check_discriminator(cohort.discriminate, members=len(cohort.seeds), dimensions=cohort.target.dimensions)
    assert found == []


def critic_of(*middle: nn.Module) -> Callable[[Tensor], Tensor]:
    """Two members of a user's critic, stacked as in a cohort."""
    stack = StackedModule(
        lambda: nn.Sequential(nn.Linear(3, 6), *middle, nn.Tanh(), nn.Linear(6, 1)), input_shape=(3,), outputs=1
    )
    flat = torch.stack([torch.from_numpy(stack.initial(seed, 1)) for seed in (1, 2)])
    return lambda x: stack(stack.layout.views(flat), x).squeeze(-1)


def test_batch_normalisation_in_the_critic_is_caught() -> None:
    sound = critic_of(nn.LayerNorm(6, elementwise_affine=False))
    assert check_discriminator(sound, members=2, dimensions=3) == []
    mixing = critic_of(nn.BatchNorm1d(6, affine=False, track_running_stats=False))
    (problem,) = check_discriminator(mixing, members=2, dimensions=3)
    assert "batch normalisation" in problem


def test_a_critic_that_mixes_members_is_caught() -> None:
    sound = critic_of()
    (problem,) = check_discriminator(lambda x: sound(x - x.mean(0)), members=2, dimensions=3)
    assert "other members" in problem
