"""Prices, and a limit on what a run's judges may cost that is never passed."""

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.components import build
from harness.errors import CostError, DataError
from harness.files import cache_root
from harness.judging.asker import make_ask
from harness.servers import served
from harness.servers.pace import Stopped
from harness.servers.prices import at_most, price_table, read_prices
from harness.servers.spending import Spending, Tab
from harness.types import FREE, JudgeReply, JudgeRequest, Message, Price
from tests.fake_server import Body, FakeServer, completion
from tests.stand_ins import ScriptedJudge

PRICE = Price(input=10, output=30)


def request(text: str, **fields: Any) -> JudgeRequest:
    return JudgeRequest(messages=(Message(role="user", content=text),), **fields)


def judge(**fields: Any) -> Any:
    return build("judge", {"name": "openai", "model": "m"} | fields)


# Prices.


def test_a_models_price_is_the_judges_own_then_the_recipes_then_the_users_then_the_shipped_one(tmp_path: Path) -> None:
    home = cache_root()
    (home / "prices.yaml").write_text("gpt-4o: {input: 1, output: 2}\nmine: {input: 3, output: 4}\n")
    named = tmp_path / "p.yaml"
    named.write_text("mine: {input: 5, output: 6}\n")
    table = price_table(named)
    assert judge(model="gpt-4o-mini").token_price(table) == Price(
        input=0.15, output=0.6, batch_input=0.075, batch_output=0.3
    )
    assert judge(model="gpt-4o").token_price(table) == Price(input=1, output=2)
    assert judge(model="mine").token_price(table) == Price(input=5, output=6)
    assert judge(model="mine", price={"input": 7, "output": 8}).token_price(table) == Price(input=7, output=8)
    assert judge(model="gpt-4o-2").token_price(table) is None


def test_a_judge_in_process_costs_nothing_and_one_made_of_served_ones_has_no_single_price(tiny_model: Path) -> None:
    assert build("judge", {"name": "local", "model": str(tiny_model)}).token_price({}) == FREE
    panel = {"name": "panel", "judges": [{"name": "openai", "model": "m"}, {"name": "openai", "model": "n"}]}
    assert build("judge", panel).token_price({"m": PRICE, "n": PRICE}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpt: {input: -1, output: 2}", "gpt.input: Input should be greater than or equal to 0"),
        ("gpt: {input: 1}", "gpt: input and output belong together"),
        ("gpt: {batch_input: 1, batch_output: 1}", "gpt: batch prices come beside input and output"),
        ("gpt: {retires: 20270114}", "gpt.retires: expected a date like 2027-01-14"),
        ("gpt: {retires: 2027-02-30}", "gpt.retires: expected a date"),
        ("gpt: {}", "gpt: neither a price nor a date"),
        ("gpt: {input: 1e9, output: 1}", "gpt.input: Input should be less than or equal to 100000"),
        ("gpt: {input: '1e9999', output: 1}", "gpt.input"),
        ("as_of: yesterday", "as_of is no date"),
        ("gpt: 3", "gpt: Input should be"),
        ("gpt: {input: .nan, output: 1}", "gpt.input"),
        ("- gpt", "the whole file"),
        ("a: b: c", "can't be read"),
    ],
)
def test_a_wrong_price_table_is_one_line_that_says_what_is_expected(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_prices(path)
    assert said in str(error.value)
    assert "expected one line `MODEL: {input: 2.5, output: 10}`" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shipped_table_is_whole() -> None:
    table = price_table(None)
    assert len(table) > 10
    assert all(0 < p.input < p.output for p in table.values())


@given(st.text(max_size=300), st.integers(1, 4000))
def test_no_call_costs_more_than_at_most(text: str, limit: int) -> None:
    # A byte-level tokenizer makes at most one token of a byte, and a chat template adds a few a message.
    tokens = len(text.encode("utf-8", "replace")) + 10
    assert at_most(request(text, max_tokens=limit), PRICE) >= PRICE.of(tokens, limit)


# What a request runs up.


def test_a_call_of_which_nobody_knows_what_it_cost_counts_as_the_dearest() -> None:
    spending = Spending(1.0)
    tab = Tab(spending, 0.1)
    for _ in range(3):
        tab.begin()
        tab.uncharged()
    tab.begin()  # a time-out, say
    tab.begin()
    tab.settle(0.02)
    assert spending.spent == pytest.approx(0.12)


def test_a_call_waits_for_those_under_way_and_is_refused_when_they_leave_no_room() -> None:
    spending = Spending(1.0)
    first, second = Tab(spending, 0.6), Tab(spending, 0.6)
    first.begin()
    entered = threading.Event()
    thread = threading.Thread(target=lambda: (second.begin(), entered.set()))
    thread.start()
    assert not entered.wait(0.3)
    first.settle(0.1)
    assert entered.wait(2)
    thread.join()
    second.settle(0.6)
    with pytest.raises(CostError, match=r"stopped before exceeding --max-cost 1: \$0.7000 is spent"):
        Tab(spending, 0.31).begin()
    Tab(spending, 0.29).begin()


def test_a_wait_for_room_ends_with_the_run() -> None:
    spending = Spending(1.0)
    Tab(spending, 1.0).begin()
    waiting = Tab(spending, 0.5)
    waiting.stop.set()
    with pytest.raises(Stopped):
        waiting.begin()


# Judging under a limit.


@pytest.mark.slow
@pytest.mark.parametrize("charges_for_lost_replies", [False, True])
def test_a_limit_is_used_and_never_passed_whatever_the_server_charges_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, charges_for_lost_replies: bool
) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.01)
    lock, calls, bill = threading.Lock(), [0], [0.0]

    def answer(body: Body) -> Any:
        tokens = len(body["messages"][0]["content"]) // 3
        with lock:
            calls[0] += 1
            fault = {0: "cut", 5: (500, {"error": {}}, {})}.get(calls[0] % 10)
            if fault is None or (fault == "cut" and charges_for_lost_replies):
                bill[0] += PRICE.of(tokens, 20)
        return fault or completion("ok", usage={"prompt_tokens": tokens, "completion_tokens": 20})

    requests = [request(f"{i} " + "word " * 100, max_tokens=60) for i in range(400)]
    limit = 0.4
    with FakeServer(answer, delay=0.005).running() as server:
        made = judge(base_url=server.url, price=PRICE.model_dump())
        spending = Spending(limit)
        path = tmp_path / "j.jsonl"
        ask = make_ask(made, path, concurrency=16, advance=lambda _: None, price=PRICE, spending=spending)
        with pytest.raises(CostError, match="the same command with a larger --max-cost to continue"):
            ask(requests)
        worst = at_most(requests[0], PRICE)
        assert bill[0] <= spending.spent + 1e-9 <= limit + 1e-9
        assert spending.spent > limit - 2 * worst
        kept = len(path.read_text().splitlines())
        assert kept == len(server.completed) == ask.ledger.asked == spending.calls > 100
        again = make_ask(made, path, concurrency=16, advance=lambda _: None, price=PRICE, spending=Spending(100))
        assert all(reply.text == "ok" for reply in again(requests))
        assert len(server.completed) == 400
        assert (again.ledger.from_journal, again.ledger.asked) == (kept, 400 - kept)


def test_replies_without_a_price_get_that_of_the_table(tmp_path: Path) -> None:
    with FakeServer(lambda _: completion("ok")).running() as server:
        ask = make_ask(
            judge(base_url=server.url), tmp_path / "j.jsonl", concurrency=2, advance=lambda _: None, price=PRICE
        )
        (reply,) = ask([request("q")])
    assert reply.price == pytest.approx((10 * 10 + 3 * 30) / 1e6)
    assert ask.ledger.dollars == reply.price


def test_a_limit_is_refused_for_a_judge_whose_price_is_not_known(tmp_path: Path) -> None:
    with FakeServer(lambda _: completion("ok")).running() as server:
        made = judge(base_url=server.url)
        ask = make_ask(made, tmp_path / "j.jsonl", concurrency=2, advance=lambda _: None, spending=Spending(1))
        with pytest.raises(CostError, match="the price of m is not known; set the judge's `price"):
            ask([request("q")])
        assert not server.requests


def test_a_judge_in_process_is_asked_under_any_limit(tmp_path: Path) -> None:
    made, spending = ScriptedJudge(JudgeReply(text="ok", price=0.0), batch_size=8), Spending(0.0)
    ask = make_ask(made, tmp_path / "j.jsonl", concurrency=2, advance=lambda _: None, price=FREE, spending=spending)
    assert [r.text for r in ask([request("q")])] == ["ok"]


def test_the_price_file_says_how_it_is_written() -> None:
    text = (Path(served.__file__).parents[1] / "assets" / "prices.yaml").read_text()
    assert "dollars per million tokens" in text
    assert list(yaml.safe_load(text)) == list(dict.fromkeys(yaml.safe_load(text)))
