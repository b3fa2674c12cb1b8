"""A cohort: the replicates that train together as one stacked model, each on its own seed and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trainers.averaging import average
from trainers.catalogue import real_minibatches_per_step
from trainers.catalogue_updates import MINIBATCH_ROUNDS
from trainers.draws import BLOCK_STEPS, Draws, DrawShape, Noise, Stream, draw_block, normal
from trainers.draws_ahead import DrawsAhead
from trainers.game import StackedGame
from trainers.memory import memory_tensors
from trainers.program import Member, Program

LANES = 32
"""Floats that one unrolled vector instruction handles; every [R, batch] tensor is a multiple of it."""

FIXED_SAMPLES_2D, FIXED_SAMPLES_IMAGE = 256, 64

State = dict[str, Tensor | int]


def padded_size(members: int, *, batch_size: int) -> int:
    """Members including padding: a multiple of 8 whose [R, batch] tensors fill whole vector lanes.

    Bit-for-bit independence needs it: matrix kernels for one matrix, and the scalar tails of vectorised
    elementwise kernels, round differently.
    """
    multiple = math.lcm(8, LANES // math.gcd(LANES, batch_size))
    return math.ceil(members / multiple) * multiple


class Cohort(StackedGame):
    """State of R members between two updates: parameters, optimizer state, who is alive, how far they are.

    ``alive`` [R] and ``death_step`` [R] (generator step of the first non-finite number, -1 while alive) include
    the padding; ``size`` is the number of real members, which come first. ``records_beside`` is a cohort that never
    makes a step at the same time, whose recording's memory this one's may share.
    """

    def __init__(
        self, program: Program, members: Sequence[Member], *, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        if not members:
            raise ValueError("a cohort must have at least one member, got none")
        self.members, self.size = tuple(members), len(members)
        padding = padded_size(self.size, batch_size=program.batch_size) - self.size
        super().__init__(program, [*self.members, *[self.members[0]] * padding], device=device, dtype=dtype)
        self.generator_step = self.evaluations_done = 0
        self.alive = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)
        self.death_step = torch.full((len(self.seeds),), -1, dtype=torch.int64, device=self.device)
        self.averaged = self.generator.flat.clone() if "generator_average" in self.numbers else None
        self.memory = self._new_memory()
        self._fixed_latents = normal(
            self.seeds, Stream.FIXED_LATENT, 0, (self.fixed_samples, self.networks.latent_dim)
        ).to(self.device, dtype)
        self.initial_samples = self.samples()
        self._shape = self._draw_shape()
        self._block: tuple[int, Draws] | None = None
        self._ahead = DrawsAhead(self.seeds, shape=self._shape, target=self.target) if self._on_gpu else None
        self.static_step: Callable[[Cohort, Draws, int], None] | None = None
        self.records_beside: Cohort | None = None

    @classmethod
    def start(
        cls,
        program: Program,
        members: Sequence[Member],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Cohort:
        """A cohort before its first update; evaluation 0 is still to come."""
        return cls(program, members, device=device, dtype=dtype)

    @classmethod
    def restore(
        cls,
        program: Program,
        members: Sequence[Member],
        state: Mapping[str, Tensor | int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Cohort:
        """The cohort that gave ``state``, at the very update it had reached."""
        cohort = cls(program, members, device=device, dtype=dtype)
        rows = torch.as_tensor([*range(cohort.size), *[0] * (len(cohort.seeds) - cohort.size)])
        for name, tensor in cohort.tensors().items():
            saved = state[name]
            if not isinstance(saved, Tensor) or saved.shape[0] != cohort.size:
                raise ValueError(
                    f"state {name!r} must hold {cohort.size} members, got {getattr(saved, 'shape', saved)}"
                )
            tensor.copy_(saved[rows])
        cohort.generator_step = int(state["generator_step"])
        cohort.evaluations_done = int(state["evaluations_done"])
        return cohort

    def state(self) -> State:
        """Plain tensors and numbers of the real members, from which ``restore`` goes on bit for bit."""
        tensors = {name: tensor[: self.size].cpu().clone() for name, tensor in self.tensors().items()}
        return {
            **tensors,
            "generator_step": self.generator_step,
            "evaluations_done": self.evaluations_done,
        }

    @property
    def discriminator_steps(self) -> int:
        """Cumulative discriminator updates (the steps ahead of extragradient are none)."""
        return self.program.k * self.generator_step

    @property
    def samples_seen(self) -> int:
        """Cumulative real samples shown to the discriminator."""
        per_step = real_minibatches_per_step(k=self.program.k, updates=self.program.updates)
        return per_step * self.program.batch_size * self.generator_step

    @property
    def fixed_samples(self) -> int:
        """Samples kept on fixed latents: 256 in the plane, 64 images, one where latents are not read (dirac)."""
        if self.target.dimensions == 1:
            return 1
        return FIXED_SAMPLES_2D if len(self.target.sample_shape) == 1 else FIXED_SAMPLES_IMAGE

    def samples(self) -> Tensor:
        """Samples [R, n, d] on the members' fixed latents."""
        return self.generate(self._fixed_latents)

    @torch.no_grad()
    def generate_averaged(self, latents: Tensor) -> Tensor:
        """The averaged generator's samples [R, n, d]; ValueError where there is none."""
        if self.averaged is None:
            raise ValueError("the members of this cohort have no generator_average")
        network = self.generator.network
        return network(network.layout.views(self.averaged), latents)

    def update_discriminator(self, loss: Tensor, norm: Tensor, *, count: int | Tensor) -> None:
        """One discriminator update of the members that are finite, then the clipping of its weights."""
        self._bury(loss, norm)
        self.discriminator.step(self.alive, count=count)
        if self.penalty.clips_weights:
            self.discriminator.clip(self.numbers["clip"], self.alive)

    def update_generator(self, loss: Tensor, norm: Tensor, *, count: int | Tensor) -> None:
        """One generator update of the members that are finite."""
        self._bury(loss, norm)
        self.generator.step(self.alive, count=count)

    def average_generator(self) -> None:
        """Let the averaged generator, where there is one, follow the generator's last update."""
        if self.averaged is not None:
            decay = self.numbers["generator_average"]
            average(self.averaged, self.generator.flat, decay=decay, may_move=self.alive)

    def positions(self) -> tuple[Tensor, Tensor]:
        """A copy of both players' parameters, for ``return_to``."""
        return self.generator.flat.clone(), self.discriminator.flat.clone()

    def return_to(self, positions: tuple[Tensor, Tensor]) -> None:
        """Put both players back where they were."""
        self.generator.flat.copy_(positions[0])
        self.discriminator.flat.copy_(positions[1])

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def _bury(self, loss: Tensor, norm: Tensor) -> None:
        """A member whose loss or gradient is non-finite ends here, before the update."""
        # on the CPU one number for all of them is cheaper than the bookkeeping; elsewhere it would wait for the device.
        # No product or sum of a non-finite number is finite; one of finite numbers that overflows costs a closer look.
        if not self._on_gpu and math.isfinite(torch.dot(loss.to(norm.dtype), norm).item()):
            return
        self.end(~(torch.isfinite(loss) & torch.isfinite(norm)), at_step=self.generator_step + 1)

    def end(self, dead: Tensor, *, at_step: int) -> None:
        """Mark members (a mask of the first ones, up to [R]) as dead at a step, keeping the first death of each."""
        alive, death_step = self.alive[: len(dead)], self.death_step[: len(dead)]
        death_step.masked_fill_(dead & alive, at_step)
        alive &= ~dead

    def draws(self) -> tuple[Draws, int]:
        """The block of draws that holds the next step, and the step's place in it.

        A step that draws its minibatches in two rounds takes two places; BLOCK_STEPS is even, so that both are there.
        """
        rounds = MINIBATCH_ROUNDS[self.program.updates]
        block, place = divmod(rounds * self.generator_step, BLOCK_STEPS)
        if self._block is None or self._block[0] != block:
            if self._ahead is not None:
                drawn = self._ahead(block)
            else:
                drawn = draw_block(self.seeds, block=block, shape=self._shape, target=self.target)
            self._block = (block, drawn.to(self.device, self.dtype))
        return self._block[1], place

    def release_draws(self) -> None:
        """Give back the memory of the block of draws; the next step draws it anew."""
        self._block = None

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes while training, by the name it has in a checkpoint."""
        tensors = {"alive": self.alive, "death_step": self.death_step}
        for name, player in (("generator", self.generator), ("discriminator", self.discriminator)):
            tensors[name] = player.flat
            tensors |= {f"{name}.{key}": value for key, value in player.state.items()}
        if self.averaged is not None:
            tensors["averaged"] = self.averaged
        return tensors | {f"memory.{name}": value for name, value in self.memory.items()}

    def _new_memory(self) -> dict[str, Tensor]:
        """What the measurements remember between evaluations, as it is before the first."""
        tensors = memory_tensors(
            self.program.measurements,
            members=len(self.seeds),
            generator_size=self.generator.network.layout.size,
            discriminator_size=self.discriminator.network.layout.size,
        )
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def _draw_shape(self) -> DrawShape:
        k, pairs = self.program.k, int(self.loss.pairs_real_and_fake)
        instance_noise = self.penalty.noises_inputs
        return DrawShape(
            batch_size=self.program.batch_size,
            latent_dim=self.networks.latent_dim,
            latents=k + 1,
            reals=k + pairs,
            epsilons=k if self.penalty.needs_epsilon else 0,
            penalty_noises=k if self.penalty.needs_noise else 0,
            real_noises=k + pairs if instance_noise else 0,
            fake_noises=k + 1 if instance_noise else 0,
        )

    def evaluation_noise(self, index: int, *, epsilon: Tensor) -> Noise:
        """The noise of gradients on one minibatch of evaluation ``index``, from the members' evaluation streams."""

        def drawn(stream: Stream, wanted: bool) -> Tensor | None:
            shape = (self.program.batch_size, self.target.dimensions)
            return normal(self.seeds, stream, index, shape).to(self.device, self.dtype) if wanted else None

        return Noise(
            epsilon=epsilon,
            penalty=drawn(Stream.EVALUATION_PENALTY_NOISE, self.penalty.needs_noise),
            real=drawn(Stream.EVALUATION_REAL_NOISE, self.penalty.noises_inputs),
            fake=drawn(Stream.EVALUATION_FAKE_NOISE, self.penalty.noises_inputs),
        )
