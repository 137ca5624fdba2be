"""Attention over rows that hold prompts once and their responses as branches, without a mask of T x T.

A branch attends to its prompt and, causally, to itself. `use_prefix_attention` registers this with transformers'
`AttentionInterface` and selects it for a model. The layers then get segment numbers [R, 1, 1, T] in place of a mask
(transformers hands 4-D masks on as they are); with any other mask they compute what they computed before, so decoding
doesn't change. `blocks` computes it on a CPU, `accelerated` on an accelerator.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from harness.logprobs import accelerated
from harness.logprobs.blocks import BlockAttention
from harness.logprobs.rows import dense_mask
from harness.logprobs.segments import Options, segments_of_mask
from harness.models.config import text_config

PREFIX = "prefix_"
"""How the names of our attention begin; what follows is the implementation that other masks get."""


def use_prefix_attention(model: Any) -> str | None:
    """Select this attention for a model; returns why that isn't possible."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

    before = text_config(model)._attn_implementation
    if has_prefix_attention(model):
        return None
    masks = {"sdpa": sdpa_mask, "eager": eager_mask}
    if before not in masks:
        return f"attention '{before}' doesn't support custom masks (sdpa and eager do)"
    name = PREFIX + before
    AttentionInterface.register(name, _sdpa_or_prefix if before == "sdpa" else _eager_or_prefix)
    AttentionMaskInterface.register(name, masks[before])
    _set(model, name)
    return None if has_prefix_attention(model) else "its attention can't be replaced"


def forgo_prefix_attention(model: Any) -> None:
    """Undo `use_prefix_attention`."""
    if has_prefix_attention(model):
        _set(model, text_config(model)._attn_implementation.removeprefix(PREFIX))


def _set(model: Any, name: str) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation(name)


def has_prefix_attention(model: nn.Module) -> bool:
    """Whether `use_prefix_attention` has been called for the model."""
    return bool(text_config(model)._attn_implementation.startswith(PREFIX))


def mask_of(model: nn.Module, segments: Tensor) -> Tensor:
    """What a model's attention takes as the mask of rows with these segment numbers [R, T]: the numbers themselves
    [R, 1, 1, T] for prefix attention, else a dense mask [R, 1, T, T]."""
    if has_prefix_attention(model):
        return segments[:, None, None]
    mask = dense_mask(segments)
    if text_config(model)._attn_implementation != "eager":
        return mask
    dtype = next(model.parameters()).dtype
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _sdpa_or_prefix(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return _prefix_or(sdpa_attention_forward, module, *args, **options)


def _eager_or_prefix(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, None]:
    return _prefix_or(sys.modules[type(module).__module__].eager_attention_forward, module, *args, **options)


def _prefix_or(
    other: Any, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, *args: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention [R, T, H, D] of query [R, H, T, D], key and value [R, G, T, D] (each shared by H/G heads)."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.long or mask.shape[1:3] != (1, 1):
        output: tuple[Tensor, None] = other(module, query, key, value, mask, *args, **options)
        return output
    if args or options.get("dropout") or options.get("position_bias") is not None:
        raise ValueError("prefix attention has no dropout and no position bias")
    scaling = options.get("scaling")
    chosen = Options(
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        options.get("softcap"),
        options.get("sliding_window"),
    )
    if query.device.type != "cpu":
        return accelerated.attend(module, query, key, value, mask, chosen, options.get("s_aux")), None
    if torch.is_autocast_enabled("cpu"):
        value = value.to(torch.get_autocast_dtype("cpu"))  # products with probabilities; scores stay as exact as theirs
    attended: Tensor = BlockAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, options.get("s_aux"), segments_of_mask(mask), chosen
    )
    return attended, None
