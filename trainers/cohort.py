"""A cohort: the replicates that train together as one stacked model, each on its own seed and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainers.draws import BLOCK_STEPS, Draws, DrawShape, Stream, draw_block, normal
from trainers.losses import LOSSES
from trainers.networks import DISCRIMINATOR, GENERATOR, build_networks
from trainers.optimizers import OPTIMIZERS
from trainers.penalties import PENALTIES
from trainers.player import Player, initial_rows
from trainers.program import Member, Program
from trainers.targets import build_target

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


class Cohort:
    """State of R members between two updates: parameters, optimizer state, who is alive, how far they are.

    ``alive`` [R] and ``death_step`` [R] (generator step of the first non-finite number, -1 while alive) include
    the padding; ``size`` is the number of real members, which come first.
    """

    def __init__(
        self, program: Program, members: Sequence[Member], *, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        if not members:
            raise ValueError("a cohort must have at least one member, got none")
        self.program, self.members = program, tuple(members)
        self.device, self.dtype = torch.device(device), dtype
        self.size = len(self.members)
        padding = padded_size(self.size, batch_size=program.batch_size) - self.size
        self._padded = [*self.members, *[self.members[0]] * padding]
        self.seeds = [member.seed for member in self._padded]
        self.target = build_target(program.target)
        self.networks = build_networks(program.networks, self.target)
        self.loss, self.penalty = LOSSES[program.loss], PENALTIES[program.penalty]
        self.generator_step = self.evaluations_done = 0
        self.alive = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)
        self.death_step = torch.full((len(self.seeds),), -1, dtype=torch.int64, device=self.device)
        self._numbers = self._stack_numbers()
        self.generator = self._player(GENERATOR)
        self.discriminator = self._player(DISCRIMINATOR)
        self._fixed_latents = normal(
            self.seeds, Stream.FIXED_LATENT, 0, (self.fixed_samples, self.networks.latent_dim)
        ).to(self.device, dtype)
        self.initial_samples = self.samples()
        pairs = int(self.loss.pairs_real_and_fake)
        self._shape = DrawShape(
            batch_size=program.batch_size,
            latent_dim=self.networks.latent_dim,
            latents=program.k + 1,
            reals=program.k + pairs,
            epsilons=program.k if self.penalty.needs_epsilon else 0,
        )
        self._block: tuple[int, Draws] | None = None

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
        for name, tensor in cohort._tensors().items():
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
        tensors = {name: tensor[: self.size].cpu().clone() for name, tensor in self._tensors().items()}
        return {
            **tensors,
            "generator_step": self.generator_step,
            "evaluations_done": self.evaluations_done,
        }

    @property
    def discriminator_steps(self) -> int:
        """Cumulative discriminator updates."""
        return self.program.k * self.generator_step

    @property
    def fixed_samples(self) -> int:
        """Samples kept on fixed latents: 256 in the plane, 64 images."""
        return FIXED_SAMPLES_2D if len(self.target.sample_shape) == 1 else FIXED_SAMPLES_IMAGE

    def samples(self) -> Tensor:
        """Samples [R, n, d] on the members' fixed latents."""
        return self.generate(self._fixed_latents)

    @torch.no_grad()
    def generate(self, latents: Tensor) -> Tensor:
        """G(z): latents [R, n, L] -> samples [R, n, d], without gradient."""
        return self.generator.network(self.generator.frozen, latents)

    def discriminate(self, samples: Tensor, *, learn: bool = False) -> Tensor:
        """D(x): samples [R, n, d] -> logits [R, n]; ``learn`` for gradients of D's own parameters."""
        parameters = self.discriminator.leaves if learn else self.discriminator.frozen
        return self.discriminator.network(parameters, samples).squeeze(-1)

    def differentiate_discriminator(
        self, *, latents: Tensor, real: Tensor, epsilon: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Gradient of L_D plus its penalty at fresh fakes; returns loss [R] and gradient norm [R]."""
        fake = self.generate(latents)
        logits = self.discriminate(torch.cat([real, fake], dim=1), learn=True)
        real_logits, fake_logits = torch.split(logits, [real.shape[1], fake.shape[1]], dim=1)
        loss = self.loss.discriminator(real_logits=real_logits, fake_logits=fake_logits)
        if self.penalty.term is not None:
            weight = self._numbers["penalty_weight"].squeeze(1)
            loss = loss + self.penalty.term(
                lambda points: self.discriminate(points, learn=True),
                real=real,
                fake=fake,
                weight=weight,
                epsilon=epsilon,
            )
        return loss.detach(), self.discriminator.differentiate(loss)

    def differentiate_generator(self, *, latents: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradient of L_G; ``real`` is read by paired losses only; returns loss [R] and gradient norm [R]."""
        fake_logits = self.discriminate(self.generator.network(self.generator.leaves, latents))
        real_logits = fake_logits.detach() if real is None else self.discriminate(real)
        loss = self.loss.generator(real_logits=real_logits, fake_logits=fake_logits)
        return loss.detach(), self.generator.differentiate(loss)

    def update_discriminator(self, loss: Tensor, norm: Tensor, *, count: int) -> None:
        """One discriminator update of the members that are finite, then the clipping of its weights."""
        self._bury(loss, norm)
        self.discriminator.step(self.alive, count=count)
        if self.penalty.clips_weights:
            self.discriminator.clip(self._numbers["clip"], self.alive)

    def update_generator(self, loss: Tensor, norm: Tensor, *, count: int) -> None:
        """One generator update of the members that are finite."""
        self._bury(loss, norm)
        self.generator.step(self.alive, count=count)

    def _bury(self, loss: Tensor, norm: Tensor) -> None:
        """A member whose loss or gradient is non-finite ends here, before the update."""
        self.end(~(torch.isfinite(loss) & torch.isfinite(norm)), at_step=self.generator_step + 1)

    def end(self, dead: Tensor, *, at_step: int) -> None:
        """Mark members (a mask of the first ones, up to [R]) as dead at a step, keeping the first death of each."""
        alive, death_step = self.alive[: len(dead)], self.death_step[: len(dead)]
        death_step.masked_fill_(dead & alive, at_step)
        alive &= ~dead

    def draws(self) -> tuple[Draws, int]:
        """The block of draws that holds the next step, and the step's place in it."""
        block, place = divmod(self.generator_step, BLOCK_STEPS)
        if self._block is None or self._block[0] != block:
            drawn = draw_block(self.seeds, block=block, shape=self._shape, target=self.target)
            self._block = (block, drawn.to(self.device, self.dtype))
        return self._block[1], place

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes while training, by the name it has in a checkpoint."""
        tensors = {"alive": self.alive, "death_step": self.death_step}
        for name, player in (("generator", self.generator), ("discriminator", self.discriminator)):
            tensors[name] = player.flat
            tensors |= {f"{name}.{key}": value for key, value in player.state.items()}
        return tensors

    def _stack_numbers(self) -> dict[str, Tensor]:
        names = self.members[0].numbers.keys()
        if any(member.numbers.keys() != names for member in self.members):
            raise ValueError("the members of a cohort must have the same numbers")
        return {
            name: torch.tensor([[m.numbers[name]] for m in self._padded], dtype=self.dtype, device=self.device)
            for name in names
        }

    def _player(self, index: int) -> Player:
        network = self.networks.generator if index == GENERATOR else self.networks.discriminator
        rate = "generator_learning_rate" if index == GENERATOR else "discriminator_learning_rate"
        return Player(
            network,
            initial_rows(network, self.seeds, index).to(self.device, self.dtype),
            optimizer=OPTIMIZERS[self.program.optimizer],
            rate=self._numbers[rate],
            numbers=self._numbers,
        )
