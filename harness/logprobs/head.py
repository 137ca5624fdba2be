"""Log-probabilities of responses, without ever materialising a [tokens, vocabulary] tensor.

The decoder runs without its head. Only the hidden states of response positions are projected onto the vocabulary, one
tile of tokens at a time, with log-softmax in float32. Scaling and soft-capping of the logits are read from the model's
configuration. The result is checked once per model against the model's own logits on a few tokens. If they differ, the
model's own logits are used from then on, and the reason is logged.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from harness.logprobs.rows import IGNORED, Batch
from harness.models.config import text_config

TILE = 2**24
"""Logits per tile: tokens times vocabulary (64 MB in float32)."""

_log = logging.getLogger(__name__)


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
        return _pick(self.logits(hidden), targets)


def _pick(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)


def response_logps(model: nn.Module, batch: Batch, *, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities [K] (float32, natural log, with gradient) of a batch's K responses, and their lengths.

    `model`: a transformers causal language model, plain or wrapped by PEFT. `tile`: logits per tile.
    """
    targets: Tensor = batch["targets"]
    is_response = targets != IGNORED
    head = _head_of(model)
    if head is None:
        logits = model(**_inputs(model, batch), use_cache=False).logits
        tokens = _pick(logits[is_response].float(), targets[is_response])
    else:
        hidden = head.decoder(**_inputs(model, batch), use_cache=False).last_hidden_state
        tokens = _tiled(head, hidden[is_response], targets[is_response], tile)
    lengths: Tensor = batch["lengths"]
    return pad_sequence(list(torch.split(tokens, lengths.tolist())), batch_first=True).sum(dim=1), lengths


def give_logps(model: nn.Module) -> None:
    """Make `model(**batch)` return `response_logps` for a batch with targets. Training must call the model itself,
    because its wrappers (DDP, FSDP, DeepSpeed) hook into the model's forward."""
    _head_of(model)  # the trial forward must run before anything is wrapped or sharded
    original = model.forward

    def forward(*args: Any, targets: Tensor | None = None, lengths: Tensor | None = None, **inputs: Any) -> Any:
        if targets is None:
            return original(*args, **inputs)
        return response_logps(model, {"targets": targets, "lengths": lengths, **inputs})

    model.forward = forward


def _inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    names = ("input_ids", "attention_mask", "position_ids")
    inputs = {name: batch[name] for name in names if name in batch}
    mask = inputs["attention_mask"]
    if mask.dim() == 4 and text_config(model)._attn_implementation == "eager":
        dtype = next(model.parameters()).dtype
        inputs["attention_mask"] = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return inputs


def _tiled(head: Head, hidden: Tensor, targets: Tensor, tile: int) -> Tensor:
    """Token log-probabilities [K], computed one tile of tokens at a time in both forward and backward."""
    size = max(1, tile // head.vocabulary)
    if _is_plain(head, hidden):
        plain: Tensor = _PlainHead.apply(hidden, head.projection.weight, targets, size)  # type: ignore[no-untyped-call]
        return plain
    trained = any(p.requires_grad for p in head.projection.parameters())
    if torch.is_grad_enabled() and hidden.requires_grad and not trained:
        logps: Tensor = _FrozenHead.apply(hidden, targets, head, size)  # type: ignore[no-untyped-call]
        return logps
    parts = list(zip(torch.split(hidden, size), torch.split(targets, size), strict=True))
    if torch.is_grad_enabled() and trained:
        return torch.cat([checkpoint(head.logps, h, t, use_reentrant=False) for h, t in parts])
    return torch.cat([head.logps(h, t) for h, t in parts])


def _is_plain(head: Head, hidden: Tensor) -> bool:
    """Whether float32 logits are just hidden states times a float32 matrix that is entirely in this process."""
    weight = getattr(head.projection, "weight", None)
    return (
        type(head.projection) is nn.Linear
        and type(weight) is nn.Parameter
        and head.projection.bias is None
        and (head.scale, head.softcap) == (1, None)
        and weight.dtype == hidden.dtype == torch.float32
        and not torch.is_autocast_enabled(hidden.device.type)
    )


class _PlainHead(torch.autograd.Function):
    """Token log-probabilities under a plain float32 head. All tiles share one buffer of [size, V] and modify it in
    place: on a CPU, allocating that much memory costs as much time as the matrix products.

    Frozen head: a token's log-probability depends only on its own hidden state, so its gradient is computed in forward,
    and backward only scales it. Trained head: backward recomputes the logits, because d logp / d weight depends on the
    incoming gradients.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, size: int) -> Tensor:
        ctx.size = size
        ctx.trained = weight.requires_grad
        buffer = hidden.new_empty(min(size, len(hidden)), len(weight))
        logps, normalisers, slopes = [], [], []
        for h, t in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
            logits = torch.mm(h, weight.t(), out=buffer[: len(h)])
            highest = logits.amax(dim=1, keepdim=True)
            chosen = logits.gather(1, t[:, None])
            total = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
            normaliser = highest + total.log()
            logps.append((chosen - normaliser).squeeze(1))
            if ctx.trained:
                normalisers.append(normaliser)
            elif hidden.requires_grad:
                slopes.append(weight[t].addmm_(logits.div_(total), weight, alpha=-1))
        if ctx.trained:
            ctx.save_for_backward(hidden, weight, targets, torch.cat(normalisers))
        elif slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.trained:
            (slopes,) = ctx.saved_tensors
            return weights[:, None] * slopes, None, None, None
        hidden, weight, targets, normalisers = ctx.saved_tensors
        buffer = hidden.new_empty(min(ctx.size, len(hidden)), len(weight))
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        parts = (torch.split(x, ctx.size) for x in (hidden, targets, normalisers, weights, d_hidden))
        for h, t, normaliser, w, d_h in zip(*parts, strict=True):
            # d logp / d logits = one-hot(target) - probabilities, times the token's incoming gradient.
            slope = torch.mm(h, weight.t(), out=buffer[: len(h)]).sub_(normaliser).exp_().mul_(-w[:, None])
            slope.scatter_add_(1, t[:, None], w[:, None])
            torch.mm(slope, weight, out=d_h)
            d_weight.addmm_(slope.t(), h)
        return d_hidden, d_weight, None, None


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


_heads: "WeakKeyDictionary[nn.Module, Head | None]" = WeakKeyDictionary()


def _head_of(model: nn.Module) -> Head | None:
    """The parts of a model, or None if they don't reproduce the model's own logits."""
    if model not in _heads:
        head, obstacle = _take_apart(model)
        if obstacle:
            _log.warning("%s: full logits are kept in memory during training: %s", type(model).__name__, obstacle)
        _heads[model] = None if obstacle else head
    return _heads[model]


def _take_apart(model: nn.Module) -> tuple[Head | None, str | None]:
    """(the parts of a model, why they can't be used); one of the two is None."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    config = text_config(model)
    decoder, projection = base.get_decoder(), base.get_output_embeddings()
    if decoder is base or projection is None:
        return None, "its decoder can't be separated from its head"
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    softcap = getattr(config, "final_logit_softcapping", None)
    head = Head(decoder, projection, config.vocab_size, scale, softcap)
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None] % config.vocab_size
    with torch.no_grad(), evaluating(model):
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        actual = head.logits(decoder(input_ids=ids, use_cache=False).last_hidden_state[0])
    tolerance = 1e-4 if expected.dtype == actual.dtype == next(model.parameters()).dtype == torch.float32 else 3e-2
    if expected.shape != actual.shape or (expected - actual).abs().max() > tolerance * expected.abs().max():
        return None, "its logits are more than a projection of its hidden states"
    return head, None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode; restores each module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
