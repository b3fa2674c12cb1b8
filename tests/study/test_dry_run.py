"""The first step of the user's own code: faults are told by entry, rule and value, and nothing is created."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study.configurations import configurations
from study.dry_run import dry_run
from study.folder import StudyFolder
from study.launch import run
from study.problems import SpecError
from study.spec import StudySpec

PARTS = """
import torch
from torch import nn
from trainers.losses import AdversarialLoss
from trainers.penalties import Penalty


def critic(*, real_logits, fake_logits):
    return fake_logits.mean(-1) - real_logits.mean(-1)

def score(*, real_logits, fake_logits):
    return -fake_logits.mean(-1)

def loss(d=critic, g=score, **more):
    return AdversarialLoss(name="mine", discriminator=d, generator=g, **more)

fine = loss()
scalar = loss(lambda *, real_logits, fake_logits: (fake_logits - real_logits).mean())
per_sample = loss(lambda *, real_logits, fake_logits: fake_logits - real_logits)
python_number = loss(g=lambda *, real_logits, fake_logits: -fake_logits.mean().item())
mixed = loss(lambda *, real_logits, fake_logits: fake_logits.mean(-1) - real_logits.mean())
detached = loss(g=lambda *, real_logits, fake_logits: -fake_logits.detach().mean(-1))
not_a_number = loss(lambda *, real_logits, fake_logits: (-fake_logits.square()).log().mean(-1))
infinite = loss(g=lambda *, real_logits, fake_logits: (1000 - fake_logits.square()).exp().mean(-1))
steep = loss(lambda *, real_logits, fake_logits: (fake_logits - fake_logits.detach()).abs().sqrt().mean(-1))
random = loss(g=lambda *, real_logits, fake_logits: -(fake_logits * torch.rand_like(fake_logits)).mean(-1))
undeclared = loss(g=lambda *, real_logits, fake_logits: (real_logits - fake_logits).mean(-1))
declared = loss(undeclared.discriminator, undeclared.generator, pairs_real_and_fake=True)
other_names = loss(lambda *, real, fake: fake.mean(-1) - real.mean(-1))


def penalty(term, **more):
    return Penalty(name="mine", term=term, **more)

def squares(discriminator, *, real, fake, weight, epsilon, noise):
    return weight * discriminator(real + 0.1 * noise).square().mean(-1)

good = penalty(squares, needs_noise=True)
unasked = penalty(squares)
unweighted = penalty(lambda discriminator, *, real, weight, **_: discriminator(real).square().mean(-1))
of_the_batch = penalty(lambda discriminator, *, real, weight, **_: weight * discriminator(real).square().mean())
one_number = penalty(lambda discriminator, *, real, weight, **_: (weight * discriminator(real).square().mean(-1)).sum())
without_d = penalty(lambda discriminator, *, real, weight, **_: weight * real.square().mean((1, 2)))
no_number = penalty(lambda discriminator, *, real, weight, **_: weight * (discriminator(real) - 1e6).log().mean(-1))
short = penalty(lambda discriminator, *, real: discriminator(real).mean(-1))


def build(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))

def two_scores(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), nn.Linear(2, 2)

def three_coordinates(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 3), nn.Linear(2, 1)

def broken(*, latent_dim, sample_shape):
    raise RuntimeError("the layer is missing")

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x.reshape(32, 2))

def for_32_samples(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), Fixed()

class Blown(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 0

def blown(*, latent_dim, sample_shape):
    return Blown(latent_dim, 2), nn.Linear(2, 1)

class Cut(nn.Linear):
    def forward(self, x):
        return super().forward(x.detach())

def cut(*, latent_dim, sample_shape):
    return nn.Linear(latent_dim, 2), Cut(2, 1)

def normed(*, latent_dim, sample_shape):
    normalised = nn.BatchNorm1d(4, track_running_stats=False)
    return nn.Linear(latent_dim, 2), nn.Sequential(nn.Linear(2, 4), normalised, nn.Linear(4, 1))
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the module dry_parts; sys.path and loaded modules are as before afterwards."""
    (tmp_path / "dry_parts.py").write_text(PARTS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("dry_parts", None)
    yield tmp_path
    sys.modules.pop("dry_parts", None)


def study(tiny: dict[str, Any], *entries: object, networks: str = "") -> dict[str, Any]:
    own = {"networks": {"name": networks, "latent_dim": 4}} if networks else {}
    return {**tiny, **own, "scientific": {"loss": list(entries)}}


def problems(code: Path, mapping: dict[str, Any]) -> list[str]:
    """What the dry run says."""
    try:
        dry_run(configurations(StudySpec.from_dict(mapping, folder=code)))
    except SpecError as error:
        return error.problems
    return []


def matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize("penalty", ["none", "dry_parts:good", "gradient_penalty", "dragan"])
@pytest.mark.parametrize("loss", ["dry_parts:fine", "dry_parts:declared", "relativistic_average"])
@pytest.mark.parametrize("networks", ["", "dry_parts:build"])
def test_parts_that_fit_pass(code: Path, tiny: dict[str, Any], loss: str, penalty: str, networks: str) -> None:
    assert problems(code, study(tiny, {"name": loss, "penalty": penalty}, networks=networks)) == []


SHAPE = r"a tensor of shape \[R\], one number for each member, for logits \[R, batch\] \(got {}"
STEP_0 = "must be finite at step 0"
LOSS_FAULTS = {
    "scalar": "the discriminator's loss must be " + SHAPE.format(r"shape \[\] for R = 8 and a batch of 32"),
    "per_sample": "the discriminator's loss must be " + SHAPE.format(r"shape \[8, 32\]"),
    "python_number": "the generator's loss must be " + SHAPE.format("a float"),
    "mixed": "the discriminator's loss must not mix members",
    "detached": "the generator's loss must be differentiable",
    "not_a_number": f"the discriminator's loss {STEP_0} .got nan",
    "infinite": f"the generator's loss {STEP_0} .got inf",
    "steep": f"the norm of the discriminator's first gradient {STEP_0} .got nan",
    "random": "the generator's loss must be the same for the same arguments",
    "undeclared": "the generator's loss reads real logits, so its AdversarialLoss must say pairs_real_and_fake=True",
    "other_names": "its first call raised TypeError: .* unexpected keyword argument 'real_logits'",
}


@pytest.mark.parametrize(("name", "said"), LOSS_FAULTS.items())
def test_a_faulty_loss_is_told_by_entry_rule_and_value(code: Path, tiny: dict[str, Any], name: str, said: str) -> None:
    found = problems(code, study(tiny, "hinge", {"name": f"dry_parts:{name}", "label": "mine"}))
    assert len(found) == 1
    assert found[0].startswith(f"scientific.loss[1].name: dry_parts:{name} (loss 'mine'): ")
    assert matches(said, found[0])


PENALTY_FAULTS = {
    "unasked": "its first call raised TypeError",  # noise is None, where it was not asked for
    "unweighted": "its term must be 0 at weight 0 .got .*: multiply by weight",
    "of_the_batch": "its term must not mix members",
    "one_number": r"its term must be a tensor of shape \[R\], .* for samples \[R, batch, d\] .got shape \[\]",
    "without_d": "its term must be differentiable",
    "no_number": f"its term {STEP_0} .got nan",
    "short": "its first call raised TypeError: .* unexpected keyword argument 'fake'",
}


@pytest.mark.parametrize(("name", "said"), PENALTY_FAULTS.items())
def test_a_faulty_penalty_is_told_by_entry_rule_and_value(
    code: Path, tiny: dict[str, Any], name: str, said: str
) -> None:
    found = problems(code, study(tiny, {"name": "hinge", "penalty": f"dry_parts:{name}", "label": "mine"}))
    assert len(found) == 1
    assert found[0].startswith(f"scientific.loss[0].penalty: dry_parts:{name} (loss 'mine'): ")
    assert matches(said, found[0])


NETWORK_FAULTS = {
    "two_scores": "its first forward pass raised ValueError: Linear must return 1 numbers per sample",
    "three_coordinates": "building it raised ValueError: Linear must return 2 numbers per sample",
    "broken": "building it raised RuntimeError: the layer is missing",
    "for_32_samples": "its first forward pass raised RuntimeError",
    "blown": f"the generator's samples {STEP_0}",
    "cut": "the discriminator's first gradient raised RuntimeError",
    "normed": "the discriminator: a sample's logit changes with the rest of its batch",
}


@pytest.mark.parametrize(("name", "said"), NETWORK_FAULTS.items())
def test_faulty_networks_are_told(code: Path, tiny: dict[str, Any], name: str, said: str) -> None:
    entry = {"name": "hinge", "penalty": "r1", "penalty_weight": 1}
    found = problems(code, study(tiny, entry, networks=f"dry_parts:{name}"))
    assert len(found) == 1
    assert found[0].startswith(f"networks.name: dry_parts:{name} (loss 'hinge+r1'): ")
    assert matches(said, found[0])


def test_batch_normalisation_is_a_fault_under_a_penalty_only(code: Path, tiny: dict[str, Any]) -> None:
    assert problems(code, study(tiny, "hinge", networks="dry_parts:normed")) == []


def test_every_faulty_entry_is_told_at_once(code: Path, tiny: dict[str, Any]) -> None:
    entries = ["dry_parts:scalar", "dry_parts:fine", "dry_parts:mixed"]
    found = problems(code, study(tiny, *entries))
    assert [line.partition(":")[0] for line in found] == ["scientific.loss[0].name", "scientific.loss[2].name"]


def test_each_program_is_tried_once_whatever_its_numbers(
    code: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "study.dry_run._rehearse", lambda program, member, *, own: tried.append((program.loss, program.penalty))
    )
    entries = [
        "hinge",
        {"name": "dry_parts:fine", "penalty": "r1", "penalty_weight": [0.1, 1, 10]},
        {"name": "hinge", "penalty": "dry_parts:good"},
    ]
    mapping = study(tiny, *entries)
    mapping["nuisance"] = {"learning_rate": [1e-3, 3e-3], "k": [1, 2]}
    mapping["fixed"] = {"batch_size": 32}
    assert problems(code, mapping) == []
    assert tried == [("dry_parts:fine", "r1"), ("hinge", "dry_parts:good")]


def test_run_refuses_before_anything_is_created(code: Path, tmp_path: Path, tiny: dict[str, Any]) -> None:
    home = tmp_path / "runs"
    spec = StudySpec.from_dict(study(tiny, "dry_parts:scalar"), folder=code)
    with pytest.raises(SpecError, match=r"scientific\.loss\[0\]\.name: dry_parts:scalar"):
        run(spec, home=home)
    assert not home.exists()


def test_registered_parts_are_not_rehearsed(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are held to their shapes by tests; where their numbers blow up at once, that is a result to record."""
    rehearsed: list[object] = []
    attempts: list[tuple[Any, ...]] = []
    monkeypatch.setattr("study.dry_run.dry_run", rehearsed.append)
    monkeypatch.setattr("study.launch._attempt", lambda *arguments: attempts.append(arguments))
    spec, home = StudySpec.from_dict(tiny), tmp_path / "runs"
    run(spec, home=home)
    ((folder, attempted, plan, _, console),) = attempts
    assert (folder, attempted, console) == (StudyFolder(home, "tiny-ring"), spec, None)
    assert {c.loss for c in plan.configurations} == {"minimax", "ns_r1"}
    assert plan.replicates == 2 * 2 * 3
    assert rehearsed == []
