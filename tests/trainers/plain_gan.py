"""An independent GAN trainer: plain modules, torch.optim, autograd, one replicate, as a reader of the papers writes it.

It shares two things with the trainer under test: the numbers that chance gives (``draw_block``) and the initial
parameters. Everything else is here once more, in the papers' own forms: probabilities and logarithms instead of
softplus, one module per network instead of a stack, ``torch.optim`` instead of our optimizers. In double precision
the two must agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS, Draws, DrawShape, draw_block
from trainers.program import Member, Program
from trainers.targets import build_target

Score = Callable[[Tensor], Tensor]


def probability(score: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-score))


def log_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What Algorithm 1 ascends, with the sign turned: both are minimised here."""
    return -(torch.log(probability(real)) + torch.log(1 - probability(fake))).mean()


def averaged(one: Tensor, other: Tensor) -> Tensor:
    """Relativistic average: how much more real each of ``one`` is than the average of ``other``, and the reverse."""
    more = probability(one - other.mean())
    less = probability(other - one.mean())
    return -(torch.log(more).mean() + torch.log(1 - less).mean()) / 2


DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": log_loss,
    "non_saturating": log_loss,
    "wasserstein": lambda real, fake: -(real.mean() - fake.mean()),
    "least_squares": lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
    "hinge": lambda real, fake: -torch.minimum(real - 1, 0 * real).mean() - torch.minimum(-fake - 1, 0 * fake).mean(),
    "relativistic": lambda real, fake: -torch.log(probability(real - fake)).mean(),
    "relativistic_average": averaged,
    "f_gan_kl": lambda real, fake: -(real.mean() - torch.exp(fake - 1).mean()),
    "f_gan_pearson": lambda real, fake: -(real.mean() - (fake**2 / 4 + fake).mean()),
}

GENERATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": lambda real, fake: torch.log(1 - probability(fake)).mean(),
    "non_saturating": lambda real, fake: -torch.log(probability(fake)).mean(),
    "wasserstein": lambda real, fake: -fake.mean(),
    "least_squares": lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    "hinge": lambda real, fake: -fake.mean(),
    "relativistic": lambda real, fake: -torch.log(probability(fake - real)).mean(),
    "relativistic_average": lambda real, fake: averaged(fake, real),
    "f_gan_kl": lambda real, fake: -torch.exp(fake - 1).mean(),
    "f_gan_pearson": lambda real, fake: -(fake**2 / 4 + fake).mean(),
}

READS_REAL = ("relativistic", "relativistic_average")
"""Losses whose generator compares its fakes with a fresh real minibatch."""

PENALISED = ("gradient_penalty", "dragan", "r1", "r2", "r1_r2")


def slopes(score: Score, points: Tensor) -> Tensor:
    """|grad D| at each point, [batch]."""
    points = points.detach().clone().requires_grad_(True)
    scores = score(points)
    (gradients,) = torch.autograd.grad(scores, points, grad_outputs=torch.ones_like(scores), create_graph=True)
    return torch.sqrt((gradients**2).sum(dim=1))


class PlainGAN:
    """One replicate of a program whose networks are multilayer perceptrons."""

    def __init__(self, of: Program, who: Member) -> None:
        self.program, self.numbers, self.seed = of, who.numbers, who.seed
        self.target = build_target(of.target)
        start = Cohort.start(of, [who], dtype=torch.float64)
        self.g = _module([view[0] for view in start.generator.frozen], nn.ReLU())
        self.d = _module([view[0] for view in start.discriminator.frozen], nn.LeakyReLU(0.2))
        self.g_optimizer = self._optimizer(self.g, "generator_learning_rate")
        self.d_optimizer = self._optimizer(self.d, "discriminator_learning_rate")

    def _optimizer(self, module: nn.Module, rate: str) -> torch.optim.Optimizer:
        n, parameters = self.numbers, module.parameters()
        if self.program.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=n[rate], momentum=n["momentum"])
        if self.program.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=n[rate], betas=(n["beta1"], n["beta2"]))
        return torch.optim.RMSprop(parameters, lr=n[rate], alpha=n["beta2"])

    def _draws(self, block: int) -> Draws:
        k, penalty = self.program.k, self.program.penalty
        reals = k + (self.program.loss in READS_REAL)
        noisy = penalty == "instance_noise"
        shape = DrawShape(
            batch_size=self.program.batch_size,
            latent_dim=self.g[0].in_features,  # type: ignore[arg-type]
            latents=k + 1,
            reals=reals,
            epsilons=k if penalty == "gradient_penalty" else 0,
            penalty_noises=k if penalty == "dragan" else 0,
            real_noises=reals if noisy else 0,
            fake_noises=k + 1 if noisy else 0,
        )
        drawn = draw_block([self.seed], block=block, shape=shape, target=self.target)
        return drawn.to(torch.device("cpu"), torch.float64)

    def score(self, samples: Tensor) -> Tensor:
        return self.d(samples)[:, 0]  # type: ignore[no-any-return]

    def penalty(self, real: Tensor, fake: Tensor, epsilon: Tensor | None, noise: Tensor | None) -> Tensor | float:
        name = self.program.penalty
        if name not in PENALISED:
            return 0.0
        weight = self.numbers["penalty_weight"]
        if name == "gradient_penalty":
            assert epsilon is not None
            between = torch.stack([e * x + (1 - e) * y for e, x, y in zip(epsilon, real, fake, strict=True)])
            return weight * ((slopes(self.score, between) - 1) ** 2).mean()
        if name == "dragan":
            assert noise is not None
            spread = (real - real.mean()).square().mean().sqrt()
            return weight * ((slopes(self.score, real + spread / 2 * noise) - 1) ** 2).mean()
        r1 = (slopes(self.score, real) ** 2).mean() if name in ("r1", "r1_r2") else 0.0
        r2 = (slopes(self.score, fake) ** 2).mean() if name in ("r2", "r1_r2") else 0.0
        return weight / 2 * (r1 + r2)

    def d_gradient(self, draws: Draws, s: int, j: int) -> None:
        """Fresh noise, fresh data, and the gradient of L_D in the discriminator's ``grad``."""
        real, fake = draws.reals[0, s, j], self.g(draws.latents[0, s, j]).detach()
        real, fake = self._noised(real, draws.real_noise, s, j), self._noised(fake, draws.fake_noise, s, j)
        loss = DISCRIMINATOR_LOSSES[self.program.loss](self.score(real), self.score(fake))
        epsilon = None if draws.epsilons is None else draws.epsilons[0, s, j]
        noise = None if draws.penalty_noise is None else draws.penalty_noise[0, s, j]
        self.d_optimizer.zero_grad()
        (loss + self.penalty(real, fake, epsilon, noise)).backward()

    def g_gradient(self, draws: Draws, s: int) -> None:
        """Fresh noise, and the gradient of L_G in the generator's ``grad`` alone."""
        k = self.program.k
        fake = self._noised(self.g(draws.latents[0, s, k]), draws.fake_noise, s, k)
        real = torch.zeros_like(fake)  # what a generator that compares with nothing real must not notice
        if self.program.loss in READS_REAL:
            real = self._noised(draws.reals[0, s, k], draws.real_noise, s, k)
        loss = GENERATOR_LOSSES[self.program.loss](self.score(real), self.score(fake))
        self.g_optimizer.zero_grad()
        gradients = torch.autograd.grad(loss, list(self.g.parameters()))
        for parameter, gradient in zip(self.g.parameters(), gradients, strict=True):
            parameter.grad = gradient

    def _noised(self, samples: Tensor, normal: Tensor | None, s: int, j: int) -> Tensor:
        if self.program.penalty != "instance_noise":
            return samples
        assert normal is not None
        return samples + self.numbers["noise_std"] * normal[0, s, j]

    def d_step(self) -> None:
        self.d_optimizer.step()
        if self.program.penalty == "weight_clipping":
            with torch.no_grad():
                for parameter in self.d.parameters():
                    parameter.clamp_(-self.numbers["clip"], self.numbers["clip"])

    def train(self, steps: int) -> None:
        """Algorithm 1, or both gradients at one point and then both updates."""
        for block in range(-(-steps // BLOCK_STEPS)):
            draws = self._draws(block)
            for s in range(min(BLOCK_STEPS, steps - block * BLOCK_STEPS)):
                if self.program.updates == "simultaneous":
                    self.g_gradient(draws, s)
                    self.d_gradient(draws, s, 0)
                    self.d_step()
                    self.g_optimizer.step()
                    continue
                for j in range(self.program.k):
                    self.d_gradient(draws, s, j)
                    self.d_step()
                self.g_gradient(draws, s)
                self.g_optimizer.step()

    def parameters(self) -> list[Tensor]:
        """Generator then discriminator, each layer's weight [in, out] and bias [1, out] as the stack keeps them."""
        layers = [layer for layer in (*self.g, *self.d) if isinstance(layer, nn.Linear)]
        return [tensor.detach() for layer in layers for tensor in (layer.weight.T, layer.bias[None])]


def _module(parameters: Sequence[Tensor], activation: nn.Module) -> nn.Sequential:
    """Linear layers of these weights [in, out] and biases [1, out] with an activation between them."""
    layers: list[nn.Module] = []
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        linear = nn.Linear(*weight.shape).double()
        linear.weight.data, linear.bias.data = weight.T.clone(), bias[0].clone()
        layers += [linear, activation]
    return nn.Sequential(*layers[:-1])


def cohort_parameters(cohort: Cohort, member: int) -> list[Tensor]:
    """One member's parameters in the order of ``PlainGAN.parameters``."""
    return [view[member] for player in (cohort.generator, cohort.discriminator) for view in player.frozen]
