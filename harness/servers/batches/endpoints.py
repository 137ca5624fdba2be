"""The batch endpoints of OpenAI's API: many requests in one job, at a lower price, within a day.

A batch is a file of one request a line (POST /files), then a job (POST /batches) that is looked at until it has ended
(GET /batches/ID), then a file of results and one of errors (GET /files/ID/content).
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from pydantic import PrivateAttr

from harness.errors import HarnessError
from harness.files import sha256
from harness.servers.faults import fault_of
from harness.servers.network import limits
from harness.servers.pace import HeldTooLong
from harness.servers.replies import at, detail, read_json
from harness.servers.served import FIRST_WAIT, LONGEST_WAIT, Served
from harness.servers.spending import Tab

if TYPE_CHECKING:
    import httpx
    import openai

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
MARK = "harness"
"""The name in a batch's metadata of the token that a batch is found by."""
LARGEST_RESULTS = 256 << 20
"""Bytes of the largest file of results."""
SECONDS = 600.0
"""For one transfer of a file."""
SUBMISSIONS = 5
"""Attempts to make a batch of a file, where the server is busy or breaks off."""
PAGES = 20
"""Pages of 100 batches that are looked through for one that may have been submitted."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_ID = re.compile(r"[\w.:-]{1,200}")
T = TypeVar("T")


class NoBatches(Exception):
    """The server takes no batches, or not this one; its text says why."""


class State(NamedTuple):
    """A batch on the server. `done`: requests that were executed. `files`: of results and of errors. `reason`: why it
    has failed."""

    status: str
    done: int
    files: tuple[str, ...]
    reason: str


class Line(NamedTuple):
    """A line of the results. `status`: of HTTP; None if the request was not executed."""

    key: str
    status: int | None
    body: Any


class Endpoints(Served):
    """A served model whose server has batch endpoints, or not."""

    _files: "openai.OpenAI | None" = PrivateAttr(None)

    @property
    def server(self) -> str:
        """What tells the server apart, which alone knows its batches."""
        return sha256(self._address().encode())[:16]

    def upload(self, name: str, lines: bytes) -> str:
        """Send a file of requests; returns its id. Raises NoBatches, or `failure` if the server can't be reached."""
        import httpx

        def send() -> str:
            response = self._transfer().post(
                "/files",
                cast_to=httpx.Response,
                body={"purpose": "batch"},
                files=[("file", (f"{name}.jsonl", lines, "application/jsonl"))],
                options={"headers": {"Content-Type": "multipart/form-data"}},
            )
            return _id_in(response)

        try:
            return self._asked(send)
        except Exception as error:
            raise self._unable(error) from None

    def submit(self, file: str, token: str) -> str:
        """Make a batch of a file, once; returns its id. Raises NoBatches, or `failure`."""
        import httpx

        body = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": WINDOW, "metadata": {MARK: token}}
        for attempt in range(SUBMISSIONS):
            try:
                return self._once(lambda: _id_in(self._transfer().post("/batches", cast_to=httpx.Response, body=body)))
            except Exception as error:
                fault = fault_of(error)
                if fault is None or attempt == SUBMISSIONS - 1:
                    raise self._unable(error) from None
                if fault.retry_after > LONGEST_WAIT:
                    raise self._failed(error, "the server takes no batch for now") from None
                if not fault.refused:  # the server may have taken it nevertheless
                    known, found = self.find(file, token)
                    if found:
                        return found
                    if not known:
                        text = f"{self.role} '{self.name}': {self._error_text(error)}, and the server lists no batches"
                        raise self.failure(f"{text}: it may have taken this one; see there, then run again") from None
                time.sleep(max(fault.retry_after, FIRST_WAIT * 2**attempt))
        raise AssertionError

    def find(self, file: str | None, token: str) -> tuple[bool, str | None]:
        """(whether the server lists its batches, the id of the one of a file or token). Raises `failure` if it can't
        be reached."""

        after: str | None = None
        for _ in range(PAGES):
            params: dict[str, object] = {"limit": 100} | ({"after": after} if after else {})
            try:
                listed = self._got("/batches", _json, params)
            except Exception as error:
                if isinstance(self._unable(error), NoBatches):
                    return False, None
                raise self._unable(error) from None
            batches = at(listed, "data")
            if not isinstance(batches, list):
                return False, None
            for batch in batches:
                if at(batch, "metadata", MARK) == token or (file and at(batch, "input_file_id") == file):
                    return (True, name) if is_id(name := at(batch, "id")) else (False, None)
            after = at(batches, -1, "id")
            if at(listed, "has_more") is not True or not isinstance(after, str):
                break
        return True, None

    def state(self, batch: str) -> State | None:
        """A batch's state; None if the server doesn't know it. Raises `failure`."""
        import openai

        try:
            return self._got(f"/batches/{batch}", self._state)
        except openai.NotFoundError:
            return None
        except Exception as error:
            raise self._failed(error, f"batch {batch} can't be looked at") from None

    def _state(self, response: "httpx.Response") -> State:
        body = _json(response)
        counts = [at(body, "request_counts", name) for name in ("completed", "failed")]
        files = [file for name in ("output_file_id", "error_file_id") if (file := at(body, name))]
        if not isinstance(at(body, "status"), str) or not all(map(is_id, files)):
            raise ValueError("the server's reply is not a batch")
        return State(
            body["status"].lower(),
            sum(n for n in counts if isinstance(n, int) and 0 <= n < 10**9),
            tuple(files),
            self._without_key(detail(at(body, "errors", "data")) or detail(at(body, "errors"))),
        )

    def results(self, state: State) -> Iterator[Line | None]:
        """The lines of an ended batch's files; None for one that can't be read. Raises `failure`."""

        for file in state.files:
            try:
                content = self._got(f"/files/{file}/content", lambda response: response.content)
            except Exception as error:
                raise self._failed(error, f"the batch's results can't be read from file {file}") from None
            for line in content.split(b"\n"):
                if line.strip():
                    yield _line(line)

    def cancel(self, batch: str) -> bool:
        """Ask the server to stop a batch; returns whether it agrees."""
        import httpx

        try:
            self._asked(lambda: self._transfer().post(f"/batches/{batch}/cancel", cast_to=httpx.Response))
        except Exception as error:
            if not isinstance(self._unable(error), NoBatches | HarnessError):
                raise
            return False
        return True

    def _got(self, path: str, read: "Callable[[httpx.Response], T]", params: Mapping[str, object] | None = None) -> T:
        import httpx

        def get() -> T:
            return read(self._transfer().get(path, cast_to=httpx.Response, options={"params": dict(params or {})}))

        return self._asked(get)

    def _asked(self, call: Callable[[], T]) -> T:
        return self._persist(lambda: self._once(call), Tab())

    def _once(self, call: Callable[[], T]) -> T:
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            if error.status_code == 501:  # not for now, as other errors of a server
                raise NoBatches(self._error_text(error)) from None
            raise
        finally:
            limits.end()

    def _transfer(self) -> "openai.OpenAI":
        """The client, with room for large files."""
        import httpx

        from harness.servers.transport import Transport

        if self._files is None:
            http = httpx.Client(
                transport=Transport(self._address(), SECONDS, LARGEST_RESULTS), trust_env=False, timeout=SECONDS
            )
            self._files = self._connect().with_options(http_client=cast(Any, http), timeout=SECONDS)
        return self._files

    def _unable(self, error: Exception) -> Exception:
        """What an error of sending a batch means: NoBatches if the server has refused it, `failure` if it fails."""
        import openai

        if isinstance(error, NoBatches):
            return error
        if isinstance(error, ValueError) or (isinstance(error, openai.APIStatusError) and fault_of(error) is None):
            return NoBatches(self._error_text(error))
        return self._failed(error, "the server can't be reached or takes nothing now")

    def _failed(self, error: Exception, what: str) -> Exception:
        import openai

        if isinstance(error, openai.OpenAIError | HeldTooLong | ValueError):
            return self.failure(f"{self.role} '{self.name}': {what} ({self._error_text(error)}); run again")
        return error


def _line(line: bytes) -> Line | None:
    try:
        value = read_json(line, lambda value: value)
    except ValueError:
        return None
    key, status = at(value, "custom_id"), at(value, "response", "status_code")
    if not isinstance(key, str):
        return None
    executed = isinstance(status, int) and not isinstance(status, bool) and not at(value, "error")
    return Line(key, status if executed else None, at(value, "response", "body"))


def _json(response: "httpx.Response") -> Any:
    return read_json(response.content, lambda value: value)


def _id_in(response: "httpx.Response") -> str:
    name = at(_json(response), "id")
    if not is_id(name):
        raise ValueError("the server's reply holds no id of a batch or file")
    return str(name)


def is_id(value: Any) -> bool:
    """Whether a value may be an id, which stands in an address."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None and value.strip(".") != ""
