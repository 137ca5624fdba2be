"""The journal and the asker: nothing is asked twice, nothing is lost, order is kept."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import JudgeError
from harness.judging.asker import Asker, make_ask
from harness.protocols import Judge
from harness.types import JudgeReply, JudgeRequest, Message
from tests.fake_server import FakeServer, completion
from tests.stand_ins import ScriptedJudge, last_text


def request(text: str, **fields: Any) -> JudgeRequest:
    return JudgeRequest(messages=(Message(role="user", content=text),), **fields)


class Served:
    """A server's part: replies in capitals for half a dollar, not to what is in `fail`, after `delay` seconds; counts
    how many are under way at once."""

    def __init__(self, fail: frozenset[str] = frozenset(), delay: float = 0.0) -> None:
        self.fail, self.delay = fail, delay
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def __call__(self, request: JudgeRequest) -> JudgeReply:
        text = last_text(request)
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.delay)
        with self.lock:
            self.at_once -= 1
        if text in self.fail:
            return JudgeReply(text="", error="no")
        return JudgeReply(text=text.upper(), prompt_tokens=len(text), completion_tokens=1, price=0.5)


def served(name: str = "served", fail: frozenset[str] = frozenset(), delay: float = 0.0) -> ScriptedJudge:
    """Without a batch size: called from several threads, one request a call."""
    return ScriptedJudge(Served(fail, delay), name)


def ask_with(judge: Judge, journal: Path, concurrency: int = 4, advanced: list[int] | None = None) -> Asker:
    return make_ask(judge, journal, concurrency=concurrency, advance=(advanced if advanced is not None else []).append)


def test_replies_are_in_the_order_of_the_requests_and_duplicates_are_asked_once(tmp_path: Path) -> None:
    judge, advanced = served(delay=0.001), list[int]()
    texts = [f"q{i % 30}" for i in range(80)]
    ask = ask_with(judge, tmp_path / "j.jsonl", concurrency=16, advanced=advanced)
    assert [r.text for r in ask([request(t) for t in texts])] == [t.upper() for t in texts]
    assert sorted(judge.asked) == sorted(set(texts))
    assert sum(advanced) == 80


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    requests = [request(f"q{i}") for i in range(20)]
    first = ask_with(served(), tmp_path / "j.jsonl")(requests)
    judge, advanced = served(), list[int]()
    ask = ask_with(judge, tmp_path / "j.jsonl", advanced=advanced)
    assert ask(requests) == first
    assert judge.asked == []
    assert sum(advanced) == 20
    assert (ask.ledger.asked, ask.ledger.from_journal) == (0, 20)


@pytest.mark.parametrize(
    "other",
    [
        request("q", max_tokens=7),
        request("q", temperature=0.5),
        request("q", top_logprobs=5),
        request("q", choices=("a", "b")),
        JudgeRequest(messages=(Message(role="system", content="q"),)),
    ],
)
def test_anything_that_changes_the_reply_changes_the_key(tmp_path: Path, other: JudgeRequest) -> None:
    judge = served()
    ask_with(judge, tmp_path / "j.jsonl")([request("q"), other])
    assert len(judge.asked) == 2


def test_another_judge_is_another_key(tmp_path: Path) -> None:
    ask_with(served("one"), tmp_path / "j.jsonl")([request("q")])
    other = served("two")
    ask_with(other, tmp_path / "j.jsonl")([request("q")])
    assert other.asked == ["q"]


def test_a_failed_reply_is_returned_but_asked_again(tmp_path: Path) -> None:
    requests = [request("good"), request("bad")]
    ask = ask_with(served(fail=frozenset({"bad"})), tmp_path / "j.jsonl")
    assert [r.error for r in ask(requests)] == [None, "no"]
    assert (ask.ledger.asked, ask.ledger.failed) == (1, 1)
    judge = served()
    assert [r.text for r in ask_with(judge, tmp_path / "j.jsonl")(requests)] == ["GOOD", "BAD"]
    assert judge.asked == ["bad"]


def test_ledger_sums_what_was_used_and_what_was_paid_now(tmp_path: Path) -> None:
    ask_with(served(), tmp_path / "j.jsonl")([request("aa")])
    ask = ask_with(served(), tmp_path / "j.jsonl")
    ask([request("aa"), request("bbbb")])
    ledger = ask.ledger
    assert (ledger.asked, ledger.from_journal, ledger.failed) == (1, 1, 0)
    assert (ledger.prompt_tokens, ledger.completion_tokens) == (6, 2)
    assert (ledger.dollars, ledger.dollars_now) == (1.0, 0.5)


def test_an_unknown_price_makes_the_sum_unknown(tmp_path: Path) -> None:
    ask = ask_with(ScriptedJudge("x"), tmp_path / "j.jsonl")
    ask([request("a")])
    assert ask.ledger.dollars is None


def test_served_judges_are_asked_at_once_up_to_the_limit(tmp_path: Path) -> None:
    server = Served(delay=0.02)
    start = time.perf_counter()
    ask_with(ScriptedJudge(server), tmp_path / "j.jsonl", concurrency=16)([request(f"q{i}") for i in range(96)])
    assert server.most_at_once == 16
    assert time.perf_counter() - start < 96 * 0.02 / 3


def test_a_judge_with_a_batch_size_gets_batches_of_like_length_in_this_thread(tmp_path: Path) -> None:
    threads: set[int] = set()

    def reply(request: JudgeRequest) -> JudgeReply:
        threads.add(threading.get_ident())
        return JudgeReply(text=last_text(request).upper(), price=0.0)

    judge = ScriptedJudge(reply, batch_size=4)
    texts = ["x" * n for n in (5, 90, 7, 80, 6, 70, 8, 60, 1)]
    replies = ask_with(judge, tmp_path / "j.jsonl")([request(t) for t in texts])
    assert [r.text for r in replies] == [t.upper() for t in texts]
    assert [[len(t) for t in b] for b in judge.batches] == [[90, 80, 70, 60], [8, 7, 6, 5], [1]]
    assert threads == {threading.get_ident()}


def test_a_torn_last_line_is_dropped_and_redone(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    requests = [request(f"q{i}") for i in range(3)]
    ask_with(served(), path, concurrency=1)(requests)
    data = path.read_bytes()
    path.write_bytes(data[:-15])
    judge = served()
    assert [r.text for r in ask_with(judge, path)(requests)] == ["Q0", "Q1", "Q2"]
    assert judge.asked == ["q2"]
    assert path.read_bytes().startswith(data[:-15] + b"\n")  # append only: the reply has a line of its own
    assert [r.text for r in ask_with(served(), path)(requests)] == ["Q0", "Q1", "Q2"]


def test_a_judge_that_can_not_be_used_stops_the_run_and_keeps_what_was_answered(tmp_path: Path) -> None:
    server, replies = Served(), iter(range(5))

    def reply(asked: JudgeRequest) -> JudgeReply:
        if next(replies, None) is None:
            raise JudgeError("refused")
        return server(asked)

    requests = [request(f"q{i}") for i in range(50)]
    with pytest.raises(JudgeError, match="refused"):
        ask_with(ScriptedJudge(reply, "served"), tmp_path / "j.jsonl", concurrency=1)(requests)
    judge = served()
    ask_with(judge, tmp_path / "j.jsonl")(requests)
    assert len(judge.asked) == 45


CHILD = """
import sys
from pathlib import Path
from harness.judges.openai import Openai
from harness.judging.asker import make_ask
from harness.types import JudgeRequest, Message
judge = Openai(name="openai", model="m", base_url=sys.argv[1])
requests = [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(int(sys.argv[3]))]
make_ask(judge, Path(sys.argv[2]), concurrency=4, advance=lambda n: None)(requests)
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_nothing_answered_is_asked_again(tmp_path: Path) -> None:
    journal, count = tmp_path / "j.jsonl", 60
    with FakeServer(lambda body: completion(body["messages"][0]["content"]), delay=0.02).running() as server:
        command = [sys.executable, "-c", CHILD, server.url, str(journal), str(count)]
        at_kill: dict[str, int] = {}

        def asked() -> Counter[str]:
            return Counter(body["messages"][0]["content"] for body in server.requests)

        for wanted in (8, 25):
            child = subprocess.Popen(command)
            while not journal.exists() or journal.read_bytes().count(b"\n") < wanted:
                assert child.poll() is None
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            lines = journal.read_bytes().split(b"\n")[:-1]
            now = asked()
            at_kill = {text: now[text] for text in (json.loads(line)["reply"]["text"] for line in lines)} | at_kill
        subprocess.run(command, check=True, timeout=60)
        finally_asked = asked()
    assert len(at_kill) >= 25
    # What is in the journal is never asked again; only calls that were under way at a kill are.
    assert {text: finally_asked[text] for text in at_kill} == at_kill
    assert sum(finally_asked.values()) <= count + 2 * 4
    texts = [json.loads(line)["reply"]["text"] for line in journal.read_text().splitlines()]
    assert sorted(texts) == sorted(f"q{i}" for i in range(count))
