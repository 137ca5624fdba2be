"""Failure signatures of preference training, named in plain words from the lines of a run's steps.jsonl."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

COLLAPSE = -0.5
"""Nats a token: a best response whose tokens have lost e^-0.5, two fifths, of their probability has collapsed."""
SPIKE, WINDOW = 3.0, 20
"""A loss above SPIKE times the median of the WINDOW steps before it is a spike."""

Step = Mapping[str, Any]


def failure_signs(steps: Sequence[Step]) -> list[str]:
    """What went wrong, one sentence a sign; empty where nothing did. The parts of a run that are compared are its first
    and last quarters, at least a step each."""
    if not steps:
        return []
    quarter = max(1, len(steps) // 4)
    first, last = steps[:quarter], steps[-quarter:]
    found = (_collapse(last), _spikes(steps), _rise(first, last))
    return [sign for sign in found if sign]


def _collapse(last: Sequence[Step]) -> str | None:
    """The best responses' own likelihood falling far below the reference's: what raises margins then is that the
    others fall further (likelihood displacement; losses.md, pitfalls)."""
    ratio = fmean(step["log_ratio_by_rank"][0] for step in last)
    length = fmean(step["length_by_rank"][0] for step in last)
    if ratio / length > COLLAPSE:
        return None
    return (
        f"chosen likelihood is collapsing: the best responses ended {-ratio / length:.2f} nats a token below the "
        "reference; lower learning_rate, raise beta, or add nll_alpha"
    )


def _spikes(steps: Sequence[Step]) -> str | None:
    losses = [step["loss"] for step in steps]
    spikes = [
        k + 1
        for k in range(3, len(losses))
        if losses[k] > SPIKE * (before := median(losses[max(0, k - WINDOW) : k])) and losses[k] - before > 0.1
    ]
    if not spikes:
        return None
    where = ", ".join(map(str, spikes[:5])) + (", ..." if len(spikes) > 5 else "")
    return (
        f"loss spikes: {len(spikes)} of {len(steps)} steps (number {where}) lost over {SPIKE:g} times the median of "
        "the steps before; lower learning_rate or max_grad_norm"
    )


def _rise(first: Sequence[Step], last: Sequence[Step]) -> str | None:
    before, after = (fmean(step["loss"] for step in part) for part in (first, last))
    if len(first) + len(last) < 4 or after <= before:
        return None
    return (
        f"the loss did not fall: {before:.4f} in the first quarter of the steps, {after:.4f} in the last; lower "
        "learning_rate, or train longer"
    )
