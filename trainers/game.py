"""The game that every member of a cohort plays: both players' networks, what each minimises, and its gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from trainers import native, native_game, precision
from trainers.draws import NO_NOISE, Noise
from trainers.losses import find_loss
from trainers.networks import DISCRIMINATOR, GENERATOR, build_networks
from trainers.optimizers import OPTIMIZERS, optimistic
from trainers.penalties import find_penalty
from trainers.player import Player, differentiate_consensus, initial_rows
from trainers.program import Member, Program
from trainers.stacked import StackedNetwork
from trainers.targets import build_target


class StackedGame:
    """Generator and discriminator of R members, ready to be differentiated; who moves them is the cohort's affair.

    ``members`` include the padding; ``numbers`` are their own numbers by name, [R, 1].
    """

    def __init__(
        self, program: Program, members: Sequence[Member], *, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        self.program, self.device, self.dtype = program, torch.device(device), dtype
        self.seeds = [member.seed for member in members]
        self.target = build_target(program.target)
        self.networks = build_networks(program.networks, self.target)
        self.loss, self.penalty = find_loss(program.loss), find_penalty(program.penalty)
        self.numbers = self._stack_numbers(members)
        self.generator = self._player(GENERATOR)
        self.discriminator = self._player(DISCRIMINATOR)
        self._precision = precision.FLOAT32

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it matrix products have the program's precision; outside, where members are measured, float32.

        RuntimeError for tf32 where the device has none.
        """
        with precision.switched(self.program.precision, self.device):
            self._precision = self.program.precision
            try:
                yield
            finally:
                self._precision = precision.FLOAT32

    @torch.no_grad()
    def generate(self, latents: Tensor) -> Tensor:
        """G(z): latents [R, n, L] -> samples [R, n, d], without gradient."""
        return self._through(self.generator.network, self.generator.frozen, latents)

    def discriminate(self, samples: Tensor, *, learn: bool = False) -> Tensor:
        """D(x): samples [R, n, d] -> logits [R, n]; ``learn`` for gradients of D's own parameters."""
        parameters = self.discriminator.leaves if learn else self.discriminator.frozen
        return self._through(self.discriminator.network, parameters, samples).squeeze(-1)

    def differentiate_discriminator(
        self, *, latents: Tensor, real: Tensor, noise: Noise = NO_NOISE
    ) -> tuple[Tensor, Tensor]:
        """Gradient of L_D plus its penalty at fresh fakes; returns loss [R] and gradient norm [R]."""
        compiled = self._compiled(latents=latents, real=real, noise=noise)
        if compiled is not None:
            kernels, game, given = compiled
            return kernels.discriminator(game, given, gradient=self.discriminator.gradient)
        loss = self.discriminator_objective(fake=self.generate(latents), real=real, noise=noise)
        return loss.detach(), self.discriminator.differentiate(loss)

    def differentiate_generator(
        self, *, latents: Tensor, real: Tensor | None, noise: Noise = NO_NOISE
    ) -> tuple[Tensor, Tensor]:
        """Gradient of L_G; ``real`` is read by paired losses only; returns loss [R] and gradient norm [R]."""
        paired = real if self.loss.pairs_real_and_fake else None
        compiled = self._compiled(latents=latents, real=paired, noise=noise)
        if compiled is not None and (paired is not None or not self.loss.pairs_real_and_fake):
            kernels, game, given = compiled
            return kernels.generator(game, given, gradient=self.generator.gradient)
        loss = self.generator_objective(latents=latents, real=real, noise=noise)
        return loss.detach(), self.generator.differentiate(loss)

    def differentiate_consensus(
        self, *, latents: Tensor, real: Tensor, paired: Tensor | None, noises: tuple[Noise, Noise]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Consensus gradients of D and G; returns for each its loss [R] and the norm [R] of the whole gradient.

        ``latents`` [R, 2, batch, L] are D's and G's, so are ``noises``; ``paired`` is what paired losses show to G.
        """
        fake = self._through(self.generator.network, self.generator.leaves, latents[:, 0])
        losses = [
            self.discriminator_objective(fake=fake, real=real, noise=noises[0]),
            self.generator_objective(latents=latents[:, 1], real=paired, noise=noises[1], learn=True),
        ]
        players = [self.discriminator, self.generator]
        norms = differentiate_consensus(losses, players, weight=self.numbers["consensus_weight"])
        return (losses[0].detach(), norms[0]), (losses[1].detach(), norms[1])

    def discriminator_objective(self, *, fake: Tensor, real: Tensor, noise: Noise) -> Tensor:
        """L_D plus its penalty [R] at the samples ``fake`` and ``real`` [R, batch, d]."""
        real, fake = self.noised(real, noise.real), self.noised(fake, noise.fake)
        logits = self.discriminate(torch.cat([real, fake], dim=1), learn=True)
        real_logits, fake_logits = torch.split(logits, [real.shape[1], fake.shape[1]], dim=1)
        loss = self.loss.discriminator(real_logits=real_logits, fake_logits=fake_logits)
        if self.penalty.term is not None:
            weight = self.numbers["penalty_weight"].squeeze(1)
            loss = loss + self.penalty.term(
                lambda points: self.discriminate(points, learn=True),
                real=real,
                fake=fake,
                weight=weight,
                epsilon=noise.epsilon,
                noise=noise.penalty,
            )
        return loss

    def generator_objective(self, *, latents: Tensor, real: Tensor | None, noise: Noise, learn: bool = False) -> Tensor:
        """L_G [R]; ``learn`` for gradients of D's parameters too."""
        fake = self._through(self.generator.network, self.generator.leaves, latents)
        fake_logits = self.discriminate(self.noised(fake, noise.fake), learn=learn)
        if real is None:
            real_logits = fake_logits.detach()
        else:
            real_logits = self.discriminate(self.noised(real, noise.real), learn=learn)
        return self.loss.generator(real_logits=real_logits, fake_logits=fake_logits)

    def _through(self, network: StackedNetwork, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """A network's outputs, by products of the precision in force; they have the game's own dtype."""
        with precision.rounded(self._precision, self.device):
            return network(parameters, inputs).to(self.dtype)

    def _compiled(
        self, *, latents: Tensor, real: Tensor | None, noise: Noise
    ) -> tuple[native.Library, native.Game, native.Given] | None:
        """The compiled kernels, this game and its minibatches, where they are in use and play it as a whole.

        They know float32 alone.
        """
        kernels = native.serving(self.generator.flat)
        if kernels is None or self._precision != precision.FLOAT32:
            return None
        game = native_game.compiled_game(self.loss, self.penalty, self.generator, self.discriminator)
        given = native_game.given(self.penalty, self.numbers, latents=latents, real=real, noise=noise)
        return None if game is None or given is None else (kernels, game, given)

    def noised(self, samples: Tensor, normal: Tensor | None) -> Tensor:
        """D's input [R, batch, d]: with instance noise, samples plus noise_std times standard normal numbers."""
        if not self.penalty.noises_inputs:
            return samples
        if normal is None:
            raise ValueError(f"{self.penalty.name} needs standard normal numbers of the samples' shape, got none")
        return samples + self.numbers["noise_std"].unsqueeze(2) * normal

    def _stack_numbers(self, members: Sequence[Member]) -> dict[str, Tensor]:
        names = members[0].numbers.keys()
        if any(member.numbers.keys() != names for member in members):
            raise ValueError("the members of a cohort must have the same numbers")
        return {
            name: torch.tensor([[m.numbers[name]] for m in members], dtype=self.dtype, device=self.device)
            for name in names
        }

    def _player(self, index: int) -> Player:
        network = self.networks.generator if index == GENERATOR else self.networks.discriminator
        rate = "generator_learning_rate" if index == GENERATOR else "discriminator_learning_rate"
        optimizer = OPTIMIZERS[self.program.optimizer]
        return Player(
            network,
            initial_rows(network, self.seeds, index).to(self.device, self.dtype),
            optimizer=optimistic(optimizer) if self.program.updates == "optimistic" else optimizer,
            rate=self.numbers[rate],
            numbers=self.numbers,
        )
