"""What goes into a batch, and what its lines mean: each passes through the code of a call of its own.

A call is made with a stand-in for the server. To write a line, the stand-in keeps the body that would be sent. To read
one, it answers with the line's reply, or refuses with the line's refusal; a call that then changes its request and asks
again (`harness.servers.adapting`) says what the next batch should ask.
"""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, TypeVar, cast

from pydantic import PrivateAttr, model_validator

from harness.protocols import Component
from harness.servers.batches.endpoints import Endpoints, Line
from harness.servers.served import Served
from harness.types import JudgeReply, JudgeRequest

T = TypeVar("T")
Read = Callable[[Any], Any]
UNBATCHED = ("stream", "stream_options")
"""Fields that make no sense in a batch."""


class Refused(NamedTuple):
    """A server's refusal of a request: the status of HTTP and the JSON."""

    status: int
    body: str


class _Captured(Exception):
    """Holds the body of a request that would have been sent."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__()
        self.body = body


class _StandIn(threading.local):
    """What this thread asks instead of the server."""

    post: Callable[[dict[str, Any], Read], Any] | None = None


_stand_in = _StandIn()


class Batching(Endpoints, Component):  # a base class of its own: `mode` is no misspelt `model`
    """A served model whose requests may go in batches. `mode`: `batch` sends all of them in batches, which cost less
    and take up to a day. It doesn't change a reply, so that switching between both asks nothing again."""

    unkeyed: ClassVar[frozenset[str]] = Served.unkeyed | {"mode"}

    mode: Literal["direct", "batch"] = "direct"
    _refusals: list[Refused] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _has_batches(self) -> "Batching":
        if self.mode == "batch" and self.engine is not None:
            raise ValueError("mode: batch is for a vendor's server: an engine has no batches, and costs nothing")
        return self

    @property
    def refusals(self) -> list[Refused]:
        """What was refused in batches, and then asked otherwise."""
        return self._refusals

    def _create(self, request: JudgeRequest) -> JudgeReply:
        """One call, which asks by `_send`."""
        raise NotImplementedError

    def body_of(self, request: JudgeRequest, refused: Sequence[Refused]) -> dict[str, Any]:
        """The body that would be sent for a request after such refusals."""
        return self._prepared(lambda: self._create(request), refused)[0]

    def reply_of(self, request: JudgeRequest, refused: Sequence[Refused], line: Line) -> JudgeReply | None:
        """The reply of a line in a batch that was sent after such refusals; None if the request would be changed and
        asked again. Raises the package's error if it is refused whatever is changed, and ValueError for a reply that
        can't be right."""
        replies: list[Refused | None] = [*self._prepared(lambda: self._create(request), refused)[1], None]

        def reply(body: dict[str, Any], read: Read) -> Any:
            if not replies:
                raise _Captured(body)
            if (earlier := replies.pop(0)) is not None:
                raise self._error(earlier)
            if line.status != 200:
                raise self._error(Refused(line.status or 500, json.dumps(line.body)))
            return read(line.body)

        try:
            return self._instead(lambda: self._create(request), reply)
        except _Captured:
            return None

    def refusal_of(self, line: Line) -> Refused:
        """A line's refusal, without the key, which some servers repeat."""
        return Refused(line.status or 0, self._without_key(json.dumps(line.body)))

    def _prepared(self, call: Callable[[], object], refused: Sequence[Refused]) -> tuple[dict[str, Any], list[Refused]]:
        """(the body that a call would send after refusals, those of them that change it)."""
        import openai

        found = self._captured(call, [])
        rest: list[Refused] = []
        for refusal in refused:
            try:
                found = self._captured(call, [*rest, refusal])
            except openai.APIStatusError:
                # The call has nothing to change for it: it was about requests of another kind.
                continue
            rest.append(refusal)
        return found, rest

    def _captured(self, call: Callable[[], object], refused: Sequence[Refused]) -> dict[str, Any]:
        left = list(refused)

        def capture(body: dict[str, Any], read: Read) -> NoReturn:
            raise self._error(left.pop(0)) if left else _Captured(body)

        try:
            self._instead(call, capture)
        except _Captured as captured:
            return {name: value for name, value in captured.body.items() if name not in UNBATCHED}
        raise AssertionError("the call has asked nothing")

    def _instead(self, call: Callable[[], T], post: Callable[[dict[str, Any], Read], Any]) -> T:
        _stand_in.post = post
        try:
            return call()
        finally:
            _stand_in.post = None

    def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        if _stand_in.post is not None:
            return cast(T, _stand_in.post(body, read))
        return super()._post(path, body, read)

    def _error(self, refused: Refused) -> Exception:
        """The error that a call with this reply raises."""
        import httpx

        request = httpx.Request("POST", f"{self._address()}/chat/completions")
        headers = {"content-type": "application/json"}
        response = httpx.Response(refused.status, content=refused.body.encode(), headers=headers, request=request)
        return self._transfer()._make_status_error_from_response(cast(Any, response))
