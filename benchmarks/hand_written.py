"""What a careful user would write without ganstudy: Ray Tune, one trial per seed, plain modules, MLflow callback.

The same losses, networks, optimizer, budget and evaluation cadence as the study, and the same measurements (it calls
the study's own judge, so that neither side measures less). Prints wall seconds as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import torch
from torch import Tensor, nn

from trainers.evaluation import Judge
from trainers.targets import build_target

BATCH, LATENT, WIDTH = 128, 16, 64


def mlp(fan_in: int, fan_out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(fan_in, WIDTH), activation, nn.Linear(WIDTH, WIDTH), activation, nn.Linear(WIDTH, fan_out)
    )


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    return nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()


def generator_loss(name: str, fake: Tensor) -> Tensor:
    return -nn.functional.softplus(fake).mean() if name == "minimax" else nn.functional.softplus(-fake).mean()


def gradient_norm(module: nn.Module) -> float:
    return float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm())


def measure(
    config: dict[str, Any], judge: Judge, g: nn.Module, d: nn.Module, first: Tensor, fixed: Tensor, step: int
) -> dict[str, float]:
    """The measurements of one evaluation, as the study takes them."""
    target = build_target(config["target"])
    import numpy as np

    with torch.no_grad():
        fakes = g(torch.randn(config["evaluation_samples"], LATENT))
        real_logits = d(judge.reals)[:, 0]
        fake_logits = d(fakes[: len(judge.reals)])[:, 0]
        every_fifth = step % (5 * config["steps"] // config["evaluations"]) == 0
        last = config["evaluations"] - step * config["evaluations"] // config["steps"] < 8
        row = {k: float(v[0]) for k, v in judge.measure(fakes[None], nearest_neighbours=every_fifth or last).items()}
        row |= {
            "displacement": float((g(fixed) - first).norm(dim=1).mean()),
            "discriminator_loss": float(discriminator_loss(real_logits, fake_logits)),
            "generator_loss": float(generator_loss(config["loss"], fake_logits)),
            "value_function": float(
                nn.functional.logsigmoid(real_logits).mean() + nn.functional.logsigmoid(-fake_logits).mean()
            ),
            "mean_sigmoid_real": float(real_logits.sigmoid().mean()),
            "mean_sigmoid_fake": float(fake_logits.sigmoid().mean()),
            "accuracy_real": float((real_logits > 0).float().mean()),
            "accuracy_fake": float((fake_logits < 0).float().mean()),
        }
    for name, module in (("generator", g), ("discriminator", d)):
        module.zero_grad()
        x = torch.from_numpy(target.sample(np.random.default_rng(step), BATCH))
        fake = g(torch.randn(BATCH, LATENT))
        loss = (
            generator_loss(config["loss"], d(fake)[:, 0])
            if name == "generator"
            else discriminator_loss(d(x)[:, 0], d(fake.detach())[:, 0])
        )
        loss.backward()
        row[f"{name}_gradient_norm"] = gradient_norm(module)
    return row


def evaluations(config: dict[str, Any], judge: Judge, *, fused: bool = False) -> Iterator[dict[str, float]]:
    """Trains one loss, k, learning rate and seed; yields the measurements of each evaluation, the first at step 0.

    ``fused``: torch's fused Adam, the same arithmetic in fewer calls.
    """
    import numpy as np

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    rng = np.random.default_rng(config["seed"])
    target = build_target(config["target"])
    g, d = mlp(LATENT, 2, nn.ReLU()), mlp(2, 1, nn.LeakyReLU(0.2))
    g_optimizer, d_optimizer = (
        torch.optim.Adam(m.parameters(), lr=config["learning_rate"], betas=(0.5, 0.999), fused=fused) for m in (g, d)
    )
    fixed = torch.randn(256, LATENT)
    first = g(fixed).detach()
    yield measure(config, judge, g, d, first, fixed, 0)
    for step in range(1, config["steps"] + 1):
        for _ in range(config["k"]):
            real = torch.from_numpy(target.sample(rng, BATCH))
            fake = g(torch.randn(BATCH, LATENT)).detach()
            d_optimizer.zero_grad()
            discriminator_loss(d(real)[:, 0], d(fake)[:, 0]).backward()
            d_optimizer.step()
        g_optimizer.zero_grad()
        generator_loss(config["loss"], d(g(torch.randn(BATCH, LATENT)))[:, 0]).backward()
        g_optimizer.step()
        if step % (config["steps"] // config["evaluations"]) == 0:
            yield measure(config, judge, g, d, first, fixed, step)


def train(config: dict[str, Any]) -> None:
    """One trial: one loss, k, learning rate and seed."""
    from ray import tune

    for row in evaluations(config, Judge.load(Path(config["judge"]))):
        tune.report(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--configuration", type=Path, required=True, help="JSON: losses, k, rates, seeds, budget, judge"
    )
    configuration = json.loads(parser.parse_args().configuration.read_text())
    started = time.perf_counter()
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        ray.init(address="local", num_cpus=configuration["cpus"], include_dashboard=False, _temp_dir=f"{folder}/ray")
        space = {
            "loss": tune.grid_search(configuration["losses"]),
            "k": tune.grid_search(configuration["k"]),
            "learning_rate": tune.grid_search(configuration["learning_rates"]),
            "seed": tune.grid_search(list(range(configuration["replicates"]))),
            **{name: configuration[name] for name in ("steps", "evaluations", "evaluation_samples", "target", "judge")},
        }
        callback = MLflowLoggerCallback(
            tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="hand-written", save_artifact=False
        )
        run_config = tune.RunConfig(storage_path=f"{folder}/results", callbacks=[callback], verbose=0)
        results = tune.Tuner(tune.with_resources(train, {"cpu": 1}), param_space=space, run_config=run_config).fit()
        ray.shutdown()
        if results.num_errors:
            raise SystemExit(f"{results.num_errors} trials failed")
        print(json.dumps({"wall_s": time.perf_counter() - started, "trials": len(results)}))


if __name__ == "__main__":
    main()
