"""Whether a model may be given shared-prefix rows: a prompt once, with all its responses as branches behind it.

Exact where every layer attends only through the mask that it is given. Other models get one row a response.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.errors import ModelError
from harness.training.batch import FORWARD, Group, collate
from harness.training.head import evaluating, response_logps, text_config

Lengths = tuple[int, Sequence[int]]
"""Tokens of a prompt and of each of its responses."""


def lengths_of(group: Group) -> Lengths:
    """A group's `Lengths`, of what is computed."""
    return len(group.prompt), [len(r) for r in group.computed_responses]


def shared_prefix_obstacle(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """Why this model or these lengths need one row a response; None where shared-prefix rows are exact and cheaper."""
    return _declared(model, lengths) or _tried(model) or _dearer(model, lengths)


def check_window(model: nn.Module, longest: int) -> None:
    """Raise ModelError where a prompt with its response has more tokens than the model has positions."""
    window = getattr(text_config(model), "max_position_embeddings", None)
    if window is not None and longest > window:
        raise ModelError(
            f"the longest prompt with its response has {longest} tokens, and the policy's window is {window}; "
            f"set training.max_length to at most {window}: responses are cut to it, and counted"
        )


def _declared(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """What the configuration says: a given mask reaches neither FlashAttention nor recurrent layers, and it takes the
    place of a sliding window's own."""
    config = text_config(model)
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention '{attention}' takes no mask of its own (sdpa and eager do)"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    other = sorted(kinds - {"full_attention", "sliding_attention"})
    if other:
        return f"it has layers of type {', '.join(other)}"
    window = getattr(config, "sliding_window", None)
    longest = max(prompt + max(responses) for prompt, responses in lengths)
    if window is not None and window < longest and ("sliding_attention" in kinds or not hasattr(config, "layer_types")):
        return f"a sliding window of {window} tokens is shorter than the longest prompt with its response, {longest}"
    return None


def _dearer(model: nn.Module, lengths: Sequence[Lengths]) -> str | None:
    """Multiply-adds a layer: weights times tokens, and attention, which goes over the whole of a dense mask."""
    config = text_config(model)
    head = getattr(config, "head_dim", None)
    width = int(head * config.num_attention_heads if head else config.hidden_size)
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    weights = (sum(p.numel() for p in model.parameters()) - embeddings) / int(config.num_hidden_layers)

    def cost(tokens: int) -> float:
        return tokens * weights + 2 * tokens**2 * width

    shared = sum(cost(prompt + sum(responses)) for prompt, responses in lengths)
    separate = sum(cost(prompt + response) for prompt, responses in lengths for response in responses)
    return None if shared < separate else "one row a response is cheaper at these lengths"


def _tried(model: nn.Module) -> str | None:
    """What a trial says: the same log-probabilities as from separate rows. The second response repeats the first, so
    that a model whose branches see each other finds it far likelier."""
    vocabulary = text_config(model).vocab_size
    prompt, response = ([(start + 7 * i) % vocabulary for i in range(n)] for start, n in ((3, 4), (11, 8)))
    group = Group("trial", prompt, (response, response, response[::-1]), (0.0,) * 3, (0.0,) * 3)
    parameter = next(model.parameters())

    def logps(shared: bool) -> torch.Tensor:
        batch: dict[str, Any] = collate([group], 0, shared=shared)
        found, _ = response_logps(model, {k: batch[k].to(parameter.device) for k in FORWARD if k in batch})
        return found

    try:
        with torch.no_grad(), evaluating(model):
            difference = (logps(True) - logps(False)).abs().max().item() / len(response)
    except Exception as error:  # a model that can't take the mask or the positions may fail in any way
        return (
            f"it can't take a block mask ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        )
    allowed = 1e-3 if parameter.dtype == torch.float32 else 0.05
    return (
        None
        if difference <= allowed
        else f"log-probabilities differ by {difference:.3g} nats a token with a block mask"
    )
