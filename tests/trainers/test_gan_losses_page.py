"""docs/gan-losses.md names every loss and penalty, its numbers are the code's, and the tests it cites exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from trainers import catalogue
from trainers.losses import LOSSES
from trainers.penalties import PENALTIES

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "gan-losses.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, list[str]]:
    """Entry name -> cells of its row in the table under the heading ``section``."""
    part = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {cells[0].strip("`"): cells[1:] for cells in lines if cells[0].startswith("`")}


def number(cell: str) -> float:
    return float(cell.replace("\N{MINUS SIGN}", "-"))


def test_the_page_has_a_row_for_every_loss_and_penalty_with_its_reference() -> None:
    for section, entries in (("The losses", catalogue.LOSSES), ("The penalties", catalogue.PENALTIES)):
        table = rows(section)
        assert list(table) == list(entries)
        for name, entry in entries.items():
            identifier = re.search(r"arXiv:([\d.]+)", entry.reference)
            assert identifier is None or f"https://arxiv.org/abs/{identifier[1]}" in " ".join(table[name]), name


@pytest.mark.parametrize("name", LOSSES)
def test_the_pages_numbers_are_the_codes(name: str) -> None:
    loss = LOSSES[name]
    zero, sure = torch.zeros(1, dtype=torch.float64), torch.tensor([-10.0], dtype=torch.float64, requires_grad=True)
    (pull,) = torch.autograd.grad(loss.generator(real_logits=zero, fake_logits=sure), sure)
    found = [
        loss.discriminator(real_logits=zero, fake_logits=zero).item(),
        loss.generator(real_logits=zero, fake_logits=zero).item(),
        pull.item(),
    ]
    for cell, value in zip(rows("The losses")[name][-3:], found, strict=True):
        assert number(cell) == pytest.approx(value, rel=2e-3, abs=1e-12)


def test_the_pages_penalties_at_slope_5_are_the_codes() -> None:
    samples, slope = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([3.0, -4.0])
    for name, cells in rows("The penalties").items():
        term = PENALTIES[name].term
        assert (cells[-1] == "") == (term is None)
        if term is not None:
            value = term(
                lambda x: (x * slope).sum(-1),
                real=samples,
                fake=-samples,
                weight=torch.ones(1),
                epsilon=torch.full((1, 4), 0.3),
                noise=samples.flip(1),
            )
            assert number(cells[-1]) == pytest.approx(value.item())


def test_every_test_and_law_that_the_page_cites_exists() -> None:
    defined = {
        name for path in (REPOSITORY / "tests").rglob("*.py") for name in re.findall(r"def (\w+)\(", path.read_text())
    }
    cited = set(re.findall(r"`(test_\w+)`", PAGE))
    caught_by = set(re.findall(r"\| `(\w+)` \|$", PAGE.split("\n## Defects")[1], flags=re.MULTILINE))
    assert len(cited) > 15
    assert cited | (caught_by - {"check_loss", "check_penalty", "check_discriminator"}) <= defined
    for path in re.findall(r"tests/trainers/test_\w+\.py", PAGE):
        assert (REPOSITORY / path).is_file()
