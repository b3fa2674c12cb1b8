"""The first sentences of the report: what was found, in plain words that the tables support."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.frames import StudyFrames

Row = Mapping[Any, Any]

MAX_NAMED = 4  # labels named in one sentence; the rest is counted

FAILURE_WORDS = {
    "under_trained": "slow",
    "plateau": "stuck",
    "oscillating": "oscillating",
    "collapsed": "collapsed",
    "diverged": "diverged",
}


def headline(frames: StudyFrames, losses: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    """At most four plain sentences: protocol and shares of success, the verdicts, how runs fail, what is open."""
    rows = [row for row in losses.to_dict("records") if not math.isnan(row["success"])]
    if not rows:
        return "No run of this study can be judged yet."
    ranked = sorted(rows, key=lambda row: -row["success"])  # stable: ties keep the study's order
    pairs = contrasts.to_dict("records")
    sentences = [_success_sentence(frames, ranked), _verdict_sentence(ranked, pairs), _failure_sentence(ranked)]
    return " ".join(s for s in [*sentences, _open_sentence(pairs)] if s)


def _success_sentence(frames: StudyFrames, ranked: Sequence[Row]) -> str:
    best, others = ranked[0], ranked[1:]
    start = f"{_protocol(frames)}, {_setting(frames)} ends well"
    over = {"grid": "over seeds", "space": "over settings", "sweeps": "over sweeps of shared seeds"}[best["target"]]
    if others and best["success"] == ranked[-1]["success"]:
        every = "both losses" if len(ranked) == 2 else f"each of the {len(ranked)} losses"
        return f"{start} in {_percent(best['success'])} of cases with {every} (95 % interval {_range(best)}, {over})."
    first = (
        f"{start} in {_percent(best['success'])} of cases with {best['loss']} (95 % interval {_range(best)}, {over})"
    )
    if not others:
        return first + "."
    shown = len(others) if len(others) <= MAX_NAMED else MAX_NAMED - 1  # never "1 other"
    named = [f"{_percent(row['success'])} with {row['loss']} ({_range(row)})" for row in others[:shown]]
    rest = others[shown:]
    if rest:
        named.append(f"{_percent(rest[0]['success'])} or less with {_count(len(rest), 'other')}")
    return f"{first}, against {_listed(named)}."


def _verdict_sentence(ranked: Sequence[Row], pairs: Sequence[Row]) -> str:
    """Every shown difference of the highest label, then the other pairs only by number."""
    if not pairs:
        return ""
    best = ranked[0]["loss"]
    own = [pair for pair in pairs if best in (pair["loss_a"], pair["loss_b"])]
    shown = [_shown(pair, best) for pair in own if pair["winner"] == best]
    alike = [_rival(pair, best) for pair in own if pair["verdict_kind"] == "equivalent"]
    crossing = [_rival(pair, best) for pair in own if pair["verdict_kind"] == "crossing"]
    parts = []
    if shown:
        parts.append(f"{best} is {_listed(_grouped(shown))}, {_family(len(pairs))}")
    if alike:
        parts.append(f"{best} and {_listed(alike[:MAX_NAMED])} are equivalent")
    if crossing:
        parts.append(f"{best} and {_listed(crossing[:MAX_NAMED])} cross: neither wins everywhere, see the map")
    if not parts:
        all_open = all(pair["verdict_kind"] == "undetermined" for pair in pairs)
        return "" if all_open else f"{best} is not shown to be ahead of any other loss."
    return "; ".join(parts) + "."


def _shown(pair: Row, best: str) -> tuple[str, str]:
    sign = 1 if pair["loss_a"] == best else -1
    limits = sorted((sign * pair["low"], sign * pair["high"]))
    points = f"{100 * sign * pair['difference']:+.0f} points, {100 * limits[0]:.0f} to {100 * limits[1]:.0f}"
    kind = "detectably but immaterially ahead of" if "immaterial" in pair["verdict_kind"] else pair["verdict_kind"]
    joined = kind if kind.endswith("of") else f"{kind} than"
    return joined, f"{_rival(pair, best)} ({points})"


def _grouped(shown: Sequence[tuple[str, str]]) -> list[str]:
    kinds = dict.fromkeys(kind for kind, _ in shown)
    return [f"{kind} {_listed([rival for k, rival in shown if k == kind][:MAX_NAMED])}" for kind in kinds]


def _failure_sentence(ranked: Sequence[Row]) -> str:
    if all(row["success"] == 1 for row in ranked):
        return "No run failed to converge."
    parts = [_failing(row) for row in (ranked if len(ranked) <= MAX_NAMED else [ranked[0], ranked[-1]])]
    return "; ".join(part for part in parts if part) + "."


def _failing(row: Row) -> str:
    if row["success"] == 1:
        return f"{row['loss']} never fails"
    slow = row["under_trained"] + row["plateau"] - row["partial_collapse"]
    shares = f"{row['loss']} is unstable in {_percent(row['unstable'])} and slow or stuck in {_percent(slow)}"
    most = max(row[name] for name in FAILURE_WORDS)
    modal = [name for name in FAILURE_WORDS if row[name] == most]
    if len(modal) > 1:
        return shares
    partly = modal[0] == "plateau" and 2 * row["partial_collapse"] > row["plateau"]
    return f"{shares} (most often {'partly collapsed' if partly else FAILURE_WORDS[modal[0]]})"


def _open_sentence(pairs: Sequence[Row]) -> str:
    undetermined = [pair for pair in pairs if pair["verdict_kind"] == "undetermined"]
    if not undetermined:
        return ""
    named = [f"{p['loss_a']} against {p['loss_b']} ({_settle(p)})" for p in undetermined[:MAX_NAMED]]
    if len(undetermined) > MAX_NAMED:
        named.append(_count(len(undetermined) - MAX_NAMED, "other pair"))
    return f"Undetermined: {_listed(named)}."


def _settle(pair: Row) -> str:
    if not pd.isna(pair["seeds_needed"]):
        return f"about {_count(int(pair['seeds_needed']), 'more seed')} per setting"
    return str(pair["seeds_note"])


def _protocol(frames: StudyFrames) -> str:
    """Optimizer, networks, budget and target as far as the study file tells them."""
    spec = frames.spec
    fixed, networks, budget, target = (_mapping(spec.get(n)) for n in ("fixed", "networks", "budget", "target"))
    optimizer = str(fixed.get("optimizer", ""))
    numbers = [f"{fixed[name]:g}" for name in ("beta1", "beta2", "momentum") if _is_number(fixed.get(name))]
    parts = [f"{optimizer} ({', '.join(numbers)})" if optimizer and numbers else optimizer]
    if "name" in networks:
        size = f" {networks['depth']}x{networks['width']}" if {"depth", "width"} <= networks.keys() else ""
        parts.append(f"{networks['name']}{size}")
    if _is_number(budget.get("value")):
        parts.append(f"{budget['value']:,.0f} {str(budget.get('unit', '')).replace('_', ' ')}")
    held = _listed([part for part in parts if part])
    place = f" on {_target_name(target)}" if "name" in target else ""
    return f"With {held}{place}" if held else f"In study {frames.study}"


def _target_name(target: Row) -> str:
    modes = target.get("modes")
    return f"{target['name']}-{modes}" if modes else str(target["name"])


def _setting(frames: StudyFrames) -> str:
    """The measure that the shares average over."""
    ranges = []
    if "learning_rate" in frames.runs and frames.runs["learning_rate"].notna().any():
        rates = sorted(set(frames.runs["learning_rate"].dropna().astype(float)))
        span = f"learning rate {rates[0]:g}" if len(rates) == 1 else f"learning rates {rates[0]:g} to {rates[-1]:g}"
        ranges.append(span if len(rates) == 1 else f"{span} (log scale)")
    ks = sorted(set(frames.runs["k"].dropna().astype(int))) if "k" in frames.runs else []
    if ks:
        ranges.append(f"k = {ks[0]}" if len(ks) == 1 else f"k in {{{', '.join(map(str, ks))}}}")
    return f"a setting from {' and '.join(ranges)}" if ranges else "a setting"


def _mapping(value: object) -> Row:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rival(pair: Row, label: str) -> str:
    return str(pair["loss_b"] if pair["loss_a"] == label else pair["loss_a"])


def _family(pairs: int) -> str:
    return "95 % interval" if pairs == 1 else f"95 % over all {pairs} pairs"


def _percent(share: float) -> str:
    """Whole per cent, but never 0 or 100 for a share that is neither."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 < share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def _range(row: Row) -> str:
    return f"{100 * row['success_low']:.0f} to {100 * row['success_high']:.0f} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
