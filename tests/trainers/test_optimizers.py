"""The stacked optimizers against torch.optim, one member at a time, on gradients of every layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainers import catalogue
from trainers.optimizers import OPTIMIZERS

RATES, MOMENTA, BETA1, BETA2 = [1e-3, 3e-2], [0.0, 0.9], [0.0, 0.5], [0.9, 0.999]


def reference(name: str, member: int, parameter: torch.Tensor) -> torch.optim.Optimizer:
    build: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD([parameter], lr=RATES[member], momentum=MOMENTA[member]),
        "adam": lambda: torch.optim.Adam([parameter], lr=RATES[member], betas=(BETA1[member], BETA2[member])),
        "rmsprop": lambda: torch.optim.RMSprop([parameter], lr=RATES[member], alpha=BETA2[member]),
    }
    return build[name]()


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def test_registry_and_catalogue_have_the_same_optimizers() -> None:
    assert set(OPTIMIZERS) == set(catalogue.OPTIMIZERS)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("strided", [False, True])
def test_twenty_steps_equal_torch_optim_with_each_members_own_numbers(name: str, strided: bool) -> None:
    rng = torch.Generator().manual_seed(7)
    flat = torch.randn(2, 33, generator=rng, dtype=torch.float64)
    references = [flat[m].clone().requires_grad_() for m in range(2)]
    optimizers = [reference(name, m, references[m]) for m in range(2)]
    state = OPTIMIZERS[name].new_state(flat)
    numbers = {"momentum": column(MOMENTA), "beta1": column(BETA1), "beta2": column(BETA2)}
    for step in range(1, 21):
        gradient = torch.randn(33, 2, generator=rng).double()
        gradient = gradient.T if strided else gradient.T.contiguous()
        OPTIMIZERS[name].update(flat, gradient, state, rate=column(RATES), numbers=numbers, step=step)
        for member, optimizer in enumerate(optimizers):
            references[member].grad = gradient[member].clone()
            optimizer.step()
    for member in range(2):
        torch.testing.assert_close(flat[member], references[member].detach(), rtol=1e-6, atol=1e-8)
