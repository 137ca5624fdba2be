"""Reward models without a model of their own: length, noise over another one, several as one, judges, log-ratios."""

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from pydantic import ValidationError

from harness.components import build
from harness.errors import DataError
from harness.protocols import Ready, ScoreRows
from harness.types import Ask, JudgeReply, JudgeRequest, Message, Messages
from tests.stand_ins import ScriptedAsk

Row = tuple[Messages, str]
LENGTH = {"name": "length"}


def prompt(i: int) -> Messages:
    return (Message(role="user", content=f"prompt {i}"),)


def ready(*parts: ScoreRows, ask: Ask | None = None, folder: Path = Path()) -> Ready:
    return Ready(folder, advance=lambda _: None, ask=lambda judge: ask or pytest.fail("asks a judge"), parts=parts)


def scorer(scores: dict[str, float | None]) -> ScoreRows:
    return lambda rows: [scores[text] for _, text in rows]


def test_length_is_length() -> None:
    rows = [(prompt(0), "two words"), (prompt(0), "")]
    assert build("reward", LENGTH).score(rows, ready()) == [9, 0]  # type: ignore[attr-defined]
    words = build("reward", LENGTH | {"unit": "words", "prefer": "shorter"})
    assert words.score(rows, ready()) == [-2, 0]  # type: ignore[attr-defined]


def spoilt(rows: Sequence[Row], inner: ScoreRows, **fields: Any) -> list[float | None]:
    made: Any = build("reward", {"name": "noisy", "reward": LENGTH, **fields})
    return list(made.score(rows, ready(inner)))


def accuracy(scores: Sequence[float | None]) -> float:
    """Of pairs whose first is the better one."""
    return mean(float(a > b) for a, b in zip(scores[::2], scores[1::2], strict=True) if a is not None and b is not None)


def test_noise_is_a_dial() -> None:
    rng = random.Random(0)
    rows = [(prompt(i), f"{i} {side}") for i in range(3000) for side in ("good", "bad")]
    right = {i: rng.random() < 0.8 for i in range(3000)}
    truth = {text: float((side == "good") == right[int(i)]) for _, text in rows for i, side in [text.split()]}
    a = accuracy(scorer(truth)(rows))
    assert spoilt(rows, scorer(truth)) == scorer(truth)(rows)
    assert spoilt(rows, scorer(truth), flip=1.0) == [-truth[text] for _, text in rows]
    for flip in (0.1, 0.25, 0.5, 0.9):
        expected = a * (1 - flip) + (1 - a) * flip
        assert accuracy(spoilt(rows, scorer(truth), flip=flip)) == pytest.approx(expected, abs=0.03)
    blurred = [accuracy(spoilt(rows, scorer(truth), blur=blur)) for blur in (0.0, 1.0, 3.0, 100.0)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[-1] == pytest.approx(0.5, abs=0.03)


def test_noise_is_of_the_prompt_and_the_response_alone() -> None:
    rows = [(prompt(i), f"{i}-{k}") for i in range(6) for k in range(4)]
    inner: ScoreRows = lambda rows: [float(len(text) + int(text[-1])) for _, text in rows]  # noqa: E731
    options = {"flip": 0.4, "blur": 0.7, "seed": 5}
    whole = dict(zip(rows, spoilt(rows, inner, **options), strict=True))
    turned = rows[::-1]
    assert [whole[row] for row in turned] == spoilt(turned, inner, **options)
    assert list(whole.values()) != spoilt(rows, inner, flip=0.4, blur=0.7, seed=6)
    assert spoilt([(prompt(0), "x")], scorer({"x": None}), blur=1.0) == [None]


def combined(scores: Sequence[dict[str, float | None]], **fields: Any) -> list[float | None]:
    made: Any = build("reward", {"name": "ensemble", "rewards": [LENGTH] * len(scores), **fields})
    rows = [(prompt(0), "a"), (prompt(0), "b"), (prompt(1), "c"), (prompt(1), "d")]
    return list(made.score(rows, ready(*map(scorer, scores))))


def test_an_ensemble_does_not_mind_units() -> None:
    one: dict[str, float | None] = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 5.0}
    other: dict[str, float | None] = {"a": 900.0, "b": 100.0, "c": 0.0, "d": 3.0}
    assert combined([one, other]) == pytest.approx([0, 0, -0.5, 0.5])
    assert combined([one, other], weights=[3, 1]) == pytest.approx([-0.5, 0.5, -0.25, 0.25])
    assert combined([one, other], combine="min") == pytest.approx([-1, -1, -1, 0])
    assert combined([one, one, other], combine="median") == pytest.approx([-1, 1, 0, 0])
    assert combined([{**one, "b": None}, other])[1] is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rewards": [LENGTH]}, "at least 2 items"),
        ({"rewards": [LENGTH] * 2, "weights": [1]}, "expected 2 numbers above 0"),
        ({"rewards": [LENGTH] * 2, "weights": [1, 2], "combine": "min"}, "weights are for combine: mean"),
    ],
)
def test_wrong_ensembles_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        build("reward", {"name": "ensemble", **fields})


def judge_reward(**fields: Any) -> Any:
    return build("reward", {"name": "llm_judge", "judge": {"name": "local", "model": "a/b"}, **fields})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        (JudgeReply(text="7"), 7.0),
        (JudgeReply(text=" **10**\n"), 10.0),
        (JudgeReply(text="8/10"), 8.0),
        (JudgeReply(text="11"), None),
        (JudgeReply(text="I would say 7"), None),
        (JudgeReply(text="", error="too long"), None),
        (JudgeReply(text="9", logprobs={str(n): -20.0 for n in range(1, 11)} | {"9": 0.0, "8": 0.0}), 8.5),
    ],
)
def test_a_judge_rates(reply: JudgeReply, score: float | None) -> None:
    ask = ScriptedAsk(reply)
    found = judge_reward().score([(prompt(3), "the {response}")], ready(ask=ask))
    assert found == ([None] if score is None else [pytest.approx(score, abs=1e-6)])
    text = ask.requests[0].messages[0].content
    assert "[User]\nprompt 3\n" in text
    assert "\nthe {response}\n" in text
    assert ask.requests[0].choices == tuple(str(n) for n in range(1, 11))


def test_a_tournament_ranks_by_who_beats_whom() -> None:
    rows = [(prompt(0), text) for text in ("worst", "middle", "best")] + [(prompt(1), "x"), (prompt(1), "y")]
    order = ["worst", "middle", "best"]

    def better(request: JudgeRequest) -> JudgeReply:
        text = request.messages[0].content
        first, second = (text.split(f"[Answer {side}]\n")[1].split("\n[End")[0] for side in "AB")
        if {first, second} == {"x", "y"}:
            return JudgeReply(text="neither")
        return JudgeReply(text="A" if order.index(first) > order.index(second) else "B")

    reward = judge_reward(mode="tournament")
    assert reward.groupwise
    scores = reward.score(rows, ready(ask=ScriptedAsk(better)))
    assert scores[0] < scores[1] < scores[2]
    assert sum(scores[:3]) == pytest.approx(0, abs=1e-6)
    assert scores[1] == pytest.approx(0, abs=1e-3)
    assert scores[3:] == [None, None]
    always_first = reward.score(rows[:3], ready(ask=ScriptedAsk("A")))
    assert always_first == pytest.approx([0, 0, 0], abs=1e-4)


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("{conversation}|{response}")
    made = judge_reward(template=str(tmp_path / "t.txt"))
    made.check()
    assert made.identity()["template_sha256"] != judge_reward().identity()["template_sha256"]
    with pytest.raises(DataError, match=r"expected \{first\} in it for mode: tournament"):
        judge_reward(template=str(tmp_path / "t.txt"), mode="tournament").check()


def test_the_implicit_reward_is_the_log_ratio(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from harness.models import chat
    from harness.models import load as models
    from tests.tiny import tiny_causal_lm

    other = tiny_causal_lm(tmp_path / "policy", seed=7)
    rows = [(prompt(i), "answer " * (i + 1)) for i in range(4)]
    fields = {"name": "implicit", "policy": str(other), "reference": str(tiny_model), "dtype": "float32", "beta": 0.5}
    plain: Any = build("reward", fields)
    scores = plain.score(rows, ready())
    tokenizer = models.load_tokenizer(str(tiny_model))
    for (messages, text), score in zip(rows, scores, strict=True):
        ids, answer = chat.encode_prompt(tokenizer, messages), chat.encode_response(tokenizer, text)
        sums = []
        for folder in (other, tiny_model):
            with torch.no_grad():
                logits = models.load_causal_lm(str(folder), dtype="float32")(torch.tensor([ids + answer])).logits[0]
            logps = logits.log_softmax(-1)[len(ids) - 1 : -1]
            sums.append(float(logps.gather(-1, torch.tensor(answer)[:, None]).sum()))
        assert score == pytest.approx(0.5 * (sums[0] - sums[1]), abs=1e-3)
    a_token: Any = build("reward", {**fields, "length_norm": True})
    lengths = [len(chat.encode_response(tokenizer, text)) for _, text in rows]
    expected = [s / n for s, n in zip(scores, lengths, strict=True)]
    assert a_token.score(rows, ready()) == pytest.approx(expected, abs=1e-5)
