"""Replies of models that think: what their answer is, which token begins it, and what is said where there is none."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from harness.servers.replies import Chat, answer_only, chat, settled
from harness.types import JudgeReply
from tests.fake_server import completion

VERDICT = "Both facts are right.\n\nRating: [[9]]"
THOUGHT = "Maybe [[3]]? No.\nA [[5]] at least."


def read(content: Any, tokens: Sequence[str] | None = None, finish: str = "stop", **message: Any) -> Chat:
    """What is read of a message; `tokens`: those that the server lists log-probabilities of, each with itself as the
    only alternative, and of the last one also `M`."""
    body = completion("")
    choice = body["choices"][0]
    choice["message"] = {"role": "assistant", "content": content, **message}
    choice["finish_reason"] = finish
    if tokens is not None:
        choice["logprobs"] = {"content": [listed(token) for token in tokens]}
    return chat(body, lambda text: text)


def listed(token: str) -> dict[str, Any]:
    top = {token: -0.1} | ({"M": -2.0} if token == "m" else {})
    return {"token": token, "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": x} for t, x in top.items()]}


IN_THE_CONTENT = {
    "tags": f"<think>\n{THOUGHT}\n</think>\n\n{VERDICT}",
    "other tags": f"<reasoning>{THOUGHT}</reasoning>{VERDICT}",
    "square brackets": f"[THINK]{THOUGHT}[/THINK]{VERDICT}",
    "other signs": f"◁think▷{THOUGHT}◁/think▷{VERDICT}",
    "opened by the prompt": f"{THOUGHT}\n</think>\n\n{VERDICT}",
    "two thoughts": f"<think>[[1]]</think>\nI lean to [[3]].\n<think>{THOUGHT}</think>\n{VERDICT}",
    "within a line": f"Let me see: <think>{THOUGHT}</think> {VERDICT}",
    "channels": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{VERDICT}",
    "channels without their tokens": f"analysis{THOUGHT}assistantfinal{VERDICT}",
}


@pytest.mark.parametrize("content", IN_THE_CONTENT.values(), ids=IN_THE_CONTENT)
def test_the_answer_follows_the_last_thought(content: str) -> None:
    found = read(content)
    assert (found.text, found.unread) == (VERDICT, None)
    assert found.thought >= len(THOUGHT)
    assert read([{"type": "text", "text": content}]).text == VERDICT
    old = answer_only(JudgeReply(text=content, logprobs={"[[3": -0.1}))
    assert (old.text, old.logprobs) == (VERDICT, None)


def test_a_thought_of_a_few_characters_is_one_too() -> None:
    assert read(f"I say [[1]] <think>hm</think> {VERDICT}").text == VERDICT
    assert read(f"Between <think> and </think> there is nothing. {VERDICT}").thought == 0


BESIDE_IT: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": THOUGHT},
    "reasoning": {"reasoning": THOUGHT},
    "one thought under two names": {"reasoning": THOUGHT, "reasoning_details": [{"type": "x", "text": THOUGHT}]},
    "a summary": {"reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}]},
    "blocks": {"thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}]},
}


@pytest.mark.parametrize("message", BESIDE_IT.values(), ids=BESIDE_IT)
def test_a_thought_beside_the_content_is_counted_and_not_read(message: dict[str, Any]) -> None:
    found = read(VERDICT, **message)
    assert (found.text, found.thought) == (VERDICT, len(THOUGHT))
    assert read(None, **message).unread == "the reply has a thought and no answer"


PARTS: dict[str, list[Any]] = {
    "output_text": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]}, "output_text"],
    "thinking": [{"type": "thinking", "thinking": THOUGHT, "signature": "x"}, "text"],
    "nested": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}, "text"],
    "a flag": [{"type": "text", "thought": True, "text": THOUGHT}, "text"],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_parts_that_think_are_not_the_answer(parts: list[Any]) -> None:
    thought, kind = parts
    found = read([thought, {"type": kind, "text": VERDICT[:9]}, {"type": kind, "text": VERDICT[9:]}])
    assert (found.text, found.thought) == (VERDICT, len(THOUGHT))


@pytest.mark.parametrize(
    "text",
    [
        "Plain.\n",
        " m",
        "The answer shows its `<think>` and `</think>` tags. [[4]]",
        "[[8]]: it leaks </think> once.",
        "",
    ],
)
def test_a_text_without_thoughts_is_its_own_answer_to_the_byte(text: str) -> None:
    assert (read(text).text, read(text).thought) == (text, 0)


CUT = {
    "in tags": ("<think>\nMaybe [[3]] and", {}),
    "at its first token": ("<think>", {}),
    "after a first answer": ("[[3]]\n<think>\nWait, the", {}),
    "beside": (None, {"reasoning_content": "Okay"}),
    "channels without their tokens": ("analysisWe need [[3]]", {}),
}


@pytest.mark.parametrize(("content", "message"), CUT.values(), ids=CUT)
def test_a_cut_thought_is_no_answer_and_says_what_to_do(content: str | None, message: dict[str, Any]) -> None:
    found = read(content, finish="length", **message)
    assert found.text == ""
    assert found.unread == (
        "the reply ended in its thought, after 3 tokens; give the judge more max_tokens, or a lower reasoning_effort"
    )


def test_an_empty_reply_at_its_limit_says_that_the_model_may_reason() -> None:
    found = read("", finish="length")
    assert found.unread is not None
    assert "at its token limit, after 3 tokens: does the model reason first? give the judge more max_to" in found.unread
    assert read("", finish="stop").unread is None


ALIGNED = [
    # the reply's content, the tokens with log-probabilities, the message's other fields, whether `m` is read
    ("m", ["m"], {}, True),
    ("m", ["m", "<|im_end|>"], {}, True),
    ("\n\nm", ["\n\n", "m"], {}, True),
    ("<think>\nm or M\n</think>\n\nm", ["<think>", "\n", "m", " or", " M", "\n", "</think>", "\n\n", "m"], {}, True),
    ("<think>x</think>m", ["<think>", "x", "</think>", "m", "</s>"], {}, True),
    ("<think>x</think>m", ["m"], {}, True),  # the list covers the answer alone
    ("<think>x</think>m", ["<think>", "x", "</think>"], {}, False),  # the thought alone
    ("<think>m", ["<think>", "m"], {}, False),
    ("<think>x</think>m", ["<think>", "x", "</think>m"], {}, False),  # one token with the marker
    ("<think>x</think>m", ["token_id:1", "token_id:2", "token_id:3", "token_id:4"], {}, False),
    ("m", ["Okay", ",", " better", "</think>", "\n\n", "m"], {"reasoning_content": "Okay, better"}, True),
    ("m", ["Okay", ",", " better", "m"], {"reasoning_content": "Okay, better"}, True),
    ("m", ["Okay", ",", " so", " ", "m"], {"reasoning_content": "Okay, so m"}, False),  # which `m`, can't be told
    ("m", ["m"], {"reasoning_content": "Okay, so m"}, True),
    ("m", ["Okay", " then", "</think>", "\n\n", "m"], {}, True),  # a thought that the server keeps to itself
    ("m", ["Okay", " then", "m"], {}, False),
    (None, ["m"], {"reasoning_content": "m"}, False),
    ("", ["m"], {}, False),  # not in the text: a thought's
]


@pytest.mark.parametrize(("content", "tokens", "message", "is_read"), ALIGNED)
def test_log_probabilities_are_those_of_the_answers_first_token(
    content: str | None, tokens: list[str], message: dict[str, Any], is_read: bool
) -> None:
    assert read(content, tokens, **message).logprobs == ({"m": -0.1, "M": -2.0} if is_read else None)


def test_tokens_of_other_vocabularies_and_of_bytes_are_aligned() -> None:
    found = read("<think>né</think> m", ["<think>", "n", "é", "</think>", "\u0120m"])
    assert found.logprobs == {"\u0120m": -0.1}
    body = completion("<think>é</think>m")
    pieces: list[tuple[str, list[int]]] = [("<think>", list(b"<think>")), ("\ufffd", [0xC3]), ("\ufffd", [0xA9])]
    pieces += [("</think>", list(b"</think>")), ("m", [109])]
    body["choices"][0]["logprobs"] = {"content": [listed(token) | {"bytes": raw} for token, raw in pieces]}
    assert chat(body, lambda text: text).logprobs == {"m": -0.1, "M": -2.0}
    assert math.isclose(sum(len(raw) for _, raw in pieces), len("<think>é</think>m".encode()))


def test_of_a_judge_that_thinks_a_cut_reply_without_a_thought_ends_in_its_own() -> None:
    done = JudgeReply(text="Rating: [[9]]", thought=40)
    cut = JudgeReply(text="Okay, maybe [[3]] or", cut=True, completion_tokens=2048)
    whole = JudgeReply(text="[[7]]")
    first, second, third = settled([done, cut, whole])
    assert (first, third) == (done, whole)
    assert (second.text, second.thought) == ("", len(cut.text))
    assert second.unread is not None
    assert second.unread.startswith("the reply ended in its thought, after 2,048 tokens")
    assert settled([cut, whole]) == [cut, whole]


def test_a_functions_arguments_are_the_reply() -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    assert read("I call it.", tool_calls=calls).text == '{"a": 1}'
