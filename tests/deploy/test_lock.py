"""The lock names every package of a cluster's machines at the version that is pinned and tested, each with digests."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy/lock"
DIGEST = re.compile(r"--hash=sha256:[0-9a-f]{64}")
EXTRAS = ("cluster", "server")


def locked(file: str) -> dict[str, Version]:
    """Package -> version; AssertionError where a line is anything but a pin with digests."""
    found: dict[str, Version] = {}
    entries = re.sub(r"\s*\\\n\s*", " ", (LOCK / file).read_text())
    for line in entries.splitlines():
        if line.startswith("#"):
            continue
        pin, *digests = line.split(" ")
        assert digests, f"{pin} has no digest"
        assert all(map(DIGEST.fullmatch, digests)), line
        requirement = Requirement(pin)
        [specifier] = requirement.specifier
        assert specifier.operator == "==", pin
        assert requirement.url is None, pin
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def needed() -> set[str]:
    """What is installed here because the project asks for it, or something that it asks for does."""
    found: set[str] = set()
    ahead = [(Requirement("ganstudy"), extra) for extra in ("", *EXTRAS)]
    seen: set[tuple[str, str]] = set()
    while ahead:
        requirement, extra = ahead.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            texts = requires(name) or []
        except PackageNotFoundError:  # CUDA's packages, with a torch that was built without
            assert name.startswith(("nvidia-", "cuda-", "triton")), name
            continue
        found.add(name)
        below = [Requirement(text) for text in texts]
        wanted = [one for one in below if one.marker is None or one.marker.evaluate({"extra": extra})]
        ahead += [(one, more) for one in wanted for more in ("", *one.extras)]
    return found - {"ganstudy"}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}


def test_every_installed_dependency_is_locked_at_the_version_that_is_installed_and_pinned() -> None:
    lock = locked("common.txt") | locked("torch-cuda.txt")
    missing = needed() - lock.keys()
    assert not missing
    installed = {name: Version(Version(version(name)).public) for name in needed()}  # 2.13.0+cpu is a build of 2.13.0
    assert {name: lock[name] for name in installed} == installed
    pins = pinned()
    assert {name: lock[name] for name in lock.keys() & pins.keys()} == {name: pins[name] for name in lock.keys() & pins}


def test_torch_and_what_only_its_cuda_needs_is_in_a_file_of_its_own() -> None:
    common, cuda = locked("common.txt"), locked("torch-cuda.txt")
    assert "torch" in cuda
    assert not common.keys() & cuda.keys()
    assert not [name for name in common if name.startswith(("nvidia", "cuda", "torch", "triton"))]
    assert not cuda.keys() & (needed() - {"torch"})


@pytest.mark.parametrize("file", ["common.txt", "torch-cuda.txt"])
def test_the_lock_names_no_index_and_no_file(file: str) -> None:
    text = (LOCK / file).read_text()
    assert not re.search(r"https?:|file:|@|--(extra-)?index-url|--find-links|--trusted-host", text)
