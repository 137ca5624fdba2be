"""A row's answers by the known truth and its proxy: known means, gains over base, and overoptimisation."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.components import build
from harness.engine.stage import Stage
from harness.engine.store import Artifact, stage_key, write_rows
from harness.figures import GOLD_REWARD
from harness.pipeline.guards import overoptimised_flag
from harness.protocols import Ready
from harness.stages.proxies.answers import Rewards, rewards_stage
from harness.stages.proxies.samples import ROLE
from harness.stages.reward import reward_stage
from harness.types import Answer, Message, PreferencePair, Question, prompt_id
from tests.stages.scripted import Shortest, run_stages

QUESTIONS = [Question(id=str(i), turns=(f"question {i}",)) for i in range(12)]
BENCHMARK: Any = SimpleNamespace(name="asked", load_questions=lambda: QUESTIONS, has_turns=False)
CONVERSATIONS = [
    Question(id="0", turns=("first", "second", "third"), history=(Message(role="system", content="s"),)),
    Question(id="1", turns=("only",)),
    Question(id="1#2", turns=("only",), sample=1),
]
TALK: Any = SimpleNamespace(name="talk", load_questions=lambda: CONVERSATIONS, has_turns=True)
GOLD: Any = build("reward", {"name": "gold", "without": [","]})
LENGTH: Any = build("reward", {"name": "length", "unit": "words"})


def answered(texts: list[str], name: str) -> Stage:
    def body(ctx: Any) -> dict[str, Any]:
        rows = [Answer(question_id=str(i), turns=(t,), finish_reasons=(), tokens=1) for i, t in enumerate(texts)]
        write_rows(ctx.folder / "answers.jsonl", rows)
        return {}

    return Stage(f"answers/{name}", "answers", 1, {"texts": texts}, {}, body)


def seeds() -> Stage:
    def pair(i: int) -> PreferencePair:
        messages = (Message(role="user", content=f"seed {i}"),)
        return PreferencePair(id=prompt_id(messages), messages=messages, chosen="a", rejected="b, c", source="s")

    def body(ctx: Any) -> dict[str, Any]:
        write_rows(ctx.folder / "train.jsonl", [pair(0), pair(1)])
        write_rows(ctx.folder / "heldout.jsonl", [pair(2), pair(3)])
        return {"train": 2, "heldout": 2}

    return Stage("seeds", "seeds", 1, {"seeds": [{"name": "s"}]}, {}, body)


def scored(texts: list[str], base: list[str], folder: Path, proxy: Any = LENGTH) -> Artifact:
    data = seeds()
    sizes: Any = None
    gold = reward_stage(GOLD, data, 0, sizes, ROLE)
    ready = reward_stage(proxy, data, 0, sizes) if proxy else None
    mine, bases = answered(texts, "row"), answered(base, "base")
    stage = rewards_stage(
        "row", Rewards(GOLD, gold, proxy, ready), [BENCHMARK], {"asked": mine}, {"asked": bases}, None
    )
    assert stage is not None
    return run_stages([s for s in (data, gold, ready, mine, bases, stage) if s], folder)[-1]


BASE = [f"word{' word' * (i % 3)}" for i in range(12)]


def test_longer_answers_with_commas_please_the_proxy_and_not_the_truth(tmp_path: Path) -> None:
    artifact = scored([f"{text}, and so on" for text in BASE], BASE, tmp_path)
    metrics, report = artifact.json("metrics.json"), artifact.report
    assert metrics["gold_reward.score"]["value"] == pytest.approx(0.5)
    assert report["gold_gain"]["value"] == pytest.approx(-0.5)
    # Three words more; base's answers have 1, 2 or 3 words: a standard deviation (n - 1) of sqrt(8 / 11).
    assert report["proxy_gain"]["value"] == pytest.approx(3 / (8 / 11) ** 0.5)
    assert metrics["proxy_reward.score"]["value"] == pytest.approx(3 / (8 / 11) ** 0.5)
    assert (metrics["gold_reward.score"]["n"], metrics["proxy_reward.score"]["n"]) == (12, 12)
    outcomes = artifact.json("outcomes.json")
    assert outcomes["gold_reward"] == {f"asked:{i}": 0.5 for i in range(12)}
    assert report["overoptimised"] is True
    flag = overoptimised_flag(report)
    assert flag is not None
    assert "overoptimised: over base, the proxy's score rose by 3.52" in flag.text


@pytest.mark.parametrize("texts", [BASE, ["w" for _ in BASE], [f"{t} more words" for t in BASE]])
def test_other_rows_are_not_overoptimised(texts: list[str], tmp_path: Path) -> None:
    report = scored(texts, BASE, tmp_path).report
    assert (report["overoptimised"], overoptimised_flag(report)) == (False, None)


def test_equal_answers_of_base_give_the_proxy_no_scale(tmp_path: Path) -> None:
    artifact = scored([f"{text}, and" for text in BASE], ["same"] * 12, tmp_path)
    proxy = artifact.json("metrics.json")["proxy_reward.score"]
    assert (proxy["value"], proxy["n"], proxy["n_invalid"]) == (None, 0, 12)
    assert artifact.report["overoptimised"] is None


def test_without_a_proxy_there_is_the_truth_alone(tmp_path: Path) -> None:
    artifact = scored(BASE, BASE, tmp_path, proxy=None)
    assert set(artifact.json("metrics.json")) == {"gold_reward.score"}
    assert set(artifact.json("outcomes.json")) == {"gold_reward"}
    rewards: Any = SimpleNamespace(models=[])
    assert rewards_stage("row", rewards, [BENCHMARK], {}, {}, None) is None


class Context(Shortest):
    """The number of messages before an answer; no score for `lost`."""

    name: str = "context"

    def score(self, rows: Sequence[tuple[Any, str]], ready: Ready) -> list[float | None]:
        found: list[float | None] = []
        for messages, text in rows:
            roles = [message.role for message in messages if message.role != "system"]
            assert roles == (["user", "assistant"] * 3)[: len(roles)]
            assert roles[-1] == "user"
            found.append(None if text == "lost" else float(len(messages)))
        return found


def conversations(turns: dict[str, tuple[str, ...]], name: str) -> Stage:
    def body(ctx: Any) -> dict[str, Any]:
        rows = [Answer(question_id=key, turns=texts, finish_reasons=(), tokens=1) for key, texts in turns.items()]
        write_rows(ctx.folder / "answers.jsonl", rows)
        return {}

    return Stage(f"answers/{name}", "answers", 1, {"turns": turns}, {}, body)


def talked(turns: dict[str, tuple[str, ...]], folder: Path) -> dict[str, Any]:
    data, sizes = seeds(), cast(Any, None)
    gold = reward_stage(Context(), data, 0, sizes, ROLE)
    mine, bases = conversations(turns, "row"), conversations({"0": ("a", "b", "c"), "1": ("d",)}, "base")
    stage = rewards_stage("row", Rewards(Context(), gold), [TALK], {"talk": mine}, {"talk": bases}, None)
    assert stage is not None
    assert stage.params == {"turns": "each"}
    artifact = run_stages([data, gold, mine, bases, stage], folder)[-1]
    return {
        **artifact.json("outcomes.json")["gold_reward"],
        "metric": artifact.json("metrics.json")[GOLD_REWARD.metric],
    }


def test_each_turn_is_scored_with_those_before_it_and_a_prompt_has_one_outcome(tmp_path: Path) -> None:
    found = talked({"0": ("a", "b", "c"), "1": ("d",), "1#2": ("lost",)}, tmp_path)
    # Messages before the three answers, the system's among them: 2, 4 and 6. One of the two samples was scored.
    assert (found["talk:0"], found["talk:1"]) == (4.0, 1.0)
    assert set(found) == {"talk:0", "talk:1", "metric"}
    assert (found["metric"]["value"], found["metric"]["n"]) == (2.5, 2)


def test_a_conversation_with_a_turn_that_was_not_scored_is_not_scored(tmp_path: Path) -> None:
    found = talked({"0": ("a", "lost", "c"), "1": ("d",), "1#2": ("e",)}, tmp_path)
    assert (found["talk:0"], found["talk:1"]) == (None, 1.0)
    assert (found["metric"]["value"], found["metric"]["n"], found["metric"]["n_invalid"]) == (1.0, 1, 1)


def test_the_key_of_a_stage_without_further_turns_is_what_it_was() -> None:
    gold = reward_stage(GOLD, seeds(), 0, cast(Any, None), ROLE)
    mine = answered(BASE, "row")
    stage = rewards_stage("row", Rewards(GOLD, gold), [BENCHMARK], {"asked": mine}, {"asked": mine}, None)
    assert stage is not None
    inputs = {"answers/asked": mine.key, "base/asked": mine.key, ROLE: gold.key}
    assert stage.key == stage_key("rewards", 1, {}, inputs)
