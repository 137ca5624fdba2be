"""Batches of runs that were interrupted, and of servers that break off: a batch that is under way is gone on with."""

from pathlib import Path
from typing import Any

import pytest

from harness.engine import interrupts
from harness.errors import JudgeError
from harness.judging.batches import asking
from tests.judging.batching import EXPECTED, REQUESTS, asker, fast, stop_at, strict, texts
from tests.servers.batch_server import BatchServer

pytestmark = pytest.mark.usefixtures(fast.__name__)


@pytest.fixture(autouse=True)
def _not_stopped() -> Any:
    yield
    interrupts._stop_requested.clear()


@pytest.fixture
def interrupted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    with BatchServer().running() as server:
        stop_at(server, batch=1)
        with pytest.raises(KeyboardInterrupt):
            asker(server, tmp_path)(REQUESTS)
        assert "batch batch_1 stays under way on the server; the same command goes on with it" in caplog.text
        interrupts._stop_requested.clear()
        server.looks = 0
        yield server


def test_an_interrupted_run_goes_on_with_its_batch(interrupted: BatchServer, tmp_path: Path) -> None:
    assert texts(asker(interrupted, tmp_path)(REQUESTS)) == EXPECTED
    assert len(interrupted.submitted) == 1
    assert not interrupted.direct


def test_fewer_requests_than_a_batch_holds_leave_it_for_the_others(interrupted: BatchServer, tmp_path: Path) -> None:
    assert texts(asker(interrupted, tmp_path)(REQUESTS[:5])) == EXPECTED[:5]
    assert texts(asker(interrupted, tmp_path)(REQUESTS)) == EXPECTED
    assert len(interrupted.submitted) == 1
    assert not interrupted.direct


def test_a_batch_that_has_ended_is_taken_also_directly(interrupted: BatchServer, tmp_path: Path) -> None:
    assert texts(asker(interrupted, tmp_path, "direct")(REQUESTS)) == EXPECTED
    assert not interrupted.direct


def test_one_that_is_under_way_is_stopped_with_a_word_where_calls_are_direct(
    interrupted: BatchServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted.looks = 10**6
    assert texts(asker(interrupted, tmp_path, "direct")(REQUESTS)) == EXPECTED
    assert interrupted.cancelled == ["batch_1"]
    assert "40 of these requests are in batch batch_1, which is under way; it is stopped" in caplog.text


def test_a_batch_that_the_server_forgot_is_asked_directly(
    interrupted: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "UNKNOWN_FOR", 0.0)
    interrupted.batches.clear()
    assert texts(asker(interrupted, tmp_path)(REQUESTS)) == EXPECTED
    assert len(interrupted.direct) == 40


@pytest.mark.parametrize("wrong", [{"id": "../files"}, {"status": 3}, {"output_file_id": "../../x"}])
def test_a_server_that_writes_nonsense_is_named_in_a_line(
    tmp_path: Path, wrong: dict[str, Any], interrupted: BatchServer
) -> None:
    interrupted.batches["batch_1"] |= wrong
    interrupted.looks = 10**6 if "status" not in wrong else 0
    look = interrupted.look

    def wrongly(name: str, *, cancel: bool) -> tuple[int, Any]:
        return 200, look(name, cancel=cancel)[1] | wrong

    interrupted.look = wrongly  # type: ignore[method-assign]
    if "id" in wrong:
        interrupted.looks = 0
        assert texts(asker(interrupted, tmp_path)(REQUESTS)) == EXPECTED  # nobody needs its id any longer
        return
    with pytest.raises(JudgeError, match=r"batch batch_1 can't be looked at .*not a batch") as error:
        asker(interrupted, tmp_path)(REQUESTS)
    assert "\n" not in str(error.value)


# A server that breaks off.


def test_a_connection_that_breaks_after_a_batch_was_made_makes_no_second_one(tmp_path: Path) -> None:
    server = BatchServer()
    handle, broken = server.handle, [True]

    def breaking(method: str, path: str, data: bytes) -> tuple[int, Any]:
        made = handle(method, path, data)
        if (method, path) == ("POST", "/v1/batches") and broken.pop():
            broken.append(False)
            return 0, None
        return made

    server.handle = breaking  # type: ignore[method-assign]
    with server.running():
        assert texts(asker(server, tmp_path)(REQUESTS)) == EXPECTED
    assert len(server.submitted) == 1


def test_without_a_list_of_batches_nobody_guesses(tmp_path: Path) -> None:
    server = BatchServer(lists=False)
    handle = server.handle

    def breaking(method: str, path: str, data: bytes) -> tuple[int, Any]:
        made = handle(method, path, data)
        return (0, None) if (method, path) == ("POST", "/v1/batches") else made

    server.handle = breaking  # type: ignore[method-assign]
    with server.running(), pytest.raises(JudgeError, match="it may have taken this one; see there, then run again"):
        asker(server, tmp_path)(REQUESTS)


def test_a_resumed_batch_knows_how_its_requests_were_changed(tmp_path: Path) -> None:
    with BatchServer(strict, looks=1).running() as server:
        stop_at(server, batch=3)
        with pytest.raises(KeyboardInterrupt):
            asker(server, tmp_path)(REQUESTS[:7] + REQUESTS[8:])
        interrupts._stop_requested.clear()
        server.looks = 0
        replies = asker(server, tmp_path)(REQUESTS[:7] + REQUESTS[8:])
        assert len(server.submitted) == 3
        assert not server.direct
    assert all("without temperature" in reply.adapted for reply in replies)


def test_no_file_has_the_key_that_a_refusal_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted-0123456789abcdef"
    monkeypatch.setenv("PLANTED", key)

    def answer(body: Any) -> Any:
        made = strict(body)
        if isinstance(made, tuple):
            made[1]["error"]["message"] += f" (asked with {key})"
        return made

    with BatchServer(answer).running() as server:
        asker(server, tmp_path, api_key_env="PLANTED")(REQUESTS)
        assert len(server.submitted) == 3
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [path for path in files if key.encode() in path.read_bytes()]
