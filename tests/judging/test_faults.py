"""A server that fails in every way costs no verdict and no second charge; a process that is killed loses neither."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.components import build
from harness.judging.asker import Asker, make_ask
from harness.servers import served
from harness.types import Answer, JudgeReply, Verdict
from tests.fake_server import Body, FakeServer, completion
from tests.faults import CHARGED, UNCHARGED, Faulty
from tests.stand_ins import ScriptedJudge

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.01)


def weighted(body: Body) -> Body:
    """A verdict that depends on the prompt only."""
    share = number(body) % 256 / 256
    top = {"m": -3 * share - 0.01, "M": -3 * (1 - share) - 0.01, "x": -9.0}
    return completion("m" if share < 0.5 else "M", top)


def numbered(body: Body) -> Body:
    """Such a verdict, with a number that tells in a journal which prompt it is about."""
    return weighted(body) | {"usage": {"prompt_tokens": number(body), "completion_tokens": 1}}


def number(body: Body) -> int:
    return int.from_bytes(hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[:6])


def alpaca_eval(folder: Path, count: int) -> tuple[AlpacaEval, list[Answer]]:
    rows = [{"instruction": f"Do thing {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(count)]
    path = folder / "prompts.json"
    path.write_text(json.dumps(rows))
    made = build("benchmark", {"name": "alpaca_eval", "prompts": str(path), "reference": "file"})
    assert isinstance(made, AlpacaEval)
    texts = [
        Answer(question_id=q.id, turns=(f"On {q.id}",), finish_reasons=(), tokens=None) for q in made.load_questions()
    ]
    return made, texts


def asker(url: str, journal: Path, *, concurrency: int = 16, **fields: Any) -> Asker:
    judge = build(
        "judge", {"name": "openai", "model": "m", "base_url": url, "price": {"input": 1, "output": 2}} | fields
    )
    return make_ask(judge, journal, concurrency=concurrency, advance=lambda _: None, retries_invalid=12)


def values(verdicts: list[Verdict]) -> list[float | None]:
    return [v.value for v in verdicts]


def prompts_in(server: FakeServer) -> Counter[str]:
    return Counter(body["messages"][-1]["content"] for body in server.completed)


@pytest.mark.slow
def test_a_server_that_fails_on_30_percent_of_calls_costs_no_verdict_and_no_second_charge(tmp_path: Path) -> None:
    made, answers = alpaca_eval(tmp_path, 180)
    with FakeServer(weighted).running() as calm:
        undisturbed = made.verdicts(answers, [], asker(calm.url, tmp_path / "calm.jsonl"))
    faulty = Faulty(weighted, share=0.3)
    with FakeServer(faulty, silence=0.5).running() as server:
        ask = asker(server.url, tmp_path / "j.jsonl", timeout=0.4, max_retries=30)
        verdicts = made.verdicts(answers, [], ask)
        assert values(verdicts) == values(undisturbed)
        assert None not in values(verdicts)
        assert all(faulty.done[name] >= 2 for name in [*UNCHARGED, *CHARGED]), faulty.done
        # Every whole reply is in the journal, and there is one that could be read for every prompt.
        lines = [json.loads(line)["reply"] for line in (tmp_path / "j.jsonl").read_text().splitlines()]
        paid = sum(faulty.done[name] for name in CHARGED)
        assert len(lines) == len(server.completed) == 180 + paid
        assert len(prompts_in(server)) == 180
        ledger = ask.ledger
        assert (ledger.asked, ledger.failed, ledger.transient) == (180 + paid, 0, 0)
        assert ledger.unreadable == paid
        assert ledger.unreadable_dollars == pytest.approx(paid * (10 * 1 + 3 * 2) / 1e6)
        assert ledger.dollars == pytest.approx(len(lines) * (10 * 1 + 3 * 2) / 1e6)
        assert sum(ledger.faults.values()) == sum(faulty.done[name] for name in UNCHARGED)
        kinds = {"HTTP 429", "HTTP 500", "HTTP 503", "time-out", "connection", "broken reply"}
        assert set(ledger.faults) == kinds
        # Once more: nothing is asked, and the ledger says the same of what it cost.
        before = len(server.requests)
        again = asker(server.url, tmp_path / "j.jsonl")
        assert values(made.verdicts(answers, [], again)) == values(undisturbed)
        assert len(server.requests) == before
        for figure in ("unreadable", "prompt_tokens", "completion_tokens", "faults"):
            assert getattr(again.ledger, figure) == getattr(ledger, figure)
        assert again.ledger.dollars == pytest.approx(ledger.dollars)
        assert (again.ledger.asked, again.ledger.dollars_now) == (0, 0.0)


def test_what_never_can_be_read_is_kept_with_its_reply_and_reason_and_is_not_scored(tmp_path: Path) -> None:
    made, answers = alpaca_eval(tmp_path, 4)
    odd = made.load_questions()[2].turns[0]

    def answer(body: Body) -> Body:
        return completion("I like both.") if odd in body["messages"][-1]["content"] else weighted(body)

    with FakeServer(answer).running() as server:
        judge = build("judge", {"name": "openai", "model": "m", "base_url": server.url})
        ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=4, advance=lambda _: None, retries_invalid=2)
        verdicts = made.verdicts(answers, [], ask)
    assert prompts_in(server).most_common(1)[0][1] == 3
    assert len(server.requests) == 3 + 3
    assert [v.value is None for v in verdicts] == [False, False, True, False]
    assert verdicts[2].reply == "I like both."
    assert verdicts[2].invalid == "the reply has no log-probabilities, which the annotator reads"
    assert (ask.ledger.unreadable, ask.ledger.failed) == (3, 0)
    assert ask.ledger.unreadable_dollars is None  # there is no price
    rate = made.metrics(answers, [], verdicts)["alpaca_eval.win_rate"]
    assert (rate.n, rate.n_invalid) == (3, 1)


def test_a_judge_that_would_reply_the_same_is_not_asked_anew(tmp_path: Path) -> None:
    made, answers = alpaca_eval(tmp_path, 3)
    judge = ScriptedJudge(JudgeReply(text="hm", price=0.0), batch_size=2)
    ask = make_ask(judge, tmp_path / "j.jsonl", concurrency=4, advance=lambda _: None, retries_invalid=5)
    assert values(made.verdicts(answers, [], ask)) == [None] * 3
    assert len(judge.asked) == 3
    assert ask.ledger.unreadable == 3


CHILD = """
import json, sys
from pathlib import Path
from harness.components import build
from harness.judging.asker import make_ask
from harness.types import Answer
url, folder = sys.argv[1], Path(sys.argv[2])
made = build("benchmark", {"name": "alpaca_eval", "prompts": "builtin", "reference": "file"})
ids = [question.id for question in made.load_questions()]
answers = [Answer(question_id=i, turns=(f"On {i}",), finish_reasons=(), tokens=None) for i in ids]
judge = build("judge", {"name": "openai", "model": "m", "base_url": url})
ask = make_ask(judge, folder / "j.jsonl", concurrency=CONCURRENCY, advance=lambda _: None)
verdicts = made.verdicts(answers, [], ask)
(folder / "verdicts.json").write_text(json.dumps([[v.question_id, v.value, v.prompt] for v in verdicts]))
"""
CONCURRENCY = 4


@pytest.mark.soak  # twenty processes, each of which imports alpaca_eval
def test_killed_at_20_random_moments_and_resumed_the_verdicts_are_the_same_and_each_is_asked_once(
    tmp_path: Path,
) -> None:
    """A reply that reached the journal is never asked for again. Only calls that were under way at a kill are, and
    there are at most CONCURRENCY of them at each."""
    journal, draw = tmp_path / "j.jsonl", random.Random(7)
    child = CHILD.replace("CONCURRENCY", str(CONCURRENCY))

    def journalled() -> set[int]:
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        return {json.loads(line)["reply"]["prompt_tokens"] for line in lines}

    def start(server: FakeServer, folder: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-c", child, server.url, str(folder)], env=environment)

    with FakeServer(numbered).running() as calm:
        (tmp_path / "calm").mkdir()
        assert start(calm, tmp_path / "calm").wait(120) == 0
    kills, delay = 0, 0.2
    with FakeServer(numbered, delay=delay).running() as server:
        while kills < 20:
            known, before = journalled(), len(server.requests)
            process = start(server, tmp_path)
            while len(server.requests) == before and process.poll() is None:
                time.sleep(0.005)
            # 32 calls, four at once, take eight times `delay`: at a random moment of somewhat more than the first.
            time.sleep(draw.uniform(0, 1.2 * delay))
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "it finished before it was killed"
            kills += 1
            time.sleep(delay + 0.1)  # what was under way has been answered, to nobody
            asked = [number(body) for body in server.requests[before:]]
            assert not set(asked) & known
            assert len(set(asked)) == len(asked) <= len(journalled() - known) + CONCURRENCY
        known, before = journalled(), len(server.requests)
        assert 0 < len(known) < 32
        assert start(server, tmp_path).wait(120) == 0
        assert sorted(known | {number(body) for body in server.requests[before:]}) == sorted(journalled())
        assert len(server.requests) - before == 32 - len(known)
    verdicts, undisturbed = (json.loads((f / "verdicts.json").read_text()) for f in (tmp_path, tmp_path / "calm"))
    assert verdicts == undisturbed
    assert len(verdicts) == len(journalled()) == 32
    assert len(server.requests) <= 32 + kills * CONCURRENCY
