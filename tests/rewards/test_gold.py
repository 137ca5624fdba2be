"""The known truth and its proxies: credits by hand, against whole constraints, and what a proxy learns from."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build, identity
from harness.errors import DataError
from harness.judges.reward_model import RewardModelJudge
from harness.judging.asker import make_ask
from harness.protocols import Ready
from harness.types import Candidates, JudgeRequest, Message, PreferencePair, prompt_id
from tests.benchmarks.alpaca_eval.helpers import answer, benchmark, prompts_file

USER = (Message(role="user", content="u"),)


def score(text: str, **fields: Any) -> float | None:
    gold: Any = build("reward", {"name": "gold", **fields})
    ready = Ready(Path(), lambda n: None, lambda judge: None)  # type: ignore[arg-type,return-value]
    return gold.score([(USER, text)], ready)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fields", "text", "credit"),
    [
        ({"words": [2, 4]}, "one two three", 1.0),
        ({"words": [2, 4]}, "one", 0.5),
        ({"words": [2, 4]}, "1 2 3 4 5 6 7 8", 0.5),
        ({"words": [0, 0]}, "one", 0.0),
        ({"sentences": [2, 2]}, "One. Two!", 1.0),
        ({"sentences": [2, 2]}, "It is 3.5 or so", 0.5),
        ({"keywords": ["cat", "dog"]}, "A Cat's doghouse", 0.5),
        ({"keywords": ["c++"]}, "I like C++.", 1.0),
        ({"without": [","]}, "a, b, c", 1 / 3),
        ({"without": [",", "Sorry"]}, "sorry", 0.5),
        ({"begins": "Dear", "ends": "Yours"}, "  Dear you\nYours\n", 1.0),
        ({"begins": "Dear", "ends": "Yours"}, "Dear you", 0.5),
        ({"format": "bullets"}, "- a\n\n* b\nc\n2. d", 0.75),
        ({"format": "json"}, '{"a": [1]}', 1.0),
        ({"format": "json"}, '{"a": [1}', 0.0),
        ({"format": "lower_case"}, "abC!", 2 / 3),
        ({"format": "upper_case"}, "123", 0.0),
        ({"format": "one_paragraph"}, "a\nb\n \nc", 0.5),
        ({"words": [1, 1], "without": [","]}, "a, b", 0.5),
        ({"words": [1, 1], "without": [","], "strict": True}, "a, b", 0.0),
        ({"words": [1, 9], "without": [","], "strict": True}, "a, b", 0.5),
        ({"without": [","]}, " \n", 0.0),
    ],
)
def test_credits(fields: dict[str, Any], text: str, credit: float) -> None:
    assert score(text, **fields) == pytest.approx(credit)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected either constraints"),
        ({"strict": True}, "expected either constraints"),
        ({"words": [5, 2]}, "expected .the least, the largest number."),
        ({"words": [1, 2], "reward": {"name": "length"}}, "expected either constraints"),
    ],
)
def test_a_truth_that_is_none(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build("reward", {"name": "gold", **fields})


@pytest.mark.parametrize(
    ("reward", "rule"),
    [
        ({"name": "gold", "words": [5, 25], "sentences": [1, 1]}, "5 to 25 words, 1 sentence"),
        (
            {"name": "gold", "keywords": ["you"], "without": [","], "ends": "?"},
            "the words 'you', without ',', ends with '?'",
        ),
        ({"name": "gold", "words": [1, 1], "strict": True}, "1 word, all or nothing each"),
        ({"name": "gold", "reward": {"name": "gold", "format": "one_paragraph"}}, "one paragraph"),
        ({"name": "gold", "reward": {"name": "length"}}, None),
        ({"name": "features", "weights": "gpt4_turbo"}, None),
    ],
)
def test_the_rule_of_a_judge(reward: dict[str, Any], rule: str | None) -> None:
    assert RewardModelJudge.model_validate({"name": "reward_model", "reward": reward}).rule == rule


def test_only_what_is_set_is_part_of_the_key() -> None:
    assert identity(build("reward", {"name": "gold", "words": [1, 2]})) == {"name": "gold", "words": [1, 2]}


def seed_pair(i: int, chosen: str, rejected: str) -> PreferencePair:
    messages = (Message(role="user", content=f"prompt {i}"),)
    return PreferencePair(id=prompt_id(messages), messages=messages, chosen=chosen, rejected=rejected, source="s")


GOLD = {"name": "gold", "without": [","]}


def fitted(pairs: list[PreferencePair], folder: Path, k: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    proxy: Any = build("reward", {"name": "proxy", "gold": GOLD, "learner": {"name": "features"}, "pairs": k})
    seen: list[Any] = []
    monkeypatch.setattr(type(proxy.learner), "fit", lambda self, given, *a, **k: seen.extend(given) or {"steps": 1})
    return proxy.fit(pairs, folder, seed=0, advance=lambda n: None), seen


def test_a_proxy_learns_from_golds_labels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [seed_pair(0, "a", "a, b"), seed_pair(1, "a, b", "a"), seed_pair(2, "a", "b"), seed_pair(3, "x,", "y")]
    report, seen = fitted(pairs, tmp_path, 2, monkeypatch)
    assert [(p.chosen, p.rejected) for p in seen] == [("a", "a, b"), ("a", "a, b")]
    own = {"labelled_pairs": 2, "wanted_pairs": 2, "passed_over": 0, "labelled_as_the_seed": 1}
    assert report == {**own, "steps": 1}
    report, seen = fitted(pairs, tmp_path, 9, monkeypatch)
    assert [p.chosen for p in seen] == ["a", "a", "y"]
    assert (report["labelled_pairs"], report["wanted_pairs"], report["passed_over"]) == (3, 9, 1)
    with pytest.raises(DataError, match="gold can't tell the answers of any of 1 seed pairs apart"):
        fitted(pairs[2:3], tmp_path, 1, monkeypatch)


def test_what_is_no_proxy_of_a_known_truth() -> None:
    features = {"name": "features"}
    with pytest.raises(ValidationError, match="'length' learns nothing from pairs"):
        build("reward", {"name": "proxy", "gold": GOLD, "learner": {"name": "length"}, "pairs": 1})
    noisy = {"name": "noisy", "reward": features}
    for gold in (features, noisy, {"name": "gold", "reward": features}):
        with pytest.raises(ValidationError, match="is trained itself"):
            build("reward", {"name": "proxy", "gold": gold, "learner": features, "pairs": 1})


def test_more_labels_make_a_better_proxy(tmp_path: Path) -> None:
    """Of answers that differ in length and commas, gold sees only the commas."""
    import random

    rng = random.Random(0)

    def answer() -> str:
        return ("," if rng.random() < 0.5 else "") + " word" * rng.randint(1, 30)

    pairs = [seed_pair(i, answer(), answer()) for i in range(400)]
    rows = [(p.messages, text) for p in pairs[200:] for text in (p.chosen, p.rejected)]
    gold: Any = build("reward", GOLD)
    truth = gold.score(rows, Ready(tmp_path, lambda n: None, lambda judge: None))  # type: ignore[arg-type,return-value]

    def accuracy(k: int) -> float:
        proxy: Any = build("reward", {"name": "proxy", "gold": GOLD, "learner": {"name": "features"}, "pairs": k})
        folder = tmp_path / str(k)
        folder.mkdir(exist_ok=True)
        proxy.fit(pairs[:200], folder, seed=0, advance=lambda n: None)
        found = proxy.score(rows, Ready(folder, lambda n: None, lambda judge: None))
        pairs_of = [
            (found[i] > found[i + 1]) == (truth[i] > truth[i + 1])
            for i in range(0, len(rows), 2)
            if truth[i] != truth[i + 1]
        ]
        return sum(pairs_of) / len(pairs_of)

    assert accuracy(100) > 0.9
    assert accuracy(100) >= accuracy(2)


def verdict(first: str, second: str, temperature: float) -> dict[str, float]:
    judge = RewardModelJudge(name="reward_model", reward=GOLD, temperature=temperature)
    judge.check()
    candidates = Candidates(messages=USER, answers=(first, second))
    (reply,) = judge.reply([JudgeRequest(messages=USER, choices=("m", "M"), candidates=candidates)])
    assert reply.logprobs is not None
    return reply.logprobs


def test_gold_as_a_judge_is_certain_at_temperature_zero_and_halves_ties() -> None:
    from math import exp, log

    sure = verdict("a", "a, b", 0.0)
    assert (exp(sure["m"]), exp(sure["M"])) == (1.0, pytest.approx(0.0, abs=1e-12))
    assert verdict("a, b", "a", 0.0) == {"m": sure["M"], "M": sure["m"]}
    for temperature in (0.0, 0.5):
        assert set(verdict("a", "b", temperature).values()) == {log(0.5)}
    soft = verdict("a", "a, b", 0.5)
    assert exp(soft["m"]) == pytest.approx(1 / (1 + exp(-1.0)))


def test_gold_judges_alpaca_eval_with_ties_at_half(tmp_path: Path) -> None:
    rows = [{"instruction": f"q {i}", "output": out} for i, out in enumerate(["a, b", "a", "a, b, c", "b"])]
    made = benchmark(prompts=str(prompts_file(tmp_path, rows)), reference="file")
    answers = [answer(row["instruction"], text) for row, text in zip(rows, ["a", "a, b", "x, y, z", "c"], strict=True)]
    judge = build("judge", {"name": "reward_model", "reward": GOLD, "temperature": 0})
    verdicts = made.verdicts(answers, [], make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None))
    assert [v.value for v in verdicts] == pytest.approx([2.0, 1.0, 1.5, 1.5])
    assert made.metrics(answers, [], verdicts)["alpaca_eval.win_rate"].value == pytest.approx(50)
