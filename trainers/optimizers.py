"""Stacked optimizers: one update for all members, each with its own learning rate, betas and momentum.

Parameters, gradients and state are flat [R, P]; the members' numbers are [R, 1]. Updates are in place. Our own
rather than torch.optim: those take one learning rate per tensor, and fused Adam on CPU ignores a gradient's strides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from trainers import native

EPSILON = 1e-8
"""Added to the root of the squared gradient's mean, as torch does for Adam and RMSProp."""

Numbers = Mapping[str, Tensor]
"""Number name -> float32 [R, 1]."""

StepNumber = int | Tensor
"""Which of a player's updates this is, from 1; a tensor [] where a recorded step reads it when it runs."""

Update = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An update rule and the names of its state tensors, each of the parameters' shape, starting at zero."""

    name: str
    state_names: tuple[str, ...]
    update: Update

    def new_state(self, parameters: Tensor) -> dict[str, Tensor]:
        """Zero state for ``parameters`` [R, P]."""
        return {name: torch.zeros_like(parameters) for name in self.state_names}


def _sgd(
    parameters: Tensor,
    gradient: Tensor,
    state: Mapping[str, Tensor],
    *,
    rate: Tensor,
    numbers: Numbers,
    step: StepNumber,
) -> None:
    """v <- momentum v + g; w <- w - rate v (Goodfellow et al. 2014 used momentum)."""
    velocity = state["velocity"]
    velocity.mul_(numbers["momentum"]).add_(gradient)
    parameters.addcmul_(velocity, -rate)


def _adam(
    parameters: Tensor,
    gradient: Tensor,
    state: Mapping[str, Tensor],
    *,
    rate: Tensor,
    numbers: Numbers,
    step: StepNumber,
) -> None:
    """Kingma & Ba 2015, Algorithm 1; ``step`` counts this player's updates from 1."""
    mean, square = state["mean"], state["square"]
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    if (kernels := native.serving(parameters)) and isinstance(step, int):
        kernels.adam(parameters, gradient, (mean, square), (beta1, beta2, rate), epsilon=EPSILON, step=step)
        return
    mean.lerp_(gradient, 1 - beta1)
    square.lerp_(gradient.square(), 1 - beta2)
    # 1 - beta^t in double: at beta2 = .999 and t = 1 single precision loses four digits
    correction1 = 1 - beta1.double() ** step
    correction2 = (1 - beta2.double() ** step).sqrt()
    denominator = square.sqrt().add_((EPSILON * correction2).to(square.dtype))
    parameters.addcmul_(mean / denominator, (-rate.double() * correction2 / correction1).to(mean.dtype))


def _rmsprop(
    parameters: Tensor,
    gradient: Tensor,
    state: Mapping[str, Tensor],
    *,
    rate: Tensor,
    numbers: Numbers,
    step: StepNumber,
) -> None:
    """Tieleman & Hinton 2012; beta2 is the decay of the squared gradient."""
    square = state["square"]
    square.lerp_(gradient.square(), 1 - numbers["beta2"])
    parameters.addcmul_(gradient / square.sqrt().add_(EPSILON), -rate)


def optimistic(optimizer: Optimizer) -> Optimizer:
    """w <- w + 2 d_t - d_t-1, d_t the step that ``optimizer`` would take and d_0 = 0; state ``previous`` is d_t-1.

    Daskalakis et al. 2018, arXiv:1711.00141, Algorithm 1, for any optimizer: OGDA for sgd, Optimistic Adam for adam.
    """

    def update(
        parameters: Tensor,
        gradient: Tensor,
        state: Mapping[str, Tensor],
        *,
        rate: Tensor,
        numbers: Numbers,
        step: StepNumber,
    ) -> None:
        direction = torch.zeros_like(parameters)  # an update adds its step to what it is given
        optimizer.update(direction, gradient, state, rate=rate, numbers=numbers, step=step)
        moved = direction.mul(2).sub_(state["previous"])
        # a member that ended has rate 0 from then on, and its last step must not be taken back
        parameters.add_(moved.masked_fill_(rate == 0, 0.0))
        state["previous"].copy_(direction)

    return Optimizer(
        name=f"optimistic_{optimizer.name}", state_names=(*optimizer.state_names, "previous"), update=update
    )


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        optimizer.name: optimizer
        for optimizer in (
            Optimizer(name="sgd", state_names=("velocity",), update=_sgd),
            Optimizer(name="adam", state_names=("mean", "square"), update=_adam),
            Optimizer(name="rmsprop", state_names=("square",), update=_rmsprop),
        )
    }
)
"""Registry name -> optimizer; formulas and references are in catalogue.OPTIMIZERS."""
