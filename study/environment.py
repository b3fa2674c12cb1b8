"""What a cohort was trained with: code, libraries and machine class, so that none of it can pass for the loss."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ENVIRONMENT_TAG = "ganstudy.environment"
MAX_TAG_CHARACTERS = 5000

Environment = Mapping[str, str]
"""code, device, processor, python, threads, torch, and kernels where they are compiled: everything that may change a
number; never a host or a time."""


def environment(device: str) -> Environment:
    """The facts of this process, which trains on ``device`` (cpu, cuda, ...).

    ``code`` is a digest of the source files that train: unlike a commit it is there without git and sees local changes.
    """
    import torch

    from trainers import native

    # compiled kernels are asked for; where they are not, an environment reads as it did before there were any
    kernels = {"kernels": native.label()} if native.label() != "torch" else {}
    return kernels | {
        "code": code_digest(),
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(torch.device(device)),
        "processor": processor(),
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def code_digest() -> str:
    """Sixteen hex digits of the source files of ``trainers``, by name and content."""
    import trainers

    digest = hashlib.sha256()
    folder = Path(str(trainers.__file__)).parent
    for path in sorted([*folder.glob("*.py"), *folder.glob("*.[ch]")]):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def processor() -> str:
    """The processor's model where the system names it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def joined(earlier: Sequence[Environment], *more: Environment) -> tuple[Environment, ...]:
    """Every distinct environment once, in the order of first use."""
    distinct = {json.dumps(dict(one), sort_keys=True): one for one in (*earlier, *more)}
    return tuple(distinct.values())


def environment_tags(found: Iterable[Sequence[Environment]]) -> dict[str, str]:
    """The tag of a configuration run: the distinct environments of its cohorts as JSON; none where none is known."""
    known = joined([one for environments in found for one in environments])
    text = json.dumps(sorted((dict(one) for one in known), key=str), sort_keys=True)
    return {ENVIRONMENT_TAG: text} if known and len(text) <= MAX_TAG_CHARACTERS else {}
