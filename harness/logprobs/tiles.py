"""Token log-probabilities from hidden states, one tile of tokens at a time in both forward and backward."""

import os
from functools import cache
from math import log2
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

LARGEST_TILE, LARGEST_CPU_TILE = 2**28, 2**26
"""The most logits per tile, on an accelerator (1 GB in float32) and on a CPU (256 MB; larger ones were not faster)."""
TILE_SHARE = 1 / 64
"""The share of the device's memory that a tile may take."""
VOCABULARY = 8192
"""Rows of the head's weights per product in half precision."""


class Head(NamedTuple):
    """The parts of a causal model: the decoder, and what computes float32 logits from its hidden states. `vocabulary`:
    the number of logits per token (a sharded projection doesn't tell)."""

    decoder: nn.Module
    projection: nn.Module
    vocabulary: int
    scale: float
    softcap: float | None

    def logits(self, hidden: Tensor) -> Tensor:
        """[K, V] float32 from [K, H]."""
        logits: Tensor = self.projection(hidden).float() * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def logps(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """log p(target) [K] from hidden [K, H] and targets [K]."""
        return pick(self.logits(hidden), targets)


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target) [K] from logits [K, V]."""
    return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)


@cache
def tile_size(device: torch.device) -> int:
    """Logits per tile, tokens times vocabulary, that suit a device's memory."""
    if device.type == "cuda":
        return tile_of(torch.cuda.get_device_properties(device).total_memory, LARGEST_TILE)
    return tile_of(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), LARGEST_CPU_TILE)


def tile_of(memory: int, largest: int) -> int:
    """The largest power of two, up to `largest`, whose float32 logits take at most TILE_SHARE of so many bytes."""
    return int(min(largest, 2 ** int(log2(memory * TILE_SHARE / 4))))


def tiled_logps(head: Head, hidden: Tensor, targets: Tensor, tile: int | None) -> Tensor:
    """Token log-probabilities [K] (float32) from hidden states [K, H]. `tile`: logits per tile; None: by memory."""
    size = max(1, (tile or tile_size(hidden.device)) // head.vocabulary)
    dtype = _product_dtype(hidden)
    if _is_plain(head, hidden):
        weight = head.projection.weight
        plain: Tensor = _PlainHead.apply(hidden, weight, targets, size, dtype)  # type: ignore[no-untyped-call]
        return plain
    trained = any(p.requires_grad for p in head.projection.parameters())
    if torch.is_grad_enabled() and hidden.requires_grad and not trained:
        logps: Tensor = _FrozenHead.apply(hidden, targets, head, size)  # type: ignore[no-untyped-call]
        return logps
    parts = list(zip(torch.split(hidden, size), torch.split(targets, size), strict=True))
    if torch.is_grad_enabled() and trained:
        return torch.cat([checkpoint(head.logps, h, t, use_reentrant=False) for h, t in parts])
    return torch.cat([head.logps(h, t) for h, t in parts])


def _product_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype of matrix products with these hidden states."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _is_plain(head: Head, hidden: Tensor) -> bool:
    """Whether logits are just hidden states times a matrix that is entirely in this process."""
    weight = getattr(head.projection, "weight", None)
    return (
        type(head.projection) is nn.Linear
        and type(weight) is nn.Parameter
        and head.projection.bias is None
        and (head.scale, head.softcap) == (1, None)
        and (weight.dtype == hidden.dtype or torch.is_autocast_enabled(hidden.device.type))
    )


class _Matrix:
    """A head's weights [V, H] in the dtype of its products. In half precision the products are of VOCABULARY rows at a
    time, so that no copy of the whole is needed, and sums over the vocabulary are in float32."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight
        self.dtype = dtype
        step = len(weight) if dtype == weight.dtype == torch.float32 else VOCABULARY
        self.parts = [slice(start, start + step) for start in range(0, len(weight), step)]

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """float32 logits [K, V], as the model itself computes them."""
        for part in self.parts:
            if self.dtype == out.dtype:
                torch.mm(hidden, self.weight[part].t(), out=out[:, part])
            else:
                out[:, part] = torch.mm(hidden, self.weight[part].to(self.dtype).t())
        return out

    def mean(self, values: Tensor) -> Tensor:
        """values [K, V] times the weights, float32 [K, H]."""
        total = values.new_zeros(len(values), self.weight.shape[1])
        for part in self.parts:
            total += torch.mm(values[:, part].to(self.dtype), self.weight[part].to(self.dtype))
        return total

    def add_gradient(self, total: Tensor, values: Tensor, hidden: Tensor, *, is_first: bool) -> None:
        """Add the product of values [K, V] and hidden states [K, H] to `total` [V, H], or write it there first: zeros
        of that size would cost as much time as a layer's products."""
        for part in self.parts:
            if self.dtype == total.dtype == torch.float32:
                total[part].addmm_(values[:, part].t(), hidden, beta=0 if is_first else 1)
            elif is_first:
                total[part] = torch.mm(values[:, part].to(self.dtype).t(), hidden)
            else:
                total[part] += torch.mm(values[:, part].to(self.dtype).t(), hidden)


class _PlainHead(torch.autograd.Function):
    """Token log-probabilities under a plain head. All tiles share one buffer of [size, V] and modify it in place: on a
    CPU, allocating that much memory costs as much time as the matrix products.

    Frozen head: a token's log-probability depends only on its own hidden state, so its gradient is computed in forward,
    and backward only scales it. Trained head: d logp / d weight depends on the incoming gradients. Backward takes the
    probabilities of the last tile from the buffer, and computes those of the others again.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, size: int, dtype: torch.dtype) -> Tensor:
        ctx.size, ctx.dtype, ctx.hidden_dtype, ctx.trained = size, dtype, hidden.dtype, weight.requires_grad
        is_differentiable, hidden, matrix = hidden.requires_grad, hidden.to(dtype), _Matrix(weight, dtype)
        buffer = hidden.new_empty(min(size, len(hidden)), len(weight), dtype=torch.float32)
        logps, normalisers, slopes = [], [], []
        exponentials = total = None
        for h, t in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
            logits = matrix.logits(h, buffer[: len(h)])
            highest = logits.amax(dim=1, keepdim=True)
            chosen = logits.gather(1, t[:, None])
            exponentials = logits.sub_(highest).exp_()
            total = exponentials.sum(dim=1, keepdim=True)
            normaliser = highest + total.log()
            logps.append((chosen - normaliser).squeeze(1))
            if ctx.trained:
                normalisers.append(normaliser)
            elif is_differentiable:
                slopes.append(weight[t].to(dtype).float() - matrix.mean(exponentials.div_(total)))
        if ctx.trained:
            ctx.save_for_backward(hidden, weight, targets, torch.cat(normalisers))
            ctx.last = (buffer, exponentials, total)
        elif slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.trained:
            (slopes,) = ctx.saved_tensors
            return (weights[:, None] * slopes).to(ctx.hidden_dtype), None, None, None, None
        hidden, weight, targets, normalisers = ctx.saved_tensors
        matrix = _Matrix(weight, ctx.dtype)
        buffer, exponentials, total = ctx.last or (None, None, None)
        ctx.last = None  # it is modified below, so a second backward can't use it
        if buffer is None:
            buffer = hidden.new_empty(min(ctx.size, len(hidden)), len(weight), dtype=torch.float32)
        d_hidden, d_weight = [], torch.empty_like(weight) if len(hidden) else torch.zeros_like(weight)
        parts = [torch.split(x, ctx.size) for x in (hidden, targets, normalisers, weights)]
        for h, t, normaliser, w in reversed(list(zip(*parts, strict=True))):
            # d logp / d logits = one-hot(target) - probabilities, times the token's incoming gradient.
            if exponentials is not None:
                slope, exponentials = exponentials.mul_(-w[:, None] / total), None
            else:
                slope = matrix.logits(h, buffer[: len(h)]).sub_(normaliser).exp_().mul_(-w[:, None])
            slope.scatter_add_(1, t[:, None], w[:, None])
            d_hidden.append(matrix.mean(slope))
            matrix.add_gradient(d_weight, slope, h, is_first=len(d_hidden) == 1)
        return torch.cat(d_hidden[::-1]).to(ctx.hidden_dtype), d_weight, None, None, None


class _FrozenHead(torch.autograd.Function):
    """Token log-probabilities under a frozen head. A token's log-probability depends only on its own hidden state, so
    d logp / d hidden is computed in forward, tile by tile, and backward only scales it."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Head, size: int) -> Tensor:
        logps, slopes = [], []
        for h, t in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
            with torch.enable_grad():
                leaf = h.detach().requires_grad_()
                logp = head.logps(leaf, t)
                slopes.append(torch.autograd.grad(logp.sum(), leaf)[0])
            logps.append(logp.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return (weights[:, None] * slopes).to(slopes.dtype), None, None, None
