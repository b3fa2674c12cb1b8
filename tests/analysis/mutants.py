"""Defects of statistics code, planted one by one in the real functions, and the ordinary checks that must catch each.

``planted`` swaps the code of a function for that of its altered source, so that everybody who imported it runs the
defect. A check is a test of this suite, named and called as it stands: a defect that it lets through is a hole in the
suite, and ``test_mutants`` says so.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from analysis.verdicts import cell_p


@dataclass(frozen=True)
class Check:
    """A test by module and name, with the arguments of one of its cases; a scenario of simulations is one as well."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()

    def __call__(self) -> None:
        """Raises AssertionError where the check fails."""
        rows = getattr(importlib.import_module(self.module), self.name)(*self.arguments)
        broken = [row.scenario for row in rows or () if not row.kept]
        assert not broken, broken


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """``old`` -> ``new`` in the source of ``function`` (module:qualified name); ``tries``: where chance may hide it."""

    kind: str
    defect: str
    function: str
    old: str
    new: str
    checks: tuple[Check, ...]
    tries: int = 1


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The function runs the defect; afterwards its own code again."""
    function = function_of(mutant.function)
    sound, altered = function.__code__, mutated(function, mutant.old, mutant.new).__code__
    try:
        function.__code__ = altered
        cell_p.cache_clear()  # it remembers p-values
        yield
    finally:
        function.__code__ = sound
        cell_p.cache_clear()


def function_of(path: str) -> FunctionType:
    """The plain function behind a module's function, a method or a property."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = found.__dict__[name]
    found = found.fget if isinstance(found, property) else found
    assert isinstance(found, FunctionType), path
    return found


def mutated(function: FunctionType, old: str, new: str) -> FunctionType:
    """The function from its source with the one ``old`` replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__qualname__} holds {source.count(old)} times {old!r}"
    tree = ast.parse(source.replace(old, new))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    names = dict(function.__globals__)
    flags = __future__.annotations.compiler_flag
    exec(compile(tree, f"<mutant of {function.__qualname__}>", "exec", flags=flags, dont_inherit=True), names)
    found = names[definition.name]
    assert isinstance(found, FunctionType)
    return found


def fails(check: Callable[[], None], *, tries: int = 1) -> bool:
    """Whether a check fails, as a test fails: by an assertion, not by a crash."""
    for _ in range(tries):
        try:
            check()
        except AssertionError:
            return True
    return False


ESTIMATORS, COMPARE, TIMES, TUNED = (
    f"tests.analysis.test_{name}" for name in ("estimators", "compare", "times", "tuned")
)
RANKS, RANGES, OUTCOMES = "tests.analysis.test_ranks", "tests.analysis.test_ranges", "tests.study.test_outcomes"
SIMULATIONS = "tests.analysis.simulations"
WILSON = Check(ESTIMATORS, "test_wilson_known_answers", (18, 20, 0.698966, 0.972134))
TEN_OF_TEN = Check(COMPARE, "test_all_converged_is_not_certainty")
BY_HAND = Check(ESTIMATORS, "test_weighted_share_by_hand")
UNEQUAL = Check(ESTIMATORS, "test_exact_test_agrees_with_enumeration_under_unequal_runs")
STUDENT = Check(ESTIMATORS, "test_mean_of_units_is_students_interval")
NOT_SELECTED = Check(TUNED, "test_the_winner_is_scored_where_it_was_not_selected")
WEIGHED = Check(COMPARE, "test_losses_weigh_the_cells")
EVENTS = Check(OUTCOMES, "test_events_are_where_they_were_put")

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        kind="k and n swapped",
        defect="share n / k",
        function="analysis.estimators:weighted_share",
        old="observed.successes / observed.runs)",
        new="observed.runs / observed.successes)",
        checks=(BY_HAND, Check(ESTIMATORS, "test_two_equal_cells_pool_to_one")),
    ),
    Mutant(
        kind="k and n swapped",
        defect="cells with successes for runs",
        function="analysis.arms:Arm.cells",
        old="successes=np.nansum(self.values, axis=1), runs=runs",
        new="successes=runs, runs=np.nansum(self.values, axis=1)",
        checks=(WEIGHED,),
    ),
    Mutant(
        kind="k and n swapped",
        defect="the other arm's n in the exact test",
        function="analysis.estimators:_exact_p",
        old="n_a + n_b, total, n_a)",
        new="n_a + n_b, total, n_b)",
        checks=(UNEQUAL,),
    ),
    Mutant(
        kind="axes swapped",
        defect="every evaluation of a run counts as a run",
        function="analysis.arms:build_arm",
        old="values=matrix, planned=planned)",
        new="values=np.repeat(matrix, 25, axis=1), planned=np.repeat(planned, 25, axis=1))",
        checks=(TEN_OF_TEN, Check(COMPARE, "test_one_cell_contrast_is_newcombe_and_fisher")),
    ),
    Mutant(
        kind="axes swapped",
        defect="settings for replicates in the tuned success",
        function="analysis.tuned:tuned_success",
        old="known = ~np.isnan(values)",
        new="values = values.T; known = ~np.isnan(values)",
        checks=(Check(TUNED, "test_cross_fitted_curve_is_the_mean_over_all_subsets", (2,)),),
    ),
    Mutant(
        kind="axes swapped",
        defect="cells for sweeps under shared seeds",
        function="analysis.arms:_units",
        old="arm.weights @ arm.values[:, whole]",
        new="arm.values[:, whole].mean(axis=1)",
        checks=(Check(COMPARE, "test_sweeps_weigh_their_cells"), Check(SIMULATIONS, "shared_seeds")),
    ),
    Mutant(
        kind="runs that end in NaN dropped",
        defect="diverged runs left out of n",
        function="analysis.arms:event",
        old='runs["outcome"].isin(list(UNUSED))',
        new='runs["outcome"].isin([*UNUSED, "diverged"])',
        checks=(WEIGHED, Check(COMPARE, "test_unequal_replicates_are_weighted_by_cell_not_by_run")),
    ),
    Mutant(
        kind="runs that end in NaN dropped",
        defect="quality of the survivors",
        function="analysis.ranks:final_u",
        old="list(WORST_RANK)), np.inf, u)",
        new="list(WORST_RANK)), np.nan, u)",
        checks=(
            Check(RANKS, "test_final_u_ranks_failures_last_and_leaves_lost_runs_out"),
            Check(RANKS, "test_superiority_table_prefers_the_loss_that_does_not_fail"),
        ),
    ),
    Mutant(
        kind="divergence as censoring",
        defect="Kaplan and Meier's curve of convergence alone",
        function="analysis.times:cumulative_incidence",
        old="ended = np.isin(causes, CAUSES)",
        new='ended = np.isin(causes, ("converged",))',
        checks=(
            Check(TIMES, "test_incidence_with_losses_is_aalen_and_johansens"),
            Check(SIMULATIONS, "times"),
        ),
    ),
    Mutant(
        kind="divergence as censoring",
        defect="a diverged run is lost to follow-up",
        function="analysis.times:run_times",
        old="np.isin(outcome, CAUSES), outcome, np.where(lost,",
        new="np.isin(outcome, CAUSES[:2]), outcome, np.where(lost | (outcome == CAUSES[2]),",
        checks=(
            Check(TIMES, "test_a_run_that_diverged_early_is_waited_for_to_the_end"),
            Check(TIMES, "test_incidence_table_of_a_study"),
        ),
    ),
    Mutant(
        kind="first hit for sustained",
        defect="time of the first good evaluation",
        function="study.outcomes:_sustained",
        old="start = failing[-1] + 1 if len(failing) else 0",
        new="start = 0",
        checks=(EVENTS,),
    ),
    Mutant(
        kind="first hit for sustained",
        defect="once good is converged",
        function="study.outcomes:_decided",
        old="passed & settled,",
        new="_good(e, t).any(axis=1),",
        checks=(EVENTS, Check(OUTCOMES, "test_one_slip_in_the_judged_window_is_allowed_and_two_are_not")),
    ),
    Mutant(
        kind="naive maximum",
        defect="best setting scored on the seeds that chose it",
        function="analysis.tuned:tuned_success",
        old="return float(np.mean(scored)) if scored else math.nan",
        new="return float(np.nanmean(values, axis=1).max())",
        checks=(NOT_SELECTED, Check(SIMULATIONS, "tuned")),
    ),
    Mutant(
        kind="degrees of freedom of a standard deviation",
        defect="n for n - 1 in Student's interval",
        function="analysis.estimators:mean_of_units",
        old="ddof=1",
        new="ddof=0",
        checks=(STUDENT, Check(COMPARE, "test_shared_seeds_switch_to_intervals_over_sweeps")),
    ),
    Mutant(
        kind="one-sided for two-sided",
        defect="Wilson's limits at alpha",
        function="analysis.estimators:wilson",
        old="isf(alpha / 2)",
        new="isf(alpha)",
        checks=(WILSON, Check(SIMULATIONS, "coverage_of_one_cell")),
    ),
    Mutant(
        kind="one-sided for two-sided",
        defect="Student's limits at alpha",
        function="analysis.estimators:mean_of_units",
        old="isf(alpha / 2, n - 1)",
        new="isf(alpha, n - 1)",
        checks=(STUDENT,),
    ),
    Mutant(
        kind="one-sided for two-sided",
        defect="one tail of the exact test",
        function="analysis.estimators:_exact_p",
        old="distance = np.abs(np.arange(len(law)) + offset - mean)",
        new="distance = np.arange(len(law)) + offset - mean",
        checks=(Check(ESTIMATORS, "test_exact_test_of_one_cell_is_fishers"),),
    ),
    Mutant(
        kind="one-sided for two-sided",
        defect="seeds for a one-sided test",
        function="analysis.estimators:seeds_for_power",
        old="isf(alpha / 2 / pairs)",
        new="isf(alpha / pairs)",
        checks=(Check(ESTIMATORS, "test_seeds_for_power_reproduces_the_planning_table", (15, 0.25, 0.05, 105)),),
    ),
    Mutant(
        kind="one-sided for two-sided",
        defect="two-sided limits in the certified zone",
        function="analysis.ranges:zone",
        old="alpha=alpha, method",
        new="alpha=alpha / 2, method",
        checks=(Check(RANGES, "test_exact_limits_ask_for_more_seeds"),),
    ),
    Mutant(
        kind="generator without a seed",
        defect="another p-value at every call",
        function="analysis.estimators:permutation_p",
        old="np.random.default_rng(seed)",
        new="np.random.default_rng()",
        checks=(Check(ESTIMATORS, "test_irregular_weights_are_sampled_and_close_to_enumeration"),),
        tries=4,  # two draws of 99,999 give the same p now and then
    ),
)
"""The nine kinds of statistics.md, section 4.3; a kind with several places has several mutants."""

KINDS = tuple(dict.fromkeys(mutant.kind for mutant in MUTANTS))


def mutants_table(mutants: Iterable[Mutant] = MUTANTS) -> str:
    """Every mutant and the checks that catch it, as a Markdown table."""
    lines = ["| kind | defect | planted in | caught by |", "|---|---|---|---|"]
    for mutant in mutants:
        caught = ", ".join(f"`{check.module.rpartition('.')[2]}.{check.name}`" for check in mutant.checks)
        place = mutant.function.replace(":", ".")
        lines.append(f"| {mutant.kind} | {mutant.defect} | `{place}` | {caught} |")
    return "\n".join(lines)
