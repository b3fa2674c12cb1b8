"""Commands on a cluster's job server: submit; and status, stop and resume of what was submitted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from study.cli_options import OFFLINE, SET, SPEC, TRACKING_URI, err, existing, out, print_json
from study.errors import BadInput, WorkFailed
from study.folder import home_folder, study_names
from study.submissions import Handed, recall, remember

if TYPE_CHECKING:
    from study.cluster import Cluster, Submission
    from study.spec import StudySpec

SPEC_NAME = "study.yaml"
STOP_PATIENCE_S = 90.0
_EXIT_CODES = {"SUCCEEDED": 0, "STOPPED": 130}

JOBS = Annotated[
    str | None,
    typer.Option(metavar="http://HEAD:8265", help="The cluster's job server.", show_default=False),
]
CLUSTER_HOME = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where studies live on the cluster: shared storage. Default: the head's $GANSTUDY_HOME, else ~/ganstudy.",
        show_default=False,
    ),
]
FOLLOW = Annotated[bool, typer.Option("--follow", help="Show what it prints until it ends; Ctrl-C leaves it running.")]


def submit(
    spec: SPEC,
    address: JOBS = None,
    home: CLUSTER_HOME = None,
    tracking_uri: TRACKING_URI = None,
    overrides: SET = None,
    follow: FOLLOW = False,
    offline: OFFLINE = False,
) -> None:
    """Run a study as a Ray job on a cluster, or go on with it there; the laptop may close."""
    existing(spec)
    from study.data_files import require_absolute
    from study.spec import StudySpec

    checked = StudySpec.from_file(spec, overrides=overrides or [], read_data=False)
    require_absolute(checked.target)
    before = recall(checked.study)
    where = Handed(
        study=checked.study,
        address=address or (before.address if before else _missing("--address: name the job server of the cluster")),
        home=_shared(home, before),
    )
    arguments = ["run", SPEC_NAME, *_told(tracking_uri, offline=offline)]
    arguments += [word for override in overrides or [] for word in ("--set", override)]
    files = {SPEC_NAME: spec, **dict(_own_code(checked, spec.parent))}
    _start(where, arguments, files, follow=follow)


def resume_there(study: str, where: Handed, *, tracking_uri: str | None, offline: bool) -> None:
    """`resume` on the cluster; code of the user's own must be submitted again, with its study file."""
    _start(where, ["resume", study, *_told(tracking_uri, offline=offline)], {}, follow=False)


def extend_there(study: str, where: Handed, asked: list[str], *, tracking_uri: str | None, offline: bool) -> None:
    """`extend` on the cluster; ``asked`` are its own options."""
    _start(where, ["extend", study, *asked, *_told(tracking_uri, offline=offline)], {}, follow=False)


def status_there(study: str, where: Handed, *, as_json: bool) -> None:
    """`status` of a study whose home is on the cluster, with the submission that runs it."""
    from study.status import StudyStatus, print_status

    cluster = _cluster(where)
    submitted = cluster.submissions(study)
    latest = submitted[-1] if submitted else None
    answer = cluster.ask(["status", study, "--json"])
    if answer.exit_code:
        if latest is not None and not latest.ended:  # its driver has not written anything yet
            out().print(f"{study}: submission {latest.submission_id} is {latest.status.lower()}", soft_wrap=True)
            return
        _fail(answer.exit_code, answer.last_line)
    found = answer.json()
    submission = {"submission_id": latest.submission_id, "status": latest.status} if latest else None
    if as_json:
        print_json({**found, "address": where.address, "submission": submission})
        return
    print_status(StudyStatus(**found), out(), address=where.address)
    if latest is not None:
        out().print(f"submission: {latest.submission_id} {latest.status} at {where.address}", soft_wrap=True)


def stop_there(study: str, where: Handed) -> None:
    """`stop` on the cluster: the stop file first; the Jobs API's stop, which kills, only where that has no effect."""
    cluster = _cluster(where)
    err().print(f"asking {study} at {where.address} to stop", soft_wrap=True)
    answer = cluster.ask(["stop", study], patience_s=STOP_PATIENCE_S)
    running = cluster.running(study)
    if answer.exit_code == 2:
        _fail(2, answer.last_line)
    if answer.exit_code and running is not None:
        err().print(f"{answer.last_line}; ending {running.submission_id} the hard way", soft_wrap=True)
        cluster.kill(running)
    out().print(answer.last_line, soft_wrap=True, markup=False)


def place_of(study: str | None, *, address: str | None, home: Path | None) -> Handed | None:
    """Where a command on a study goes: a job server (named, or remembered from `submit`), or None for this machine.

    What a local home is named for, or a study that lies under it, is local, unless a job server is named.
    """
    named = address is not None and address.startswith(("http://", "https://"))
    if study is None or (address is not None and not named):
        return None
    before = recall(study)
    if named:
        return Handed(study=study, address=str(address), home=_shared(home, before))
    return None if home is not None or study in study_names(home_folder()) else before


def _told(tracking_uri: str | None, *, offline: bool) -> list[str]:
    """Options of the command on the head. Whoever holds the token can read them: a password is refused."""
    from study.mlflow_client import readable_uri

    if tracking_uri and readable_uri(tracking_uri) != tracking_uri:
        _missing(
            "--tracking-uri: holds a user or password, and a submission can be read by everybody on the cluster; put "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into the head's environment"
        )
    uri = ["--tracking-uri", tracking_uri] if tracking_uri else []
    return ["--address", "auto", *uri, *(["--offline"] if offline else [])]


def _start(where: Handed, arguments: list[str], files: dict[str, Path], *, follow: bool) -> None:
    cluster = _cluster(where)
    submission = cluster.submit(where.study, arguments, files=files)
    remember(where)
    name = where.study
    out().print(f"submitted {submission.submission_id} to {where.address}", soft_wrap=True)
    if not follow:
        out().print(f"watch it with `ganstudy status {name}`, stop it with `ganstudy stop {name}`", soft_wrap=True)
        return
    _follow(cluster, submission)


def _follow(cluster: Cluster, submission: Submission) -> NoReturn:
    try:
        for text in cluster.follow(submission):
            out().print(text, end="", soft_wrap=True, markup=False)
    except KeyboardInterrupt:
        err().print(f"\n{submission.submission_id} goes on; `ganstudy status {submission.study}` shows it")
        raise typer.Exit(0) from None
    ended = cluster.ended(submission)
    code = ended.exit_code if ended.exit_code is not None else _EXIT_CODES.get(ended.status, 1)
    err().print(f"{submission.submission_id}: {ended.status.lower()}", soft_wrap=True)
    raise typer.Exit(code)


def _cluster(where: Handed) -> Cluster:
    from study.cluster import Cluster

    return Cluster(where.address, home=where.home)


def _shared(home: Path | None, before: Handed | None) -> str:
    """The home on the cluster, an absolute path there; "" leaves it to the head."""
    text = str(home) if home is not None else before.home if before else ""
    if text and not PurePosixPath(text).is_absolute():
        _missing(f"--home: must be an absolute path on storage that all of the cluster's machines share (got {text!r})")
    return text


def _own_code(spec: StudySpec, folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules and packages beside the study file that it names by import path: name in the upload -> file."""
    from study.user_code import code_files

    for path in code_files(spec.operative, folder=folder):
        try:
            yield path.relative_to(folder).as_posix(), path
        except ValueError:  # installed somewhere: it must be installed on the cluster, too
            err().print(f"{path} is not beside the study file and is not uploaded", soft_wrap=True, markup=False)


def _missing(text: str) -> NoReturn:
    raise BadInput(text)


def _fail(code: int, text: str) -> NoReturn:
    if code == 2:
        raise BadInput(text)
    raise WorkFailed(text)
