"""Makes deploy/lock/*.txt: every package of a cluster's machines at its pinned version, with the digests of its files.

    make lock        (needs uv: https://docs.astral.sh/uv, and the package index)

Two files, because torch comes in builds: what PyPI serves for Linux brings CUDA and some twenty packages of NVIDIA's;
builds for the CPU alone lie on an index of torch's own, which this project does not read.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMON, CUDA = ROOT / "deploy/lock/common.txt", ROOT / "deploy/lock/torch-cuda.txt"
_OF_CUDA = re.compile(r"torch|triton|nvidia-.+|cuda-.+")
_HEAD = """\
# {what}
# CPython 3.11, Linux x86_64. Made by `make lock` from pyproject.toml and constraints.txt; not to be edited.
"""


def blocks(text: str) -> dict[str, str]:
    """Package -> its lines: ``name==version`` and one digest for each file of that version."""
    found = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {block.partition("==")[0].strip().lower(): block for block in found if "==" in block}


def compiled(uv: str) -> str:
    """What ``uv pip compile`` resolves for a cluster's machines, wheels only."""
    command = [uv, "pip", "compile", "pyproject.toml", "--extra", "cluster", "--extra", "server"]
    command += ["--constraint", "constraints.txt", "--generate-hashes", "--only-binary", ":all:"]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-config", "--strip-extras"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout


def main() -> None:
    """Writes both files."""
    [uv] = sys.argv[1:]
    found = blocks(compiled(uv))
    for path, what, of_cuda in (
        (COMMON, "Everything but torch.", False),
        (CUDA, "torch as the package index serves it for Linux, with CUDA.", True),
    ):
        chosen = [block for name, block in found.items() if bool(_OF_CUDA.fullmatch(name)) == of_cuda]
        path.write_text(_HEAD.format(what=what) + "".join(chosen), encoding="utf-8")


if __name__ == "__main__":
    main()
