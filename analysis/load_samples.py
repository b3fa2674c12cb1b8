"""Reads the newest samples of single replicates out of MLflow, without unpacking the rest of their files."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.frames import SAMPLE_COLUMNS

MOST_DOWNLOADED = 256 * 2**20
"""Bytes that are fetched from a server for pictures; files on this machine's disk are not counted."""


class _Store(Protocol):
    def artifact(self, run: Any, name: str, folder: Path) -> Path | None:
        """A file of a run: its own path where it lies on this machine, else a copy in ``folder``; None if absent."""


class LastSamples:
    """The newest kept samples of some replicates of one configuration; a later launch's rows stand.

    Once MOST_DOWNLOADED bytes came over the network, what is asked for later has no rows.
    """

    def __init__(self, store: _Store, configurations: Sequence[Any]) -> None:
        self._store, self._downloaded = store, 0
        self._runs: dict[str, list[Any]] = defaultdict(list)
        for run in configurations:
            self._runs[run.tags["ganstudy.configuration_key"]].append(run)

    def __call__(self, configuration_key: str, replicates: Collection[int]) -> pd.DataFrame:
        """Rows with SAMPLE_COLUMNS, by replicate and sample."""
        parts = [pd.DataFrame(columns=list(SAMPLE_COLUMNS))]
        with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
            for run in self._runs.get(configuration_key, ()):
                path = self._fetched(run, Path(scratch))
                if path is not None:
                    rows = newest_rows(path, replicates).to_pandas()
                    parts.append(rows.assign(configuration_key=configuration_key)[list(SAMPLE_COLUMNS)])
        table = pd.concat(parts[1:] or parts, ignore_index=True)
        newest = table.groupby("replicate")["generator_step"].transform("max")
        order = ["replicate", "sample"]
        table = table[table["generator_step"] == newest].drop_duplicates(order, keep="last")
        return table.sort_values(order, ignore_index=True)

    def _fetched(self, run: Any, scratch: Path) -> Path | None:
        if self._downloaded > MOST_DOWNLOADED:
            return None
        path = self._store.artifact(run, "samples.parquet", scratch)
        if path is not None and path.is_relative_to(scratch):
            self._downloaded += path.stat().st_size
        return path


def newest_rows(path: Path, replicates: Collection[int]) -> pa.Table:
    """The rows of the last kept step of each of these replicates, from a file of samples."""
    table = pq.read_table(path, columns=["replicate", "generator_step", "sample", "x"])
    replicate = table.column("replicate").to_numpy()
    step = table.column("generator_step").to_numpy()
    last = np.full(int(replicate.max(initial=-1)) + 1, -1, dtype=np.int64)
    np.maximum.at(last, replicate, step)
    wanted = np.isin(replicate, list(replicates)) & (step == last[replicate])
    return table.take(np.flatnonzero(wanted))
