"""New prompts: the shots, the templates, and filters that count every dropped text under its reason."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from harness.augmentation.filters import Limits, PromptFilter, languages_of, shingles, similarity
from harness.augmentation.shots import choose_shots
from harness.data.leaks import LeakIndex
from harness.recipe.prompt_template import PromptTemplate
from harness.types import Completion, Message, PreferencePair, prompt_id


class Holder(BaseModel):
    template: PromptTemplate


def template(name: str, base: Path | None = None) -> Any:
    return Holder.model_validate({"template": name}, context={"base": base} if base else None).template


CHAT = template("chat")


def pair(text: str, system: str | None = None, category: str | None = None) -> PreferencePair:
    head = [Message(role="system", content=system)] if system else []
    messages = (*head, Message(role="user", content=text))
    return PreferencePair(
        id=prompt_id(messages), messages=messages, chosen="a", rejected="b", source="test", category=category
    )


SHOWN = [pair("Name three rivers in France.", system="Be brief."), pair("Write a short poem about the sea.")]
SEED_PROMPTS = ["Name three rivers in France.", "Describe in a few words what a lighthouse keeper does all night long."]
EVALUATION = LeakIndex({"alpaca_eval": [("1", "How do I take care of a wooden table?")]})


def write(text: str, reason: str = "stop") -> Completion:
    return Completion(text=text, finish_reason="length" if reason == "length" else "stop", tokens=5)


def a_filter(seed_prompts: list[str] = SEED_PROMPTS, **limits: Any) -> PromptFilter:
    return PromptFilter(seed_prompts, Limits(**limits), EVALUATION, frozenset({"en"}), CHAT)


def test_a_chat_template_makes_shots_turns_that_answer_the_same_request() -> None:
    turns = CHAT.render([p.messages[-1].content for p in SHOWN])
    assert [m.role for m in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [m.content for m in turns if m.role == "assistant"] == [p.messages[-1].content for p in SHOWN]
    assert [m.content for m in turns if m.role == "user"] == [f"{CHAT.task}\n\n{CHAT.ask}", CHAT.ask, CHAT.ask]


def test_a_text_template_ends_where_the_next_prompt_begins() -> None:
    text_template = template("text")
    text = text_template.render(["one {x}", "two"])
    assert text.startswith(text_template.task)
    assert text.endswith("### Task 1\none {x}\n\n### Task 2\ntwo\n\n### Task 3\n")
    assert text_template.stop == ("\n\n###",)


def test_a_template_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("style: text\ntask: Q\nexample: ' {number}={prompt};'\nstop: ';'\n")
    assert template("mine.yaml", tmp_path).render(["a"]) == "Q 1=a; 2="


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file"),
        ("style: poem\ntask: x\n", "template mine.yaml"),
        ("style: chat\ntask: x\n", "template mine.yaml: ask: Field required"),
        ("style: text\ntask: x\nexample: nothing\nstop: y\n", "expected {prompt} exactly once"),
        ("style: [", "can't be read as YAML"),
    ],
)
def test_a_wrong_template_is_named_with_its_file(content: str | None, message: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        template("mine.yaml", tmp_path)


def test_shots_that_are_too_long_to_imitate_are_passed_over() -> None:
    pairs = [pair("x" * 500), *(pair(f"short question number {i}?") for i in range(5))]
    for seed in range(20):
        shots = choose_shots(pairs, 3, 100, random.Random(seed))
        assert len({p.id for p in shots}) == 3
        assert all(len(p.messages[-1].content) <= 100 for p in shots)
    assert len(choose_shots(pairs[:1], 3, 100, random.Random(0))) == 1


def test_by_category_shows_rare_categories_as_often() -> None:
    pairs = [pair(f"question {i}?", category="rare" if i < 2 else "common") for i in range(40)]
    for seed in range(20):
        shots = choose_shots(pairs, 4, 100, random.Random(seed), "by_category")
        assert Counter(p.category for p in shots) == {"rare": 2, "common": 2}
    assert len(choose_shots(pairs, 32, 100, random.Random(0), "by_category")) == 32


def test_a_good_prompt_is_kept_with_its_shots_and_system_message() -> None:
    kept = a_filter([]).accept(write('1. "Explain how tides work."\n'), SHOWN)
    assert kept is not None
    assert [(m.role, m.content) for m in kept.messages] == [
        ("system", "Be brief."),
        ("user", "Explain how tides work."),
    ]
    assert kept.shots == tuple(p.id for p in SHOWN)
    assert kept.id == prompt_id(kept.messages)


@pytest.mark.parametrize(
    ("completion", "reason", "matched"),
    [
        (write("   \n"), "empty", None),
        (write("Explain how tides work and why", "length"), "cut_at_token_limit", None),
        (write("Why tides?"), "too_short", None),
        (write("? ! . , ; :"), "unparsable", None),
        (write(" ".join(f"word{i}" for i in range(500))), "too_long", None),
        (write("I'm sorry, but I can't help with that."), "not_a_request", None),
        (write(CHAT.ask), "not_a_request", None),
        (write("A: The answer is\nA:"), "not_a_request", None),
        (write("The answer to this question is:"), "not_a_request", None),
        (write("the cat and the cat and the cat and the cat sat"), "repetitive", None),
        (write("Write, a short poem: about the SEA"), "copy_of_a_shot", "Write a short poem about the sea."),
        (write("describe in a FEW words, what a lighthouse keeper does all night long"), "duplicate", None),
        (
            write("Describe in few words what a lighthouse keeper does all night long."),
            "near_duplicate",
            SEED_PROMPTS[1],
        ),
        (write("Schreibe bitte einen kurzen Aufsatz über den deutschen Wald im Winter."), "language", "de"),
        (write("How do I really take care of a wooden TABLE"), "leak", "alpaca_eval: How do I take care of a wooden"),
    ],
)
def test_what_is_dropped_is_counted_and_kept_with_the_reason(
    completion: Completion, reason: str, matched: str | None
) -> None:
    kept = a_filter()
    assert kept.accept(completion, SHOWN) is None
    assert kept.counts == {reason: 1}
    (dropped,) = kept.dropped
    assert dropped.matched is matched is None or str(dropped.matched).startswith(str(matched))
    assert kept.leaks == ({"alpaca_eval": 1} if reason == "leak" else {})


@pytest.mark.parametrize(
    "text",
    [
        "I can't sleep at night. What should I do?",
        "为什么天空是蓝色的？请用简单的语言解释。",
        " ".join(f"word{i % 90}" for i in range(300)),  # long texts have most of their words more than once
    ],
)
def test_what_is_a_request_is_kept(text: str) -> None:
    kept = PromptFilter([], Limits(), EVALUATION, frozenset(), CHAT)
    assert kept.accept(write(text), SHOWN), kept.dropped


def test_peoples_own_prompts_pass_the_filters(shared_data: Path) -> None:
    """AlpacaEval's instructions, written by people: what is dropped of them would be dropped wrongly."""
    rows = json.loads(gzip.decompress((shared_data / "alpaca_eval/alpaca_eval_gpt4_baseline.json.gz").read_bytes()))
    texts = [row["instruction"] for row in rows]
    kept = PromptFilter([], Limits(max_similarity=1.0), EVALUATION, languages_of(texts), CHAT)
    for text in texts:
        kept.accept(write(text), [pair("zzz")])
    assert len(kept.dropped) - kept.leaks["alpaca_eval"] <= 0.01 * len(texts), kept.counts


def test_a_prompt_is_kept_once() -> None:
    kept = a_filter([])
    assert kept.accept(write("Explain to a child how the tides of the sea work."), SHOWN)
    assert kept.accept(write("Explain to a child how the tides of the sea work!"), SHOWN) is None
    assert kept.accept(write("Explain to a child how tides of the sea work."), SHOWN) is None
    assert kept.accept(write("Describe a market in Morocco at dawn."), SHOWN)
    assert kept.counts == {"duplicate": 1, "near_duplicate": 1}


def test_near_duplicates_are_those_of_plain_jaccard_similarity() -> None:
    """MinHash only proposes; what it lets by must be rare, and what it drops is above the threshold."""
    rng = random.Random(1)
    vocabulary = [f"w{i}" for i in range(60)]
    kept = a_filter([], max_similarity=0.5)
    texts: list[str] = []
    missed = dropped = 0
    for _ in range(300):
        text = " ".join(rng.sample(vocabulary, 12))
        if texts and rng.random() < 0.5:
            parts = rng.choice(texts).split()
            parts[rng.randrange(12)] = rng.choice(vocabulary)
            text = " ".join(parts)
        near = any(similarity(shingles(text), shingles(other)) > 0.5 for other in texts)
        if kept.accept(write(text), SHOWN):
            missed += near
            texts.append(text)
        elif kept.dropped[-1].reason == "near_duplicate":
            assert near
            dropped += 1
    assert dropped > 50
    assert missed <= 0.02 * dropped


def test_the_languages_of_a_seed_set() -> None:
    english = [f"Please describe the daily work of a baker in town number {i}." for i in range(30)]
    german = ["Beschreibe bitte die tägliche Arbeit eines Bäckers in einer kleinen Stadt."]
    assert languages_of(english + german) == {"en"}
    assert languages_of(english + 3 * german) == {"en", "de"}
    assert languages_of(["2 + 2?"]) == frozenset()
