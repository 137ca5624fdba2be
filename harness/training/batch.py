"""From ranked examples to token rows and padded batches. The only tokenisation is `harness.chat.encode`.

A row holds a prompt once and one or more responses to it:

    input_ids   prompt[:-1]   last prompt token, y1[:-1]   last prompt token, y2[:-1]   ...
    targets     none ...      y1                           y2                           ...
    positions   0 ... P-2     P-1 ...                      P-1 ...                      ...
    branches    0 ...         1 ...                        2 ...                        ...

A token may attend to what stands before it in its own branch or in the prompt (branch 0), so that each response sees
exactly what it would see alone (losses.md's shared prefix; after 2410.20305). Repeating the last prompt token at the
head of every branch is what makes each response's first token exact. With one response this is the ordinary row,
prompt + y[:-1], under an ordinary causal mask. A response's last token is a target and never an input.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from harness import chat
from harness.errors import DataError
from harness.types import RankedExample

IGNORED = -100
"""The target of a position that predicts nothing of interest."""

Batch = dict[str, Any]
"""Tensors for one forward: R rows of T tokens with K responses in all, those of one row standing together.

input_ids [R, T]; attention_mask [R, T] (1 real, 0 padding), or bool [R, 1, T, T] where rows hold several responses;
position_ids [R, T], only with the latter; targets [R, T] (the next response token or IGNORED); lengths [K] (tokens a
response, end token included). For training also ids and input_tokens (lists of B: names, real input tokens); and,
[B, N]: mask, scores, ref_logps, response_lengths, and computed (True at the K responses that stand in the rows).
"""


class Group(NamedTuple):
    """An example as token ids: its prompt and, in the example's order, its scored responses (end token included).
    `used`: which of them the loss looks at; empty: all. The others are in no row, and nothing is computed for them."""

    id: str
    prompt: list[int]
    responses: tuple[list[int], ...]
    scores: tuple[float, ...]
    ref_logps: tuple[float, ...]
    used: tuple[bool, ...] = ()

    @property
    def computed(self) -> tuple[bool, ...]:
        """`used`, spelt out."""
        return self.used or (True,) * len(self.responses)

    @property
    def computed_responses(self) -> tuple[list[int], ...]:
        """The responses that are computed."""
        return tuple(r for r, used in zip(self.responses, self.computed, strict=True) if used)


class Row(NamedTuple):
    """One row of a batch; see the module's docstring. All lists have one entry an input token."""

    input_ids: list[int]
    targets: list[int]
    positions: list[int]
    branches: list[int]
    lengths: list[int]


def tokenize(
    examples: Sequence[RankedExample],
    reference: Mapping[str, Sequence[float]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_prompt_length: int,
    max_length: int,
) -> tuple[list[Group], dict[str, int]]:
    """Groups of at least two scored responses, and counts of what was kept, cut and left out.

    `reference`: example id -> one summed log-probability a response, in the example's order. A response without a
    score is left out (`unscored_responses`); an example with fewer than two that have one is too (`dropped_examples`).
    Raises DataError naming the example for a score or reference that is missing or not finite, and when none is left.
    """
    counts = Counter(responses=0, truncated_responses=0, unscored_responses=0, dropped_examples=0)
    groups = []
    for example in examples:
        references = _reference_of(example, reference)
        scored = [
            (r, r.score, ref) for r, ref in zip(example.responses, references, strict=True) if r.score is not None
        ]
        counts["unscored_responses"] += len(example.responses) - len(scored)
        if len(scored) < 2:
            counts["dropped_examples"] += 1
            continue
        lengths = {"max_prompt_length": max_prompt_length, "max_length": max_length}
        encoded = [chat.encode(tokenizer, example.messages, r.text, **lengths) for r, _, _ in scored]
        counts["responses"] += len(encoded)
        counts["truncated_responses"] += sum(e.truncated for e in encoded)
        responses = tuple(e.response for e in encoded)
        scores = tuple(_finite(example.id, "score", score) for _, score, _ in scored)
        groups.append(Group(example.id, encoded[0].prompt, responses, scores, tuple(ref for _, _, ref in scored)))
    if not groups:
        raise DataError(f"none of the {len(examples)} examples has two scored responses; expected at least one")
    return groups, dict(counts)


def _reference_of(example: RankedExample, reference: Mapping[str, Sequence[float]]) -> list[float]:
    found = reference.get(example.id)
    if found is None or len(found) != len(example.responses):
        raise DataError(
            f"example {example.id}: {'no' if found is None else len(found)} reference log-probabilities for "
            f"{len(example.responses)} responses; compute the reference on the same data"
        )
    return [_finite(example.id, "reference log-probability", value) for value in found]


def _finite(example: str, what: str, value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"example {example}: a {what} is {value}; expected a finite number")
    return value


def row(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> Row:
    """A row that holds the prompt once and each of the responses as a branch."""
    shared = len(prompt) - 1
    made = Row(list(prompt[:-1]), [IGNORED] * shared, list(range(shared)), [0] * shared, [len(r) for r in responses])
    for branch, response in enumerate(responses, start=1):
        made.input_ids.extend([prompt[-1], *response[:-1]])
        made.targets.extend(response)
        made.positions.extend(range(shared, shared + len(response)))
        made.branches.extend([branch] * len(response))
    return made


def rows(group: Group, *, shared: bool) -> list[Row]:
    """A group's rows: one with all its computed responses, or one a response."""
    sets = [group.computed_responses] if shared else [(r,) for r in group.computed_responses]
    return [row(group.prompt, responses) for responses in sets]


def pad(rows: Sequence[Row], pad_id: int) -> Batch:
    """A batch of rows, padded on the right. Its attention mask is 4-D where a row has several responses."""
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
"""The tensors of a batch that a forward needs."""


def single_rows(batch: Batch) -> Iterator[Batch]:
    """A batch of one response a row, taken apart: each row's own batch, without the padding."""
    for k in range(len(batch["lengths"])):
        width = int(batch["attention_mask"][k].sum())
        cut = {name: batch[name][k : k + 1, :width] for name in ("input_ids", "attention_mask", "targets")}
        yield {**cut, "lengths": batch["lengths"][k : k + 1]}


def _branch_mask(branches: Tensor) -> Tensor:
    """bool [R, 1, T, T] from branches [R, T] (-1: padding): True where query (dim 2) may attend to key (dim 3). Padding
    attends to itself, so that no query is left without a key."""
    query, key = branches[:, :, None], branches[:, None, :]
    causal = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool).tril()
    return (causal & ((key == 0) & (query >= 0) | (key == query)))[:, None]


def collate(groups: Sequence[Group], pad_id: int, *, shared: bool, counted: bool | None = None) -> Batch:
    """A training batch of B groups: `pad`'s tensors and what stands beside them, padded on the right with zeros.
    `counted`: in which rows input tokens are counted, shared or not; None: in those of the batch."""
    made = [rows(group, shared=shared) for group in groups]
    batch = pad([r for of_group in made for r in of_group], pad_id)
    width = max(len(group.responses) for group in groups)

    def stack(lists: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*values, *[0] * (width - len(values))] for values in lists], dtype=dtype)

    batch["ids"] = [group.id for group in groups]
    told = made if counted in (None, shared) else [rows(group, shared=not shared) for group in groups]
    batch["input_tokens"] = [sum(len(r.input_ids) for r in of_group) for of_group in told]
    batch["mask"] = stack([[1] * len(group.responses) for group in groups], torch.bool)
    batch["computed"] = stack([group.computed for group in groups], torch.bool)
    batch["response_lengths"] = stack([[len(r) for r in group.responses] for group in groups], torch.long)
    batch["scores"] = stack([group.scores for group in groups], torch.float32)
    batch["ref_logps"] = stack([group.ref_logps for group in groups], torch.float32)
    return batch
