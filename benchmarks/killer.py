"""What breaks things in a chaos run: a seeded killer of trials, nodes, drivers, connections and checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from study.checkpoint import newest_checkpoint
from study.folder import StudyFolder, lock_holder
from study.tally import read_plan
from tests.clusters import LoopbackCluster, Node
from tests.faults.proxy import Proxy

KINDS = ("kill_trial", "lose_node", "hang_node", "kill_driver", "mlflow_away", "replies_lost", "checkpoint")
GAP_S = (8.0, 40.0)
"""Between one fault and the next: some meet their predecessor's recovery."""
OUTAGE_S, LOST_S, HUNG_S = 20.0, 3.0, 35.0


class Log:
    """JSON lines to stdout and memory; times in seconds since the start."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._began = time.monotonic()

    def __call__(self, event: str, **more: Any) -> None:
        line = {"at_s": round(time.monotonic() - self._began, 1), "event": event, **more}
        self.lines.append(line)
        print(json.dumps(line), flush=True)

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began


class Killer:
    """Does one thing after the other to a running study. ``repairs``: what brings back what was taken, and when."""

    def __init__(self, cluster: LoopbackCluster, proxy: Proxy, log: Log, *, seed: int, minutes: float) -> None:
        self._cluster, self._proxy, self._log = cluster, proxy, log
        self._rng = random.Random(seed)
        self._bag: list[str] = []
        self._repairs: list[tuple[float, Callable[[], None]]] = []
        self._due_s = log.now_s + self._rng.uniform(*GAP_S)
        self.until_s = log.now_s + 60 * minutes
        self.faults: Counter[str] = Counter()

    def look(self, folder: StudyFolder) -> None:
        """Repairs what is due, and does the next thing when its time has come."""
        now = self._log.now_s
        for entry in [entry for entry in self._repairs if entry[0] <= now]:
            self._repairs.remove(entry)
            entry[1]()
        if self._due_s <= now < self.until_s and any(folder.root.glob("cohorts/*/checkpoint-*")):
            fault = self._next()
            detail = getattr(self, f"_{fault}")(folder)
            if detail:
                self.faults[fault] += 1
                self._log("fault", fault=fault, study=folder.study, detail=detail)
            else:
                self._bag.append(fault)  # nothing there that it could hit just now
            self._due_s = self._log.now_s + (self._rng.uniform(*GAP_S) if detail else 1.0)

    def calm(self) -> None:
        """Brings back everything now."""
        for _, repair in self._repairs:
            repair()
        self._repairs.clear()

    def _next(self) -> str:
        """Drawn without putting back, so that a short run meets every kind."""
        if not self._bag:
            self._bag = list(KINDS)
            self._rng.shuffle(self._bag)
        return self._bag.pop(0)

    def _later(self, after_s: float, repair: Callable[[], None]) -> None:
        self._repairs.append((self._log.now_s + after_s, repair))

    def _trials(self) -> list[psutil.Process]:
        found = [process for node in self._cluster.nodes if not node.killed for process in trials_of(node)]
        return sorted(found, key=lambda process: process.pid)

    def _workers(self) -> list[int]:
        """Places of nodes that may go: never the head."""
        return [place for place, node in enumerate(self._cluster.nodes) if place and not node.killed]

    def _kill_trial(self, _: StudyFolder) -> str:
        trials = self._trials()
        if not trials:
            return ""
        victim = self._rng.choice(trials)
        victim.kill()
        return f"process {victim.pid} of {len(trials)}"

    def _lose_node(self, _: StudyFolder) -> str:
        place = self._rng.choice(self._workers())
        self._cluster.kill_node(place)
        self._cluster.add_node(wait=False)
        return f"node {place}, another comes"

    def _hang_node(self, _: StudyFolder) -> str:
        place = self._rng.choice(self._workers())
        self._cluster.freeze_node(place)
        self._cluster.nodes[place].killed = True  # the cluster will count it as lost, and it may end when it wakes
        self._cluster.add_node(wait=False)
        self._later(HUNG_S, lambda: self._cluster.freeze_node(place, thaw=True))
        self._later(HUNG_S + 10.0, lambda: self._cluster.kill_node(place))
        return f"node {place} for {HUNG_S:g} s, another comes"

    def _kill_driver(self, folder: StudyFolder) -> str:
        holder = lock_holder(folder)
        if holder is None or not holder.alive:
            return ""
        os.kill(holder.pid, signal.SIGKILL)
        return f"process {holder.pid}"

    def _mlflow_away(self, _: StudyFolder) -> str:
        return self._connection("refuse", OUTAGE_S)

    def _replies_lost(self, _: StudyFolder) -> str:
        return self._connection("lost", LOST_S)

    def _connection(self, mode: str, seconds: float) -> str:
        if self._proxy.mode != "pass":
            return ""
        self._proxy.set(mode)
        self._later(seconds, lambda: self._proxy.set("pass"))
        return f"for {seconds:g} s"

    def _checkpoint(self, folder: StudyFolder) -> str:
        """The newest checkpoint of a cohort under way is damaged, and the trials die, so that it must be read."""
        for entry in self._rng.sample(cohorts := read_plan(folder).cohorts, len(cohorts)):
            found = newest_checkpoint(folder.cohort(entry.cohort)).checkpoint
            if found is not None and not found.complete:
                name = self._rng.choice(["state.pt", "history.parquet", "samples.parquet", "manifest.json"])
                how = self._rng.choice(["flipped", "truncated"])
                trials = self._trials()
                for process in trials:
                    process.kill()
                try:
                    damage(found.path / name, how, self._rng)
                except OSError:  # replaced meanwhile
                    return ""
                return f"{entry.cohort}/{found.path.name}/{name} {how}, {len(trials)} trials killed"
        return ""


def damage(path: Path, how: str, rng: random.Random) -> None:
    """One flipped bit, or the second half gone, in place."""
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def trials_of(node: Node) -> list[psutil.Process]:
    """Processes of trials on a node."""
    found = []
    for process in node.processes():
        with contextlib.suppress(psutil.Error):
            if "ImplicitFunc" in " ".join(process.cmdline()):
                found.append(process)
    return found
