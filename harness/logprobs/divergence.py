"""The Kullback-Leibler divergence of one model from another at the tokens of responses, over the whole vocabulary.

At each token it is KL(policy(. | prefix) || reference(. | prefix)) = sum over v of p(v) (log p(v) - log q(v)), exact
rather than log p - log q of the token that was sampled. Summed over the tokens of responses that the policy sampled at
temperature 1, it is an unbiased estimate of the divergence of whole responses, of which the log-ratios of the sampled
tokens are a noisier one (Rao-Blackwellised, arXiv 2504.10637).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.logprobs.head import evaluating, response_states
from harness.logprobs.inputs import by_rope_class
from harness.logprobs.layout import check_padding
from harness.logprobs.rows import Batch, pad, token_row
from harness.logprobs.tiles import tile_size
from harness.types import Advance

IN_MEMORY = 4
"""Tensors of a tile's size that exist at a time."""


class TokenPair(NamedTuple):
    """Token ids of a prompt and of a response to it, neither empty."""

    prompt: Sequence[int]
    response: Sequence[int]


def response_divergences(
    policy: nn.Module,
    reference: nn.Module | None,
    pairs: Sequence[TokenPair],
    *,
    pad_id: int,
    batch_size: int,
    advance: Advance,
) -> list[float]:
    """The divergence of `policy` from `reference`, in nats, summed over the tokens of each response, in order.
    `reference` None: the policy is a PEFT model, and its reference the same without the adapters. A forward pass has
    `batch_size` responses, the longest first; `advance` is called with the number of those just finished. Not finite
    where a model gives no number, or the reference no probability. Raises ModelError if padding changes results."""
    if not pairs:
        return []
    check_padding(policy)
    device = next(policy.parameters()).device
    found: dict[int, float] = {}
    with torch.no_grad(), evaluating(policy), evaluating(reference) if reference is not None else nullcontext():
        for chosen in _batches(pairs, batch_size):
            batch = pad([token_row(pairs[i].prompt, [pairs[i].response]) for i in chosen], pad_id)
            tokens = _token_divergences(policy, reference, {k: tensor.to(device) for k, tensor in batch.items()})
            sums = [part.sum().item() for part in torch.split(tokens, batch["lengths"].tolist())]
            found.update(zip(chosen, sums, strict=True))
            advance(len(chosen))
    return [found[i] for i in range(len(pairs))]


def _batches(pairs: Sequence[TokenPair], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i].prompt) - len(pairs[i].response), i))
    return (order[start : start + size] for start in range(0, len(order), size))


def _token_divergences(policy: nn.Module, reference: nn.Module | None, batch: Batch) -> Tensor:
    """[T] float64 on the CPU, of all response tokens of a batch with one response a row, in order."""
    if (parts := by_rope_class(policy, batch)) is not None:
        by_response: dict[int, Tensor] = {}
        for part, places in parts:
            of_part = torch.split(_token_divergences(policy, reference, part), part["lengths"].tolist())
            by_response.update(zip(places.tolist(), of_part, strict=True))
        return torch.cat([by_response[i] for i in range(len(by_response))])
    other = policy if reference is None else reference
    of_policy = response_states(policy, batch)
    with _as_reference(policy, reference):
        of_reference = response_states(other, batch)
    size = max(1, tile_size(batch["input_ids"].device) // (IN_MEMORY * of_policy.vocabulary))
    found = []
    for states, others in zip(of_policy.split(size), of_reference.split(size), strict=True):
        with _as_reference(policy, reference):  # the head, too, may have an adapter
            other_logps = of_reference.logits(others).log_softmax(dim=1)
        found.append(_divergences(of_policy.logits(states).log_softmax(dim=1), other_logps))
    return torch.cat(found).cpu()


def _as_reference(policy: Any, reference: nn.Module | None) -> AbstractContextManager[Any]:
    """While open, the policy is its own reference if there is no other one."""
    without: AbstractContextManager[Any] = nullcontext() if reference is not None else policy.disable_adapter()
    return without


def _divergences(logps: Tensor, others: Tensor) -> Tensor:
    """KL [T] float64 from log-probabilities [T, V] float32, which are overwritten. What the first gives no probability
    counts 0, whatever the second gives it."""
    differences = others.neg_().add_(logps)
    probabilities = logps.exp_()
    return differences.mul_(probabilities).masked_fill_(probabilities == 0, 0.0).sum(dim=1, dtype=torch.float64)
