"""Whether a model can process shared-prefix rows: a prompt once, followed by all its responses as branches.

This is exact if every layer attends only through the given mask. Other models get one row per response.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.errors import ModelError
from harness.logprobs.head import evaluating, response_logps
from harness.logprobs.rows import FORWARD, pad, token_row
from harness.models.config import context_window, text_config

Lengths = tuple[int, Sequence[int]]
"""The number of tokens of a prompt, and of each of its responses."""


def shared_prefix_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """Why this model or these lengths need one row per response; None if shared-prefix rows are exact and cheaper."""
    return _config_obstacle(model, lengths) or _trial_obstacle(model) or _cost_obstacle(model, lengths)


def check_window(model: nn.Module, longest: int) -> None:
    """Raise ModelError if the longest prompt with its response has more tokens than the model has positions."""
    window = context_window(model)
    if window is not None and longest > window:
        raise ModelError(
            f"the longest prompt with its response has {longest} tokens, and the policy's window is {window}; "
            f"set training.max_length to at most {window}: longer responses are truncated and counted"
        )


def _config_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle that follows from the configuration: FlashAttention and recurrent layers ignore a custom mask, and a
    custom mask replaces that of a sliding window."""
    config = text_config(model)
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention '{attention}' doesn't support custom masks (sdpa and eager do)"
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    other = sorted(layer_types - {"full_attention", "sliding_attention"})
    if other:
        return f"it has layers of type {', '.join(other)}"
    window = getattr(config, "sliding_window", None)
    longest = max(prompt + max(responses) for prompt, responses in lengths)
    if (
        window is not None
        and window < longest
        and ("sliding_attention" in layer_types or not hasattr(config, "layer_types"))
    ):
        return f"a sliding window of {window} tokens is shorter than the longest prompt with its response, {longest}"
    return None


def _cost_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """The obstacle that shared rows cost more. Cost: multiply-adds per layer, weights times tokens plus attention over
    the whole dense mask."""
    config = text_config(model)
    head = getattr(config, "head_dim", None)
    width = int(head * config.num_attention_heads if head else config.hidden_size)
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    weights = (sum(p.numel() for p in model.parameters()) - embeddings) / int(config.num_hidden_layers)

    def cost(tokens: int) -> float:
        return tokens * weights + 2 * tokens**2 * width

    shared = sum(cost(prompt + sum(responses)) for prompt, responses in lengths)
    separate = sum(cost(prompt + response) for prompt, responses in lengths for response in responses)
    return None if shared < separate else "one row per response is cheaper at these lengths"


def _trial_obstacle(model: nn.Module) -> str | None:
    """The obstacle found by a trial: log-probabilities differ from those of separate rows. The second response repeats
    the first, so it becomes much likelier in a model whose branches see each other."""
    vocabulary = text_config(model).vocab_size
    prompt, response = ([(start + 7 * i) % vocabulary for i in range(n)] for start, n in ((3, 4), (11, 8)))
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
