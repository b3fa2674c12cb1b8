"""Code named by import path (networks, losses, penalties): whether it can be had, and hashes of it for the keys."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from study.canonical import digest
from study.problems import FieldPath, Problems, SpecError, dotted

IMPORT_RULE = "an import path is written package.module:name"


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """An import path of a study file, at ``path``: of ``kind`` networks, loss or penalty."""

    name: str
    kind: str
    path: FieldPath


def is_import_path(name: object) -> bool:
    """Whether ``name`` is written ``package.module:name``."""
    return isinstance(name, str) and ":" in name


def is_well_formed(name: str) -> bool:
    """Whether an import path is a dotted module, a colon and the name of an object in it."""
    module, _, found = name.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), found))


def short_name(name: str) -> str:
    """The object's own name of an import path; a registry name as it is."""
    return name.rpartition(":")[2]


def named_code(raw: Mapping[str, object]) -> list[UserCode]:
    """Every import path of a study file as written, networks first; faults elsewhere in the file do not matter."""
    networks, scientific = (
        part if isinstance(part := raw.get(key), Mapping) else {} for key in ("networks", "scientific")
    )
    found = [("networks", ("networks", "name"), networks.get("name")), *_named_in_losses(scientific.get("loss"))]
    return [UserCode(name=str(name), kind=kind, path=path) for kind, path, name in found if is_import_path(name)]


def _named_in_losses(written: object) -> Iterator[tuple[str, FieldPath, object]]:
    top: FieldPath = ("scientific", "loss")
    paths = [((*top, i), entry) for i, entry in enumerate(written)] if isinstance(written, list) else [(top, written)]
    for path, entry in paths:
        if isinstance(entry, Mapping):
            yield "loss", (*path, "name"), entry.get("name")
            yield "penalty", (*path, "penalty"), entry.get("penalty")
        else:
            yield "loss", path, entry


def check_importable(code: UserCode, *, folder: Path | None, problems: Problems) -> None:
    """Imports ``code`` with the study file's ``folder`` on sys.path; notes where it is not what its field needs.

    The folder stays on sys.path, as it does in the workers: a factory may import its neighbours when it is called.
    """
    if not is_well_formed(code.name):
        problems.add(code.path, IMPORT_RULE, code.name)
        return
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    module, _, name = code.name.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's module may fail in any way while it is imported
        where = f" with {folder} on the path" if folder is not None else ""
        problems.add(code.path, f"cannot be imported{where}: {type(error).__name__}: {error}", code.name)
        return
    if code.kind != "networks":
        _check_kind(code, problems)
    elif not callable(found):
        problems.add(code.path, "must name a function that returns (generator, discriminator)", code.name)


def _check_kind(code: UserCode, problems: Problems) -> None:
    """Notes where a loss or penalty is none; this loads torch, as the user's module had to."""
    from trainers.losses import find_loss
    from trainers.penalties import find_penalty

    try:
        find_loss(code.name) if code.kind == "loss" else find_penalty(code.name)
    except ValueError as error:
        problems.add(code.path, str(error))


def code_of(*, networks: object, adversarial_loss: str, penalty: str, folder: Path | None) -> str:
    """The hash that joins a configuration's key: of the code that it runs itself; empty for registered parts."""
    entry = {"name": adversarial_loss, "penalty": penalty}
    sources = user_sources({"networks": {"name": networks}, "scientific": {"loss": entry}}, folder=folder)
    return code_hash(sources) if sources else ""


def user_sources(raw: Mapping[str, object], *, folder: Path | None) -> dict[str, str]:
    """File -> hash of all code that a study names by import path, looked for in ``folder`` too; empty for none.

    Files of the first module or package are named from its own folder, those of every other from above it.
    """
    sources: dict[str, str] = {}
    roots: dict[str, UserCode] = {}
    for code in named_code(raw):
        roots.setdefault(_root(code.name), code)
    for root, code in roots.items():
        prefix = f"{root}/" if sources else ""
        found = source_hashes(code.name, folder=folder, field=dotted(code.path))
        sources |= {prefix + file: content for file, content in found.items()}
    return sources


def _root(name: str) -> str:
    """The top-level module or package of an import path."""
    return name.partition(":")[0].partition(".")[0]


def source_hashes(name: str, *, folder: Path | None, field: str = "networks.name") -> dict[str, str]:
    """File -> 16 hex digits of its content, for the module that ``name`` lives in or all of its top-level package.

    Found as an import would find it with ``folder`` at the end of sys.path, and not imported: a study is resumed and
    read without running anybody's code. Raises SpecError naming ``field`` when there is no such module.
    """
    sources = _source_files(name, folder=folder, field=field)
    return {file: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for file, path in sorted(sources.items())}


def code_files(raw: Mapping[str, object], *, folder: Path) -> list[Path]:
    """Every file of the code that a study names by import path, looked for in ``folder`` too; none twice."""
    found = [
        path
        for code in named_code(raw)
        for path in _source_files(code.name, folder=folder, field=dotted(code.path)).values()
    ]
    return list(dict.fromkeys(path.absolute() for path in found))


def _source_files(name: str, *, folder: Path | None, field: str) -> dict[str, Path]:
    root = _root(name)
    importlib.invalidate_caches()
    found = PathFinder.find_spec(root, [*sys.path, *([str(folder)] if folder is not None else [])])
    packages = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    sources = {path.relative_to(place).as_posix(): path for place in packages for path in place.rglob("*.py")}
    if found and found.origin and not packages:
        sources = {Path(found.origin).name: Path(found.origin)}
    if not sources:
        where = f" in {folder}" if folder is not None else ""
        raise SpecError([f"{field}: there is no Python module {root!r}{where} (got {name})"])
    return sources


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What happened to the files of the user's own code, in words."""
    names = sorted({*before, *now})
    what = {name: "added" if name not in before else "removed" if name not in now else "changed" for name in names}
    return [f"your own code: {name} {what[name]}" for name in names if before.get(name) != now.get(name)]


def code_hash(sources: Mapping[str, str]) -> str:
    """One hash of the ``source_hashes``, which joins the configuration key."""
    return digest(sources, length=16)
