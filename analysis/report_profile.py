"""The profile's figures with their captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis.compare import by_success
from analysis.dirac_cells import is_dirac
from analysis.drawn import Drawn
from analysis.figures_early import early_caption, early_figure, early_rows
from analysis.figures_profile import budget_figure, incidence_figure
from analysis.figures_robustness import lead_table, multiverse_figure, variance_figure
from analysis.frames import StudyFrames
from analysis.report_details import draw_details
from analysis.report_text import TARGETS
from analysis.robustness import Robustness, held_variants, robustness

Tables = Mapping[str, pd.DataFrame]


def draw_profile(frames: StudyFrames, tables: Tables) -> Iterator[Drawn]:
    """The figures that the profile's tables can fill; a Dirac study and one without judged runs have none."""
    losses = tables["losses"]
    used = int(losses["runs_used"].sum()) if len(losses) else 0
    if is_dirac(frames) or not used:
        return
    target, order = str(losses["target"].iloc[0]), by_success(losses)
    incidence = _ordered(tables["incidence"], order)
    if len(incidence):
        yield _incidence(frames, incidence)
    if len(early_rows(tables["early_warning"])):
        yield _early(tables["early_warning"])
    budget = _ordered(tables["budget"], order)
    if budget["settings"].nunique() > 1:
        yield _searched(budget) if frames.adaptive else _budget(budget, target, used)
    variance = tables["variance"]
    if variance["share"].notna().any():
        yield _variance(variance, used)
    found = robustness(tables)
    if found.variants:
        yield _multiverse(found, tables, used, target)
    yield from draw_details(frames, tables)


def _ordered(table: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    """The rows with the losses in the page's order."""
    place = {label: i for i, label in enumerate(order)}
    return table.sort_values("loss", key=lambda c: c.map(place), kind="stable", ignore_index=True)


def _incidence(frames: StudyFrames, table: pd.DataFrame) -> Drawn:
    runs = frames.runs[frames.runs["loss"].isin(list(table["loss"]))]
    return Drawn(
        name="incidence",
        figure=incidence_figure(table),
        tables={"incidence": table},
        alt="Share of runs that have converged, collapsed or diverged over generator steps, one panel per loss",
        caption=(
            "When runs end. A run converges from the step from which it stays good, collapses or diverges at its "
            "event; the three compete, so a run that failed never converges later (cumulative incidence, Aalen and "
            "Johansen; the declared weights). Bands: 95 % interval at each step, Wilson at the effective number of "
            f"runs. n = {len(runs)} runs. Inference target: {TARGETS['grid']}."
        ),
    )


def _early(table: pd.DataFrame) -> Drawn:
    return Drawn(
        name="early_warning",
        figure=early_figure(table),
        tables={"early_warning": early_rows(table)},
        alt="How often each measurement at a fifth of the budget names the run of a setting that will end unstable",
        caption=early_caption(table),
    )


def _budget(table: pd.DataFrame, target: str, used: int) -> Drawn:
    column = "tuned" if target == "space" else "tuned_by_weight"
    return Drawn(
        name="budget",
        figure=budget_figure(table, column=column),
        tables={"budget": table},
        alt="Success at the selected setting over the number of settings tried, one line per loss",
        caption=(
            "What tuning buys: success of the best of so many settings drawn from the declared space, up to half of "
            "them (one setting: the leaderboard's share). Cross-fitted: selected on all replicates but one, scored on "
            f"that one. No interval: resampling is invalid for a maximum. n = {used} judged runs. Inference target: "
            f"{TARGETS[target]}."
        ),
    )


def _searched(table: pd.DataFrame) -> Drawn:
    fitted = bool(table["tuned"].notna().any())
    how = (
        "Cross-fitted: selected on all replicates but one and scored on that one, although the sampler saw them all."
        if fitted
        else "The largest share seen: with one replicate each nothing else is known, and selection inflates it."
    )
    return Drawn(
        name="budget",
        figure=budget_figure(table, column="tuned" if fitted else "naive"),
        tables={"budget": table},
        alt="Success at the best setting so far over the number of settings tried, one line per loss",
        caption=(
            "What the search found by the time it had tried so many settings, in the order of its suggestions: success "
            f"of the best of them. {how} No interval; fresh seeds say how good the last one is. Inference target: this "
            "search alone."
        ),
    )


def _variance(table: pd.DataFrame, used: int) -> Drawn:
    return Drawn(
        name="variance",
        figure=variance_figure(table),
        tables={"variance": table},
        alt="Share of the variance of success by factor, interaction and seed",
        caption=(
            "What decides whether a run converges: share of the variance over all runs (sums of squares of the full "
            "grid, levels counting equally); grey is what the seed alone decides. The CSV has omega squared, which "
            f"takes seed noise off; no interval. n = {used} judged runs. Inference target: {TARGETS['grid']}."
        ),
    )


def _multiverse(found: Robustness, tables: Tables, used: int, target: str) -> Drawn:
    table = lead_table(found.leader, tables["criteria_variants"], tables["criteria_pairs"])
    held = held_variants(found.leader, tables)
    place = {label: i for i, label in enumerate(by_success(tables["losses"]))}
    table = table.sort_values("rival", key=lambda c: c.map(place), kind="stable", ignore_index=True)
    return Drawn(
        name="criteria",
        figure=multiverse_figure(table, held, leader=found.leader),
        tables={"criteria": table},
        alt="Heat map of the best loss's lead under 27 variants of the criteria",
        caption=(
            f"The same n = {used} runs judged by {found.variants} criteria: u and m from which a run is good, m up to "
            "which it is collapsed; the study's own are outlined. Fill: lead in points of success. Dot: the verdict "
            "has the leader as winner, cross: the rival (simultaneous 95 % interval). ✓: it leads and every verdict on "
            f"it that said something stays. Inference target: {TARGETS[target]}."
        ),
    )
