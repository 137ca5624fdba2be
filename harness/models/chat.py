"""Chat templates and truncation: the only place where text becomes tokens, for training, generation and judging alike.

A prompt is rendered by the tokenizer's chat template and tokenised without adding special tokens, because the template
already contains them (no second BOS). A response is tokenised separately, followed by exactly one end-of-turn token of
the template. A tokenizer without a template (a base model) uses `PLAIN_TEMPLATE` of
`harness.models.templates.rendering`. Control tokens that a message or a response spells out are tokenised as plain text
(see `harness.models.templates.control_tokens`). Before a given response stands what the template itself writes before
an answer, which isn't always where it has a model begin to write (see `harness.models.templates.answered`).
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import ModelError
from harness.models.templates.answered import bridge
from harness.models.templates.control_tokens import encode_marked, encode_text, marked
from harness.models.templates.rendering import render
from harness.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoded(NamedTuple):
    """Token ids of a prompt and one response. `truncated`: whether either was cut to fit."""

    prompt: list[int]
    response: list[int]
    truncated: bool


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, answered: bool = False
) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins; `answered`: one that is given, rather than to be
    written. A final assistant message is left open, to be continued."""
    continued = bool(messages) and messages[-1].role == "assistant"
    options = {"continue_final_message": True} if continued else {"add_generation_prompt": True}
    enclosed = marked(tokenizer, messages)
    text = render(tokenizer, messages if enclosed is None else enclosed, **options)
    if answered and not continued:
        text = bridge(tokenizer).over(text)
    if enclosed is not None:
        return encode_marked(tokenizer, text)
    return list(tokenizer.encode(text, add_special_tokens=False))


def beginning(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that the chat template writes before the first message of a user, a default system prompt among them."""
    first, second = (encode_prompt(tokenizer, [Message(role="user", content=text)]) for text in ("x", "7"))
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))]


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Id of the token that ends an assistant's turn: the special token that the template writes after an answer
    (`<|im_end|>`, `<|eot_id|>`, `<end_of_turn>`), else the end-of-sequence token. Raises ModelError if there is
    neither."""
    if tokenizer.chat_template:
        answer = "harness"
        text = render(tokenizer, [Message(role="user", content="x"), Message(role="assistant", content=answer)])
        if answer not in text:
            raise ModelError(f"{tokenizer.name_or_path}: its chat template leaves out the answer; use another model")
        tail = tokenizer.encode(text[text.rindex(answer) + len(answer) :], add_special_tokens=False)
        # `all_special_ids` is not enough: the end of turn may only be flagged special among the added tokens (Phi-3).
        special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
        if tail and tail[0] in special:
            return int(tail[0])
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{tokenizer.name_or_path}: its tokenizer has neither an end-of-turn nor an end token")
    return int(tokenizer.eos_token_id)


def encode_response(tokenizer: "PreTrainedTokenizerBase", response: str) -> list[int]:
    """Ids of a whole response. The end-of-turn token is last and occurs nowhere else."""
    return [*encode_text(tokenizer, response), end_of_turn(tokenizer)]


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    response: str,
    *,
    max_prompt_length: int,
    max_length: int,
) -> Encoded:
    """Ids of a prompt and a response that ends with the end-of-turn token.

    A prompt longer than `max_prompt_length` loses its beginning. If prompt and response together exceed `max_length`,
    the response loses its end, including the end-of-turn token. Either is reported as truncated.
    """
    prompt = encode_prompt(tokenizer, messages, answered=True)
    answer = encode_response(tokenizer, response)
    cut_prompt = prompt[-max_prompt_length:]
    cut_answer = answer[: max(1, max_length - len(cut_prompt))]
    return Encoded(cut_prompt, cut_answer, len(cut_prompt) < len(prompt) or len(cut_answer) < len(answer))
