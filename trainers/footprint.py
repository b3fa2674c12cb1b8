"""How much memory a cohort takes, before there is one: counted from the shapes, for cohorts on a GPU above all."""

from __future__ import annotations

from trainers.cohort import padded_size
from trainers.draws import BLOCK_STEPS
from trainers.networks import DISCRIMINATOR, GENERATOR, build_networks
from trainers.optimizers import OPTIMIZERS
from trainers.penalties import find_penalty
from trainers.program import Program
from trainers.stacked import StackedMLP, StackedNetwork
from trainers.targets import build_target

FLOAT_BYTES = 4
PASSES, PENALISED_PASSES = 2, 4
"""Copies of a network's activations that live at once: ahead, back, and what is between; with a penalty's own gradient.

Measured on the CPU and rounded up: the estimate is 1.4 times the peak at 128 members (benchmarks/memory.py)."""


class CohortTooLargeError(RuntimeError):
    """A cohort that is estimated not to fit into the device's memory."""


def cohort_bytes(program: Program, members: int) -> int:
    """An upper estimate, in bytes, of what training ``members`` replicates allocates.

    Parameters with gradients, optimizer state and working copies; activations of both players on the discriminator's
    two minibatches; two blocks of draws. ValueError for networks of the user's own, whose activations are unknown.
    """
    rows = padded_size(members, batch_size=program.batch_size)
    target = build_target(program.target)
    networks = build_networks(program.networks, target)
    states = len(OPTIMIZERS[program.optimizer].state_names)
    parameters = networks.generator.layout.size + networks.discriminator.layout.size
    penalty = find_penalty(program.penalty)
    passes = PENALISED_PASSES if penalty.term is not None else PASSES
    widths = _activations(networks.generator, GENERATOR) + 2 * _activations(networks.discriminator, DISCRIMINATOR)
    drawn = (program.k + 1) * (networks.latent_dim + target.dimensions * (3 if penalty.noises_inputs else 2))
    floats = parameters * (5 + states) + program.batch_size * (passes * widths + 2 * BLOCK_STEPS * drawn)
    return rows * floats * FLOAT_BYTES


def largest_cohort(program: Program, *, room_bytes: int, at_most: int) -> int:
    """The most members, up to ``at_most``, whose cohort is estimated to fit into ``room_bytes``; at least one."""
    low, high = 1, at_most
    while low < high:
        middle = (low + high + 1) // 2
        if cohort_bytes(program, middle) <= room_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def require_room(program: Program, members: int, *, room_bytes: int) -> None:
    """Raises CohortTooLargeError, naming the size that fits, where a cohort does not; unknown networks pass."""
    try:
        needed = cohort_bytes(program, members)
    except ValueError:
        return
    if needed > room_bytes:
        fit = largest_cohort(program, room_bytes=room_bytes, at_most=members)
        raise CohortTooLargeError(
            f"a cohort of {members} members needs about {needed / 1e9:.1f} GB of GPU memory and "
            f"{room_bytes / 1e9:.1f} GB are free; set resources.cohort_size to at most {fit}, "
            "or let fewer trials share the GPU"
        )


def _activations(network: StackedNetwork, player: int) -> int:
    """Floats that one sample leaves in a network's layers."""
    if not isinstance(network, StackedMLP):
        raise ValueError(f"activations of player {player} are only counted for fully connected networks")
    pieces = network.maxout_pieces or 1
    return network.sizes[0] + pieces * sum(network.sizes[1:-1]) + network.sizes[-1]
