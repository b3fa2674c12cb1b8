"""``ganstudy losses --check``: 0 for what conforms, 1 with the broken rules, 2 for what cannot be checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from study.cli import main
from tests.conftest import environment

MINE = """
from torch.nn.functional import softplus
from trainers.losses import AdversarialLoss
from trainers.penalties import Penalty, squared_gradient_norm


def discriminator(*, real_logits, fake_logits):
    return softplus(-real_logits).mean(-1) + 2 * softplus(fake_logits).mean(-1)


def generator(*, real_logits, fake_logits):
    return softplus(-fake_logits).mean(-1)


def summed(*, real_logits, fake_logits):
    return softplus(-fake_logits).sum(-1)


def term(critic, *, real, fake, weight, epsilon, noise):
    return weight * squared_gradient_norm(critic, fake).mean(-1)


def whole_batch(critic, *, real, fake, weight, epsilon, noise):
    return weight * squared_gradient_norm(critic, fake).sum(-1)


sound_loss = AdversarialLoss(name="mine", discriminator=discriminator, generator=generator)
broken_loss = AdversarialLoss(name="mine", discriminator=discriminator, generator=summed)
sound_penalty = Penalty(name="mine", term=term)
broken_penalty = Penalty(name="mine", term=whole_batch)
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], Said]]:
    """``ganstudy losses --check`` in this process, in a folder that holds my_mod.py."""
    (tmp_path / "my_mod.py").write_text(MINE)
    (tmp_path / "my_broken_mod.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(name: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganstudy", "losses", "--check", name])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    yield call
    for module in ("my_mod", "my_broken_mod"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("my_mod:sound_loss", "a loss"),
        ("my_mod:sound_penalty", "a penalty"),
        ("hinge", "a loss"),
        ("gradient_penalty", "a penalty"),
    ],
)
def test_what_conforms_ends_with_code_0(check: Callable[[str], Said], name: str, kind: str) -> None:
    said = check(name)
    assert said.code == 0
    assert f"{name} conforms: {kind}" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("my_mod:broken_loss", "  - generator: the same batch twice changes the loss"),
        ("my_mod:broken_penalty", "  - the same batch twice changes the term"),
    ],
)
def test_what_breaks_a_rule_ends_with_code_1_and_the_rule(check: Callable[[str], Said], name: str, rule: str) -> None:
    said = check(name)
    assert said.code == 1
    assert f"{name} breaks" in said.out
    assert rule in said.out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_mod:nothing", "no attribute 'nothing'"),
        ("no_such_mod:loss", "No module named 'no_such_mod'"),
        ("my_broken_mod:loss", "ZeroDivisionError"),
        ("my_mod:generator", "my_mod:generator is a function"),
        ("hinges", "did you mean 'hinge'?"),
        ("my_mod:", "--check"),
        (":", "--check"),
    ],
)
def test_what_cannot_be_checked_ends_with_code_2_and_one_message(
    check: Callable[[str], Said], name: str, message: str
) -> None:
    said = check(name)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.slow
def test_the_current_folder_is_found_by_the_installed_command(tmp_path: Path) -> None:
    (tmp_path / "my_mod.py").write_text(MINE)
    command = [sys.executable, "-m", "study", "losses", "--check", "my_mod:broken_loss"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "never the sum" in ended.stdout
