"""What a study's design forbids to say about the whole space, and which study would say it."""

from __future__ import annotations

import pandas as pd

from analysis.frames import StudyFrames

CONFIRM_LINE = "protocol: tune_then_confirm"
ADAPTIVE, PRUNED = "adaptive", "pruned"

REASONS = {
    ADAPTIVE: "an adaptive sampler chose the settings",
    PRUNED: "runs were stopped before the horizon",
}
REMEDIES = {
    ADAPTIVE: "no share over the space is given; the same study with `search: {method: grid}` would give one",
    PRUNED: "no verdict over the settings; the same study with `scheduler: {name: none}` would give one",
}


def refusal(frames: StudyFrames, losses: pd.DataFrame) -> str:
    """Why no share over the space is given: ADAPTIVE, PRUNED, or "" where nothing forbids it."""
    if frames.adaptive:
        return ADAPTIVE
    return PRUNED if len(losses) and (losses["censored"] > 0).any() else ""


ANSWERS = {ADAPTIVE: "search: {method: grid}", PRUNED: "scheduler: {name: none}"}


def refused_words(reason: str, *, blocked: bool = False) -> str:
    """The refusal as a sentence; "" where there is none. ``blocked``: with the lines of a study that would answer."""
    if not reason:
        return ""
    told = f"No share over the search space is given: {REASONS[reason]}."
    if not blocked:
        return told
    return (
        f"{told} What would answer: the same study with {ANSWERS[reason]} for the space, or with {CONFIRM_LINE} for "
        "the tuned settings."
    )


def remedy(frames: StudyFrames, reason: str) -> str:
    """What is refused and what would answer it; with a confirming phase, what stands all the same."""
    if len(frames.confirmed):
        stands = "what is said of the tuned settings stands, since nobody chose or stopped their fresh replicates"
        return f"{REMEDIES[reason]}; {stands}"
    return f"{REMEDIES[reason]}; with `{CONFIRM_LINE}` the tuned settings would be judged on fresh seeds"
