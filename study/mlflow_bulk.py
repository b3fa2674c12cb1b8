"""Histories of metrics for many runs in one request: MLflow's own client asks for one metric of one run at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MAX_RUNS, MAX_ROWS = 100, 25_000
"""A server refuses more runs in a request, and says nothing of the rows beyond these that it leaves out."""

_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_NO_SUCH_ENDPOINT = (404, 405)

Rows = list[tuple[int, float]]
"""(step, value) of every row of a metric in a run, doubled ones too."""


class Histories:
    """What ``MlflowClient.get_metric_history`` gives, bit for bit; a metric is fetched for all the runs at once."""

    def __init__(self, client: MlflowClient, run_ids: Sequence[str]) -> None:
        self._client, self._run_ids = client, sorted(run_ids)
        self._found: dict[str, dict[str, Rows]] = {}

    def rows(self, run_id: str, metric: str) -> Rows:
        """The rows of a metric in one of the runs; none where it was never logged. Raises what MLflow raises."""
        if metric not in self._found:
            self._found[metric] = self._fetched(metric)
        return self._found[metric][run_id]

    def _fetched(self, metric: str) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for start in range(0, len(self._run_ids), MAX_RUNS):
            found |= self._of(self._run_ids[start : start + MAX_RUNS], metric)
        return found

    def _of(self, run_ids: list[str], metric: str) -> dict[str, Rows]:
        """A full answer may be one that was cut: it is asked for again in halves, and at last run by run."""
        entries = bulk(self._client, run_ids, metric)
        if entries is not None and len(entries) < MAX_ROWS:
            found: dict[str, Rows] = {run_id: [] for run_id in run_ids}
            for entry in entries:
                found[entry["run_id"]].append((int(entry["step"]), float(entry["value"])))
            return found
        if entries is not None and len(run_ids) > 1:
            middle = len(run_ids) // 2
            return self._of(run_ids[:middle], metric) | self._of(run_ids[middle:], metric)
        return {run_id: self._alone(run_id, metric) for run_id in run_ids}

    def _alone(self, run_id: str, metric: str) -> Rows:
        return [(entry.step, entry.value) for entry in self._client.get_metric_history(run_id, metric)]


def bulk(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[dict[str, Any]] | None:
    """At most MAX_ROWS rows of a metric in at most MAX_RUNS runs (run_id, step, value); None where a server cannot."""
    store = client._tracking_client.store  # the client offers no way to it; the store's own methods are public
    if hasattr(store, "get_metric_history_bulk"):
        return [entry.to_dict() for entry in store.get_metric_history_bulk(run_ids, metric, MAX_ROWS)]
    if not hasattr(store, "get_host_creds"):
        return None
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    asked = {"run_id": list(run_ids), "metric_key": metric, "max_results": MAX_ROWS}
    reply = http_request(store.get_host_creds(), _ENDPOINT, "GET", params=asked, raise_on_status=False)
    if reply.status_code in _NO_SUCH_ENDPOINT:
        return None
    return list(verify_rest_response(reply, _ENDPOINT).json()["metrics"])
