"""The manifest of a checkpoint: facts and the SHA-256 of every file, sealed so that it vouches for itself too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from study.errors import WorkFailed

SCHEMA = 1
MANIFEST = "manifest.json"


class DamagedError(Exception):
    """A checkpoint whose bytes are not those that were written; the text says which file."""


def manifest_bytes(facts: Mapping[str, object], files: Mapping[str, bytes]) -> bytes:
    """The one spelling of a manifest: ``facts``, schema, size and digest of ``files``, and a digest of all that."""
    body = {**facts, "schema": SCHEMA, "files": {name: _fingerprint(data) for name, data in files.items()}}
    return _canonical({**body, "sha256": _sha256(_canonical(body))})


def parse_manifest(data: bytes) -> dict[str, Any]:
    """The facts and ``files`` of a manifest, accepted only in exactly the bytes that ``manifest_bytes`` makes.

    Raises DamagedError for anything else, WorkFailed for a genuine one of another schema: that is not damage, and
    training again from the start would throw away good work.
    """
    try:
        manifest = json.loads(data)
        body = {key: value for key, value in manifest.items() if key != "sha256"}
        genuine = _canonical(manifest) == data and manifest["sha256"] == _sha256(_canonical(body))
    except (ValueError, KeyError, AttributeError, RecursionError):
        genuine = False
    if not genuine:
        raise DamagedError(f"{MANIFEST} is not what was written")
    if body["schema"] != SCHEMA:
        raise WorkFailed(f"checkpoint schema {body['schema']} was written by another version; this one reads {SCHEMA}")
    return body


def check_file(manifest: Mapping[str, Any], name: str, data: bytes) -> None:
    """Raises DamagedError unless ``data`` is what the manifest says of file ``name``."""
    if manifest["files"].get(name) != _fingerprint(data):
        raise DamagedError(f"{name} ({len(data)} bytes) is not what was written")


def _canonical(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _fingerprint(data: bytes) -> dict[str, object]:
    return {"bytes": len(data), "sha256": _sha256(data)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
