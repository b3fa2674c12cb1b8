"""The same training step in JAX: vmap over replicates, jit, scan. A yardstick only; needs `pip install jax`."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
from jax import lax, nn, random

STEPS = 8
LATENT, MODES, RADIUS, STD = 16, 8, 2.0, 0.1
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.5, 0.999, 1e-8


def parameters(key: Any, sizes: list[int]) -> list[Any]:
    found = []
    for fan_in, fan_out in pairwise(sizes):
        key, one, two = random.split(key, 3)
        bound = fan_in**-0.5
        found += [
            random.uniform(one, (fan_in, fan_out), minval=-bound, maxval=bound),
            random.uniform(two, (fan_out,), minval=-bound, maxval=bound),
        ]
    return found


def network(weights: list[Any], x: Any, slope: float) -> Any:
    for layer in range(0, len(weights) - 2, 2):
        x = nn.leaky_relu(x @ weights[layer] + weights[layer + 1], slope)
    return x @ weights[-2] + weights[-1]


def discriminator_loss(d: list[Any], g: list[Any], z: Any, real: Any) -> Any:
    logits = network(d, jnp.concatenate([real, network(g, z, 0.0)]), 0.2)[:, 0]
    return nn.softplus(-logits[: len(real)]).mean() + nn.softplus(logits[len(real) :]).mean()


def generator_loss(g: list[Any], d: list[Any], z: Any) -> Any:
    return nn.softplus(-network(d, network(g, z, 0.0), 0.2)[:, 0]).mean()


def adam(weights: Any, gradient: Any, state: Any, step: Any) -> tuple[Any, Any]:
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state[0], gradient)
    square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, state[1], gradient)
    rate = RATE * jnp.sqrt(1 - BETA2**step) / (1 - BETA1**step)
    return jax.tree.map(lambda w, m, s: w - rate * m / (jnp.sqrt(s) + EPSILON), weights, mean, square), (mean, square)


def draw(key: Any, batch: int) -> tuple[Any, Any, Any]:
    one, two, three, four = random.split(key, 4)
    angle = 2 * jnp.pi * random.randint(three, (batch,), 0, MODES) / MODES
    centres = RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    real = centres + STD * random.normal(four, (batch, 2))
    return random.normal(one, (batch, LATENT)), random.normal(two, (batch, LATENT)), real


def step(state: Any, drawn: tuple[Any, Any, Any]) -> Any:
    g, d, g_state, d_state, count = state
    d_z, g_z, real = drawn
    d, d_state = adam(d, jax.grad(discriminator_loss)(d, g, d_z, real), d_state, count)
    g, g_state = adam(g, jax.grad(generator_loss)(g, d, g_z), g_state, count)
    return g, d, g_state, d_state, count + 1


def contender(*, members: int, width: int, batch: int, draws: bool) -> Callable[[], None]:
    """Trains ``members`` replicates STEPS steps a call; with ``draws`` it makes its random numbers itself."""

    def start(key: Any) -> Any:
        one, two = random.split(key)
        g, d = parameters(one, [LATENT, width, width, 2]), parameters(two, [2, width, width, 1])
        zero = [jax.tree.map(jnp.zeros_like, player) for player in (g, g, d, d)]
        return g, d, (zero[0], zero[1]), (zero[2], zero[3]), 1.0

    def block(state: Any, key: Any, given: Any) -> Any:
        def one(carried: Any, number: Any) -> tuple[Any, None]:
            return step(carried, draw(random.fold_in(key, number), batch) if draws else given), None

        return lax.scan(one, state, jnp.arange(STEPS))[0]

    keys = random.split(random.key(1), members)
    states, given = jax.vmap(start)(keys), jax.vmap(lambda key: draw(key, batch))(keys)
    compiled = jax.jit(jax.vmap(block))
    held = [compiled(states, keys, given)]

    def run() -> None:
        held[0] = compiled(held[0], keys, given)
        jax.block_until_ready(held[0])

    return run
