"""Canonical JSON and its hashes: what makes two configurations, targets or studies the same (standard library only)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

SIGNIFICANT_DIGITS = 12
"""Floats that agree to this many digits are the same value of a factor."""


def rounded(value: object) -> object:
    """Plain data with every float rounded to SIGNIFICANT_DIGITS; -0.0 becomes 0.0."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") + 0.0
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def digest(value: object, *, length: int) -> str:
    """The first ``length`` hex digits of the sha256 of the canonical JSON: sorted keys, rounded floats, no NaN."""
    text = json.dumps(rounded(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:length]
