"""What `ganstudy replay` does before and while it trains: finds the replicate, shows how far it is."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.errors import BadInput, suggestion
from study.folder import StudyFolder, find_study, read_json
from study.progress import LINE_EVERY_S, duration, progress_bar

if TYPE_CHECKING:
    import pyarrow as pa

    from study.plan import Configuration, Plan
    from study.replay import Replay
    from study.spec import StudySpec

_LISTED = 8
_PACE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One replicate of a study that was begun."""

    folder: StudyFolder
    spec: StudySpec
    plan: Plan
    configuration: Configuration
    replicate: int

    @property
    def name(self) -> str:
        """For the terminal: ``hinge k=1 lr=0.001, replicate 2``."""
        from study.results import run_name

        return f"{run_name(self.configuration, self.plan.configurations)}, replicate {self.replicate}"

    @property
    def planned(self) -> dict[str, Any]:
        """Its configuration as plan.json holds it."""
        return next(
            entry
            for entry in self.plan.to_json()["configurations"]
            if entry["configuration_key"] == self.configuration.configuration_key
        )

    @property
    def recorded_with(self) -> dict[str, str]:
        """Library versions of the study's last attempt, as its launch.json says; empty where it says nothing."""
        if not self.folder.launch_file.exists():
            return {}
        versions = read_json(self.folder.launch_file).get("versions")
        return {str(name): str(value) for name, value in versions.items()} if isinstance(versions, dict) else {}

    @property
    def command(self) -> str:
        """What makes the same replay again."""
        key = self.configuration.configuration_key
        return f"ganstudy replay {self.spec.study} --configuration {key} --replicate {self.replicate}"

    @property
    def out(self) -> Path:
        """Where its replay goes by default."""
        return self.folder.root / "replays" / f"{self.configuration.configuration_key}-{self.replicate}"


def choose(study: str, *, key: str, replicate: int, home: Path | None) -> Choice:
    """The replicate of a study by its configuration's key, or the beginning of one, and its number.

    Raises BadInput for an unknown study, configuration or replicate, and for code of the user's that changed.
    """
    folder = find_study(study, home=home)
    from study.begun import begun_study

    spec, plan = begun_study(folder)
    configuration = find_configuration(plan, key)
    if replicate >= configuration.replicates:
        raise BadInput(
            f"--replicate: {configuration.configuration_key} has the replicates 0 to {configuration.replicates - 1}, "
            f"got {replicate}"
        )
    return Choice(folder=folder, spec=spec, plan=plan, configuration=configuration, replicate=replicate)


def find_configuration(plan: Plan, key: str) -> Configuration:
    """The configuration whose key is ``key`` or alone begins with it; BadInput lists what there is."""
    keys = list(plan.by_key)
    matches = [key] if key in plan.by_key else [known for known in keys if key and known.startswith(key)]
    if len(matches) == 1:
        return plan.configuration(matches[0])
    if matches:
        raise BadInput(
            f"--configuration: {key!r} begins {len(matches)} keys of {plan.study!r}:\n{_list(plan, matches)}"
        )
    raise BadInput(
        f"--configuration: {plan.study!r} has no configuration {key!r}{suggestion(key, keys)}; "
        f"its keys, as in runs.csv of the report:\n{_list(plan, keys)}"
    )


def _list(plan: Plan, keys: list[str]) -> str:
    from study.results import run_name

    lines = [f"  {key}  {run_name(plan.configuration(key), plan.configurations)}" for key in keys[:_LISTED]]
    return "\n".join(lines + ([f"  ... and {len(keys) - _LISTED} more"] if len(keys) > _LISTED else []))


def train(choice: Choice, *, frames: int, device: str, console: Console) -> tuple[Replay, bool]:
    """Trains the replicate to its end, showing how far it is; and whether the study's own judge measured it.

    Ctrl-C ends it and leaves nothing behind. BadInput for a device that is not there.
    """
    import torch

    from study.precision_rules import require_precise_replay
    from study.reference import load_judge
    from study.replay import Replay, require_device
    from trainers import native

    require_device(device)
    require_precise_replay(choice.configuration.program().precision, device=device)
    judge, own = load_judge(choice.folder, choice.configuration, device=device)  # with the threads of a driver
    torch.set_num_threads(max(1, int(choice.spec.resources.cpus_per_trial)))  # as its trial did: sums round alike
    native.use(choice.spec.resources.kernels or "torch")
    replay = Replay(choice.folder, choice.configuration, choice.replicate, judge, frames=frames, device=device)
    with Display(choice.name, horizon=choice.configuration.horizon, console=console) as display:
        display.follow(replay.train())
    return replay, own


def versions() -> dict[str, str]:
    """Versions of what the recorded bits depend on, here and now."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}}


class Display:
    """How far a replay is: a bar on a terminal, a line now and then elsewhere; a context manager."""

    def __init__(self, name: str, *, horizon: int, console: Console) -> None:
        self._name, self._horizon, self._console = name, horizon, console
        self._step = 0
        self._pace: deque[tuple[float, int]] = deque()
        self._line_at = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self.render, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def follow(self, steps: Iterable[int]) -> None:
        """Goes through ``steps``, each the generator step that was just reached."""
        for step in steps:
            now = time.monotonic()
            self._step = step
            self._pace.append((now, step))
            while now - self._pace[0][0] > _PACE_S:
                self._pace.popleft()
            if self._live is None and now - self._line_at >= LINE_EVERY_S:
                self._line_at = now
                self._console.print(Text(f"{self._name}: {self.text}"), soft_wrap=True)

    @property
    def text(self) -> str:
        """Where it is, and the time left once the pace is known."""
        (start, first), (end, last) = (self._pace[0], self._pace[-1]) if self._pace else ((0.0, 0), (0.0, 0))
        place = f"step {self._step:,} of {self._horizon:,}"
        if last <= first:
            return place
        return f"{place}, {duration((self._horizon - self._step) * (end - start) / (last - first))} left"

    def render(self) -> Table:
        """The live display."""
        line = Table.grid(padding=(0, 2))
        line.add_row(
            Text(self._name, style="bold"),
            progress_bar(self._step / self._horizon, width=30),
            Text(self.text, style="bright_black"),
        )
        return line


def checkpointed_rows(choice: Choice) -> pa.Table | None:
    """The replicate's rows in its cohort's newest checkpoint: what is recorded before MLflow has it."""
    from pyarrow import compute

    from study.checkpoint import newest_checkpoint

    key = choice.configuration.configuration_key
    cohort = next(entry.cohort for entry in choice.plan.cohorts if (key, choice.replicate) in entry.members)
    found = newest_checkpoint(choice.folder.cohort(cohort)).checkpoint
    if found is None:
        return None
    history = found.history()
    mine = compute.and_(
        compute.equal(history["configuration_key"], key), compute.equal(history["replicate"], choice.replicate)
    )
    return history.filter(mine)
