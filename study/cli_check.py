"""``ganstudy losses --check``: does a loss or penalty of the user's own keep the rules that the built-in ones keep?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from study.errors import BadInput, suggestion
from trainers.catalogue import LOSSES, PENALTIES

if TYPE_CHECKING:
    from trainers.losses import AdversarialLoss
    from trainers.penalties import Penalty


def check_entry(name: str, console: Console) -> bool:
    """Prints the rules that the loss or penalty ``name`` breaks, and says whether it keeps them all.

    ``name`` is ``module:name``, found with the current folder on the path, or a registry name. Raises BadInput when
    it is neither, cannot be imported, or names something else.
    """
    from trainers.conformance import check_loss, check_penalty
    from trainers.losses import AdversarialLoss

    found = _found(name)
    if isinstance(found, AdversarialLoss):
        kind, problems = "loss", check_loss(found)
    else:
        kind, problems = "penalty", check_penalty(found)
    if not problems:
        console.print(f"{name} conforms: a {kind} that keeps every rule", soft_wrap=True, markup=False)
        return True
    rules = "a rule" if len(problems) == 1 else f"{len(problems)} rules"
    console.print(f"{name} breaks {rules} of a {kind}:", soft_wrap=True, markup=False)
    for problem in problems:
        console.print(f"  - {problem}", soft_wrap=True, markup=False)
    return False


def _found(name: str) -> AdversarialLoss | Penalty:
    from trainers import losses, penalties
    from trainers.imported import described, import_object

    if name in LOSSES:
        return losses.LOSSES[name]
    if name in PENALTIES:
        return penalties.PENALTIES[name]
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        nearest = suggestion(name, [*LOSSES, *PENALTIES])
        raise BadInput(f"--check takes module:name, or the name of a registered loss or penalty, got {name!r}{nearest}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_object(name, field="--check")
    except ValueError as problem:
        raise BadInput(f"{problem}; looked in {here} too") from problem
    except Exception as problem:  # the user's module may fail in any way while it is imported
        raise BadInput(f"--check {name}: importing it raised {type(problem).__name__}: {problem}") from problem
    if not isinstance(found, losses.AdversarialLoss | penalties.Penalty):
        raise BadInput(
            f"--check must name a trainers.losses.AdversarialLoss or a trainers.penalties.Penalty, {name} is "
            f"{described(found)}"
        )
    return found
