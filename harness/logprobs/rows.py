"""Token rows that hold a prompt once and its responses as branches, and padded batches of such rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The target of a position whose prediction is not used."""


Batch = dict[str, Any]
"""Tensors for one forward pass: R rows of T tokens with K responses in total; those of a row are adjacent.

input_ids [R, T]; attention_mask [R, T] (1 real, 0 padding), or bool [R, 1, T, T] where rows hold several responses;
position_ids [R, T], only with the latter; targets [R, T] (the next response token, or IGNORED); lengths [K] (tokens per
response, end token included). For training also ids and input_tokens (lists of length B: prompt ids, numbers of
non-padding input tokens); and, as [B, N]: mask, scores, ref_logps, response_lengths, and computed (True for the K
responses that are in the rows).
"""


class TokenRow(NamedTuple):
    """One row of a batch. All lists but `lengths` (tokens per response) have one entry per input token. `branches`: 0
    for the prompt, k for its k-th response."""

    input_ids: list[int]
    targets: list[int]
    positions: list[int]
    branches: list[int]
    lengths: list[int]


def token_row(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> TokenRow:
    """A row that holds the prompt once and each response as a branch. A branch starts with the last prompt token."""
    shared = len(prompt) - 1
    row = TokenRow(
        list(prompt[:-1]), [IGNORED] * shared, list(range(shared)), [0] * shared, [len(r) for r in responses]
    )
    for branch, response in enumerate(responses, start=1):
        row.input_ids.extend([prompt[-1], *response[:-1]])
        row.targets.extend(response)
        row.positions.extend(range(shared, shared + len(response)))
        row.branches.extend([branch] * len(response))
    return row


def pad(rows: Sequence[TokenRow], pad_id: int) -> Batch:
    """A batch of rows, padded on the right. The attention mask is 4-D if any row has several responses."""
    width = max(len(r.input_ids) for r in rows)

    def stack(lists: Sequence[list[int]], fill: int) -> Tensor:
        return torch.tensor([[*values, *[fill] * (width - len(values))] for values in lists])

    branches = stack([r.branches for r in rows], -1)
    batch: Batch = {
        "input_ids": stack([r.input_ids for r in rows], pad_id),
        "attention_mask": (branches >= 0).long(),
        "targets": stack([r.targets for r in rows], IGNORED),
        "lengths": torch.tensor([length for r in rows for length in r.lengths]),
    }
    if any(len(r.lengths) > 1 for r in rows):
        batch["attention_mask"] = _branch_mask(branches)
        batch["position_ids"] = stack([r.positions for r in rows], 0)
    return batch


FORWARD = ("input_ids", "attention_mask", "position_ids", "targets", "lengths")
"""The tensors of a batch that a forward pass needs."""


def _branch_mask(branches: Tensor) -> Tensor:
    """bool [R, 1, T, T] from branches [R, T] (-1: padding): True where query (dim 2) may attend to key (dim 3). Padding
    attends to itself, so that every query has a key."""
    query, key = branches[:, :, None], branches[:, None, :]
    causal = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool).tril()
    return (causal & ((key == 0) & (query >= 0) | (key == query)))[:, None]
