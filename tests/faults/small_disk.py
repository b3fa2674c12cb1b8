"""A disk of a few megabytes that only its own processes see: it fills up and gets room again."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

READY = "mounted"


class SmallDisk:
    """A tmpfs in a mount namespace of its own. ``path``: how the tests see it; ``inside``: how its processes do."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.inside = folder / "disk"
        self.inside.mkdir()
        self._holder = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
                f'mount -t tmpfs -o size={megabytes}m tmpfs "$1" && echo {READY} && exec cat',
                *("sh", str(self.inside)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        self.mounted = self._holder.stdout.readline().strip() == READY
        self.path = Path(f"/proc/{self._holder.pid}/root{self.inside}")

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._holder.kill()
        self._holder.communicate()

    @property
    def prefix(self) -> tuple[str, ...]:
        """Goes before the command that is to see the disk."""
        return ("nsenter", "--preserve-credentials", "-U", "-m", "-t", str(self._holder.pid), "--")

    def fill(self) -> None:
        """Nothing more can be written."""
        descriptor = os.open(self.path / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = 1 << 20
            while size:
                try:
                    os.write(descriptor, bytes(size))
                except OSError as problem:
                    if problem.errno != errno.ENOSPC:
                        raise
                    size //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """There is room again."""
        (self.path / "filler").unlink()

    def copy_to(self, target: Path) -> None:
        """What the disk holds, for later: it ends with its processes."""
        shutil.copytree(self.path, target, symlinks=True)
