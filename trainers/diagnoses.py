"""The optional groups of measurements that look at the players themselves."""

from __future__ import annotations

from torch import Tensor

from trainers.cadence import groups_due
from trainers.cohort import Cohort
from trainers.duality import duality_gap
from trainers.game_jacobian import jacobian_eigenvalues
from trainers.rotation import rotations
from trainers.spectra import singular_values


def diagnose(cohort: Cohort, reals: Tensor, *, index: int) -> dict[str, Tensor]:
    """The due measurements of both players of every member, padding included: name -> [R] float64.

    Not finite where there is nothing to tell: no diagnosis ends a member. ``reals`` [n, d] are held out.
    """
    due = groups_due(cohort.program, index)
    found: dict[str, Tensor] = {}
    if "duality_gap" in due:
        found["duality_gap"] = duality_gap(cohort, reals, index=index)
    if "singular_values" in due:
        found |= singular_values(generator=cohort.generator, discriminator=cohort.discriminator)
    if "rotation" in due:
        players = {"generator": cohort.generator.flat, "discriminator": cohort.discriminator.flat}
        found |= rotations(cohort.memory, players=players, index=index)
    if "game_jacobian" in due:
        found |= jacobian_eigenvalues(cohort)
    return found
