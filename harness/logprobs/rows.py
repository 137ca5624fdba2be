"""Token rows that hold a prompt once and its responses as branches, and padded batches of such rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The target of a position whose prediction is not used."""


BRANCHES = 2**20
"""A token's segment number is its prompt's number in the row times this, plus its branch: 0 for the prompt, k for its
k-th response; -1 for padding."""

WIDEST_MASK = 2048
"""Tokens of the longest row that gets a dense mask."""

Batch = dict[str, Any]
"""Tensors for one forward pass: R rows of T tokens with K responses in total; those of a row are adjacent.

input_ids [R, T]; attention_mask [R, T] (1 real, 0 padding); targets [R, T] (the next response token, or IGNORED);
lengths [K] (tokens per response, end token included); segments and position_ids [R, T], only where a row holds several
responses. For training also ids and input_tokens (lists of length B: prompt ids, numbers of non-padding input tokens);
and, as [B, N]: mask, scores, ref_logps, response_lengths, and computed (True for the K responses that are in the rows).
"""


class TokenRow(NamedTuple):
    """One row of a batch. All lists but `lengths` (tokens per response) have one entry per input token."""

    input_ids: list[int]
    targets: list[int]
    positions: list[int]
    segments: list[int]
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
        row.segments.extend([branch] * len(response))
    return row


def packed(rows: Sequence[TokenRow]) -> TokenRow:
    """One row that holds the prompts of several, each with its branches, without padding."""
    row = TokenRow([], [], [], [], [])
    for number, part in enumerate(rows):
        segments = [number * BRANCHES + segment for segment in part.segments]
        for whole, values in zip(row, part._replace(segments=segments), strict=True):
            whole.extend(values)
    return row


def pad(rows: Sequence[TokenRow], pad_id: int) -> Batch:
    """A batch of rows, padded on the right."""
    width = max(len(r.input_ids) for r in rows)

    def stack(lists: Sequence[list[int]], fill: int) -> Tensor:
        return torch.tensor([[*values, *[fill] * (width - len(values))] for values in lists])

    segments = stack([r.segments for r in rows], -1)
    batch: Batch = {
        "input_ids": stack([r.input_ids for r in rows], pad_id),
        "attention_mask": (segments >= 0).long(),
        "targets": stack([r.targets for r in rows], IGNORED),
        "lengths": torch.tensor([length for r in rows for length in r.lengths]),
    }
    if any(len(r.lengths) > 1 for r in rows):
        batch["segments"] = segments
        batch["position_ids"] = stack([r.positions for r in rows], 0)
    return batch


FORWARD = ("input_ids", "attention_mask", "segments", "position_ids", "targets", "lengths")
"""The tensors of a batch that a forward pass needs."""


def dense_mask(segments: Tensor) -> Tensor:
    """bool [R, 1, T, T] from segment numbers [R, T]: True where query (dim 2) may attend to key (dim 3). Padding
    attends to itself, so that every query has a key."""
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(segments.shape[1:] * 2, dtype=torch.bool, device=segments.device).tril()
    of_prompt = (key % BRANCHES == 0) & (key // BRANCHES == query // BRANCHES) & (query >= 0)
    return (causal & (of_prompt | (key == query)))[:, None]
