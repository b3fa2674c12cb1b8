"""The names of the studies that a tracking server or database holds, for ``list``."""

from __future__ import annotations

from pathlib import Path

from study.errors import BadInput


def recorded_studies(tracking_uri: str) -> list[str]:
    """Experiments with a study run, by name. Raises WorkFailed for a store that cannot be reached.

    A database file that is not there is bad input: opening it would create it.
    """
    file = tracking_uri.removeprefix("sqlite:///").partition("?")[0]
    if tracking_uri.startswith("sqlite:///") and not Path(file).is_file():
        raise BadInput(f"{file} does not exist")
    from study.mlflow_client import MlflowStore

    store = MlflowStore(tracking_uri)
    with store.readable_failures():
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri)
        return sorted(
            entry.name
            for entry in client.search_experiments()
            if client.search_runs([entry.experiment_id], "tags.`ganstudy.kind` = 'study'", max_results=1)
        )
