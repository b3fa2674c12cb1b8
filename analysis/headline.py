"""The first sentences of the report: what was found, in plain words that the tables support."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.commands import seeds_command
from analysis.dirac_cells import is_dirac
from analysis.frames import StudyFrames
from analysis.headline_pairs import MAX_NAMED, Row, some, split, verdict_sentence
from analysis.headline_tuned import tuned_sentences
from analysis.refusals import refusal, refused_words
from analysis.report_dirac import agreement_sentence
from analysis.wording import counted, listed, mapping, percent, percent_range, rate_text

FAMILIAR = {"adam": "Adam", "rmsprop": "RMSProp", "sgd": "SGD", "mlp": "MLP"}

FAILURE_WORDS = {
    "under_trained": "slow",
    "stuck": "stuck",
    "partial_collapse": "partly collapsed",
    "oscillating": "oscillating",
    "collapsed": "collapsed",
    "diverged": "diverged",
}
"""Endings that exclude one another; ``stuck`` is a plateau that holds its modes."""


def headline(
    frames: StudyFrames,
    losses: pd.DataFrame,
    contrasts: pd.DataFrame,
    *,
    warnings: Sequence[Row] = (),
    robust: str = "",
    tuned: Mapping[str, pd.DataFrame] | None = None,
) -> str:
    """A few plain sentences: protocol and shares of success, the verdicts, how runs fail, what is open, how ``robust``.

    Where one of ``warnings`` blocks the evidence, its title comes first and no verdict is told. A study of the
    Dirac-GAN, where all is settled by a theorem, is told by its agreement with it instead of by verdicts. ``tuned``:
    the tables of confirmed settings; their sentences stand first where no share over the space can be given.
    """
    frames = frames.explored
    blocking = [str(warning["title"]) for warning in warnings if warning["blocks"]]
    blocked = f"Blocked, so no verdict: {'; '.join(_lower(title) for title in blocking)}." if blocking else ""
    rows = [row for row in losses.to_dict("records") if not math.isnan(row["success"])]
    refused = refusal(frames, losses)
    confirmed = tuned_sentences(tuned, blocked=bool(blocking)) if tuned else ""
    if refused or not rows:
        agreed = agreement_sentence(frames) if is_dirac(frames) and refused else ""
        first = f"{_protocol(frames)}, {confirmed}" if confirmed else ""
        unknown = refused_words(refused, blocked=bool(blocking) and not confirmed) or (
            "" if confirmed else "No run of this study can be judged yet."
        )
        return " ".join(filter(None, [blocked, agreed, first, unknown]))
    ranked = sorted(rows, key=lambda row: -row["success"])  # stable: ties keep the study's order
    if is_dirac(frames):
        return " ".join(filter(None, [blocked, agreement_sentence(frames), _success_sentence(frames, ranked)]))
    pairs = [] if blocked else contrasts.to_dict("records")
    sentences = [
        blocked,
        _success_sentence(frames, ranked),
        verdict_sentence(ranked, pairs),
        _failure_sentence(frames, ranked),
        _open_sentence(frames, pairs),
        "" if blocked else robust,
        f"After tuning, {confirmed}" if confirmed else "",
    ]
    return " ".join(filter(None, sentences))


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _success_sentence(frames: StudyFrames, ranked: Sequence[Row]) -> str:
    best, others = ranked[0], ranked[1:]
    over = {"grid": "over seeds", "space": "over settings", "sweeps": "over sweeps of shared seeds"}[best["target"]]
    start = f"{_protocol(frames)}, {_setting(frames)} ends well in {percent(best['success'])} of cases with "
    interval = f"(95 % interval {_range(best)}, {over})"
    if others and len({(percent(row["success"]), _range(row)) for row in ranked}) == 1:
        return f"{start}{'both losses' if len(ranked) == 2 else f'each of the {len(ranked)} losses'} {interval}."
    first = f"{start}{best['loss']} {interval}"
    if not others:
        return f"{first}."
    head, rest = split(others)
    named = [f"{percent(row['success'])} with {row['loss']} ({_range(row)})" for row in head]
    if rest:
        most, alike = percent(rest[0]["success"]), len({percent(row["success"]) for row in rest}) == 1
        named.append(f"{most}{'' if alike else ' or less'} with {len(rest)} others")
    return f"{first}, against {listed(named)}."


def _failure_sentence(frames: StudyFrames, ranked: Sequence[Row]) -> str:
    if all(row["success"] >= 1 for row in ranked):
        parts = ["Every judged run converged"]
    else:
        parts = [_failing(row) for row in (ranked if len(ranked) <= MAX_NAMED else [ranked[0], ranked[-1]])]
    lost = _lost_runs(frames)
    if lost:
        parts.append(f"{lost} of {counted(len(frames.runs), 'planned run')} failed outside training and are left out")
    return "; ".join(parts) + "."


def _lost_runs(frames: StudyFrames) -> int:
    """Runs without a judged outcome for reasons outside training; in an interim study the missing are still to come."""
    failed = frames.runs["outcome"] == "failed"
    if frames.interim:
        failed &= frames.runs["kind"] != "missing"
    return int(failed.sum())


def _failing(row: Row) -> str:
    if row["success"] >= 1:
        return f"{row['loss']} converged in every judged run"
    shares = {
        name: row["plateau"] - row["partial_collapse"] if name == "stuck" else row[name] for name in FAILURE_WORDS
    }
    states = {"unstable": row["unstable"], "slow or stuck": shares["under_trained"] + shares["stuck"]}
    parts = [f"{state} in {percent(share)}" for state, share in states.items() if share > 1e-9]
    told = f"{row['loss']} is {listed(parts)}"
    most = max(shares.values())
    modal = [name for name, share in shares.items() if share > most - 1e-9]
    return told if len(modal) > 1 else f"{told} (most often {FAILURE_WORDS[modal[0]]})"


def _open_sentence(frames: StudyFrames, pairs: Sequence[Row]) -> str:
    undetermined = [pair for pair in pairs if pair["verdict_kind"] == "undetermined"]
    if not undetermined:
        return ""
    named = [f"{pair['loss_a']} against {pair['loss_b']} ({_settle(pair)})" for pair in undetermined]
    needed = [int(pair["seeds_needed"]) for pair in undetermined if not pd.isna(pair["seeds_needed"])]
    command = seeds_command(frames, max(needed)) if needed else ""
    told = f"; {command} adds them" if command else ""
    return f"Undetermined: {some(named, 'other pair')}{told}."


def _settle(pair: Row) -> str:
    if not pd.isna(pair["seeds_needed"]):
        return f"about {counted(int(pair['seeds_needed']), 'more seed')} per setting"
    return str(pair["seeds_note"])


def _protocol(frames: StudyFrames) -> str:
    """Optimizer, networks, budget and target as far as the study file tells them."""
    fixed, networks, budget, target = (
        mapping(frames.spec.get(name)) for name in ("fixed", "networks", "budget", "target")
    )
    optimizer = _familiar(fixed.get("optimizer", ""))
    used = [name for name in ("beta1", "beta2", "momentum") if _is_number(fixed.get(name))]
    numbers = [f"{fixed[name]:g}" for name in used if name != "momentum" or fixed[name]]
    parts = [f"{optimizer} ({', '.join(numbers)})" if optimizer and numbers else optimizer]
    if "name" in networks and networks["name"] != target.get("name"):
        size = f" {networks['depth']}x{networks['width']}" if {"depth", "width"} <= networks.keys() else ""
        parts.append(f"{_familiar(networks['name'])}{size}")
    if _is_number(budget.get("value")):
        parts.append(f"{budget['value']:,.0f} {str(budget.get('unit', '')).replace('_', ' ')}")
    held = listed([part for part in parts if part])
    place = f" on {_target_name(target)}" if "name" in target else ""
    return f"With {held}{place}" if held else f"In study {frames.study}"


def _familiar(name: object) -> str:
    return FAMILIAR.get(str(name), str(name))


def _target_name(target: Row) -> str:
    modes = target.get("modes")
    if target["name"] == "dirac":
        return "the Dirac-GAN"
    return f"{target['name']}-{modes}" if modes else str(target["name"])


def _setting(frames: StudyFrames) -> str:
    """The measure that the shares average over."""
    ranges = []
    if "learning_rate" in frames.runs and frames.runs["learning_rate"].notna().any():
        rates = sorted(set(frames.runs["learning_rate"].dropna().astype(float)))
        span = f"{rate_text(rates[0])} to {rate_text(rates[-1])} (log scale)"
        ranges.append(f"learning rate {rate_text(rates[0])}" if len(rates) == 1 else f"learning rates {span}")
    ks = sorted(set(frames.runs["k"].dropna().astype(int))) if "k" in frames.runs else []
    if ks:
        ranges.append(f"k = {ks[0]}" if len(ks) == 1 else f"k in {{{', '.join(map(str, ks))}}}")
    return f"a setting from {' and '.join(ranges)}" if ranges else "a setting"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(row: Row) -> str:
    return percent_range(row["success_low"], row["success_high"])
