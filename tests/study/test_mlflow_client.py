from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tracked import (
    T0,
    TrackedStudy,
)

from study.errors import WorkFailed
from study.mlflow_client import MAX_PARAM_CHARACTERS, MlflowStore, readable_uri


def test_a_deleted_experiment_is_refused_with_the_way_back(study: TrackedStudy) -> None:
    tracker = study.tracker()
    tracker.open(launch="L1")
    store = MlflowStore(study.uri)
    experiment = store.experiment(study.plan.study, artifact_location=None)
    store._client.delete_experiment(experiment)
    with pytest.raises(WorkFailed, match=rf"'ring-test' is deleted .*restore --experiment-id {experiment}"):
        study.tracker().open(launch="L1")


def test_an_unreachable_server_is_one_line_without_credentials(study: TrackedStudy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(WorkFailed, match="cannot be used") as caught:
            study.tracker(uri=uri, artifacts=False).open(launch="L1")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert readable_uri("https://a:b@host:1/x") == "https://host:1/x"


@pytest.mark.parametrize("name", ["not-a-database", "no-folder"])
def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("hello " * 1000)
    path = tmp_path / "file" if name == "not-a-database" else tmp_path / "file" / "below" / "mlflow.db"
    with pytest.raises(WorkFailed, match=r"MLflow at sqlite:///.* cannot be used: .+") as caught:
        MlflowStore(f"sqlite:///{path}").experiment("a", artifact_location=None)
    assert "\n" not in str(caught.value)


def test_an_experiment_created_by_another_process_at_the_same_moment_is_used(
    study: TrackedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    store = MlflowStore(study.uri)
    created = store.experiment("raced", artifact_location=None)
    real, calls = MlflowClient.get_experiment_by_name, []

    def late(self: object, name: str) -> object:
        calls.append(name)
        return None if len(calls) == 1 else real(self, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    assert store.experiment("raced", artifact_location=None) == created


def test_tag_values_with_quotes_find_their_run_and_no_other(study: TrackedStudy) -> None:
    store = MlflowStore(study.uri)
    experiment = store.experiment("quotes", artifact_location=None)
    for text in ("it's", 'a "b"', "x' or tags.a != 'x"):
        run = store.find_or_create(experiment, {"a": text}, tags={}, name="n", began=lambda: T0)
        assert [found.info.run_id for found in store.find(experiment, {"a": text})] == [run.info.run_id]
    with pytest.raises(ValueError, match="both kinds of quotes"):
        store.find(experiment, {"a": "'\""})


def test_overlong_params_say_what_they_lost_and_many_go_in_batches(study: TrackedStudy) -> None:
    store = MlflowStore(study.uri)
    run = store.find_or_create(
        store.experiment("long", artifact_location=None), {"a": "b"}, tags={}, name="n", began=lambda: T0
    )
    store.log_params(run.info.run_id, {f"p{place}": place for place in range(250)} | {"long": "x" * 7000})
    params = store._client.get_run(run.info.run_id).data.params
    assert len(params) == 251
    assert len(params["long"]) == MAX_PARAM_CHARACTERS
    assert params["long"].endswith("[7000 characters, cut]")


def test_nothing_is_printed(study: TrackedStudy, tmp_path: Path) -> None:
    """In a process of its own, with a database that is yet to be made: no migrations' log, no git, no run links."""
    script = f"""
from study.mlflow_client import MlflowStore
MlflowStore("sqlite:///{tmp_path}/new/mlflow.db").experiment("a", artifact_location=None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")
