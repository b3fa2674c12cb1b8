"""Numbers, names and lists as the report writes them: plain text that is safe to show anywhere."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MINUS, DASH = "\u2212", "\u2013"
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(text: object, *, limit: int = 28) -> str:
    """Text on one line that is safe to show: control and direction-changing characters spelled out, long text cut."""
    safe = "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) in _UNSAFE_CATEGORIES else character
        for character in " ".join(str(text).splitlines()).replace("\t", " ")
    )
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def rate_text(value: float) -> str:
    """A learning rate as people write it: 1e-4, 4.6e-4, 1e-2, 0.1."""
    if not math.isfinite(value):
        return "all"
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def number_text(value: Any) -> str:
    """A factor's or criterion's value: whole numbers without a point, other numbers short, text as it is."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return shown(value)
    number = float(value)
    if not math.isfinite(number):
        return DASH
    if number.is_integer() and abs(number) < 1e6:
        return str(int(number))
    return f"{number:.3g}" if 0.001 <= abs(number) < 1000 else rate_text(number)


def percent(share: float) -> str:
    """A share in whole per cent; never 0 or 100 for one that is neither, a dash for an unknown one."""
    if math.isnan(share):
        return DASH
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 < share < 1 else f"{100 * share:.0f} %"


def percent_range(low: float, high: float) -> str:
    """An interval of a share: 57 to 78 %."""
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    if math.isnan(value):
        return DASH
    text = f"{100 * value:+.0f}"
    return "0" if text in ("+0", "-0") else text.replace("-", MINUS)


def p_text(value: float) -> str:
    """A p value with two digits, never zero."""
    if math.isnan(value):
        return DASH
    return "<.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def short_verdict(pair: Mapping[Any, Any], *, limit: int = 18) -> str:
    """The verdict on a pair without the loser, for places that name both: hinge more stable."""
    kind, winner = str(pair["verdict_kind"]), str(pair["winner"])
    if winner and kind.startswith(("more", "materially")):
        return f"{shown(winner, limit=limit)} {kind}"
    return f"{kind}: {shown(winner, limit=limit)}" if winner else kind


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def did_you_mean(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``, did you mean 'x'?`` for the nearest of ``names``, nothing where none is near."""
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=cutoff)
    return f", did you mean {close[0]!r}?" if close else ""


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one: sections of a study file may be absent."""
    return value if isinstance(value, Mapping) else {}
