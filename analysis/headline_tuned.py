"""The sentences about tuned settings: what fresh seeds say of the setting that each loss's search selected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.headline_pairs import Row, some, split, verdict_sentence
from analysis.wording import DASH, counted, listed, number_text, percent, percent_range, rate_text


def tuned_sentences(tables: Mapping[str, pd.DataFrame], *, blocked: bool) -> str:
    """Tuned success with its intervals, verdicts, how many more seeds; without a capital, to stand behind a protocol.

    ``tables``: ``tuned`` and ``tuned_contrasts``. With ``blocked`` no verdict is told.
    """
    rows = [row for row in tables["tuned"].to_dict("records") if not math.isnan(row["tuned"])]
    if not rows:
        return "no fresh replicate of a tuned setting can be judged yet."
    ranked = sorted(rows, key=lambda row: -row["tuned"])
    pairs = [] if blocked else tables["tuned_contrasts"].to_dict("records")
    verdict = verdict_sentence(ranked, pairs)
    told = [_success(ranked), verdict and f"At their tuned settings {verdict}", _open(pairs)]
    return " ".join(filter(None, told))


def _success(ranked: Sequence[Row]) -> str:
    best, others = ranked[0], ranked[1:]
    first = (
        f"the setting selected for {best['loss']} ({setting_text(best)}) ends well in {best['converged']:.0f} of "
        f"{best['runs_used']:.0f} fresh runs: {percent(best['tuned'])} (95 % interval {_range(best)}, over seeds, for "
        f"this setting)"
    )
    if not others:
        return f"{first}."
    head, rest = split(others)
    named = [f"{percent(row['tuned'])} with {row['loss']} ({_range(row)})" for row in head]
    if rest:
        named.append(f"{percent(rest[0]['tuned'])} or less with {len(rest)} others")
    return f"{first}, against {listed(named)}."


def setting_text(row: Row) -> str:
    """k = 1, lr = 1e-3, penalty weight = 10: what tells the selected setting from the others of its loss."""
    names = list(map(str, row))
    own = names[names.index("configuration_key") + 1 : names.index("tuned")]  # the columns of tuned.csv
    shown = {name: _value(name, row[name]) for name in own}
    return ", ".join(f"{_SHORT.get(n, n.replace('_', ' '))} = {text}" for n, text in shown.items() if text != DASH)


_SHORT = {"learning_rate": "lr"}


def _value(name: str, value: object) -> str:
    if name.endswith("learning_rate") and isinstance(value, float) and math.isfinite(value):
        return rate_text(value)
    return number_text(value)


def _range(row: Row) -> str:
    return percent_range(row["tuned_low"], row["tuned_high"])


def _open(pairs: Sequence[Row]) -> str:
    undetermined = [pair for pair in pairs if pair["verdict_kind"] == "undetermined"]
    named = [f"{pair['loss_a']} against {pair['loss_b']} ({_settle(pair)})" for pair in undetermined]
    return f"Undetermined after tuning: {some(named, 'other pair')}." if named else ""


def _settle(pair: Row) -> str:
    if not pd.isna(pair["seeds_needed"]):
        return f"about {counted(int(pair['seeds_needed']), 'more fresh seed')} each"
    return str(pair["seeds_note"])
