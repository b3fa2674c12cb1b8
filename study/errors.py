"""The two ways a command may fail, and the exit code each means (standard library only)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):  # noqa: N818
    """What the user gave cannot be used as it is: exit code 2."""


class WorkFailed(RuntimeError):  # noqa: N818
    """The input was fine and the work could not be done (locked, unreachable, failed): exit code 1."""


def suggestion(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest of ``names``, or nothing when none is near."""
    nearest = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""
