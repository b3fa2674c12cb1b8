"""Sentences about pairs of losses, for shares over the space and for tuned settings alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.wording import counted, listed

Row = Mapping[Any, Any]

MAX_NAMED = 4  # names in one sentence; the rest is counted


def split(items: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """What is named and what is only counted: never a count of one."""
    most = MAX_NAMED if len(items) <= MAX_NAMED else MAX_NAMED - 1
    return items[:most], items[most:]


def some(names: Sequence[str], rest_noun: str = "other") -> str:
    """The first names, and how many others there are."""
    head, rest = split(names)
    return listed([*head, *([counted(len(rest), rest_noun)] if rest else [])])


def verdict_sentence(ranked: Sequence[Row], pairs: Sequence[Row]) -> str:
    """What is shown about the label of highest success, against each of the others."""
    best = ranked[0]["loss"]
    own = [pair for pair in pairs if best in (pair["loss_a"], pair["loss_b"])]
    shown = [_shown(pair, best) for pair in own if pair["winner"] == best]
    alike = [rival_of(pair, best) for pair in own if pair["verdict_kind"] == "equivalent"]
    crossing = [rival_of(pair, best) for pair in own if pair["verdict_kind"] == "crossing"]
    parts = []
    if shown:
        over = "95 % interval" if len(pairs) == 1 else f"with 95 % intervals over all {len(pairs)} pairs"
        parts.append(f"{best} is {listed(_grouped(shown))}, {over}")
    if alike:
        parts.append(f"{best} is equivalent to {some(alike)} in success")
    if crossing:
        parts.append(f"{best} crosses {some(crossing)}: neither wins everywhere, see the map")
    if not parts:
        all_open = all(pair["verdict_kind"] == "undetermined" for pair in pairs)
        return "" if all_open else f"{best} is not shown to be ahead of any other loss."
    return "; ".join(parts) + "."


def _shown(pair: Row, best: str) -> tuple[str, str]:
    sign = 1 if pair["loss_a"] == best else -1
    limits = sorted((sign * pair["low"], sign * pair["high"]))
    size = f"{100 * sign * pair['difference']:+.0f} points, {100 * limits[0]:.0f} to {100 * limits[1]:.0f}"
    immaterial = "immaterial" in pair["verdict_kind"]
    verb = "detectably but immaterially ahead of" if immaterial else f"{pair['verdict_kind']} than"
    return verb, f"{rival_of(pair, best)} ({size})"


def _grouped(shown: Sequence[tuple[str, str]]) -> list[str]:
    kinds = dict.fromkeys(kind for kind, _ in shown)
    return [f"{kind} {some([rival for k, rival in shown if k == kind])}" for kind in kinds]


def rival_of(pair: Row, label: str) -> str:
    """The other loss of a pair."""
    return str(pair["loss_b"] if pair["loss_a"] == label else pair["loss_a"])
