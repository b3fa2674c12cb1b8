"""Reads the newest samples of single replicates out of MLflow, without unpacking the rest of their files."""

from __future__ import annotations

import tempfile
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.frames import SAMPLE_COLUMNS

MOST_DOWNLOADED = 256 * 2**20
"""Bytes that are fetched from a server for pictures; files on this machine's disk are not counted."""

FETCHES = 4
"""Files asked of a server at once: each is small, and most of its time is waiting."""


class _Store(Protocol):
    def artifact(self, run: Any, name: str, folder: Path) -> Path | None:
        """A file of a run: its own path where it lies on this machine, else a copy in ``folder``; None if absent."""


class LastSamples:
    """The newest kept samples of some replicates of one configuration after the other; a later launch's rows stand.

    Once MOST_DOWNLOADED bytes came over the network, what is asked for later has no rows.
    """

    def __init__(self, store: _Store, configurations: Sequence[Any]) -> None:
        self._store, self._downloaded = store, 0
        self._runs: dict[str, list[Any]] = defaultdict(list)
        for run in configurations:
            self._runs[run.tags["ganstudy.configuration_key"]].append(run)

    def __call__(self, wanted: Mapping[str, Collection[int]]) -> Iterator[pd.DataFrame]:
        """For each configuration_key and its replicates, rows with SAMPLE_COLUMNS, by replicate and sample.

        Files are fetched some ahead and counted in the order of ``wanted``, so that the limit falls where it always
        does.
        """
        with (
            tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch,
            ThreadPoolExecutor(FETCHES) as pool,
        ):
            paths = self._fetched([run for key in wanted for run in self._runs.get(key, ())], Path(scratch), pool)
            for key, replicates in wanted.items():
                yield _newest(key, [next(paths) for _ in self._runs.get(key, ())], replicates)

    def _fetched(self, runs: Sequence[Any], scratch: Path, pool: ThreadPoolExecutor) -> Iterator[Path | None]:
        """The file of samples of every run, in order; None where there is none, or the limit was reached before."""
        coming = deque[Future[Path | None]]()
        ahead = iter(runs)
        for _ in runs:
            while len(coming) < FETCHES and self._downloaded <= MOST_DOWNLOADED and (run := next(ahead, None)):
                coming.append(pool.submit(self._store.artifact, run, "samples.parquet", scratch))
            if self._downloaded > MOST_DOWNLOADED:
                yield None
                continue
            path = coming.popleft().result()
            local = path is None or not path.is_relative_to(scratch)
            self._downloaded += 0 if local or path is None else path.stat().st_size
            yield path


def _newest(configuration_key: str, paths: Sequence[Path | None], replicates: Collection[int]) -> pd.DataFrame:
    parts = [pd.DataFrame(columns=list(SAMPLE_COLUMNS))]
    for path in paths:
        if path is not None:
            rows = newest_rows(path, replicates).to_pandas()
            parts.append(rows.assign(configuration_key=configuration_key)[list(SAMPLE_COLUMNS)])
    table = pd.concat(parts[1:] or parts, ignore_index=True)
    newest = table.groupby("replicate")["generator_step"].transform("max")
    order = ["replicate", "sample"]
    table = table[table["generator_step"] == newest].drop_duplicates(order, keep="last")
    return table.sort_values(order, ignore_index=True)


def newest_rows(path: Path, replicates: Collection[int]) -> pa.Table:
    """The rows of the last kept step of each of these replicates, from a file of samples."""
    table = pq.read_table(path, columns=["replicate", "generator_step", "sample", "x"])
    replicate = table.column("replicate").to_numpy()
    step = table.column("generator_step").to_numpy()
    last = np.full(int(replicate.max(initial=-1)) + 1, -1, dtype=np.int64)
    np.maximum.at(last, replicate, step)
    wanted = np.isin(replicate, list(replicates)) & (step == last[replicate])
    return table.take(np.flatnonzero(wanted))
