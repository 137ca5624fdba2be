"""A judge whose replies are JSON of a schema: what is asked, what is read, and what is not."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.benchmarks.mt_bench.prompts import rating_problem
from harness.components import build
from harness.judges.openai import Openai
from harness.judging.asker import Asker, make_ask
from harness.types import Answer, JudgeReply, JudgeRequest, Message, Verdict
from tests.benchmarks.mt_bench.helpers import answers as mt_answers
from tests.benchmarks.mt_bench.helpers import benchmark as mt_bench
from tests.fake_server import Body, FakeServer, completion

ROWS = [{"instruction": f"Do thing {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(4)]
RATINGS = tuple(f"[[{n}]]" for n in range(1, 11))


def judge(server: FakeServer, **fields: Any) -> Openai:
    made = build("judge", {"name": "openai", "model": "m", "base_url": server.url, "structured": True} | fields)
    assert isinstance(made, Openai)
    return made


def request(choices: tuple[str, ...] = ("m", "M"), **fields: Any) -> JudgeRequest:
    return JudgeRequest(messages=(Message(role="user", content="u"),), choices=choices, **{"max_tokens": 1} | fields)


def replied(content: Any, asked: JudgeRequest, **fields: Any) -> tuple[JudgeReply, Body]:
    with FakeServer(
        lambda body: completion(content if isinstance(content, str) else json.dumps(content))
    ).running() as s:
        (reply,) = judge(s, **fields).reply([asked])
    return reply, s.requests[0]


def schema(body: Body) -> dict[str, Any]:
    form = body["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    return dict(form["json_schema"]["schema"])


def asker(made: Openai, folder: Path) -> Asker:
    return make_ask(made, folder / "j.jsonl", concurrency=1, advance=lambda _: None)


def test_a_choice_is_asked_for_by_a_schema_and_the_prompt_stays() -> None:
    reply, body = replied({"answer": "M"}, request())
    assert body["messages"] == [{"role": "user", "content": "u"}]
    assert schema(body) == {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["m", "M"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    assert body["max_tokens"] >= 32
    assert (reply.text, reply.choice, reply.adapted) == ("M", "M", ("structured output",))


def test_a_rating_is_a_whole_number_after_an_explanation() -> None:
    given = {"explanation": "At first I thought [[3]], or [3].", "rating": 9}
    reply, body = replied(given, request(RATINGS, max_tokens=2048))
    assert list(schema(body)["properties"].items()) == [
        ("explanation", {"type": "string"}),
        ("rating", {"type": "integer", "minimum": 1, "maximum": 10}),
    ]
    assert schema(body)["required"] == ["explanation", "rating"]
    assert reply.choice == "[[9]]"
    assert reply.text.startswith("[[9]]\n")
    assert "[[3]]" not in reply.text


BROKEN = {
    "plain text": ("m", "is not the JSON that was asked for"),
    "half": ('{"answer": "m', "is not the JSON that was asked for"),
    "another field": ({"verdict": "m"}, "has no answer"),
    "a list": (["m"], "has no answer"),
    "another choice": ({"answer": "both"}, "'both'; expected one of m, M"),
    "a number": ({"answer": 1}, "expected one of m, M"),
    "a nested one": ({"answer": {"m": 1}}, "expected one of m, M"),
    "null": ({"answer": None}, "expected one of m, M"),
    "true": ({"answer": True}, "expected one of m, M"),
}


@pytest.mark.parametrize("rating", [0, 11, 7.5, "9", True, None, [9]])
def test_a_rating_that_is_none_is_unread(rating: Any) -> None:
    reply, _ = replied({"explanation": "[[9]]", "rating": rating}, request(RATINGS, max_tokens=2048))
    assert reply.unread is not None
    assert "expected one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10" in reply.unread
    assert rating_problem(reply) == reply.unread


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_that_json_is_unread_with_the_reason(content: Any, reason: str) -> None:
    reply, _ = replied(content, request())
    assert reply.unread is not None
    assert reason in reply.unread
    assert (reply.choice, reply.logprobs) == (None, None)


def test_thoughts_and_fences_around_the_json_do_not_matter() -> None:
    assert replied('<think>{"answer": "m"}?</think>\n{"answer": "M"}', request())[0].choice == "M"
    assert replied('```json\n{"answer": "M"}\n```', request())[0].choice == "M"


def test_the_choices_own_token_has_its_log_probabilities() -> None:
    def answer(body: Body) -> Body:
        made = completion('{"answer":"m"}')
        tokens = ['{"', "answer", '":"', "m", '"}']
        tops = [{token: -0.1} for token in tokens]
        tops[3] = {"m": -0.2, "M": -1.8}
        made["choices"][0]["logprobs"] = {
            "content": [
                {"token": t, "logprob": -0.1, "top_logprobs": [{"token": k, "logprob": x} for k, x in top.items()]}
                for t, top in zip(tokens, tops, strict=True)
            ]
        }
        return made

    with FakeServer(answer).running() as server:
        (reply,) = judge(server).reply([request(top_logprobs=5)])
    assert reply.logprobs == {"m": -0.2, "M": -1.8}


def test_requests_without_choices_and_plain_judges_are_as_before() -> None:
    _, body = replied("fine", request(()))
    assert "response_format" not in body
    assert body["max_tokens"] == 1
    reply, body = replied("m", request(), structured=False)
    assert "response_format" not in body
    assert (reply.text, reply.adapted) == ("m", ())
    plain = build("judge", {"name": "openai", "model": "m"})
    assert build("judge", {"name": "openai", "model": "m", "structured": True}).identity() == plain.identity() | {
        "structured": True
    }


def on_alpaca_eval(folder: Path, answer: Any, judge_fields: dict[str, Any], **fields: Any) -> list[Verdict]:
    (folder / "prompts.json").write_text(json.dumps(ROWS))
    made = build(
        "benchmark", {"name": "alpaca_eval", "prompts": str(folder / "prompts.json"), "reference": "file"} | fields
    )
    assert isinstance(made, AlpacaEval)
    texts = [Answer(question_id=q.id, turns=("Mine.",), finish_reasons=(), tokens=1) for q in made.load_questions()]
    with FakeServer(answer).running() as server:
        return made.verdicts(texts, [], asker(judge(server, **judge_fields), folder))


def prefers_mine(body: Body) -> tuple[str, str]:
    """(the better one, the other)."""
    text = body["messages"][-1]["content"]
    return ("m", "M") if text.index("Mine.") < text.index('"output": """Ref') else ("M", "m")


@pytest.mark.parametrize("orders", ["seeded", "both"])
def test_alpaca_eval_in_both_orders(tmp_path: Path, orders: str) -> None:
    verdicts = on_alpaca_eval(
        tmp_path, lambda body: completion(json.dumps({"answer": prefers_mine(body)[0]})), {}, orders=orders
    )
    assert [v.value for v in verdicts] == [2.0] * 4
    assert {v.detail["source"] for v in verdicts} == {"text"}


@pytest.mark.parametrize("orders", ["seeded", "both"])
def test_a_stated_probability_weighs_a_verdict_in_both_orders(tmp_path: Path, orders: str) -> None:
    def answer(body: Body) -> Body:
        assert "logprobs" not in body
        (key,) = body["response_format"]["json_schema"]["schema"]["properties"]
        assert key == "probability_that_M_is_better"
        return completion(json.dumps({key: 0.8 if prefers_mine(body)[0] == "M" else 0.2}))

    fields = {"structured": False}
    verdicts = on_alpaca_eval(tmp_path, answer, fields, orders=orders, without_logprobs="stated")
    assert [v.value for v in verdicts] == pytest.approx([1.8] * 4)
    assert {v.detail["source"] for v in verdicts} == {"stated"}


@pytest.mark.parametrize(
    ("stated", "value"), [(1, 2.0), (0.0, 1.0), (73, None), (-0.1, None), ("0.7", None), (None, None)]
)
def test_a_probability_is_between_0_and_1(stated: Any, value: float | None) -> None:
    reply, _ = replied({"probability_that_M_is_better": stated}, request(asks="probability"))
    if value is None:
        assert reply.unread is not None
        assert "expected a number from 0 to 1" in reply.unread
    else:
        assert reply.logprobs is not None
        assert 1 + math.exp(reply.logprobs["M"]) == pytest.approx(value)


def test_mt_bench_rates_and_compares_by_schema(tmp_path: Path, shared_data: Path) -> None:
    def rates(body: Body) -> Body:
        return completion(json.dumps({"explanation": "Between [[2]] and [[A]].", "rating": 7}))

    def compares(body: Body) -> Body:
        text = body["messages"][-1]["content"]
        better = "A" if text.index("mine") < text.index("theirs") else "B"
        return completion(json.dumps({"explanation": "[[C]] or [[A]]?", "answer": better}))

    for mode, answer, value in (({}, rates, 7.0), ({"mode": "pairwise", "reference": "base"}, compares, 1.0)):
        made = mt_bench(data_dir=str(shared_data / "mt_bench"), limit=2, **mode)
        with FakeServer(answer).running() as server:
            ask = asker(judge(server), tmp_path)
            verdicts = made.verdicts(mt_answers(made, "mine"), mt_answers(made, "theirs"), ask)
        assert {v.value for v in verdicts} == {value}
