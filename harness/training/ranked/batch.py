"""From ranked examples to token rows and padded batches. All tokenization is by `harness.models.chat.encode`.

A row holds a prompt once and one or more responses to it:

    input_ids   prompt[:-1]   last prompt token, y1[:-1]   last prompt token, y2[:-1]   ...
    targets     none ...      y1                           y2                           ...
    positions   0 ... P-2     P-1 ...                      P-1 ...                      ...
    branches    0 ...         1 ...                        2 ...                        ...

A token attends only to earlier tokens of its own branch or of the prompt (branch 0), so each response sees exactly what
it would see alone (losses.md's shared prefix; after 2410.20305). Repeating the last prompt token at the head of every
branch makes each response's first token exact. With one response this is the ordinary row, prompt + y[:-1], under an
ordinary causal mask. A response's last token is a target and never an input.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from harness.errors import DataError
from harness.logprobs.layout import Lengths
from harness.logprobs.rows import Batch, TokenRow, pad, token_row
from harness.models import chat
from harness.types import RankedExample

_log = logging.getLogger(__name__)


class Group(NamedTuple):
    """An example as token ids: its prompt and, in the example's order, its scored responses (end token included).
    `used`: which of them the loss uses; empty: all. The others are in no row, and nothing is computed for them."""

    id: str
    prompt: list[int]
    responses: tuple[list[int], ...]
    scores: tuple[float, ...]
    ref_logps: tuple[float, ...]
    used: tuple[bool, ...] = ()

    @property
    def computed(self) -> tuple[bool, ...]:
        """`used`, with one entry per response."""
        return self.used or (True,) * len(self.responses)

    @property
    def computed_responses(self) -> tuple[list[int], ...]:
        """The responses that are computed."""
        return tuple(r for r, used in zip(self.responses, self.computed, strict=True) if used)


def tokenize(
    examples: Sequence[RankedExample],
    reference: Mapping[str, Sequence[float]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_prompt_length: int,
    max_length: int,
) -> tuple[list[Group], dict[str, int]]:
    """Groups of at least two scored responses, and counts of responses kept, truncated and skipped.

    `reference`: example id -> one summed log-probability per response, in the example's order. Skipped are responses
    without a score (`unscored_responses`), those with the same tokens as a better one of the example, mostly since they
    differ only behind `max_length` (`identical_responses`), and examples with fewer than two responses left
    (`dropped_examples`). Raises DataError naming the example for a missing or non-finite score or reference, and if no
    example is left.
    """
    names = ("responses", "truncated_responses", "unscored_responses", "identical_responses", "dropped_examples")
    counts = Counter(dict.fromkeys(names, 0))
    lengths = {"max_prompt_length": max_prompt_length, "max_length": max_length}
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
        encoded = [chat.encode(tokenizer, example.messages, r.text, **lengths) for r, _, _ in scored]
        distinct = _distinct([(e.response, r.text, score) for e, (r, score, _) in zip(encoded, scored, strict=True)])
        counts["identical_responses"] += len(encoded) - len(distinct)
        if len(distinct) < 2:
            counts["dropped_examples"] += 1
            continue
        encoded, scored = [encoded[i] for i in distinct], [scored[i] for i in distinct]
        counts["responses"] += len(encoded)
        counts["truncated_responses"] += sum(e.truncated for e in encoded)
        responses = tuple(e.response for e in encoded)
        scores = tuple(_finite(example.id, "score", score) for _, score, _ in scored)
        groups.append(Group(example.id, encoded[0].prompt, responses, scores, tuple(ref for _, _, ref in scored)))
    if same := counts["identical_responses"]:
        advice = f"raise training.max_length ({max_length})"
        if not groups:
            raise DataError(
                f"none of the {len(examples)} examples has two scored responses that are not identical once they are "
                f"cut: {advice}"
            )
        _log.warning(
            "%d responses are identical to a better one of their prompt once they are cut, and were left out: %s",
            same,
            advice,
        )
    if not groups:
        raise DataError(f"none of the {len(examples)} examples has two scored responses; expected at least one")
    return groups, dict(counts)


def _distinct(responses: Sequence[tuple[list[int], str, float]]) -> list[int]:
    """The places of the responses (tokens, text, score) that a policy can tell from the better ones: of those with the
    same tokens only the best. A response that was sampled twice, with one score, stays: it is a tie."""
    best: dict[tuple[int, ...], tuple[str, float]] = {}
    places = []
    for place in sorted(range(len(responses)), key=lambda i: -responses[i][2]):
        tokens, text, score = responses[place]
        if best.setdefault(tuple(tokens), (text, score)) == (text, score):
            places.append(place)
    return sorted(places)


def _reference_of(example: RankedExample, reference: Mapping[str, Sequence[float]]) -> list[float]:
    logps = reference.get(example.id)
    if logps is None or len(logps) != len(example.responses):
        raise DataError(
            f"example {example.id}: {'no' if logps is None else len(logps)} reference log-probabilities for "
            f"{len(example.responses)} responses; compute the reference on the same data"
        )
    return [_finite(example.id, "reference log-probability", value) for value in logps]


def _finite(example: str, what: str, value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"example {example}: a {what} is {value}; expected a finite number")
    return value


def group_rows(group: Group, *, shared: bool) -> list[TokenRow]:
    """A group's rows: one with all its computed responses (`shared`), or one per response."""
    sets = [group.computed_responses] if shared else [(r,) for r in group.computed_responses]
    return [token_row(group.prompt, responses) for responses in sets]


def single_rows(batch: Batch) -> Iterator[Batch]:
    """A batch with one response per row, split into batches of one row, without padding."""
    for k in range(len(batch["lengths"])):
        width = int(batch["attention_mask"][k].sum())
        cut = {name: batch[name][k : k + 1, :width] for name in ("input_ids", "attention_mask", "targets")}
        yield {**cut, "lengths": batch["lengths"][k : k + 1]}


def collate(groups: Sequence[Group], pad_id: int, *, shared: bool, counted: bool | None = None) -> Batch:
    """A training batch of B groups: `pad`'s tensors and the groups' own, padded on the right with zeros. `counted`:
    whether `input_tokens` counts the tokens of shared rows or of single ones; None: of the batch's own."""
    rows = [group_rows(group, shared=shared) for group in groups]
    batch = pad([r for of_group in rows for r in of_group], pad_id)
    width = max(len(group.responses) for group in groups)

    def stack(lists: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*values, *[0] * (width - len(values))] for values in lists], dtype=dtype)

    batch["ids"] = [group.id for group in groups]
    counted_rows = rows if counted in (None, shared) else [group_rows(group, shared=not shared) for group in groups]
    batch["input_tokens"] = [sum(len(r.input_ids) for r in of_group) for of_group in counted_rows]
    batch["mask"] = stack([[1] * len(group.responses) for group in groups], torch.bool)
    batch["computed"] = stack([group.computed for group in groups], torch.bool)
    batch["response_lengths"] = stack([[len(r) for r in group.responses] for group in groups], torch.long)
    batch["scores"] = stack([group.scores for group in groups], torch.float32)
    batch["ref_logps"] = stack([group.ref_logps for group in groups], torch.float32)
    return batch


def lengths_of(group: Group) -> Lengths:
    """A group's `Lengths`, of the computed responses."""
    return len(group.prompt), [len(r) for r in group.computed_responses]
