"""Update rotation: the angle between what a player moved over this evaluation interval and over the one before."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def rotation_memory(*, members: int, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """What it remembers: each player's parameters at the last evaluation and its last move, [members, size]."""
    return {
        f"rotation.{player}.{what}": torch.zeros(members, size)
        for player, size in sizes.items()
        for what in _REMEMBERED
    }


_REMEMBERED = ("parameters", "move")


def rotations(memory: Mapping[str, Tensor], *, players: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """``<player>_rotation`` in degrees, [R] float64, from flat parameters [R, P]; remembers them in ``memory``.

    0 is straight on, 90 a turn, 180 the way back. NaN before the second interval has ended (``index`` < 2) and where
    a player stood still. Each evaluation ``index`` must come once and in order.
    """
    angles = {}
    for player, parameters in players.items():
        before, last_move = (memory[f"rotation.{player}.{what}"] for what in _REMEMBERED)
        move = parameters.detach() - before
        angle = angle_between(last_move, move)
        angles[f"{player}_rotation"] = angle if index >= 2 else torch.full_like(angle, torch.nan)
        last_move.copy_(move)
        before.copy_(parameters)
    return angles


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between rows of a and b, both [R, P]: [R] float64; NaN where one is zero or not finite.

    2 atan2(|u - v|, |u + v|) of the unit vectors: the arc cosine of a product has no digits left near 0 and 180.
    """
    u, v = (vector.double() / torch.linalg.vector_norm(vector.double(), dim=1, keepdim=True) for vector in (a, b))
    apart, along = torch.linalg.vector_norm(u - v, dim=1), torch.linalg.vector_norm(u + v, dim=1)
    # one by one: a vector instruction and the scalar one at a tensor's end round differently, by place in the cohort
    turned = [2 * math.atan2(x, y) for x, y in zip(apart.tolist(), along.tolist(), strict=True)]
    return torch.rad2deg(torch.tensor(turned, dtype=torch.float64, device=a.device))
