"""Servers that refuse parameters, only stream, only reason or limit calls: every verdict is scored as by a server that
takes everything, or the stage ends within the first calls with the server's words."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.benchmarks.alpaca_eval.benchmark import AlpacaEval
from harness.components import build
from harness.errors import JudgeError
from harness.judging.asker import make_ask
from harness.judging.costs import board_ledger
from harness.judging.panel import collect_verdicts
from harness.report.notes import answering_notes
from harness.servers import served
from harness.types import Answer, Ask, JudgeReply, JudgeRequest, Unread, Verdict
from tests.fake_server import Body, FakeServer, completion
from tests.sample_boards import entry
from tests.servers import behaviours as does
from tests.servers.behaviours import obeying, openai_words, plain_words, pydantic_words

SIZES = [(30, 8), (30, 64), pytest.param(805, 64, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.02)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[AlpacaEval, list[Answer]]]:
    def of(count: int) -> tuple[AlpacaEval, list[Answer]]:
        path = tmp_path_factory.mktemp("alpaca") / "prompts.json"
        rows = [{"instruction": f"Do {i}.", "output": f"Reference {i}.", "generator": "g"} for i in range(count)]
        path.write_text(json.dumps(rows))
        made = build("benchmark", {"name": "alpaca_eval", "prompts": str(path), "reference": "file"})
        assert isinstance(made, AlpacaEval)
        ids = [q.id for q in made.load_questions()]
        return made, [Answer(question_id=i, turns=(f"On {i}",), finish_reasons=(), tokens=None) for i in ids]

    return of


class Cold(Ask):
    """Asks everything at temperature 0, which most rules are about."""

    def __init__(self, inner: Ask) -> None:
        super().__init__(inner)
        self._inner = inner

    def readable(self, requests: Sequence[JudgeRequest], why: Unread) -> list[JudgeReply]:
        return self._inner.readable([r.model_copy(update={"temperature": 0.0}) for r in requests], why)


def judged(
    board: tuple[AlpacaEval, list[Answer]], url: str, folder: Path, concurrency: int = 8, **fields: Any
) -> tuple[list[Verdict], Any]:
    """The verdicts and the ledger, as the stage of verdicts makes them."""
    judge: Any = build("judge", {"name": "openai", "model": "m", "base_url": url, "timeout": 20} | fields)
    made, answers = board

    def ask(member: Any) -> Any:
        journal = folder / "j.jsonl"
        return make_ask(member, journal, concurrency=concurrency, advance=lambda _: None, retries_invalid=1)

    verdicts, ledger, _ = collect_verdicts(judge, ask, lambda a: made.verdicts(answers, [], Cold(a)), "row on alpaca")
    return verdicts, ledger


@pytest.fixture(scope="module")
def undisturbed(board: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[float | None]]:
    """The verdicts of a server that takes everything."""

    @cache
    def of(count: int) -> list[float | None]:
        with FakeServer(does.verdict).running() as server:
            return [v.value for v in judged(board(count), server.url, tmp_path_factory.mktemp("calm"), 64)[0]]

    return of


TAKEN: dict[str, tuple[Any, set[str]]] = {
    "OpenAI's words": (
        obeying(openai_words("max_tokens"), openai_words("temperature", value=1)),
        {"without temperature"},
    ),
    "pydantic's words": (obeying(pydantic_words("temperature", "max_tokens", "seed")), {"without temperature"}),
    "a gateway's words": (
        obeying(plain_words(temperature="only the default temperature is supported", max_tokens="max_tokens: unknown")),
        {"without temperature"},
    ),
    "no system message": (obeying(does.no_system), {"system message in the first user turn"}),
    "few alternatives": (obeying(does.at_most_two), {"top_logprobs 2 instead of 5"}),
    "a positive temperature": (
        obeying(lambda body: None if body["temperature"] else does.refused(b"`temperature` must be strictly positive")),
        {"temperature 0.01 instead of 0"},
    ),
    "a list as content": (does.in_parts, set()),
    "only streams": (does.streamed, set()),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize(("count", "concurrency"), SIZES)
def test_all_are_scored_as_by_a_server_that_takes_everything(
    board: Any, undisturbed: Any, tmp_path: Path, count: int, concurrency: int, kind: str
) -> None:
    answer, adapted = TAKEN[kind]
    calm = undisturbed(count)
    with FakeServer(answer, delay=0.005).running() as server:
        verdicts, ledger = judged(board(count), server.url, tmp_path, concurrency)
    assert [v.value for v in verdicts] == calm
    assert None not in calm
    assert ledger.adapted == dict.fromkeys(adapted, count)
    assert (ledger.asked, ledger.prompt_tokens) == (count, 10 * count)
    assert len(server.requests) <= count + 24  # what is refused, is refused to the first callers only


@pytest.mark.parametrize(("count", "concurrency"), SIZES)
@pytest.mark.parametrize("kind", ["refused", "left out"])
def test_without_log_probabilities_the_text_counts_and_the_board_says_so(
    board: Any, tmp_path: Path, count: int, concurrency: int, kind: str
) -> None:
    message = {
        "message": "openai does not support parameters: ['logprobs', 'top_logprobs'], for model=m",
        "param": None,
    }
    rule = (
        (lambda body: does.refused({"error": message}) if "logprobs" in body else None) if kind == "refused" else None
    )
    answer = obeying(rule) if rule else does.without_logprobs
    with FakeServer(answer).running() as server:
        verdicts, ledger = judged(board(count), server.url, tmp_path, concurrency)
    assert {v.value for v in verdicts} == {1.0, 2.0}
    facts = board_ledger(ledger.model_dump(mode="json"))
    notes = answering_notes([entry("row", "dpo", judging={"alpaca_eval": facts})])
    note = f"alpaca_eval: the judge was asked without log-probabilities, as its server demands, for {count:,} replies."
    assert notes == ([note] if rule else [])


@pytest.mark.parametrize(("count", "concurrency"), SIZES)
@pytest.mark.parametrize("how", ["header", "words", "nothing"])
def test_a_limit_of_calls_costs_no_verdict(board: Any, tmp_path: Path, count: int, concurrency: int, how: str) -> None:
    with FakeServer(does.Limited(count // 3, 0.3, how)).running() as server:
        verdicts, ledger = judged(board(count), server.url, tmp_path, concurrency, max_retries=1)
    assert None not in [v.value for v in verdicts]
    assert ledger.asked == len(server.completed) == count


@pytest.mark.parametrize(("count", "concurrency"), SIZES)
def test_a_model_that_only_reasons_stops_the_stage_until_it_has_room(
    board: Any, tmp_path: Path, count: int, concurrency: int
) -> None:
    with FakeServer(does.reasoning).running() as server:
        with pytest.raises(JudgeError, match=r"none of the first 10 replies can be read \(.*max_tokens") as error:
            judged(board(count), server.url, tmp_path, concurrency)
        assert "\n" not in str(error.value)
        assert len(server.requests) == 10
        with pytest.raises(JudgeError, match="none of the first 10 replies"):
            judged(board(count), server.url, tmp_path, concurrency)
        assert len(server.requests) == 20  # the same command asks again
        verdicts, ledger = judged(board(count), server.url, tmp_path, concurrency, max_tokens=2_000)
    assert None not in [v.value for v in verdicts]
    assert server.requests[-1]["max_tokens"] == 2_000
    assert ledger.unreadable == 0


def test_replies_that_could_all_not_be_read_are_asked_for_again_and_then_kept(board: Any, tmp_path: Path) -> None:
    def nonsense(body: Body) -> Body:
        return completion("I like both.")

    with (
        FakeServer(nonsense).running() as server,
        pytest.raises(JudgeError, match="none of the 8 replies about row on"),
    ):
        judged(board(4), server.url, tmp_path)
    with FakeServer(does.verdict).running() as server:
        assert None not in [v.value for v in judged(board(4), server.url, tmp_path)[0]]
        assert len(server.requests) == 4
        again, ledger = judged(board(4), server.url, tmp_path)
        assert (len(server.requests), ledger.from_journal) == (4, 4)
    assert None not in [v.value for v in again]


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_refusals_in_the_same_words_stop_the_stage_and_say_them(board: Any, tmp_path: Path, concurrency: int) -> None:
    words = {"error": {"message": "billing plan 7 has no access to this tier", "code": "plan"}}
    with FakeServer(lambda body: (400, words, {})).running() as server:
        with pytest.raises(JudgeError, match=r"none of the first \d+ requests \(HTTP 400: billing plan 7") as error:
            judged(board(20), server.url, tmp_path, concurrency)
        assert "\n" not in str(error.value)
    assert len(server.requests) <= 10
    with FakeServer(does.verdict).running() as server:
        judged(board(20), server.url, tmp_path, concurrency)
    assert len(server.requests) == 20


def test_a_prompt_that_is_refused_costs_the_others_nothing(board: Any, tmp_path: Path) -> None:
    made, answers = board(30)
    odd = made.load_questions()[0].turns[0]

    def rule(body: Body) -> Any:
        text = f"invalid content: `temperature` must not be discussed, in {odd!r}"
        return does.refused({"error": {"message": text}}) if odd in body["messages"][-1]["content"] else None

    with FakeServer(obeying(rule)).running() as server:
        verdicts, ledger = judged((made, answers), server.url, tmp_path)
    assert [v.value is None for v in verdicts] == [True] + [False] * 29
    assert ledger.adapted == {}
    assert all("temperature" in body for body in server.completed)


def test_what_the_recipe_sets_is_sent_as_it_is_or_refused(board: Any, tmp_path: Path) -> None:
    with (
        FakeServer(obeying(openai_words("reasoning_effort"))).running() as server,
        pytest.raises(JudgeError, match=r"'reasoning_effort' is not supported"),
    ):
        judged(board(30), server.url, tmp_path, reasoning_effort="low")
    assert len(server.requests) <= 10
    assert all(body["reasoning_effort"] == "low" for body in server.requests)


def test_what_is_learnt_is_logged_once(board: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "harness"), FakeServer(TAKEN["OpenAI's words"][0]).running() as server:
        judged(board(30), server.url, tmp_path)
    (line,) = [m for m in caplog.messages if "from now on" in m]
    assert line.startswith("judge 'openai': m is asked without temperature, with max_completion_tokens for max_tokens")
