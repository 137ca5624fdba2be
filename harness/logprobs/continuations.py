"""Log-likelihoods of given continuations, as a benchmark of choices compares them: without an end of turn."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from harness.errors import ModelError
from harness.logprobs.head import evaluating, response_likelihoods
from harness.logprobs.layout import shared_prefix_obstacle
from harness.logprobs.rows import pad, token_row
from harness.models import chat
from harness.models.config import context_window
from harness.models.templates.control_tokens import encode_text
from harness.types import Messages

BATCH_TOKENS = 4096
"""Tokens of a forward pass, roughly; a row is never split."""
Arrived = Callable[[Sequence[tuple[int, float, bool, bool]]], None]
"""Called after each forward pass with (row, log-likelihood, greedy, cut) of its rows. `cut`: the context has lost its
beginning, to fit in the model's window."""


class Pair(NamedTuple):
    """Token ids of a context and a continuation. `cut`: the context has lost its beginning."""

    context: list[int]
    continuation: list[int]
    cut: bool


def score_continuations(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Messages | str, str]],
    arrived: Arrived,
) -> None:
    """The log-likelihood (natural log, summed over tokens) of each continuation after its context, and whether greedy
    decoding would write it. Adjacent rows with one context share its tokens if the model supports it. Raises ModelError
    for a continuation that is empty or longer than the window."""
    window = context_window(model)
    pairs = [_fitted(encode_pair(tokenizer, context, text), window, text) for context, text in rows]
    runs = [list(run) for _, run in groupby(range(len(rows)), key=lambda i: pairs[i].context)]
    lengths = [(len(pairs[run[0]].context), [len(pairs[i].continuation) for i in run]) for run in runs]
    if all(len(run) == 1 for run in runs) or shared_prefix_obstacle(model, lengths):
        runs = [[i] for run in runs for i in run]
    token_rows = {run[0]: token_row(pairs[run[0]].context, [pairs[i].continuation for i in run]) for run in runs}
    runs.sort(key=lambda run: (-len(token_rows[run[0]].input_ids), run[0]))
    device = next(model.parameters()).device
    with torch.no_grad(), evaluating(model):
        while runs:
            widest = len(token_rows[runs[0][0]].input_ids)
            chosen, runs = runs[: max(1, BATCH_TOKENS // widest)], runs[max(1, BATCH_TOKENS // widest) :]
            batch = pad([token_rows[run[0]] for run in chosen], int(tokenizer.pad_token_id))
            logps, greedy = response_likelihoods(model, {name: tensor.to(device) for name, tensor in batch.items()})
            indices = [i for run in chosen for i in run]
            scored = zip(indices, logps.tolist(), greedy.tolist(), strict=True)
            arrived([(i, logp, hit, pairs[i].cut) for i, logp, hit in scored])


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: Messages | str, text: str) -> Pair:
    """The tokens of a context and of what continues it, split as EleutherAI's lm-eval does, so that figures agree:
    white space at the end of the context goes to the continuation, also what a chat template writes before an answer,
    and a text is tokenised as one with its continuation. An empty context is the token that begins a text, or ends
    one."""
    if not isinstance(context, str):
        ids = chat.encode_prompt(tokenizer, context)
        space = ""
        while len(ids) > 1 and (last := tokenizer.decode(ids[-1:])).isspace():
            ids, space = ids[:-1], str(last) + space
        return Pair(ids, encode_text(tokenizer, space + text), cut=False)
    if not context:
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else chat.end_of_turn(tokenizer)
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        return Pair(ids[:1], ids[1:], cut=False) if ids[:1] == [first] else Pair([first], ids, cut=False)
    stripped = context.rstrip()
    ids = list(tokenizer.encode(context + text))
    length = len(tokenizer.encode(stripped)) if stripped else 0
    return Pair(ids[:length], ids[length:], cut=False)


def _fitted(pair: Pair, window: int | None, text: str) -> Pair:
    if not pair.continuation or not pair.context:
        raise ModelError(f"a continuation to be scored has no tokens of its own: {text[:40]!r}")
    if window is None or len(pair.context) + len(pair.continuation) <= window + 1:
        return pair
    room = window + 1 - len(pair.continuation)
    if room < 1:
        raise ModelError(f"a continuation of {len(pair.continuation)} tokens doesn't fit in the window of {window}")
    return Pair(pair.context[-room:], pair.continuation, cut=True)
