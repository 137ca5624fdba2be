"""Reward models as judges: Bradley-Terry probabilities, whatever the order, and refusals of what they can't judge."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from harness.components import build
from harness.engine.journal import content_key
from harness.errors import JudgeError, ModelError
from harness.judging.asker import make_ask
from harness.protocols import Ready
from harness.types import Candidates, JudgeReply, JudgeRequest, Message
from tests.a_recipe import RECIPE, load, recipe_folder, refused
from tests.benchmarks.alpaca_eval.helpers import answer, benchmark, prompts_file
from tests.rewards.pairs import pairs
from tests.stand_ins import ScriptedJudge

LENGTH = {"name": "reward_model", "reward": {"name": "length"}, "temperature": 100}


def request(first: str, second: str, prompt: str = "Say something.") -> JudgeRequest:
    messages = (Message(role="user", content=prompt),)
    candidates = Candidates(messages=messages, answers=(first, second))
    shown = (Message(role="user", content=f"{prompt} m: {first} M: {second}"),)
    return JudgeRequest(messages=shown, choices=("m", "M"), candidates=candidates)


def share(reply: JudgeReply, choice: str = "m") -> float:
    assert reply.logprobs is not None
    return math.exp(reply.logprobs[choice])


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from([0.01, 1.0, 50.0]))
def test_the_probability_is_bradley_terrys_and_turns_with_the_order(a: str, b: str, temperature: float) -> None:
    judge: Any = build("judge", {**LENGTH, "temperature": temperature})
    there, back = judge.reply([request(a, b), request(b, a)])
    assert share(there) == pytest.approx(expit((len(a) - len(b)) / temperature), abs=1e-12)
    assert share(there) + share(there, "M") == pytest.approx(1)
    assert share(there) == pytest.approx(share(back, "M"))
    assert there.text == ("m" if len(a) >= len(b) else "M")
    assert all(math.isfinite(x) for x in there.logprobs.values())


def test_each_answer_is_scored_once_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    judge: Any = build("judge", LENGTH)
    seen: list[str] = []
    score = type(judge.reward).score

    def counting(self: Any, rows: Any, ready: Ready) -> Any:
        seen.extend(text for _, text in rows)
        return score(self, rows, ready)

    monkeypatch.setattr(type(judge.reward), "score", counting)
    replies = judge.reply([request("reference", "a"), request("reference", "bbb"), request("bbb", "reference")])
    replies += judge.reply([request("a", "reference")])
    assert sorted(seen) == ["a", "bbb", "reference"]
    assert share(replies[0]) == pytest.approx(share(replies[3], "M"))
    assert share(replies[1]) == pytest.approx(share(replies[2], "M"))


def test_a_trained_reward_model_judges_from_the_folder_that_it_filled(wordy_tiny_model: Path, tmp_path: Path) -> None:
    fields = {"name": "trained", "base": str(wordy_tiny_model), "dtype": "float32", "epochs": 1}
    reward: Any = build("reward", fields)
    reward.fit(pairs(8, 0), tmp_path / "fitted", seed=0, advance=lambda _: None)
    judge: Any = build("judge", {"name": "reward_model", "reward": fields, "checkpoint": str(tmp_path / "fitted")})
    judge.check()
    messages = (Message(role="user", content="Say something."),)
    ready = Ready(tmp_path / "fitted", lambda _: None, lambda judge: pytest.fail("asks a judge"))
    a, b = reward.score([(messages, "green tea good"), (messages, "paper poor")], ready)
    (reply,) = judge.reply([request("green tea good", "paper poor")])
    assert share(reply) == pytest.approx(expit(a - b), abs=1e-5)
    before = judge.identity()
    assert str(tmp_path) not in json.dumps(before)
    (tmp_path / "fitted" / "more.json").write_text("{}")
    again: Any = build("judge", {"name": "reward_model", "reward": fields, "checkpoint": str(tmp_path / "fitted")})
    assert again.identity() != before


def test_an_ensemble_judges_within_each_pair() -> None:
    rewards = [{"name": "length"}, {"name": "length", "unit": "words"}]
    judge: Any = build("judge", {"name": "reward_model", "reward": {"name": "ensemble", "rewards": rewards}})
    short, long = judge.reply([request("a b", "ccccc"), request("a", "b b b")])
    # Standardised within a pair: longer in characters, shorter in words, and the mean of both is even.
    assert share(short) == pytest.approx(0.5)
    assert share(long) == pytest.approx(expit(-2))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reward": {"name": "features"}}, "'features' must be trained first: set checkpoint"),
        ({"reward": {"name": "features"}, "checkpoint": "/no/such"}, "checkpoint /no/such is not a folder"),
        ({"reward": {"name": "length"}, "checkpoint": "/tmp"}, "checkpoint is for a reward model that is trained"),
        (
            {"reward": {"name": "ensemble", "rewards": [{"name": "features"}, {"name": "length"}]}},
            "'features' can't be trained as a part of another",
        ),
    ],
)
def test_what_is_missing_is_told_before_anything_runs(fields: dict[str, Any], said: str) -> None:
    judge: Any = build("judge", {"name": "reward_model", **fields})
    with pytest.raises(ModelError, match=said):
        judge.check()


def test_a_request_that_compares_nothing_is_refused() -> None:
    judge: Any = build("judge", LENGTH)
    rating = JudgeRequest(messages=(Message(role="user", content="Rate this."),), choices=("1", "2"))
    with pytest.raises(JudgeError, match="compares two answers"):
        judge.reply([rating])
    asks: Any = build("judge", {"name": "reward_model", "reward": {"name": "llm_judge", "judge": LENGTH}})
    with pytest.raises(JudgeError, match="asks a judge"):
        asks.reply([request("a", "b")])


def test_a_recipe_says_where_such_a_judge_can_not_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = recipe_folder(tmp_path)
    judge = "evaluation.judge={name: reward_model, reward: {name: length}}"
    (folder / "x.yaml").write_text(RECIPE)
    said = refused(folder, RECIPE, judge)
    assert "evaluation.judge" in said
    assert "'reward_model' only compares two answers" in said
    assert "mt_bench asks for something else here: give it its own judge in evaluation.judges.mt_bench" in said
    own = "evaluation.judges={mt_bench: {name: local, model: smollm2-135m-instruct}}"
    recipe = load(folder, RECIPE, judge, own)
    assert recipe.evaluation is not None
    names = {b.name: recipe.evaluation.judge_of(b).name for b in recipe.evaluation.benchmarks}  # type: ignore[attr-defined]
    assert names == {"alpaca_eval": "reward_model", "mt_bench": "local"}
    both = "[{name: reward_model, reward: {name: length}}, {name: local, model: smollm2-135m-instruct}]"
    panel = f"evaluation.judge={{name: panel, judges: {both}}}"
    assert "'reward_model' only compares two answers" in refused(folder, RECIPE, panel)
    unknown = "evaluation.judges={mt_bnch: {name: local, model: smollm2-135m-instruct}}"
    assert "no benchmark 'mt_bnch' in evaluation; did you mean 'mt_bench'?" in refused(folder, RECIPE, unknown)
    text = "evaluation.benchmarks=[{name: alpaca_eval, prompts: builtin, annotator: alpaca_eval_gpt4}]"
    assert "alpaca_eval asks for something else here" in refused(folder, RECIPE, judge, text)
    missing = "evaluation.judges={mt_bench: {name: local, model: /no/such}}"
    assert "evaluation.judges.mt_bench" in refused(folder, RECIPE, missing)


def test_alpaca_eval_is_judged_by_it_whatever_order_the_package_draws(tmp_path: Path) -> None:
    rows = [{"instruction": f"Do thing {i}.", "output": "x" * (5 * i + 3), "generator": "g"} for i in range(12)]
    made = benchmark(prompts=str(prompts_file(tmp_path, rows)), reference="file")
    answers = [answer(row["instruction"], "y" * 33) for row in rows]
    judge = build("judge", LENGTH)
    ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)
    verdicts = made.verdicts(answers, [], ask)
    assert {v.detail["switched"] for v in verdicts if v.detail["asked"]} == {False, True}
    for row, verdict in zip(rows, verdicts, strict=True):
        assert verdict.value == pytest.approx(1 + expit((33 - len(row["output"])) / 100))


def test_candidates_are_no_part_of_the_key_of_a_judge_that_does_not_read_them(tmp_path: Path) -> None:
    asked, reader = request("one", "two"), ScriptedJudge(JudgeReply(text="m", price=0.0), "reader")
    make_ask(reader, tmp_path / "j.jsonl", concurrency=1, advance=lambda _: None)([asked])
    # What journals held before requests carried candidates.
    fields = {"messages": [m.model_dump() for m in asked.messages], "max_tokens": 2048, "temperature": 0.0}
    old = content_key([{"name": "reader"}, {**fields, "top_logprobs": None, "choices": ["m", "M"]}])
    assert json.loads((tmp_path / "j.jsonl").read_text())["key"] == old
    same_text = asked.model_copy(update={"candidates": request("three", "two").candidates})
    ask = make_ask(build("judge", LENGTH), tmp_path / "r.jsonl", concurrency=1, advance=lambda _: None)
    assert ask([asked])[0] != ask([same_text])[0]
    assert ask.ledger.asked == 2
