"""A judge as a reward model: which replies are a rating or a choice, and which are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.judging.asker import make_ask
from harness.protocols import Ready
from harness.types import Ask, JudgeReply, Message
from tests.fake_server import FakeServer, completion
from tests.stand_ins import ScriptedAsk

PROMPT = (Message(role="user", content="u"),)


def reward(mode: str = "rating", **judge: Any) -> Any:
    return build("reward", {"name": "llm_judge", "mode": mode, "judge": {"name": "openai", "model": "m"} | judge})


def score(made: Any, ask: Ask, *texts: str) -> list[float | None]:
    ready = Ready(Path(), advance=lambda _: None, ask=lambda judge: ask)
    return list(made.score([(PROMPT, text) for text in texts], ready))


RATINGS = {
    "8": 8.0,
    "8/10": 8.0,
    "8 out of 10.": 8.0,
    "Rating: 8": 8.0,
    "**Rating:** 8/10": 8.0,
    "Rating (1-10): 8": 8.0,
    "**8**": 8.0,
    "[[8]]": 8.0,
    '{"rating": 8}': 8.0,
    '```json\n{"score": 7.5}\n```': 7.5,
    "The answer is short, but right.\n\nRating: 8": 8.0,
    "The answer is short.\n\n**8**": 8.0,
    "8/10 - it covers 3 points": 8.0,
    "<think>\nA 3? Perhaps 4/10.\n</think>\n\n8": 8.0,
    "3, or 4.\n</think>\nRating: 8": 8.0,
    "<think>\nRating: 3": None,
    "11": None,
    "0": None,
    "-5": None,
    "8/100": None,
    "8%": None,
    "Between 7 and 8": None,
    "7 or 8": None,
    "Rating: 7. No, rating: 8": None,
    "I'd say 7/10, not 8/10": None,
    '{"rating": 7, "score": 8}': None,
    '{"rating": "good"}': None,
    "A rating of 10 would need sources. Rating: 7": None,
    "": None,
}


@pytest.mark.parametrize(("text", "expected"), RATINGS.items())
def test_a_rating_is_one_number_and_never_a_thoughts(text: str, expected: float | None) -> None:
    assert score(reward(), ScriptedAsk(text), "a") == [expected]


@pytest.mark.parametrize(
    ("text", "wins"),
    [
        ("A", True),
        ("**A**", True),
        ("Answer: A", True),
        ("Answer A is better.", True),
        ('{"winner": "A"}', True),
        ("<think>B, surely B.</think>A", True),
        ("Both are fine.\n\nAnswer: **A**", True),
        ("A or B", None),
        ("a", None),
        ("<think>A", None),
    ],
)
def test_a_choice_is_one_letter(text: str, wins: bool | None) -> None:
    first, second = score(reward("tournament"), ScriptedAsk(text), "x", "y")
    # What is shown first always wins: neither is better.
    assert (first, second) == ((None, None) if wins is None else (pytest.approx(0, abs=1e-6),) * 2)


def test_room_for_a_thought_and_replies_by_schema(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if body["max_tokens"] < 500:
            made = completion("")
            made["choices"][0] |= {"finish_reason": "length", "message": {"content": None, "reasoning_content": "Ok"}}
            return made
        structured = "response_format" in body
        return completion(json.dumps({"rating": 9}) if structured else "9", choices_note="x")

    cases: list[tuple[dict[str, Any], float | None]]
    cases = [({}, None), ({"max_tokens": 500}, 9.0), ({"max_tokens": 500, "structured": True}, 9.0)]
    for fields, expected in cases:
        with FakeServer(answer).running() as server:
            made = reward(base_url=server.url, **fields)
            ask = make_ask(made.judge, tmp_path / f"{len(fields)}.jsonl", concurrency=1, advance=lambda _: None)
            assert score(made, ask, "a") == [expected]
        assert ask.ledger.unreadable == (expected is None)


def test_what_can_not_be_read_is_asked_again_and_counted(tmp_path: Path) -> None:
    texts = iter(["Between 7 and 8", "8"])
    with FakeServer(lambda body: completion(next(texts))).running() as server:
        made = reward(base_url=server.url)
        ask = make_ask(made.judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None, retries_invalid=1)
        assert score(made, ask, "a") == [8.0]
    assert (ask.ledger.asked, ask.ledger.unreadable) == (2, 1)


def test_probabilities_of_all_ratings_are_their_expectation_still() -> None:
    sure = JudgeReply(text="9", logprobs={str(n): -20.0 for n in range(1, 11)} | {"9": 0.0, "8": 0.0})
    assert score(reward(), ScriptedAsk(sure), "a") == [pytest.approx(8.5, abs=1e-6)]
