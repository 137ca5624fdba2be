"""Whether a model can process shared-prefix rows: a prompt once, followed by all its responses as branches.

This is exact if every layer attends only as prefix attention, or a dense mask, says. Other models get one row per
response.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.children.shares import of_first
from harness.errors import ModelError
from harness.logprobs.attention import forgo_prefix_attention, use_prefix_attention
from harness.logprobs.head import evaluating, response_logps
from harness.logprobs.rows import FORWARD, WIDEST_MASK, pad, token_row
from harness.models.config import (
    attention_width,
    context_window,
    layers,
    rope_class,
    shortest_window,
    text_config,
)

Lengths = tuple[int, Sequence[int]]
"""The number of tokens of a prompt, and of each of its responses."""
DENSE_ATTENTION, HALF_DENSE_ATTENTION = 1.3, 6.0
"""Time of a multiply-add in attention with a dense mask, in float32 and in half precision, over that of one in a
matrix product (639 tokens, 9 heads of 64, forward and backward, on a processor with AVX512-BF16)."""

_log = logging.getLogger(__name__)


def shared_prefix_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """Why this model or these lengths need one row per response; None if shared-prefix rows are exact and cheaper. Such
    rows get prefix attention, which is then selected for the model, or a dense mask where that isn't exact."""
    if obstacle := _layers_obstacle(model):
        return obstacle

    def trial() -> str | None:
        return of_first(lambda: _trial_obstacle(model, lengths))

    obstacle = use_prefix_attention(model) or trial()
    if obstacle is None:  # tokens and pairs of tokens are at most those of separate rows
        return _rope_obstacle(model, lengths)
    forgo_prefix_attention(model)
    _log.info("%s: no prefix attention: %s", type(model).__name__, obstacle)
    return _rope_obstacle(model, lengths) or _mask_obstacle(model, lengths) or trial() or _cost_obstacle(model, lengths)


def check_window(model: nn.Module, longest: int) -> None:
    """Raise ModelError if the longest prompt with its response has more tokens than the model has positions."""
    window = context_window(model)
    if window is not None and longest > window:
        raise ModelError(
            f"the longest prompt with its response has {longest} tokens, and the policy's window is {window}; "
            f"set training.max_length to at most {window}: longer responses are truncated and counted"
        )


def _layers_obstacle(model: nn.Module) -> str | None:
    """The obstacle that recurrent layers, and those that attend to chunks, see other tokens than a mask says."""
    layer_types = set(getattr(text_config(model), "layer_types", None) or ["full_attention"])
    other = sorted(layer_types - {"full_attention", "sliding_attention"})
    return f"it has layers of type {', '.join(other)}" if other else None


def _rope_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle that responses to one prompt are on both sides of a length at which rotary factors change."""
    for prompt, responses in lengths:
        if len({rope_class(model, prompt + response - 1) for response in responses}) > 1:
            return "its rotary factors depend on the length of the prompt with its response"
    return None


def _mask_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle to a dense mask: attention that ignores it, or a sliding window, which it replaces; or its size."""
    attention = text_config(model)._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention '{attention}' doesn't support custom masks (sdpa and eager do)"
    window = shortest_window(model)
    longest = max(prompt + max(responses) for prompt, responses in lengths)
    if window is not None and window < longest:
        return f"a sliding window of {window} tokens is shorter than the longest prompt with its response, {longest}"
    widest = max(prompt - 1 + sum(responses) for prompt, responses in lengths)
    if widest > WIDEST_MASK:
        return f"the longest shared row has {widest} tokens; a dense mask is used for up to {WIDEST_MASK}"
    return None


def _cost_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle that rows with a dense mask cost more than separate ones. Cost: multiply-adds per layer, weights
    times tokens plus attention to all T tokens under the mask, or to half of them in a plain causal row."""
    width = attention_width(model)
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    weights = (sum(p.numel() for p in model.parameters()) - embeddings) / len(layers(model))
    price = 2 * width * (DENSE_ATTENTION if next(model.parameters()).dtype.itemsize == 4 else HALF_DENSE_ATTENTION)

    def cost(tokens: int, attended: float) -> float:
        return tokens * weights + tokens * attended * price

    rows = [(prompt - 1 + sum(responses)) for prompt, responses in lengths]
    single = [prompt - 1 + response for prompt, responses in lengths for response in responses]
    shared, separate = sum(cost(t, t) for t in rows), sum(cost(t, t / 2) for t in single)
    return None if shared < separate else "one row per response is cheaper at these lengths"


def _trial_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle found by a trial: log-probabilities differ from those of separate rows. The second response repeats
    the first, so it becomes much likelier in a model whose branches see each other. The prompt fills a sliding window
    that is shorter than a row."""
    vocabulary, window = text_config(model).vocab_size, shortest_window(model)
    longest = max(prompt + max(responses) for prompt, responses in lengths)
    size = window if window is not None and window < longest else 4
    prompt, response = ([(start + 7 * i) % vocabulary for i in range(n)] for start, n in ((3, size), (11, 8)))
    responses = (response, response, response[::-1])
    parameter = next(model.parameters())

    def trial(shared: bool) -> torch.Tensor:
        rows = [token_row(prompt, group) for group in ([responses] if shared else [[r] for r in responses])]
        batch: dict[str, Any] = pad(rows, 0)
        logps, _ = response_logps(model, {k: batch[k].to(parameter.device) for k in FORWARD if k in batch})
        return logps

    try:
        with torch.no_grad(), evaluating(model):
            difference = (trial(True) - trial(False)).abs().max().item() / len(response)
    except Exception as error:  # a model that doesn't support the mask or the positions may fail in any way
        summary = str(error).splitlines()[0] if str(error) else ""
        return f"it doesn't support a block mask ({type(error).__name__}: {summary})"
    allowed = 1e-3 if parameter.dtype == torch.float32 else 0.05
    if difference <= allowed:
        return None
    return f"log-probabilities differ by {difference:.3g} nats per token with a block mask"
