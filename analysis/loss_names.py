"""Where the page of each loss lies: file names that are safe whatever the label, and addresses of its cells."""

from __future__ import annotations

import hashlib
import re

FOLDER = "losses"
LONGEST = 40
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?")
_HASHED = re.compile(r".*-[0-9a-f]{8}")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def loss_slug(label: str) -> str:
    """A file's stem for a label: itself where it is plain, else what is plain of it and eight digits of its SHA-256.

    Lower-case ASCII, at most 49 characters, no device name of Windows; distinct labels have distinct ones, and a
    label's never depends on the other labels.
    """
    plain = len(label) <= LONGEST and _PLAIN.fullmatch(label) and ".." not in label
    if plain and not _HASHED.fullmatch(label) and not _DEVICES.fullmatch(label):
        return label
    kept = re.sub(r"[^a-z0-9]+", "-", label.lower().encode("ascii", "ignore").decode()).strip("-")[:LONGEST].strip("-")
    return f"{kept or 'loss'}-{hashlib.sha256(label.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def page_address(label: str, cell: int | None = None) -> str:
    """The page of a loss as seen from report.html; with ``cell``, a row of the phase diagrams' table, its block."""
    return f"{FOLDER}/{loss_slug(label)}.html" + ("" if cell is None else f"#cell-{cell}")
