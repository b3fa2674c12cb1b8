"""``ganstudy audit``: is nothing of a study lost or doubled, is every status true, is nothing left behind?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.audit_rules import INVARIANTS, Violation
from study.folder import StudyFolder, lock_holder
from study.tally import read_plan

if TYPE_CHECKING:
    from study.plan import Plan

__all__ = ["INVARIANTS", "Audit", "Violation", "audit"]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found. ``checked``: what was counted -> how many; ``running``: whether the study is being run."""

    study: str
    running: bool
    checked: Mapping[str, int]
    violations: tuple[Violation, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values, for ``--json``."""
        return {
            "study": self.study,
            "running": self.running,
            "checked": dict(self.checked),
            "violations": [violation.to_json() for violation in self.violations],
        }


def audit(folder: StudyFolder, *, tracking_uri: str | None = None, mlflow: bool = True) -> Audit:
    """Holds a begun study to INVARIANTS, on disk and in MLflow; reads every checkpoint whole, unpickles nothing.

    While the study runs only what must hold at any moment is asked. ``mlflow=False`` looks at the files alone.
    Raises WorkFailed when the plan is damaged or MLflow cannot be reached.
    """
    plan = read_plan(folder)
    holder = lock_holder(folder)
    running = holder is not None and holder.alive
    checked: dict[str, int] = {}
    violations = list(_violations(folder, plan, running, checked, tracking_uri=tracking_uri, mlflow=mlflow))
    return Audit(study=folder.study, running=running, checked=checked, violations=tuple(violations))


def _violations(
    folder: StudyFolder,
    plan: Plan,
    running: bool,
    checked: dict[str, int],
    *,
    tracking_uri: str | None,
    mlflow: bool,
) -> Iterator[Violation]:
    from study.audit_files import FileAudit

    files = FileAudit(folder, plan, running=running, checked=checked)
    yield from files.violations()
    if mlflow:
        from study.audit_mlflow import StoreAudit
        from study.delivery import recorded_store
        from study.launches import ran_offline
        from study.reference import read_references
        from study.spec import StudySpec

        launches, uri = recorded_store(folder, tracking_uri=tracking_uri)
        if ran_offline(folder):
            text = "the last attempt ran offline: `ganstudy sync` sends its results"
            yield Violation(invariant="I1", subject=f"launch {launches[max(launches)]}", text=text)
            return
        criteria = StudySpec.from_file(folder.spec_file, import_code=False).criteria
        for number, launch in launches.items():
            store = StoreAudit(
                plan.of_launch(number),
                files.cohorts,
                launch=launch,
                tracking_uri=uri,
                running=running,
                checked=checked,
                criteria=criteria,
                references=read_references(folder),
            )
            yield from store.violations()
