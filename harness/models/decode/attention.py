"""Attention of one new token per row over keys and values in slots, as an attention function of `transformers`.

A slot holds one row: its tokens start at column 0, and it has a length of its own. So a row's numbers don't depend on
the lengths of the others, and a slot is free for another row as soon as its row is finished. The queries that share a
head of keys are rows of one small product: at 24 rows of 120 tokens with 9 heads over 3, a layer takes 0.4 ms in
bfloat16 on a CPU, and 3.8 ms by `scaled_dot_product_attention` with repeated keys.

Shapes: R rows, H heads, K heads of keys and values, G = H / K, D width, C columns, T columns in use, P prompt tokens.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "harness_slots"
ROUND = 32
"""Columns in use are rounded up to a multiple of it: sums over columns are then formed in the same order whatever the
longest row's length."""
PART = 400
"""Rows are split into parts where that saves so many columns, over all rows. Measured for SmolLM2-135M: the products of
a part take as long as 400 columns."""


class Running(threading.local):
    """What this thread computes: a step of its slots, or (None) prompts of these `lengths`. `windows`: the sliding
    windows that layers have asked for, if they are recorded."""

    step: "Step | None" = None
    lengths: Sequence[int] = ()
    windows: "list[int | None] | None" = None


running = Running()


class Step:
    """One new token for each of the first R slots, at column `positions` of each."""

    def __init__(self, positions: Sequence[int], columns: int, device: "torch.device") -> None:
        import torch

        self.positions = torch.tensor(positions, device=device)
        self.rows = torch.arange(len(positions), device=device)
        self.longest = max(positions) + 1
        used = [min(columns, -(-(at + 1) // ROUND) * ROUND) for at in positions]
        self.parts = [(start, end, max(used[start:end])) for start, end in _parts(used, 0, len(used))]
        self._biases: dict[tuple[int, int | None, int, Any], Tensor] = {}

    def bias(self, part: int, window: int | None, heads: int, dtype: Any) -> "Tensor":
        """0 for a column that a row's new token attends to, else minus infinity, for a part of the rows [R * K, 1,
        T]."""
        import torch

        key = (part, window, heads, dtype)
        if key not in self._biases:
            start, end, used = self.parts[part]
            columns = torch.arange(used, device=self.positions.device)
            last = self.positions[start:end, None]
            hidden = columns > last
            if window is not None:
                hidden |= columns <= last - window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
            self._biases[key] = bias.repeat_interleave(heads, 0)[:, None]
        return self._biases[key]


def _parts(used: Sequence[int], start: int, end: int) -> list[tuple[int, int]]:
    """Rows `start` to `end` in parts, each with as many columns as its longest row uses: one part if two would save
    fewer than PART columns."""
    best, at = PART - 1, start
    whole = (end - start) * max(used[start:end])
    for middle in range(start + 1, end):
        saved = whole - (middle - start) * max(used[start:middle]) - (end - middle) * max(used[middle:end])
        if saved > best:
            best, at = saved, middle
    return [(start, end)] if at == start else [*_parts(used, start, at), *_parts(used, at, end)]


class SlotLayer:
    """Keys and values [R, K, C, D] of one layer."""

    def __init__(self, keys: "Tensor", values: "Tensor") -> None:
        self.keys, self.values = keys, values

    def store(self, keys_RKD: "Tensor", values_RKD: "Tensor", step: Step) -> "tuple[Tensor, Tensor]":
        """Append a token to each of the first rows; returns these rows' keys and values."""
        count = len(keys_RKD)
        self.keys[step.rows, :, step.positions] = keys_RKD
        self.values[step.rows, :, step.positions] = values_RKD
        return self.keys[:count], self.values[:count]


@contextmanager
def slot_attention(model: Any) -> Iterator[None]:
    """While it lasts, the model's attention is the function below. It belongs to the model, so all threads that use
    the model must be inside."""
    from transformers import AttentionInterface, PreTrainedModel

    AttentionInterface.register(NAME, attend)
    configs = {
        id(config): config for m in model.modules() if isinstance(m, PreTrainedModel) for config in _configs(m.config)
    }
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def _configs(config: Any) -> "list[Any]":
    """A configuration, and those of the model's parts."""
    parts = [getattr(config, name, None) for name in config.sub_configs]
    return [config, *(inner for part in parts if part is not None for inner in _configs(part))]


class Options(NamedTuple):
    """How a layer attends. `scale`: of scores, before softcap * tanh(score / softcap); `window`: a token sees the last
    so many, itself included; `sinks` [H]: scores of one more entry per head, whose share is left out."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: "Tensor | None"


def attend(
    module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: "Tensor | None" = None,
    position_bias: "Tensor | None" = None,
    **_: Any,
) -> "tuple[Tensor, None]":
    """Attention of a step, or of whole prompts from their first token. Raises NotImplementedError for what it can't
    mask."""
    if attention_mask is not None or position_bias is not None:
        raise NotImplementedError("a mask or bias of the model's own")
    if running.windows is not None:
        running.windows.append(sliding_window)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    how = Options(scale, sliding_window, softcap, s_aux)
    out = _prompts(query, key, value, how) if running.step is None else _step(running.step, query, key, value, how)
    return out.transpose(1, 2).contiguous(), None


def _step(step: Step, query: "Tensor", key: "Tensor", value: "Tensor", how: Options) -> "Tensor":
    import torch

    scale, window, softcap, sinks = how
    heads, width = key.shape[1], key.shape[3]
    # Scores in float32: a CPU has no product of bfloat16 matrices with such a result.
    exact = torch.float32 if key.device.type == "cpu" else key.dtype
    queries = query.reshape(len(query), heads, -1, width).to(exact)
    outs = []
    for part, (start, end, used) in enumerate(step.parts):
        bias = step.bias(part, window, heads, exact)
        q = queries[start:end].flatten(0, 1)
        k = key[start:end].flatten(0, 1)[:, :used].to(exact).transpose(1, 2)
        v = value[start:end].flatten(0, 1)[:, :used]
        if softcap is None:
            scores = torch.baddbmm(bias, q, k, alpha=scale)
        else:
            scores = torch.tanh(torch.bmm(q, k) * (scale / softcap)) * softcap + bias
        probs = _softmax(scores, None if sinks is None else sinks.view(heads, -1, 1).repeat(end - start, 1, 1))
        outs.append(torch.bmm(probs.to(v.dtype), v))
    return torch.cat(outs).view(len(query), query.shape[1], 1, -1)


def _softmax(scores: "Tensor", sinks: "Tensor | None") -> "Tensor":
    """Softmax over the last dimension, in float32. `sinks`: scores of one more entry, whose share is left out."""
    import torch

    if sinks is None:
        return torch.softmax(scores, -1, dtype=torch.float32)
    both = torch.cat([scores, sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)], -1)
    return torch.softmax(both, -1, dtype=torch.float32)[..., :-1]


def _prompts(query: "Tensor", key: "Tensor", value: "Tensor", how: Options) -> "Tensor":
    """Causal attention within each of the prompts, which lie one after the other in one row [1, H, T, D]. What keys and
    values [1, K, S + T, D] have more comes before each of them."""
    import torch

    before, lengths = key.shape[2] - query.shape[2], list(running.lengths)
    outs, start = [], 0
    for n in lengths:
        rows = slice(start, start + n)
        k, v = (
            torch.cat([t[:, :, :before], t[:, :, before:][:, :, rows]], 2) if before else t[:, :, rows]
            for t in (key, value)
        )
        outs.append(_causal(query[:, :, rows], k, v, how))
        start += n
    return torch.cat(outs, 2)


def _causal(query: "Tensor", key: "Tensor", value: "Tensor", how: Options) -> "Tensor":
    """Attention of the last tokens of one prompt [1, H, N, D] over the whole of it [1, K, P, D]."""
    import torch

    scale, window, softcap, sinks = how
    length, new = key.shape[2], query.shape[2]
    if window is not None and window >= length:
        window = None
    if softcap is None and sinks is None and window is None and new == length:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=length > 1, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
    places = torch.arange(length, device=query.device)
    at = places[length - new :, None]
    seen = places <= at
    if window is not None:
        seen &= places > at - window
    if softcap is None and sinks is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
    group = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, key.repeat_interleave(group, 1).transpose(2, 3)) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~seen, -torch.inf)
    probs = _softmax(scores, None if sinks is None else sinks.view(1, -1, 1, 1))
    return torch.matmul(probs.to(value.dtype), value.repeat_interleave(group, 1))
