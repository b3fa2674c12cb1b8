"""The values of a table of runs made elsewhere: text, whole or any number by column, or what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.frames import CONFIRM, IDENTITY_COLUMNS
from analysis.wording import did_you_mean, shown
from study.outcomes import OUTCOMES
from trainers.catalogue import FACTORS

MAX_DIGITS = 400
"""Python refuses to read whole numbers of some thousand digits; none here has so many."""

TEXTS: frozenset[str] = IDENTITY_COLUMNS | {"outcome", "kind", "optimizer", "updates", "precision"}
WHOLE: frozenset[str] = frozenset({"k", "replicate", "seed", "batch_size"})


def is_absent(value: object) -> bool:
    """Whether a cell is empty, in either format of file."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def told(value: object) -> str:
    """A wrong value for a message: quoted, no control characters, never long."""
    return shown(repr(value), limit=80)


def converter(name: str) -> Callable[[object], object]:
    """What types a value of the column ``name``; it raises ValueError with the rule and what was got instead."""
    if name == "outcome":
        return _outcome
    if name == "phase":
        return _phase
    if name in TEXTS:
        return lambda value: "" if is_absent(value) else str(value)
    if name in WHOLE:
        return lambda value: None if is_absent(value) else _allowed(name, _whole(value))
    return lambda value: math.nan if is_absent(value) else _allowed(name, _number(value))


def _outcome(value: object) -> str:
    if is_absent(value) or value in OUTCOMES:
        return str(value or "")
    rule = f"must be one of {', '.join(OUTCOMES)}"
    raise ValueError(f"{rule}, got {told(value)}{did_you_mean(str(value)[:80].lower(), OUTCOMES)}")


def _phase(value: object) -> str:
    if is_absent(value) or value == CONFIRM:
        return str(value or "") if not isinstance(value, float) else ""
    raise ValueError(f"must be empty or {CONFIRM!r} (fresh replicates of a selected setting), got {told(value)}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a number, got {told(value)}")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number, got {told(value)}") from None


def _whole(value: object) -> int:
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value) < MAX_DIGITS:
        found = int(value)  # a seed has more digits than a float holds
    elif isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        number = _number(value)
        if not number.is_integer():
            raise ValueError(f"must be a whole number, got {told(value)}")
        found = int(number)
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"must be a whole number of at most 64 bits, got {told(value)}")
    return found


def _allowed(name: str, number: float) -> float:
    rule = FACTORS.get(name)
    if rule is not None and not rule.allows(number):
        raise ValueError(f"must be {rule.rule}, got {number:g}")
    if name == "replicate" and number < 0:
        raise ValueError(f"must be a whole number >= 0, got {number:g}")
    return number
