"""Live progress of a running study: calm bars on a terminal, a line now and then elsewhere, a file for `status`."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainers.catalogue import gradient_evaluations_per_step

if TYPE_CHECKING:
    from study.plan import Plan

TRAINING = "training"
"""The one phase with a pace."""
LINE_EVERY_S = 10.0
_WINDOW_S = 90.0
_SHOWN_COHORTS = 8
OUTCOME_COLOURS: Mapping[str, str] = {
    "converged": "green",
    "under_trained": "cyan",
    "plateau": "blue",
    "oscillating": "yellow",
    "collapsed": "magenta",
    "diverged": "red",
    "censored": "bright_black",
    "failed": "bold red",
}


@dataclass(frozen=True, kw_only=True)
class CohortWork:
    """How much one cohort has to do; ``step_cost`` is in gradient evaluations, so that time left weighs k."""

    cohort: str
    members: int
    horizon: int
    step_cost: int

    @property
    def total(self) -> float:
        """Gradient evaluations of all members to the end."""
        return float(self.members * self.horizon * self.step_cost)


def work_of(plan: Plan) -> dict[str, CohortWork]:
    """The work of each cohort of a plan, in plan order."""
    works = {}
    for entry in plan.cohorts:
        shared = plan.configuration(entry.members[0][0])
        works[entry.cohort] = CohortWork(
            cohort=entry.cohort,
            members=len(entry.members),
            horizon=shared.horizon,
            step_cost=gradient_evaluations_per_step(
                k=int(shared.factors["k"]), penalty=shared.penalty, updates=str(shared.factors["updates"])
            ),
        )
    return works


@dataclass
class Ledger:
    """The counts behind the display; knows neither Ray nor the terminal.

    ``to_come``: cohorts of ``members_to_come`` that a search will still choose, each taken to cost what others did.
    """

    work: Mapping[str, CohortWork]
    to_come: int = 0
    members_to_come: int = 0
    clock: Callable[[], float] = time.monotonic
    steps: dict[str, int] = field(default_factory=dict, init=False)
    alive: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    _window: deque[tuple[float, float, float]] = field(default_factory=deque)
    _totals: tuple[int, int] = (0, 0)

    def started(self, cohort: str) -> None:
        """A trial began, or began again after its process died."""
        if cohort not in self.running:
            self.running.append(cohort)

    def advanced(self, cohort: str, *, step: int, alive: int) -> None:
        """A trial reported; the first report of a restored cohort is no progress of this launch."""
        known = cohort in self.steps
        before = self._totals
        self._reach(cohort, max(step, self.steps.get(cohort, 0)))
        self.alive[cohort] = alive
        if not known and step > 0:
            after = self._totals
            shift = (after[0] - before[0], after[1] - before[1])
            self._window = deque((at, cost + shift[0], steps + shift[1]) for at, cost, steps in self._window)
        self._remember()

    def finished(self, cohort: str, outcomes: Mapping[str, int]) -> None:
        """A cohort ended for good, with the outcomes of its replicates."""
        self.paused(cohort)
        self._reach(cohort, self.work[cohort].horizon)
        self.ended.add(cohort)
        self.outcomes.update(outcomes)

    def paused(self, cohort: str) -> None:
        """A trial returned before its end."""
        if cohort in self.running:
            self.running.remove(cohort)

    def expect(self, work: Mapping[str, CohortWork], *, to_come: int) -> None:
        """The plan grew."""
        self.work, self.to_come = work, to_come

    @property
    def planned(self) -> int:
        """Replicates of the plan, those to come included."""
        known = sum(work.members for work in self.work.values())
        return known + self.to_come * self.members_to_come

    @property
    def done(self) -> int:
        """Replicates that ended, failed ones included."""
        return sum(self.work[cohort].members for cohort in self.ended)

    @property
    def now_running(self) -> int:
        """Replicates in trials that run now."""
        return sum(self.work[cohort].members for cohort in self.running)

    @property
    def fraction(self) -> float:
        """Share of the work done, 0 to 1."""
        total = self._total()
        return self._totals[0] / total if total else float(not self.to_come)

    def steps_per_s(self) -> float | None:
        """Replicate-steps per second over the last minute and a half; None before the second report."""
        rates = self._rates()
        return rates[1] if rates else None

    def time_left_s(self) -> float | None:
        """Seconds to the end at the present pace; None before the pace is known."""
        rates = self._rates()
        if rates is None or rates[0] <= 0:
            return None
        return (self._total() - self._totals[0]) / rates[0]

    def _total(self) -> float:
        known = sum(work.total for work in self.work.values())
        return known * (1 + self.to_come / len(self.work)) if self.work else 0.0

    def _reach(self, cohort: str, step: int) -> None:
        """Whole numbers, kept up to date: adding all cohorts up at each report of one grew with their square."""
        work, gain = self.work[cohort], step - self.steps.get(cohort, 0)
        self.steps[cohort] = step
        cost, steps = self._totals
        self._totals = cost + gain * work.members * work.step_cost, steps + gain * work.members

    def _remember(self) -> None:
        now = self.clock()
        self._window.append((now, *self._totals))
        while len(self._window) > 2 and now - self._window[0][0] > _WINDOW_S:
            self._window.popleft()

    def _rates(self) -> tuple[float, float] | None:
        if len(self._window) < 2:
            return None
        (start, cost, steps), (end, *_) = self._window[0], self._window[-1]
        elapsed = max(end, self.clock() - _WINDOW_S / 3) - start
        now_cost, now_steps = self._totals
        return ((now_cost - cost) / elapsed, (now_steps - steps) / elapsed) if elapsed > 0 else None


class Progress:
    """Shows a Ledger; a context manager. ``note`` prints one line above the display."""

    def __init__(self, study: str, ledger: Ledger, *, console: Console | None = None) -> None:
        self.ledger = ledger
        self.trouble = ""
        self.phase = "preparing"
        self._study = study
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._line_at = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self.render, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """One line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def enter(self, phase: str) -> None:
        """A new phase: preparing, starting Ray, training, sending results to MLflow."""
        self.phase = phase
        if self._live is None:
            self.note(f"{self._study}: {phase}")

    def tick(self) -> None:
        """Prints a plain line when the last one is LINE_EVERY_S old and no live display runs."""
        if self._live is None and time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            self.note(f"{self._study}: {self.line()}")

    def line(self) -> str:
        """Everything in one line."""
        ledger = self.ledger
        parts = [
            f"{100 * ledger.fraction:.0f} %",
            f"{ledger.done}/{ledger.planned} replicates done, {ledger.now_running} running",
        ]
        if ledger.outcomes:
            parts.append(", ".join(f"{count} {name}" for name, count in ordered(ledger.outcomes)))
        if (rate := ledger.steps_per_s()) is not None:
            parts.append(f"{rate:,.0f} replicate-steps/s")
        if (left := ledger.time_left_s()) is not None:
            parts.append(f"{duration(left)} left")
        if self.trouble:
            parts.append(self.trouble)
        return "; ".join(parts)

    def render(self) -> Group:
        """The live display: one summary, one bar per running cohort."""
        ledger = self.ledger
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._study, style="bold"),
            progress_bar(ledger.fraction, width=30),
            Text(f"{100 * ledger.fraction:.0f} %"),
            Text(f"{ledger.done}/{ledger.planned} replicates"),
            Text(self._pace(), style="bright_black"),
        )
        parts: list[Any] = [head]
        if ledger.outcomes:
            parts.append(outcome_text(ledger.outcomes))
        if ledger.running:
            parts.append(self._bars())
        if self.trouble:
            parts.append(Text(f"{self.trouble} (training goes on)", style="yellow"))
        return Group(*parts)

    def _pace(self) -> str:
        left, rate = self.ledger.time_left_s(), self.ledger.steps_per_s()
        if self.phase != TRAINING or left is None or rate is None:
            return self.phase
        return f"{duration(left)} left, {rate:,.0f} replicate-steps/s"

    def _bars(self) -> Table:
        ledger = self.ledger
        bars = Table.grid(padding=(0, 2))
        for cohort in ledger.running[:_SHOWN_COHORTS]:
            work, step = ledger.work[cohort], ledger.steps.get(cohort, 0)
            alive = ledger.alive.get(cohort, -1)
            lost = f"{work.members - alive} of {work.members} dead" if 0 <= alive < work.members else ""
            bars.add_row(
                Text(f"  {cohort}"),
                progress_bar(step / work.horizon, width=22),
                Text(f"step {step:,} of {work.horizon:,}", style="bright_black"),
                Text(lost, style="red"),
            )
        hidden = len(ledger.running) - _SHOWN_COHORTS
        if hidden > 0:
            bars.add_row(Text(f"  and {hidden} more", style="bright_black"))
        return bars


def ordered(outcomes: Mapping[str, int]) -> list[tuple[str, int]]:
    """(outcome, count) in report order, zero counts left out."""
    return [(name, outcomes[name]) for name in OUTCOME_COLOURS if outcomes.get(name)]


def outcome_text(outcomes: Mapping[str, int]) -> Text:
    """Outcome counts, coloured."""
    return Text("   ").join(
        Text.assemble((f"{count} ", "bold"), (name, OUTCOME_COLOURS[name])) for name, count in ordered(outcomes)
    )


def progress_bar(fraction: float, *, width: int) -> ProgressBar:
    """A bar in plain colours: rich's own become the grey of an empty bar on terminals of 16 colours."""
    return ProgressBar(total=1.0, completed=fraction, width=width, complete_style="cyan", finished_style="green")


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
