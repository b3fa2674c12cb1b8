"""Studies on a cluster: the doorway to Ray's Jobs API. A submitted study runs as ``ganstudy run`` on the head."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shlex
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import BadInput, WorkFailed
from study.ray_doorway import STUDY

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

HOME = "ganstudy.home"
PROBE_S = 10.0
ANSWER_S = 60.0
_LOOK_EVERY_S = 0.5
_PYTHON = "python -m study"
_OWN_HOME = '"${GANSTUDY_HOME:-$HOME/ganstudy}"'
"""Where studies live on a cluster that was not told: for the shell on the head. A job's own folder ends with it."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One study handed to a cluster; ids are used once: study and number."""

    study: str
    submission_id: str
    status: str
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether its driver is gone."""
        return self.status in _ENDED


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command printed on the cluster, and how it ended."""

    exit_code: int
    text: str

    def json(self) -> dict[str, Any]:
        """The one JSON object of a ``--json`` command; WorkFailed shows what was said where there is none."""
        lines = self.text.splitlines()
        try:
            first = lines.index("{")
            found = json.loads("\n".join(lines[first : lines.index("}", first) + 1]))
        except ValueError as problem:
            raise WorkFailed(f"the cluster's answer is not understood: {self.last_line}") from problem
        return dict(found)

    @property
    def last_line(self) -> str:
        """The last thing that was said, for messages."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else "nothing was said"


class Cluster:
    """A cluster's job server, and the home of its studies there ("": the head's $GANSTUDY_HOME, else ~/ganstudy).

    Creating it raises WorkFailed, within ``PROBE_S``, where the server cannot be used.
    """

    def __init__(self, address: str, *, home: str = "") -> None:
        self.address, self.home = _checked(address), home
        _probe(self.address)
        self._client = _client(self.address)

    def submissions(self, study: str) -> list[Submission]:
        """What was submitted of a study to this home, oldest first."""
        return [_submission(job) for job in self._jobs(study) if (job.metadata or {}).get(HOME) == self.home]

    def running(self, study: str) -> Submission | None:
        """The submission that runs a study, or is about to; None where nobody does."""
        return next((one for one in self.submissions(study) if not one.ended), None)

    def submit(self, study: str, arguments: Sequence[str], *, files: Mapping[str, Path]) -> Submission:
        """Starts ``ganstudy`` with these arguments on the head; ``files``: name -> what is uploaded beside it.

        Raises WorkFailed where the study is being run already.
        """
        if running := self.running(study):
            raise WorkFailed(
                f"study {study!r} is being run by submission {running.submission_id} at {self.address}; "
                f"watch it with `ganstudy status {study} --address {self.address}`, or stop it first"
            )
        numbers = [_number(job.submission_id, study) for job in self._jobs(study)]
        name = f"{study}-{max(numbers, default=0) + 1}"
        with _uploaded(files) as folder:
            self._start(name, arguments, metadata={STUDY: study, HOME: self.home}, folder=folder)
        return Submission(study=study, submission_id=name, status="PENDING")

    def ask(self, arguments: Sequence[str], *, patience_s: float = ANSWER_S) -> Answer:
        """Runs a short ``ganstudy`` command on the head, where the studies' home is; WorkFailed without an answer."""
        name = f"ask-{secrets.token_hex(6)}"
        with _uploaded({}) as folder:
            self._start(name, arguments, metadata={}, folder=folder)
        deadline = time.monotonic() + patience_s
        with _readable(self.address):
            while not (job := _submission(self._client.get_job_info(name))).ended:
                if time.monotonic() > deadline:
                    self._client.stop_job(name)
                    raise WorkFailed(f"no answer from {self.address} within {patience_s:g} s: is the head overloaded?")
                time.sleep(_LOOK_EVERY_S)
            text = self._client.get_job_logs(name)
            self._client.delete_job(name)
        if job.exit_code is None:
            raise WorkFailed(f"the command could not be started at {self.address}: {_last(text)}")
        return Answer(exit_code=job.exit_code, text=text)

    def follow(self, submission: Submission) -> Iterator[str]:
        """What a submission prints, as it is printed, until it ends."""
        seen = 0
        while True:
            with _readable(self.address):
                ended = self._look(submission.submission_id).ended  # first, so that nothing said at the end is missed
                text = self._client.get_job_logs(submission.submission_id)
            if text[seen:]:
                yield text[seen:]
            seen = len(text)
            if ended:
                return
            time.sleep(_LOOK_EVERY_S)

    def ended(self, submission: Submission) -> Submission:
        """How a submission stands now."""
        with _readable(self.address):
            return self._look(submission.submission_id)

    def kill(self, submission: Submission) -> None:
        """The Jobs API's own stop, a last resort: it ends the driver after 3 s, whatever that is doing."""
        with _readable(self.address):
            self._client.stop_job(submission.submission_id)

    def _jobs(self, study: str) -> list[JobDetails]:
        with _readable(self.address):
            jobs = self._client.list_jobs()
        found = [job for job in jobs if job.submission_id and (job.metadata or {}).get(STUDY) == study]
        return sorted(found, key=lambda job: _number(job.submission_id, study))

    def _look(self, submission_id: str) -> Submission:
        return _submission(self._client.get_job_info(submission_id))

    @property
    def _home_there(self) -> str:
        """For the shell on the head."""
        return shlex.quote(self.home) if self.home else _OWN_HOME

    def _start(self, name: str, arguments: Sequence[str], *, metadata: dict[str, str], folder: Path) -> None:
        with _readable(self.address):
            self._client.submit_job(
                entrypoint=f"{_PYTHON} {shlex.join(arguments)} --home {self._home_there}",
                submission_id=name,
                runtime_env={"working_dir": str(folder)},
                metadata=metadata,
            )


def _checked(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise BadInput(f"--address: must be a job server, as http://127.0.0.1:8265 (got {address!r})")
    return address.rstrip("/")


def _probe(address: str) -> None:
    """A request with a bound of its own: Ray's client waits without end for a server that swallows packets."""
    request = urllib.request.Request(f"{address}/api/version", headers=_headers())  # noqa: S310  (checked: http)
    try:
        with urllib.request.urlopen(request, timeout=PROBE_S) as reply:  # noqa: S310
            theirs = str(json.load(reply)["ray_version"])
    except urllib.error.HTTPError as problem:
        raise WorkFailed(_refusal(address, problem.code)) from problem
    except (OSError, ValueError, KeyError, TypeError) as problem:
        reason = getattr(problem, "reason", None) or problem
        raise WorkFailed(
            f"no Ray job server answers at {address} ({reason}); is the way to the head open "
            "(`ray dashboard ray_cluster.yaml` keeps it open), and does the head have ray[default]?"
        ) from problem
    ours = version("ray")
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        raise WorkFailed(
            f"Ray {theirs} runs at {address} and Ray {ours} here: install ray=={theirs} here, or bring the cluster "
            "to the versions of constraints.txt"
        )


def _refusal(address: str, code: int) -> str:
    if code == 401:
        return f"{address} asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that holds it"
    if code == 403:
        return f"{address} refuses this token (RAY_AUTH_TOKEN, else RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token)"
    return f"{address} answers with HTTP status {code}; is it a Ray job server?"


def _headers() -> dict[str, str]:
    token = _token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str:
    """The token that Ray itself would send."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise BadInput(f"RAY_AUTH_MODE is token, but {path} cannot be read: {problem.strerror}") from problem


def _client(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they tell of every package they pack
    with _readable(address):
        return JobSubmissionClient(address)


@contextlib.contextmanager
def _readable(address: str) -> Iterator[None]:
    """Raises WorkFailed with one line where Ray's client would end a command with a traceback."""
    try:
        yield
    except (BadInput, WorkFailed):
        raise
    except (RuntimeError, OSError, ValueError) as problem:
        raise WorkFailed(f"the job server at {address}: {_last(str(problem))}") from problem


@contextlib.contextmanager
def _uploaded(files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder of copies for the upload; Ray packs a folder by its content, so that equal ones travel once."""
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as folder:
        for name, source in files.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        yield Path(folder)


def _number(submission_id: str | None, study: str) -> int:
    rest = (submission_id or "").removeprefix(f"{study}-")
    return int(rest) if rest.isdigit() else 0


def _submission(job: JobDetails) -> Submission:
    return Submission(
        study=str((job.metadata or {}).get(STUDY, "")),
        submission_id=str(job.submission_id),
        status=str(getattr(job.status, "value", job.status)),
        exit_code=job.driver_exit_code,
    )


def _last(text: str) -> str:
    """The last line that says something, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"
