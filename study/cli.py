"""ganstudy: the command line. The one file of ``study`` that may import ``analysis``, inside its commands."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from study import cli_compare, cli_replay, cli_study, cli_tools
from study.cli_options import HOME, JSON, STUDY, TRACKING_URI, err, existing, out, print_json
from study.errors import BadInput, WorkFailed
from study.folder import StudyFolder, find_study, home_folder, study_names

if TYPE_CHECKING:
    import pandas as pd

    from analysis.frames import StudyFrames
    from analysis.replay import Played
    from analysis.report import Report
    from study.replay import Replay

BLOCKED = 3
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_MAKE_ROOM = "what was written before is whole: put it right and give the same command again"

app = typer.Typer(
    name="ganstudy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    """Which GAN loss keeps training stable, over which learning rates and which k, and how sure are we?"""
    if debug:
        os.environ["GANSTUDY_DEBUG"] = "1"


cli_tools.register_init(app)
cli_study.register(app)


@app.command()
def report(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="A study's name.")] = None,
    runs: Annotated[Path | None, typer.Option(metavar="FILE", help="A table of runs made elsewhere.")] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Default: report/ in the study.", show_default=False)
    ] = None,
    criteria: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge by other outcome thresholds: a file of `key: value`, or a study file with a criteria section.",
            show_default=False,
        ),
    ] = None,
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
    as_json: JSON = False,
) -> None:
    """The loss-stability report, also into MLflow; exit code 3 when its evidence is blocked by a warning."""
    if (study is None) == (runs is None):
        raise BadInput("report needs either a STUDY or --runs FILE")
    if runs is not None and criteria is not None:
        raise BadInput("--criteria needs the measurements of a STUDY; a table of runs holds only outcomes")
    if runs is not None:
        frames, default = _table(existing(runs)), runs.with_name(f"{runs.stem}-report")
    else:
        frames = _frames(str(study), home=home, tracking_uri=tracking_uri, criteria=criteria)
        default = StudyFolder(home_folder(home), frames.study).report
    from analysis.files import OutputError
    from analysis.report import build_report

    try:
        made = build_report(frames, out=out_folder or default)
    except OutputError as problem:
        raise BadInput(f"--{problem}") from problem  # it begins with the name of the argument, out
    told = None if runs is not None else _tell_mlflow(frames, made, home=home, uri=tracking_uri, own=criteria is None)
    if as_json:
        facts = {"study": frames.study, "folder": str(made.folder), "headline": made.headline, "blocked": made.blocked}
        print_json({**facts, "mlflow_run": told})
    else:
        out().print(made.headline, soft_wrap=True, markup=False)
        out().print(f"report: {Path(made.folder) / 'report.html'}", soft_wrap=True, markup=False)
    raise typer.Exit(BLOCKED if made.blocked else 0)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name.")],
    second: Annotated[str, typer.Argument(metavar="STUDY", help="Another's: what changed from the first to it?")],
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: compare-FIRST/ in the second study.", show_default=False),
    ] = None,
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
    as_json: JSON = False,
) -> None:
    """Two studies against each other, loss by loss: another target, changed code, more steps."""
    cli_compare.require_two(first, second)
    pair = [_frames(study, home=home, tracking_uri=tracking_uri, criteria=None) for study in (first, second)]
    from analysis.compare_page import summary, terminal_rows, write_comparison
    from analysis.compare_studies import ComparisonError, compare_studies
    from analysis.files import OutputError

    differing = cli_compare.spec_differences(pair[0].spec, pair[1].spec)
    differing += cli_compare.version_differences(first, second, home=home_folder(home))
    try:
        found = compare_studies(pair[0], pair[1])
        default = StudyFolder(home_folder(home), second).root / f"compare-{first}"
        page = write_comparison(found, differences=differing, out=out_folder or default)
    except ComparisonError as problem:
        raise BadInput(str(problem)) from problem
    except OutputError as problem:
        raise BadInput(f"--{problem}") from problem
    if as_json:
        print_json({**summary(found, differences=differing), "folder": str(page.parent)})
        return
    out().print(found.headline, soft_wrap=True, markup=False)
    facts = {"what differs": differing, "how the grids differ": found.grids, "note": found.remarks}
    cli_compare.print_comparison(terminal_rows(found), facts, out())
    out().print(f"comparison: {page}", soft_wrap=True, markup=False)


@app.command()
def replay(
    study: STUDY,
    configuration: Annotated[
        str, typer.Option(metavar="KEY", help="A configuration_key of the report, or the beginning of one.")
    ],
    replicate: Annotated[int, typer.Option(metavar="N", min=0, help="The replicate's number.")],
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: replays/KEY-N/ in the study.", show_default=False),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, max=600, help="How often its samples are looked at.")] = 60,
    device: Annotated[str, typer.Option(help="cpu or cuda; only cpu gives the recorded bits.")] = "cpu",
    home: HOME = None,
    tracking_uri: TRACKING_URI = None,
) -> None:
    """Train one replicate again, alone: its samples as a film, and where it leaves the record."""
    chosen = cli_replay.choose(study, key=configuration, replicate=replicate, home=home)
    from analysis.files import OutputError, refuse_foreign
    from analysis.replay import write_replay

    out_here = out_folder or chosen.out
    try:
        refuse_foreign(out_here)  # now, not when it has trained
        record, source = _record(chosen, tracking_uri=tracking_uri)
        trained, own_judge = cli_replay.train(chosen, frames=frames, device=device, console=err())
        played = _played(chosen, trained, record=record, source=source, own_judge=own_judge)
        made = write_replay(played, out=out_here)
    except OutputError as problem:
        raise BadInput(f"--{problem}") from problem
    out().print(f"{made.title}", soft_wrap=True, markup=False)
    out().print(made.verdict, soft_wrap=True, markup=False, style="" if made.identical else "yellow")
    out().print(f"replay: {made.folder / 'replay.html'}", soft_wrap=True, markup=False)


cli_tools.register_rest(app)


def _record(chosen: cli_replay.Choice, *, tracking_uri: str | None) -> tuple[pd.DataFrame, str]:
    """What is recorded of a replicate, and where: in MLflow, or in its cohort's checkpoint until MLflow has it."""
    import pandas as pd

    from analysis.load import load_replicate

    key = chosen.configuration.configuration_key
    try:
        rows = load_replicate(
            chosen.spec.study, key, chosen.replicate, home=chosen.folder.home, tracking_uri=tracking_uri
        )
    except Exception as problem:  # a server that is away does not keep anybody from training again
        if tracking_uri is not None:
            raise BadInput(f"--tracking-uri: {problem}") from problem
        err().print(f"MLflow cannot be read ({problem}): compared with the checkpoint", soft_wrap=True, markup=False)
        rows = pd.DataFrame()
    if len(rows):
        return rows, "MLflow"
    kept = cli_replay.checkpointed_rows(chosen)
    return (pd.DataFrame(), "") if kept is None or not len(kept) else (kept.to_pandas(), "checkpoint")


def _played(
    chosen: cli_replay.Choice, trained: Replay, *, record: pd.DataFrame, source: str, own_judge: bool
) -> Played:
    """A replay as the analysis takes it."""
    import numpy as np

    from analysis.replay import Played
    from analysis.replay_pictures import Stage

    scene = trained.scene
    landscapes = [frame.landscape for frame in trained.frames if frame.landscape is not None]
    return Played(
        study=chosen.spec.study,
        configuration=chosen.planned,
        replicate=chosen.replicate,
        rows=trained.rows.to_pandas(),
        record=record,
        source=source,
        steps=tuple(frame.generator_step for frame in trained.frames),
        samples=np.stack([frame.samples for frame in trained.frames]),
        landscapes=np.stack(landscapes) if landscapes else None,
        stage=Stage(
            sample_shape=scene.sample_shape,
            real=scene.real,
            centres=scene.centres,
            middle=scene.middle,
            reach=scene.reach,
        ),
        criteria=chosen.spec.criteria,
        reference=trained.reference,
        may_prune=chosen.spec.scheduler.name != "none",
        own_judge=own_judge,
        recorded_with=chosen.recorded_with,
        replayed_with=cli_replay.versions(),
        command=chosen.command,
    )


def _frames(study: str, *, home: Path | None, tracking_uri: str | None, criteria: Path | None) -> StudyFrames:
    """What is recorded of a study, here or on a tracking server; a dead owner's runs are reconciled first."""
    from study.spec import criteria_from_file

    judged_by = criteria_from_file(existing(criteria)) if criteria is not None else None
    from analysis.load import load_study

    base = home_folder(home)
    if study in study_names(base):
        cli_study.reconcile_if_died(StudyFolder(base, study), tracking_uri=tracking_uri)
    elif tracking_uri is None:
        find_study(study, home=base)  # says which study is near
    try:
        return load_study(study, home=base, tracking_uri=tracking_uri, criteria=judged_by)
    except LookupError as problem:
        if isinstance(problem, KeyError | IndexError):  # a bug, not an unknown study
            raise
        raise BadInput(str(problem)) from problem


def _tell_mlflow(frames: StudyFrames, made: Report, *, home: Path | None, uri: str | None, own: bool) -> str | None:
    """Sends the report to where its study was read from; None, after one line that says why, where nothing was sent."""
    from analysis.load import store_uri
    from study.publishing import Findings, publish

    if not own:
        err().print("judged by other criteria: MLflow keeps the report by the study's own", soft_wrap=True)
        return None
    losses, cells = (made.tables[name].to_dict("records") for name in ("losses", "cells"))
    findings = Findings(
        study=frames.study,
        headline=made.headline,
        blocked=made.blocked,
        interim=frames.interim,
        losses=losses,
        cells=cells,
    )
    try:
        where = store_uri(frames.study, home=home_folder(home), tracking_uri=uri)
        return publish(findings, report=Path(made.folder), tracking_uri=where)
    except WorkFailed as problem:
        err().print(f"the report is written, but not sent to MLflow: {problem}", soft_wrap=True, markup=False)
        return None


def _table(path: Path) -> StudyFrames:
    """A table of runs made elsewhere."""
    from analysis.table import TableError, load_runs

    try:
        return load_runs(path)
    except TableError as problem:
        raise BadInput(str(problem)) from problem


def main() -> NoReturn:
    """The console entry: every exception becomes an exit code and one readable message."""
    atexit.register(gc.freeze)  # what libraries made ends with the process: to look through it all takes a second
    try:
        app()
    except BadInput as problem:
        _complain(str(problem))
        sys.exit(2)
    except WorkFailed as problem:
        _complain(str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in _STORAGE:
            _complain(f"{problem.filename or 'the storage'} cannot be written: {problem.strerror}; {_MAKE_ROOM}")
        else:
            _internal_error(problem)
        sys.exit(1)
    sys.exit(0)


def _complain(message: str) -> None:
    for line in message.splitlines():
        err().print(line, soft_wrap=True, markup=False, style="red")


def _internal_error(problem: Exception) -> None:
    """One line; the traceback goes to a file, or to stderr under GANSTUDY_DEBUG."""
    text = "".join(traceback.format_exception(problem))
    summary = f"internal error: {type(problem).__name__}: {problem}".splitlines()[0]
    if os.environ.get("GANSTUDY_DEBUG"):
        _complain(text + summary)
        return
    log = home_folder() / "ganstudy-error.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as trouble:
        _complain(f"{summary} ({log} cannot be written: {trouble})")
        return
    _complain(f"{summary} (details: {log}, or `ganstudy --debug ...`)")
