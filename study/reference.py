"""The yardsticks of a study, made before the first trial: one judge per target, and reference.json."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from study.data_files import DATA
from study.folder import StudyFolder, read_json, write_json
from trainers.measurement import JUDGE_SCHEMA

if TYPE_CHECKING:
    from study.plan import Configuration, Plan
    from trainers.evaluation import Judge


def prepare_references(folder: StudyFolder, plan: Plan) -> None:
    """Writes what is missing of judges/ and reference.json; values once written are never estimated again.

    A judge whose bytes changed is rebuilt: a flipped byte in its tensors would bend every measurement, silently. So is
    one of another schema; it measures what it did before, and more.
    """
    written = read_references(folder)
    targets = {entry.target_id: entry for entry in plan.configurations}
    for target_id, configuration in targets.items():
        if target_id in written and _intact(folder.judge_file(target_id)):
            continue
        measured = _build(folder.judge_file(target_id), configuration)
        written.setdefault(target_id, measured)
    write_json(folder.reference_file, {"schema": 1, "targets": written})


def read_references(folder: StudyFolder) -> dict[str, Mapping[str, object]]:
    """Target id -> reference numbers; empty before they were made."""
    if not folder.reference_file.exists():
        return {}
    targets = read_json(folder.reference_file).get("targets", {})
    return dict(targets) if isinstance(targets, dict) else {}


def load_judge(folder: StudyFolder, configuration: Configuration, *, device: str) -> tuple[Judge, bool]:
    """The judge of a configuration's target, and whether it is the study's own: built anew, aside, where that is lost.

    A new one is equal with the same libraries and processor; elsewhere the last bits of its classifier may differ.
    """
    from trainers.evaluation import Judge

    kept = folder.judge_file(configuration.target_id)
    if _intact(kept):
        return Judge.load(kept, device=device), True
    with tempfile.TemporaryDirectory(prefix="ganstudy-") as aside:
        path = Path(aside) / kept.name
        _build(path, configuration)
        return Judge.load(path, device=device), False


def _build(path: Path, configuration: Configuration) -> Mapping[str, object]:
    from trainers.evaluation import build_judge
    from trainers.targets import build_target

    samples = configuration.budget["evaluation_samples"]
    target, groups = build_target(configuration.target), configuration.measurements
    judge = build_judge(target, evaluation_samples=int(samples), groups=groups)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}-{secrets.token_hex(4)}.tmp")
    judge.save(temporary)
    digest = _digest(temporary)
    temporary.replace(path)
    write_json(_digest_file(path), {"sha256": digest, "schema": JUDGE_SCHEMA})
    data = configuration.target.get(DATA)  # of files that a user brings: which they were
    return {**judge.reference, **({DATA: data} if data else {})}


def _intact(path: Path) -> bool:
    if not (path.exists() and _digest_file(path).exists()):
        return False
    return read_json(_digest_file(path)) == {"sha256": _digest(path), "schema": JUDGE_SCHEMA}


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
