"""What the precision of matrix products asks of a study's networks and resources, before anything starts."""

from __future__ import annotations

from study.design import Design
from study.errors import BadInput
from study.problems import Problems
from study.sections import Resources
from trainers.catalogue import BFLOAT16, FLOAT32, TF32
from trainers.catalogue_dirac import NAME as DIRAC


def check_precision(design: Design, resources: Resources, problems: Problems) -> None:
    """Notes a precision that what the study names cannot have, and would leave at float32 without a word."""
    asked = [name for name in design.precisions if name != FLOAT32]
    home = next((home for home in ("scientific", "nuisance") if "precision" in getattr(design, home)), "fixed")
    path = (home, "precision")
    if asked and design.networks["name"] == DIRAC:
        problems.add(path, "must be float32 for the networks dirac, which multiply no matrices", asked[0])
    if TF32 in asked and resources.device == "cpu":
        problems.add(path, "tf32 needs a GPU, and resources.device is cpu; write float32 or bfloat16", TF32)
    if BFLOAT16 in asked and resources.kernels == "native":
        problems.add(path, "must not reach bfloat16 with resources.kernels native, which know float32 alone", BFLOAT16)


def require_precise_replay(precision: str, *, device: str) -> None:
    """BadInput where a replay on ``device`` cannot have the precision that the replicate was trained in."""
    if precision == TF32 and device != "cuda":
        raise BadInput("--device: this replicate was trained with precision tf32, which needs a GPU; add --device cuda")
