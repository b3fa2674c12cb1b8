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
    """A cohort that is estimated not to fit into the device's memory, however few of its members train at once."""


def cohort_bytes(program: Program, members: int, *, at_once: int | None = None) -> int:
    """An upper estimate, in bytes, of what training ``members`` replicates allocates, ``at_once`` of them at a time.

    Parameters with gradients, optimizer state and working copies; activations of both players on the discriminator's
    two minibatches; two blocks of draws. Parts (at_once < members) keep parameters beside the whole cohort's, and only
    one at a time the rest. ValueError for networks of the user's own, whose activations are unknown.
    """
    target = build_target(program.target)
    networks = build_networks(program.networks, target)
    states = len(OPTIMIZERS[program.optimizer].state_names)
    parameters = networks.generator.layout.size + networks.discriminator.layout.size
    penalty = find_penalty(program.penalty)
    passes = PENALISED_PASSES if penalty.term is not None else PASSES
    widths = _activations(networks.generator, GENERATOR) + 2 * _activations(networks.discriminator, DISCRIMINATOR)
    drawn = (program.k + 1) * (networks.latent_dim + target.dimensions * (3 if penalty.noises_inputs else 2))
    kept = parameters * (5 + states)
    passing = program.batch_size * (passes * widths + 2 * BLOCK_STEPS * drawn)
    training = members if at_once is None else min(at_once, members)
    copies = 1 if training == members else 2
    rows, rows_at_once = (padded_size(count, batch_size=program.batch_size) for count in (members, training))
    return (copies * rows * kept + rows_at_once * passing) * FLOAT_BYTES


def members_at_once(program: Program, members: int, *, room_bytes: int) -> int:
    """How many of a cohort's members may train at a time for it to fit into ``room_bytes``: all, or a part.

    Networks of the user's own, whose size is unknown, pass. CohortTooLargeError where not even one member's part fits.
    """
    try:
        needed = cohort_bytes(program, members)
    except ValueError:
        return members
    if needed <= room_bytes:
        return members
    fitting = [n for n in _part_sizes(program, members) if cohort_bytes(program, members, at_once=n) <= room_bytes]
    if not fitting:
        raise CohortTooLargeError(
            f"a cohort of {members} members needs about {needed / 1e9:.1f} GB of GPU memory, "
            f"{cohort_bytes(program, members, at_once=1) / 1e9:.1f} GB in its smallest parts, and "
            f"{room_bytes / 1e9:.1f} GB are free: set a smaller resources.cohort_size, or let fewer trials share a GPU"
        )
    return max(fitting)


def _part_sizes(program: Program, members: int) -> range:
    """Sizes without padding, smaller than the whole."""
    multiple = padded_size(1, batch_size=program.batch_size)
    return range(multiple, members, multiple)


def _activations(network: StackedNetwork, player: int) -> int:
    """Floats that one sample leaves in a network's layers."""
    if not isinstance(network, StackedMLP):
        raise ValueError(f"activations of player {player} are only counted for fully connected networks")
    pieces = network.maxout_pieces or 1
    return network.sizes[0] + pieces * sum(network.sizes[1:-1]) + network.sizes[-1]
