"""Networks named by import path: whether they can be had, and a hash of their code for the configuration key."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path

from study.canonical import digest
from study.problems import FieldPath, Problems, SpecError


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


def source_hashes(name: str, *, folder: Path | None) -> dict[str, str]:
    """File -> 16 hex digits of its content, for the module that ``name`` lives in or all of its top-level package.

    Found as an import would find it with ``folder`` at the end of sys.path, and not imported: a study is resumed and
    read without running anybody's code. Raises SpecError when there is no such module.
    """
    root = name.partition(":")[0].partition(".")[0]
    importlib.invalidate_caches()
    found = PathFinder.find_spec(root, [*sys.path, *([str(folder)] if folder is not None else [])])
    packages = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    sources = {path.relative_to(place).as_posix(): path for place in packages for path in place.rglob("*.py")}
    if found and found.origin and not packages:
        sources = {Path(found.origin).name: Path(found.origin)}
    if not sources:
        where = f" in {folder}" if folder is not None else ""
        raise SpecError([f"networks.name: there is no Python module {root!r}{where} (got {name})"])
    return {file: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for file, path in sorted(sources.items())}


def code_hash(sources: Mapping[str, str]) -> str:
    """One hash of the ``source_hashes``, which joins the configuration key."""
    return digest(sources, length=16)
