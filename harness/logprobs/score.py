"""Log-probabilities of many (prompt, response) rows without gradients: for the reference and for implicit rewards.
`response_logps`, for one batch with gradients, is re-exported."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from harness.children.shares import gathered, own
from harness.logprobs.head import evaluating, give_logps, response_logps
from harness.logprobs.layout import check_padding, check_window, shared_prefix_obstacle
from harness.logprobs.rows import TokenRow, pad, token_row
from harness.models import chat
from harness.types import Advance, Messages

__all__ = ["SequenceLogp", "response_logps", "score_rows"]


class SequenceLogp(NamedTuple):
    """A response's summed log-probability (natural log), its number of tokens (end token included), and whether the
    prompt or the response was truncated."""

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
    shard: Callable[[nn.Module], nn.Module] | None = None,
) -> list[SequenceLogp]:
    """The log-probability of each (prompt, response), in order. A forward pass has about `batch_size` responses, the
    longest first. Adjacent rows with the same prompt share its tokens if the model supports it. A PEFT model is used
    with its active adapters. `autocast`: the dtype of matrix products, if training uses another than the weights'.
    `shard`: shares the model's weights out among processes. `advance` is called with the number of responses just
    finished. Raises ModelError if a row exceeds the model's context window, or if padding changes its results."""
    if not rows:
        return []
    lengths = {"max_prompt_length": max_prompt_length, "max_length": max_length}
    encoded = [chat.encode(tokenizer, messages, text, **lengths) for messages, text in rows]
    check_window(model, max(len(e.prompt) + len(e.response) for e in encoded))
    runs = [list(run) for _, run in groupby(range(len(rows)), key=lambda i: rows[i][0])]
    runs = [run[k : k + batch_size] for run in runs for k in range(0, len(run), batch_size)]
    run_lengths = [(len(encoded[run[0]].prompt), [len(encoded[i].response) for i in run]) for run in runs]
    if all(len(run) == 1 for run in runs) or shared_prefix_obstacle(model, run_lengths):
        runs = [[i] for run in runs for i in run]
    check_padding(model)
    if shard:  # the model has been tried out by now, which needs a whole one
        give_logps(model)
        model = shard(model)
    logp_by_row: dict[int, float] = {}
    device = next(model.parameters()).device
    products = torch.autocast(device.type, autocast) if autocast else nullcontext()
    with torch.no_grad(), evaluating(model), products:
        token_rows = {run[0]: token_row(encoded[run[0]].prompt, [encoded[i].response for i in run]) for run in runs}
        for chosen, counts in own(_batches(runs, token_rows, batch_size)):
            batch = pad([token_rows[run[0]] for run in chosen], int(tokenizer.pad_token_id))
            inputs = {name: tensor.to(device) for name, tensor in batch.items()}
            # The parts of a sharded model are put together by hooks on the whole.
            logps, _ = model(**inputs) if shard else response_logps(model, inputs)
            if counts:
                indices = [i for run in chosen for i in run]
                logp_by_row.update(zip(indices, logps.tolist(), strict=True))
                advance(len(indices))
    logp_by_row = dict(gathered(list(logp_by_row.items())))
    return [SequenceLogp(logp_by_row[i], len(e.response), e.truncated) for i, e in enumerate(encoded)]


def _batches(runs: Sequence[list[int]], token_rows: dict[int, TokenRow], batch_size: int) -> Iterator[list[list[int]]]:
    """Batches of runs, sorted by the length of their rows, longest first, with at most `batch_size` responses each (or
    one run)."""
    batch: list[list[int]] = []
    for run in sorted(runs, key=lambda run: (-len(token_rows[run[0]].input_ids), run[0])):
        if batch and sum(map(len, batch)) + len(run) > batch_size:
            yield batch
            batch = []
        batch.append(run)
    yield batch
