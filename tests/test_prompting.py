"""New prompts: what is shown, what is kept, and that every dropped text is counted under its reason."""

import random

import pytest

from harness.prompting import ASK, TASK, PromptFilter, choose_shots, few_shot
from harness.types import Completion, Message, PreferencePair, prompt_id


def pair(text: str, system: str | None = None) -> PreferencePair:
    head = [Message(role="system", content=system)] if system else []
    messages = (*head, Message(role="user", content=text))
    return PreferencePair(id=prompt_id(messages), messages=messages, chosen="a", rejected="b", source="test")


SHOWN = [pair("Name three rivers in France.", system="Be brief."), pair("Write a short poem about the sea.")]


def write(text: str, reason: str = "stop") -> Completion:
    return Completion(text=text, finish_reason="length" if reason == "length" else "stop", tokens=5)


def test_shots_are_assistant_turns_that_answer_the_same_request() -> None:
    turns = few_shot(SHOWN)
    assert [m.role for m in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [m.content for m in turns if m.role == "assistant"] == [m.messages[-1].content for m in SHOWN]
    assert [m.content for m in turns if m.role == "user"] == [f"{TASK}\n\n{ASK}", ASK, ASK]


def test_shots_that_are_too_long_to_imitate_are_passed_over() -> None:
    pairs = [pair("x" * 500), *(pair(f"short question number {i}?") for i in range(5))]
    for seed in range(20):
        shots = choose_shots(pairs, 3, 100, random.Random(seed))
        assert len({p.id for p in shots}) == 3
        assert all(len(p.messages[-1].content) <= 100 for p in shots)
    assert len(choose_shots(pairs[:1], 3, 100, random.Random(0))) == 1


def test_a_good_prompt_is_kept_with_its_shots_and_system_message() -> None:
    kept = PromptFilter([], 0.8).accept(write('1. "Explain how tides work."\n'), SHOWN)
    assert kept is not None
    assert [(m.role, m.content) for m in kept.messages] == [
        ("system", "Be brief."),
        ("user", "Explain how tides work."),
    ]
    assert kept.shots == tuple(p.id for p in SHOWN)
    assert kept.id == prompt_id(kept.messages)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (write("   \n"), "empty"),
        (write("Explain how tides work and why", "length"), "cut_at_token_limit"),
        (write("Why tides?"), "too_short"),
        (write("1 2 3 4 5"), "too_short"),
        (write("I'm sorry, but I can't help with that."), "not_a_request"),
        (write(ASK), "not_a_request"),
        (write("the cat and the cat and the cat and the cat sat"), "repetitive"),
        (write("name three RIVERS in France"), "duplicate"),
        (write("Name three rivers in France, please."), "too_similar"),
    ],
)
def test_what_is_dropped_is_counted(completion: Completion, reason: str) -> None:
    kept = PromptFilter([p.messages[-1].content for p in SHOWN], 0.8)
    assert kept.accept(completion, SHOWN) is None
    assert dict(kept.dropped) == {reason: 1}


def test_a_prompt_is_kept_once() -> None:
    kept = PromptFilter([], 0.8)
    assert kept.accept(write("Explain how tides work."), SHOWN)
    assert kept.accept(write("Explain how tides work!"), SHOWN) is None
    assert kept.accept(write("Explain how the tides work."), SHOWN) is None
    assert kept.accept(write("Describe a market in Morocco at dawn."), SHOWN)
    assert dict(kept.dropped) == {"duplicate": 1, "too_similar": 1}
