"""Judges that do as a test says: `ScriptedAsk` where a benchmark is tested, `ScriptedJudge` where asking a judge is. A
processor that was measured already."""

import json
from collections.abc import Callable, Sequence

from pydantic import PrivateAttr

from harness.models.processor import processor_name, record_file, torch_version
from harness.protocols import Judge
from harness.types import Ask, JudgeReply, JudgeRequest

Reply = Callable[[JudgeRequest], JudgeReply] | JudgeReply | str
"""What a request is replied to with: by a function, or always the same reply or text."""


def last_text(request: JudgeRequest) -> str:
    """The text of a request's last message."""
    return request.messages[-1].content


def reply_to(request: JudgeRequest, reply: Reply) -> JudgeReply:
    if isinstance(reply, str):
        return JudgeReply(text=reply)
    return reply if isinstance(reply, JudgeReply) else reply(request)


class ScriptedAsk(Ask):
    """`requests`: what it was asked, in order."""

    def __init__(self, reply: Reply) -> None:
        self.requests: list[JudgeRequest] = []
        super().__init__(lambda requests: [reply_to(request, reply) for request in requests])

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        self.requests += requests
        return super().__call__(requests)


class ScriptedJudge(Judge):
    """Like a model in process with a batch size, like a served judge without one. `batches`: the texts that it was
    asked, call by call."""

    _reply: Reply = PrivateAttr()
    _batch_size: int | None = PrivateAttr()
    _batches: list[list[str]] = PrivateAttr(default_factory=list)

    def __init__(self, reply: Reply, name: str = "scripted", batch_size: int | None = None) -> None:
        super().__init__(name=name)
        self._reply, self._batch_size = reply, batch_size

    @property
    def requests_at_once(self) -> int | None:
        return self._batch_size

    @property
    def batches(self) -> list[list[str]]:
        return self._batches

    @property
    def asked(self) -> list[str]:
        """All texts, in the order in which they were asked."""
        return [text for batch in self._batches for text in batch]

    def reply(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        self._batches.append([last_text(request) for request in requests])
        return [reply_to(request, self._reply) for request in requests]


def record_processor(*, good: bool) -> None:
    """Write the record that decides in the cache folder whether this machine's processor is good at bfloat16."""
    file = record_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    measured = {"processor": processor_name(), "torch": torch_version(), "speed": 4.0 if good else 0.8, "good": good}
    file.write_text(json.dumps(measured))
