"""Training steps to time: cohorts, a loop over single replicates, and the matrix products that bound them.

With torch and numpy alone: gpu_check.py runs from here where nothing else is installed.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from trainers import native
from trainers.catalogue import OPTIMIZERS, PENALTIES
from trainers.cohort import Cohort
from trainers.draws import BLOCK_STEPS
from trainers.loop import advance
from trainers.program import Member, Program

RING = {"name": "ring", "modes": 8, "radius": 2.0, "std": 0.1}
LATENT = 16

Contender = Callable[[], None]
"""Trains on by BLOCK_STEPS generator steps."""


def program(*, width: int, batch: int, loss: str = "non_saturating", penalty: str = "none", k: int = 1) -> Program:
    """The ring with two hidden layers on each side, under Adam."""
    return Program(
        loss=loss,
        penalty=penalty,
        k=k,
        batch_size=batch,
        optimizer="adam",
        updates="alternating",
        target=RING,
        networks={"name": "mlp", "latent_dim": LATENT, "width": width, "depth": 2},
        horizon=10**9,
        evaluations=30,
        evaluation_samples=2500,
    )


def members(of: Program, count: int) -> list[Member]:
    """Replicates that differ in seed alone."""
    numbers = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-3, "beta1": 0.5, "beta2": 0.999}
    numbers |= {name: float(default or 1.0) for name, default in PENALTIES[of.penalty].defaults.items()}
    assert set(OPTIMIZERS["adam"].defaults) <= set(numbers)
    return [Member(seed=1000 + i, numbers=numbers) for i in range(count)]


def cohort_steps(of: Program, *, size: int, kernels: str = "torch", device: str = "cpu") -> Contender:
    """A cohort of ``size`` members, draws included."""
    cohort = Cohort.start(of, members(of, size), device=device)

    def run() -> None:
        native.use(kernels)
        advance(cohort, cohort.generator_step + BLOCK_STEPS)

    return run


def single_steps(of: Program, *, device: str = "cpu") -> Contender:
    """One replicate as it is usually written: modules, torch.optim, a loop (non_saturating, without penalty)."""
    width, batch = int(str(of.networks["width"])), of.batch_size
    g = _mlp(LATENT, width, 2, nn.ReLU()).to(device)
    d = _mlp(2, width, 1, nn.LeakyReLU(0.2)).to(device)
    optimizers = [torch.optim.Adam(player.parameters(), lr=1e-3, betas=(0.5, 0.999)) for player in (g, d)]
    angles = torch.arange(8, device=device) * torch.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
    softplus = nn.functional.softplus

    def run() -> None:
        for _ in range(BLOCK_STEPS):
            real = centres[torch.randint(8, (batch,), device=device)] + 0.1 * torch.randn(batch, 2, device=device)
            fake = g(torch.randn(batch, LATENT, device=device)).detach()
            optimizers[1].zero_grad()
            (softplus(-d(real)).mean() + softplus(d(fake)).mean()).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            softplus(-d(g(torch.randn(batch, LATENT, device=device)))).mean().backward()
            optimizers[0].step()

    return run


def _mlp(fan_in: int, width: int, fan_out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(fan_in, width), activation, nn.Linear(width, width), activation, nn.Linear(width, fan_out)
    )


def step_flops(of: Program) -> float:
    """Floating-point operations of the matrix products of one generator step of one replicate, without a penalty.

    A discriminator step is G ahead, D ahead on both minibatches, and D back without its inputs; a generator step is
    both ahead, D back to its inputs, and G back without its inputs.
    """
    width, batch = int(str(of.networks["width"])), of.batch_size
    g, d = LATENT * width + width * width + 2 * width, 2 * width + width * width + width
    of_discriminator = 2 * batch * (g + 2 * d + 2 * (2 * d - 2 * width))
    return float(of.k * of_discriminator + 2 * batch * (g + 2 * d + 2 * g - LATENT * width))


def ceiling(*, size: int, width: int, batch: int, device: str = "cpu", rounds: int = 60) -> float:
    """Best FLOP/s of torch's batched product [size, batch, width] x [size, width, width]."""
    a, b = torch.randn(size, batch, width, device=device), torch.randn(size, width, width, device=device)
    out = torch.bmm(a, b)
    best = float("inf")
    for _ in range(rounds):
        began = _now(device)
        for _ in range(10):
            torch.bmm(a, b, out=out)
        best = min(best, (_now(device) - began) / 10)
    return 2 * size * batch * width * width / best


def interleaved(
    contenders: Mapping[str, Contender], *, rounds: int, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Every contender once a round, after one unmeasured call: best and median seconds of a generator step.

    On the CPU in seconds of the process's CPU time: machines are shared, and waiting is not working.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for name, run in contenders.items():
            began = _now(device)
            run()
            taken[name].append((_now(device) - began) / BLOCK_STEPS)
    return {name: {"best_s": min(times), "median_s": median(times)} for name, times in taken.items()}


def multiply_add_peak() -> float | None:
    """FLOP/s of float32 multiply-adds on one thread, by peak.c; None without a C compiler, or off x86."""
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        built = str(Path(folder) / "peak")
        source = str(Path(__file__).with_name("peak.c"))
        subprocess.run([compiler, "-O3", "-march=native", "-std=gnu11", source, "-o", built], check=True)
        return 1e9 * float(subprocess.run([built], check=True, capture_output=True, text=True).stdout)


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> dict[str, Any]:
    """The hardware and libraries, without a host's name."""
    import platform

    from trainers.cohort import LANES

    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "python": platform.python_version(), "lanes": LANES}
    facts |= {"torch": str(torch.__version__), "processor": _processor()}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
