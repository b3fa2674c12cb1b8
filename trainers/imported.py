"""What a user names by import path, ``package.module:name``: the one place that imports it."""

from __future__ import annotations

import importlib


def import_object(path: str, *, field: str) -> object:
    """The object that ``path`` names; ValueError naming ``field`` and the reason when it cannot be had."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field} must be importable as module:name, got {path!r} ({error})") from error


def described(found: object) -> str:
    """What an object is, for messages: ``a function``, ``a class``, ``a dict``."""
    kind = "class" if isinstance(found, type) else type(found).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
