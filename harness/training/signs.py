"""Failure signs of preference training, in plain words, from the lines of a run's steps.jsonl."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, variance
from typing import Any

COLLAPSE = -0.5
"""Nats per token. A best response whose tokens have lost two fifths of their probability (e^-0.5) has collapsed."""
SPIKE, WINDOW, BEFORE = 3.0, 20, 5
"""A loss above SPIKE times the largest of the WINDOW steps before it (at least BEFORE of them) is a spike. Noise that
is large at every step is no spike."""
MIN_RISE = 2.0
"""Standard errors by which the loss must rise before it is reported."""

Step = Mapping[str, Any]


def failure_signs(steps: Sequence[Step]) -> list[str]:
    """What went wrong, one sentence per sign; empty if nothing did. Compares the first and the last quarter of a
    run."""
    if not steps:
        return []
    quarter = max(1, len(steps) // 4)
    first, last = steps[:quarter], steps[-quarter:]
    signs = (_collapse(last), _spikes(steps), _rise(first, last))
    return [sign for sign in signs if sign]


def _collapse(last: Sequence[Step]) -> str | None:
    """The best responses' likelihood falls far below the reference's, and margins grow only because the others fall
    further (likelihood displacement; losses.md, pitfalls)."""
    best = [(s["log_ratio_by_rank"][0], s["length_by_rank"][0]) for s in last if s.get("log_ratio_by_rank")]
    logged = [(ratio, length) for ratio, length in best if ratio is not None]
    if not logged:
        return None  # the loss doesn't use the best responses, or the trainer doesn't log them
    per_token = sum(ratio for ratio, _ in logged) / sum(length for _, length in logged)
    if per_token > COLLAPSE:
        return None
    return (
        f"chosen likelihood is collapsing: the best responses ended {-per_token:.2f} nats per token below the "
        "reference; lower learning_rate, raise beta, or add nll_alpha"
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
    numbers = "number" if len(spikes) == 1 else "numbers"
    where = ", ".join(map(str, spikes[:5])) + (", ..." if len(spikes) > 5 else "")
    return (
        f"loss spikes: {len(spikes)} of {len(steps)} steps ({numbers} {where}) had a loss over {SPIKE:g} times that "
        "of any step shortly before; lower learning_rate or max_grad_norm"
    )


def _rise(first: Sequence[Step], last: Sequence[Step]) -> str | None:
    before, after = ([step["loss"] for step in part] for part in (first, last))
    if len(before) < 2:
        return None  # too few steps to tell a rise from noise
    error = sqrt(variance(before) / len(before) + variance(after) / len(after))
    if fmean(after) - fmean(before) <= MIN_RISE * error:
        return None
    return (
        f"the loss rose: {fmean(before):.4f} in the first quarter of the steps, {fmean(after):.4f} in the last; lower "
        "learning_rate, or train longer"
    )
