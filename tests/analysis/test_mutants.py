"""Every planted defect is caught by the checks that are named for it, and the sound code passes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.estimators import wilson
from tests.analysis.mutants import KINDS, MUTANTS, SIMULATIONS, WILSON, Check, Mutant, fails, mutants_table, planted

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "simulations.md"
CASES = [
    pytest.param(
        mutant,
        check,
        id=f"{mutant.defect}, {check.name}",
        marks=[pytest.mark.slow] if check.module == SIMULATIONS and check.name != "coverage_of_one_cell" else [],
    )
    for mutant in MUTANTS
    for check in mutant.checks
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a defect may divide by zero on its way
@pytest.mark.parametrize(("mutant", "check"), CASES)
def test_a_planted_defect_is_caught(mutant: Mutant, check: Check):
    assert not fails(check)
    with planted(mutant):
        assert fails(check, tries=mutant.tries), f"{check.name} lets it through: {mutant.defect}"
    assert not fails(check)


def test_a_mutant_is_run_by_those_who_imported_the_function_before_and_is_gone_afterwards():
    (mutant,) = [m for m in MUTANTS if m.defect == "Wilson's limits at alpha"]
    sound = wilson(0.9, 20)
    with planted(mutant):
        assert wilson(0.9, 20) != sound
    assert wilson(0.9, 20) == sound
    with pytest.raises(KeyError), planted(mutant):
        raise KeyError
    assert wilson(0.9, 20) == sound


def test_a_change_that_is_none_is_let_through():
    """A negative control: the checks fail because of the defect, not because something was planted."""
    (mutant,) = [m for m in MUTANTS if m.defect == "Wilson's limits at alpha"]
    harmless = Mutant(**{**vars(mutant), "new": "isf(alpha * 0.5)"})
    with planted(harmless):
        assert not fails(WILSON)


def test_a_crash_is_no_catch():
    with pytest.raises(ZeroDivisionError):
        fails(lambda: 1 / 0)


def test_every_kind_of_defect_has_a_mutant():
    assert len(KINDS) == 9


def test_the_mutants_are_listed_where_the_simulations_are():
    listed = DOCUMENT.read_text(encoding="utf-8")
    assert mutants_table() in listed, "run: python -m benchmarks.simulation_table --write"
