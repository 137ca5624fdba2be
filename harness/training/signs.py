"""Failure signatures of preference training, named in plain words from the lines of a run's steps.jsonl."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, variance
from typing import Any

COLLAPSE = -0.5
"""Nats a token: a best response whose tokens have lost e^-0.5, two fifths, of their probability has collapsed."""
SPIKE, WINDOW, BEFORE = 3.0, 20, 5
"""A loss above SPIKE times the largest of the WINDOW steps before it (at least BEFORE of them) is a spike. Noise that
is large at every step makes none."""
SURE = 2.0
"""Standard errors by which a loss must have risen to be said to have."""

Step = Mapping[str, Any]


def failure_signs(steps: Sequence[Step]) -> list[str]:
    """What went wrong, one sentence a sign; empty where nothing did. The parts of a run that are compared are its first
    and last quarters."""
    if not steps:
        return []
    quarter = max(1, len(steps) // 4)
    first, last = steps[:quarter], steps[-quarter:]
    found = (_collapse(last), _spikes(steps), _rise(first, last))
    return [sign for sign in found if sign]


def _collapse(last: Sequence[Step]) -> str | None:
    """The best responses' own likelihood falling far below the reference's: what raises margins then is that the
    others fall further (likelihood displacement; losses.md, pitfalls)."""
    best = [(s["log_ratio_by_rank"][0], s["length_by_rank"][0]) for s in last if s.get("log_ratio_by_rank")]
    told = [(ratio, length) for ratio, length in best if ratio is not None]
    if not told:
        return None  # no loss of the run looks at them, or its trainer doesn't say
    a_token = sum(ratio for ratio, _ in told) / sum(length for _, length in told)
    if a_token > COLLAPSE:
        return None
    return (
        f"chosen likelihood is collapsing: the best responses ended {-a_token:.2f} nats a token below the reference; "
        "lower learning_rate, raise beta, or add nll_alpha"
    )


def _spikes(steps: Sequence[Step]) -> str | None:
    losses = [step["loss"] for step in steps]
    spikes = [
        k + 1
        for k in range(BEFORE, len(losses))
        if losses[k] > SPIKE * (before := max(losses[max(0, k - WINDOW) : k])) and losses[k] - before > 0.1
    ]
    if not spikes:
        return None
    where = ", ".join(map(str, spikes[:5])) + (", ..." if len(spikes) > 5 else "")
    return (
        f"loss spikes: {len(spikes)} of {len(steps)} steps (number {where}) lost over {SPIKE:g} times as much as any "
        "of the steps before; lower learning_rate or max_grad_norm"
    )


def _rise(first: Sequence[Step], last: Sequence[Step]) -> str | None:
    before, after = ([step["loss"] for step in part] for part in (first, last))
    if len(before) < 2:
        return None  # too few steps to tell a rise from noise
    error = sqrt(variance(before) / len(before) + variance(after) / len(after))
    if fmean(after) - fmean(before) <= SURE * error:
        return None
    return (
        f"the loss rose: {fmean(before):.4f} in the first quarter of the steps, {fmean(after):.4f} in the last; lower "
        "learning_rate, or train longer"
    )
