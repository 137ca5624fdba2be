"""Scores from a sequence classifier: batches sorted by length, padded on the right, with an attention mask.

A decoder reads a conversation in its chat template and scores at the end. An encoder without a chat template (BERT,
DeBERTa, RoBERTa) was trained on a question and an answer as two texts, and scores at a token that precedes both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.children.shares import gathered, own
from harness.errors import ModelError, nearest
from harness.models import chat
from harness.models.config import context_window
from harness.models.templates.taking import folded
from harness.protocols import Keep
from harness.types import Advance, Messages

if TYPE_CHECKING:
    from torch import Tensor
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


class _Input(NamedTuple):
    """A row as a classifier reads it. `types`: which of two texts each token belongs to."""

    ids: list[int]
    types: list[int]


def reads_pairs(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer is an encoder's, which joins two texts by its own tokens and has no chat template."""
    if tokenizer.chat_template or None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        return False
    return tokenizer.sep_token_id in tokenizer("a", "b")["input_ids"]


def single_question(name: str, prompts: Sequence[Messages]) -> list[str]:
    """Prompts as an encoder reads them: the only question of each, a system message in front of it. Raises ModelError
    for conversations of several turns."""
    questions = [folded(messages) for messages in prompts]
    if others := sum([m.role for m in messages] != ["user"] for messages in questions):
        raise ModelError(
            f"{name}: {others} of {len(prompts)} conversations have several turns, and an encoder without a chat "
            "template reads one question and one answer; remove them, or use another reward model"
        )
    return [messages[0].content for messages in questions]


def _pairs(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[tuple[Messages, str]], max_length: int) -> list[_Input]:
    """Questions and answers as pairs; the longer one loses its end where both don't fit. Raises ModelError for prompts
    that aren't a single question."""
    inputs = []
    questions = single_question(tokenizer.name_or_path, [messages for messages, _ in rows])
    for question, (_, response) in zip(questions, rows, strict=True):
        pair = tokenizer(
            question,
            response,
            truncation="longest_first",
            max_length=max_length,
            split_special_tokens=True,
            return_token_type_ids=True,
        )
        inputs.append(_Input(list(pair["input_ids"]), list(pair["token_type_ids"])))
    return inputs


def _longest_pair(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> int:
    """Tokens of the longest pair that the model reads."""
    window: int = context_window(model) or max_length
    for name, module in model.named_modules():
        # RoBERTa counts positions from the one after its padding's.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            window -= int(module.padding_idx) + 1
    return min(max_length, int(tokenizer.model_max_length), window)


def output_weights(name: str, labels: Sequence[str], outputs: Mapping[str, float]) -> list[float]:
    """The weight of each output of a classifier: 1 for a single output; else as given in `outputs` (by label, or by
    number from 0), and 0 for the rest. `name`: of the classifier; `labels`: of its outputs. Raises ModelError."""
    count = len(labels)
    if not outputs:
        if count == 1:
            return [1.0]
        raise ModelError(
            f"reward model {name} has {count} outputs ({', '.join(labels[:20])}); expected one, or "
            "weights that combine them into a score: outputs: {label: weight, ...}"
        )
    weights = [0.0] * count
    for output, weight in outputs.items():
        if output in labels:
            weights[labels.index(output)] = weight
        elif output.isdecimal() and int(output) < count:
            weights[int(output)] = weight
        else:
            expected = f"a label or a number below {count}; {nearest(output, labels)}"
            raise ModelError(f"outputs: reward model {name} has no output '{output}'; expected {expected}")
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
    Conversations are truncated by `classifier_ids`, pairs for an encoder to its window. `outputs`: weights of the
    outputs of a model that has several, by label or number; the score is their weighted sum. `keep` is called with
    (index, score) of each finished batch. Raises ModelError if `outputs` don't match the model."""
    import torch

    labels = [str(model.config.id2label.get(i, i)) for i in range(model.config.num_labels)]
    weights = torch.tensor(output_weights(model.name_or_path, labels, outputs or {}), device=model.device)
    paired = reads_pairs(tokenizer)
    if paired:
        encoded = _pairs(tokenizer, rows, _longest_pair(model, tokenizer, max_length))
    else:
        ids = [classifier_ids(tokenizer, messages, response, max_length)[0] for messages, response in rows]
        encoded = [_Input(row, [0] * len(row)) for row in ids]
    order = sorted(range(len(rows)), key=lambda i: (len(encoded[i].ids), i), reverse=True)
    scores: list[tuple[int, float | None]] = []
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.inference_mode():
        for chosen, counts in own(order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            inputs = _padded([encoded[i] for i in chosen], tokenizer.pad_token_id)
            if not (paired and "token_type_ids" in tokenizer.model_input_names):
                del inputs["token_type_ids"]
            out = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
            values = (out.logits.float() @ weights).tolist()
            if counts:
                scored = [(i, v if math.isfinite(v) else None) for i, v in zip(chosen, values, strict=True)]
                scores += scored
                keep(scored)
                advance(len(chosen))
    by_row = dict(gathered(scores))
    return [by_row[i] for i in range(len(rows))]


def _padded(rows: Sequence[_Input], pad: int) -> "dict[str, Tensor]":
    """A batch [rows, longest row] by the names of a model's arguments."""
    import torch

    width = max(len(row.ids) for row in rows)
    gaps = [width - len(row.ids) for row in rows]
    return {
        "input_ids": torch.tensor([row.ids + [pad] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - gap) + [0] * gap for gap in gaps]),
        "token_type_ids": torch.tensor([row.types + [0] * gap for row, gap in zip(rows, gaps, strict=True)]),
    }
