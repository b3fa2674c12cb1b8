"""report.md: the report's findings as Markdown, for a pull request or a chat; every name in it is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis import report_text as words
from analysis.choices import choice_rows
from analysis.page_input import PageInput
from analysis.page_rows import leaderboard, pair_commands, pair_rows
from analysis.profile_rows import profile_rows, robustness_words
from analysis.refusals import refusal
from analysis.report_tuned import tuned_pair_rows, tuned_rows
from analysis.wording import DASH, MINUS, shown

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&])")
_LINKING = re.compile(r"(@|#|(?<=www)(?=\.)|:(?=//))", re.IGNORECASE)
JOINER = "\u2060"
"""Without width: behind @ and #, before the point of www and inside ://, so that no site makes a link of them."""


def escaped(text: object, *, limit: int = 60) -> str:
    """Text in a line that Markdown shows as it is: no markup, HTML, formula, table cell, link, mention or reference."""
    return _LINKING.sub(rf"\1{JOINER}", _SPECIAL.sub(r"\\\1", shown(text, limit=limit)))


def markdown(page: PageInput) -> str:
    """Headline, leaderboard, profile, pairs, warnings, and links to the figures beside it."""
    parts = [
        f"# {escaped(words.question(page.frames), limit=300)}",
        _state(page),
        escaped(page.headline, limit=6000),
        *_leaderboard(page),
        *_tuned(page),
        *_pairs(page),
        *_choices(page),
        *_warnings(page),
        *_figures(page),
        "The whole report: [report.html](report.html); its numbers: [report.json](report.json).",
    ]
    return "\n\n".join(parts) + "\n"


def _state(page: PageInput) -> str:
    state = "interim" if page.frames.interim else "final"
    return f"Study **{escaped(page.frames.study, limit=80)}** · {state} · {'blocked' if page.blocked else 'design ok'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [_line(head), _line(["---", *(["---:"] * (len(head) - 1))]), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _leaderboard(page: PageInput) -> list[str]:
    board = leaderboard(page.frames, page.tables)
    if not board:
        return []
    profile = {row["loss"]: row for row in profile_rows(page.tables)}
    head = ["Loss", "Rank", "Success (95 %)", "Unstable (95 %)", "Decades"]
    head += ["Tuned", "Fails in 5 runs", "Mean time (95 %)", "Certified"] if profile else []
    rows = []
    for row in board:
        shares = [_share(row[name]) for name in ("success", "unstable")]
        decades = f"{'≥ ' if row['at_least'] else ''}{row['decades']}" if row["decades"] else DASH
        cells = [escaped(row["loss"]), row["rank"], *shares, decades]
        if profile:
            own = profile[row["loss"]]
            cells += [own["tuned"], own["lottery"], f"{own['time']} ({own['time_range']})", own["certified"]]
        rows.append(cells)
    note = (
        "Success: share of runs that end well over the declared settings. Tuned: cross-fitted success at the selected "
        "setting, no interval. Mean time: generator steps to sustained convergence, cut at the horizon. Certified: "
        "decades of learning rate that provably succeed nine times in ten."
    )
    return ["## Leaderboard", table(head, rows), note] if profile else ["## Leaderboard", table(head, rows)]


def _share(share: Mapping[str, Any]) -> str:
    return f"{share['text']} ({share['range']})" if share["known"] else DASH


def _tuned(page: PageInput) -> list[str]:
    """The selected settings under fresh seeds, and their pairs; nothing without a confirming phase."""
    rows = tuned_rows(page.tables)
    if not rows:
        return []
    head = [
        "Loss",
        "Setting",
        "Tuned success (95 %)",
        "Unstable (95 %)",
        "Fails in 5 runs",
        "The search promised",
        "Runs",
    ]
    shares = [[f"{row[name]['text']} ({row[name]['range']})" for name in ("tuned", "unstable")] for row in rows]
    lines = [
        [
            escaped(row["loss"]),
            escaped(row["setting"] + (f" ({row['edge']})" if row["edge"] else ""), limit=160),
            *own,
            f"{row['lottery']} ({row['lottery_range']})",
            row["explored"],
            row["runs"],
        ]
        for row, own in zip(rows, shares, strict=True)
    ]
    note = (
        "Fresh seeds of the setting that each loss's search selected; they enter no other number. The search promised: "
        "its own cross-fitted success."
    )
    return ["## After tuning, with fresh seeds", table(head, lines), *_tuned_pairs(page), note]


def _tuned_pairs(page: PageInput) -> list[str]:
    pairs = tuned_pair_rows(page.tables)
    head = [
        f"First {MINUS} second",
        "Points",
        "Over all pairs",
        "Holm p",
        "Verdict at the tuned settings",
        "More seeds",
    ]
    lines = [
        [
            f"{escaped(pair['first'])} {MINUS} {escaped(pair['second'])}",
            pair["difference"],
            pair["joint"],
            escaped(pair["p_holm"]),
            escaped(pair["verdict"], limit=200),
            escaped(pair["needed"], limit=120),
        ]
        for pair in pairs
    ]
    return [table(head, lines)] if lines else []


def _pairs(page: PageInput) -> list[str]:
    pairs = [] if refusal(page.frames, page.tables["losses"]) else pair_rows(page.tables["contrasts"])
    if not pairs:
        return []
    head = [f"First {MINUS} second", "Points", "Over all pairs", "Holm p", "P(first better)", "Verdict"]
    rows = [
        [
            f"{escaped(pair['first'])} {MINUS} {escaped(pair['second'])}",
            pair["difference"],
            pair["joint"],
            escaped(pair["p_holm"]),
            escaped(pair["better"]),
            escaped(pair["verdict"], limit=200),
        ]
        for pair in pairs
    ]
    told = robustness_words(page.robustness) if len(page.tables["profile"]) else ""
    commands = [
        f"- {row['needed']} per setting for {escaped(row['pairs'], limit=300)}: `{row['command']}`"
        for row in pair_commands(page.frames, page.tables["contrasts"])
    ]
    parts = [table(head, rows), "\n".join(commands), escaped(told, limit=6000)]
    return ["## Losses against each other", *filter(None, parts)]


def _choices(page: PageInput) -> list[str]:
    """What the other scientific choices change, loss by loss; nothing where there are none."""
    rows = choice_rows(page.tables)
    head = [
        f"Second {MINUS} first",
        "Loss",
        "First (95 %)",
        "Second (95 %)",
        "Points",
        "Over all of a factor",
        "Holm p",
        "Verdict",
        "More seeds",
    ]
    lines = [
        [
            f"{escaped(row['factor'])}: {escaped(row['second'])} {MINUS} {escaped(row['first'])}",
            escaped(row["loss"]),
            *(f"{escaped(row[f'success_{side}'])} ({escaped(row[f'range_{side}'])})" for side in "ab"),
            *(escaped(row[name]) for name in ("difference", "joint", "p_holm")),
            *(escaped(row[name], limit=200) for name in ("verdict", "needed")),
        ]
        for row in rows
    ]
    note = "Success at each value over the settings that both have; the leaderboard averages over the values."
    return ["## Choices beside the loss", table(head, lines), note] if rows else []


def _warnings(page: PageInput) -> list[str]:
    lines = [
        f"- **{escaped(w['title'], limit=200)}** ({w['id']}, {w['severity']}): {escaped(w['effect'], limit=400)}."
        for w in page.ordered_warnings
    ]
    return ["## Warnings", "\n".join(lines)] if lines else []


def _figures(page: PageInput) -> list[str]:
    lines = [f"- [{escaped(figure.alt, limit=160)}](figures/{figure.name}.png)" for figure in page.figures]
    return ["## Figures", "\n".join(lines)] if lines else []
