"""Which model a server says has answered: recorded with each reply, and told where it changes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harness.augmentation.pool import Pool
from harness.components import build
from harness.judging.asker import Asker, make_ask
from harness.judging.costs import board_ledger
from harness.report.notes import answering_notes, stage_notes
from harness.types import JudgeRequest, Message, Sampling
from tests.fake_server import Body, FakeServer, completion
from tests.sample_boards import entry


def requests(count: int, start: int = 0) -> list[JudgeRequest]:
    return [JudgeRequest(messages=(Message(role="user", content=f"q{i}"),)) for i in range(start, start + count)]


def asked(url: str, path: Path, count: int) -> Asker:
    judge = build("judge", {"name": "openai", "model": "m", "base_url": url})
    ask = make_ask(judge, path, concurrency=1, advance=lambda _: None)
    ask(requests(count))
    return ask


def test_the_answering_model_is_in_the_journal_and_the_report(tmp_path: Path) -> None:
    with FakeServer(lambda _: completion("x", model="m-2026", system_fingerprint="fp_1")).running() as server:
        ask = asked(server.url, tmp_path / "j.jsonl", 3)
    line = json.loads((tmp_path / "j.jsonl").read_text().splitlines()[0])
    assert (line["reply"]["model"], line["reply"]["fingerprint"]) == ("m-2026", "fp_1")
    assert ask.ledger.models == {"m-2026 fp_1": 3}
    assert board_ledger(ask.ledger.model_dump(mode="json"))["models"] == {"m-2026 fp_1": 3}


def test_another_model_in_a_run_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def answer(body: Body) -> Body:
        late = int(body["messages"][0]["content"][1:]) >= 2
        return completion("x", model="b\x1b[2J" if late else "a")

    with FakeServer(answer).running() as server, caplog.at_level(logging.WARNING, "harness"):
        ask = asked(server.url, tmp_path / "j.jsonl", 5)
    (message,) = caplog.messages
    assert message == r"judge 'openai': m is answered by b\x1b[2J now, before by a"
    assert ask.ledger.models == {"a": 2, "b\x1b[2J": 3}


def test_another_model_than_in_the_journal_is_seen_in_the_ledger(tmp_path: Path) -> None:
    models = ["a"]
    with FakeServer(lambda _: completion("x", model=models[0])).running() as server:
        asked(server.url, tmp_path / "j.jsonl", 2)
        models[0] = "b"
        ask = asked(server.url, tmp_path / "j.jsonl", 5)
    assert ask.ledger.models == {"a": 2, "b": 3}
    assert (ask.ledger.from_journal, ask.ledger.asked) == (2, 3)


def test_samples_say_who_wrote_them(tmp_path: Path) -> None:
    with FakeServer(lambda _: completion("x", model="a", system_fingerprint="f")).running() as server:
        generator = build("generator", {"name": "openai", "model": "m", "base_url": server.url})
        prompt = (Message(role="user", content="u"),)
        (row,) = Pool(generator, tmp_path, seed=0, advance=lambda _: None).sample([prompt], Sampling(), range(3))
    assert Pool.models(row) == {"a f": 3}
    lines = [json.loads(line)["sample"] for line in next(tmp_path.glob("*.jsonl")).read_text().splitlines()]
    assert {(line["model"], line["fingerprint"]) for line in lines} == {("a", "f")}
    assert stage_notes({"models": {"a f": 3}}) == []
    assert stage_notes({"models": {"a": 3, "b": 5}}) == ["the server's replies came from 2 models: b (5), a (3)"]


def test_a_board_says_where_several_models_judged() -> None:
    def row(name: str, **models: int) -> Any:
        return entry(name, "dpo", judging={"mt_bench": {"replies": 3, "models": models}})

    assert answering_notes([row("x", a=3), row("y", a=3), entry("z", "dpo")]) == []
    assert answering_notes([row("x", a=3), row("y", b=5)]) == [
        "mt_bench: the judge's replies came from 2 models, as its server says: b (5), a (3). Rows that different "
        "models judged are not comparable."
    ]
