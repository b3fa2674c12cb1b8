"""The doorway to MLflow for writing: explicit runs only, looked up before they are created, nothing non-finite."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from study.errors import WorkFailed
from study.mlflow_bulk import Histories
from study.mlflow_rows import log_points

if TYPE_CHECKING:
    from mlflow.entities import Run

    from study.summary import Point

PARENT_RUN = "mlflow.parentRunId"
MAX_PARAMS, MAX_PARAM_CHARACTERS = 100, 6000
_PAGE = 1000

_OUR_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own 7 block a call for minutes; we retry ourselves
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar per file, between our own lines
    "GIT_PYTHON_REFRESH": "quiet",
}


def set_client_defaults() -> None:
    """Sets what the client reads from the environment, where the user has not."""
    for name, value in _OUR_DEFAULTS.items():
        os.environ.setdefault(name, value)


def sqlite_uri(home: Path) -> str:
    """Tracking URI of the database that a study home keeps when no server is named."""
    return f"sqlite:///{home.absolute()}/mlflow.db"


def readable_uri(tracking_uri: str) -> str:
    """The URI without user name and password, for messages."""
    parts = urlsplit(tracking_uri)
    if "@" not in parts.netloc:
        return tracking_uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


_SQLITE = "sqlite:///"


@contextlib.contextmanager
def _alone_with(tracking_uri: str) -> Iterator[None]:
    """Keeps two processes from making the tables of one new database at once, which leaves both with half of them."""
    if not tracking_uri.startswith(_SQLITE):
        yield
        return
    database = Path(tracking_uri.removeprefix(_SQLITE).partition("?")[0])
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f".{database.name}.lock").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""So that the UI opens a study on its training runs and charts, not on the pages for language models."""


class MlflowStore:
    """One tracking server or database, seen through MlflowClient: no fluent API, no active run, no autologging."""

    def __init__(self, tracking_uri: str) -> None:
        set_client_defaults()
        self.uri = tracking_uri
        with self.readable_failures(), _alone_with(tracking_uri):
            from mlflow.tracking import MlflowClient

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            self._client = MlflowClient(tracking_uri)
            if tracking_uri.startswith(_SQLITE):
                self._client.search_experiments(max_results=1)  # makes the tables, where there are none

    @contextlib.contextmanager
    def readable_failures(self) -> Iterator[None]:
        """Raises WorkFailed with one line where MLflow would end a command with a traceback."""
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, CommandError, OSError, ImportError) as problem:
            reason = first_line(problem, self.uri)
            raise WorkFailed(f"MLflow at {readable_uri(self.uri)} cannot be used: {reason}") from problem

    def experiment(self, name: str, *, artifact_location: str | None) -> str:
        """Id of the experiment, created if there is none; safe when two processes create it at once.

        Raises WorkFailed when it is deleted (its name stays taken) or MLflow cannot be reached.
        """
        from mlflow.exceptions import MlflowException

        with self.readable_failures():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                try:
                    created = self._client.create_experiment(
                        name, artifact_location=artifact_location, tags=_EXPERIMENT_TAGS
                    )
                    return str(created)
                except MlflowException as problem:
                    if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}" if found else "restore it"
            raise WorkFailed(
                f"MLflow experiment {name!r} is deleted at {readable_uri(self.uri)}; bring it back with `{restore}`"
            )
        return str(found.experiment_id)

    def known_experiment(self, name: str) -> str:
        """Id of an experiment that must be there; WorkFailed when it is not."""
        found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise WorkFailed(f"MLflow at {readable_uri(self.uri)} has no experiment {name!r}")
        return str(found.experiment_id)

    def studies(self) -> list[str]:
        """Names of the experiments that hold a study."""
        with self.readable_failures():
            return sorted(
                entry.name
                for entry in self._client.search_experiments()
                if self._client.search_runs([entry.experiment_id], "tags.`ganstudy.kind` = 'study'", max_results=1)
            )

    def find(self, experiment: str, tags: Mapping[str, str], *, status: str | None = None) -> list[Run]:
        """Active runs that carry all ``tags``, oldest first."""
        terms = [f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items()]
        terms += [f"attributes.status = '{status}'"] if status else []
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], " and ".join(terms), max_results=_PAGE, order_by=["start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def find_or_create(
        self,
        experiment: str,
        identity: Mapping[str, str],
        *,
        tags: Mapping[str, str],
        name: str,
        began: Callable[[], int],
    ) -> Run:
        """The one run that carries ``identity``; when there is none, created with ``tags`` as well.

        ``began`` gives the start time of a new run in milliseconds.
        """
        if found := self.find(experiment, identity):
            return self._only(found)
        created = self._client.create_run(
            experiment,
            start_time=began(),
            run_name=name,
            tags={**identity, **tags, "mlflow.user": _user(), "mlflow.source.name": "ganstudy"},
        )
        # the client repeats a creation whose reply was lost: look what is there now
        return self._only(self.find(experiment, identity) or [created])

    def _only(self, runs: list[Run]) -> Run:
        for surplus in runs[1:]:
            self._client.delete_run(surplus.info.run_id)
        return runs[0]

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags, overwriting."""
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()], synchronous=True)

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Logs params; MLflow refuses another value for one that is there. Overlong values say what they lost."""
        from mlflow.entities import Param

        entries = [Param(key, _clipped(str(value))) for key, value in params.items()]
        for start in range(0, len(entries), MAX_PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS], synchronous=True)

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Logs whole points; an exact repetition adds nothing. Raises ValueError for a non-finite number."""
        log_points(self._client, run_id, points)

    def logged_steps(self, run_id: str, metric: str) -> set[int]:
        """Steps at which a metric has a value."""
        return {entry.step for entry in self._client.get_metric_history(run_id, metric)}

    def histories(self, run_ids: Sequence[str]) -> Histories:
        """Every row of the runs' metrics, doubled ones too."""
        return Histories(self._client, run_ids)

    def download(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of the run's artifacts, fetched into ``folder``; None where there is none."""
        parent = name.rpartition("/")[0] or None
        if not any(entry.path == name for entry in self._client.list_artifacts(run_id, parent)):
            return None
        return Path(self._client.download_artifacts(run_id, name, str(folder)))

    def upload(self, run_id: str, path: Path, *, to: str | None = None) -> None:
        """Uploads a file, or what a folder holds, to the run's artifacts: to their root, or to the folder ``to``."""
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), to)
        else:
            self._client.log_artifact(run_id, str(path), to)

    def read_text(self, run_id: str, name: str) -> str | None:
        """A text file among the run's artifacts; None where there is none."""
        with tempfile.TemporaryDirectory(prefix="ganstudy-") as scratch:
            found = self.download(run_id, name, Path(scratch))
            return None if found is None else found.read_text(encoding="utf-8", errors="replace")

    def remove(self, run: Run, name: str) -> None:
        """Removes a file from the run's artifacts; one that is not there is no error."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(run.info.artifact_uri, tracking_uri=self.uri).delete_artifacts(name)

    def upload_text(self, run_id: str, name: str, text: str) -> None:
        """Uploads a text file."""
        self._client.log_text(run_id, text, name)

    def reopen(self, run: Run) -> None:
        """Makes a run RUNNING."""
        if run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")

    def end(self, run: Run, status: str, *, end_ms: int | None = None) -> None:
        """Gives a run its final status: FINISHED, FAILED or KILLED; it never ends before it began."""
        end_ms = max(end_ms or now_ms(), run.info.start_time)
        self._client.set_terminated(run.info.run_id, status=status, end_time=end_ms)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def first_line(problem: BaseException, tracking_uri: str) -> str:
    """The first line of an error, without the credentials a URI may carry, at most 300 characters."""
    lines = (str(problem).strip() or type(problem).__name__).splitlines()
    told = [
        line for line in lines if not line.startswith("(raised as a result of")
    ]  # SQLAlchemy puts it before the why
    text = (told or lines)[0]
    return text.replace(tracking_uri, readable_uri(tracking_uri))[:300]


def _clipped(text: str) -> str:
    if len(text) <= MAX_PARAM_CHARACTERS:
        return text
    note = f"... [{len(text)} characters, cut]"
    return text[: MAX_PARAM_CHARACTERS - len(note)] + note


def _quoted(value: str) -> str:
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise ValueError(f"a tag value must not hold both kinds of quotes, got {value!r}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return "unknown"
