"""How far the first sentences carry: under other criteria, and in parts of the search space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.cautions_records import Caution, caution
from analysis.compare import by_success
from analysis.multiverse import ROBUST
from analysis.subspaces import WHOLE
from analysis.wording import listed, points, shown

Tables = Mapping[str, pd.DataFrame]
SETTLED = ("equivalent", "crossing")
"""Verdicts without a winner that say something all the same."""

MAX_NAMED = 3
TIE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A pair whose order turns in a part of the space: ``ahead`` leads there by ``difference`` (``low``, ``high``)."""

    space: str
    ahead: str
    behind: str
    difference: float
    low: float
    high: float
    shown: bool

    @property
    def text(self) -> str:
        """With k = 1 b is ahead of a (+12 points, 3 to 21)."""
        where = self.space if self.space.startswith("without") else f"with {self.space}"
        limits = f"{points(self.difference)} points, {points(self.low).lstrip('+')} to {points(self.high).lstrip('+')}"
        return f"{where} {self.ahead} is ahead of {self.behind} ({limits})"


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Of ``leader``, the loss of highest success ("" where there is nothing to hold): where its lead stays.

    ``variants_held``: criteria under which it still leads and every verdict on it that says something stays;
    ``spaces_held``: parts of the space in which no pair with it turns. ``turns`` lists every pair that turns.
    """

    leader: str = ""
    variants: int = 0
    variants_held: int = 0
    spaces: int = 0
    spaces_held: int = 0
    turns: tuple[Turn, ...] = ()

    @property
    def sensitive(self) -> bool:
        """Whether fewer than nine criteria in ten agree."""
        return self.variants > 0 and self.variants_held < ROBUST * self.variants

    @property
    def reversals(self) -> tuple[Turn, ...]:
        """Turns whose interval excludes 0."""
        return tuple(turn for turn in self.turns if turn.shown)

    @property
    def counts(self) -> str:
        """``25 of 27 criteria variants and 6 of 7 sub-spaces``; "" where nothing was varied."""
        parts = [f"{self.variants_held} of {self.variants} criteria variants"] * (self.variants > 0)
        parts += [f"{self.spaces_held} of {self.spaces} sub-space{'s' * (self.spaces > 1)}"] * (self.spaces > 0)
        return listed(parts)

    @property
    def sentence(self) -> str:
        """The headline's last sentence, with what turns for certain."""
        held = f"The lead of {self.leader} holds in {self.counts}." if self.counts and self.leader else ""
        return " ".join(filter(None, [held, f"{_dependence(self.reversals)}." if self.reversals else ""]))

    def summary(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "leader": self.leader,
            "criteria": {"variants": self.variants, "held": self.variants_held, "sensitive": self.sensitive},
            "spaces": {
                "parts": self.spaces,
                "held": self.spaces_held,
                "turns": [vars(turn) for turn in self.turns],
            },
        }


def _dependence(turns: Sequence[Turn]) -> str:
    named = [turn.text for turn in turns[:MAX_NAMED]]
    more = [f"{len(turns) - MAX_NAMED} more"] if len(turns) > MAX_NAMED else []
    return f"The order depends on the search space: {listed([*named, *more])}"


def robustness(tables: Tables) -> Robustness:
    """How far the lead of the best loss carries, from the report's tables and the profile's.

    There is no lead to hold where two losses share the first place, or fewer than two have a known share.
    """
    losses, pairs = tables["losses"], tables["space_pairs"]
    known, turns = losses[losses["success"].notna()], _turns(pairs)
    shares = sorted(known["success"], reverse=True)
    if len(known) < 2 or shares[0] - shares[1] < TIE:
        return Robustness(turns=turns)
    leader = by_success(known)[0]
    held = held_variants(leader, tables)
    names = [name for name in dict.fromkeys(pairs["space"]) if name != WHOLE]
    own = {turn.space for turn in turns if leader in (turn.ahead, turn.behind)}
    return Robustness(
        leader=leader,
        variants=len(held),
        variants_held=sum(held.values()),
        spaces=len(names),
        spaces_held=len([name for name in names if name not in own]),
        turns=turns,
    )


def held_variants(leader: str, tables: Tables) -> dict[int, bool]:
    """Criteria variant -> whether ``leader`` still leads and each of its verdicts that says something stays."""
    variants, pairs = tables["criteria_variants"], tables["criteria_pairs"]
    own = tables["contrasts"].set_index(["loss_a", "loss_b"])
    held = {int(row["variant"]): row["leader"] == leader for row in variants.to_dict("records")}
    for row in pairs.to_dict("records"):
        if leader in (row["loss_a"], row["loss_b"]):
            held[int(row["variant"])] &= _stays(row, own.loc[(row["loss_a"], row["loss_b"])])
    return held


def _stays(row: Mapping[Any, Any], own: pd.Series) -> bool:
    if own["winner"]:
        return bool(row["agrees"])
    return bool(row["same"]) if own["verdict_kind"] in SETTLED else True


def _turns(pairs: pd.DataFrame) -> tuple[Turn, ...]:
    found = []
    for row in pairs[pairs["flips"].astype(bool)].to_dict("records"):
        first, second, sign = row["loss_a"], row["loss_b"], 1.0
        if row["difference"] < 0:
            first, second, sign = second, first, -1.0
        low, high = sorted((sign * row["low"], sign * row["high"]))
        found.append(
            Turn(
                space=str(row["space"]),
                ahead=str(first),
                behind=str(second),
                difference=sign * float(row["difference"]),
                low=low,
                high=high,
                shown=bool(row["flips_shown"]),
            )
        )
    return tuple(found)


def robustness_cautions(found: Robustness) -> list[Caution]:
    """W09 where the criteria decide, W23 where a part of the space turns the order beyond its interval."""
    cautions = []
    if found.sensitive:
        effect = (
            f"the lead holds in {found.variants_held} of {found.variants} criteria variants "
            f"(robust: {math.ceil(ROBUST * found.variants)}): what counts as converged decides"
        )
        cautions.append(caution("W09", "The lead depends on the criteria", [found.leader], effect))
    if found.reversals:
        pairs = dict.fromkeys(f"{turn.ahead} / {turn.behind}" for turn in found.reversals)
        effect = "; ".join(shown(turn.text, limit=200) for turn in found.reversals[:MAX_NAMED])
        cautions.append(caution("W23", "The order depends on the search space", pairs, effect))
    return cautions
