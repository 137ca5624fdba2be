"""Prefix attention on a CPU: each segment's queries with their keys, a few matrix products a block."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.logprobs.segments import Block, Options, Segment, blocks_of


class BlockAttention(torch.autograd.Function):
    """Attention, block by block, with float32 scores. Backward computes each block's probabilities again, from the
    log-sum-exp of its scores. The heads that share a key are stacked into one matrix of queries."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        rows: list[list[Segment]],
        options: Options,
    ) -> Tensor:
        (count, heads, width, _), keys = query.shape, key.shape[1]
        out = value.new_zeros(count, width, heads, value.shape[-1])
        norms = query.new_zeros(count, heads, width, dtype=torch.float32)
        for r, segments in enumerate(rows):
            out_r = out[r].view(width, keys, heads // keys, -1).permute(1, 2, 0, 3)
            norms_r = norms[r].view(keys, heads // keys, width)
            for block in (block for segment in segments for block in blocks_of(segment, options.window)):
                scores = _scores(_scaled(query[r], keys, block, options), _take(key[r], block), block, options)
                highest = scores.amax(dim=-1, keepdim=True)
                if sinks is not None:
                    sink = _per_query(sinks, keys, block)
                    highest = torch.maximum(highest, sink)
                total = scores.sub_(highest).exp_().sum(dim=-1, keepdim=True)
                if sinks is not None:
                    total += (sink - highest).exp_()
                attended = torch.bmm(scores.to(value.dtype), _take(value[r], block)).div_(total)
                out_r[:, :, block.start : block.stop] = _unstack(attended, block)
                norms_r[:, :, block.start : block.stop] = _unstack(highest + total.log_(), block)[..., 0]
        ctx.save_for_backward(query, key, value, sinks, out, norms)
        ctx.rows, ctx.options = rows, options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, sinks, out, norms = ctx.saved_tensors
        options: Options = ctx.options
        (_, heads, width, _), keys = query.shape, key.shape[1]
        d_query = torch.zeros_like(query)
        d_key, d_value = (torch.zeros_like(x, dtype=torch.float32) for x in (key, value))
        # sum over keys of probability times its gradient: [R, T, H]
        means = torch.einsum("rthd,rthd->rth", gradient.float(), out.float())
        for r, segments in enumerate(ctx.rows):
            gradient_r = gradient[r].transpose(0, 1)
            d_query_r = d_query[r].view(keys, heads // keys, width, -1)
            for block in (block for segment in segments for block in blocks_of(segment, options.window)):
                queries, of_block = _scaled(query[r], keys, block, options), _stack(gradient_r, keys, block)
                k, v = _take(key[r], block), _take(value[r], block)
                scores = _scores(queries, k, block, options)
                slope = None if options.softcap is None else (scores / options.softcap).square_().neg_().add_(1)
                probabilities = scores.sub_(_stack(norms[r][..., None], keys, block)).exp_()
                _add(d_value[r], torch.bmm(probabilities.to(v.dtype).transpose(1, 2), of_block), block)
                mean = _stack(means[r].t()[..., None], keys, block)
                d_scores = torch.bmm(of_block, v.transpose(1, 2)).float().sub_(mean).mul_(probabilities)
                if slope is not None:
                    d_scores.mul_(slope.nan_to_num_(0.0, 0.0, 0.0))  # a hidden key's score is -inf
                d_scores = d_scores.to(v.dtype)
                d_queries = torch.bmm(d_scores, k.to(v.dtype)).mul_(options.scaling)
                d_query_r[:, :, block.start : block.stop] = _unstack(d_queries, block)
                _add(d_key[r], torch.bmm(d_scores.transpose(1, 2), queries.to(v.dtype)), block)
        d_sinks = None
        if sinks is not None:
            probabilities = (sinks.float()[:, None] - norms).exp_()
            real = torch.zeros(norms.shape[0], 1, width, dtype=torch.bool)
            for r, segments in enumerate(ctx.rows):
                for segment in segments:
                    real[r, :, segment.start : segment.stop] = True
            d_sinks = -(probabilities * means.transpose(1, 2)).masked_fill_(~real, 0).sum(dim=(0, 2)).to(sinks.dtype)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), d_sinks, None, None


def _stack(values: Tensor, keys: int, block: Block) -> Tensor:
    """[G, H/G * queries, D] of a block from values [H, T, D]: the heads of one key below each other."""
    heads, _, size = values.shape
    return values[:, block.start : block.stop].reshape(keys, heads // keys * (block.stop - block.start), size)


def _scaled(query: Tensor, keys: int, block: Block, options: Options) -> Tensor:
    """The block's queries, stacked, in float32 and scaled, which takes less time than to scale their scores."""
    return _stack(query, keys, block).float() * options.scaling


def _unstack(values: Tensor, block: Block) -> Tensor:
    """The inverse of `_stack`: [G, H/G, queries, D]."""
    return values.view(len(values), -1, block.stop - block.start, values.shape[-1])


def _per_query(sinks: Tensor, keys: int, block: Block) -> Tensor:
    """A head's sink for each of its queries in a block: float32 [G, H/G * queries, 1]."""
    return sinks.float().view(keys, -1).repeat_interleave(block.stop - block.start, dim=1)[..., None]


def _take(values: Tensor, block: Block) -> Tensor:
    """The keys or values of a block [G, keys, D] from those of a row [G, T, D]."""
    own = values[:, block.own : block.stop]
    if block.shared_start == block.shared_stop:
        return own
    return torch.cat([values[:, block.shared_start : block.shared_stop], own], dim=1)


def _add(total: Tensor, part: Tensor, block: Block) -> None:
    """Add the gradient of `_take`'s result to that of its argument."""
    shared = block.shared_stop - block.shared_start
    if shared:
        total[:, block.shared_start : block.shared_stop] += part[:, :shared]
    total[:, block.own : block.stop] += part[:, shared:]


def _scores(queries: Tensor, keys: Tensor, block: Block, options: Options) -> Tensor:
    """float32 scores of a block [G, H/G * queries, keys], of scaled queries; -inf where a key follows the query, or is
    out of its window."""
    scores = torch.bmm(queries, keys.float().transpose(1, 2))
    if options.softcap is not None:
        scores.div_(options.softcap).tanh_().mul_(options.softcap)
    count = block.stop - block.start
    of_query = scores.view(len(scores), -1, count, scores.shape[-1])
    of_query[..., block.first :].add_(_triangle(count))
    if options.window and scores.shape[-1] > options.window:
        reach = torch.arange(count)[:, None] + (block.first - options.window)
        of_query.masked_fill_(torch.arange(scores.shape[-1]) <= reach, -torch.inf)
    return scores


@lru_cache(maxsize=256)
def _triangle(count: int) -> Tensor:
    """-inf above the diagonal, float32 [count, count]."""
    return torch.full((count, count), -torch.inf).triu_(1)
