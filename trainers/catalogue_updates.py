"""How parameters move: every optimizer and every order of the two players' updates (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trainers.declaration import Entry, Parameter, registry

GOODFELLOW = "Goodfellow et al. 2014, arXiv:1406.2661"


def _decay(name: str, default: float, meaning: str) -> Parameter:
    return Parameter(name=name, kind="number", low=0, high=1, high_open=True, default=default, meaning=meaning)


OPTIMIZERS: Mapping[str, Entry] = registry(
    Entry(
        name="sgd",
        summary="Stochastic gradient descent with momentum, the rule of Algorithm 1.",
        formula="v <- momentum v + g; w <- w - lr v",
        reference=GOODFELLOW,
        parameters=(_decay("momentum", 0.0, "share of the velocity kept at each step"),),
    ),
    Entry(
        name="adam",
        summary="Adam with bias correction, epsilon 1e-8.",
        formula="w <- w - lr m^ / (sqrt(v^) + 1e-8)",
        reference="Kingma & Ba 2015, arXiv:1412.6980",
        parameters=(
            _decay("beta1", 0.5, "decay of the gradient's mean"),
            _decay("beta2", 0.999, "decay of the squared gradient's mean"),
        ),
    ),
    Entry(
        name="rmsprop",
        summary="RMSProp without momentum, epsilon 1e-8; beta2 is the decay that torch calls alpha.",
        formula="v <- beta2 v + (1 - beta2) g^2; w <- w - lr g / (sqrt(v) + 1e-8)",
        reference="Tieleman & Hinton 2012",
        parameters=(_decay("beta2", 0.99, "decay of the squared gradient's mean"),),
    ),
)

UPDATES: Mapping[str, Entry] = registry(
    Entry(
        name="alternating",
        summary="k discriminator steps, then one generator step against the discriminator they left.",
        formula="k times psi <- psi + d(psi); theta <- theta + d(theta)",
        reference=f"{GOODFELLOW}, Algorithm 1",
    ),
    Entry(
        name="simultaneous",
        summary="Both gradients at the same point, then both steps.",
        formula="w_t+1 = w_t + d_t, w = (theta, psi), d the optimizer's own step",
        reference="Mescheder et al. 2017, arXiv:1705.10461, Algorithm 1",
    ),
    Entry(
        name="optimistic",
        summary="Simultaneous, each step doubled and the last taken back: OGDA with sgd, Optimistic Adam with adam.",
        formula="w_t+1 = w_t + 2 d_t - d_t-1, d the optimizer's own step, d_0 = 0",
        reference="Daskalakis et al. 2018, arXiv:1711.00141, Algorithm 1",
    ),
    Entry(
        name="extragradient",
        summary="Both players step ahead, then step from where they were with the gradients found there, "
        "on fresh minibatches; the optimizer's averages move at both (ExtraAdam).",
        formula="w' = w_t + d(w_t); w_t+1 = w_t + d(w')",
        reference="Korpelevich 1976; Gidel et al. 2019, arXiv:1802.10551, Algorithm 4",
    ),
    Entry(
        name="consensus",
        summary="Simultaneous, each player's gradient plus that of half the squared norm of both: "
        "the players also agree to seek a stationary point.",
        formula="g = v + consensus_weight grad 1/2 |v|^2, v = (grad L_G, grad L_D), penalties included",
        reference="Mescheder et al. 2017, arXiv:1705.10461, Algorithm 2",
        parameters=(
            Parameter(name="consensus_weight", kind="number", low=0, default=None, meaning="the paper's gamma"),
        ),
    ),
)
"""Orders of the two players' updates; all but alternating take one discriminator step per generator step (k = 1)."""

GRADIENT_ROUNDS: Mapping[str, int] = MappingProxyType(dict.fromkeys(UPDATES, 1) | {"extragradient": 2, "consensus": 3})
"""What a step pays for its gradients, in gradients of simultaneous steps: extragradient finds them twice; consensus
differentiates them again, which costs two more (measured on an MLP: 2.0 and 3.0 times simultaneous steps)."""

MINIBATCH_ROUNDS: Mapping[str, int] = MappingProxyType(dict.fromkeys(UPDATES, 1) | {"extragradient": 2})
"""How often a step draws its minibatches: extragradient draws fresh ones for its second gradients."""
