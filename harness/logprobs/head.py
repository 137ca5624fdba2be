"""Log-probabilities of responses, without ever materialising a [tokens, vocabulary] tensor.

The decoder runs without its head. Only the hidden states of response positions are projected onto the vocabulary, one
tile of tokens at a time, with log-softmax in float32. Scaling and soft-capping of the logits are read from the model's
configuration. The result is checked once per model against the model's own logits on a few tokens. If they differ, the
model's own logits are used from then on, and the reason is logged.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.children.shares import of_first
from harness.logprobs.inputs import by_rope_class, forward_inputs, without_padding
from harness.logprobs.lean import lean_graph
from harness.logprobs.rows import IGNORED, Batch
from harness.logprobs.tiles import Head, pick, tiled_logps
from harness.models.config import text_config

_log = logging.getLogger(__name__)

GREEDY_TILE = 128
"""Tokens whose logits are in memory at a time where the most probable ones are asked for."""


def response_logps(model: nn.Module, batch: Batch, *, tile: int | None = None) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities [K] (float32, natural log, with gradient) of a batch's K responses, and their lengths.

    `model`: a transformers causal language model, plain or wrapped by PEFT. `tile`: logits per tile; None: by
    memory.
    """
    parts = by_rope_class(model, batch)
    if parts is not None:
        logps = torch.cat([response_logps(model, part, tile=tile)[0] for part, _ in parts])
        return logps[torch.cat([places for _, places in parts]).argsort()], batch["lengths"]
    batch = without_padding(model, batch)
    targets: Tensor = batch["targets"]
    is_response = targets != IGNORED
    head = _head_of(model)
    if head is None:
        logits = model(**forward_inputs(model, batch), use_cache=False).logits
        tokens = pick(logits[is_response].float(), targets[is_response])
    else:
        with lean_graph() if torch.is_grad_enabled() and targets.device.type == "cpu" else nullcontext():
            hidden = head.decoder(**forward_inputs(model, batch), use_cache=False).last_hidden_state
        tokens = tiled_logps(head, hidden[is_response], targets[is_response], tile)
    lengths: Tensor = batch["lengths"]
    return pad_sequence(list(torch.split(tokens, lengths.tolist())), batch_first=True).sum(dim=1), lengths


@torch.no_grad()
def response_likelihoods(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities [K] (float32, natural log) of a batch's K responses, and whether each of their tokens is
    the most probable one: bool [K]."""
    if (parts := by_rope_class(model, batch)) is not None:
        scored = [response_likelihoods(model, part) for part, _ in parts]
        order = torch.cat([places for _, places in parts]).argsort()
        return torch.cat([logps for logps, _ in scored])[order], torch.cat([greedy for _, greedy in scored])[order]
    targets, states = batch["targets"][batch["targets"] != IGNORED], response_states(model, batch)
    logps, hits = [], []
    for part, wanted in zip(states.split(GREEDY_TILE), torch.split(targets, GREEDY_TILE), strict=True):
        logits = states.logits(part)
        logps.append(pick(logits, wanted))
        hits.append(logits.argmax(dim=1) == wanted)
    lengths: list[int] = batch["lengths"].tolist()
    sums = [part.sum() for part in torch.split(torch.cat(logps), lengths)]
    return torch.stack(sums), torch.stack([part.all() for part in torch.split(torch.cat(hits), lengths)])


class States(NamedTuple):
    """What the logits of a batch's response tokens follow from, [K, H]: the hidden states before each of them; without
    a `head` the logits themselves, [K, V]."""

    values: Tensor
    head: Head | None

    @property
    def vocabulary(self) -> int:
        """Logits per token."""
        return self.values.shape[1] if self.head is None else self.head.vocabulary

    def split(self, size: int) -> tuple[Tensor, ...]:
        """The states of so many tokens at a time."""
        return torch.split(self.values, size)

    def logits(self, part: Tensor) -> Tensor:
        """[T, V] float32, of T tokens' states."""
        return part.float() if self.head is None else self.head.logits(part)


def response_states(model: nn.Module, batch: Batch) -> States:
    """The states of all response tokens of a batch whose rows are of one rotary class (`by_rope_class`), in order."""
    batch = without_padding(model, batch)
    head, is_response = _head_of(model), batch["targets"] != IGNORED
    inputs = forward_inputs(model, batch)
    if head is None:
        return States(model(**inputs, use_cache=False).logits[is_response], None)
    return States(head.decoder(**inputs, use_cache=False).last_hidden_state[is_response], head)


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
    obstacle = of_first(lambda: _obstacle(model, head))
    return (None, obstacle) if obstacle else (head, None)


def _obstacle(model: nn.Module, head: Head) -> str | None:
    """Why the parts don't give the model's own logits; None if they do."""
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None] % head.vocabulary
    with torch.no_grad(), evaluating(model):
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        actual = head.logits(head.decoder(input_ids=ids, use_cache=False).last_hidden_state[0])
    tolerance = 1e-4 if expected.dtype == actual.dtype == next(model.parameters()).dtype == torch.float32 else 3e-2
    if expected.shape != actual.shape or (expected - actual).abs().max() > tolerance * expected.abs().max():
        return "its logits are more than a projection of its hidden states"
    return None


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
