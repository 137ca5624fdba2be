"""Prefix attention on an accelerator: FlashAttention over key lists (varlen), or FlexAttention.

Not run on a GPU yet: the tests compare the pairs of tokens that both see with the dense mask, on a CPU. The trial in
`layout` compares log-probabilities on the device before either is used.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harness.logprobs.rows import BRANCHES
from harness.logprobs.segments import Options, Segment, segments_of_mask

LARGEST_HEAD = 256
"""The widest head that FlashAttention takes."""


class KeyLists(NamedTuple):
    """Each segment as a sequence of FlashAttention's: places of its queries and of its keys among all tokens of the
    batch, and where each sequence begins in these lists (int32, one more than sequences). A query sees the keys up to
    its own, counted from the end."""

    queries: Tensor
    keys: Tensor
    query_starts: Tensor
    key_starts: Tensor
    most_queries: int
    most_keys: int


def key_lists(rows: Sequence[Sequence[Segment]], width: int, device: torch.device) -> KeyLists:
    """The key lists of rows of `width` tokens."""
    queries: list[int] = []
    keys: list[int] = []
    query_counts, key_counts = [0], [0]
    for r, segments in enumerate(rows):
        for prompt, shared, start, stop in segments:
            own = range(r * width + start, r * width + stop)
            queries += own
            keys += [*range(r * width + prompt, r * width + prompt + shared), *own]
            query_counts.append(len(own))
            key_counts.append(shared + len(own))

    def starts(counts: list[int]) -> Tensor:
        return torch.tensor(counts, device=device).cumsum(0).to(torch.int32)

    return KeyLists(
        torch.tensor(queries, device=device),
        torch.tensor(keys, device=device),
        starts(query_counts),
        starts(key_counts),
        max(query_counts),
        max(key_counts),
    )


def mask_function(segments: Tensor, window: int | None) -> Callable[..., Tensor]:
    """FlexAttention's `mask_mod` for rows with segment numbers [R, T]; the same pairs as `dense_mask`."""
    positions = _positions(segments)

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_query, of_key = segments[row, query], segments[row, key]
        of_prompt = (of_key % BRANCHES == 0) & (of_key // BRANCHES == of_query // BRANCHES) & (of_query >= 0)
        seen = (query >= key) & (of_prompt | (of_key == of_query))
        if window is None:
            return seen
        return seen & (positions[row, query] - positions[row, key] < window)

    return visible


def _positions(segments: Tensor) -> Tensor:
    """Each token's position in its own sequence, [R, T]."""
    positions = torch.zeros_like(segments, device="cpu")
    for r, row in enumerate(segments_of_mask(segments[:, None, None])):
        for _, shared, start, stop in row:
            positions[r, start:stop] = torch.arange(shared, shared + stop - start)
    return positions.to(segments.device)


_of_mask: "WeakTensorKeyDictionary" = WeakTensorKeyDictionary()


def _once(mask: Tensor, what: Any, compute: Callable[[], Any]) -> Any:
    """What all layers of a forward share, computed by the first."""
    if mask not in _of_mask:
        _of_mask[mask] = {}
    cache = _of_mask[mask]
    if what not in cache:
        cache[what] = compute()
    return cache[what]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: Options, sinks: Tensor | None
) -> Tensor:
    """Attention [R, T, H, D] of query [R, H, T, D], key and value [R, G, T, D]; mask: segment numbers [R, 1, 1, T]."""
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    flash = (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= LARGEST_HEAD
        and options.softcap is None
        and sinks is None
    )
    return (_flash if flash else _flex)(module, query, key, value, mask, options, sinks)


def _flash(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: Options, _sinks: Tensor | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, width, size = query.shape
    lists = _once(mask, "lists", lambda: key_lists(segments_of_mask(mask), width, mask.device))

    def tokens(values: Tensor, places: Tensor) -> Tensor:
        return values.transpose(1, 2).reshape(rows * width, -1, size).index_select(0, places)

    attended: Any = varlen_attn(
        tokens(query, lists.queries),
        tokens(key, lists.keys),
        tokens(value, lists.keys),
        lists.query_starts,
        lists.key_starts,
        lists.most_queries,
        lists.most_keys,
        scale=options.scaling,
        window_size=(options.window - 1 if options.window else -1, 0),
        enable_gqa=heads != key.shape[1],
    )
    output: Tensor = attended.new_zeros(rows * width, heads, size).index_copy(0, lists.queries, attended)
    return output.view(rows, width, heads, size)


def _flex(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: Options, sinks: Tensor | None
) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask
    from transformers.integrations.flex_attention import flex_attention_forward

    def block_mask() -> Any:
        visible = mask_function(mask[:, 0, 0], options.window)
        return create_block_mask(visible, len(mask), None, mask.shape[-1], mask.shape[-1], device=mask.device)

    blocks = _once(mask, ("blocks", options.window), block_mask)
    scaling = {"scaling": options.scaling, "softcap": options.softcap, "s_aux": sinks}
    output: Tensor = flex_attention_forward(module, query, key, value, blocks, **scaling)[0]
    return output
