"""Networks named by import path: whether they can be had, and a hash of their code for the configuration key."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

from study.problems import FieldPath, Problems


def is_import_path(name: object) -> bool:
    """Whether ``name`` is written ``package.module:function``."""
    return isinstance(name, str) and ":" in name


def check_importable(name: str, *, folder: Path | None, path: FieldPath, problems: Problems) -> None:
    """Imports the factory ``name`` with the study file's ``folder`` on sys.path; notes it when that fails.

    The folder stays on sys.path, as it does in the workers: the factory may import its neighbours when it is called.
    """
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        problems.add(path, "an import path is written package.module:function", name)
        return
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    try:
        factory = getattr(importlib.import_module(module), function)
    except Exception as error:  # the user's module may fail in any way while it is imported
        where = f" with {folder} on the path" if folder is not None else ""
        problems.add(path, f"cannot be imported{where}: {type(error).__name__}: {error}", name)
        return
    if not callable(factory):
        problems.add(path, "must name a function that returns (generator, discriminator)", name)


def code_hash(name: str) -> str:
    """16 hex digits over the source that ``name`` lives in: its module, or every module of its top-level package.

    Raises ImportError when the module cannot be imported.
    """
    module = importlib.import_module(name.partition(":")[0])
    root = importlib.import_module(module.__name__.partition(".")[0])
    whole_package = [Path(place) for place in getattr(root, "__path__", [])]
    sources = {path.relative_to(folder).as_posix(): path for folder in whole_package for path in folder.rglob("*.py")}
    if not sources and module.__file__:
        sources = {Path(module.__file__).name: Path(module.__file__)}
    hashed = hashlib.sha256()
    for relative, path in sorted(sources.items()):
        hashed.update(relative.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:16]
