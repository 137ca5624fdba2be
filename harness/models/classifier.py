"""Scores from a sequence classifier: batches sorted by length, padded on the right, with an attention mask."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import ModelError, nearest
from harness.models import chat
from harness.protocols import Keep
from harness.types import Advance, Messages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def separate_padding(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give the tokenizer a padding token other than its end-of-turn token.

    A classifier reads its score at the last token that isn't padding. If padding is the end-of-turn token (as in
    SmolLM2), the end of every answer would be taken for padding, and a truncated answer would look complete.
    """
    if tokenizer.pad_token_id == chat.end_of_turn(tokenizer) and tokenizer.unk_token_id is not None:
        tokenizer.pad_token = tokenizer.unk_token


def classifier_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, response: str, max_length: int
) -> tuple[list[int], bool]:
    """(token ids of a conversation, whether it was truncated), for training and scoring alike. A conversation of more
    than `max_length` tokens first loses the beginning of its prompt (which keeps at least a quarter of `max_length`),
    then the end of the response."""
    answer = len(chat.encode_response(tokenizer, response))
    room = max(max_length // 4, max_length - answer)
    parts = chat.encode(tokenizer, messages, response, max_prompt_length=room, max_length=max_length)
    return parts.prompt + parts.response, parts.truncated


def output_weights(model: "PreTrainedModel", outputs: Mapping[str, float]) -> list[float]:
    """The weight of each output of a classifier: 1 for a single output; else as given in `outputs` (by label, or by
    number from 0), and 0 for the rest. Raises ModelError."""
    count: int = model.config.num_labels
    labels = [str(model.config.id2label.get(i, i)) for i in range(count)]
    if not outputs:
        if count == 1:
            return [1.0]
        raise ModelError(
            f"reward model {model.name_or_path} has {count} outputs ({', '.join(labels[:20])}); expected one, or "
            "weights that combine them into a score: outputs: {label: weight, ...}"
        )
    weights = [0.0] * count
    for name, weight in outputs.items():
        if name in labels:
            weights[labels.index(name)] = weight
        elif name.isdecimal() and int(name) < count:
            weights[int(name)] = weight
        else:
            expected = f"a label or a number below {count}; {nearest(name, labels)}"
            raise ModelError(f"outputs: reward model {model.name_or_path} has no output '{name}'; expected {expected}")
    return weights


def classifier_scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[tuple[Messages, str]],
    *,
    max_length: int,
    batch_size: int,
    advance: Advance,
    keep: Keep = lambda rows: None,
    outputs: Mapping[str, float] | None = None,
) -> list[float | None]:
    """One score per (prompt, response), in order; higher is better; None if the model's output is not finite.
    Conversations are truncated by `classifier_ids`. `outputs`: weights of the outputs of a model that has several, by
    label or number; the score is their weighted sum. `keep` is called with (index, score) of each finished batch.
    Raises ModelError if `outputs` don't match the model."""
    import torch

    weights = torch.tensor(output_weights(model, outputs or {}), device=model.device)
    encoded = [classifier_ids(tokenizer, messages, response, max_length)[0] for messages, response in rows]
    order = sorted(range(len(rows)), key=lambda i: (len(encoded[i]), i), reverse=True)
    scores: list[float | None] = [None] * len(rows)
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = max(len(encoded[i]) for i in chosen)
            pad = tokenizer.pad_token_id
            ids = torch.tensor([encoded[i] + [pad] * (width - len(encoded[i])) for i in chosen])
            mask = torch.tensor([[1] * len(encoded[i]) + [0] * (width - len(encoded[i])) for i in chosen])
            out = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
            for i, score in zip(chosen, (out.logits.float() @ weights).tolist(), strict=True):
                scores[i] = score if math.isfinite(score) else None
            keep([(i, scores[i]) for i in chosen])
            advance(len(chosen))
    return scores
