"""What a forward pass gets of a batch: rows without padding, rows of one rotary class, and the attention's mask."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.logprobs.attention import has_prefix_attention, mask_of
from harness.logprobs.rows import BRANCHES, IGNORED, WIDEST_MASK, Batch
from harness.models.config import rope_class


def forward_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """A forward's inputs; `attention_mask` in the form that the model's attention takes. Long ordinary rows get none:
    padding is on the right, where a causal model doesn't look, and transformers would make a dense mask of it."""
    forget_lengths(model)
    inputs: dict[str, Tensor] = {
        name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch
    }
    if "segments" in batch:
        inputs["attention_mask"] = mask_of(model, batch["segments"])
    elif batch["input_ids"].shape[1] > WIDEST_MASK:
        del inputs["attention_mask"]
    return inputs


def without_padding(model: nn.Module, batch: Batch) -> Batch:
    """The batch as one row that holds all prompts, without padding, if the model's attention keeps them apart."""
    if len(batch["input_ids"]) == 1 or not has_prefix_attention(model):
        return batch
    real = batch["attention_mask"].bool()
    row = torch.arange(len(real), device=real.device)[:, None] * BRANCHES
    positions = torch.arange(real.shape[1], device=real.device)[None].expand_as(real)
    whole = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "targets": batch["targets"],
        "segments": batch.get("segments", torch.zeros_like(batch["input_ids"])) + row,
        "position_ids": batch.get("position_ids", positions),
    }
    return {**batch, **{name: tensor[real][None] for name, tensor in whole.items()}}


def padding_in_forward(model: nn.Module, batch: Batch) -> int:
    """How many positions of the batch are padding that goes through the model."""
    mask = batch["attention_mask"]
    return 0 if has_prefix_attention(model) else int(mask.numel() - mask.sum())


def by_rope_class(model: nn.Module, batch: Batch) -> list[tuple[Batch, Tensor]] | None:
    """The batch in parts of one rotary class each, with the places [K'] of their responses among all; None if all rows
    are of one class."""
    width = batch["input_ids"].shape[1]
    if rope_class(model, width) == rope_class(model, 1):
        return None
    positions = batch.get("position_ids")
    lengths = batch["attention_mask"].sum(dim=1) if positions is None else positions.amax(dim=1) + 1
    classes = [rope_class(model, length) for length in lengths.tolist()]
    if len(set(classes)) == 1:
        return None
    response_ends = batch["lengths"].cumsum(0)
    row_ends = (batch["targets"] != IGNORED).sum(dim=1).cumsum(0)
    row_of_response = torch.searchsorted(row_ends, response_ends)
    parts = []
    for one in sorted(set(classes)):
        chosen = torch.tensor([c == one for c in classes], device=lengths.device)
        size = int(batch["attention_mask"][chosen].sum(dim=1).max())
        per_token = ("input_ids", "attention_mask", "targets", "segments", "position_ids")
        part: Batch = {name: batch[name][chosen, :size] for name in per_token if name in batch}
        places = chosen[row_of_response].nonzero()[:, 0]
        parts.append((part | {"lengths": batch["lengths"][places]}, places))
    return parts


def forget_lengths(model: nn.Module) -> None:
    """Let dynamic NTK forget the sequences that it has seen: transformers keeps the factors of the longest one until a
    short one comes."""
    for module in model.modules():
        kinds: Any = getattr(module, "rope_type", None)
        if isinstance(kinds, str) and "dynamic" in kinds:
            device = next(model.parameters()).device
            module(torch.zeros(1, 1, 1, device=device), torch.zeros(1, 1, dtype=torch.long, device=device))
