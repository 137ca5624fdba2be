"""Log-probabilities of many (prompt, response) rows, without gradients: the reference's, and those behind implicit
rewards. `response_logps`, which does one batch with gradients, is here for its callers."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from harness import chat
from harness.training.batch import Row, pad, row
from harness.training.head import evaluating, response_logps
from harness.training.layout import check_window, shared_prefix_obstacle
from harness.types import Advance, Messages

__all__ = ["SequenceLogp", "response_logps", "score_rows"]


class SequenceLogp(NamedTuple):
    """A response's summed log-probability (natural log), its tokens (end token included), and whether the prompt or
    the response was cut to fit."""

    logp: float
    tokens: int
    truncated: bool


def score_rows(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Messages, str]],
    *,
    max_prompt_length: int,
    max_length: int,
    batch_size: int,
    advance: Advance,
    autocast: torch.dtype | None = None,
) -> list[SequenceLogp]:
    """The log-probability of each (prompt, response), in order; about `batch_size` responses a forward, the longest
    first. Neighbours with the same prompt share its tokens where the model allows. A PEFT model is used with the
    adapters that are active. `autocast`: the dtype of matrix products, where training has another than the weights'.
    `advance` is told the number of responses just done.
    """
    if not rows:
        return []
    lengths = {"max_prompt_length": max_prompt_length, "max_length": max_length}
    encoded = [chat.encode(tokenizer, messages, text, **lengths) for messages, text in rows]
    check_window(model, max(len(e.prompt) + len(e.response) for e in encoded))
    runs = [list(run) for _, run in groupby(range(len(rows)), key=lambda i: rows[i][0])]
    runs = [run[k : k + batch_size] for run in runs for k in range(0, len(run), batch_size)]
    counted = [(len(encoded[run[0]].prompt), [len(encoded[i].response) for i in run]) for run in runs]
    if all(len(run) == 1 for run in runs) or shared_prefix_obstacle(model, counted):
        runs = [[i] for run in runs for i in run]
    found: dict[int, float] = {}
    device = next(model.parameters()).device
    products = torch.autocast(device.type, autocast) if autocast else nullcontext()
    with torch.no_grad(), evaluating(model), products:
        made = {run[0]: row(encoded[run[0]].prompt, [encoded[i].response for i in run]) for run in runs}
        for chosen in _batches(runs, made, batch_size):
            batch = pad([made[run[0]] for run in chosen], int(tokenizer.pad_token_id))
            logps, _ = response_logps(model, {name: tensor.to(device) for name, tensor in batch.items()})
            done = [i for run in chosen for i in run]
            found.update(zip(done, logps.tolist(), strict=True))
            advance(len(done))
    return [SequenceLogp(found[i], len(e.response), e.truncated) for i, e in enumerate(encoded)]


def _batches(runs: Sequence[list[int]], made: dict[int, Row], batch_size: int) -> Iterator[list[list[int]]]:
    """Runs by the length of their rows, the longest first, at most `batch_size` responses at a time."""
    batch: list[list[int]] = []
    for run in sorted(runs, key=lambda run: (-len(made[run[0]].input_ids), run[0])):
        if batch and sum(map(len, batch)) + len(run) > batch_size:
            yield batch
            batch = []
        batch.append(run)
    yield batch
