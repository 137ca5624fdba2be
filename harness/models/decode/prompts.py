"""Prompts in one forward pass: one after the other in one row, without padding.

What a chat template writes before the first message is computed once for all prompts. It follows from the tokenizer
alone, so that a row's numbers still don't depend on which others are decoded.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from harness.models.decode.attention import running

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LEAST = 4
"""Tokens of a forward pass, idle ones included. Measured for float32 and bfloat16 products of 1 to 64 rows."""
SHORTEST = 16
"""Tokens of a beginning that is worth it."""

Layers = list[tuple["Tensor", "Tensor"]]
"""Each layer's keys and values [K, P, D]."""


class Prompt(NamedTuple):
    """A computed prompt, and the logits of the next token [V]."""

    layers: Layers
    logits: "Tensor"


class Beginning(NamedTuple):
    """What most prompts begin with: its tokens, computed."""

    tokens: list[int]
    layers: Layers

    def begins(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt begins with it, and goes on."""
        return len(prompt) > len(self.tokens) and list(prompt[: len(self.tokens)]) == self.tokens


def compute_beginning(model: "PreTrainedModel", tokens: Sequence[int]) -> Beginning:
    (computed,) = compute_prompts(model, [tokens], None)
    return Beginning(list(tokens), computed.layers)


def compute_prompts(
    model: "PreTrainedModel", prompts: Sequence[Sequence[int]], beginning: Beginning | None
) -> list[Prompt]:
    """The prompts in order; those with the beginning in one forward pass, and the others in another."""
    rest = [i for i, prompt in enumerate(prompts) if beginning is None or not beginning.begins(prompt)]
    begun = sorted({*range(len(prompts))} - {*rest})
    done = dict(zip(rest, _compute(model, [prompts[i] for i in rest], None), strict=True)) if rest else {}
    if begun:
        done |= zip(begun, _compute(model, [prompts[i] for i in begun], beginning), strict=True)
    return [done[i] for i in range(len(prompts))]


def _compute(model: "PreTrainedModel", prompts: Sequence[Sequence[int]], beginning: Beginning | None) -> list[Prompt]:
    import torch
    from transformers import DynamicCache

    device = model.device
    cache = DynamicCache()  # without the configuration all layers keep every token
    start = len(beginning.tokens) if beginning else 0
    for i, (keys, values) in enumerate(beginning.layers if beginning else []):
        cache.update(keys[None], values[None], i)
    parts: list[Sequence[int]] = [prompt[start:] for prompt in prompts]
    # As in a step, at least `LEAST` rows are multiplied, here and by the head.
    if idle := max(0, LEAST - sum(map(len, parts))):
        parts.append([parts[0][0]] * idle)
    ends = [*accumulate(map(len, parts))]
    lasts = sorted({end - 1 for end in ends} | set(range(LEAST)))
    running.lengths = [len(part) for part in parts]
    out = model(
        input_ids=torch.tensor([[token for part in parts for token in part]], device=device),
        position_ids=torch.tensor([[start + at for part in parts for at in range(len(part))]], device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(lasts, device=device),
    )
    # A model that doesn't support `logits_to_keep` returns all logits.
    whole = out.logits.shape[1] == ends[-1]

    def own(tensor: "Tensor", end: int, length: int) -> "Tensor":
        last = tensor[0, :, start + end - length : start + end]
        return torch.cat([tensor[0, :, :start], last], 1) if start else last

    return [
        Prompt(
            [(own(layer.keys, end, len(part)), own(layer.values, end, len(part))) for layer in cache.layers],
            out.logits[0, end - 1 if whole else lasts.index(end - 1)],
        )
        for part, end in zip(parts[: len(prompts)], ends, strict=False)
    ]
