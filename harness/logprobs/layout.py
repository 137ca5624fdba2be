"""Whether a model can process shared-prefix rows: a prompt once, followed by all its responses as branches.

This is exact if every layer attends only as prefix attention, or a dense mask, says. Other models get one row per
response.
"""

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from harness.children.shares import of_first
from harness.errors import ModelError
from harness.logprobs.attention import forgo_prefix_attention, has_prefix_attention, use_prefix_attention
from harness.logprobs.head import evaluating, response_logps
from harness.logprobs.rows import FORWARD, WIDEST_MASK, TokenRow, pad, token_row
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
_checked: "WeakSet[nn.Module]" = WeakSet()


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


def check_padding(model: nn.Module) -> None:
    """Raise ModelError if a longer row beside a response changes its log-probability, as it does where a release of
    transformers computes a family's padding wrongly. Rows of prefix attention have no padding."""
    if has_prefix_attention(model) or model in _checked:
        return
    difference = of_first(lambda: _difference_by_padding(model))
    # Rounding sends a token to another expert now and then; a mask that is wrong changes every token by about 1.
    if difference > (0.01 if next(model.parameters()).dtype == torch.float32 else 0.2):
        raise ModelError(
            f"{type(model).__name__}: transformers {version('transformers')} gives log-probabilities that differ by "
            f"{difference:.2g} nats per token when a longer row is in the batch, so figures would be wrong; install "
            f"another release of transformers"
        )
    _checked.add(model)


def _difference_by_padding(model: nn.Module) -> float:
    """The largest difference, in nats per token, between a response by itself and beside a longer row."""
    vocabulary, window = text_config(model).vocab_size, context_window(model)
    device, size = next(model.parameters()).device, 8
    longest = 40 if window is None else max(2, min(40, window - size))
    texts = [[(start + 7 * i) % vocabulary for i in range(n)] for start, n in ((3, 2), (5, longest), (11, size))]
    rows = [token_row(prompt, [texts[2]]) for prompt in texts[:2]]

    def logps(chosen: Sequence[TokenRow]) -> torch.Tensor:
        batch = pad(chosen, 0)
        return response_logps(model, {k: batch[k].to(device) for k in FORWARD if k in batch})[0]

    with torch.no_grad(), evaluating(model):
        alone, beside = torch.cat([logps([row]) for row in rows]), logps(rows)
    if not alone.isfinite().all():
        return 0.0  # weights that give no number: what needs one says so
    return (beside - alone).abs().nan_to_num(torch.inf).max().item() / size


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
