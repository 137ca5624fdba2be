"""Verdicts and scores that the workers of a stage share: those of one process, in journals that have nothing twice."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.benchmark import Benchmark
from harness.components import build
from harness.engine.shards.spool import Shard
from harness.engine.stage import Context, Stage, Work
from harness.engine.store import Store, write_rows
from harness.errors import JudgeError
from harness.figures import Figure, Pairing
from harness.judging.asker import make_ask
from harness.judging.spreading import SpreadAsker, computes
from harness.pipeline.plan import make_plan
from harness.protocols import Judge
from harness.recipe.evaluation import Evaluation
from harness.stages.proxies.samples import gold_stages
from harness.stages.verdicts import verdicts_stage
from harness.types import FREE, Answer, Ask, JudgeReply, JudgeRequest, Message, Question, Verdict
from tests.stages.scripted import Silent, recipe
from tests.stages.spread import Echo, Two, assert_same, run_spread


class Capitals(Judge):
    """Says it in capitals; can't say '###', and at the first attempt nothing that can be read of a '?'. `log`: a file
    with what it was asked."""

    resamples: ClassVar[bool] = True
    unkeyed: ClassVar[frozenset[str]] = frozenset({"log"})

    name: str = "capitals"
    log: str

    @property
    def requests_at_once(self) -> int:
        return 4

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        texts = [request.messages[-1].content for request in requests]
        before = Path(self.log).read_text() if Path(self.log).exists() else ""
        with Path(self.log).open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        return [
            JudgeReply(text="", error="no", price=0.0)
            if "###" in text
            else JudgeReply(text=text.upper() if "?" not in text or text in before else "", price=0.0, prompt_tokens=3)
            for text in texts
        ]


REQUESTS = [
    JudgeRequest(messages=(Message(role="user", content=f"text {i % 30}{'?' * (i % 7 == 0)}{'###' * (i % 11 == 0)}"),))
    for i in range(40)
]


def unread(reply: JudgeReply) -> str | None:
    return None if reply.text else "nothing"


class Counting(Silent):
    def __init__(self) -> None:
        self.items = 0

    def advance(self, items: int) -> None:
        self.items += items


def spread_ask(folder: Path, judge: Judge, workers: Two, progress: Silent) -> SpreadAsker:
    store = Store(folder)
    (folder / "artifact").mkdir(exist_ok=True)
    ctx = Context(folder / "artifact", {}, progress, logging.getLogger(), store, folder / "p", "k", workers=workers)
    return SpreadAsker(ctx, judge, folder / "j.jsonl", 4, 1, FREE)


def keys(folder: Path) -> Counter[str]:
    lines = [line for path in folder.glob("j*.jsonl") for line in path.read_text().splitlines()]
    return Counter(json.loads(line)["key"] for line in lines)


def test_workers_reply_as_one_process_does(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    alone, counting, workers = Counting(), Counting(), Two()
    judge = Capitals(log=str(here / "log"))
    expecting = make_ask(judge, here / "j.jsonl", concurrency=4, advance=alone.advance, retries_invalid=1, price=FREE)
    expected = expecting.readable(REQUESTS, unread)
    asked = Capitals(log=str(there / "log"))
    ask = spread_ask(there, asked, workers, counting)
    assert ask.readable(REQUESTS, unread) == expected
    assert ask.ledger == expecting.ledger
    assert ask.ledger.unreadable > 0 < ask.ledger.failed
    assert counting.items == alone.items == len(REQUESTS)
    assert len(workers.done) > 4
    assert keys(there) == keys(here)
    assert set(keys(there).values()) == {1}
    # What is asked again is in the journals, and any number of workers or one process finds it there.
    again = make_ask(asked, there / "j.jsonl", concurrency=4, advance=alone.advance, retries_invalid=1, price=FREE)
    assert again.readable(REQUESTS, unread) == expected
    assert (again.ledger.asked, again.ledger.from_journal) == (0, expecting.ledger.asked)
    assert ask(REQUESTS) == expecting(REQUESTS)
    assert ask.ledger == expecting.ledger


class Lost(Two):
    """Does the first shards, and loses the others."""

    def do(self, ctx: Context, work: Work, shards: Sequence[Shard], *, more: bool) -> list[Any]:
        super().do(ctx, work, shards[:3], more=more)
        raise JudgeError("lost")


def test_what_a_lost_worker_was_not_asked_is_asked_alone(tmp_path: Path) -> None:
    judge = Capitals(log=str(tmp_path / "log"))
    plain = [r for r in REQUESTS if not {"?", "#"} & set(r.messages[-1].content)]
    with pytest.raises(JudgeError, match="lost"):
        spread_ask(tmp_path, judge, Lost(), Silent())(plain)
    some = len((tmp_path / "log").read_text().splitlines())
    distinct = len({r.messages for r in plain})
    assert 0 < some < distinct
    replies = spread_ask(tmp_path, judge, Two(), Silent())(plain)
    assert [r.text for r in replies] == [r.messages[-1].content.upper() for r in plain]
    assert len((tmp_path / "log").read_text().splitlines()) == distinct


class Loud(Benchmark):
    """The share of answers to 40 questions that a judge repeats in capitals."""

    title: ClassVar[str] = "Loud"
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure(metric="loud.loud", group="Loud", title="loud", unit="%", margin=5.0, pairing=Pairing(scale=100)),
    )

    name: str = "loud"

    def load_questions(self) -> list[Question]:
        return [Question(id=str(i), turns=(f"question {i}",)) for i in range(40)]

    def verdicts(self, answers: Sequence[Answer], reference: Sequence[Answer], ask: Ask) -> list[Verdict]:
        replies = ask.readable(REQUESTS, unread)
        return [
            Verdict(question_id=a.question_id, value=None if r.error else float(r.text.isupper()), reply=r.text)
            for a, r in zip(answers, replies, strict=True)
        ]


def judged(judge: Judge) -> list[Stage]:
    """A row's answers, and the verdicts."""
    loud = Loud()
    evaluation = Evaluation.model_construct(judge=judge, judges={}, prices=None, retries_invalid=1)

    def body(ctx: Context) -> dict[str, Any]:
        rows = (Answer(question_id=q.id, turns=("x",), finish_reasons=(), tokens=1) for q in loud.load_questions())
        write_rows(ctx.folder / "answers.jsonl", rows)
        return {}

    answers = Stage("answers/loud/dpo", "answers", 1, {}, {}, body)
    return [answers, verdicts_stage("dpo", evaluation, loud, answers, None, 4)]


def component(kind: str, **fields: Any) -> Any:
    return build(kind, fields)


SERVED = component("judge", name="openai", model="m", base_url="http://127.0.0.1:9/v1")
LENGTH = component("judge", name="reward_model", reward={"name": "length"})


def test_verdicts_of_a_judge_that_computes_are_spread(tmp_path: Path) -> None:
    workers = Two()
    here, there = (
        run_spread(judged(Capitals(log=str(tmp_path / name))), tmp_path / f"{name}-store", w)[-1]
        for name, w in (("here", None), ("there", workers))
    )
    assert len(workers.done) > 4
    assert_same(here, there)
    assert here.json("metrics.json")["loud.loud"]["n"] == 36
    assert here.report["unreadable"] > 0


def test_those_of_a_judge_elsewhere_are_asked_for_by_one_process() -> None:
    both = component("judge", name="panel", judges=[SERVED, LENGTH])
    assert [judged(judge)[-1].spreads for judge in (LENGTH, both, SERVED)] == ["by resources"] * 2 + ["nothing"]
    assert computes(component("judge", name="local", model="smollm2-135m-instruct"))
    assert not computes(
        component("judge", name="reward_model", reward={"name": "api", "model": "m", "base_url": "http://127.0.0.1:9"})
    )


def test_scores_by_the_known_truth_are_spread(tmp_path: Path) -> None:
    data = make_plan(recipe(Echo())).data
    rewards = [{"name": "gold", "words": [4, 9]}, {"name": "length"}]
    truth = component("reward", name="ensemble", rewards=rewards)
    sizes: Any = None
    stages = [*(data[name] for name in ("seeds", "responses", "reward", "ranked"))]
    stages += gold_stages(truth, data, 0, sizes, None).values()
    workers = Two()
    here, there = (run_spread(stages, tmp_path / name, w) for name, w in (("here", None), ("there", workers)))
    assert [stage.spreads for stage in stages[-2:]] == ["nothing", "by resources"]
    assert len(workers.done) > 20
    for one, other in zip(here, there, strict=True):
        assert_same(one, other)
    assert here[-1].report["best_of_n"]
