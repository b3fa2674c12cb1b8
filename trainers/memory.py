"""What measurements remember from one evaluation to the next: tensors that a cohort keeps and its checkpoints hold."""

from __future__ import annotations

from torch import Tensor

from trainers.rotation import rotation_memory


def memory_tensors(
    measurements: tuple[str, ...], *, members: int, generator_size: int, discriminator_size: int
) -> dict[str, Tensor]:
    """Name -> zeros [members, ...] for the optional groups in ``measurements``, as before the first evaluation.

    The sizes are those of one member's flat parameters. A group without memory has no entry.
    """
    if "rotation" not in measurements:
        return {}
    return rotation_memory(members=members, sizes={"generator": generator_size, "discriminator": discriminator_size})
